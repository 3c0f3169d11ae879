"""Whether other seeds, and halves of the pairs, recommend the same: verdict, layer, dose and effect over variants.

python -m benchmarks.stability                              # ten seeds of four concepts on the embedded model
python -m benchmarks.stability --seeds 5 --concepts refusal
python -m benchmarks.stability --halves                     # and both halves of the training pairs
python -m benchmarks.stability --spec shipped-concepts --seeds 3    # the concepts, methods and sizes of a spec
python -m benchmarks.stability --store FOLDER               # keep what was measured
python -m benchmarks.stability --rows FOLDER                # and what was recommended, as JSON lines a concept
python -m benchmarks.stability --table FOLDER --write docs/concepts.md   # those lines as a table of that page
python -m benchmarks.stability --tiny                       # two seeds on a tiny random model

Each concept runs in a process and a store of its own. A line says of each variant what it recommends. A line of each
concept says how often the commonest verdict came out, how many doses lie within 20 % of their median, and how many
effects lie within the intervals of the others.
"""

import argparse
import json
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
from steering_core.authoring.results import results_table, write_results
from steering_core.backend.mlx import mx
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.cells import each_cell
from steering_core.pipeline.stability import stability_of, swing
from steering_core.runs import Run
from steering_core.spec import GenerationsSpec, Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store

MODEL, CONCEPTS = "smollm2-135m", ("sentiment", "formality", "future", "confidence")
NEAR = 0.2  # of the median
RECOMMENDED = """SELECT r.odd_effect, r.null_effects, r.damage, r.prompt_effect FROM raw.stability s
    JOIN raw.recommendations r USING (recommendation_id) WHERE s.spec_key = ? AND s.variant = ?"""


def measured(spec: Spec, seeds: int, halves: bool, store: Store, rows_to: Path | None = None) -> list[dict[str, Any]]:
    """What every variant of a spec's one concept recommends; printed as well, and written to a folder."""
    rows: list[dict[str, Any]] = []
    (concept,) = spec.concepts

    def cell(run: Run, opened: Model, of: Concept) -> None:
        for row in stability_of(run, opened, of, seeds, halves):
            (more,) = run.store.rows(RECOMMENDED, [run.spec.key, row["variant"]])
            rows.append({**more, **row})

    started = time.perf_counter()
    with Run(spec, store, keeps_outcomes=False) as run:
        each_cell(run, cell)
    run.raise_failures({"measured": rows})
    for row in rows:
        ratio = "no texts" if row["perplexity_ratio"] is None else f"ratio {row['perplexity_ratio']:.2f}"
        found = f"{row['verdict']}, {row['method']} at {row['layers']}, dose {row['dose']:.3g}"
        effect = f"effect {row['effect']:+.3f} [{row['effect_low']:.3f}, {row['effect_high']:.3f}]"
        say(f"  {row['concept']}, {row['variant']}: {found}, {effect}, {ratio}, p {row['p_value']:.3g}")
    seconds, device = time.perf_counter() - started, str(mx.default_device())
    say(summary(concept, [row for row in rows if row["variant"].startswith("seed")], seconds))
    if rows_to:
        rows_to.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({**row, "seconds": seconds, "device": device}) for row in rows]
        (rows_to / f"{Path(concept).stem}.jsonl").write_text("\n".join(lines) + "\n")
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
    parser.add_argument("--concepts", nargs="+", default=None, help="these concepts alone")
    parser.add_argument("--store", default=None, help="a folder for the stores, one a concept")
    parser.add_argument("--alone", action="store_true", help="in this process, where one concept is asked for")
    parser.add_argument("--spec", default=None, help="a spec, whose concepts are measured with its methods and sizes")
    parser.add_argument("--rows", type=Path, default=None, help="a folder for JSON lines, a file a concept")
    parser.add_argument("--table", type=Path, default=None, help="print such a folder as a table, and measure nothing")
    parser.add_argument("--write", type=Path, default=None, help="a page whose table it becomes")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if given.tiny:
            tiny(Path(folder))
        elif given.table:
            print_table(given.table, given.write)
        else:
            return _measure(given, Path(given.store or folder))
    return 0


def _measure(given: argparse.Namespace, root: Path) -> int:
    """Measure each concept in a process of its own, or the only one in this."""
    spec = load_spec(given.spec) if given.spec else Spec(models=(given.model,), concepts=tuple(CONCEPTS))
    concepts = given.concepts or list(spec.concepts)
    if given.alone or len(concepts) == 1:
        for concept in concepts:
            one = spec.model_copy(update={"concepts": (concept,)})
            measured(one, given.seeds, given.halves, Store(root / concept), given.rows)
        return 0
    own = [sys.executable, "-m", "benchmarks.stability", "--seeds", str(given.seeds), "--store", str(root)]
    own += ["--halves"] * given.halves + (["--spec", given.spec] if given.spec else ["--model", given.model])
    own += ["--rows", str(given.rows)] if given.rows else []
    return max(process.wait() for process in [subprocess.Popen([*own, "--concepts", name]) for name in concepts])


def print_table(folder: Path, page: Path | None) -> None:
    """Print a line a concept of what its variants recommended, or put it into a page at its place for `steering`."""
    files = sorted(folder.glob("*.jsonl"))
    rows = [_line([json.loads(line) for line in file.read_text().splitlines()]) for file in files]
    table = results_table(sorted(rows, key=lambda row: (-int(row["works"].split()[0]), row["concept"])))
    say(table)
    if page:
        write_results(page, table, "steering")


def _line(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """One concept's line: the first variant's recommendation, and over all of them how often and how far."""
    first = rows[0]
    (verdict, _), *_ = Counter(row["verdict"] for row in rows).most_common(1)
    works = sum(row["verdict"].startswith("works") for row in rows)
    others = [verdict] if works == 0 else []
    doses = [abs(row["dose"]) for row in rows if row["dose"]]
    nulls = [effect for effect in first["null_effects"] or [] if effect is not None]
    p_values = [row["p_value"] for row in rows if row["p_value"] is not None]
    return {
        "concept": first["concept"],
        "works": " ".join([f"{works} of {len(rows)}", *others]),
        "method": first["method"],
        "layers": first["layers"],
        "doses": _between(doses, ".2f") if doses else "",
        "effect (95 %)": f"{first['effect']:+.2f} ({first['effect_low']:+.2f} … {first['effect_high']:+.2f})",
        "effects": _between([row["effect"] for row in rows], "+.2f"),
        "odd effect": f"{first['odd_effect']:+.2f}" if first["odd_effect"] is not None else "",
        "greatest null": f"{max(nulls):+.2f}" if nulls else "",
        "p": _between(p_values, ".2g") if p_values else "",
        "ratio": f"{first['perplexity_ratio']:.2f}" if first["perplexity_ratio"] else "",
        "prompt": f"{first['prompt_effect']:+.2f}" if first["prompt_effect"] is not None else "",
        "seconds": f"{first['seconds']:.0f}",
    }


def _between(values: Sequence[float], form: str) -> str:
    """The least and the greatest value, or the only one."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def tiny(folder: Path) -> None:
    """Two seeds and two halves on a tiny random model, and their table."""
    from tests.explorer import AGREE
    from tests.tiny import save_tiny_model

    model, concept = str(save_tiny_model(folder / "tiny")), folder / "agree.yaml"
    concept.write_text(AGREE.model_dump_json(exclude_none=True))  # which is YAML as well
    sizes = GenerationsSpec(layers=(1, 2), doses=(0.3,), prompts=2, max_tokens=2, shortlist=2)
    spec = Spec(models=(model,), concepts=(str(concept),), generations=sizes)
    measured(spec, 2, True, Store(folder / "store"), folder / "rows")
    print_table(folder / "rows", None)


if __name__ == "__main__":
    sys.exit(main())
