"""Screens: how far the answers of a data set lie along vectors, before somebody trains on them.

The mean projection of each answer's tokens is measured, and that of the model's own answer to the same prompt; the
difference says what training on the row would push the model towards (projection difference; Chen et al. 2025, persona
vectors). Rows are stored as they are measured, so that an interrupted screen goes on, and rows that the store has from
another data set are not measured again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from steering_core.activations.in_memory import activations_of
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import PromptError
from steering_core.foundation.keys import content_key
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from steering_core.monitors.answers import AnswerRow, Answers
from steering_core.prompts import Prompt, answered_conversation, conversation, prompt
from steering_core.store import Store
from steering_core.vectors.vector import Vector

SCREENS_VERSION = 1
_CHUNK = 64  # rows between two writes


@dataclass(frozen=True)
class Screened:
    """How many rows a screen measured and reused (`work`), and how many the model could not read (`too_long`)."""

    dataset_id: str
    work: Work
    too_long: int


def screen(
    model: Model,
    store: Store,
    answers: Answers,
    vectors: Sequence[Vector],
    own_tokens: int = 64,
    progress: Progress = silent,
) -> Screened:
    """Have the store hold the projections of every answer on every vector; with `own_tokens` 0 not of own answers.

    The model's own answers are greedy, of `own_tokens` tokens at most. Raises VectorMismatch for another model's
    vector, PromptError where no row can be read.
    """
    for vector in vectors:
        vector.check(model.identity)
    work, too_long = Work(), 0
    keys = {
        (row.ordinal, v.vector_id): _screen_id(model, answers, row, v, own_tokens)
        for row in answers.rows
        for v in vectors
    }
    absent = store.absent("screens", list(keys.values()))
    todo = [row for row in answers.rows if any(keys[row.ordinal, v.vector_id] in absent for v in vectors)]
    work.reused += len(answers.rows) - len(todo)
    progress(work.reused, len(answers.rows))
    row_of = _row_maker(model, answers, vectors, own_tokens)
    known = _measured_elsewhere(store, model, todo, vectors, own_tokens)
    shared = [row for row in todo if row.ordinal in known]
    store.append(
        "screens",
        [
            row_of(row, k, *(reading[name] for name in _MEASURED))
            for row in shared
            for k, reading in enumerate(known[row.ordinal])
        ],
    )
    work.reused += len(shared)
    todo = [row for row in todo if row.ordinal not in known]
    with work.timed():
        for begin in range(0, len(todo), _CHUNK):
            some = todo[begin : begin + _CHUNK]
            read, unread = _readable(model, some)
            too_long += unread
            store.append("screens", _measured(model, read, vectors, own_tokens, row_of, work))
            work.computed += len(read)
            progress(work.reused + begin + len(some), len(answers.rows))
    if too_long == len(answers.rows):
        raise PromptError(
            f"none of the {too_long} rows of {answers.name} fits {model.name}'s context and chat template"
        )
    return Screened(answers.dataset_id, work, too_long)


_Read = tuple[AnswerRow, Prompt, Prompt | None]
"""A row, its prompt and answer as the model reads them, and the prompt alone."""
_RowOf = Callable[[AnswerRow, int, float, float | None, str | None, int], dict[str, Any]]


def _readable(model: Model, rows: Sequence[AnswerRow]) -> tuple[list[_Read], int]:
    """The rows as the model reads them, and how many it cannot read."""
    found: list[_Read] = []
    for row in rows:
        messages = [{"role": role, "content": text} for role, text in row.messages]
        try:
            if messages and model.chat_template.exists:
                found.append((row, answered_conversation(model, messages, row.answer), conversation(model, messages)))
            elif messages:
                found.append(
                    (
                        row,
                        prompt(model, row.prompt, chat=False, answer=row.answer),
                        prompt(model, row.prompt, chat=False),
                    )
                )
            else:
                found.append((row, prompt(model, row.answer, chat=False), None))
        except PromptError:  # beyond the context, or a turn that the template refuses: counted, and told at the end
            continue
    return found, len(rows) - len(found)


def _measured(
    model: Model, read: Sequence[_Read], vectors: Sequence[Vector], own_tokens: int, row_of: _RowOf, work: Work
) -> list[dict[str, Any]]:
    """Rows of the store for some rows of the data set."""
    if not read:
        return []
    own = _own_answers(model, read, own_tokens, work) if own_tokens else {}
    layers = sorted({vector.layer for vector in vectors})
    seen = _means(model, [whole for _, whole, _ in read], layers, vectors)
    places = list(own)
    owned = (
        _means(model, [own[place][1] for place in places], layers, vectors) if places else np.zeros((0, len(vectors)))
    )
    work.tokens += sum(len(whole.tokens) for _, whole, _ in read) + sum(len(p.tokens) for _, p in own.values())
    at = {place: i for i, place in enumerate(places)}
    rows = []
    for place, (row, whole, _) in enumerate(read):
        text = own[place][0] if place in own else None
        for k in range(len(vectors)):
            value = float(owned[at[place], k]) if place in own else None
            length = len(whole.tokens) - (whole.response_start if whole.response_start < len(whole.tokens) else 0)
            rows.append(row_of(row, k, float(seen[place, k]), value, text, length))
    return rows


def _own_answers(model: Model, read: Sequence[_Read], most: int, work: Work) -> dict[int, tuple[str, Prompt]]:
    """By place in `read` the model's own answer to the row's prompt, as text and prompt; none where it is empty."""
    asked = {place: alone for place, (_, _, alone) in enumerate(read) if alone is not None}
    places = list(asked)
    found: dict[int, tuple[str, Prompt]] = {}
    for i, said in sample(model, [Request(asked[place].tokens) for place in places], most, 0.0, work):
        stem = asked[places[i]]
        tokens = tuple(token for token in said.tokens if token not in model.stop_tokens)
        if tokens:
            whole = Prompt((*stem.tokens, *tokens), stem.text, len(stem.tokens), stem.tokenizer_id)
            found[places[i]] = (said.text, whole)
    return dict(sorted(found.items()))


def _means(model: Model, prompts: Sequence[Prompt], layers: list[int], vectors: Sequence[Vector]) -> np.ndarray:
    """Each answer's mean projection on each vector, (N, K)."""
    values, _ = activations_of(model, prompts, layers, "response")  # (N, L, D)
    columns = [
        values[:, layers.index(vector.layer)] @ (vector.direction / np.float32(vector.norm)) for vector in vectors
    ]
    return np.stack(columns, axis=1)


def _row_maker(model: Model, answers: Answers, vectors: Sequence[Vector], own_tokens: int) -> _RowOf:
    """The function that makes the stored row of an answer and a vector from what was measured."""

    def row_of(row: AnswerRow, k: int, seen: float, own: float | None, text: str | None, length: int) -> dict[str, Any]:
        """The row of an answer and the vector number `k`."""
        return {
            "screen_id": _screen_id(model, answers, row, vectors[k], own_tokens),
            "dataset_id": answers.dataset_id,
            "dataset": answers.name,
            "model_id": model.identity.model_id,
            "vector_id": vectors[k].vector_id,
            "ordinal": row.ordinal,
            "row_key": _row_key(row),
            "own_tokens": own_tokens,
            "prompt": row.prompt,
            "answer": row.answer,
            "own_answer": text,
            "n_tokens": length,
            "projection": seen,
            "own_projection": own,
            "difference": None if own is None else seen - own,
        }

    return row_of


def _row_key(row: AnswerRow) -> str:
    return content_key("answered", row.messages, row.answer)


def _screen_id(model: Model, answers: Answers, row: AnswerRow, vector: Vector, own_tokens: int) -> str:
    made_of = (answers.dataset_id, row.ordinal, model.identity.model_id, vector.vector_id, own_tokens)
    return content_key("screen", SCREENS_VERSION, *made_of)


_Reading = dict[str, Any]
"""What a screen measured of an answer along one vector: the columns `_MEASURED`."""
_MEASURED = ("projection", "own_projection", "own_answer", "n_tokens")


def _measured_elsewhere(
    store: Store, model: Model, rows: Sequence[AnswerRow], vectors: Sequence[Vector], own_tokens: int
) -> dict[int, list[_Reading]]:
    """What screens of other data sets measured, by ordinal; for rows that were measured along all the vectors.

    The readings of a row are in the order of `vectors`.
    """
    wanted = pa.table({"row_key": pa.array(sorted({_row_key(row) for row in rows}), pa.string())})
    ids = [vector.vector_id for vector in vectors]
    found = store.rows(
        "SELECT DISTINCT ON (row_key, vector_id) row_key, vector_id, projection, own_projection, own_answer, n_tokens "
        "FROM raw.screens SEMI JOIN wanted USING (row_key) "
        "WHERE model_id = ? AND own_tokens = ? AND list_contains(?, vector_id)",
        [model.identity.model_id, own_tokens, ids],
        wanted=wanted,
    )
    by_row: dict[str, dict[str, _Reading]] = {}
    for one in found:
        by_row.setdefault(one["row_key"], {})[one["vector_id"]] = one
    whole = {key: [read[i] for i in ids] for key, read in by_row.items() if len(read) == len(set(ids))}
    return {row.ordinal: whole[_row_key(row)] for row in rows if _row_key(row) in whole}
