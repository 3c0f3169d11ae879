"""Generation beside mlx-lm's own and beside PyTorch: `python -m benchmarks.generation [--torch PYTHON] [--rounds N]`.

SmolLM2 on this machine, greedy, every comparison as interleaved runs of the same work in one process; figures are
medians over rounds, of tokens a second and of the ratio to the first line of each block.

- batch 1: mlx-lm's `stream_generate`, and the engine unsteered;
- batch 32: mlx-lm's `batch_generate`, the engine unsteered, steered at one layer, and at all of them;
- the grid of 12 interventions x 8 prompts x 48 tokens: texts one by one with PyTorch transformers and steering-vectors
  (`--torch` names a Python that has them; `benchmarks/generation_torch.py` runs there), and the engine. One by one only
  the first few texts are run, since every one costs the same.
"""

import statistics
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.telling import left_out, options
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model, open_model
from steering_core.prompts import prompt
from tests.tiny import save_tiny_model

TOKENS = 48
QUESTIONS = (
    "What is a good way to spend a rainy afternoon with two small children?",
    "Explain how a sailing boat can move against the wind.",
    "Write a short message to a colleague who is leaving.",
    "Why do leaves change their colour in autumn?",
    "Describe your favourite kind of bread and how it is baked.",
    "Tell me about the history of the bicycle.",
    "How should I prepare for a long walk in the mountains?",
    "What makes a good teacher?",
)
ALPHAS = (-1.0, -0.5, 0.5, 1.0)  # at three layers: 12 interventions
Measure = Callable[[], tuple[int, float]]


def timed(run: Callable[[], int]) -> tuple[int, float]:
    """How many tokens `run` made, and in how many seconds."""
    started = time.perf_counter()
    tokens = run()
    return tokens, time.perf_counter() - started


def interleaved(title: str, measures: dict[str, Measure], rounds: int) -> None:
    """Print the median rate of each measurement, and its median ratio to the first one's in the same round."""
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for measure in measures.values():  # once to warm up
        measure()
    for _ in range(rounds):
        for name, measure in measures.items():
            tokens, seconds = measure()
            rates[name].append(tokens / seconds)
    first = rates[next(iter(rates))]
    for name, found in rates.items():
        ratio = statistics.median(mine / base for mine, base in zip(found, first, strict=True))
        print(f"{title:<10}{name:<32}{statistics.median(found):8.1f} tokens/s   {ratio:6.3f}", flush=True)


def vectors(model: Model) -> dict[int, np.ndarray]:
    """A direction at every layer, a tenth of the stream's usual norm."""
    drawn = np.random.default_rng(0).standard_normal((model.identity.n_layers, model.identity.width))
    return dict(enumerate((15 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)))


def steered(model: Model, layers: list[int], alpha: float = 1.0) -> Intervention:
    """alpha times each layer's direction, from the prompt's last token on."""
    directions = vectors(model)
    return Intervention(tuple(Change(n, directions[n], alpha, "add", Where("generation")) for n in layers))


def engine(model: Model, requests: list[Request], length: int) -> int:
    """Tokens that the engine samples for `requests`, `length` a text."""
    found = sample(model, requests, length, 0.0, Work(), max_rows=len(requests))
    return sum(len(text.tokens) for _, text in found)


def mlx_stream(model: Model, tokens: tuple[int, ...], length: int) -> int:
    """Tokens of mlx-lm's generation at batch 1."""
    from mlx_lm import stream_generate

    return sum(1 for _ in stream_generate(model.network, model.tokenizer, list(tokens), max_tokens=length))


def mlx_batch(model: Model, prompts: list[tuple[int, ...]], length: int) -> int:
    """Tokens of mlx-lm's batch generation."""
    from mlx_lm import batch_generate

    done = batch_generate(model.network, model.tokenizer, [list(p) for p in prompts], max_tokens=length)
    return int(done.stats.generation_tokens)


class OneByOne:
    """PyTorch transformers with steering-vectors in a process of its own, which answers one text at a time."""

    def __init__(self, python: str, folder: Path, length: int) -> None:
        script = str(Path(__file__).with_name("generation_torch.py"))
        self._process = subprocess.Popen(
            [python, script, str(folder), str(length)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask("")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def run(self, requests: list[tuple[int, float, tuple[int, ...]]]) -> int:
        """Tokens of those (layer, alpha, prompt) texts."""
        return sum(int(self._ask(f"{n} {a} {' '.join(map(str, tokens))}")) for n, a, tokens in requests)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def batch_one(model: Model, prompts: list[tuple[int, ...]], length: int) -> dict[str, Measure]:
    """mlx-lm and the engine at batch 1."""
    return {
        "mlx-lm": lambda: timed(lambda: mlx_stream(model, prompts[0], length)),
        "engine": lambda: timed(lambda: engine(model, [Request(prompts[0])], length)),
    }


def batch_32(model: Model, prompts: list[tuple[int, ...]], length: int) -> dict[str, Measure]:
    """mlx-lm and the engine at batch 32, whose prompts differ, so that the engine shares nothing."""
    place = len(prompts[0]) // 2
    rows = [(*prompts[0][:place], 100 + i, *prompts[0][place + 1 :]) for i in range(32)]
    everywhere = steered(model, list(range(model.identity.n_layers)), 0.1)
    named = {
        "engine": Intervention(),
        "engine, one layer": steered(model, layers_of(model)[1:2]),
        "engine, every layer": everywhere,
    }
    measures: dict[str, Measure] = {"mlx-lm": lambda: timed(lambda: mlx_batch(model, rows, length))}
    for name, what in named.items():
        measures[name] = lambda what=what: timed(lambda: engine(model, [Request(p, what) for p in rows], length))
    return measures


def layers_of(model: Model) -> list[int]:
    """A quarter, a half and three quarters up the model: 8, 15 and 22 of 30."""
    return [round(model.identity.n_layers * part) for part in (0.26, 0.5, 0.74)]


def grid(
    model: Model, prompts: list[tuple[int, ...]], others: OneByOne | None, texts: int, length: int
) -> dict[str, Measure]:
    """The grid, one by one where there is a PyTorch, and in the engine's batches."""
    cells = [(n, a, p) for p in prompts for n in layers_of(model) for a in ALPHAS]
    requests = [Request(p, steered(model, [n], a)) for n, a, p in cells]
    measures: dict[str, Measure] = {}
    if others:
        some = cells[:: len(cells) // texts][:texts]
        measures["transformers, steering-vectors"] = lambda: timed(lambda: others.run(some))
    return {**measures, "engine": lambda: timed(lambda: engine(model, requests, length))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparisons."""
    parser = options(__doc__)
    parser.add_argument("--torch", help="a Python with torch, transformers and steering-vectors")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=4, help="texts of the grid that are run one by one in a round")
    parser.add_argument("--only", choices=["one", "32", "grid"], help="one of the comparisons")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        name, length, questions = "smollm2-135m", TOKENS, QUESTIONS
        if given.tiny:
            given.rounds, given.texts = 1, 1
            name, length, questions = str(save_tiny_model(Path(folder) / "tiny")), 3, QUESTIONS[:1]
        with open_model(name) as model:
            compare(model, [prompt(model, text, chat=True).tokens for text in questions], given, length)


def compare(model: Model, prompts: list[tuple[int, ...]], given: Namespace, length: int) -> None:
    """Print the comparisons that were asked for, in texts of `length` tokens."""
    if given.only in (None, "one"):
        interleaved("batch 1", batch_one(model, prompts, length), given.rounds)
    if given.only in (None, "32"):
        interleaved("batch 32", batch_32(model, prompts, length), given.rounds)
    if given.only in (None, "grid"):
        if not given.torch:
            left_out("texts one by one with PyTorch", "no --torch PYTHON was given")
        others = OneByOne(given.torch, model.folder, length) if given.torch else None
        interleaved("12x8 grid", grid(model, prompts, others, given.texts, length), given.rounds)
        if others:
            others.close()


if __name__ == "__main__":
    main()
