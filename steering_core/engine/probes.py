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
from steering_core.interventions.operations import component
from steering_core.models import Model
from steering_core.models.taps import Edit, Edits, behind, looking


@dataclass(frozen=True)
class Probe:
    """A direction (D,) at a layer; its projection of a token is the stream's component along it, after all changes."""

    layer: int
    direction: np.ndarray = field(repr=False)


class Watch:
    """The probes' readings of one forward pass: `edits` for the taps, then `readings`."""

    def __init__(self, model: Model, probes: Sequence[Probe]) -> None:
        width = model.identity.width
        for probe in probes:
            model.checked_layers([probe.layer])
            if probe.direction.shape != (width,) or not np.isfinite(probe.direction).all() or not probe.direction.any():
                raise InterventionError(
                    f"a probe at layer {probe.layer} must be a finite direction of width {width}, other than zero"
                )
        self._probes = list(probes)
        self._by_layer: dict[int, list[int]] = {}
        for i, probe in enumerate(probes):
            self._by_layer.setdefault(probe.layer, []).append(i)

    def look(self) -> tuple[Edits, dict[int, mx.array]]:
        """Edits for one pass that only look, and the dict in which they leave each probe's components, (B, T)."""
        seen: dict[int, mx.array] = {}
        return {layer: self._edit(members, seen) for layer, members in self._by_layer.items()}, seen

    def _edit(self, members: list[int], seen: dict[int, mx.array]) -> Edit:
        directions = [self._probes[i].direction.astype(np.float32) for i in members]
        units = [mx.array(d / np.linalg.norm(d)) for d in directions]

        def look(h: mx.array) -> None:
            for i, unit in zip(members, units, strict=True):
                seen[i] = component(h, unit)[..., 0]

        return looking(look)


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
    edited(model, mx.array([sequence]), model.new_cache(), behind(edits, looks))
    mx.eval(seen)
    work.add(1, len(sequence))
    return np.array([np.array(seen[i])[0] for i in range(len(probes))], np.float32).reshape(len(probes), len(sequence))
