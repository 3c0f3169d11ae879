"""How often nonsense passes for a concept: `python -m benchmarks.evaluation --nonsense 100`."""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.telling import say, timed, told
from steering_core.concepts import load_concept
from steering_core.evaluation.recommendations import CHANCE
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Store
from tests.nonsense import dealt_anew, save_nonsense
from tests.tiny import save_tiny_model

DOSES = (0.15, 0.3)
BESIDE = ("sentiment", "formality", "refusal", "verbosity")
ENOUGH = 0.95
Verdict = tuple[str, float | None]


def nonsense(seeds: range, flip_items: bool, methods: Sequence[str], scores: Mapping[str, Any] | None = None) -> bool:
    """Print how often each verdict comes out for random pairs on a tiny random model; whether few enough pass.

    As few candidates, and as few random controls, may show a side effect on the shipped concepts of `BESIDE`. `scores`
    are further settings of the spec's section.
    """
    shown: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "model")

        def verdict(seed: int) -> Verdict:
            spec = Spec(
                models=(str(model),),
                concepts=(str(save_nonsense(Path(folder), seed, flip_items)),),
                vectors={"methods": methods},
                generations={"layers": "all", "doses": (0.3,), "prompts": 1, "max_tokens": 2, "shortlist": 2},
                scores={"bootstrap": 500, "metrics": ("propensity",), "side_effects": BESIDE, **(scores or {})},
            )
            store = Store(Path(folder) / f"store-{seed // 10}")
            (row,) = run(spec, store)["recommendations"]
            shown.update(showing(store, row["intervention_id"]))
            return str(row["verdict"]), row["p_value"]

        said = honest(f"nonsense{' and nonsense items' * flip_items}, {', '.join(methods)}", map(verdict, seeds))
    n = len(seeds)
    say(f"  rows with a side effect (p at most 0.05, corrected): {shown['candidate']} of {n}, and "
        f"{shown['random']} of as many random controls")  # fmt: skip
    return said and max(shown.values(), default=0) <= n * (1 - ENOUGH + margin(n))


def showing(store: Store, candidate: str) -> list[str]:
    """Whether a candidate, and one random control beside it, show any side effect."""
    found = store.rows(
        "SELECT coalesce(control, 'candidate') AS what FROM side_effects WHERE candidate_id = ? "
        "AND (control IS NULL OR control = 'random') "
        "QUALIFY dense_rank() OVER (PARTITION BY control ORDER BY intervention_id) = 1 AND p_corrected <= 0.05",
        [candidate],
    )
    return sorted({row["what"] for row in found})


def nonsense_real(
    seeds: range,
    methods: Sequence[str],
    model: str,
    concept: str = "nonsense",
    scores: Mapping[str, Any] | None = None,
) -> bool:
    """Print how often each verdict comes out for a concept's pairs and items dealt anew; whether few enough pass.

    The concept is the shipped nonsense by default, the model a real one; `scores` are as for `nonsense`. The grid has
    five layers and two doses; damage, which would bar some candidates, is not measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")

        def verdict(seed: int) -> Verdict:
            path = Path(folder) / f"nonsense-{seed}.yaml"
            dealt = dealt_anew(load_concept(concept), seed)
            path.write_text(yaml.safe_dump(dealt.model_dump(mode="json", exclude_none=True)))
            spec = Spec(
                name=f"nonsense-{seed}",
                models=(model,),
                concepts=(str(path),),
                vectors={"methods": methods, "quality_draws": 0},
                generations={"doses": DOSES, "prompts": 1, "samples": 1, "max_tokens": 2},
                scores={"metrics": ("propensity",), **(scores or {})},
            )
            seconds, report = timed(lambda: run(spec, store, told()))
            (row,) = report["recommendations"]
            say(f"  seed {seed}, {seconds:.0f} s: {row['verdict']} ({row['reason']})")
            return str(row["verdict"]), row["p_value"]

        return honest(f"nonsense on the real model, {', '.join(methods)}", map(verdict, seeds))


def honest(what: str, verdicts: Iterator[Verdict]) -> bool:
    """Print the verdicts' counts and how many p-values are at most 0.05; whether enough are *no better than random*.

    5 % of the p-values should be at most 0.05. "Enough" allows for three standard errors beyond that.
    """
    given = list(verdicts)
    seeds = len(given)
    found, low = Counter(verdict for verdict, _ in given), sum(p is not None and p <= 0.05 for _, p in given)
    say(f"{what}: {dict(found)} of {seeds}; p at most 0.05 in {low}, {low / seeds:.1%}")
    return found[CHANCE] >= seeds * (ENOUGH - margin(seeds))


def margin(seeds: int) -> float:
    """Three standard errors of a share that should be `ENOUGH`, over `seeds` runs."""
    return 3 * math.sqrt(ENOUGH * (1 - ENOUGH) / seeds)
