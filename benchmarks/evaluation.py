"""How long a full evaluation takes, what each saving in it is worth, and how often nonsense passes for a concept.

python -m benchmarks.evaluation                     # one full evaluation, then the savings; on the embedded model
python -m benchmarks.evaluation --full              # the first alone; --savings: the second alone
python -m benchmarks.evaluation --tiny              # everything once, small, on a tiny random model
python -m benchmarks.evaluation --nonsense 100      # verdicts where a coin decides the sides, on a tiny model
python -m benchmarks.evaluation --nonsense-real 5   # the same on the embedded model, reduced
python -m benchmarks.evaluation --nonsense 100 --methods mean_difference preference    # with a trained method

A run of nonsense ends with status 1 where fewer than 95 % of its verdicts are *no better than random*, by more than
three standard errors.
"""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nonsense import nonsense, nonsense_real
from benchmarks.telling import options, say, timed, told
from steering_core.backend.mlx import mx
from steering_core.candidates.cell import Cell
from steering_core.candidates.chance_controls import chance_controls
from steering_core.concepts import Concept, Item, load_concept
from steering_core.engine.steering import Steering
from steering_core.evaluation.search import Search, SearchData
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.pipeline import stages
from steering_core.pipeline.discover import run
from steering_core.pipeline.wanted import bounds, candidate_cells, grid_layers, held_out, neutral
from steering_core.prompts import item_prompts
from steering_core.runs import Run
from steering_core.scores.metrics import Setup, propensity
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick
from tests.explorer import AGREE
from tests.tiny import save_tiny_model

MODEL, CONCEPT = "smollm2-135m", "sentiment"
METHODS = ("mean_difference", "logistic")
DOSES = (0.15, 0.3, 0.45)
ALL_CONTROLS, PRUNED = "the grid with all controls", "the grid with the shortlist's controls"
HALVING = "halving, with combinations and refined doses"


def full_spec(model: str, concept: str) -> Spec:
    """A full evaluation: every layer, two methods, 30 items, all controls, 100 texts of 48 tokens and more."""
    return Spec(
        models=(model,),
        concepts=(concept,),
        vectors={"methods": METHODS, "controls": 3},
        generations={"layers": "all", "doses": DOSES, "prompts": 6, "samples": 1, "max_tokens": 48},
        scores={"items": 15},  # on validation, and as many on test
    )


def reduced_spec(model: str, concept: str, shortlist: int | str = 6) -> Spec:
    """A spec whose whole grid takes minutes: five layers, two methods, two doses, 14 items, texts of 16 tokens.

    Fewer items would be too few: with eight, the least p-value is 1/256, which is above 0.05 corrected for this grid.
    """
    return Spec(
        models=(model,),
        concepts=(concept,),
        vectors={"methods": METHODS, "controls": 3, "quality_draws": 0},
        generations={"doses": DOSES[:2], "prompts": 4, "max_tokens": 16, "shortlist": shortlist},
        scores={"items": 14, "neutral": 6},
    )


def tiny_spec(model: str, concept: str, shortlist: int | str = 2) -> Spec:
    """The least that goes through every stage: two layers, a dose, two items, texts of two tokens."""
    return Spec(
        models=(model,),
        concepts=(concept,),
        vectors={"methods": METHODS, "controls": 1, "quality_draws": 0},
        generations={"layers": (1, 2), "doses": DOSES[:1], "prompts": 1, "max_tokens": 2, "shortlist": shortlist},
        scores=quick.SCORES | {"items": 2, "neutral": 1},
    )


@dataclass(frozen=True)
class Size:
    """The specs of a full evaluation and of one whose plain grid takes minutes, and a concept that means nothing."""

    full: Callable[[str, str], Spec] = full_spec
    reduced: Callable[..., Spec] = reduced_spec  # with a shortlist, where one is given
    nonsense: str = "nonsense"  # the concept that stands for it


# -- one full evaluation -----------------------------------------------------------------------------------------------


def full(model: str, concept: str, size: Size) -> None:
    """Print what one full evaluation takes, stage by stage, and what it says."""
    spec, started = size.full(model, concept), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        report = run(spec, store, told())
        seconds = time.perf_counter() - started
        for stage, did in report["stages"].items():
            say(f"  {stage}: {did['computed']:,} computed in {did['seconds']:.0f} s, {did['tokens']:,} tokens")
        tried = store.rows("SELECT count(DISTINCT intervention_id) AS n FROM scores WHERE control IS NULL")[0]["n"]
        (row,) = report["recommendations"]
        say(f"full evaluation: {seconds:.0f} s; {tried} candidates tried, {row['n']} test items; {row['verdict']}: "
            f"{row['method']} at {row['layers']}, dose {row['dose']:.2f}, effect {row['effect']:+.3f} "
            f"[{row['effect_low']:.3f}, {row['effect_high']:.3f}], p {row['p_value']:.2g}")  # fmt: skip


# -- what each saving is worth -----------------------------------------------------------------------------------------


def savings(model: str, concept: str, items: int, size: Size) -> None:
    """Print what sharing, restarting, pruning and halving are worth against doing without, and that verdicts stay.

    The search is compared on a grid of five layers, and on that of the full evaluation without all its controls.
    """
    large = size.full(model, concept)
    with ready(size.reduced(model, concept)) as (this, opened, asked, vectors, cells):
        say(f"the savings, on {sized(this.spec, opened, cells)}")
        per_cell = sharing(opened, asked, cells, held_out(asked, "validation", this.spec.scores)[:items])
        searching(this, opened, asked, vectors, cells, (ALL_CONTROLS, PRUNED, HALVING))
    with ready(large.model_copy(update={"vectors": this.spec.vectors})) as (this, opened, asked, vectors, cells):
        say(f"the search, on {sized(this.spec, opened, cells)}")
        searching(this, opened, asked, vectors, cells, (PRUNED, HALVING))
    compared = (len(cells) - 1) * (1 + 2 * large.vectors.controls)  # candidates, each with its controls
    n = compared * 2 * (large.scores.items or 0)
    say(f"that grid plain, {n:,} cells and items at {per_cell:.2f} s: {n * per_cell / 3600:.1f} h for propensity alone")
    verdicts(model, concept, size)


def sized(spec: Spec, model: Model, cells: Sequence[Cell]) -> str:
    """How large a grid is, in words."""
    layers = len(grid_layers(spec, model))
    return f"{len(cells) - 1} candidates: {layers} layers, {len(METHODS)} methods; {spec.scores.items} items"


def sharing(model: Model, concept: Concept, cells: Sequence[Cell], items: Sequence[Item]) -> float:
    """Print what sharing the prompt, and restarting at the steered layer, are worth; seconds a plain cell and item."""
    from_below = [FromBelow(cell.model_id, cell.concept_id, cell.steering, cell.vectors) for cell in cells]
    times: dict[str, list[float]] = {"plain": [], "shared": [], "restarted": []}
    furthest = 0.0
    for item in items:
        setup = Setup(model, concept)
        plain_seconds, plain = timed(lambda item=item: plain_propensity(model, concept, item, cells))
        shared_seconds, _ = timed(lambda item=item, setup=setup: propensity(setup, item, from_below))
        seconds, values = timed(lambda item=item, setup=setup: propensity(setup, item, cells))
        for name, took in zip(times, (plain_seconds, shared_seconds, seconds), strict=True):
            times[name].append(took)
        furthest = max(furthest, float(np.abs(np.array(values) - plain).max()))
        say(f"  an item: plain {plain_seconds:.1f} s, shared {shared_seconds:.1f} s, restarted {seconds:.1f} s")
    ratio = {
        (a, b): statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))
        for a, b in (("plain", "shared"), ("shared", "restarted"), ("plain", "restarted"))
    }
    say(f"sharing prompts and batching cells: {ratio['plain', 'shared']:.1f} times as fast; restarting at the steered "
        f"layer: {ratio['shared', 'restarted']:.1f} times more, together {ratio['plain', 'restarted']:.1f}; values "
        f"within {furthest:.1e} nats of the plain ones")  # fmt: skip
    return statistics.median(times["plain"]) / len(cells)


class FromBelow(Cell):
    """A cell with a change at block 0 that changes nothing: its rows cannot restart higher up."""

    @cached_property
    def intervention(self) -> Intervention:
        """What is done, beginning at block 0."""
        changes = Cell(self.model_id, self.concept_id, self.steering, self.vectors).intervention.changes
        return Intervention((*(replace(change, layer=0, amount=0.0) for change in changes[:1]), *changes))


def plain_propensity(model: Model, concept: Concept, item: Item, cells: Sequence[Cell]) -> list[float]:
    """`propensity` without any saving: each cell's answers as whole sequences, with all logits."""
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


def searching(
    this: Run, model: Model, concept: Concept, vectors: Sequence[Any], cells: Sequence[Cell], searches: Sequence[str]
) -> None:
    """Print what halving, and leaving out the controls of candidates that lost, are worth; teacher forcing alone."""
    scores = this.spec.scores
    items, prompts = held_out(concept, "validation", scores), neutral("validation", scores)
    n, within = this.spec.vectors.controls, bounds(this.spec)
    found: dict[str, tuple[float, int, str]] = {}
    for name in searches:
        work = Work()
        with tempfile.TemporaryDirectory() as folder:
            beside = vectors if name in (HALVING, ALL_CONTROLS) else []
            data = SearchData(items, prompts, (), ("propensity", "kl"), within, n if beside else 0)
            search = Search(Setup(model, concept, work=work), Store(Path(folder) / "store"), data)
            started = time.perf_counter()
            if name == HALVING:
                shortlist = search.halving(cells, vectors, 6)
            else:
                shortlist = search.whole_grid(cells, beside)
                best = search.best(shortlist.cells[1:], 6)
                if not beside:
                    rivals = [control for cell in best for control in chance_controls(cell, vectors, n)]
                    search.measure(rivals, len(items), 0)
            of_grid = {cell.intervention_id for cell in cells[1:]}
            best = search.best([cell for cell in shortlist.cells if cell.intervention_id in of_grid], 1)
            found[name] = (time.perf_counter() - started, work.tokens, best[0].expression)
        say(f"  {name}: {found[name][0]:.0f} s, {found[name][1]:,} tokens")
    for before, after in itertools.pairwise(searches):
        same = found[before][2] == found[after][2]
        say(f"{after}: {found[before][0] / found[after][0]:.1f} times as fast as {before}; "
            f"best candidate of the grid {'the same' if same else 'ANOTHER'}")  # fmt: skip


def verdicts(model: str, concept: str, size: Size) -> None:
    """Print the verdicts of search and whole grid, texts and test included, on a concept and on nonsense."""
    for name in dict.fromkeys((concept, size.nonsense)):
        said = []
        for shortlist in (6, "all"):
            with tempfile.TemporaryDirectory() as folder:
                seconds, report = timed(
                    lambda name=name, shortlist=shortlist, folder=folder: run(
                        size.reduced(model, name, shortlist), Store(Path(folder) / "store"), told()
                    )
                )
            (row,) = report["recommendations"]
            said.append(row["verdict"])
            say(f"  {name}, shortlist {shortlist}: {seconds:.0f} s; {row['verdict']}: layers {row['layers']}, "
                f"dose {row['dose']:.2f}, effect {row['effect']:+.3f}")  # fmt: skip
        say(f"{name}: the verdict is {'the same' if said[0] == said[1] else 'ANOTHER'} with the search as without")


@contextmanager
def ready(spec: Spec) -> Iterator[tuple[Run, Model, Concept, Sequence[Any], list[Cell]]]:
    """A run of one model and concept with its vectors and its grid."""
    with tempfile.TemporaryDirectory() as folder, Run(spec, Store(Path(folder) / "store")) as this:
        model, concept = stages.load_model(this, spec.models[0]), load_concept(spec.concepts[0])
        try:
            stages.extract_activations(this, model, [concept])
            vectors = stages.derive_vectors(this, model, concept)
            yield this, model, concept, vectors, candidate_cells(spec, this.store, model, concept, vectors, [])
        finally:
            model.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = options(__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--savings", action="store_true")
    parser.add_argument("--nonsense", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="of nonsense, to share seeds out")
    parser.add_argument("--methods", nargs="+", default=None, help="of nonsense")
    parser.add_argument("--nonsense-real", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--items", type=int, default=4, help="items on which plain propensity is timed")
    parser.add_argument("--concept", default=CONCEPT)
    given = parser.parse_args(arguments)
    if given.tiny:
        tiny()
        return 0
    if given.nonsense:
        seeds = range(given.first, given.first + given.nonsense)
        methods = given.methods or ("mean_difference",)
        return 0 if min(nonsense(seeds, flip, methods) for flip in (False, True)) else 1
    if given.nonsense_real:
        seeds = range(given.first, given.first + given.nonsense_real)
        return 0 if nonsense_real(seeds, given.methods or ("mean_difference", "logistic"), MODEL) else 1
    if given.full or not given.savings:
        full(MODEL, given.concept, Size())
    if given.savings or not given.full:
        savings(MODEL, given.concept, given.items, Size())
    return 0


def tiny() -> None:
    """Everything once on a tiny random model."""
    with tempfile.TemporaryDirectory() as folder:
        model, concept = str(save_tiny_model(Path(folder) / "tiny")), Path(folder) / "agree.yaml"
        concept.write_text(AGREE.model_dump_json(exclude_none=True))  # which is YAML as well
        size = Size(tiny_spec, tiny_spec, nonsense=str(concept))
        full(model, str(concept), size)
        savings(model, str(concept), 1, size)
        few = {"draws": 2, "bootstrap": 100}
        nonsense(range(1), True, ("mean_difference",), few)
        nonsense_real(range(1), ("mean_difference", "logistic"), model, str(concept), few)


if __name__ == "__main__":
    sys.exit(main())
