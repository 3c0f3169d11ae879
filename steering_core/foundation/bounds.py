"""Bounds: the least and the most of every number that comes in, in a spec, a concept file or an option.

They lie well beyond what anybody has found useful. What lies outside is a slip, and would cost days or all memory.
"""

import contextlib
import math
import numbers
import operator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from steering_core.foundation.errors import InterventionError, LayerNotFound, SteerflowError
from steering_core.foundation.keys import MAX_SEED

MAX_LAYER = 9_999
MAX_LAYERS = 1_000  # in one list
MAX_NAMES = 1_000  # models, concepts, methods or metrics in one list
MAX_NAME = 4_096  # letters of a name or path; no file system takes more
MAX_STRENGTHS = 100  # in one grid
MAX_DOSE = 10.0  # times the layer's mean residual norm
MAX_ALPHA = 1e9
DOSE_OF_SLIPS = 2.0  # beyond it no text survives, so that an alpha is asked whether it lacks its percent sign
PERCENTAGES = 5.0  # the least whole alpha that is asked so
LEAST_STRENGTH = 1e-6  # what is smaller changes nothing in float32
MAX_EXPRESSIONS = 100
MAX_EXPRESSION = 2_000  # letters
MAX_PROMPTS = 1_000  # that texts are sampled for, or damage is measured on
MAX_SAMPLES = 100  # texts of one prompt
MAX_NEW_TOKENS = 8_192  # of one text
MAX_TEMPERATURE = 5.0
MAX_CONTROLS = 100
MAX_BOOTSTRAP = 20_000  # draws; all of them are held in memory at once
MAX_REDRAWS = 10_000  # of training pairs
MAX_SHOWN = 10_000  # rows that one command prints
MAX_DIRECTIONS = 1_000  # that one discovery finds
MAX_KL = 100.0  # nats


@dataclass(frozen=True)
class Within:
    """Annotates a number that is finite and from `low` to `high`, both included. true and false are no numbers."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        if source is int:
            number: CoreSchema = core_schema.int_schema(ge=int(self.low), le=int(self.high))
        else:
            number = core_schema.float_schema(ge=self.low, le=self.high, allow_inf_nan=False)
        return core_schema.no_info_before_validator_function(no_boolean, number)


def checked_layer(layer: Any) -> int:
    """A layer's number; NumPy's integers count. Raises LayerNotFound for a fraction, a text or a truth value."""
    try:
        if not isinstance(layer, bool):
            return operator.index(layer)
    except TypeError:
        pass
    raise LayerNotFound(f"layer {layer!r} is no whole number: give 0 for the first block, 1 for the next, …")


def whole_number(value: Any, name: str, error: type[SteerflowError], least: int, most: int | None = None) -> int:
    """A whole number of what `name` says; NumPy's integers count.

    Raises `error` for a fraction, a text or a truth value, and outside of `least` .. `most`.
    """
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least or (most is not None and found > most):
        raise error(f"{name} is {value!r}: give a whole number from {least} {'on' if most is None else f'to {most}'}")
    return found


def checked_dose(dose: float) -> float:
    """The dose, unless it is beyond `MAX_DOSE`. Raises InterventionError, which asks whether percent were meant."""
    if isinstance(dose, bool) or not isinstance(dose, numbers.Real):
        raise InterventionError(f"a dose of {dose!r} is no number: give the share of the stream's norm, 0.3 for 30%")
    if abs(dose) <= MAX_DOSE:
        return dose
    if not math.isfinite(dose):
        raise InterventionError(f"a dose of {dose} is no number: give a finite one")
    asks = f": did you mean {dose:g}%, which is a dose of {dose / 100:g}?" if abs(dose) <= 100 * MAX_DOSE else ""
    what = f"a dose of {dose:g} is {abs(dose):g} times the mean residual norm of a layer"
    raise InterventionError(f"{what}, and {MAX_DOSE:g} is the most{asks}")


def dose_in(text: str) -> float:
    """The dose that somebody wrote: `0.3`, or `30%`. Raises ValueError for no number, and as `checked_dose` does."""
    return checked_dose(_written_dose(text))


def _written_dose(text: str) -> float:
    """The number in a text such as `0.3`, or `30%`, which is 0.3. Raises ValueError for anything else."""
    number = text.strip()
    try:
        return float(number.removesuffix("%")) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise ValueError(f"{text!r} is no dose: write 0.3 or 30%") from None


def checked_alpha(alpha: float, dose: float) -> float:
    """The alpha, unless its `dose` is beyond `MAX_DOSE`, or it looks like a percentage without its percent sign.

    Raises InterventionError, which says the dose and how to write what was meant. A dose that is not finite, of a
    layer whose residual norm nobody measured, says nothing and passes.
    """
    slip = abs(alpha) >= PERCENTAGES and alpha % 1 == 0 and abs(dose) > DOSE_OF_SLIPS
    if not math.isfinite(dose) or not (slip or abs(dose) > MAX_DOSE):
        return alpha
    what = f"alpha {alpha:g} is a dose of {dose:.3g}, {abs(dose):.3g} times the mean residual norm of its layer"
    asks = f"did you mean {alpha:g}%, which is a dose of {alpha / 100:g}?" if slip and abs(alpha) <= 100 else ""
    remedy = f"If it is meant, write it as a dose: {100 * dose:.3g}%."
    if abs(dose) > MAX_DOSE:
        remedy = f"A dose of {MAX_DOSE:g} is the most."
    raise InterventionError(f"{what}: {asks} {remedy}" if asks else f"{what}. {remedy}")


def possible_dose(value: Any) -> Any:
    """The value, and for a text such as `30%` its dose.

    Raises ValueError for a number beyond every dose, which asks whether percent were meant.
    """
    if isinstance(value, str) and "%" in value:
        with contextlib.suppress(ValueError):  # no number before the sign: told as any other text is
            value = _written_dose(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        try:
            checked_dose(value)
        except InterventionError as error:
            raise ValueError(str(error)) from None
    return value


def strong_enough(strength: float) -> float:
    """The strength, unless it is too small to be felt; then ValueError."""
    if 0 < abs(strength) < LEAST_STRENGTH:
        raise ValueError(f"a strength of {strength:g} changes nothing: give at least {LEAST_STRENGTH:g}")
    return strength


def no_boolean(value: Any) -> Any:
    """The value, unless it is true or false, which Python counts as 1 and 0; then ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


Seed = Annotated[int, Within(0, MAX_SEED)]
Layer = Annotated[int, Within(0, MAX_LAYER)]
MaxTokens = Annotated[int, Within(1, MAX_NEW_TOKENS)]
Temperature = Annotated[float, Within(0, MAX_TEMPERATURE)]
