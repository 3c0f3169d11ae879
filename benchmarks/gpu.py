"""Steering and extraction on a GPU, beside the bare model: `python -m benchmarks.gpu decode`, `capture`, `memory`.

A 1B-shaped random Llama in bfloat16. Four questions, each answered by interleaved runs of the same work in one
process, as the median ratio over rounds:

- decoding: a step of a plain loop (forward, argmax), of the engine unsteered, and of the engine with every row steered
  by its own vector at one layer and at all of them;
- capture: a pass that keeps the mean residual of every block, beside the same pass that keeps nothing but its end;
- the same capture beside PyTorch transformers' `output_hidden_states`, where PyTorch is there;
- memory: extraction, scoring and sampling on an 8B-shaped Llama and a 2B-shaped Gemma 2, with 3 GiB beside the weights,
  beside the same with batches as large as they were before there was a budget, which nobody waited for.

Each part wants a process of its own: buffers that decoding leaves behind slow the capture by some hundredths.
It needs no weights and no store: MLX, mlx-lm, NumPy and the packages that `steering_core.prompts` imports.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from mlx.utils import tree_flatten

from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.passes import plan_passes
from steering_core.backend import mx, nn
from steering_core.engine.sampling import Request, sample
from steering_core.engine.teacher_forcing import Scored, log_probabilities
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.where import Where
from steering_core.models import Model, ModelIdentity
from steering_core.models.abilities import abilities
from steering_core.models.memory import Budget, Habits
from steering_core.models.mlx_lm import new_cache
from steering_core.prompts import Prompt
from steering_core.work import Work

SHAPE: dict[str, Any] = {  # of Llama 3.2 1B
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}
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
PROMPT_TOKENS, STEPS, WARM_STEPS = 32, 96, 16
ROOM = 3 << 30  # beside the weights


def random_model(shape: dict[str, Any] = SHAPE, bits: int = 16) -> Model:
    """A random network of that shape as an open model, without any files; in bfloat16, or quantised to `bits`."""
    from mlx_lm.utils import _get_classes

    network_class, arguments = _get_classes(shape)
    network = network_class(arguments.from_dict(shape))
    network.set_dtype(mx.bfloat16)
    if bits < 16:
        nn.quantize(network, 64, bits)
    for _, weight in tree_flatten(network.parameters()):
        mx.eval(weight)  # one by one, so that little is held beside them
    model = object.__new__(Model)
    model.name = f"random {shape['model_type']}"
    model.identity = ModelIdentity(
        "random", model.name, shape["model_type"], len(network.layers), shape["hidden_size"], shape["vocab_size"],
        "bfloat16", "none", "random", 0,
    )  # fmt: skip
    model.__dict__["network"] = network
    model.__dict__["abilities"] = abilities(shape["model_type"])
    model.__dict__["tokenizer"] = SimpleNamespace(
        eos_token_ids=set(), all_special_ids=[], decode=lambda tokens, **_: " ".join(map(str, tokens))
    )
    return model


class Clock(Work):
    """Work that notes when each forward pass was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def add(self, rows: int, length: int) -> None:
        """Count one pass, and note the time."""
        super().add(rows, length)
        self.times.append(time.perf_counter())

    def step_milliseconds(self) -> float:
        """The median time from one decoding step to the next, the first ones left out."""
        return 1000 * statistics.median(np.diff(self.times[WARM_STEPS:]))


def plain_decode(network: nn.Module, prompts: list[list[int]]) -> float:
    """A step of a minimal generation loop in ms: prefill, then greedy steps with the next one always under way."""
    cache, clock = new_cache(network), Clock()
    drawn = mx.argmax(network(mx.array(prompts), cache=cache)[:, -1], axis=-1)
    mx.async_eval(drawn)
    for _ in range(STEPS - 1):
        clock.add(len(prompts), 1)
        following = mx.argmax(network(drawn[:, None], cache=cache)[:, -1], axis=-1)
        mx.async_eval(following)
        drawn.tolist()
        drawn = following
    mx.eval(drawn)
    return clock.step_milliseconds()


def engine_decode(model: Model, requests: list[Request]) -> float:
    """The same through the engine."""
    clock = Clock()
    for _ in sample(model, requests, STEPS, 0.0, clock, max_rows=len(requests)):
        pass
    return clock.step_milliseconds()


def medians(named: dict[str, Callable[[], float]], base: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median of each measurement over interleaved rounds (the first left out), and its median ratio to `base`'s."""
    found = [{name: measure() for name, measure in named.items()} for _ in range(rounds + 1)][1:]
    return {
        name: (statistics.median(f[name] for f in found), statistics.median(f[name] / f[base] for f in found))
        for name in named
    }


def decoding(model: Model, rows: int) -> None:
    """Print a decoding step's time, plain, unsteered and steered."""
    drawn = np.random.default_rng(rows)
    prompts = drawn.integers(1000, 100_000, (rows, PROMPT_TOKENS)).tolist()
    vectors = drawn.standard_normal((rows, SHAPE["hidden_size"])).astype(np.float32)

    def requests(layers: list[int]) -> list[Request]:
        done = [Intervention(tuple(Change(n, v, 0.01, "add", Where("generation")) for n in layers)) for v in vectors]
        return [Request(tuple(p), intervention) for p, intervention in zip(prompts, done, strict=True)]

    middle, all_layers = [len(model.taps) // 2], list(range(len(model.taps)))
    wanted = {"engine, unsteered": requests([]), "one layer": requests(middle), "all layers": requests(all_layers)}
    measures: dict[str, Callable[[], float]] = {"plain loop": lambda: plain_decode(model.network, prompts)}
    for name, made in wanted.items():
        measures[name] = lambda made=made: engine_decode(model, made)
    for name, (milliseconds, ratio) in medians(measures, base="engine, unsteered", rounds=15).items():
        print(f"decode, batch {rows:>3}: {name:<18}{milliseconds:7.3f} ms a step, {ratio:.3f} of unsteered")


def capturing(model: Model, rows: int = 4096, length: int = 128) -> None:
    """Print extraction's tokens per second, bare, with capture, and with transformers."""
    tokens = np.random.default_rng(0).integers(1000, 100_000, (rows, length))
    prompts = [Prompt(tuple(row), "", length, "random") for row in tokens.tolist()]
    reading = Reading(tuple(range(len(model.taps))), "mean")
    passes = plan_passes([p.tokens for p in prompts], cost_here(model, reading))
    batch = passes[0].readers
    size = len(batch)

    def seconds(run: Callable[[], None]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def bare() -> None:
        for begin in range(0, rows, size):
            mx.eval(model.network.model(mx.array(tokens[begin : begin + size]))[:, -1])

    def captured() -> None:
        for _ in Capture(model, prompts, reading, Work()).run(passes):
            pass

    measures: dict[str, Callable[[], float]] = {"bare forward": lambda: seconds(bare)}
    measures["capture, all layers"] = lambda: seconds(captured)
    if torch_run := transformers_run(tokens, size):
        measures["transformers, output_hidden_states"] = lambda: seconds(torch_run)
    for name, (took, ratio) in medians(measures, base="bare forward", rounds=5).items():
        print(f"extract, {size} x {length}: {name:<36}{rows * length / took:12,.0f} tokens/s, {ratio:.3f} of the time")


def transformers_run(tokens: np.ndarray, size: int) -> Callable[[], None] | None:
    """The same passes by PyTorch transformers with every hidden state reduced to its mean; None without PyTorch."""
    try:
        import torch
        from transformers import LlamaConfig, LlamaModel
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    config = LlamaConfig(**{k: v for k, v in SHAPE.items() if k != "model_type"})
    network = LlamaModel(config).to("cuda", torch.bfloat16).eval()

    def run() -> None:
        with torch.inference_mode():
            for begin in range(0, len(tokens), size):
                batch = torch.from_numpy(tokens[begin : begin + size]).cuda()
                states = network(batch, output_hidden_states=True, use_cache=False).hidden_states
                torch.stack([state[:, 1:].float().mean(dim=1) for state in states[1:]]).cpu()

    return run


class Unbounded(Budget):
    """Batches as they were before there was a budget: of fixed sizes, whole passes handed to the queue at once."""

    def room(self, work: str, most: int = 0) -> int:
        """No bound."""
        return 1 << 50

    def blocks_at_once(self, tokens: int, depth: int) -> int:
        """All."""
        return 1 << 30


def remembering(model: Model, name: str) -> None:
    """Print speed and peak memory of three kinds of work, with `ROOM` beside the weights and as before."""
    footprint = model.memory.footprint
    before = Habits(extraction=16384, cached=131072, overhead=1024, reading=8192, scoring=640)
    budgets = {
        "as before": Unbounded(1 << 50, footprint, before),
        "budget": Budget(footprint.weights + ROOM, footprint),
    }
    layers, width = model.identity.n_layers, model.identity.width
    drawn = np.random.default_rng(0)

    def tokens(rows: int, length: int) -> list[tuple[int, ...]]:
        return [tuple(row) for row in drawn.integers(1000, 100_000, (rows, length)).tolist()]

    prompts = [Prompt(row, "", len(row), "random") for row in tokens(256, 128)]
    reading = Reading(tuple(range(layers)), "mean")
    steered = [
        Intervention((Change(n % layers, drawn.standard_normal(width).astype(np.float32), 0.01, "add", Where("all")),))
        for n in range(64)
    ]
    answers = [Scored((*tokens(1, 64)[0], 5, 6, last), 64, what) for what in steered for last in (7, 8)]
    requests = [Request(row, what) for row, what in zip(tokens(64, 32), steered, strict=True)]

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
        for turn in range(3):
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


def main() -> None:
    """Run the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["decode", "capture", "memory"])
    parser.add_argument("--model", choices=LARGE, help="for memory: this one alone")
    chosen = parser.parse_args()
    part = chosen.part
    print(f"{mx.device_info().get('device_name', mx.default_device())}; MLX {mx.__version__}")
    if part == "memory":
        for name in [chosen.model] if chosen.model else LARGE:
            with random_model(*LARGE[name]) as opened:
                remembering(opened, name)
        return
    model = random_model()
    if part == "capture":
        capturing(model)
        return
    for rows in (64, 256):
        decoding(model, rows)


if __name__ == "__main__":
    main()
