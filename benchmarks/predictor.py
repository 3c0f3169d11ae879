"""Whether a vector's logit lens predicts how well it steers: rank correlation with the odd effect at equal damage.

python -m benchmarks.predictor                                   # four concepts x six layers on the embedded model
python -m benchmarks.predictor --concepts sentiment refusal --layers 9 15 21
python -m benchmarks.predictor --items 12 --answers 12           # more of what effects and damage are measured on
python -m benchmarks.predictor --store FOLDER                    # keep what was measured, and go on from it
python -m benchmarks.predictor --tiny                            # one concept, two layers, a tiny random model

A line for every concept and layer: the mean difference's logit-lens score on validation items (`vectors/lens.py`), its
d' on validation pairs, and its odd effect at the dose where all do the same damage. Then Spearman's rho of either with
the effect: over all cells, within each concept over its layers, and over concepts between their best layers.
"""

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.telling import options, say
from steering_core.backend.mlx import mx
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.measuring import layer_sweep_rows, measured_rows
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.lens import assess_lens
from steering_core.vectors.quality import Resampling, assess
from steering_core.vectors.vector import Vector

MODEL, CONCEPTS, LAYERS = "smollm2-135m", ("sentiment", "formality", "politeness", "future"), (6, 10, 14, 18, 22, 26)
ENOUGH = 0.7  # the rho from which it would be worth ordering the search by the logit lens
PREDICTORS = ("logit_lens", "d_prime_validation")
Row = dict[str, Any]


def cells(spec: Spec, store: Store, damage: float) -> list[Row]:
    """The predictors, and the odd effect at equal damage, of every concept and layer; printed as well."""

    def measure(run: Run, model: Model, concept: Concept, vectors: Sequence[Vector]) -> list[Row]:
        started = time.perf_counter()
        ids = [vector.vector_id for vector in vectors if vector.control is None]
        assess(store, model.identity, ids, Resampling(2))
        assess_lens(store, model, concept, ids)
        known = {row["layer"]: row for row in store.rows("FROM vector_quality") if row["vector_id"] in ids}
        rows = layer_sweep_rows(run, model, concept, vectors, damage)
        for row in rows:
            found = known[row["layer"]]  # a concept of few pairs has none to tell apart
            row |= {name: math.nan if found[name] is None else found[name] for name in PREDICTORS}
            told = ", ".join(f"{name} {row[name]:+.2f}" for name in PREDICTORS)
            effect = f"odd effect {row['odd_effect']:+.3f} at dose {row['dose']:.3g}"
            say(f"  {row['concept']}, layer {row['layer']}: {told}, {effect}")
        say(f"  {concept.name}: {time.perf_counter() - started:.0f} s")
        return rows

    with Run(spec, store, keeps_outcomes=False) as run:
        rows = measured_rows(run, measure)
    run.raise_failures({"measured": rows})
    return rows


def correlations(rows: Sequence[Row], predictor: str) -> dict[str, float]:
    """Spearman's rho of a predictor with the odd effect.

    `all` is over every cell, `within` the mean of the concepts' own, `best layers` between concepts.
    """
    concepts = list(dict.fromkeys(row["concept"] for row in rows))
    groups = {"all": list(rows)} | {name: [row for row in rows if row["concept"] == name] for name in concepts}
    groups["best layers"] = [max(groups[name], key=lambda row: float(row["odd_effect"])) for name in concepts]
    found = {name: rho(group, predictor) for name, group in groups.items() if len(group) > 2}
    if own := [found[name] for name in concepts if name in found]:
        found["within"] = sum(own) / len(own)
    return found


def rho(rows: Sequence[Row], predictor: str) -> float:
    """Spearman's rho over these rows."""
    found = stats.spearmanr([row[predictor] for row in rows], [row["odd_effect"] for row in rows])
    return float(found.statistic)


def best_by(rows: Sequence[Row], predictor: str) -> tuple[int, float]:
    """In how many concepts the layer foretold best is the best, and the mean share of the best effect that it has."""
    concepts = list(dict.fromkeys(row["concept"] for row in rows))
    hits, shares = 0, []
    for name in concepts:
        mine = [row for row in rows if row["concept"] == name]
        best, chosen = (max(mine, key=lambda row: float(row[by])) for by in ("odd_effect", predictor))
        hits += best is chosen
        shares.append(chosen["odd_effect"] / best["odd_effect"])
    return hits, sum(shares) / len(shares)


def report(rows: Sequence[Row]) -> None:
    """Print what the rows say of each predictor."""
    for predictor in PREDICTORS:
        found = correlations(rows, predictor)
        say(f"{predictor}: rho " + ", ".join(f"{name} {value:+.3f}" for name, value in found.items()))
        hits, share = best_by(rows, predictor)
        concepts = len({row["concept"] for row in rows})
        say(f"  its best layer is the best in {hits} of {concepts}, and has {share:.0%} of the best effect on average")
    over_all = correlations(rows, "logit_lens").get("all", float("nan"))
    said = "would order the search" if over_all >= ENOUGH else "does not foretell enough to order the search by it"
    say(f"{len(rows)} cells on {mx.default_device()}: the logit lens {said} (rho {over_all:+.3f}, {ENOUGH} needed)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = options(__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--concepts", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS))
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--damage", type=float, default=0.15, help="nats per token")
    parser.add_argument("--store", default=None, help="a folder that keeps what was measured")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model, concepts, layers, tokens = given.model, given.concepts, given.layers, 24
        if given.tiny:
            model, concepts, layers, tokens = _tiny(Path(folder))
        spec = Spec(
            models=(model,),
            concepts=tuple(concepts),
            vectors={"controls": 0, "quality_draws": 0},
            generations={"layers": tuple(layers), "max_tokens": tokens},
            scores={"items": given.items, "answers": given.answers, "neutral": 2},
        )
        report(cells(spec, Store(given.store or Path(folder, "store")), given.damage))
    return 0


def _tiny(folder: Path) -> tuple[str, list[str], list[int], int]:
    """A tiny random model, a concept, two layers and two tokens an answer."""
    from tests.explorer import AGREE
    from tests.tiny import save_tiny_model

    concept = folder / "agree.yaml"
    concept.write_text(AGREE.model_dump_json(exclude_none=True))  # which is YAML as well
    return str(save_tiny_model(folder / "tiny")), [str(concept)], [1, 2], 2


if __name__ == "__main__":
    sys.exit(main())
