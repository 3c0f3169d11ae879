"""Models by name, steered: `smollm2-135m+formality:30%` for clients that can set nothing but the model.

After each plus stands a vector of the library, with its strength after a colon: a share of the layer's residual norm
(`30%`) or a multiple of the vector (`1.5`). Without one it is as strong as in an expression: as recommended, or 1 where
nothing was. Several are added: `smollm2-135m+formality:30%+sentiment:-0.5`.
"""

import re
from collections.abc import Container, Iterable
from typing import Any

from steering_core.explorer.planned import PlannedSteering
from steering_core.foundation.errors import ModelNotFound
from steering_core.interventions.declarations import USUAL_DOSE
from steering_core.interventions.expression import Amount

USUAL = str(Amount.of_dose(USUAL_DOSE))
_STRENGTH = re.compile(r"-?(\d+(\.\d*)?|\.\d+)%?")


def steered_name(name: str, known: Container[str], steering: PlannedSteering) -> tuple[str, PlannedSteering]:
    """The model in `name`, and `steering` with the vectors in it. Raises ModelNotFound for a strength that is none."""
    if name in known or "+" not in name:
        return name, steering
    model, parts = _split(name, known)
    terms = [_term(name, part) for part in parts]
    expressions = [*terms, *([steering.expression] if steering.expression else [])]
    return model, steering.model_copy(update={"expression": "; ".join(expressions)})


def _split(name: str, known: Container[str]) -> tuple[str, list[str]]:
    """The longest beginning of `name` that is a model's, and what follows it, plus by plus."""
    parts = name.split("+")
    for end in range(len(parts) - 1, 0, -1):
        if (model := "+".join(parts[:end])) in known:
            return model, parts[end:]
    return parts[0], parts[1:]


def _term(name: str, part: str) -> str:
    vector, colon, strength = part.rpartition(":")
    if part and not colon:
        return part
    if not vector or not _STRENGTH.fullmatch(strength):
        raise ModelNotFound(
            f"the model {name!r} names no strength in {part!r}: write MODEL+VECTOR:STRENGTH, as in "
            "smollm2-135m+formality:30%, or MODEL+VECTOR for the recommended strength"
        )
    minus = strength.startswith("-")
    return f"{'-' if minus else ''}{strength.removeprefix('-')}*{vector}"


def listed(models: Iterable[str], vectors: Iterable[dict[str, Any]]) -> list[str]:
    """Every name that a client may be shown: the models, and each with each of its vectors at its recommended dose."""
    of_model: dict[str, list[str]] = {}
    for row in vectors:
        dose = f"{100 * row['dose']:.3g}%" if row["dose"] else USUAL
        of_model.setdefault(row["model"], []).append(f"{row['model']}+{row['vector']}:{dose}")
    return [name for model in models for name in (model, *of_model.get(model, ()))]
