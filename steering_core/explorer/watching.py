"""Vectors that read along with a request's texts: looked up with their gates, and what they say of each text."""

from collections.abc import Iterable, Sequence
from typing import Any

from steering_core.explorer.planned import named_vectors
from steering_core.explorer.state import Explorer
from steering_core.models import Model
from steering_core.monitors.conversation import Watched
from steering_core.monitors.gates import gates_of, verdict


def watched(model: Model, here: Explorer, names: Sequence[str]) -> list[Watched]:
    """The vectors of those names, each once, with their gates. Raises VectorNotFound, VectorMismatch."""
    key = ("watched", model.identity.model_id, tuple(names))
    return here.kept.of(key, lambda: _with_gates(model, here, names)) if names else []


def _with_gates(model: Model, here: Explorer, names: Sequence[str]) -> list[Watched]:
    vectors = {name: named_vectors(model.identity, here.store, here.drafts, name)[0] for name in names}
    gates = gates_of(here.store, [vector.vector_id for vector in vectors.values()]) if vectors else {}
    return [Watched(name, v, gates.get(v.vector_id, {}).get("mean")) for name, v in vectors.items()]


class Readings:
    """What each of `watched` read at each token of one text."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        self._watched = watched
        self._read: list[tuple[float, ...]] = []

    def add(self, values: Iterable[float]) -> dict[str, float]:
        """A token's projections, by the names that the vectors go by."""
        self._read.append(tuple(values))
        return dict(zip([one.name for one in self._watched], self._read[-1], strict=True))

    @property
    def values(self) -> dict[str, list[float]]:
        """Every token's projection, by name."""
        return {one.name: [read[i] for read in self._read] for i, one in enumerate(self._watched)}

    @property
    def verdicts(self) -> dict[str, dict[str, Any]]:
        """What each says of the whole text, by name."""
        values = self.values
        return {one.name: verdict(values[one.name], one.gate) for one in self._watched}
