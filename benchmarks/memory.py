"""Peak memory of an extraction from 200 to 10,000 prompts: two shards are held at most, whatever the number.

    python -m benchmarks.memory [--prompts 200 1000 5000 10000] [--width 1024] [--layers 8]

Each count runs in a process of its own, on a random model that is wide and cheap, so that what is extracted outweighs
what is computed. `held` is what all activations together take.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path

from benchmarks.telling import options

ROOT = Path(__file__).parent.parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run each count and print its peak."""
    parser = options(__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[200, 1000, 5000, 10000])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--one", type=Path, help=SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(peak(given.one, given.prompts[0])))
        return
    if given.tiny:
        given.prompts, given.width, given.layers = [20], 32, 2
    from tests.tiny import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        shape = {"hidden_size": given.width, "head_dim": 16, "num_hidden_layers": given.layers}
        model = save_tiny_model(Path(folder) / "model", shape)
        print(f"{'prompts':>8}{'held, MB':>10}{'peak, MB':>10}{'over loading, MB':>18}")
        for n in given.prompts:
            command = [sys.executable, "-m", "benchmarks.memory", "--one", str(model), "--prompts", str(n)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            loaded, top = json.loads(done.stdout)
            held = n * given.layers * given.width * 4 / 1e6
            print(f"{n:8,}{held:10.0f}{top:10.0f}{top - loaded:18.0f}")


def peak(folder: Path, n: int) -> tuple[float, float]:
    """Peak resident megabytes after a first small extraction, and after that of `n` prompts."""
    import numpy as np

    from steering_core.activations.extract import extract
    from steering_core.models import open_model
    from steering_core.prompts import Prompt
    from steering_core.store import Store

    with tempfile.TemporaryDirectory() as scratch, open_model(str(folder)) as model:
        drawn = np.random.default_rng(0)
        identity = model.identity.tokenizer_id

        def prompts(count: int) -> list[Prompt]:
            rows = [tuple(drawn.integers(4, 250, drawn.integers(6, 16)).tolist()) for _ in range(count)]
            return [Prompt(row, "", len(row), identity) for row in rows]

        store = Store(Path(scratch) / "store")
        layers = list(range(model.identity.n_layers))
        extract(model, store, prompts(64), layers, "last")
        loaded = resident()
        extract(model, store, prompts(n), layers, "last")
        return loaded, resident()


def resident() -> float:
    """Peak resident megabytes of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
