"""Commands that follow from a recommendation, as a person would type them."""

import shlex

from steering_core.evaluation.verdicts import WEAK, WORKS
from steering_core.store import Row, Store
from steering_core.store.commands import at_store


def next_command(store: Store, row: Row) -> str:
    """What helps after a verdict: to steer, or, where nothing was found that steers, to see what the concept lacks."""
    if row["verdict"] in (WORKS, WEAK):
        return at_store(_steering(row), store.root)
    return f"steer concepts lint {shlex.quote(row['concept'])}"


def _steering(row: Row) -> str:
    """The command that steers as a recommendation does: by the concept's name, where that says all of it."""
    head = f"steer generate {shlex.quote(row['model'])} 'PROMPT'"
    keys = [f"*{vector_id}" for vector_id in row.get("vector_ids") or []]
    terms = row["intervention"].removesuffix(" @generation").split(" + ")
    named = bool(keys) and len(terms) == len(keys) and all(t.endswith(k) for t, k in zip(terms, keys, strict=True))
    named = named and "(" not in row["intervention"] and row.get("concept") is not None
    if named:
        return f"{head} --vector {shlex.quote(row['concept'])}"
    return f"{head} --steer {shlex.quote(row['intervention'])}"
