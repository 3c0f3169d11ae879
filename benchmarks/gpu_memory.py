"""Memory of large models on a GPU: `python -m benchmarks.gpu_memory [--model llama-8b-4bit]`.

Extraction, scoring and sampling on an 8B-shaped Llama (bfloat16 and 4 bits) and a 2B-shaped Gemma 2 of 256,000 words,
with 3 GiB beside the weights, compared with the same work at the fixed batch sizes of before there was a memory budget.
Interleaved in one process; ratios are medians over rounds. `--tiny` runs a tiny Llama on any device.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import SHAPE, save_random_model
from benchmarks.telling import options
from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.passes import plan_passes
from steering_core.backend.mlx import mx
from steering_core.engine.sampling import Request, sample
from steering_core.engine.teacher_forcing import Scored, log_probabilities
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.where import Where
from steering_core.models import Model, open_model
from steering_core.models.memory import Budget, Habits
from steering_core.prompts import Prompt
from tests.tiny import LLAMA

LLAMA_8B = SHAPE | {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "tie_word_embeddings": False,
}
GEMMA_2B: dict[str, Any] = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "num_hidden_layers": 26,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "vocab_size": 256000,
    "query_pre_attn_scalar": 256,
}
LARGE = {"llama-8b-4bit": (LLAMA_8B, 4), "llama-8b": (LLAMA_8B, 16), "gemma2-2b": (GEMMA_2B, 16)}
ROOM = 3 << 30  # beside the weights


class Unbounded(Budget):
    """Batches as they were before there was a budget: of fixed sizes, whole passes handed to the queue at once."""

    def room(self, work: str, most: int = 0) -> int:
        """No bound."""
        return 1 << 50

    def blocks_at_once(self, tokens: int, depth: int) -> int:
        """All."""
        return 1 << 30


def remembering(model: Model, name: str, rows: int = 256, length: int = 128, rounds: int = 3) -> None:
    """Print speed and peak memory of three kinds of work, with `ROOM` beside the weights and as before."""
    footprint = model.memory.footprint
    before = Habits(extraction=16384, cached=131072, overhead=1024, reading=8192, scoring=640, training=640)
    budgets = {
        "as before": Unbounded(1 << 50, footprint, before),
        "budget": Budget(footprint.weights + ROOM, footprint),
    }
    layers, width = model.identity.n_layers, model.identity.width
    drawn = np.random.default_rng(0)

    def tokens(rows: int, length: int) -> list[tuple[int, ...]]:
        return [tuple(row) for row in drawn.integers(0, model.identity.vocab_size, (rows, length)).tolist()]

    prompts = [Prompt(row, "", len(row), model.identity.tokenizer_id) for row in tokens(rows, length)]
    reading = Reading(tuple(range(layers)), "mean")
    steered = [
        Intervention((Change(n % layers, drawn.standard_normal(width).astype(np.float32), 0.01, "add", Where("all")),))
        for n in range(rows // 4)
    ]
    answers = [
        Scored((*tokens(1, length // 2)[0], 5, 6, last), length // 2, what) for what in steered for last in (7, 8)
    ]
    requests = [Request(row, what) for row, what in zip(tokens(rows // 4, length // 4), steered, strict=True)]

    def extraction() -> int:
        passes = plan_passes([p.tokens for p in prompts], cost_here(model, reading))
        for _ in Capture(model, prompts, reading, Work()).run(passes):
            pass
        return sum(len(p.tokens) for p in prompts)

    def scoring() -> int:
        work = Work()
        log_probabilities(model, answers, work)
        return sum(len(one.tokens) for one in answers)

    def sampling() -> int:
        return sum(len(text.tokens) for _, text in sample(model, requests, 24, 0.7, Work()))

    for run in (extraction, scoring, sampling):
        speeds: dict[str, list[float]] = {label: [] for label in budgets}
        peaks = dict.fromkeys(budgets, 0)
        for turn in range(rounds):
            for label, budget in budgets.items():
                model.__dict__["memory"] = budget
                mx.clear_cache()
                mx.set_memory_limit(budget.limit)
                run() if turn == 0 else None
                mx.reset_peak_memory()
                started = time.perf_counter()
                count = run()
                speeds[label].append(count / (time.perf_counter() - started))
                peaks[label] = max(peaks[label], mx.get_peak_memory() - footprint.weights)
        for label in budgets:
            ratio = statistics.median(a / b for a, b in zip(speeds[label], speeds["as before"], strict=True))
            print(
                f"{name:<16}{run.__name__:<11}{label:<10}{statistics.median(speeds[label]):9,.0f} tokens/s, {ratio:.3f}"
                f" of before, {peaks[label] / (1 << 30):5.2f} GiB beside {footprint.weights / (1 << 30):.2f} GiB",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the model that is named, or all of them; with `--tiny` a tiny one."""
    parser = options(__doc__)
    parser.add_argument("--model", choices=LARGE, help="this one alone")
    given = parser.parse_args(arguments)
    print(f"{mx.device_info().get('device_name', mx.default_device())}; MLX {mx.__version__}")
    named = {given.model: LARGE[given.model]} if given.model else LARGE
    chosen = {"tiny": (LLAMA, 16)} if given.tiny else named
    for name, (shape, bits) in chosen.items():
        with (
            tempfile.TemporaryDirectory() as work,
            open_model(str(save_random_model(Path(work) / name, shape, bits))) as m,
        ):
            remembering(m, name, *((8, 16, 1) if given.tiny else ()))


if __name__ == "__main__":
    main()
