"""`OpenModels`: which models a request may name, and the few that are loaded."""

from collections import OrderedDict
from collections.abc import Collection, Iterable

from steering_core.errors import ModelNotFound
from steering_core.library import did_you_mean
from steering_core.models import EMBEDDED, Model
from steering_core.store import Store

LOADED = 2  # models whose weights stay in memory


class OpenModels:
    """Models by name: those of the store, the embedded ones, and those that `steer explore` was told.

    A request can name no other, so it can neither open a folder nor start a download.
    """

    def __init__(self, store: Store, told: Iterable[str] = ()) -> None:
        self._store, self._told = store, list(told)
        self._open: OrderedDict[str, Model] = OrderedDict()

    def names(self) -> list[str]:
        """Names that a request may use, those told first, then by the latest run."""
        found = self._store.rows(
            "SELECT m.name FROM raw.models m LEFT JOIN raw.runs r ON list_contains(r.model_ids, m.model_id) "
            "GROUP BY m.name ORDER BY max(r.started_at) DESC NULLS LAST, m.name"
        )
        return list(dict.fromkeys([*self._told, *(row["name"] for row in found), *EMBEDDED]))

    def open(self, name: str, in_use: Collection[str] = ()) -> Model:
        """The model `name`, loaded when it is used; another gives way, but none that is `in_use`.

        For the accelerator's thread alone. Raises ModelNotFound.
        """
        if name not in self._open:
            known = self.names()
            if name not in known:
                raise ModelNotFound(f"there is no model {name!r} here: {did_you_mean(name, known)}")
            idle = [other for other in self._open if other not in in_use]
            for other in idle[: max(0, len(self._open) + 1 - LOADED)]:
                self._open.pop(other).close()
            self._open[name] = Model(name)
        self._open.move_to_end(name)
        return self._open[name]

    def loaded(self) -> list[str]:
        """The models that are open."""
        return list(self._open)

    def close(self) -> None:
        """Close all."""
        for model in self._open.values():
            model.close()
        self._open.clear()
