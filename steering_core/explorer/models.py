"""`OpenModels`: which models a request may name, and the few that are loaded."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any

from steering_core.explorer.ask import Ask
from steering_core.foundation.errors import ModelNotFound
from steering_core.foundation.suggestions import did_you_mean
from steering_core.models import EMBEDDED, Model
from steering_core.models.embedded import TERMS, awaits_terms

LOADED = 2  # models whose weights stay in memory
_STORED = """
SELECT m.*
FROM models m
LEFT JOIN (SELECT unnest(model_ids) AS model_id, started_at AS ran FROM runs) USING (model_id)
QUALIFY row_number() OVER (PARTITION BY name ORDER BY ran DESC NULLS LAST) = 1
ORDER BY ran DESC NULLS LAST, name
"""


class OpenModels:
    """Models by name: those of the store, the embedded ones, and those that `steer explore` was started with.

    A request can name no other, so it can neither open a folder nor start a download.
    """

    def __init__(self, ask: Ask, named: Iterable[str] = ()) -> None:
        self._ask, self._named = ask, list(named)
        self._open: OrderedDict[str, Model] = OrderedDict()

    def known(self) -> dict[str, dict[str, Any]]:
        """What the store knows of the models that a request may name.

        Models named at the start come first, then those of the latest run. An embedded one whose terms nobody accepted
        is none of them.
        """
        stored = {row["name"]: row for row in self._ask.own(_STORED).to_pylist()}
        names = dict.fromkeys([*self._named, *stored, *(name for name in EMBEDDED if not awaits_terms(name))])
        return {name: stored.get(name, {"name": name}) for name in names}

    def check(self, name: str) -> None:
        """Raise ModelNotFound for a model that a request may not name."""
        known = self.known()
        if name not in known and name in EMBEDDED:
            raise ModelNotFound(TERMS)
        if name not in known:
            raise ModelNotFound(f"there is no model {name!r} here: {did_you_mean(name, known)}")

    def open(self, name: str, in_use: Collection[str] = ()) -> Model:
        """The model `name`, loaded when it is used; another gives way, but none that is `in_use`.

        For the accelerator's thread alone. Raises ModelNotFound.
        """
        if name not in self._open:
            self.check(name)
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
