"""Activations: the residual stream inside every wanted block, at a position of each prompt, extracted once.

`sites` and `positions` say what is read; `passes` plans forward passes that run each shared prefix once; `capture` runs
them; `shards` writes what they found; `extract` has the store hold what it lacks, and `forecast` says what that costs.

`steer.activations(…)` of the Python API (`steering_core.api.data`) has this package's name. Whoever imports the package
first makes it the attribute of that name, so the package can be called as well.
"""

import importlib
import sys
import types
from typing import Any


class _CalledPackage(types.ModuleType):
    def __call__(
        self,
        concept: str,
        layer: int,
        model: Any = None,
        split: str | None = None,
        store: Any = None,
        position: str | None = None,
    ) -> Any:
        """The activations of a concept's pairs at one layer: `steering_core.api.data.activations`."""
        read = importlib.import_module("steering_core.api.data").activations
        return read(concept, layer, model, split, store, position)


sys.modules[__name__].__class__ = _CalledPackage
