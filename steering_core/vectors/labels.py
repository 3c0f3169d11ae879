"""Labels: what was said of vectors and when, and so which content of a concept its name means.

A concept that gets new pairs keeps its name, and the store keeps the vectors of its older content. The name means the
content that was derived last; vectors of the others go by their keys.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from steering_core.store import Store

DERIVED = "derived"  # the kind of a label that says when a concept's content was derived last
_COMPETING = """
SELECT v.vector_id, v.concept_id, l.labelled_at AS derived_at
FROM vectors v
LEFT JOIN labels l ON l.vector_id = v.vector_id AND l.kind = 'derived'
WHERE v.control IS NULL AND (v.model_id, v.concept, v.method) IN (
    SELECT (model_id, concept, method) FROM vectors WHERE list_contains(?, vector_id)
)
"""


def label(store: Store, vector_ids: Sequence[str], kind: str, text: str, *, holds: bool = True) -> None:
    """Have the store hold one label of that kind for each vector, later than every label that it holds."""
    if not vector_ids:
        return
    at = store.time_after_all("labels", "labelled_at")
    rows = [
        {"label_id": secrets.token_hex(10), "vector_id": i, "kind": kind, "label": text, "holds": holds}
        | {"labelled_at": at}
        for i in vector_ids
    ]
    store.append("labels", rows)


def note_derived(store: Store, vector_ids: Sequence[str]) -> None:
    """Label these vectors as derived now, where vectors of another content of their concept go by the same name.

    Nothing is stored where there are no such vectors, or where these were derived after them already.
    """
    found = store.rows(_COMPETING, [list(vector_ids)])
    mine = {row["vector_id"]: row["derived_at"] for row in found if row["vector_id"] in set(vector_ids)}
    own = {row["concept_id"] for row in found if row["vector_id"] in mine}
    others = [row for row in found if row["concept_id"] not in own]
    latest = max((row["derived_at"] for row in others if row["derived_at"]), default=None)
    if others and any(at is None or (latest is not None and at < latest) for at in mine.values()):
        label(store, list(mine), DERIVED, "")


def of_newest_content(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `rows` without those of older content: of a model, concept and method the content derived last is kept.

    A row has the columns of the view `vectors`, and `derived_at`, which may be null. Rows of no concept are kept.
    """
    latest: dict[tuple[str, str, str], tuple[Any, str]] = {}
    for row in rows:
        if row["concept_id"] is not None and row["derived_at"] is not None:
            group = _group(row)
            latest[group] = max(latest.get(group, (row["derived_at"], "")), (row["derived_at"], row["concept_id"]))
    return [row for row in rows if _group(row) not in latest or latest[_group(row)][1] == row["concept_id"]]


def _group(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["model_id"], row["concept"], row["method"]
