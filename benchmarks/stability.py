"""Whether other seeds, and halves of the pairs, recommend the same: verdict, layer, dose and effect over variants.

python -m benchmarks.stability                              # ten seeds of four concepts on the embedded model
python -m benchmarks.stability --seeds 5 --concepts refusal
python -m benchmarks.stability --halves                     # and both halves of the training pairs
python -m benchmarks.stability --store FOLDER               # keep what was measured
python -m benchmarks.stability --tiny                       # two seeds on a tiny random model

Each concept runs in a process and a store of its own. A line says of each variant what it recommends. A line of each
concept says how often the commonest verdict came out, how many doses lie within 20 % of their median, and how many
effects lie within the intervals of the others.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.telling import options, say
from steering_core.backend.mlx import mx
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stability import stability_of, swing
from steering_core.runs import Run
from steering_core.spec import Spec
from steering_core.store import Store

MODEL, CONCEPTS = "smollm2-135m", ("sentiment", "formality", "future", "confidence")
NEAR = 0.2  # of the median


def measured(
    model: str, concept: str, seeds: int, halves: bool, store: Store, **generations: Any
) -> list[dict[str, Any]]:
    """What every variant of one concept recommends; printed as well."""
    rows: list[dict[str, Any]] = []
    spec = Spec(models=(model,), concepts=(concept,), generations=generations)

    def cell(run: Run, opened: Model, of: Concept) -> None:
        rows.extend(stability_of(run, opened, of, seeds, halves))

    started = time.perf_counter()
    with Run(spec, store, keeps_outcomes=False) as run:
        each_cell(run, cell)
    run.raise_failures({"measured": rows})
    for row in rows:
        ratio = "no texts" if row["perplexity_ratio"] is None else f"ratio {row['perplexity_ratio']:.2f}"
        found = f"{row['verdict']}, {row['method']} at {row['layers']}, dose {row['dose']:.3g}"
        effect = f"effect {row['effect']:+.3f} [{row['effect_low']:.3f}, {row['effect_high']:.3f}]"
        say(f"  {row['concept']}, {row['variant']}: {found}, {effect}, {ratio}, p {row['p_value']:.3g}")
    say(summary(concept, [row for row in rows if row["variant"].startswith("seed")], time.perf_counter() - started))
    return rows


def summary(concept: str, rows: Sequence[dict[str, Any]], seconds: float) -> str:
    """One line about the seeds of one concept."""
    (verdict, often), *_ = Counter(row["verdict"] for row in rows).most_common(1)
    doses = [abs(row["dose"]) for row in rows if row["dose"]]
    median = statistics.median(doses)
    near = sum(abs(dose / median - 1) <= NEAR for dose in doses)
    inside = sum(low <= row["effect"] <= high for row in rows for low, high in [_interval(rows, row)])
    layers = Counter(row["layers"] for row in rows).most_common()
    return (
        f"{concept}: {verdict} in {often} of {len(rows)}; {near} of {len(doses)} doses within 20 % of {median:.3g}, "
        f"largest over smallest {swing(doses):.2f}; layers {layers}; {inside} effects within the others' intervals; "
        f"{seconds:.0f} s on {mx.default_device()}"
    )


def _interval(rows: Sequence[dict[str, Any]], but: dict[str, Any]) -> tuple[float, float]:
    """The mean interval of the other variants' effects."""
    others = [row for row in rows if row is not but] or [but]
    return statistics.mean(r["effect_low"] for r in others), statistics.mean(r["effect_high"] for r in others)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--concepts", nargs="+", default=list(CONCEPTS))
    parser.add_argument("--store", default=None, help="a folder for the stores, one a concept")
    parser.add_argument("--alone", action="store_true", help="in this process, where one concept is asked for")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if given.tiny:
            tiny(Path(folder))
            return 0
        root = Path(given.store or folder)
        if given.alone or len(given.concepts) == 1:
            for concept in given.concepts:
                measured(given.model, concept, given.seeds, given.halves, Store(root / concept))
            return 0
        more = ["--seeds", str(given.seeds), "--model", given.model, "--store", str(root)]
        more += ["--halves"] if given.halves else []
        own = [sys.executable, "-m", "benchmarks.stability", *more, "--concepts"]
        return max(process.wait() for process in [subprocess.Popen([*own, concept]) for concept in given.concepts])


def tiny(folder: Path) -> None:
    """Two seeds and two halves on a tiny random model."""
    from tests.explorer import AGREE
    from tests.tiny import save_tiny_model

    model, concept = str(save_tiny_model(folder / "tiny")), folder / "agree.yaml"
    concept.write_text(AGREE.model_dump_json(exclude_none=True))  # which is YAML as well
    sizes = {"layers": (1, 2), "doses": (0.3,), "prompts": 2, "max_tokens": 2, "shortlist": 2}
    measured(model, str(concept), 2, True, Store(folder / "store"), **sizes)


if __name__ == "__main__":
    sys.exit(main())
