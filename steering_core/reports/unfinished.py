"""What a store holds of runs that did not come to their end."""

from collections.abc import Callable

from steering_core.store import Store, TableRows

TABLES = {"activations": "activations", "vectors": "vectors", "generations": "texts", "scores": "scores"}
"""What runs store as they go, and what people call it."""


def unfinished(store: Store) -> str:
    """A sentence about what is kept of runs that were stopped before they recommended anything; empty for none."""
    kept = stored_so_far(store.rows)
    return f"What was computed before is kept ({kept}): the same command goes on from there." if kept else ""


def stored_so_far(asked: Callable[[str], TableRows]) -> str:
    """What runs have stored, as in `87 vectors, 24 texts`; empty for nothing. `asked` gives the rows of SQL."""
    counts = {what: asked(f"SELECT count(*) AS n FROM raw.{table}")[0]["n"] for table, what in TABLES.items()}
    return ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
