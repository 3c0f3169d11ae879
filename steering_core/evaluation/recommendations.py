"""Recommendations: the candidate chosen on validation, reported on test beside what chance does, with a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steering_core.candidates.cell import CHANCE_CONTROLS, NONE, PROMPT, WITH_PROMPT, Cell
from steering_core.evaluation.bounds import Bounds
from steering_core.evaluation.chance import Chance
from steering_core.evaluation.choice import Choice
from steering_core.evaluation.costs import costs_of
from steering_core.evaluation.damage import expected_ratio, log_ratio
from steering_core.evaluation.forms import Forms
from steering_core.evaluation.side_effects import Matrix
from steering_core.evaluation.verdicts import CHANCE, TOO_FEW, WEAK, WORKS
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import counted
from steering_core.scores.summary import ODD, Scores
from steering_core.statistics.intervals import LEVEL, standard_error
from steering_core.statistics.metric_names import JUDGED, changes
from steering_core.store import Row, Store
from steering_core.vectors.relabelling import Relabellings

RECOMMENDATIONS_VERSION = 8
MIN_ITEMS = 8
SHOWN_BY = ("judge", "judge_concept", "probe", "words")
"""Metrics of how far a text shows the concept; the first that tells the texts apart is reported."""


@dataclass(frozen=True)
class OtherChanges:
    """What else a candidate changes: items of other concepts, and capability sets; empty where nothing was measured.

    `capabilities` are rows of the view `capabilities`.
    """

    side_effects: Matrix = field(default_factory=Matrix)
    capabilities: Sequence[Row] = ()


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on: the choice, its scores and its rivals' on test, chance, and the items' forms.

    `others` does not change the verdict. A drop of accuracy on a capability set surely beyond `max_drop` is a cost.
    """

    choice: Choice
    scores: Scores
    chance: Chance | None
    forms: Forms
    bounds: Bounds
    others: OtherChanges = field(default_factory=OtherChanges)
    max_drop: float = 1.0

    @property
    def chosen(self) -> Cell:
        """The chosen candidate."""
        return self.choice.trial.chosen

    def of(self, cell: Cell, metric: str) -> Row | None:
        """A cell's score, where it has a value."""
        row = self.scores.get(cell.intervention_id, {}).get(metric)
        return row if row and row["value"] is not None else None

    def value(self, metric: str) -> float | None:
        """The chosen candidate's score."""
        row = self.of(self.chosen, metric)
        return float(row["value"]) if row else None

    @property
    def effect(self) -> Row | None:
        """The effect that decides the verdict: the odd effect, times the candidate's sign."""
        row = self.of(self.chosen, ODD) or self.of(self.chosen, "effect")
        return _along(row, self.chosen.sign) if row else None

    @property
    def rivals(self) -> list[Row]:
        """Effects of the candidate's chance controls, times the candidate's sign."""
        cells = [cell for cell in self.choice.trial.cells if cell.control in CHANCE_CONTROLS]
        return [_along(row, self.chosen.sign) for cell in cells if (row := self.of(cell, "effect"))]

    def effect_of(self, control: str) -> float | None:
        """The effect of the first control of that kind, such as the system prompt; None where it was not measured."""
        found = [self.of(cell, "effect") for cell in self.choice.trial.cells if cell.control == control]
        return next((float(row["value"]) for row in found if row), None)

    @property
    def missing(self) -> int:
        """The most subjects of one metric that gave no finite value; a judge's missing ratings do not count.

        Nor do those of a change: what the steered model lacks is missing in the metric itself, and what the unsteered
        one lacks is not the candidate's fault.
        """
        scored, beside = self.scores.get(self.chosen.intervention_id, {}), {*JUDGED, *changes().values()}
        return max((row["n_missing"] for metric, row in scored.items() if metric not in beside), default=0)

    @property
    def expected_ratio(self) -> float | None:
        """The perplexity ratio to expect of the candidate's texts, from its texts on test and from its damage there."""
        texts, damage = self.of(self.chosen, "perplexity_ratio"), self.value("damage")
        if damage is None:
            return self.value("perplexity_ratio")
        seen = None
        if texts and texts["ci_high"]:
            mean, high = math.log(texts["value"]), math.log(texts["ci_high"])
            seen = log_ratio(mean, standard_error(mean, high, texts["n"]), texts["n"])
        return expected_ratio(damage, self.choice.slope, seen)

    def shown(self) -> tuple[str, float, float] | None:
        """How far the texts show the concept: by which metric, without steering, and with it."""
        unsteered = next((cell for cell in self.choice.trial.cells if cell.control == NONE), None)
        for metric in SHOWN_BY:
            before = self.of(unsteered, metric) if unsteered else None
            after = self.of(self.chosen, metric)
            if before and after and before["value"] != after["value"]:
                return metric, float(before["value"]), float(after["value"])
        return None


def recommend(store: Store, evidence: Evidence, spec_key: str) -> dict[str, Any]:
    """Store the recommendation: effect and damage on test, what chance does, and the verdict; its row.

    *works*: the candidate's odd effect exceeds what 95 % of the searches among permuted labels find, and is surely
    above 0; its texts do not show less of the concept; it stays within the damage bounds. *no better than random*:
    chance does as much. *weak*: in between.
    """
    chosen, choice, chance = evidence.chosen, evidence.choice, evidence.chance
    verdict, reason = verdict_of(evidence)
    if verdict in (WORKS, WEAK):
        reason += evidence.others.side_effects.said(chosen)
    rivals, shown, sign = evidence.rivals, evidence.shown(), chosen.sign
    plain, odd, over = (evidence.of(chosen, metric) for metric in ("effect", ODD, "over_controls"))
    made_of = [row["score_id"] for metrics in evidence.scores.values() for row in metrics.values()]
    made_of += [*evidence.others.side_effects.ids, *(row["capability_id"] for row in evidence.others.capabilities)]
    row = {
        "recommendation_id": content_key("recommendation", RECOMMENDATIONS_VERSION, sorted(made_of), spec_key),
        **chosen.columns(),
        "verdict": verdict,
        "reason": reason,
        **_ends("effect", plain),
        **_ends("odd_effect", odd),
        "control_effect": sign * max(row["value"] for row in rivals) if rivals else None,
        "control_high": sign * max(_high(row) for row in rivals) if rivals else None,
        "over_controls": over["value"] if over else None,
        "p_value": chance.p_value if chance else None,
        "null_effects": list(chance.effects) if chance else [],
        "selectivity": evidence.others.side_effects.selectivity(chosen),
        "prompt_effect": evidence.effect_of(PROMPT),
        "with_prompt_effect": evidence.effect_of(WITH_PROMPT),
        "kl": evidence.value("kl"),
        "damage": evidence.value("damage"),
        "perplexity_ratio": evidence.value("perplexity_ratio"),
        "expected_ratio": evidence.expected_ratio,
        "safe_dose": choice.safe_dose,
        "dose_low": choice.dose_low,
        "dose_high": choice.dose_high,
        "shown_by": shown[0] if shown else None,
        "shown_before": shown[1] if shown else None,
        "shown_after": shown[2] if shown else None,
        "ties": [cell.expression for cell in choice.ties],
        "costs": costs_of(evidence.others.capabilities, evidence.max_drop),
        "n": plain["n"] if plain else 0,
        "n_missing": evidence.missing,
        "spec_key": spec_key,
    }
    store.append("recommendations", [row])
    return row


def verdict_of(evidence: Evidence) -> tuple[str, str]:
    """The verdict, and its reason in a sentence that ends in what to do next where that is known."""
    return _by_items(evidence) or _by_texts(evidence) or _works(evidence)


def lack_of_items(n: int) -> str:
    """That `n` held-out test items are too few for any verdict, and how many to add; empty where they are not."""
    if n >= MIN_ITEMS:
        return ""
    more = counted(MIN_ITEMS - n, "item")
    return f"{n} held-out test items; at least {MIN_ITEMS} are needed: add {more} to the test split"


def lack_of_labels(ways: Relabellings) -> str:
    """That too few training rows can be labelled in too few ways for any verdict, and what to add; empty where not.

    A p-value is a rank among the ways to label the rows. Five pairs have 32 ways, three unpaired texts a side 20.
    """
    enough = math.ceil(1 / (1 - LEVEL) - 1e-9)
    if ways.n_ways >= enough:
        return ""
    many, least = f"can be labelled in {counted(ways.n_ways, 'way')}", f"allow no p-value below {1 / ways.n_ways:.2g}"
    if ways.paired:
        more = counted(math.ceil(math.log2(enough)) - ways.n_positive, "pair")
        return f"{counted(ways.n_positive, 'training pair')} {many}, which {least}: add {more} to the training split"
    sides = f"{ways.n_positive} positive and {counted(ways.n_negative, 'negative training text')}"
    return f"{sides} {many}, which {least}: add texts to the training split"


def _lack_of_draws(chance: Chance) -> str:
    """That so few null effects allow no verdict, and what to raise."""
    n = counted(len(chance.effects), "null effect")
    raised = "raise scores.draws or, for trained methods, vectors.controls"
    return f"{n} {'allows' if len(chance.effects) == 1 else 'allow'} no p-value below {chance.least_p:.2g}: {raised}"


def _by_items(evidence: Evidence) -> tuple[str, str] | None:
    """The verdict where the items alone decide it."""
    effect, chance = evidence.effect, evidence.chance
    if effect is None or effect["n"] < MIN_ITEMS:
        return TOO_FEW, lack_of_items(effect["n"] if effect else 0)
    if chance is None:
        return WEAK, "nothing was measured that says what chance does, so another vector might have done the same"
    if chance.least_p > 1 - LEVEL:
        return TOO_FEW, (chance.ways and lack_of_labels(chance.ways)) or _lack_of_draws(chance)
    if effect["value"] <= 0:
        return CHANCE, f"it does not move the items in the wanted direction ({effect['value']:+.3f} nats)"
    if chance.p_value > 1 - LEVEL:
        return CHANCE, f"its odd effect is {_in_nats(effect)}, and {_as_much(effect['value'], chance)}"
    if effect["ci_low"] is None or effect["ci_low"] <= 0:
        return CHANCE, f"its effect is not surely above 0 (from {_number(effect['ci_low'])} nats)"
    if conflict := evidence.forms.conflict():
        return WEAK, conflict
    return None


def _in_nats(effect: Row) -> str:
    """`+0.660 nats [0.521, 0.800]`: a score and its interval, where it has one."""
    ends = effect["ci_low"], effect["ci_high"]
    return f"{effect['value']:+.3f} nats" + ("" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def _as_much(effect: float, chance: Chance) -> str:
    """What chance does beside an effect that it may have brought about: as much, or nearly as much in a few draws."""
    if not chance.effects:
        return f"{chance.among} find as much (no draws; p = {chance.p_value:.2g})"
    n, best = len(chance.effects), chance.effects[0]
    if best >= effect:
        return f"{chance.among} find as much (the best of {n} does {best:+.3f} nats; p = {chance.p_value:.2g})"
    return (
        f"{n} {chance.among} find at most {best:+.3f} nats: so few, and so near it, leave p = {chance.p_value:.2g}; "
        "more of them may tell it from chance (scores.draws)"
    )


def _by_texts(evidence: Evidence) -> tuple[str, str] | None:
    """The verdict on a candidate that does better than chance, where its damage or its texts speak against it."""
    bounds, shown = evidence.bounds, evidence.shown()
    if evidence.missing:
        return WEAK, f"{evidence.missing} of its items, prompts or texts gave nothing finite to measure"
    ratio, kl = evidence.expected_ratio, evidence.value("kl")
    if ratio is not None and not ratio <= bounds.perplexity_ratio:
        return WEAK, f"it makes text {ratio:.2f} times as perplexing, beyond {bounds.perplexity_ratio:g}"
    if kl is not None and not kl <= bounds.kl:
        return WEAK, f"it moves neutral next tokens by {kl:.2f} nats, beyond {bounds.kl:g}"
    if shown and evidence.chosen.sign * (shown[2] - shown[1]) < 0:
        return WEAK, f"its texts show less of the concept, not more ({shown[0]} {shown[1]:.2f} to {shown[2]:.2f})"
    return None


def _works(evidence: Evidence) -> tuple[str, str]:
    """The verdict on a candidate that nothing speaks against, and how it compares with chance and the system prompt."""
    chance, effect = evidence.chance, evidence.effect
    assert chance is not None, "decided before"
    assert effect is not None, "decided before"
    best = f"{chance.effects[0]:+.3f} nats" if chance.effects and math.isfinite(chance.effects[0]) else "nothing"
    said = (
        f"its odd effect is {_in_nats(effect)}, and {len(chance.effects)} {chance.among} find "
        f"at most {best} (p = {chance.p_value:.2g})"
    )
    prompt, both, sign = evidence.effect_of(PROMPT), evidence.effect_of(WITH_PROMPT), evidence.chosen.sign
    if prompt is not None and sign * prompt > effect["value"]:
        said += f"; the system prompt alone does more ({prompt:+.3f} nats)"
        if both is not None:
            together = "and most with the vector" if sign * both > sign * prompt else "with the vector no more"
            said += f", {together} ({both:+.3f})"
    return WORKS, said


def _along(row: Row, sign: int) -> Row:
    """The score's row with its value and interval times `sign`."""
    low, high = row["ci_low"], row["ci_high"]
    if sign < 0:
        low, high = (None if end is None else -end for end in (high, low))
    return {**row, "value": sign * row["value"], "ci_low": low, "ci_high": high}


def _ends(name: str, row: Row | None) -> dict[str, Any]:
    """A score as three columns."""
    found = row or {"value": None, "ci_low": None, "ci_high": None}
    return {name: found["value"], f"{name}_low": found["ci_low"], f"{name}_high": found["ci_high"]}


def _high(row: Row) -> float:
    return float(row["value"] if row["ci_high"] is None else row["ci_high"])


def _number(value: float | None) -> str:
    return "no interval" if value is None else f"{value:+.3f}"
