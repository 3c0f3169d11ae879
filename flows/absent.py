"""Specs, concepts and models that a flow run is asked for by names that mean nothing here: what may be meant.

It imports none of Prefect's: the plug-in asks it while Prefect itself is being imported.
"""

from collections.abc import Iterable
from pathlib import Path

from steering_core.foundation.data_files import data_files
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.user_files import home_expanded, is_file, is_folder
from steering_core.foundation.validation import shown

KINDS = {"spec": "spec", "models": "model", "concepts": "concept"}
"""What a flow's parameter of each name holds: one name, or a list of them."""


def absent(kind: str, name: str, paths: bool = True) -> str | None:
    """A sentence on a name that nothing here has, with what is near; None for one that may be meant.

    Whether there is a model of the hub, the hub alone knows. `paths` says whether to look for files: another machine
    may have them.
    """
    path = home_expanded(name)
    if is_folder(path) if kind == "model" else is_file(path):
        return None
    is_path = name.startswith(("/", ".", "~")) if kind == "model" else "/" in name or bool(path.suffix)
    if ":" in name or (kind == "model" and "/" in name and not is_path):
        return None  # a hub's
    if is_path:
        return f"There is no {kind} {shown(name)}: no such file is seen from {Path.cwd()}." if paths else None
    known = _known(kind)
    if name in known:
        return None
    else_ = " A model is also a folder, or a Hugging Face id with a slash." if kind == "model" else ""
    return f"There is no {kind} {shown(name)}: {did_you_mean(name, known)}{else_}"


def _known(kind: str) -> Iterable[str]:
    if kind != "model":
        return data_files(f"{kind}s")
    from steering_core.models import EMBEDDED  # takes a second, which only a name of this kind needs

    return EMBEDDED
