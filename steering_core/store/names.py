"""Names: what the files of a store may be called. No name that was read from a store is a path until it is checked."""

from pathlib import PurePosixPath

from steering_core.foundation.errors import StoreDamaged
from steering_core.store.tables import TABLES

TEMPORARY = ".tmp-"  # begins the name of a file that is being written
PIN = "schema.parquet"
"""A file of no rows in every table's folder: a pattern that matches no file is an error in DuckDB."""
MARKER = "store.json"
CATALOG = "catalog.duckdb"
LOCKS, STAGING, DAMAGED = "locks", "staging", "damaged"
_OLD_CATALOG = f".{CATALOG}."  # began the temporary name of a catalogue that earlier versions wrote


def checked(name: object) -> str:
    """`name`, which is relative, with slashes, and goes down only. Raises StoreDamaged for anything else."""
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StoreDamaged(f"{name!r:.200} is no name of a file in a store: run `steer store verify`")
    return str(name)


def checked_table_file(name: object) -> str:
    """`name`, which is a Parquet file of a table. Raises StoreDamaged for anything else."""
    path = PurePosixPath(checked(name))
    if path.parts[0] not in TABLES or len(path.parts) < 2 or path.suffix != ".parquet" or path.name == PIN:
        raise StoreDamaged(f"{name!r:.200} is no file of rows of a store's table: run `steer store verify`")
    return str(path)


def left_by_creation(name: str) -> bool:
    """Whether a creation of a store that was cut short may have left a file of that name."""
    path = PurePosixPath(name)
    folder = path.parts[0]
    if len(path.parts) == 1:
        return name == CATALOG or name.startswith((TEMPORARY, _OLD_CATALOG))
    return folder == LOCKS or (folder in TABLES and (path.name == PIN or path.name.startswith(TEMPORARY)))


def is_temporary(name: str) -> bool:
    """Whether a file of that name, without its folder, is one that a process is writing or left half written."""
    return name.startswith((TEMPORARY, _OLD_CATALOG))


def writer_of(temporary: str) -> int | None:
    """The process that writes a temporary file, from the file's name; None where the name does not say."""
    number = temporary.removeprefix(TEMPORARY).removeprefix(_OLD_CATALOG).split("-")[0].split(".")[0]
    return int(number) if number.isdecimal() else None


def escaped(path: str) -> str:
    """`path` as a pattern that matches it alone, where `[`, `?` and `*` stand for themselves."""
    return "".join(f"[{letter}]" if letter in "[?*" else letter for letter in path)


def quoted(text: str) -> str:
    """`text` as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"
