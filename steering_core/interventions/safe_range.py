"""`SafeRange`: up to which dose a vector was measured as safe, and what to say of a dose beyond it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SafeRange:
    """The largest dose at which a recommendation is within the bounds of damage, over all of its layers together.

    `name` is the concept's. `residual_norm` is that of the layer whose vector carries this; a dose is relative to it.
    Where nothing was `measured`, `source_id` is the vector's key, not a recommendation's, and `dose` the most that
    texts bear.
    """

    source_id: str
    name: str
    dose: float
    residual_norm: float
    measured: bool = True

    def caution(self, dose: float) -> str:
        """What to say of a dose beyond the range: the dose, the range and the remedy."""
        if not self.measured:
            return (
                f"a dose of {dose:.3g} of {self.name} was never measured, and beyond {self.dose:.3g} hardly a text "
                "survives: begin at 30%, and let `steer run` or `steer calibrate` find what is safe"
            )
        return (
            f"a dose of {dose:.3g} of {self.name} is beyond {self.dose:.3g}, up to which it was measured as safe: the "
            f"text may fall apart; stay within {100 * self.dose:.3g}%*{self.name}"
        )
