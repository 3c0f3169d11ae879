"""Opening: a store is found or made at an address, and what a killed process left half done there is finished."""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steering_core.foundation.errors import StoreDamaged, StoreError, StoreTooNew
from steering_core.store.files import LocalFolder
from steering_core.store.folder import Folder
from steering_core.store.merging import merge_where_many
from steering_core.store.names import MARKER, left_by_creation
from steering_core.store.tables import TABLES
from steering_core.store.views import views_key, write_catalog
from steering_core.store.wholeness import finish_exchange, pin

log = logging.getLogger(__name__)

STORE_VERSION = 1
DEFAULT_STORE = "data/store"
_ONE_SLASH = re.compile(r"(s3a?):/*(.+)")


def default_store() -> str:
    """`STEERFLOW_STORE`, or `data/store` under the working directory."""
    return os.environ.get("STEERFLOW_STORE", DEFAULT_STORE)


def folder_at(address: str | os.PathLike[str] | None) -> Folder:
    """The folder at a path or URL, whether or not there is a store. Raises StoreError for an address of no folder."""
    where = str(address or default_store())
    if where != where.encode(errors="replace").decode():  # half of a surrogate pair: no message could show it
        raise StoreError(f"there can be no store at {where!r:.300}: it is no UTF-8, name another (--store, store=)")
    if "://" in where:
        from steering_core.store.objects import ObjectFolder  # loads fsspec: only where it is needed

        return ObjectFolder(where)
    if meant := _ONE_SLASH.match(where):
        raise StoreError(f"there can be no store at {where!r:.300}: did you mean {f'{meant[1]}://{meant[2]}'!r:.300}?")
    if "\\" in where:
        raise StoreError(f"there can be no store at {where!r:.300}: DuckDB takes a backslash for a slash, name another")
    try:
        root = Path(where).resolve()
        there = root.exists()
        if there and not root.is_dir():
            raise StoreError(f"{root} is a file, not a folder: name another (--store, store=)")
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL, links in a loop
        raise StoreError(
            f"there can be no store at {where!r:.300} ({error!s:.200}): name a folder (--store, store=)"
        ) from error
    return LocalFolder(root)


def prepare(folder: Folder) -> None:
    """Have `folder` be a whole store: make it where there is nothing, finish what was cut short, merge small files.

    Raises StoreTooNew for a store of a later version, StoreDamaged for a damaged marker, StoreError where the folder is
    something else, or where a link in it leads out.
    """
    wanted = {"version": STORE_VERSION, "views": views_key(folder), "tables": sorted(TABLES)}
    found = _marker(folder) or _marker_after_all(folder)
    if found and found["version"] > STORE_VERSION:
        raise StoreTooNew(
            f"{folder.root} was written by store version {found['version']}, this is version {STORE_VERSION}: "
            "upgrade steerflow, or name another store (--store, store=)"
        )
    files = {table: folder.names(table) for table in TABLES}
    finish_exchange(folder)
    if found and (lost := _lost_folders(folder, found)):
        log.warning(
            "%s has no folder %s any more: whatever rows it had are missing. Where this is a copy, copy the folder "
            "too; else run your specs again",
            folder.root,
            " and no folder ".join(lost),
        )
    if found and not folder.writable:  # every connection defines the views for itself
        return
    if found != wanted:  # new, cut short, of an earlier version, or moved
        with folder.lock("opening"):
            if _marker(folder) != wanted:
                _make(folder, wanted)
    merge_where_many(folder, files)


def _lost_folders(folder: Folder, marker: Mapping[str, Any]) -> list[str]:
    """The tables whose folders are gone, of those that the store had when it was last made whole.

    The marker of an earlier release does not name them, and an object store has no folders.
    """
    named = marker.get("tables")
    if not isinstance(folder, LocalFolder) or not isinstance(named, list):
        return []
    return [table for table in TABLES if table in named and not (folder.root / table).exists()]


def _make(folder: Folder, marker: dict[str, Any]) -> None:
    """Write all that a store has beside its rows. The marker comes first, as files without one are no store."""
    if isinstance(folder, LocalFolder):
        if not folder.exists(MARKER):
            folder.write(MARKER, json.dumps({"version": STORE_VERSION}).encode())
        pin(folder, TABLES)
        write_catalog(folder)
    folder.write(MARKER, json.dumps(marker).encode())


def _marker_after_all(folder: Folder) -> dict[str, Any] | None:
    """The marker, where another process wrote it just now; None where nothing but an unfinished creation is there.

    Raises StoreError where there are other files. They are listed before the marker is looked for, since a store's
    marker is older than its files.
    """
    other = next((name for name in folder.walk() if not left_by_creation(name)), None)
    found = _marker(folder)
    if other and found is None:
        raise StoreError(
            f"{folder.root} is not a steerflow store and not empty (it has {other!r:.100}): name another folder "
            "(--store, store=)"
        )
    return found


def _marker(folder: Folder) -> dict[str, Any] | None:
    """What the store says of itself, None where there is none. Raises StoreDamaged where that cannot be read."""
    if not folder.exists(MARKER):
        return None
    try:
        found = json.loads(folder.read(MARKER))
    except (ValueError, RecursionError):  # neither JSON nor UTF-8, or nested without end
        found = None
    version = found.get("version") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise StoreDamaged(
            f'{folder.root}/{MARKER} is damaged: write {{"version": {STORE_VERSION}}} into it where this folder is '
            "a store, or name another (--store, store=)"
        )
    return dict(found)
