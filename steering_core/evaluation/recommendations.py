"""Recommendations: the candidate chosen on validation, reported on test beside its controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.evaluation.cells import CHANCE_CONTROLS, PROMPT, Cell
from steering_core.keys import content_key
from steering_core.scores.statistics import LEVEL, above_chance
from steering_core.scores.summary import Scores
from steering_core.store import Store

RECOMMENDATIONS_VERSION = 2
MIN_ITEMS = 8
MIN_DEVIATIONS = 2.0
WORKS, WEAK, CHANCE, TOO_FEW = "works", "weak", "no better than random", "too few to tell"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bounds:
    """The damage that a recommended vector may do."""

    perplexity_ratio: float
    kl: float


def choose(cells: Sequence[Cell], scores: Scores, bounds: Bounds) -> Cell:
    """The candidate with the greatest effect among those within the damage bounds; the least damaging where none is."""
    within = [cell for cell in cells if _excess(scores, cell, bounds) <= 1]
    if not within:
        return min(cells, key=lambda cell: _excess(scores, cell, bounds))
    return max(within, key=lambda cell: _value(scores, cell, "effect", float("-inf")))


def recommend(
    store: Store, chosen: Cell, trial: Sequence[Cell], scores: Scores, bounds: Bounds, spec_key: str
) -> dict[str, Any]:
    """The recommendation's row, stored: effect and damage on test, its controls' effects, and the verdict.

    *works*: it moves the items further than its best control does (corrected p-value), its interval lies above every
    control's (random directions, shuffled labels), and it stays within the damage bounds. *no better than random*: its
    best control moves them about as far, or it lies within what directions without meaning do. *weak*: in between.
    """
    mine = scores.get(chosen.intervention_id, {})
    effect, over = mine.get("effect"), mine.get("over_controls")
    rivals = [row for cell in trial if cell.control in CHANCE_CONTROLS and (row := _effect(scores, cell))]
    verdict, reason = _verdict(effect, over, rivals) or _damage_verdict(chosen, scores, bounds, rivals)
    prompts = [row for cell in trial if cell.control == PROMPT and (row := _effect(scores, cell))]
    made_of = [row["score_id"] for row in (*mine.values(), *rivals, *prompts)]
    row = {
        "recommendation_id": content_key("recommendation", RECOMMENDATIONS_VERSION, sorted(made_of), spec_key),
        **chosen.columns(),
        "verdict": verdict,
        "reason": reason,
        "effect": effect["value"] if effect else None,
        "effect_low": effect["ci_low"] if effect else None,
        "effect_high": effect["ci_high"] if effect else None,
        "control_effect": max((row["value"] for row in rivals), default=None),
        "control_high": max((row["ci_high"] for row in rivals), default=None),
        "over_controls": over["value"] if over else None,
        "p_value": over["p_value"] if over else None,
        "prompt_effect": prompts[0]["value"] if prompts else None,
        "kl": _value(scores, chosen, "kl", float("nan")),
        "perplexity_ratio": _value(scores, chosen, "perplexity_ratio", float("nan")),
        "n": effect["n"] if effect else 0,
        "spec_key": spec_key,
    }
    store.append("recommendations", [row])
    return row


def _verdict(effect: Row | None, over: Row | None, rivals: Sequence[Row]) -> tuple[str, str] | None:
    """The verdict where the items alone decide it."""
    if effect is None or effect["n"] < MIN_ITEMS:
        return TOO_FEW, f"{effect['n'] if effect else 0} held-out test items; at least {MIN_ITEMS} are needed"
    if over is None:
        return WEAK, "no controls were run, so nothing says that another vector would not have done the same"
    best = max(row["value"] for row in rivals)
    if effect["value"] <= 0:
        return CHANCE, f"it does not move the items its way ({effect['value']:+.3f} nats)"
    if over["value"] <= 0 or over["p_value"] >= 1 - LEVEL:
        return CHANCE, f"a control moves the items about as far ({best:+.3f} nats; corrected p = {over['p_value']:.2g})"
    deviations = above_chance(effect["value"], [row["value"] for row in rivals], _noise(rivals))
    if deviations < MIN_DEVIATIONS:
        return CHANCE, f"it lies {deviations:.1f} standard deviations above directions without meaning"
    return None


def _damage_verdict(chosen: Cell, scores: Scores, bounds: Bounds, rivals: Sequence[Row]) -> tuple[str, str]:
    """The verdict on a vector that does better than its controls."""
    highest = max(row["ci_high"] for row in rivals)
    if _value(scores, chosen, "effect", 0.0) and scores[chosen.intervention_id]["effect"]["ci_low"] <= max(highest, 0):
        return WEAK, f"its interval overlaps the controls' (up to {highest:+.3f} nats)"
    ratio, kl = (_value(scores, chosen, metric, 0.0) for metric in ("perplexity_ratio", "kl"))
    if not ratio <= bounds.perplexity_ratio:
        return WEAK, f"it makes text {ratio:.2f} times as perplexing, beyond {bounds.perplexity_ratio:g}"
    if not kl <= bounds.kl:
        return WEAK, f"it moves neutral next tokens by {kl:.2f} nats, beyond {bounds.kl:g}"
    return WORKS, f"its interval lies above every control's (up to {highest:+.3f} nats)"


def _noise(rows: Sequence[Row]) -> float:
    """Mean standard error of the rows' values, from their intervals."""
    return sum(row["ci_high"] - row["ci_low"] for row in rows) / len(rows) / 3.92


def _effect(scores: Scores, cell: Cell) -> Row | None:
    return scores.get(cell.intervention_id, {}).get("effect")


def _excess(scores: Scores, cell: Cell, bounds: Bounds) -> float:
    """The cell's damage in units of what is allowed, the worst of its metrics; 0 where nothing was measured."""
    ratio = _value(scores, cell, "perplexity_ratio", 0.0) / bounds.perplexity_ratio
    return max(ratio, _value(scores, cell, "kl", 0.0) / bounds.kl)


def _value(scores: Scores, cell: Cell, metric: str, default: float) -> float:
    row = scores.get(cell.intervention_id, {}).get(metric)
    return float(row["value"]) if row else default


__all__ = ["CHANCE", "MIN_ITEMS", "TOO_FEW", "WEAK", "WORKS", "Bounds", "Scores", "choose", "recommend"]
