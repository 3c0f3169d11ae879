"""`SafeRange`: up to which dose a vector was measured as safe, and what to say of a dose beyond it, or of none."""

from collections.abc import Sequence
from dataclasses import dataclass

from steering_core.interventions.declarations import USUAL_DOSE

BEGIN_AT = 100 * USUAL_DOSE  # percent
DOSE_OVER_LAYERS = 1.0  # of one name, over all of its layers together; beyond it somebody meant one layer


@dataclass(frozen=True)
class SafeRange:
    """The largest dose at which a recommendation is within the bounds of damage, over all of its layers together.

    `name` is what somebody called the one vector of the recommendation, or the concept's. `residual_norm` is that of
    the layer whose vector carries this; a dose is relative to it. Where no dose was `measured`, `dose` is the most that
    texts bear, and `source_id` may be the vector's key. `unproven` is the recommendation's verdict where that does not
    say that it steers.
    """

    source_id: str
    name: str
    dose: float
    residual_norm: float
    measured: bool = True
    unproven: str | None = None

    @property
    def doubt(self) -> str:
        """What to say of a recommendation whose verdict does not say that it steers; empty for one that does."""
        if self.unproven is None:
            return ""
        return (
            f"the verdict on {self.name} is {self.unproven!r}, so that a change in the text may be chance: "
            "`steer report` says what the verdict rests on"
        )

    def caution(self, dose: float) -> str:
        """What to say of a dose beyond the range: the dose, the range and the remedy."""
        if not self.measured:
            return (
                f"a dose of {dose:.3g} of {self.name} was never measured, and beyond {self.dose:.3g} hardly a text "
                f"survives: begin at {BEGIN_AT:g}%, and let `steer run` or `steer calibrate` find what is safe"
            )
        return (
            f"a dose of {dose:.3g} of {self.name} is beyond {self.dose:.3g}, up to which it was measured as safe: the "
            f"text may fall apart; stay within {100 * self.dose:.3g}%*{self.name}"
        )


def unsaid_strength(name: str, doses: Sequence[float]) -> str:
    """What to say of a name that acts at alpha 1 for want of a strength, at `doses`, one a layer."""
    where = "it acts" if len(doses) == 1 else f"each of its {len(doses)} layers acts"
    of = "the residual stream's norm" if len(doses) == 1 else "the residual stream's norm in all"
    begin = BEGIN_AT / len(doses)
    return (
        f"no strength was given or recommended for {name}, so {where} at alpha 1, which is "
        f"{100 * sum(map(abs, doses)):.3g}% of {of}: begin at {begin:.3g}%*{name}, a dose of {begin / 100:.3g}, and "
        "let `steer run` or `steer calibrate` find what is safe"
    )


def doses_over_layers(name: str, doses: Sequence[float]) -> str:
    """What to say of a name of several layers whose `doses`, one a layer, add up beyond `DOSE_OVER_LAYERS`."""
    return (
        f"{name} acts at {len(doses)} layers, which is {100 * sum(map(abs, doses)):.3g}% of the residual stream's norm "
        f"in all, as each has the whole strength: {begin_over_layers(name, len(doses))}, and let `steer run` or "
        "`steer calibrate` find what is safe"
    )


def begin_over_layers(name: str, n_layers: int) -> str:
    """At which percentage to begin with a name that acts at each of several layers."""
    return f"begin at {BEGIN_AT / n_layers:.3g}%*{name}, a dose of {USUAL_DOSE:g} in all"
