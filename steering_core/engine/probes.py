"""Probes: how far the residual stream lies along a direction, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from steering_core.backend.mlx import mx
from steering_core.engine.forward import checked, edited
from steering_core.engine.steering import Steering
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import UNTOUCHED, Intervention
from steering_core.models import Model
from steering_core.models.taps import Edit, Edits, looking, merged


@dataclass(frozen=True, eq=False)
class Probe:
    """A direction (D,) at a layer. A token's projection is the stream's component along it, after all changes.

    Probes are equal only where they are the same object.
    """

    layer: int
    direction: np.ndarray = field(repr=False)


ProbeValues = dict[Probe, mx.array]
"""What each probe read in one pass, (B, T)."""


class Watch:
    """The probes' readings of one forward pass: `edits` for the taps, then `readings`."""

    def __init__(self, model: Model, probes: Sequence[Probe]) -> None:
        width = model.identity.width
        self._by_layer: dict[int, list[Probe]] = {}
        for probe in dict.fromkeys(probes):
            model.checked_layers([probe.layer])
            if probe.direction.shape != (width,) or not np.isfinite(probe.direction).all() or not probe.direction.any():
                raise InterventionError(
                    f"a probe at layer {probe.layer} must be a finite direction of width {width}, other than zero"
                )
            self._by_layer.setdefault(probe.layer, []).append(probe)
        self._units = {layer: _units(members) for layer, members in self._by_layer.items()}

    def look(self) -> tuple[Edits, ProbeValues]:
        """Edits for one pass that only look, and the dict in which they leave each probe's components, (B, T)."""
        seen: ProbeValues = {}
        return {layer: self._edit(layer, seen) for layer in self._by_layer}, seen

    def _edit(self, layer: int, seen: ProbeValues) -> Edit:
        members, units = self._by_layer[layer], self._units[layer]

        def look(h: mx.array) -> None:
            """Leave the component of the stream (B, T, D) along each probe of this layer in `seen`."""
            components = h.astype(mx.float32) @ units  # (B, T, D) @ (D, K) -> (B, T, K)
            for k, probe in enumerate(members):
                seen[probe] = components[..., k]

        return looking(look)


def _units(probes: Sequence[Probe]) -> mx.array:
    """The probes' directions at length 1, (D, K)."""
    directions = np.stack([probe.direction.astype(np.float32) for probe in probes], axis=1)
    return mx.array(directions / np.linalg.norm(directions, axis=0))


def projections(
    model: Model,
    tokens: Sequence[int],
    probes: Sequence[Probe],
    work: Work,
    intervention: Intervention = UNTOUCHED,
    prompt_length: int | None = None,
) -> np.ndarray:
    """Each probe's projection of each token, float32 (probes, tokens), in one pass that ends at the last probed block.

    The intervention counts the first `prompt_length` tokens as the prompt (all of them, where it is not given).
    Raises InterventionError, LayerNotFound for what does not fit the model.
    """
    sequence = tuple(tokens)
    stem = sequence[: len(sequence) if prompt_length is None else prompt_length]
    steering = Steering([checked(model, stem, intervention)], [len(stem)])
    looks, seen = Watch(model, probes).look()
    edits = steering.edits(0, len(sequence))
    edited(model, mx.array([sequence]), model.new_cache(), merged(edits, looks))
    mx.eval(seen)
    work.add(1, len(sequence))
    return np.array([np.array(seen[probe])[0] for probe in probes], np.float32).reshape(len(probes), len(sequence))
