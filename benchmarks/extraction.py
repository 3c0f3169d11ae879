"""Extraction on a CPU: steerflow beside PyTorch's plain forward and steering-vectors, same prompts, same weights.

    python -m benchmarks.extraction --torch /path/to/venv-with-torch/bin/python [--pairs 60] [--repeats 3]

Two workloads, drawn from the concepts that come with steerflow: `stems` are A/B questions whose two sides differ in the
last token, `apart` are the same tokens shuffled, which share nothing. Everything runs on `--threads` threads, the
contestants in turns. Printed are the least wall time and the least CPU time (user and system, all threads together) of
`--repeats` rounds, and the median over rounds of both ratios to steerflow's: other work on the machine moves wall times
most, ratios within a round less. Tokens per second are those of the prompts, whatever a contestant ran of them. What
each found is compared with the plain forward's.

The venv needs torch, transformers and steering-vectors (0.12.2 was used); without --torch steerflow runs alone.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.telling import left_out, options

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Took:
    """Wall and CPU seconds of one workload."""

    wall: float
    cpu: float


Rounds = dict[tuple[str, str], list[Took]]  # by workload and contestant


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the contestants in turns and print what they took."""
    parser = options(__doc__)
    parser.add_argument("--torch", help="python of a venv with torch, transformers and steering-vectors")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--contestant", choices=["steerflow", "forward", "steering-vectors"], help=SUPPRESS)
    parser.add_argument("--work", type=Path, help=SUPPRESS)
    given = parser.parse_args(arguments)
    if given.contestant:
        {"steerflow": serve_steerflow, "forward": serve_forward, "steering-vectors": serve_steering_vectors}[
            given.contestant
        ](given.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.tiny:
            from tests.tiny import save_tiny_model  # needs MLX, which the contestants' Python need not have

            given.model, given.pairs, given.repeats = str(save_tiny_model(Path(folder) / "tiny")), 2, 1
        compete(given, Path(folder))


def compete(given: Namespace, work: Path) -> None:
    """Start each contestant once, have them run every workload in turns, print the table."""
    make_workloads(given.model, given.pairs, work)
    contestants = {"steerflow": sys.executable}
    if given.torch:
        contestants |= {"forward": given.torch, "steering-vectors": given.torch}
    else:
        left_out("transformers and steering-vectors", "no --torch PYTHON was given")
    threads = {name: str(given.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
    running = {}
    for name, python in contestants.items():
        command = [python, "-m", "benchmarks.extraction", "--contestant", name, "--work", str(work)]
        running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    rounds: Rounds = {(workload, name): [] for workload in ("stems", "apart") for name in running}
    for _ in range(given.repeats):
        for workload, name in rounds:
            rounds[workload, name].append(ask(running[name], workload))
    for process in running.values():
        process.communicate()
    report(work, rounds, list(contestants))


def ask(process: subprocess.Popen, workload: str) -> Took:
    """What a contestant took for one workload."""
    process.stdin.write(workload + "\n")
    process.stdin.flush()
    return Took(*map(float, process.stdout.readline().split()))


def report(work: Path, rounds: Rounds, contestants: list[str]) -> None:
    """Print tokens per second, ratios, and how far the numbers are from the plain forward's."""
    names = ("tokens", "tokens/s", "wall, s", "CPU, s", "wall ratio", "CPU ratio", "rel. error")
    print(f"{'workload':9}{'contestant':18}" + "".join(f"{name:>12}" for name in names))
    for (workload, name), took in rounds.items():
        tokens = sum(map(len, json.loads((work / f"{workload}.json").read_text())["sequences"]))
        wall, cpu, ours = min(t.wall for t in took), min(t.cpu for t in took), rounds[workload, "steerflow"]
        ratios = [(t.wall / o.wall, t.cpu / o.cpu) for t, o in zip(took, ours, strict=True)]
        slower, costlier = (statistics.median(found) for found in zip(*ratios, strict=True))
        error = f"{off(work, workload, name):.1e}" if "forward" in contestants and name != "forward" else ""
        print(
            f"{workload:9}{name:18}{tokens:12,}{tokens / wall:12.0f}{wall:12.2f}{cpu:12.2f}"
            f"{slower:11.2f}x{costlier:11.2f}x{error:>12}"
        )


def off(work: Path, workload: str, name: str) -> float:
    """The largest relative error of what a contestant found, against the plain forward's."""
    import numpy as np

    found, truth = np.load(work / f"{name}-{workload}.npy"), np.load(work / f"forward-{workload}.npy")
    if name == "steering-vectors":  # it hands out mean differences only
        truth = (truth[0::2] - truth[1::2]).mean(axis=0)
    return float((np.linalg.norm(found - truth, axis=-1) / np.linalg.norm(truth, axis=-1)).max())


def timed(run: Callable[[], None]) -> Took:
    """What a call took of the clock, and of this process's CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def tell(took: Took) -> None:
    """Answer the other process."""
    print(took.wall, took.cpu, flush=True)


def make_workloads(model_name: str, n: int, work: Path) -> None:
    """Write both workloads as token sequences and texts, and the weights as a folder that transformers reads."""
    from steering_core.concepts import load_concept
    from steering_core.models import open_model
    from steering_core.models.identity import ModelIdentity

    texts = []
    for name in ("sycophancy", "honesty", "power-seeking", "refusal", "confidence"):
        for pair in load_concept(name).pairs:
            question = f"{pair.prompt or ''}\n\nChoices:\n (A) {pair.positive}\n (B) {pair.negative}\n\nAnswer: ("
            texts.append((question + "A", question + "B"))
    texts = random.Random(0).sample(texts, min(n, len(texts)))
    with open_model(model_name) as model:
        identity: ModelIdentity = model.identity
        sequences = [list(model.tokenizer.encode(text)) for pair in texts for text in pair]
        apart = [shuffled(sequence, i) for i, sequence in enumerate(sequences)]
        apart_texts = [model.tokenizer.decode(sequence) for sequence in apart]
        folder = str(for_transformers(model.folder, work / "model"))
    common = {"model": model_name, "folder": folder, "layers": identity.n_layers}
    flat = [text for pair in texts for text in pair]
    for name, found, words in (("stems", sequences, flat), ("apart", apart, apart_texts)):
        (work / f"{name}.json").write_text(json.dumps({**common, "sequences": found, "texts": words}))


def for_transformers(folder: Path, to: Path) -> Path:
    """A copy of a model's folder whose weights say that they are in PyTorch's form, as transformers asks."""
    from steering_core.backend.mlx import mx

    to.mkdir()
    for file in folder.glob("*.json"):
        if "index" not in file.name:
            shutil.copy(file, to)
    weights = {name: array for file in folder.glob("*.safetensors") for name, array in mx.load(str(file)).items()}
    mx.save_safetensors(str(to / "model.safetensors"), weights, metadata={"format": "pt"})
    return to


def shuffled(sequence: list[int], seed: int) -> list[int]:
    """The same tokens in another order."""
    return random.Random(seed).sample(sequence, len(sequence))


def serve_steerflow(work: Path) -> None:
    """Extract into an empty store, everything but loading the model included: planning, running, writing."""
    import numpy as np

    from steering_core.activations.extract import extract
    from steering_core.models import open_model
    from steering_core.prompts import Prompt
    from steering_core.store import Store

    name = json.loads((work / "stems.json").read_text())["model"]
    with open_model(name) as model:
        layers = list(range(model.identity.n_layers))
        warm = [Prompt((1, 2, 3), "", 3, model.identity.tokenizer_id)]
        extract(model, Store(work / "warm"), warm, layers, "last")
        for turn, line in enumerate(sys.stdin):
            given = json.loads((work / f"{line.strip()}.json").read_text())
            prompts = [Prompt(tuple(s), "", len(s), model.identity.tokenizer_id) for s in given["sequences"]]
            store = Store(work / f"store-{turn}")
            took = timed(lambda prompts=prompts, store=store: extract(model, store, prompts, layers, "last"))
            rows = store.rows("SELECT prompt_id, layer, activation FROM raw.activations")
            found = {(row["prompt_id"], row["layer"]): row["activation"] for row in rows}
            held = [[found[p.prompt_id, layer] for layer in layers[:-1]] for p in prompts]
            np.save(work / f"steerflow-{line.strip()}.npy", np.array(held, np.float32))
            tell(took)


def torch_model(work: Path):  # noqa: ANN201  (transformers is in another venv)
    """The same weights in transformers, float32, and their tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = json.loads((work / "stems.json").read_text())["folder"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer


def serve_forward(work: Path) -> None:
    """One batched forward with output_hidden_states, sorted by length, 16 a batch; the last token's kept."""
    import numpy as np
    import torch

    model, _ = torch_model(work)
    with torch.inference_mode():
        for line in sys.stdin:
            sequences = json.loads((work / f"{line.strip()}.json").read_text())["sequences"]
            kept: list[np.ndarray | None] = [None] * len(sequences)

            def run(sequences: list[list[int]] = sequences, kept: list[np.ndarray | None] = kept) -> None:
                order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
                for begin in range(0, len(order), 16):
                    rows = order[begin : begin + 16]
                    longest = max(len(sequences[i]) for i in rows)
                    ids = torch.tensor([sequences[i] + [0] * (longest - len(sequences[i])) for i in rows])
                    mask = torch.tensor([[int(t < len(sequences[i])) for t in range(longest)] for i in rows])
                    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, logits_to_keep=1)
                    for row, i in enumerate(rows):  # the last entry is after the final norm: left out
                        last = [h[row, len(sequences[i]) - 1] for h in states.hidden_states[1:-1]]
                        kept[i] = torch.stack(last).numpy()

            took = timed(run)
            np.save(work / f"forward-{line.strip()}.npy", np.stack(kept))
            tell(took)


def serve_steering_vectors(work: Path) -> None:
    """train_steering_vector over every layer, batch 16."""
    import numpy as np
    from steering_vectors import SteeringVector, SteeringVectorTrainingSample, train_steering_vector

    model, tokenizer = torch_model(work)
    for line in sys.stdin:
        given = json.loads((work / f"{line.strip()}.json").read_text())
        texts, layers = given["texts"], range(given["layers"] - 1)
        samples = [SteeringVectorTrainingSample(a, b) for a, b in zip(texts[0::2], texts[1::2], strict=True)]
        made = []

        def run(samples: list[SteeringVectorTrainingSample] = samples, made: list[SteeringVector] = made) -> None:
            made.append(train_steering_vector(model, tokenizer, samples, batch_size=16, show_progress=False))

        took, (vector,) = timed(run), made
        found = np.stack([vector.layer_activations[layer].float().numpy() for layer in layers])
        np.save(work / f"steering-vectors-{line.strip()}.npy", found)
        tell(took)


if __name__ == "__main__":
    main()
