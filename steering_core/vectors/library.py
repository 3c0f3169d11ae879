"""The library: vectors by name, by key, or by what they are.

A vector goes by its key (or its first six digits and more), by a name that somebody gave it (`name`, or `name/layer`
where several layers share it), or by what it is: `concept/method/layer`, `concept/method` or `concept`, as far as that
is one vector; `concept` alone is the one that was recommended for it.
"""

import difflib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from steering_core.foundation.errors import VectorAmbiguous, VectorError, VectorNotFound
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store
from steering_core.vectors.vector import Vector, vectors_by_id

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
KEY = re.compile(r"[0-9a-f]{6,20}")
_MATCHES = """
WITH asked AS (SELECT ? AS key, ? AS name, ?::INTEGER AS layer, ? AS concept, ? AS method)
SELECT v.vector_id, v.model, v.concept, v.name, v.method, v.layer, v.position, v.n_pairs, v.model_id
FROM vectors v, asked
WHERE starts_with(v.vector_id, asked.key) OR (
    v.control IS NULL
    AND (asked.layer IS NULL OR v.layer = asked.layer)
    AND (v.name = asked.name OR (v.concept = asked.concept AND (asked.method IS NULL OR v.method = asked.method)))
)
ORDER BY v.model, v.method, v.layer, v.vector_id
"""
_SHOWN = 6  # candidates that an error lists


def find(store: Store, text: str, model: ModelIdentity | None = None) -> Vector:
    """The one vector that `text` names, among those of `model` where it is given; controls only by their key.

    Raises VectorNotFound, and VectorAmbiguous with the choices where several go by it.
    """
    rows = _matches(store, text, model)
    if len(rows) > 1 and (chosen := _recommended(store, rows)):
        rows = chosen
    if len(rows) > 1:
        raise VectorAmbiguous(f"{text!r} is {len(rows)} vectors:{_choices(rows)}\nSay which, by its layer or its key.")
    return vectors_by_id(store, [rows[0]["vector_id"]])[0]


def find_all(store: Store, text: str, model: ModelIdentity | None = None) -> list[Vector]:
    """Every vector that `text` names, by model, method and layer. Raises VectorNotFound where there is none."""
    return vectors_by_id(store, [row["vector_id"] for row in _matches(store, text, model)])


def own_first(store: Store, model: ModelIdentity, concept_name: str, own: Sequence[Vector]) -> Callable[[str], Vector]:
    """`find` for a concept whose vectors were just derived: they go before older ones of the same name."""
    here = [vector for vector in own if vector.control is None]

    def found(text: str) -> Vector:
        name, layer = _name_and_layer(text)
        concept, method = name.split("/", 1) if "/" in name else (name, None)
        mine = [v for v in here if concept == concept_name and method in (None, v.method) and layer in (None, v.layer)]
        return mine[0] if len(mine) == 1 else find(store, text, model)

    return found


def _matches(store: Store, text: str, model: ModelIdentity | None) -> list[dict[str, Any]]:
    name, layer = _name_and_layer(text)
    concept, method = name.split("/", 1) if "/" in name else (name, None)
    rows = store.rows(_MATCHES, [text if KEY.fullmatch(text) else "-", name, layer, concept, method])
    mine = [row for row in rows if model is None or weights_of(row["model_id"]) == weights_of(model.model_id)]
    if model is not None and any(row["model_id"] == model.model_id for row in mine):
        mine = [row for row in mine if row["model_id"] == model.model_id]
    named = [row for row in mine if row["name"] == name]  # a name that somebody gave goes before a concept's
    if not mine:
        raise VectorNotFound(_not_found(store, text, model, rows))
    return named or mine


def _name_and_layer(text: str) -> tuple[str, int | None]:
    """`french/mean_difference/14` -> (`french/mean_difference`, 14)."""
    name, _, last = text.strip().rpartition("/")
    return (name, int(last)) if name and last.isdecimal() else (text.strip(), None)


def _recommended(store: Store, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The one of `rows` that the latest run with a recommendation for them chose; the first where it chose several."""
    found = store.rows(
        "SELECT coalesce(r.vector_id, r.vector_ids[1]) AS vector_id FROM raw.recommendations r "
        "JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) "
        "USING (recommendation_id) WHERE list_contains(?, coalesce(r.vector_id, r.vector_ids[1])) "
        "ORDER BY started_at DESC LIMIT 1",
        [[row["vector_id"] for row in rows]],
    )
    chosen = {row["vector_id"] for row in found}
    return [row for row in rows if row["vector_id"] in chosen]


def _choices(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"\n  {row['vector_id']}  {row['name'] or row['concept'] or row['method']}/{row['method']}/{row['layer']} "
        f"of {row['model']} ({row['n_pairs']} pairs, position {row['position']})"
        for row in rows[:_SHOWN]
    ]
    return "".join(lines) + (f"\n  … and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _not_found(store: Store, text: str, model: ModelIdentity | None, elsewhere: Sequence[dict[str, Any]]) -> str:
    if model and elsewhere:
        others = ", ".join(sorted({row["model"] for row in elsewhere}))
        return f"{model.name} ({model.model_id}) has no vector {text!r}; {others} has: derive it for {model.name} too"
    known = store.rows("SELECT DISTINCT concept, method, name FROM vectors WHERE control IS NULL")
    names = {row["name"] for row in known} | {row["concept"] for row in known}
    names |= {f"{row['concept']}/{row['method']}" for row in known if row["concept"]}
    meant = difflib.get_close_matches(text, sorted(names - {None}), n=1)
    hint = f"did you mean {meant[0]!r}?" if meant else "`steer vectors list` shows those that there are"
    return f"the store {store.root} has no vector {text!r}: {hint}"


# -- what people call them -------------------------------------------------------------------------------------------


def save(
    store: Store,
    vectors: Sequence[Vector],
    name: str | None = None,
    prompt_ids: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Have the store hold `vectors`, under `name` where one is given; one that was removed is there again.

    `prompt_ids`, by vector_id, are the prompts whose activations they come from.
    """
    if name is not None:
        _check_name(store, name, vectors)
    store.append("vectors", [v.row(prompt_ids.get(v.vector_id, ())) for v in vectors])
    ids = [vector.vector_id for vector in vectors]
    restore(store, ids)
    if name is not None:
        _label(store, ids, "name", name)


def restore(store: Store, vector_ids: Sequence[str]) -> None:
    """Have those of the vectors that were removed be in the library again."""
    removed = store.rows(
        "SELECT vector_id FROM labels WHERE kind = 'removed' AND list_contains(?, vector_id)", [list(vector_ids)]
    )
    _label(store, [row["vector_id"] for row in removed], "removed", "", holds=False)


def rename(store: Store, vectors: Sequence[Vector], name: str) -> None:
    """Have `vectors`, one a layer, go by `name` from now on. Raises VectorError for a name that is taken or none."""
    _check_name(store, name, vectors)
    _label(store, [vector.vector_id for vector in vectors], "name", name)


def tag(store: Store, vectors: Sequence[Vector], label: str, *, holds: bool = True) -> None:
    """Tag `vectors` with `label`, or take the tag away."""
    _label(store, [vector.vector_id for vector in vectors], "tag", label, holds=holds)


def remove(store: Store, vectors: Sequence[Vector]) -> None:
    """Take `vectors` out of the library. Their rows stay where results came from them (`steer store gc`)."""
    _label(store, [vector.vector_id for vector in vectors], "removed", "")


def _check_name(store: Store, name: str, vectors: Sequence[Vector]) -> None:
    if not NAME.fullmatch(name) or KEY.fullmatch(name) or name.isdecimal():
        raise VectorError(
            f"{name!r} cannot be a vector's name: letters, digits, '_', '.', '-', a letter or digit first, and "
            "neither a number nor like a key"
        )
    ids = [vector.vector_id for vector in vectors]
    taken = store.rows(
        "SELECT vector_id, model_id, layer FROM vectors WHERE name = ? AND NOT list_contains(?, vector_id)", [name, ids]
    )
    own = [(vector.model_id, vector.layer) for vector in vectors]
    if len(set(own)) < len(own):
        raise VectorError(f"{len(own)} vectors cannot all be {name!r}: one a layer and model can, so name fewer")
    if clash := [row["vector_id"] for row in taken if (row["model_id"], row["layer"]) in own]:
        raise VectorError(f"{name!r} is vector {clash[0]} of that layer already: take another name, or remove that one")


def _label(store: Store, vector_ids: Sequence[str], kind: str, label: str, *, holds: bool = True) -> None:
    if not vector_ids:
        return
    at = store.time_after_all("labels", "labelled_at")
    rows = [
        {
            "label_id": secrets.token_hex(10),
            "vector_id": i,
            "kind": kind,
            "label": label,
            "holds": holds,
            "labelled_at": at,
        }
        for i in vector_ids
    ]
    store.append("labels", rows)
