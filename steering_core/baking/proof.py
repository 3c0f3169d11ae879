"""Proof: what was baked gives the logits of the runtime, on tokens that are fixed by the model's vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.baking.bakeable import Bakeable, Removal
from steering_core.baking.writers import writing_less
from steering_core.engine.steering import Steering
from steering_core.engine.teacher_forcing import log_softmax
from steering_core.foundation.errors import NotBakeable
from steering_core.models import Model
from steering_core.models.taps import Edits

_ROWS, _LENGTH = 3, 24
_ROUNDING = 1e-4  # share of the largest logit by which two float32 computations may differ
_SHARE = 0.1  # share of the intervention's own effect that rounding of stored weights may change
_LEFT = 1e-3  # share of a block's output along a direction below which the block does not write it


@dataclass(frozen=True)
class Logits:
    """Logits (N, V) float32 at every probe token of the model as it is, and as the runtime changes it."""

    plain: np.ndarray
    changed: np.ndarray


@dataclass(frozen=True)
class Difference:
    """How far the baked model is from the runtime: the largest difference of a logit, and the mean KL in nats.

    `effect` is the largest difference that the intervention itself makes to a logit, `effect_kl` its mean KL, and `top`
    the largest logit.
    """

    largest: float
    kl: float
    effect: float
    effect_kl: float
    top: float

    @property
    def holds(self) -> bool:
        """Whether the largest difference is within rounding."""
        return self.largest <= max(_ROUNDING * self.top, _SHARE * self.effect)


def runtime_logits(model: Model, wanted: Bakeable, embedding: str | None = None) -> Logits:
    """What the runtime gives: vectors added after blocks, directions taken out of what each matrix writes.

    `embedding` names the table of embeddings that loses them too. Raises NotBakeable where a block goes on writing a
    direction that was taken out of all matrices that are known to write.
    """
    plain = probe_logits(model)
    width = model.identity.width
    with writing_less(model.network, width, wanted.removals, embedding):
        for removal in wanted.removals[-1:]:
            _check_complete(model, removal)
        steering = Steering([wanted.added] * _ROWS, [1] * _ROWS)
        return Logits(plain, probe_logits(model, steering.edits(0, _LENGTH)))


def difference(found: np.ndarray, runtime: Logits) -> Difference:
    """How far logits (N, V) of a baked model are from the runtime's."""
    if found.shape != runtime.changed.shape:
        raise NotBakeable(f"the baked model gives logits {found.shape}, and the model itself {runtime.changed.shape}")
    return Difference(
        float(np.abs(found - runtime.changed).max()),
        _kl(runtime.changed, found),
        float(np.abs(runtime.plain - runtime.changed).max()),
        _kl(runtime.plain, runtime.changed),
        float(np.abs(runtime.changed).max()),
    )


def probe_logits(model: Model, edits: Edits | None = None) -> np.ndarray:
    """The model's logits at every probe token, (N, V) float32."""
    with model.taps.applied(edits or {}):
        found = model.network(_tokens(model), cache=model.new_cache())
    mx.eval(found)
    return np.array(found.astype(mx.float32)).reshape(-1, found.shape[-1])


def _tokens(model: Model) -> mx.array:
    drawn = np.random.default_rng(0).integers(0, model.identity.vocab_size, (_ROWS, _LENGTH))
    return mx.array(drawn.astype(np.int32))


def _kl(base: np.ndarray, other: np.ndarray) -> float:
    """Mean KL(base || other) over the rows of logits (N, V), in nats."""
    log_base, log_other = log_softmax(mx.array(base)), log_softmax(mx.array(other))
    return float((np.exp(log_base) * (log_base - log_other)).sum(axis=-1, dtype=np.float64).mean())


def _check_complete(model: Model, removal: Removal) -> None:
    """Raise NotBakeable where a block that should write nothing along the direction still does."""
    if removal.share != 1:
        return
    streams = _streams(model)
    for layer in range(1, removal.last_layer + 1):
        written = streams[layer] - streams[layer - 1]  # (N, D)
        along = np.abs(written @ removal.unit).max() / max(float(np.linalg.norm(written, axis=-1).max()), 1e-12)
        if along > _LEFT:
            raise NotBakeable(
                f"{model.name}: block {layer} goes on writing the direction ({along:.2g} of what it writes) after it "
                "was taken out of all matrices that are known to write into the stream: this architecture cannot lose "
                "a direction; add its opposite instead"
            )


def _streams(model: Model) -> Mapping[int, np.ndarray]:
    """Each block's output at the probe tokens, (N, D) float32."""
    seen: dict[int, mx.array] = {}
    with model.taps.followed(seen.__setitem__):
        model.network(_tokens(model), cache=model.new_cache())
    mx.eval(seen)
    return {layer: np.array(h.astype(mx.float32)).reshape(-1, h.shape[-1]) for layer, h in seen.items()}


def relative_errors(errors: Mapping[str, mx.array]) -> Sequence[float]:
    """The relative error of each matrix that was quantised anew."""
    return [float(error) for error in errors.values()]
