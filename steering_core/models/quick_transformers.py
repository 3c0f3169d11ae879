"""transformers, imported in half of the time: what each import reads off all its source files is kept.

At every import transformers 5 reads 1,600 of its files twice and looks in each line for names to export, which is two
thirds of what importing mlx-lm takes. What it finds depends on the installed version alone.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from steering_core.foundation.cache import cache_folder, keep_json
from steering_core.foundation.keys import content_key

log = logging.getLogger(__name__)

_MODULE = "transformers.utils.import_utils"
_FUNCTION = "define_import_structure"
_FORM = 1  # of the kept files

Structure = dict[frozenset[str], dict[str, set[str]]]
"""The names that each module exports, by module and by the packages that they need."""
Define = Callable[..., Structure]


@contextlib.contextmanager
def quick_transformers() -> Iterator[None]:
    """Inside the `with`, an import of transformers takes what it exports from the cache folder, or puts it there."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the module of transformers that reads its files, and has its function keep what it finds."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own specification with a loader around its loader; None for every other module."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _MODULE else None
        if spec and spec.loader:
            spec.loader = _Around(spec.loader)
        return spec


class _Around(Loader):
    """The module's own loader, and then the exchange of its function."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module as its own loader makes it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then exchange its function."""
        self._loader.exec_module(module)
        if define := getattr(module, _FUNCTION, None):
            setattr(module, _FUNCTION, keeping(define))


def keeping(define: Define) -> Define:
    """`define` (transformers' function), with its answer for the folder of all models kept for each version."""

    @wraps(define)
    def defined(module_path: str | Path, prefix: str | None = None) -> Structure:
        """The names under a folder, or under that of a file; with a prefix in front of each module's name."""
        folder = Path(module_path)
        folder = folder.parent if folder.suffix == ".py" else folder
        file = _file(folder) if folder.name == "models" else None
        if file is None:
            return define(module_path, prefix)
        found = _kept(file)
        if found is not None:
            return _prefixed(found, prefix)
        own, found = define(module_path, prefix), define(str(folder))
        if _prefixed(found, prefix) == own:  # not for a version that means something else by a prefix
            _keep(file, found)
        return own

    return defined


def _prefixed(found: Structure, prefix: str | None) -> Structure:
    """The names with a prefix in front of each module's."""
    front = f"{prefix}." if prefix else ""
    return {needed: {front + name: set(names) for name, names in of.items()} for needed, of in found.items()}


def _file(folder: Path) -> Path | None:
    """Where the names of this version's models are kept; None for a version that is being worked on."""
    installed = version("transformers")
    if "dev" in installed:
        return None
    key = content_key("exports of transformers", _FORM, installed, str(folder), folder.stat().st_mtime_ns)
    return cache_folder() / "transformers" / f"{key}.json"


def _kept(file: Path) -> Structure | None:
    """What is kept there; None where nothing is, or it cannot be read."""
    try:
        return {frozenset(needed): of for needed, of in json.loads(file.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.info("what transformers exports cannot be read, and is looked for anew: %s", error)
        return None


def _keep(file: Path, found: Structure) -> None:
    """Keep what was found; a cache that cannot be written is logged."""
    content: list[Any] = [
        [sorted(needed), {n: sorted(names) for n, names in of.items()}] for needed, of in found.items()
    ]
    try:
        keep_json(file, content)
    except OSError as error:
        log.info("what transformers exports cannot be kept: %s", error)
