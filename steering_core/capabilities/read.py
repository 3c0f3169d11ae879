"""Capability sets by name, or from a file: one of ours, or of a benchmark's own form (`formats`)."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from steering_core.capabilities.formats import FORMS, BenchmarkForm
from steering_core.capabilities.sets import CapabilitySet
from steering_core.concepts.formats.contents import Contents, read_contents
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import CapabilityError, ConceptError
from steering_core.foundation.sequences import repeated
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import is_file
from steering_core.foundation.validation import checked, read_yaml, shown

log = logging.getLogger(__name__)
_OWN = {"questions", "tasks"}


def available_sets() -> dict[str, Path]:
    """Every set found by name (`data/capabilities/NAME.yaml`); a nearer folder's wins."""
    return data_files("capabilities")


def check_names(names: Iterable[str]) -> None:
    """Raise CapabilityError for a name that is neither a set's nor the path of a file."""
    known = available_sets()
    for name in names:
        if name not in known and not is_file(name):
            hint = f"{did_you_mean(name, known)} A set is a name, or the path of a file."
            raise CapabilityError(f"there is no capability set {shown(name)}; {hint}")


def load_sets(names: Iterable[str]) -> list[CapabilitySet]:
    """The sets of those names or files. Raises CapabilityError as `load_set` does, and for two of one name."""
    found = [load_set(name) for name in names]
    called = [one.name for one in found]
    if twice := repeated(called):
        raise CapabilityError(f"two capability sets are called {twice[0]!r}: leave one out, or rename its file")
    return found


def load_set(name: str) -> CapabilitySet:
    """The set of that name, or in the file `name`, of any form that is read (docs/capabilities.md).

    Rows of a file that are left out are logged. Raises CapabilityError with every fault of the file.
    """
    check_names([name])
    if (path := available_sets().get(name)) is not None:
        given = read_yaml(path, CapabilityError)
        return checked(CapabilitySet, given, f"the capability set {path}", CapabilityError)
    return _read(Path(name))


def _read(path: Path) -> CapabilitySet:
    """The set in a file of any known form."""
    try:
        contents = read_contents(path)
    except ConceptError as fault:
        raise CapabilityError(str(fault)) from fault
    if contents.mapping is not None and _OWN & set(contents.mapping):
        given = {"name": _name_of(path)} | dict(contents.mapping)
        return checked(CapabilitySet, given, f"the capability set {path}", CapabilityError)
    if contents.mapping is not None:  # a file of one row
        contents = Contents(contents.source, (Record("line 1", dict(contents.mapping)),))
    form = next((form for form in FORMS if form.recognises(contents)), None)
    if form is None:
        raise CapabilityError(_refusal(contents, FORMS))
    found = form.read(contents)
    for note in found.notes:
        log.warning("%s: %s", path, note)
    data = {"name": _name_of(path), "description": f"{form.name}, from {path.name}", **found.fields}
    if not data.get("questions") and not data.get("tasks"):
        raise CapabilityError(f"{path} is of the form {form.name}, and none of its rows can be used: {found.notes[-1]}")
    return checked(CapabilitySet, data, f"{path}, read as {form.name},", CapabilityError)


def _refusal(contents: Contents, forms: Iterable[BenchmarkForm]) -> str:
    columns = ", ".join(map(repr, contents.columns)) or "none"
    known = "\n".join(f"  {form.name}: {form.keys}" for form in forms)
    return (
        f"{contents.source} is no capability set: its columns are {columns}\nThese forms are known:\n"
        f"  capability set: questions: [{{prompt, right, wrong}}], tasks: [{{prompt, checks}}]\n{known}"
    )


def _name_of(path: Path) -> str:
    stem = Path(path.name.removesuffix(".gz")).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._") or "set"
