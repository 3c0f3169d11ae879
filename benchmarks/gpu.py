"""Steering and extraction on a GPU, beside the bare model: `python -m benchmarks.gpu decode`, and `capture`.

A 1B-shaped random Llama in bfloat16, written to a temporary folder (2.5 GB) and opened like any other model. Three
questions, each answered by interleaved runs of the same work in one process, as the median ratio over rounds:

- decoding: a step of a plain loop (forward, argmax), of the engine unsteered, and of the engine with every row steered
  by its own vector at one layer and at all of them;
- capture: a pass that keeps the mean residual of every block, beside the same pass that keeps nothing but its end;
- the same capture beside PyTorch transformers' `output_hidden_states`, where PyTorch is there.

Each part wants a process of its own: buffers that decoding leaves behind slow the capture by some hundredths.
It needs no weights and no store. `--tiny` runs both parts once on a tiny Llama, on any device.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.telling import left_out, options
from steering_core.activations.capture import Capture, Reading, cost_here
from steering_core.activations.passes import plan_passes
from steering_core.backend.mlx import mx, nn
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention
from steering_core.interventions.where import Where
from steering_core.models import Model, open_model
from steering_core.models.mlx_lm import new_cache
from steering_core.prompts import Prompt
from tests.tiny import LLAMA, byte_tokenizer

SHAPE: dict[str, Any] = {  # of Llama 3.2 1B
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}
PROMPT_TOKENS, STEPS, WARM_STEPS = 32, 96, 16
TINY_STEPS = WARM_STEPS + 4


def save_random_model(folder: Path, shape: dict[str, Any], bits: int = 16) -> Path:
    """Write a network of that shape with the weights that mlx-lm initialises, and a byte tokenizer.

    The weights are bfloat16, or quantised to `bits`.
    """
    from mlx.utils import tree_flatten  # both import MLX, which steering_core.backend has to be the first to do
    from mlx_lm.utils import _get_classes

    network_class, arguments = _get_classes(shape)
    network = network_class(arguments.from_dict(shape))
    network.set_dtype(mx.bfloat16)
    quantised = {"quantization": {"group_size": 64, "bits": bits}} if bits < 16 else {}
    if quantised:
        nn.quantize(network, 64, bits)
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    (folder / "config.json").write_text(json.dumps({**shape, **quantised}))
    byte_tokenizer().save_pretrained(folder)
    return folder


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


def plain_decode(network: nn.Module, prompts: list[list[int]], steps: int) -> float:
    """A step of a minimal generation loop in ms: prefill, then greedy steps with the next one always under way."""
    cache, clock = new_cache(network), Clock()
    drawn = mx.argmax(network(mx.array(prompts), cache=cache)[:, -1], axis=-1)
    mx.async_eval(drawn)
    for _ in range(steps - 1):
        clock.add(len(prompts), 1)
        following = mx.argmax(network(drawn[:, None], cache=cache)[:, -1], axis=-1)
        mx.async_eval(following)
        drawn.tolist()
        drawn = following
    mx.eval(drawn)
    return clock.step_milliseconds()


def engine_decode(model: Model, requests: list[Request], steps: int) -> float:
    """The same through the engine."""
    clock = Clock()
    for _ in sample(model, requests, steps, 0.0, clock, max_rows=len(requests)):
        pass
    return clock.step_milliseconds()


def medians(named: dict[str, Callable[[], float]], base: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median of each measurement over interleaved rounds (the first left out), and its median ratio to `base`'s."""
    found = [{name: measure() for name, measure in named.items()} for _ in range(rounds + 1)][1:]
    return {
        name: (statistics.median(f[name] for f in found), statistics.median(f[name] / f[base] for f in found))
        for name in named
    }


def some_tokens(model: Model, rows: int, length: int) -> np.ndarray:
    """Tokens that are none of the special ones, (rows, length)."""
    return np.random.default_rng(rows).integers(10, model.identity.vocab_size, (rows, length))


def decoding(model: Model, rows: int, rounds: int = 15, steps: int = STEPS) -> None:
    """Print a decoding step's time, plain, unsteered and steered."""
    prompts = some_tokens(model, rows, PROMPT_TOKENS).tolist()
    vectors = np.random.default_rng(rows).standard_normal((rows, model.identity.width)).astype(np.float32)

    def requests(layers: list[int]) -> list[Request]:
        done = [Intervention(tuple(Change(n, v, 0.01, "add", Where("generation")) for n in layers)) for v in vectors]
        return [Request(tuple(p), intervention) for p, intervention in zip(prompts, done, strict=True)]

    middle, all_layers = [len(model.taps) // 2], list(range(len(model.taps)))
    wanted = {"engine, unsteered": requests([]), "one layer": requests(middle), "all layers": requests(all_layers)}
    measures: dict[str, Callable[[], float]] = {"plain loop": lambda: plain_decode(model.network, prompts, steps)}
    for name, made in wanted.items():
        measures[name] = lambda made=made: engine_decode(model, made, steps)
    for name, (milliseconds, ratio) in medians(measures, base="engine, unsteered", rounds=rounds).items():
        print(f"decode, batch {rows:>3}: {name:<18}{milliseconds:7.3f} ms a step, {ratio:.3f} of unsteered")


def capturing(model: Model, rows: int = 4096, length: int = 128, rounds: int = 5) -> None:
    """Print extraction's tokens per second, bare, with capture, and with transformers."""
    tokens = some_tokens(model, rows, length)
    prompts = [Prompt(tuple(row), "", length, model.identity.tokenizer_id) for row in tokens.tolist()]
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
    if torch_run := transformers_run(model.folder, tokens, size):
        measures["transformers, output_hidden_states"] = lambda: seconds(torch_run)
    for name, (took, ratio) in medians(measures, base="bare forward", rounds=rounds).items():
        print(f"extract, {size} x {length}: {name:<36}{rows * length / took:12,.0f} tokens/s, {ratio:.3f} of the time")


def transformers_run(folder: Path, tokens: np.ndarray, size: int) -> Callable[[], None] | None:
    """The same passes by PyTorch transformers with every hidden state reduced to its mean; None where it has no GPU."""
    try:
        import torch
        from transformers import LlamaConfig, LlamaModel
    except ImportError:
        left_out("transformers", "PyTorch is not installed")
        return None
    if not torch.cuda.is_available():
        left_out("transformers", "PyTorch has no CUDA device here")
        return None
    config = LlamaConfig.from_pretrained(folder)
    network = LlamaModel(config).to("cuda", torch.bfloat16).eval()

    def run() -> None:
        with torch.inference_mode():
            for begin in range(0, len(tokens), size):
                batch = torch.from_numpy(tokens[begin : begin + size]).cuda()
                states = network(batch, output_hidden_states=True, use_cache=False).hidden_states
                torch.stack([state[:, 1:].float().mean(dim=1) for state in states[1:]]).cpu()

    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the part that is named; with `--tiny` both."""
    parser = options(__doc__)
    parser.add_argument("part", nargs="?", choices=["decode", "capture"])
    given = parser.parse_args(arguments)
    if not given.tiny and not given.part:
        parser.error("say which part is to run: decode or capture")
    print(f"{mx.device_info().get('device_name', mx.default_device())}; MLX {mx.__version__}")
    with tempfile.TemporaryDirectory() as work:
        folder = save_random_model(Path(work) / "model", LLAMA if given.tiny else SHAPE)
        with open_model(str(folder)) as model:
            if given.tiny:
                decoding(model, rows=2, rounds=1, steps=TINY_STEPS)
                capturing(model, rows=4, length=8, rounds=1)
            elif given.part == "capture":
                capturing(model)
            else:
                for rows in (64, 256):
                    decoding(model, rows)


if __name__ == "__main__":
    main()
