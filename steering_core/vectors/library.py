"""The library: vectors by name, by key, or by what they are.

A vector goes by its key (or its first six digits and more), by a name that somebody gave it (`name`, or `name/layer`
where several layers share it), or by what it is: `concept/method/layer`, `concept/method` or `concept`. Of a concept
whose content changed, the content that was derived last is meant (`vectors.labels`). `named` says what a name means, to
every verb, to Python, the API and the explorer alike: the vectors of the recommendation made under it, at its layers
and strengths; else every vector that somebody gave that name; else the one vector that the name describes.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from steering_core.foundation.errors import InterventionError, VectorAmbiguous, VectorError, VectorNotFound
from steering_core.foundation.keys import content_key
from steering_core.interventions.expression import Amount, Between, Clause
from steering_core.interventions.parsing import parse
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store
from steering_core.vectors.labels import label, of_newest_content
from steering_core.vectors.vector import Vector, vectors_by_id

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
KEY = re.compile(r"[0-9a-f]{6,20}")  # a key, or its beginning
_MATCHES = """
WITH asked AS (SELECT ? AS key, ? AS name, ?::INTEGER AS layer, ? AS concept, ? AS method)
SELECT
    v.vector_id, v.model, v.concept, v.name, v.method, v.layer, v.position, v.n_pairs, v.model_id, v.concept_id,
    l.labelled_at AS derived_at
FROM vectors v
CROSS JOIN asked
LEFT JOIN labels l ON l.vector_id = v.vector_id AND l.kind = 'derived'
WHERE starts_with(v.vector_id, asked.key) OR (
    v.control IS NULL
    AND (asked.layer IS NULL OR v.layer = asked.layer)
    AND (v.name = asked.name OR (v.concept = asked.concept AND (asked.method IS NULL OR v.method = asked.method)))
)
ORDER BY v.model, v.method, v.layer, v.vector_id
"""
_WITH_VECTORS = "FROM recommendations WHERE concept = ? AND len(coalesce(vector_ids, [vector_id])) > 0"
_SHOWN = 6  # candidates that an error lists
WantedLayers = Sequence[int] | Literal["all"] | None
"""Which of a name's layers: some, all, or None for the recommended ones, and where nothing was recommended, all."""


def named(
    store: Store, text: str, model: ModelIdentity | None = None, layers: WantedLayers = None, *, several: bool = False
) -> tuple[Vector, ...]:
    """The vectors that `text` means, one a layer; of `model` where it is given. A control goes by its key alone.

    Where vectors of that name were recommended, they are the latest recommendation's, each with its alpha as
    `recommended`. With `layers` they are the vectors of these layers, or of all, and have a `recommended` only where
    exactly these were recommended. Where none were, a concept of many layers is ambiguous unless `several` is true.
    Raises VectorNotFound, and VectorAmbiguous with the choices.
    """
    rows = _matches(store, text, model)
    given = any(row["name"] == _name_and_layer(text)[0] for row in rows)
    if not given and not any(row["vector_id"].startswith(text) for row in rows):
        rows = of_newest_content(rows)
    chosen = _recommended(store, rows)
    if given and len(chosen) < len(rows):
        chosen = {}  # a name that somebody gave means all of its vectors
    kept = _kept(rows, chosen, layers, text)
    if not _one_a_layer(kept) or (len(kept) > 1 and not (chosen or given or layers or several)):
        raise VectorAmbiguous(
            f"{text!r} is {len(kept)} vectors:{_choices(kept)}\n"
            f"Say which, by its layer or its key, such as {_example(kept)}; on the command line --layers and "
            f"--all-layers take several, and `steer vectors rm {kept[0]['vector_id']}` takes one out of the library."
        )
    ids = [row["vector_id"] for row in sorted(kept, key=lambda row: row["layer"])]
    found = vectors_by_id(store, ids)
    if set(chosen) != set(ids) or KEY.fullmatch(text):
        return tuple(found)
    return tuple(_recommended_at(vector, chosen[vector.vector_id]) for vector in found)


def find(store: Store, text: str, model: ModelIdentity | None = None) -> Vector:
    """The one vector that `text` means. Raises as `named` does, and VectorAmbiguous where it means several layers."""
    vectors = named(store, text, model)
    if len(vectors) > 1:
        layers = ", ".join(str(vector.layer) for vector in vectors)
        raise VectorAmbiguous(f"{text!r} is of layers {layers}, and one is needed here: {text}/{vectors[-1].layer}")
    return vectors[0]


def find_all(store: Store, text: str, model: ModelIdentity | None = None) -> list[Vector]:
    """Every vector that `text` names, by model, method and layer. Raises VectorNotFound where there is none."""
    return vectors_by_id(store, [row["vector_id"] for row in _matches(store, text, model)])


def own_first(store: Store, model: ModelIdentity, concept_name: str, own: Sequence[Vector]) -> Callable[[str], Vector]:
    """`find`, which prefers the concept's `own` vectors, just derived, to older ones of the same name."""
    here = [vector for vector in own if vector.control is None]

    def found(text: str) -> Vector:
        """The concept's own vector of that name, where there is exactly one; otherwise the library's."""
        concept, method, layer = _described(text)
        mine = [v for v in here if concept == concept_name and method in (None, v.method) and layer in (None, v.layer)]
        return mine[0] if len(mine) == 1 else find(store, text, model)

    return found


def _matches(store: Store, text: str, model: ModelIdentity | None) -> list[dict[str, Any]]:
    """The rows of the vectors that go by `text`; those that somebody gave that name go before a concept's.

    Raises VectorNotFound where there is none.
    """
    name, (concept, method, layer) = _name_and_layer(text)[0], _described(text)
    rows = store.rows(_MATCHES, [text if KEY.fullmatch(text) else "-", name, layer, concept, method])
    mine = [row for row in rows if model is None or weights_of(row["model_id"]) == weights_of(model.model_id)]
    if model is not None and any(row["model_id"] == model.model_id for row in mine):
        mine = [row for row in mine if row["model_id"] == model.model_id]
    if not mine:
        raise VectorNotFound(_not_found(store, text, model, rows))
    return [row for row in mine if row["name"] == name] or mine


def _name_and_layer(text: str) -> tuple[str, int | None]:
    """`french/mean_difference/14` -> (`french/mean_difference`, 14)."""
    name, _, last = text.strip().rpartition("/")
    return (name, int(last)) if name and last.isdecimal() else (text.strip(), None)


def _described(text: str) -> tuple[str, str | None, int | None]:
    """`french/mean_difference/14` -> (`french`, `mean_difference`, 14): what the text says of a vector."""
    name, layer = _name_and_layer(text)
    concept, slash, method = name.partition("/")
    return concept, method if slash else None, layer


def _kept(
    rows: list[dict[str, Any]], chosen: Mapping[str, Amount | None], layers: WantedLayers, text: str
) -> list[dict[str, Any]]:
    """The `rows` at the wanted layers: of several methods those of the recommended one, where one was recommended."""
    if layers is None:
        return [row for row in rows if row["vector_id"] in chosen] if chosen else rows
    methods = {row["method"] for row in rows if row["vector_id"] in chosen}
    rows = [row for row in rows if row["method"] in methods] if methods else rows
    if layers == "all":
        return rows
    there = sorted({row["layer"] for row in rows})
    if missing := [layer for layer in layers if layer not in there]:
        shown = ", ".join(map(str, there))
        raise VectorNotFound(f"{text!r} has no vector at layer {missing[0]}: there are layers {shown}")
    return [row for row in rows if row["layer"] in layers]


def _one_a_layer(rows: Sequence[dict[str, Any]]) -> bool:
    return len({row["model_id"] for row in rows}) == 1 and len({row["layer"] for row in rows}) == len(rows)


def _recommended(store: Store, rows: Sequence[dict[str, Any]]) -> dict[str, Amount | None]:
    """The strengths of the latest recommendation whose vectors are all among `rows`, by vector_id; or empty."""
    found = store.rows(
        "SELECT coalesce(r.vector_ids, [r.vector_id]) AS vector_ids, r.intervention FROM raw.recommendations r "
        "JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) "
        "USING (recommendation_id) WHERE len(coalesce(r.vector_ids, [r.vector_id])) > 0 "
        "AND list_has_all(?, coalesce(r.vector_ids, [r.vector_id])) ORDER BY started_at DESC LIMIT 1",
        [[row["vector_id"] for row in rows]],
    )
    if not found:
        return {}
    strengths = _strengths(found[0]["intervention"])
    return {vector_id: strengths.get(vector_id) for vector_id in found[0]["vector_ids"]}


def _strengths(intervention: str | None) -> dict[str, Amount]:
    """The strengths of a sum of vectors, by their keys; none for an intervention that is anything else."""
    try:
        clauses = parse(intervention).clauses if intervention else ()
    except InterventionError:  # an operation that was registered where the recommendation was made, and is not here
        return {}
    if len(clauses) != 1 or clauses[0] != Clause(clauses[0].terms, phase=clauses[0].phase):
        return {}
    terms = clauses[0].terms
    return {t.vector.name: t.strength for t in terms if t.strength and not isinstance(t.vector, Between)}


def _recommended_at(vector: Vector, strength: Amount | None) -> Vector:
    """The vector with a recommended strength, as an alpha."""
    if strength is None:
        return vector
    alpha = vector.alpha(strength.value / 100) if strength.percent else strength.value
    return dataclasses.replace(vector, recommended=alpha)


def _choices(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"\n  {row['vector_id']}  {row['name'] or row['concept'] or row['method']}/{row['method']}/{row['layer']} "
        f"of {row['model']} ({row['n_pairs']} pairs, position {row['position']})"
        for row in rows[:_SHOWN]
    ]
    return "".join(lines) + (f"\n  … and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _example(rows: Sequence[dict[str, Any]]) -> str:
    """A text that means exactly one of `rows`: its name and layer, or its key where others share these."""
    shown = [(row["name"] or f"{row['concept']}/{row['method']}", row["layer"]) for row in rows[:_SHOWN]]
    every = [(row["name"] or f"{row['concept']}/{row['method']}", row["layer"]) for row in rows]
    alone = [f"{name}/{layer}" for name, layer in shown if every.count((name, layer)) == 1]
    return alone[0] if alone else str(rows[0]["vector_id"])


def _not_found(store: Store, text: str, model: ModelIdentity | None, elsewhere: Sequence[dict[str, Any]]) -> str:
    if model and elsewhere:
        others = sorted({row["model"] for row in elsewhere})
        have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} one"
        return f"{model.name} ({model.model_id}) has no vector {text!r}; {have}: derive it for {model.name} too"
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
) -> list[Vector]:
    """Have the store hold `vectors`, under `name` where one is given; one that was removed is there again.

    `prompt_ids`, by vector_id, are the prompts whose activations they come from. A vector that goes by another name
    already keeps it: a copy goes by this one. What was saved is returned. Raises VectorError for a vector that does not
    fit its model, for a key under which the store has another direction, and for a name that is taken or not allowed.
    """
    _check_fit(store, vectors)
    _check_keys(store, vectors)
    prompts = {vector.vector_id: prompt_ids.get(vector.vector_id, ()) for vector in vectors}
    if name is not None:
        called = _names_of(store, vectors)
        copies = [v if called.get(v.vector_id, name) == name else _copied(v, name) for v in vectors]
        prompts = {copy.vector_id: prompts[v.vector_id] for v, copy in zip(vectors, copies, strict=True)}
        vectors = copies
        _check_name(store, name, vectors)
    store.append("vectors", [v.row(prompts[v.vector_id]) for v in vectors])
    ids = [vector.vector_id for vector in vectors]
    restore(store, ids)
    if name is not None:
        label(store, ids, "name", name)
    return list(vectors)


def stored_alike(store: Store, vector: Vector) -> bool:
    """Whether the store has this very vector: its key, with its layer, model and direction."""
    rows = _stored(store, [vector])
    return bool(rows) and _alike(vector, rows[0])


def _check_fit(store: Store, vectors: Sequence[Vector]) -> None:
    ids = sorted({vector.model_id for vector in vectors})
    rows = store.rows("SELECT model_id, name, n_layers, width FROM raw.models WHERE list_contains(?, model_id)", [ids])
    known = {row["model_id"]: row for row in rows}
    for vector in vectors:
        if row := known.get(vector.model_id):
            vector.check_fit(row["name"], row["n_layers"], row["width"])


def _check_keys(store: Store, vectors: Sequence[Vector]) -> None:
    known = {row["vector_id"]: row for row in _stored(store, vectors)}
    for vector in vectors:
        if (row := known.get(vector.vector_id)) and not _alike(vector, row):
            raise VectorError(
                f"the store has another direction under the key {vector.vector_id}: give this vector a key of its own, "
                "as vector.keyed() does, or make it with Vector.from_numpy"
            )


def _stored(store: Store, vectors: Sequence[Vector]) -> list[dict[str, Any]]:
    ids = [vector.vector_id for vector in vectors]
    return store.rows(
        "SELECT vector_id, model_id, layer, vector FROM raw.vectors WHERE list_contains(?, vector_id)", [ids]
    )


def _alike(vector: Vector, row: dict[str, Any]) -> bool:
    """Whether the vector is the stored one, up to the rounding in which two machines differ."""
    there = np.asarray(row["vector"], np.float32)
    same_place = (vector.model_id, vector.layer, vector.direction.shape) == (row["model_id"], row["layer"], there.shape)
    return same_place and bool(np.linalg.norm(vector.direction - there) <= 1e-3 * np.linalg.norm(there))


def _names_of(store: Store, vectors: Sequence[Vector]) -> dict[str, str]:
    ids = [vector.vector_id for vector in vectors]
    rows = store.rows(
        "SELECT vector_id, name FROM vectors WHERE name IS NOT NULL AND list_contains(?, vector_id)", [ids]
    )
    return {row["vector_id"]: row["name"] for row in rows}


def _copied(vector: Vector, name: str) -> Vector:
    lineage = {"made": "copied", "of": [vector.vector_id], "name": name}
    vector_id = content_key("vector", lineage)
    return dataclasses.replace(vector, vector_id=vector_id, concept_id=None, lineage=lineage, recommended=None)


def restore(store: Store, vector_ids: Sequence[str]) -> None:
    """Put the vectors that were removed back into the library."""
    removed = store.rows(
        "SELECT vector_id FROM labels WHERE kind = 'removed' AND list_contains(?, vector_id)", [list(vector_ids)]
    )
    label(store, [row["vector_id"] for row in removed], "removed", "", holds=False)


def rename(store: Store, vectors: Sequence[Vector], name: str) -> None:
    """Have `vectors`, one a layer, go by `name` from now on. Raises VectorError where it is taken or not allowed."""
    _check_name(store, name, vectors)
    label(store, [vector.vector_id for vector in vectors], "name", name)


def tag(store: Store, vectors: Sequence[Vector], text: str, *, holds: bool = True) -> None:
    """Tag `vectors` with `text`, or take the tag away."""
    label(store, [vector.vector_id for vector in vectors], "tag", text, holds=holds)


def remove(store: Store, vectors: Sequence[Vector]) -> None:
    """Take `vectors` out of the library. Their rows stay where results came from them (`steer store gc`)."""
    label(store, [vector.vector_id for vector in vectors], "removed", "")


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
    if len(set(own := [(vector.model_id, vector.layer) for vector in vectors])) < len(own):
        raise VectorError(f"{len(own)} vectors cannot all be {name!r}: one a layer and model can, so name fewer")
    if clash := [row["vector_id"] for row in taken if (row["model_id"], row["layer"]) in own]:
        raise VectorError(f"{name!r} is vector {clash[0]} of that layer already: take another name, or remove that one")
    if set(_names_of(store, vectors).values()) != {name} and (hidden := _recommended_for(store, name, vectors)):
        raise VectorError(
            f"{name!r} means what was recommended for that concept on {hidden}, and a vector of that name would hide "
            f"it: take another name, such as {name}-2"
        )


def _recommended_for(store: Store, concept: str, vectors: Sequence[Vector]) -> str | None:
    """The model of one of the vectors on which some vector is recommended for the concept, if there is one."""
    own, rows = {weights_of(vector.model_id) for vector in vectors}, store.rows(_WITH_VECTORS, [concept])
    return next((row["model"] for row in rows if weights_of(row["model_id"]) in own), None)
