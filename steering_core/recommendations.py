"""Recommendations: the candidate chosen on validation, reported on test beside its controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from steering_core.cells import NONE, Cell
from steering_core.keys import content_key
from steering_core.store import Store

RECOMMENDATIONS_VERSION = 1
MIN_ITEMS = 8
WORKS, WEAK, CHANCE, TOO_FEW = "works", "weak", "no better than random", "too few to tell"

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Score rows by intervention_id and metric, as `scores.summary.summarise` returns them."""


def choose(cells: Sequence[Cell], scores: Scores, max_perplexity_ratio: float) -> Cell:
    """The candidate with the greatest effect among those within the damage bound; the least damaging where none is."""

    def effect(cell: Cell) -> float:
        return _value(scores, cell, "effect", float("-inf"))

    def damage(cell: Cell) -> float:
        return _value(scores, cell, "perplexity_ratio", 1.0)

    within = [cell for cell in cells if damage(cell) <= max_perplexity_ratio]
    return max(within, key=effect) if within else min(cells, key=damage)


def recommend(
    store: Store, chosen: Cell, trial: Sequence[Cell], scores: Scores, max_perplexity_ratio: float, spec_key: str
) -> dict[str, Any]:
    """The recommendation's row, stored: effect and damage on test, the best control's effect, and the verdict.

    *works*: the effect's interval lies above 0 and above that of every control (alpha 0, random, shuffled labels),
    within the damage bound. *no better than random*: it does not rise above the best control. *weak*: in between.
    """
    effect = scores[chosen.intervention_id].get("effect")
    chance = [c for c in trial if c.control in ("random", "shuffled")]
    rivals = [scores[c.intervention_id]["effect"] for c in chance if "effect" in scores.get(c.intervention_id, {})]
    best = max(rivals, key=lambda row: row["value"], default=None)
    ratio = _value(scores, chosen, "perplexity_ratio", float("nan"))
    verdict, reason = _verdict(effect, rivals, ratio, max_perplexity_ratio)
    made_of = [row["score_id"] for row in scores[chosen.intervention_id].values()]
    made_of += [row["score_id"] for row in rivals]
    row = {
        "recommendation_id": content_key("recommendation", RECOMMENDATIONS_VERSION, sorted(made_of), spec_key),
        **chosen.columns(),
        "verdict": verdict,
        "reason": reason,
        "effect": effect["value"] if effect else None,
        "effect_low": effect["ci_low"] if effect else None,
        "effect_high": effect["ci_high"] if effect else None,
        "control_effect": best["value"] if best else None,
        "control_high": max((r["ci_high"] for r in rivals), default=None),
        "perplexity_ratio": ratio,
        "n": effect["n"] if effect else 0,
        "spec_key": spec_key,
    }
    store.append_new("recommendations", [row])
    return row


def _verdict(
    effect: Mapping[str, Any] | None, rivals: Sequence[Mapping[str, Any]], ratio: float, bound: float
) -> tuple[str, str]:
    if effect is None or effect["n"] < MIN_ITEMS:
        n = effect["n"] if effect else 0
        return TOO_FEW, f"{n} held-out test items; at least {MIN_ITEMS} are needed"
    highest = max((row["ci_high"] for row in rivals), default=0.0)
    best = max((row["value"] for row in rivals), default=0.0)
    if effect["value"] <= max(best, 0.0):
        return CHANCE, f"a control moves the items as much ({best:+.3f} nats)"
    if effect["ci_low"] <= max(highest, 0.0):
        return WEAK, f"its interval overlaps the controls' (up to {highest:+.3f} nats)"
    if ratio > bound:
        return WEAK, f"it makes text {ratio:.2f} times as perplexing, beyond {bound:g}"
    return WORKS, f"its interval lies above every control's (up to {highest:+.3f} nats)"


def _value(scores: Scores, cell: Cell, metric: str, default: float) -> float:
    row = scores.get(cell.intervention_id, {}).get(metric)
    return float(row["value"]) if row else default


__all__ = ["CHANCE", "MIN_ITEMS", "NONE", "TOO_FEW", "WEAK", "WORKS", "choose", "recommend"]
