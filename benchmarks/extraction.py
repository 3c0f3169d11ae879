"""Extraction on a CPU: steerflow beside PyTorch's plain forward and steering-vectors, same prompts, same weights.

    python benchmarks/extraction.py --torch /path/to/venv-with-torch/bin/python [--pairs 60] [--repeats 3]

Two workloads, drawn from the concepts that come with steerflow: `stems` are A/B questions whose two sides differ in the
last token, `apart` are the same tokens shuffled, which share nothing. Everything runs on `--threads` threads, the
contestants in turns, and the best of `--repeats` counts: other work on the machine slows them all. Tokens per second
are those of the prompts, whatever a contestant ran of them. What each found is compared with the plain forward's.

The venv needs torch, transformers and steering-vectors (0.12.2 was used); without --torch steerflow runs alone.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the contestants in turns and print their best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="python of a venv with torch, transformers and steering-vectors")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--contestant", choices=["steerflow", "forward", "steering-vectors"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        {"steerflow": serve_steerflow, "forward": serve_forward, "steering-vectors": serve_steering_vectors}[
            options.contestant
        ](options.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        compete(options, Path(folder))


def compete(options: argparse.Namespace, work: Path) -> None:
    """Start each contestant once, have them run every workload in turns, print the table."""
    make_workloads(options.model, options.pairs, work)
    contestants = {"steerflow": sys.executable}
    if options.torch:
        contestants |= {"forward": options.torch, "steering-vectors": options.torch}
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
    running = {}
    for name, python in contestants.items():
        command = [python, __file__, "--contestant", name, "--work", str(work)]
        running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.repeats):
        for workload in ("stems", "apart"):
            for name, process in running.items():
                seconds = ask(process, workload)
                best[workload, name] = min(seconds, best.get((workload, name), seconds))
    for process in running.values():
        process.communicate()
    report(work, best, list(contestants))


def ask(process: subprocess.Popen, workload: str) -> float:
    """Seconds that a contestant took for one workload."""
    process.stdin.write(workload + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def report(work: Path, best: dict[tuple[str, str], float], contestants: list[str]) -> None:
    """Print tokens per second, ratios, and how far the numbers are from the plain forward's."""
    import numpy as np

    names = ("tokens", "seconds", "tokens/s", "steerflow is", "rel. error")
    print(f"{'workload':9}{'contestant':18}" + "".join(f"{name:>13}" for name in names))
    for workload in ("stems", "apart"):
        tokens = sum(map(len, json.loads((work / f"{workload}.json").read_text())["sequences"]))
        for name in contestants:
            seconds, ratio = best[workload, name], best[workload, name] / best[workload, "steerflow"]
            error = ""
            if "forward" in contestants and name != "forward":
                found, truth = np.load(work / f"{name}-{workload}.npy"), np.load(work / f"forward-{workload}.npy")
                if name == "steering-vectors":  # it hands out mean differences only
                    truth = (truth[0::2] - truth[1::2]).mean(axis=0)
                off = np.linalg.norm(found - truth, axis=-1) / np.linalg.norm(truth, axis=-1)
                error = f"{off.max():.1e}"
            print(f"{workload:9}{name:18}{tokens:13,}{seconds:13.2f}{tokens / seconds:13.0f}{ratio:12.2f}x{error:>13}")


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
    from steering_core.backend import mx

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
            began = time.perf_counter()
            did = extract(model, store, prompts, layers, "last")
            seconds = time.perf_counter() - began
            sys.stderr.write(f"steerflow ran {did.work.tokens:,} tokens in {did.work.forward_passes} passes\n")
            rows = store.rows("SELECT prompt_id, layer, activation FROM raw.activations")
            found = {(row["prompt_id"], row["layer"]): row["activation"] for row in rows}
            held = [[found[p.prompt_id, layer] for layer in layers[:-1]] for p in prompts]
            np.save(work / f"steerflow-{line.strip()}.npy", np.array(held, np.float32))
            print(seconds, flush=True)


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
            began = time.perf_counter()
            order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
            kept = [None] * len(sequences)
            for begin in range(0, len(order), 16):
                rows = order[begin : begin + 16]
                longest = max(len(sequences[i]) for i in rows)
                ids = torch.tensor([sequences[i] + [0] * (longest - len(sequences[i])) for i in rows])
                mask = torch.tensor([[1] * len(sequences[i]) + [0] * (longest - len(sequences[i])) for i in rows])
                states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, logits_to_keep=1)
                for row, i in enumerate(rows):  # the last entry is after the final norm: left out
                    kept[i] = torch.stack([h[row, len(sequences[i]) - 1] for h in states.hidden_states[1:-1]]).numpy()
            seconds = time.perf_counter() - began
            np.save(work / f"forward-{line.strip()}.npy", np.stack(kept))
            print(seconds, flush=True)


def serve_steering_vectors(work: Path) -> None:
    """train_steering_vector over every layer, batch 16."""
    import numpy as np
    from steering_vectors import SteeringVectorTrainingSample, train_steering_vector

    model, tokenizer = torch_model(work)
    for line in sys.stdin:
        given = json.loads((work / f"{line.strip()}.json").read_text())
        texts, layers = given["texts"], range(given["layers"] - 1)
        samples = [SteeringVectorTrainingSample(a, b) for a, b in zip(texts[0::2], texts[1::2], strict=True)]
        began = time.perf_counter()
        vector = train_steering_vector(model, tokenizer, samples, batch_size=16, show_progress=False)
        seconds = time.perf_counter() - began
        found = np.stack([vector.layer_activations[layer].float().numpy() for layer in layers])
        np.save(work / f"steering-vectors-{line.strip()}.npy", found)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
