"""Numbers, flags and names of requests, each within bounds. A boolean is no number, and text is neither."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from steering_core.foundation.bounds import MAX_DOSE, possible_dose
from steering_core.foundation.suggestions import did_you_mean
from steering_core.interventions.declarations import OPERATIONS

MOST = 1e6  # of a strength; float32 and every model are beyond themselves long before
MAX_VECTORS = 8  # of a request, that steer, and as many that read along
LEAST = 1e-9  # what is smaller does nothing, or is no float32


def _strength(value: float) -> float:
    if value and abs(value) < LEAST:
        raise ValueError(f"a strength is 0 or at least {LEAST:g}, with either sign")
    return value


def _operation(name: str) -> str:
    if name not in OPERATIONS:
        raise ValueError(f"there is no operation {name[:40]!r}: {did_you_mean(name, OPERATIONS)}")
    return name


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a probe is named twice: once is enough")
    return names


Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Strength = Annotated[Real, Field(ge=-MOST, le=MOST), AfterValidator(_strength)]
DoseField = Annotated[Real, Field(ge=-MAX_DOSE, le=MAX_DOSE), BeforeValidator(possible_dose), AfterValidator(_strength)]
ModelField = Annotated[str, Field(min_length=1, max_length=300)]
OperationName = Annotated[str, AfterValidator(_operation), Field(json_schema_extra={"enum": list(OPERATIONS)})]
VectorField = Annotated[str, Field(min_length=1, max_length=200)]
ProbeNames = Annotated[tuple[VectorField, ...], Field(max_length=MAX_VECTORS), AfterValidator(_each_once)]
Key = Annotated[str, Field(pattern="^[0-9a-f]{20}$")]
