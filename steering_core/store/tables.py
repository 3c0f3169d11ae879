"""The store's tables: one schema each, the columns that address a row, and what the table holds.

A row is addressed by the content of what made it, so asking for it twice finds it the second time. Ids ending in `_id`
are content keys (20 hexadecimal digits, `steering_core.foundation.keys`); the views join names to them
(`sql/views.sql`).
"""

import pyarrow as pa

from steering_core.store.result_tables import RESULTS
from steering_core.store.table import CELL, Table, flag, floats, real, table, text, whole

INPUTS = (
    table(
        "models",
        "models that were opened, by content fingerprint; template holds the arguments of the chat template as "
        "JSON, system_role says where a system prompt stands (system, user, or null without a template)",
        ("model_id",),
        model_id=text,
        name=text,
        architecture=text,
        n_layers=whole,
        width=whole,
        vocab_size=whole,
        dtype=text,
        quantisation=text,
        tokenizer_id=text,
        context=whole,
        template=text,
        system_role=text,
    ),
    table(
        "concepts",
        "concepts as they were read",
        ("concept_id",),
        concept_id=text,
        name=text,
        description=text,
        chat=flag,
        n_pairs=whole,
        n_prompts=whole,
        n_items=whole,
        definition=text,
    ),
    table(
        "prompts",
        "token sequences; response_start is where an answer's own tokens begin (n_tokens where there is none)",
        ("prompt_id",),
        prompt_id=text,
        tokenizer_id=text,
        text=text,
        tokens=pa.list_(whole),
        n_tokens=whole,
        response_start=whole,
    ),
    table(
        "pairs",
        "which prompt is which side of which pair of a concept, or which unpaired text of one, for one tokenizer and "
        "chat template",
        ("pair_id", "side", "concept_id", "tokenizer_id"),
        concept_id=text,
        tokenizer_id=text,
        pair_id=text,
        ordinal=whole,
        side=text,
        split=text,
        prompt_id=text,
    ),
    table(
        "items",
        "a concept's held-out questions: the subjects of propensities",
        ("concept_id", "item_id"),
        concept_id=text,
        item_id=text,
        split=text,
        prompt=text,
        matching=text,
        not_matching=text,
    ),
    table(
        "activations",
        "what passes a site of a block, at a position of a prompt: the mean over n_read of its tokens (mean leaves "
        "out token 0 and special ones), or one row a token; residual_norm is the mean norm of all tokens but the "
        "first",
        ("model_id", "prompt_id", "site", "position", "layer", "token"),
        model_id=text,
        prompt_id=text,
        site=text,
        position=text,
        layer=whole,
        token=whole,
        n_read=whole,
        residual_norm=pa.float32(),
        activation=floats,
    ),
    table(
        "vectors",
        "directions in one layer's residual stream",
        ("vector_id",),
        vector_id=text,
        model_id=text,
        concept_id=text,
        method=text,
        control=text,
        site=text,
        position=text,
        layer=whole,
        seed=pa.int64(),
        norm=real,
        residual_norm=real,
        n_pairs=whole,
        prompt_ids=pa.list_(text),
        lineage=text,
        vector=floats,
    ),
    table(
        "labels",
        "what people called a vector, and when: a name, a tag, or removed; the latest of a kind holds. derived says "
        "when the content of its concept came last, where there are several",
        ("label_id",),
        label_id=text,
        vector_id=text,
        kind=text,
        label=text,
        holds=flag,
        labelled_at=pa.timestamp("us", tz="UTC"),
    ),
    table(
        "qualities",
        "how far a vector can be trusted: auc and d_prime on a split's pairs; split_half, bootstrap, sample_size "
        "(of n pairs) and influence (of leaving out pair_id) as cosines of directions from other choices of pairs; "
        "logit_lens on a split's n items",
        ("quality_id",),
        quality_id=text,
        vector_id=text,
        metric=text,
        split=text,
        pair_id=text,
        value=real,
        ci_low=real,
        ci_high=real,
        n=whole,
        draws=whole,
        seed=pa.int64(),
    ),
    table(
        "gates",
        "thresholds on a vector's projections, over an answer's mean or each token: fitted on validation pairs, "
        "whose ROC curve is false_alarms, hits and thresholds; hit_rate and false_alarm_rate on held-out pairs",
        ("gate_id",),
        gate_id=text,
        vector_id=text,
        over=text,
        threshold=real,
        auc=real,
        hit_rate=real,
        false_alarm_rate=real,
        n_fitted=whole,
        n_held_out=whole,
        false_alarms=pa.list_(real),
        hits=pa.list_(real),
        thresholds=pa.list_(real),
        fitted_at=pa.timestamp("us", tz="UTC"),
    ),
    table(
        "screens",
        "how far the answers of a data set lie along a vector: an answer's mean projection, that of the model's "
        "own answer to the same prompt, and their difference",
        ("screen_id",),
        screen_id=text,
        dataset_id=text,
        dataset=text,
        model_id=text,
        vector_id=text,
        ordinal=whole,
        row_key=text,
        own_tokens=whole,
        prompt=text,
        answer=text,
        own_answer=text,
        n_tokens=whole,
        projection=real,
        own_projection=real,
        difference=real,
    ),
)

TABLES: dict[str, Table] = {made.name: made for made in (*INPUTS, *RESULTS)}

__all__ = ["CELL", "INPUTS", "RESULTS", "TABLES", "Table"]
