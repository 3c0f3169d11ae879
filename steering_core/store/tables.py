"""The store's tables: one schema each, the columns that address a row, and what the table holds.

A row is addressed by the content of what made it, so asking for it twice finds it the second time. Ids ending in `_id`
are content keys (20 hexadecimal digits, `steering_core.foundation.keys`); the views join names to them
(`sql/views.sql`).
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

text, real, whole, flag = pa.string(), pa.float64(), pa.int32(), pa.bool_()
floats = pa.list_(pa.float32())


@dataclass(frozen=True)
class Table:
    """One table: a folder of immutable Parquet files that share a schema."""

    name: str
    holds: str
    key: tuple[str, ...]
    schema: pa.Schema


def _table(name: str, holds: str, key: tuple[str, ...], /, **columns: Any) -> Table:
    return Table(name, holds, key, pa.schema(list(columns.items())))


# What was done to the residual stream, in every table that depends on it. `intervention` is its expression; `control`
# is null for a candidate and otherwise says which control it is: none, random, shuffled or prompt. `layers` and
# `vector_ids` list all that it takes; `layer`, and `vector_id` with `alpha`, are null where it is not one.
CELL = {
    "model_id": text,
    "concept_id": text,
    "intervention_id": text,
    "intervention": text,
    "method": text,
    "layer": whole,
    "layers": pa.list_(whole),
    "alpha": real,
    "dose": real,
    "control": text,
    "phase": text,
    "vector_id": text,
    "vector_ids": pa.list_(text),
}

TABLES = {
    table.name: table
    for table in (
        _table(
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
        _table(
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
        _table(
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
        _table(
            "pairs",
            "which prompt is which side of which pair of a concept, for one tokenizer and chat template",
            ("pair_id", "side", "concept_id", "tokenizer_id"),
            concept_id=text,
            tokenizer_id=text,
            pair_id=text,
            ordinal=whole,
            side=text,
            split=text,
            prompt_id=text,
        ),
        _table(
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
        _table(
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
        _table(
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
        _table(
            "labels",
            "what people called a vector, and when: a name, a tag, or removed; the latest of a kind holds",
            ("label_id",),
            label_id=text,
            vector_id=text,
            kind=text,
            label=text,
            holds=flag,
            labelled_at=pa.timestamp("us", tz="UTC"),
        ),
        _table(
            "qualities",
            "how far a vector can be trusted: auc and d_prime on a split's pairs; split_half, bootstrap, sample_size "
            "(of n pairs) and influence (of leaving out pair_id) as cosines of directions from other choices of pairs",
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
        _table(
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
        _table(
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
        _table(
            "generations",
            "texts sampled under one intervention",
            ("generation_id",),
            generation_id=text,
            **CELL,
            prompt_id=text,
            prompt=text,
            text=text,
            tokens=pa.list_(whole),
            n_tokens=whole,
            finish=text,
            seed=pa.int64(),
            temperature=real,
            max_tokens=whole,
        ),
        _table(
            "projections",
            "how far each token of a generation lies along a vector, as the untouched model reads the text",
            ("vector_id", "generation_id"),
            vector_id=text,
            generation_id=text,
            tokens=pa.list_(text),
            projections=pa.list_(real),
        ),
        _table(
            "measurements",
            "one metric of one subject (a held-out item or a generation) under one intervention; scorer_id where a "
            "probe or a judge gave the value, and the judge's reply",
            ("measurement_id",),
            measurement_id=text,
            **CELL,
            subject_id=text,
            split=text,
            metric=text,
            value=real,
            scorer_id=text,
            reply=text,
        ),
        _table(
            "scorers",
            "probes and judges: the model that reads texts, its version as it named itself, and all else that makes "
            "its values (a judge's prompt and endpoint, a probe's layer, pairs and AUC) as JSON",
            ("scorer_id",),
            scorer_id=text,
            metric=text,
            model=text,
            version=text,
            definition=text,
        ),
        _table(
            "scores",
            "a metric of one intervention over all its subjects of a split, with a bootstrap interval; n have a finite "
            "value, n_missing do not (diverged, or a text without a token) and are in no mean",
            ("score_id",),
            score_id=text,
            **CELL,
            split=text,
            metric=text,
            value=real,
            ci_low=real,
            ci_high=real,
            p_value=real,
            n=whole,
            n_missing=whole,
            seed=pa.int64(),
        ),
        _table(
            "recommendations",
            "the candidate chosen on validation, reported on test",
            ("recommendation_id",),
            recommendation_id=text,
            **CELL,
            verdict=text,
            reason=text,
            effect=real,
            effect_low=real,
            effect_high=real,
            control_effect=real,
            control_high=real,
            over_controls=real,
            p_value=real,
            prompt_effect=real,
            kl=real,
            perplexity_ratio=real,
            n=whole,
            n_missing=whole,
            spec_key=text,
        ),
        _table(
            "runs",
            "executions of a spec",
            ("run_id",),
            run_id=text,
            name=text,
            spec=text,
            spec_key=text,
            started_at=pa.timestamp("us", tz="UTC"),
            seconds=real,
            outcome=text,
            stages=text,
            versions=text,
            recommendation_ids=pa.list_(text),
            concept_ids=pa.list_(text),
            model_ids=pa.list_(text),
        ),
        _table(
            "outcomes",
            "what became of each (model, concept) cell of a run; sweep is the run's own id where it is part of none",
            ("run_id", "model", "concept"),
            run_id=text,
            sweep=text,
            model=text,
            concept=text,
            model_id=text,
            concept_id=text,
            recommendation_id=text,
            outcome=text,
            error=text,
            computed=pa.int64(),
            reused=pa.int64(),
            forward_passes=pa.int64(),
            tokens=pa.int64(),
            seconds=real,
            finished_at=pa.timestamp("us", tz="UTC"),
        ),
    )
}
