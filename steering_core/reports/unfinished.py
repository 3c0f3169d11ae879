"""What a store holds of runs that did not come to their end."""

from steering_core.store import Store

TABLES = {"activations": "activations", "vectors": "vectors", "generations": "texts", "scores": "scores"}
"""What runs store as they go, and what people call it."""


def unfinished(store: Store) -> str:
    """A sentence about what is kept of runs that were stopped before they recommended anything; empty for none."""
    counts = {what: store.rows(f"SELECT count(*) AS n FROM raw.{table}")[0]["n"] for table, what in TABLES.items()}
    kept = [f"{n:,} {what}" for what, n in counts.items() if n]
    if not kept:
        return ""
    return f"What was computed before is kept ({', '.join(kept)}): the same command goes on from there."
