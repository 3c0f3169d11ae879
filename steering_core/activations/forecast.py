"""Forecast: what an extraction would run, before it does."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from steering_core.activations.capture import Capture, Reading, cost_here, peak_of_all
from steering_core.activations.extract import checked_prompts, missing, row_bytes
from steering_core.activations.passes import plan_passes, total
from steering_core.activations.shards import shards
from steering_core.foundation.counting import Work
from steering_core.foundation.paces import known_paces
from steering_core.models import Model
from steering_core.prompts import Prompt
from steering_core.store import Store


@dataclass(frozen=True)
class Forecast:
    """What an extraction would run and write.

    `tokens` are those of the prompts to run, `tokens_run` what is left of them once shared prefixes are run once (cut
    stems and padding included), `bytes` before compression, `seconds` at `tokens_per_second`, `room` the disk's free
    bytes where they are known; `peak_memory` is what the weights and the largest passes hold, in bytes. The `reused`
    prompts are stored at every layer; `stored_prompts` says how many are at each.
    """

    model: str
    prompts: int
    reused: int
    computed: int
    tokens: int
    tokens_run: int
    forward_passes: int
    bytes: int
    seconds: float
    tokens_per_second: float
    room: int | None
    peak_memory: int
    stored_prompts: dict[int, int]


def forecast(model: Model, store: Store, prompts: Iterable[Prompt], reading: Reading) -> Forecast:
    """The forecast of `extract` with the same arguments. Raises what it would raise before it runs anything.

    The speed is that of this model's last run on this machine; where there is none, one batch is run to measure it.
    """
    wanted = checked_prompts(model, prompts)
    groups = missing(store, model.identity.model_id, list(wanted), reading)
    tokens = tokens_run = passes = size = peak = 0
    todo: list[Prompt] = []
    for absent, ids in groups.items():
        lacking, part = [wanted[i] for i in ids], replace(reading, layers=absent)
        sizes = [row_bytes(model, prompt, part) for prompt in lacking]
        todo += lacking
        tokens += sum(len(prompt.tokens) for prompt in lacking)
        size += sum(sizes)
        for shard in shards(lacking, sizes):
            planned = plan_passes([prompt.tokens for prompt in shard], cost_here(model, part))
            n, run = total(planned)
            passes, tokens_run, peak = passes + n, tokens_run + run, max(peak, peak_of_all(model, part, planned))
    known = known_paces(model.identity.model_id).get("activations")
    speed = (known.tokens_per_second if known else measured_speed(model, todo, reading)) if todo else 0.0
    seconds = tokens_run / speed if todo else 0.0
    computed, room = len(todo), store.folder.room()
    counts = (len(wanted), len(wanted) - computed, computed, tokens, tokens_run, passes, size)
    absences = Counter(dict.fromkeys(reading.layers, 0))
    for absent, ids in groups.items():
        absences.update(dict.fromkeys(absent, len(ids)))
    stored = {layer: len(wanted) - n for layer, n in absences.items()}
    return Forecast(model.name, *counts, seconds, speed, room, model.memory.footprint.weights + peak, stored)


def measured_speed(model: Model, prompts: Sequence[Prompt], reading: Reading) -> float:
    """Tokens per second of one batch, after one to warm up."""
    sample = prompts[:: max(1, len(prompts) // 8)][:8]
    passes = plan_passes([prompt.tokens for prompt in sample], cost_here(model, reading))
    for _ in range(2):
        work, began = Work(), time.perf_counter()
        for _ in Capture(model, sample, reading, work).run(passes):
            pass
        seconds = time.perf_counter() - began
    return work.tokens / seconds
