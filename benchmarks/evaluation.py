"""What the evaluation's savings are worth, that they change nothing, and how often nonsense passes for a concept.

python -m benchmarks.evaluation                 # savings, on the embedded model
python -m benchmarks.evaluation --nonsense 100  # verdicts on pairs whose sides a coin decides, on a tiny model
"""

import argparse
import collections
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steering_core import pipeline
from steering_core.backend import mx
from steering_core.concepts import Concept, Item, load_concept
from steering_core.engine.forward import Work
from steering_core.evaluation.cells import Cell
from steering_core.evaluation.search import Ground, Search
from steering_core.interventions.steering import Steering
from steering_core.models import Model
from steering_core.pipeline import held_out, neutral, run
from steering_core.prompts import item_prompts
from steering_core.runs import Run
from steering_core.scores.metrics import Bench, propensity
from steering_core.scores.summary import cell_values
from steering_core.spec import Spec
from steering_core.store import Store

SPEC = Spec(models=("smollm2-135m",), concepts=("sentiment",))


def plain_propensity(model: Model, concept: Concept, item: Item, cells: Sequence[Cell]) -> list[float]:
    """The same number without any saving: every cell and answer as one whole sequence, all logits."""
    found = []
    for cell in cells:
        sides = []
        for prompt in item_prompts(model, concept, item, cell.system):
            steering = Steering([cell.intervention], [prompt.response_start])
            with model.taps.applied(steering.edits(0, len(prompt.tokens))):
                logits = np.array(model.network(mx.array([prompt.tokens])).astype(mx.float32))[0]
            answer = prompt.tokens[prompt.response_start :]
            places = np.arange(prompt.response_start - 1, len(prompt.tokens) - 1)
            sums = np.logaddexp.reduce(logits[places], axis=-1)
            sides.append(float((logits[places, answer] - sums).mean()))
        found.append(sides[0] - sides[1])
    return found


def savings(items: int) -> None:
    """Print what sharing and restarting are worth, and what halving is, as ratios of interleaved pairs."""
    with tempfile.TemporaryDirectory() as folder:
        this = Run(SPEC, Store(Path(folder) / "store"))
        model, concept = pipeline.load_model(this, SPEC.models[0]), load_concept(SPEC.concepts[0])
        pipeline.extract_activations(this, model, [concept])
        vectors, _ = pipeline.derive_vectors(this, model, concept)
        cells = pipeline.candidate_cells(this, model, concept, vectors)
        asked = held_out(concept, "validation", SPEC.scores)
        ratios, furthest = [], 0.0
        for item in asked[:items]:
            fast, shared = timed(lambda item=item: propensity(Bench(model, concept), item, cells))
            slow, plain = timed(lambda item=item: plain_propensity(model, concept, item, cells))
            ratios.append(slow / fast)
            furthest = max(furthest, float(np.abs(np.array(shared) - plain).max()))
        print(f"shared and restarted: {statistics.median(ratios):.1f} times as fast, {len(cells)} cells an item, "
              f"values within {furthest:.1e} nats", flush=True)  # fmt: skip
        ground = Ground(asked, neutral("validation", SPEC.scores), SPEC.scores.metrics, SPEC.scores.max_kl)
        found: dict[str, Any] = {}
        for name in ("halving", "grid"):
            work, store = Work(), Store(Path(folder) / name)
            search = Search(Bench(model, concept, work), store, ground)
            if name == "halving":
                seconds, shortlist = timed(lambda search=search: search.halving(cells, vectors, 6))
            else:
                seconds, shortlist = timed(lambda search=search: search.whole_grid(cells, vectors))
            values = cell_values(store, shortlist.cells, shortlist.measured.measurement_ids)
            effects = [np.mean(list(v["effect"].values())) for v in values]
            found[name] = (seconds, work.tokens, shortlist.cells[int(np.argmax(effects))].expression)
        print(f"halving: {found['grid'][0] / found['halving'][0]:.1f} times as fast as the grid with all its controls, "
              f"{found['halving'][1]:,} tokens for {found['grid'][1]:,}; "
              f"same best cell: {found['halving'][2] == found['grid'][2]}")  # fmt: skip


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned."""
    started = time.perf_counter()
    value = function()
    return time.perf_counter() - started, value


def nonsense(seeds: int, flip_items: bool) -> None:
    """Print how often each verdict comes out for random pairs on a tiny random model."""
    from tests.nonsense import save_nonsense
    from tests.tiny import save_tiny_model

    verdicts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "model")
        for seed in range(seeds):
            spec = Spec(
                models=(str(model),),
                concepts=(str(save_nonsense(Path(folder), seed, flip_items)),),
                generations={"layers": "all", "doses": (0.3,), "prompts": 1, "max_tokens": 2, "shortlist": 2},
                scores={"bootstrap": 500, "metrics": ("propensity",)},
            )
            (row,) = run(spec, Store(Path(folder) / f"store-{seed // 10}"))["recommendations"]
            verdicts[row["verdict"]] += 1
    print(f"nonsense{' and nonsense items' * flip_items}: {dict(verdicts)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nonsense", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--items", type=int, default=6)
    given = parser.parse_args()
    if given.nonsense:
        nonsense(given.nonsense, flip_items=False)
        nonsense(given.nonsense, flip_items=True)
    else:
        savings(given.items)
