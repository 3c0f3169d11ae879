"""`Vector`: a direction in one layer's residual stream, and everything that says which one."""

import json
import logging
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steering_core.activations.in_memory import activations_of
from steering_core.concepts import neutral_prompts
from steering_core.foundation.bounds import DOSE_OF_SLIPS, checked_layer
from steering_core.foundation.errors import InterventionError, VectorError, VectorMismatch
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import counted
from steering_core.interventions.change import Change, Intervention, Phase, Where
from steering_core.interventions.declarations import ADD
from steering_core.interventions.safe_range import SafeRange
from steering_core.models import Model, ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.prompts import Prompt, prompt
from steering_core.vectors.allowed_names import check_allowed
from steering_core.vectors.real_numbers import real_numbers

log = logging.getLogger(__name__)
PROJECT = "project"  # the operation, in a lineage, of a vector that a file declares to be taken out of the stream
ALGEBRA_VERSION = 1
_STRENGTH_CHOSEN = ("scaled", "blended")  # methods of vectors whose own length says how strong they are meant to be
NORM_PROMPTS = 16  # neutral prompts on which a layer's mean residual norm is measured


@dataclass(frozen=True, repr=False)
class Vector:
    """A steering vector: `direction` (D,) float32 for the residual stream after 0-based block `layer` of one model.

    `control` is None for a vector that a method found; otherwise it is the kind of control: `random`, `shuffled` or
    `permuted`. `position` says at which tokens the activations were read, `n_pairs` how many pairs the vector comes
    from, and `lineage` what made it: `derived` from activations, an operation of `algebra` on other vectors, or an
    import. `recommended` is the recommended alpha, set where the vector was looked up by a name that has a
    recommendation. `safe` is the range of doses that the latest recommendation with this vector found safe. `name` is
    what somebody called the vector, or its concept. The direction is a copy that cannot be written to, since the key
    stands for it.
    """

    vector_id: str
    model_id: str
    concept_id: str | None
    method: str
    layer: int
    residual_norm: float
    control: str | None = None
    seed: int | None = None
    direction: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.zeros(0, np.float32))
    architecture: str | None = None
    site: str = "resid_post"
    position: str = "last"
    n_pairs: int = 0
    lineage: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    gates: dict[str, float] = field(default_factory=dict, repr=False, compare=False)  # threshold over mean, over token
    recommended: float | None = field(default=None, repr=False, compare=False)
    safe: SafeRange | None = field(default=None, repr=False, compare=False)
    name: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        direction = np.array(self.direction, np.float32)
        direction.flags.writeable = False
        object.__setattr__(self, "direction", direction)
        object.__setattr__(self, "layer", checked_layer(self.layer))

    @property
    def cautioned_beyond(self) -> SafeRange | None:
        """The doses of which nobody is warned: those measured as safe, or those that a text may bear at all.

        None where neither is known, as the residual norm is not.
        """
        if self.safe is not None or not (math.isfinite(self.residual_norm) and self.residual_norm > 0):
            return self.safe
        return SafeRange(self.vector_id, self.name or self.vector_id, DOSE_OF_SLIPS, self.residual_norm, measured=False)

    @property
    def own_name(self) -> str | None:
        """What somebody called a vector that is of no concept."""
        return self.name if self.concept_id is None else None

    @property
    def usual_alpha(self) -> float:
        """The multiplier where nobody says one: the recommended alpha, or 1."""
        return 1.0 if self.recommended is None else self.recommended

    @property
    def lacks_strength(self) -> bool:
        """Whether alpha 1 is nobody's choice: nothing was recommended, and it is no multiple or sum of others."""
        return self.recommended is None and self.method not in _STRENGTH_CHOSEN

    @property
    def in_float64(self) -> np.ndarray:
        """The direction for arithmetic, (D,) float64."""
        return self.direction.astype(np.float64)

    @property
    def norm(self) -> float:
        """Length of the direction."""
        return float(np.linalg.norm(self.in_float64))

    @property
    def derived(self) -> bool:
        """Whether a method made the vector from a concept's pairs or texts in the store."""
        return self.concept_id is not None and self.lineage.get("made") == "derived"

    @classmethod
    def from_numpy(
        cls, model: Model, direction: Any, layer: int, name: str | None = None, residual_norm: float | None = None
    ) -> "Vector":
        """A direction (D,) of your own, such as a classifier's weights, as a vector for `layer` of `model`.

        `name` is what `save_vector` calls it. `residual_norm`, to which doses are relative, is measured on neutral
        prompts unless it is given. Raises VectorError for what does not fit the model (another width, a layer that is
        not there, nan, zero), a name that vectors cannot have, and a `residual_norm` that is not above 0.
        """
        if name is not None:
            check_allowed(name)
        if residual_norm is not None and not residual_norm > 0:
            raise VectorError(f"residual_norm is {residual_norm!r}: give a number above 0, or leave it out")
        values = real_numbers(direction)
        found = cls(
            vector_id="",
            model_id=model.identity.model_id,
            concept_id=None,
            method="given",
            layer=layer,
            residual_norm=residual_norm or 1.0,
            direction=values.reshape(-1) if values.shape in ((1, values.size), (values.size, 1)) else values,
            architecture=model.identity.architecture,
            position="unknown",
            lineage={"made": "given", "name": name},
            name=name,
        )
        found.check_fit(model.name, model.identity.n_layers, model.identity.width)
        found = found.keyed()
        if residual_norm is not None:
            return found
        _, norms = activations_of(model, norm_prompts(model), [layer], "last")  # (N, 1)
        return replace(found, residual_norm=float(norms.mean(dtype=np.float64)))

    def keyed(self) -> "Vector":
        """The vector under the key of its own content: its model, place and direction."""
        content = np.ascontiguousarray(self.direction, "<f4").tobytes().hex()
        return replace(self, vector_id=content_key("vector of", self.model_id, self.site, self.layer, content))

    def check_fit(self, model: str, n_layers: int, width: int) -> None:
        """Raise VectorError where the direction does not fit a model of `n_layers` layers and that width.

        It fits where its layer exists, its shape is (width,), and its numbers are finite and not all 0.
        """
        called = f"the vector {self.name or self.vector_id}" if self.name or self.vector_id else "the direction"
        what = f"{called} cannot be one of {model}"
        if not 0 <= self.layer < n_layers:
            raise VectorError(f"{what}: it is of layer {self.layer}, and there are layers 0..{n_layers - 1}: name one")
        if self.direction.shape != (width,):
            shape = "x".join(map(str, self.direction.shape))
            raise VectorError(
                f"{what}: its direction is of size {shape}, and the residual stream has width {width}: take one that "
                "was made of this model's activations"
            )
        if not np.isfinite(self.direction).all():
            n = int((~np.isfinite(self.direction)).sum())
            raise VectorError(f"{what}: {n} of its numbers are nan or inf: look for them in what it was made of")
        if not self.direction.any():
            raise VectorError(f"{what}: its direction is zero: give one that points somewhere")

    def alpha(self, dose: float) -> float:
        """The multiplier that gives `dose`: dose * mean residual norm of the layer / norm."""
        return dose * self.residual_norm / self.norm

    def dose(self, alpha: float) -> float:
        """The dose that `alpha` gives: alpha * norm / mean residual norm of the layer."""
        return alpha * self.norm / self.residual_norm

    def check(self, model: ModelIdentity, *, same_family: bool = False) -> None:
        """Raise VectorMismatch where the vector was not made for `model`, VectorError where it does not fit it.

        With `same_family` a vector of another model of the same architecture and width passes, with a warning.
        """
        if weights_of(self.model_id) == weights_of(model.model_id):
            self.check_fit(model.name, model.n_layers, model.width)
            return
        fits = self.architecture == model.architecture and len(self.direction) == model.width
        if fits and same_family:
            log.warning(
                "vector %s was made for model %s and is used on %s (%s): same architecture and width, but whether it "
                "means the same there is for you to measure",
                self.vector_id,
                self.model_id,
                model.name,
                model.model_id,
            )
            return
        other = f"{self.architecture or 'unknown architecture'}, width {len(self.direction)}"
        remedy = "derive it for that model" + (", or allow vectors of the same family" if fits else "")
        raise VectorMismatch(
            f"vector {self.vector_id} was made for model {self.model_id} ({other}), not for {model.name} "
            f"({model.model_id}; {model.architecture}, width {model.width}): {remedy}"
        )

    def check_added(self, called: str | None = None) -> None:
        """Raise InterventionError where the vector came from a file that declares it to be taken out, not added."""
        if self.lineage.get("operation") == PROJECT:
            name = called or self.vector_id
            raise InterventionError(
                f"{name} is a direction to take out of the stream, as the file that it came from declares, and adding "
                f"it would steer towards what it should remove: write !{name}. To add it all the same, make a vector "
                f"of it: `steer vectors blend {name} --name NEW`, or 1 * vector in Python"
            )

    def __repr__(self) -> str:
        sides = self.lineage.get("unpaired")
        of = f"{sides['positive']} and {sides['negative']} unpaired texts" if sides else counted(self.n_pairs, "pair")
        return (
            f"<Vector {f'{self.name} ' if self.name else ''}{self.vector_id}: {self.method} at layer {self.layer}, "
            f"position {self.position}, width {len(self.direction)}, norm {self.norm:.4g}, alpha 1 is dose "
            f"{self.dose(1.0):.3g}, {of}>"
        )

    def __mul__(self, factor: float) -> "Vector":
        if not isinstance(factor, numbers.Real):
            return NotImplemented
        if not math.isfinite(factor):
            raise VectorError(f"{factor} times a vector is none: give a finite number")
        return combined("scaled", [self], float(factor) * self.in_float64, factor=float(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Vector":
        if not isinstance(divisor, numbers.Real):
            return NotImplemented
        if divisor == 0:
            raise VectorError("a vector divided by 0 is none: give another number")
        return self * (1 / float(divisor))

    def __neg__(self) -> "Vector":
        return self * -1.0

    def __add__(self, other: "Vector") -> "Vector":
        if not isinstance(other, Vector):
            return NotImplemented
        return combined("blended", [self, other], self.in_float64 + other.in_float64, weights=[1.0, 1.0])

    def __radd__(self, other: Any) -> "Vector":
        return self if isinstance(other, int) and other == 0 else NotImplemented  # where `sum` begins

    def __sub__(self, other: "Vector") -> "Vector":
        return self + -other if isinstance(other, Vector) else NotImplemented

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The direction, (D,), for `numpy.asarray`."""
        return np.array(self.direction, dtype) if copy else np.asarray(self.direction, dtype)

    __array_ufunc__ = None  # so that a NumPy number times a vector asks the vector

    def intervention(self, alpha: float | None, phase: Phase) -> Intervention:
        """alpha times this vector, added at its layer; None is its `usual_alpha`.

        It is cautioned of where it `lacks_strength`. Raises InterventionError as `check_added` does.
        """
        self.check_added()
        factor = self.usual_alpha if alpha is None else alpha
        name = self.name or self.vector_id if alpha is None and self.lacks_strength else None
        safe, where = self.cautioned_beyond, Where(phase)
        return Intervention((Change(self.layer, self.direction, factor, ADD.name, where, None, safe, name, self.name),))

    def row(self, prompt_ids: Sequence[str] = ()) -> dict[str, Any]:
        """The vector as a row of the store's table; `prompt_ids` are the prompts whose activations it comes from."""
        return {
            "vector_id": self.vector_id,
            "model_id": self.model_id,
            "concept_id": self.concept_id,
            "method": self.method,
            "control": self.control,
            "site": self.site,
            "position": self.position,
            "layer": self.layer,
            "seed": self.seed,
            "norm": self.norm,
            "residual_norm": self.residual_norm,
            "n_pairs": self.n_pairs,
            "prompt_ids": list(prompt_ids),
            "lineage": json.dumps(self.lineage),
            "vector": self.direction,
        }


def norm_prompts(model: Model) -> list[Prompt]:
    """The prompts on which the mean residual norms of `model` are measured: raw neutral texts."""
    return [prompt(model, text, chat=False) for text in neutral_prompts()[:NORM_PROMPTS]]


def combined(made: str, parents: Sequence[Vector], direction: np.ndarray, **how: Any) -> Vector:
    """The vector of `direction` (D,), the result of the operation `made` on `parents`; its lineage names them.

    Raises VectorMismatch where the parents differ in model, site or layer, VectorError where the direction is zero.
    """
    first, called = parents[0], [parent.name or parent.vector_id for parent in parents]
    for other, name in zip(parents[1:], called[1:], strict=True):
        if (other.model_id, other.site, other.layer) != (first.model_id, first.site, first.layer):
            same = (other.model_id, other.site) == (first.model_id, first.site)
            both = "; a list of both, [v, w], steers by each at its own layer" if same else ""
            raise VectorMismatch(
                f"vectors {called[0]} (model {first.model_id}, layer {first.layer}) and {name} (model "
                f"{other.model_id}, layer {other.layer}) cannot be {made}: take vectors of one model and layer{both}"
            )
    if not np.isfinite(direction).all() or not np.linalg.norm(direction) > 0:
        why = "the result is zero" if np.isfinite(direction).all() else "the result has numbers that are nan or inf"
        raise VectorError(f"{made} {', '.join(called)} leaves no direction: {why}")
    of = [parent.vector_id for parent in parents]
    lineage = {"made": made, "of": of, **how, "version": ALGEBRA_VERSION}
    positions = {parent.position for parent in parents}
    return Vector(
        vector_id=content_key("vector", lineage),
        model_id=first.model_id,
        concept_id=None,
        method=made,
        layer=first.layer,
        residual_norm=float(np.mean([parent.residual_norm for parent in parents])),
        direction=direction.astype(np.float32),
        architecture=first.architecture,
        site=first.site,
        position=first.position if len(positions) == 1 else "mixed",
        n_pairs=sum(parent.n_pairs for parent in parents),
        lineage=lineage,
    )


def cosine(one: Vector, other: Vector) -> float:
    """Cosine of two directions, -1 .. 1. Raises VectorMismatch where their widths differ."""
    if len(one.direction) != len(other.direction):
        raise VectorMismatch(
            f"vectors {one.vector_id} and {other.vector_id} have widths {len(one.direction)} and "
            f"{len(other.direction)}: only vectors of one width can be compared"
        )
    product = float(one.in_float64 @ other.in_float64)
    return product / (one.norm * other.norm)
