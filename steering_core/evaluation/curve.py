"""Dose and damage: one monotone curve a direction, and the dose at which a damage is met."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

CLOSE = 0.1  # |log(damage / wanted damage)| at which the search for a dose ends
MOST_DOSE = 1.6  # times the layer's mean residual norm; no dose beyond it is proposed
FURTHEST = 4.0  # a curve is trusted up to this many times its greatest measured dose, and down to that part
_GREAT = 1e3  # nats that a damage which is not finite counts as

Damages = Callable[[Sequence[float]], np.ndarray]
"""Damage of every direction at its own dose, (V,) -> (V,) in nats per token; nan counts as beyond any bound."""


@dataclass(frozen=True)
class Curve:
    """Damage of one direction over its dose: its root is linear in the dose between the points that were measured.

    Damage grows with about the square of the dose (measured exponents: 1.7 to 2.5), so its root is nearly a line
    through 0, also where a direction makes text likelier at first and damage is negative. Points are made monotone by
    isotonic regression, since more of a direction is no less damage.
    """

    doses: tuple[float, ...] = ()
    damages: tuple[float, ...] = ()

    def with_point(self, dose: float, damage: float) -> "Curve":
        """The curve with one more measurement."""
        points = sorted({**dict(zip(self.doses, self.damages, strict=True)), dose: damage}.items())
        return Curve(tuple(d for d, _ in points), tuple(g for _, g in points))

    def dose_at(self, damage: float) -> float:
        """The dose at which the curve meets a damage; at most `MOST_DOSE`, and `FURTHEST` times what was measured."""
        x, y, wanted = np.array(self.doses), self._roots(), math.sqrt(max(damage, 0.0))
        if y[0] < wanted < y[-1]:
            return min(float(np.interp(wanted, y + np.arange(len(y)) * 1e-12, x)), MOST_DOSE)
        place = 0 if wanted <= y[0] else -1
        if y[place] <= 0:
            return min(float(x[place]) * FURTHEST, MOST_DOSE)
        share = (wanted - y[place]) / (self._growth(x, y, place) * x[place])
        return min(float(x[place] * np.clip(1 + share, 1 / FURTHEST, FURTHEST)), MOST_DOSE)

    def safe_at(self, damage: float) -> float:
        """The dose at which the curve meets a damage; none beyond what was measured where no damage was found there."""
        dose = self.dose_at(damage)
        return min(dose, self.doses[-1]) if self._roots()[-1] <= 0 else dose

    def damage_at(self, dose: float) -> float:
        """The curve's damage at a dose, in nats per token."""
        x, y = np.array(self.doses), self._roots()
        if x[0] <= dose <= x[-1]:
            root = float(np.interp(dose, x, y))
        else:
            place = 0 if dose < x[0] else -1
            root = float(y[place] + (dose - x[place]) * self._growth(x, y, place))
        return math.copysign(root**2, root)

    def nearest(self, damage: float) -> float:
        """How far the nearest measurement is from `damage`, as a logarithm; inf where none is above 0 and finite."""
        finite = [found for found in self.damages if math.isfinite(found) and found > 0]
        return min((abs(math.log(found / damage)) for found in finite), default=math.inf)

    def _roots(self) -> np.ndarray:
        """Roots of the damages with their signs, in an order that does not fall, (N,)."""
        damages = np.array([damage if math.isfinite(damage) else _GREAT for damage in self.damages])
        roots = np.copysign(np.sqrt(np.abs(damages)), damages)
        if (roots[1:] >= roots[:-1]).all():  # in order already, as thousands of curves of a run are
            return roots
        return np.asarray(scipy.optimize.isotonic_regression(roots).x)

    @staticmethod
    def _growth(x: np.ndarray, y: np.ndarray, place: int) -> float:
        """Slope of the root over dose beyond an end: of the last two points, or before the first the line through 0."""
        through_zero = float(y[place] / x[place])
        if len(x) < 2 or place == 0 or through_zero <= 0:
            return through_zero
        seen = float((y[-1] - y[-2]) / (x[-1] - x[-2]))
        return float(np.clip(seen, through_zero / 2, through_zero * 2))


def curves_to(damages: Damages, first: Sequence[float], wanted: float, rounds: int) -> list[Curve]:
    """Every direction's curve around the dose of damage `wanted`: measured at `first`, then where the curve says.

    At most `rounds` doses of each are measured.
    """
    curves = [Curve() for _ in first]
    doses = [min(dose, MOST_DOSE) for dose in first]
    for _ in range(rounds):
        for i, damage in enumerate(damages(doses)):
            curves[i] = curves[i].with_point(doses[i], float(damage))
        nearest = [curve.nearest(wanted) for curve in curves]
        if max(nearest, default=0.0) <= CLOSE:
            break
        doses = [
            dose if near <= CLOSE else curve.dose_at(wanted)
            for dose, near, curve in zip(doses, nearest, curves, strict=True)
        ]
    return curves


def rounded(dose: float) -> float:
    """A dose rounded down to three digits, so that machines whose last digits differ take the same dose."""
    digits = 2 - math.floor(math.log10(dose))
    return math.floor(dose * 10**digits + 1e-9) / 10**digits
