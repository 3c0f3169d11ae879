"""What vectors are called: the names that somebody gave them, which expressions, cautions and reports say for keys."""

import re
from collections.abc import Sequence

from steering_core.store import Store

_KEYS = re.compile(r"\b[0-9a-f]{20}\b")
_CALLED = """
SELECT vector_id, name, layer, n, n_at_layer
FROM (
    SELECT
        vector_id, name, layer, count(*) OVER (PARTITION BY model_id, name) AS n,
        count(*) OVER (PARTITION BY model_id, name, layer) AS n_at_layer
    FROM vectors
    WHERE name IS NOT NULL
)
WHERE list_contains(?, vector_id)
"""


def given_names(store: Store, vector_ids: Sequence[str]) -> dict[str, str]:
    """What somebody called each of those vectors, by vector_id: its `name`, or `name/layer` where layers share it.

    A vector that nobody named, or whose name and layer others have as well, is left out.
    """
    rows = store.rows(_CALLED, [list(vector_ids)])
    return {
        row["vector_id"]: row["name"] if row["n"] == 1 else f"{row['name']}/{row['layer']}"
        for row in rows
        if row["n_at_layer"] == 1
    }


def in_names(store: Store, expression: str) -> str:
    """The expression with names in place of keys, where somebody gave one that means the vector alone."""
    names = given_names(store, _KEYS.findall(expression))
    return _KEYS.sub(lambda key: names.get(key[0], key[0]), expression)
