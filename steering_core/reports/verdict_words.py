"""What is said of a recommendation wherever it is shown: a plain sentence, then the numbers behind it."""

import math
from collections.abc import Sequence
from typing import TypeVar

from rich.text import Text

from steering_core.evaluation.verdicts import CHANCE, TOO_FEW, WEAK
from steering_core.store import Row

T = TypeVar("T")
FAR = 1.2  # a few texts' perplexity ratio beyond this many times the expected one is explained to the reader
_MOST_TIMES = 1000  # beyond which a factor says no more than that it is large
_ROUND_FROM = 0.095  # a dose from which a whole number of percents says enough


def verdict_in_words(row: Row) -> Text:
    """All that is said of a recommendation: the plain sentence in bold, then the numbers and what to do next."""
    return Text.assemble((plain_verdict(row), "bold"), f" {verdict_in_numbers(row)}")


def plain_verdict(row: Row) -> str:
    """A recommendation in one sentence that asks for no statistics: what, where, how strong, what it does."""
    concept, verdict = row["concept"], row["verdict"]
    if verdict in (None, TOO_FEW) or row["effect"] is None:
        return f"{concept}: {TOO_FEW} whether a vector steers it."
    if verdict == CHANCE:
        return f"{concept} is {verdict}{_vector(row)} at {_place(row)}: chance may have done all that was seen."
    if verdict == WEAK:
        against = "but something speaks against relying on it"
        return f"{concept} is {verdict}{_vector(row)} at {_place(row)}: {_moved(row)}, {against}."
    costs = ", at a cost" if row.get("costs") else ""
    return f"{concept} {verdict}{_vector(row)} at {_place(row)}{costs}: {_moved(row)}{_beside_chance(row)}."


def verdict_in_numbers(row: Row) -> str:
    """The numbers behind the plain sentence, the verdict's reason with what to do next, and what it costs."""
    reason = row["reason"] or "no reason is stored"
    if row["effect"] is None:
        return f"{reason[:1].upper()}{reason[1:]}."
    ends = (row["effect_low"], row["effect_high"])
    interval = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    costs = f" It costs: {'; '.join(_there(row['costs']))}." if row.get("costs") else ""
    return (
        f"In numbers: {_strength(row)} moves the propensity of {row['n']} held-out test items by "
        f"{row['effect']:+.3f} nats per token{interval}; {reason}.{costs}{_measured(row)}"
    )


def _vector(row: Row) -> str:
    """` by mine`: the vector of one's own that was recommended; nothing where a method is behind it."""
    return f" by {row['called']}" if row.get("called") not in (None, row["method"]) else ""


def _place(row: Row) -> str:
    """`layer 21 with strength 26 %`, or `layers 15 and 18 together with strength 30 %`."""
    *first, last = [str(layer) for layer in sorted(_there(row["layers"]))] or ["of no known number"]
    layers = f"{', '.join(first)} and {last}" if first else last
    several = bool(first)
    strength = f" with strength {_percent(row['dose'])}" if row["dose"] is not None else ""
    return f"layer{'s' * several} {layers}{' together' * several}{strength}"


def _there(values: Sequence[T | None] | None) -> list[T]:
    """The values of a list in a row that are not null: another program may have written null into the store."""
    return [value for value in values or () if value is not None]


def _percent(dose: float) -> str:
    return f"{100 * dose:.0f} %" if abs(dose) >= _ROUND_FROM else f"{100 * dose:.2g} %"


def _moved(row: Row) -> str:
    """What an effect in nats per token does to the odds of an answer's tokens."""
    of, beside = ("that show it", "that do not") if row["effect"] >= 0 else ("that do not show it", "that do")
    large = abs(row["effect"]) > math.log(_MOST_TIMES)
    times = 0.0 if large else math.exp(abs(row["effect"]))
    said = f"over {_MOST_TIMES:,}" if large else f"{times:.0f}" if times >= 10 else f"{times:.2g}"
    return f"each token of answers {of} becomes {said} times as likely, next to answers {beside}"


def _beside_chance(row: Row) -> str:
    """How many vectors that chance made do as much; nothing where they were not counted."""
    found, odd = _there(row.get("null_effects")), row.get("odd_effect")
    if not found:
        return ""
    own = abs(row["effect"] if odd is None else odd)
    as_good = sum(effect >= own for effect in found)
    return f"; {as_good or 'none'} of {len(found)} vectors made by chance did as much"


def _strength(row: Row) -> str:
    """`mean_difference, alpha 2.56 (dose 0.26, or 26 %)`: what the numbers are of."""
    alpha = f", alpha {row['alpha']:.3g}" if row["alpha"] is not None else ""
    dose = f" (dose {row['dose']:.2f}, or {_percent(row['dose'])})" if row["dose"] is not None else ""
    return f"{row.get('called') or row['method']}{alpha}{dose}"


def _measured(row: Row) -> str:
    """What else a reader should know, each where it was measured: perplexity, how strong is safe, what is missing."""
    said = ""
    if row["perplexity_ratio"] is not None:
        said += f" Its test texts are {row['perplexity_ratio']:.2f} times as perplexing to the untouched model."
        if row.get("expected_ratio") and row["perplexity_ratio"] > FAR * row["expected_ratio"]:
            said += (
                f" By its damage {row['expected_ratio']:.2f} times is to be expected of other texts, which is what the "
                "verdict goes by (expected_ratio)."
            )
    if row.get("safe_dose") is not None:
        ends = (row["dose_low"], row["dose_high"])
        bounds = "max_perplexity_ratio" + " and max_kl" * (ends == (None, None))
        dose = f"{row['safe_dose']:.2f}" + ("" if None in ends else f" [{ends[0]:.2f}, {ends[1]:.2f}]")
        said += (
            f" By the damage on validation its texts are expected to stay within the spec's {bounds} up to "
            f"a dose of {dose}, which is {_percent(row['safe_dose'])}."
        )
    if row.get("ties"):
        said += f" As good on validation: {len(row['ties'])} more (column ties)."
    return said + (f" {row['n_missing']} gave nothing finite to measure." if row["n_missing"] else "")
