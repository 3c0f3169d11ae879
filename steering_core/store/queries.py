"""Named queries: the SQL that CLI, explorer, reports and documentation share, one file each under `sql/queries`."""

from importlib.resources import files as package_files


def named_query(name: str) -> str:
    """The SQL of a named query: CLI, explorer, reports and docs all use the same."""
    return (package_files("steering_core.store") / "sql" / "queries" / f"{name}.sql").read_text()
