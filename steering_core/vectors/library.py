"""The library: vectors by name, by key, or by what they are.

A vector goes by its key (or its first six digits and more), by a name that somebody gave it (`name`, or `name/layer`
where several layers share it), or by what it is: `concept/method/layer`, `concept/method` or `concept`. Of a concept
whose content changed, the content that was derived last is meant (`vectors.labels`). `named` says what a name means, to
every verb, to Python, the API and the explorer alike: the vectors of the recommendation made under it, at its layers
and strengths, also where they are vectors of the library that a run proved for the concept; else every vector that
somebody gave that name; else the one vector that the name describes.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from steering_core.foundation.errors import VectorAmbiguous, VectorNotFound
from steering_core.interventions.expression import Amount, Between, Clause
from steering_core.interventions.parsing import stored
from steering_core.models import ModelIdentity
from steering_core.models.identity import weights_of
from steering_core.store import Store
from steering_core.vectors.allowed_names import KEY
from steering_core.vectors.called import in_names
from steering_core.vectors.labels import of_newest_content
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector

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
_RECOMMENDED = """
SELECT coalesce(r.vector_ids, [r.vector_id]) AS vector_ids, r.intervention, r.model_id, r.concept_id
FROM raw.recommendations r
JOIN (SELECT unnest(recommendation_ids) AS recommendation_id, started_at FROM raw.runs) USING (recommendation_id)
"""
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
    everywhere = _everywhere(store, text)
    rows = _called(everywhere, text, model)
    by_name = any(row["name"] == _name_and_layer(text)[0] for row in rows)  # that somebody gave
    by_key = any(row["vector_id"].startswith(text) for row in rows)
    if not by_name and not by_key:
        rows = of_newest_content(rows)
        if layers is None and (proven := _proven_of_the_library(store, text, model, rows)):
            return proven
    if not rows:
        raise VectorNotFound(_not_found(store, text, model, everywhere))
    recommended = _recommended(store, rows)
    if by_name and len(recommended) < len(rows):
        recommended = {}  # a name that somebody gave means all of its vectors
    kept = _kept(rows, recommended, layers, text)
    may_be_several = bool(recommended or by_name or layers or several)
    if not _one_a_layer(kept) or (len(kept) > 1 and not may_be_several):
        raise VectorAmbiguous(_ambiguous(text, kept, none_recommended=not recommended and not by_name))
    ids = [row["vector_id"] for row in sorted(kept, key=lambda row: row["layer"])]
    found = vectors_by_id(store, ids)
    if set(recommended) != set(ids) or KEY.fullmatch(text):
        return tuple(found)
    return tuple(_recommended_at(vector, recommended[vector.vector_id]) for vector in found)


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
    """The rows of the vectors that go by `text`. Raises VectorNotFound where there is none."""
    rows = _everywhere(store, text)
    if not (mine := _called(rows, text, model)):
        raise VectorNotFound(_not_found(store, text, model, rows))
    return mine


def _everywhere(store: Store, text: str) -> list[dict[str, Any]]:
    """The rows of every model's vectors that `text` may mean."""
    name, (concept, method, layer) = _name_and_layer(text)[0], _described(text)
    return store.rows(_MATCHES, [text if KEY.fullmatch(text) else "-", name, layer, concept, method])


def _called(rows: Sequence[dict[str, Any]], text: str, model: ModelIdentity | None) -> list[dict[str, Any]]:
    """The model's of those `rows`; those that somebody gave the name go before a concept's."""
    mine = _of_model(rows, model)
    return [row for row in mine if row["name"] == _name_and_layer(text)[0]] or mine


def _of_model(rows: Sequence[dict[str, Any]], model: ModelIdentity | None) -> list[dict[str, Any]]:
    """The rows of that very model, else of one with its weights; all where none is given."""
    if model is None:
        return list(rows)
    exact = [row for row in rows if row["model_id"] == model.model_id]
    return exact or [row for row in rows if weights_of(row["model_id"]) == weights_of(model.model_id)]


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
        f"{_RECOMMENDED} WHERE len(coalesce(r.vector_ids, [r.vector_id])) > 0 "
        "AND list_count(coalesce(r.vector_ids, [r.vector_id])) = len(coalesce(r.vector_ids, [r.vector_id])) "
        "AND list_has_all(?, coalesce(r.vector_ids, [r.vector_id])) ORDER BY started_at DESC LIMIT 1",
        [[row["vector_id"] for row in rows]],
    )
    if not found:
        return {}
    strengths = _strengths(found[0]["intervention"])
    return {vector_id: strengths.get(vector_id) for vector_id in found[0]["vector_ids"]}


def _proven_of_the_library(
    store: Store, text: str, model: ModelIdentity | None, rows: Sequence[dict[str, Any]]
) -> tuple[Vector, ...]:
    """The vectors of the latest recommendation for the concept `text`, at its strengths, where some are not its own.

    `rows` are the concept's own vectors. Empty where the recommended ones are all among them, where one was removed, or
    where there is none. Raises VectorAmbiguous where no name can stand for them: they are no sum of one vector a layer.
    """
    sql = f"{_RECOMMENDED} SEMI JOIN (FROM raw.concepts WHERE name = ?) c USING (concept_id) ORDER BY started_at DESC"
    own = {(row["model_id"], row["concept_id"]) for row in rows}
    for latest in _of_model(store.rows(sql, [text]), model):
        ids = [key for key in latest["vector_ids"] if key is not None]
        if ids and (not own or (latest["model_id"], latest["concept_id"]) in own):
            break
    else:
        return ()
    kept = store.rows("SELECT vector_id FROM vectors WHERE list_contains(?, vector_id)", [ids])
    if set(ids) <= {row["vector_id"] for row in rows} or len(kept) < len(ids):
        return ()
    strengths, vectors = _strengths(latest["intervention"]), vectors_by_id(store, ids)
    if set(strengths) != set(ids) or len({vector.layer for vector in vectors}) < len(ids):
        own_ones = f", or say which of the concept's own vectors is meant, such as {_example(rows)}" if rows else ""
        raise VectorAmbiguous(
            f"what was recommended for {text!r} has vectors that are not of that concept, and is no sum of one vector "
            f"a layer: {in_names(store, latest['intervention'])}\nSteer by that expression{own_ones}"
        )
    by_layer = sorted(vectors, key=lambda vector: vector.layer)
    return tuple(_recommended_at(vector, strengths[vector.vector_id]) for vector in by_layer)


def _strengths(intervention: str | None) -> dict[str, Amount]:
    """The strengths of a sum of vectors, by their keys; none for an intervention that is anything else."""
    expression = stored(intervention)
    clauses = expression.clauses if expression else ()
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


def _ambiguous(text: str, rows: Sequence[dict[str, Any]], none_recommended: bool) -> str:
    """That `text` is several vectors, which they are, and how to say which is meant."""
    unfinished = "None is recommended yet: `steer run` does that at its end. " if none_recommended else ""
    return (
        f"{text!r} is {len(rows)} vectors:{_choices(rows)}\n"
        f"{unfinished}Say which, by its layer or its key, such as {_example(rows)}; several are taken by --layers "
        f"and --all-layers, in Python by find_vectors(…, layers=); `steer vectors rm {rows[0]['vector_id']}` takes one "
        "out of the library."
    )


def _choices(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"\n  {row['vector_id']}  {row['name'] or row['concept'] or row['method']}/{row['method']}/{row['layer']} "
        f"of {row['model']} ({row['n_pairs']} pairs, position {row['position']})"
        for row in rows[:_SHOWN]
    ]
    return "".join(lines) + (f"\n  … and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _example(rows: Sequence[dict[str, Any]]) -> str:
    """A text that means exactly one of `rows`: its name and layer, or its key where others share these."""
    names = [row["name"] or f"{row['concept']}/{row['method']}" for row in rows]
    texts = [f"{name}/{row['layer']}" for name, row in zip(names, rows, strict=True)]
    alone = [text for text in texts[:_SHOWN] if texts.count(text) == 1]
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
    hint = f"did you mean {meant[0]!r}?" if meant else "`steer vectors list` (list_vectors) shows those that there are"
    return f"the store {store.root} has no vector {text!r}: {hint}"
