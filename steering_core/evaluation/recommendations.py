"""Recommendations: the candidate chosen on validation, reported on test beside its controls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steering_core.candidates.cell import CHANCE_CONTROLS, PROMPT, Cell
from steering_core.foundation.keys import content_key
from steering_core.scores.summary import Scores
from steering_core.statistics.intervals import LEVEL, above_chance
from steering_core.store import Store

RECOMMENDATIONS_VERSION = 5
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
    """The candidate with the largest effect among those whose damage lies within the bounds; else the least damaging.

    The effect counts in the candidate's own direction: a candidate that shall lower the items' propensities has a large
    effect where it lowers them much. Damage is KL and the upper end of the interval of the perplexity ratio, because
    few texts give that ratio (docs/evaluation.md). A ratio from one text has no interval, and is never within.
    """
    within = [cell for cell in cells if _excess(scores, cell, bounds) <= 1]
    if not within:
        return min(cells, key=lambda c: (_excess(scores, c, bounds), _value(scores, c, "perplexity_ratio", math.inf)))
    return max(within, key=lambda cell: cell.way * _value(scores, cell, "effect", -math.inf * cell.way))


def recommend(
    store: Store, chosen: Cell, trial: Sequence[Cell], scores: Scores, bounds: Bounds, spec_key: str
) -> dict[str, Any]:
    """The recommendation's row, stored: effect and damage on test, its controls' effects, and the verdict.

    *works*: it moves the items further than its best control does (corrected p-value), its interval lies above every
    control's (random directions, shuffled labels), and it stays within the damage bounds. *no better than random*: its
    best control moves them about as far, or it lies within what directions without meaning do. *weak*: in between.
    """
    way, mine = chosen.way, scores.get(chosen.intervention_id, {})
    effect, over = _measured(scores, chosen, "effect"), _measured(scores, chosen, "over_controls")
    rivals = [row for c in trial if c.control in CHANCE_CONTROLS and (row := _measured(scores, c, "effect"))]
    towards = _Towards(_along(effect, way) if effect else None, over, [_along(row, way) for row in rivals])
    verdict, reason = _verdict(towards) or _damage_verdict(chosen, towards, scores, bounds)
    prompts = [row for cell in trial if cell.control == PROMPT and (row := _measured(scores, cell, "effect"))]
    made_of = [row["score_id"] for row in (*mine.values(), *rivals, *prompts)]
    row = {
        "recommendation_id": content_key("recommendation", RECOMMENDATIONS_VERSION, sorted(made_of), spec_key),
        **chosen.columns(),
        "verdict": verdict,
        "reason": reason,
        "effect": effect["value"] if effect else None,
        "effect_low": effect["ci_low"] if effect else None,
        "effect_high": effect["ci_high"] if effect else None,
        "control_effect": way * max(row["value"] for row in towards.rivals) if rivals else None,
        "control_high": way * max(row["ci_high"] for row in towards.rivals) if rivals else None,
        "over_controls": over["value"] if over else None,
        "p_value": over["p_value"] if over else None,
        "prompt_effect": prompts[0]["value"] if prompts else None,
        "kl": _value(scores, chosen, "kl", float("nan")),
        "perplexity_ratio": _value(scores, chosen, "perplexity_ratio", float("nan")),
        "n": effect["n"] if effect else 0,
        "n_missing": _missing(scores, chosen),
        "spec_key": spec_key,
    }
    store.append("recommendations", [row])
    return row


@dataclass(frozen=True)
class _Towards:
    """What decides a verdict: the chosen candidate's effect and its controls', positive where they go its way."""

    effect: Row | None
    over: Row | None
    rivals: Sequence[Row]


def _along(row: Row, way: int) -> Row:
    """The row as a candidate sees it that shall move the items that way."""
    ends = {"ci_low": row["ci_low"], "ci_high": row["ci_high"]}
    if way < 0:
        ends = {"ci_low": -row["ci_high"], "ci_high": -row["ci_low"]}
    return {**row, "value": way * row["value"], **ends}


def _verdict(towards: _Towards) -> tuple[str, str] | None:
    """The verdict where the items alone decide it."""
    effect, over, rivals = towards.effect, towards.over, towards.rivals
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


def _damage_verdict(chosen: Cell, towards: _Towards, scores: Scores, bounds: Bounds) -> tuple[str, str]:
    """The verdict on a candidate that does better than its controls."""
    highest = max(row["ci_high"] for row in towards.rivals)
    if towards.effect and towards.effect["ci_low"] <= max(highest, 0):
        return WEAK, f"its interval overlaps the controls' (up to {highest:+.3f} nats)"
    if missing := _missing(scores, chosen):
        return WEAK, f"{missing} of its items, prompts or texts gave nothing finite to measure"
    ratio, kl = (_value(scores, chosen, metric, 0.0) for metric in ("perplexity_ratio", "kl"))
    if not ratio <= bounds.perplexity_ratio:
        return WEAK, f"it makes text {ratio:.2f} times as perplexing, beyond {bounds.perplexity_ratio:g}"
    if not kl <= bounds.kl:
        return WEAK, f"it moves neutral next tokens by {kl:.2f} nats, beyond {bounds.kl:g}"
    return WORKS, f"its interval lies above every control's (up to {highest:+.3f} nats)"


def _noise(rows: Sequence[Row]) -> float:
    """Mean standard error of the rows' values, from their intervals."""
    return sum(row["ci_high"] - row["ci_low"] for row in rows) / len(rows) / 3.92


def _excess(scores: Scores, cell: Cell, bounds: Bounds) -> float:
    """The cell's damage in units of what is allowed, the worst of its metrics; 0 where nothing was measured."""
    if _missing(scores, cell):
        return math.inf
    measured = _measured(scores, cell, "perplexity_ratio")
    highest = measured["ci_high"] if measured else 0.0
    ratio = math.inf if highest is None else highest / bounds.perplexity_ratio
    return max(ratio, _value(scores, cell, "kl", 0.0) / bounds.kl)


def _missing(scores: Scores, cell: Cell) -> int:
    """How many items, neutral prompts or texts gave nothing finite, where most did."""
    return max((row["n_missing"] for row in scores.get(cell.intervention_id, {}).values()), default=0)


def _measured(scores: Scores, cell: Cell, metric: str) -> Row | None:
    """The cell's score, where it has a value."""
    row = scores.get(cell.intervention_id, {}).get(metric)
    return row if row and row["value"] is not None else None


def _value(scores: Scores, cell: Cell, metric: str, default: float) -> float:
    row = _measured(scores, cell, metric)
    return float(row["value"]) if row else default


__all__ = ["CHANCE", "MIN_ITEMS", "TOO_FEW", "WEAK", "WORKS", "Bounds", "Scores", "choose", "recommend"]
