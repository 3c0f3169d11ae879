"""Named queries: the SQL that CLI, explorer, reports and documentation share, one file each under `sql/queries`."""

import itertools
import re
from importlib.resources import files as package_files

_PARAMETERS = re.compile(r"Parameters?: ([a-z_, ]+)")


def named_query(name: str) -> str:
    """The SQL of a named query: CLI, explorer, reports and docs all use the same."""
    return (package_files("steering_core.store") / "sql" / "queries" / f"{name}.sql").read_text()


def description(sql: str) -> tuple[str, list[str]]:
    """What a named query answers, and its parameters in their order, as the comment at its head says them."""
    lines = itertools.takewhile(lambda line: line.startswith("--"), sql.splitlines())
    said = " ".join(itertools.takewhile(bool, (line.removeprefix("--").strip() for line in lines)))
    named = _PARAMETERS.search(said)
    parameters = [name.strip() for name in named.group(1).split(",")] if named else []
    return _PARAMETERS.sub("", said).strip(" ."), parameters
