"""Extract: have the store hold activations; only what it lacks is run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.passes import plan_passes
from steering_core.activations.shards import ShardWriter, shard_table, shards, writing
from steering_core.activations.sites import SITE, checked_position, checked_site
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.errors import PromptError
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from steering_core.prompts import Prompt
from steering_core.store import Store


def extract(
    model: Model,
    store: Store,
    prompts: Iterable[Prompt],
    layers: Sequence[int],
    position: str,
    progress: Progress = silent,
    site: str = SITE,
) -> Done:
    """Have the store hold `prompts` x `layers`; only what is missing is run. Two processes never extract the same.

    Raises PromptError, LayerNotFound, SiteNotFound and PositionUnknown before anything runs, DiskFull where the store's
    disk is too small for it, Diverged for inf or nan.
    """
    wanted = checked_prompts(model, prompts)
    reading = Reading(tuple(model.checked_layers(list(layers))), checked_position(position), checked_site(site))
    done = Done(list(wanted))
    with done.work.timed(), store.lock(f"activations-{model.identity.model_id}"):
        groups = missing(store, model.identity.model_id, list(wanted), reading)
        batches = [(replace(reading, layers=absent), [wanted[i] for i in ids]) for absent, ids in groups.items()]
        todo = sum(len(lacking) for _, lacking in batches)
        done.work.reused = len(wanted) - todo
        store.check_room(sum(row_bytes(model, p, part) for part, lacking in batches for p in lacking))
        with writing(store, model.identity) as writer:
            for part, lacking in batches:
                for shard in shards(lacking, [row_bytes(model, prompt, part) for prompt in lacking]):
                    for n in _extract_shard(model, shard, part, writer, done.work):
                        done.work.computed += n
                        progress(done.work.computed, todo)
    return done


def checked_prompts(model: Model, prompts: Iterable[Prompt]) -> dict[str, Prompt]:
    """Prompts by id. Raises PromptError for one that is empty, too long or of another tokenizer."""
    wanted = {prompt.prompt_id: prompt for prompt in prompts}
    context = model.identity.context
    for prompt in wanted.values():
        if not prompt.tokens:
            raise PromptError(f"the prompt {prompt.text!r} has no tokens: give it some text")
        if context and len(prompt.tokens) > context:
            raise PromptError(
                f"a prompt of {len(prompt.tokens):,} tokens is beyond {model.name}'s context of {context:,}: shorten "
                f"it (it begins {prompt.text[:60]!r})"
            )
        if prompt.tokenizer_id != model.identity.tokenizer_id:
            raise PromptError(f"the prompt {prompt.text[:60]!r} was tokenised for another model than {model.name}")
    return wanted


def missing(
    store: Store, model_id: str, prompt_ids: Sequence[str], reading: Reading
) -> dict[tuple[int, ...], list[str]]:
    """Prompts of which the store lacks some layer, by the layers that it lacks."""
    wanted = pa.table({"prompt_id": pa.array(prompt_ids, pa.string())})
    found = store.query(
        "SELECT prompt_id, list(DISTINCT layer) AS layers FROM wanted JOIN raw.activations USING (prompt_id) "
        "WHERE model_id = ? AND site = ? AND position = ? GROUP BY prompt_id",
        [model_id, reading.site, reading.position],
        wanted=wanted,
    )
    there = dict(zip(found["prompt_id"].to_pylist(), found["layers"].to_pylist(), strict=True))
    groups: dict[tuple[int, ...], list[str]] = {}
    for prompt_id in prompt_ids:
        held = set(there.get(prompt_id, ()))
        if absent := tuple(layer for layer in reading.layers if layer not in held):
            groups.setdefault(absent, []).append(prompt_id)
    return groups


def row_bytes(model: Model, prompt: Prompt, reading: Reading) -> int:
    """Bytes of one prompt's activations before compression."""
    vectors = len(prompt.tokens) if reading.position == "all" else 1
    return vectors * len(reading.layers) * model.identity.width * 4


def _extract_shard(
    model: Model, shard: Sequence[Prompt], reading: Reading, writer: ShardWriter, work: Work
) -> Iterator[int]:
    """Run one shard and hand it to the writer; the number of prompts of each batch as it ends."""
    capture = Capture(model, shard, reading, work)
    captured = []
    for found in capture.run(plan_passes([prompt.tokens for prompt in shard], cost_here(model, reading))):
        captured.append(found)
        yield len(found.rows)
    table = shard_table(model.identity, capture, captured)
    writer.write(table, max(1, table.num_rows // len(reading.layers)))
