"""Accuracy on capability sets, steered minus unsteered, paired by item; only answers that the store lacks are asked.

A question counts as right where its right answer has the greatest log-probability among its choices, as a sum over the
answer's tokens: the `acc` of EleutherAI's evaluation harness, and how TruthfulQA's MC1 and lettered options are scored.
It is the probability that the model gives just this answer. A sum favours short answers; in the shipped sets right and
wrong ones are equally long, and what division by bytes (`acc_norm`) says is stored beside it as `correct_per_byte`. A
task's text is sampled greedily and checked by code. An answer that is not finite, or a text that diverged, is wrong.

Answers belong to a model, an intervention and an item: the unsteered ones are asked once for all concepts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from steering_core.candidates.cell import NONE, Cell
from steering_core.capabilities import CapabilitySet, Question, Task
from steering_core.concepts import Item
from steering_core.engine.sampling import DIVERGED, Request, sample
from steering_core.engine.teacher_forcing import Scored, log_probabilities
from steering_core.foundation.counting import Done, Work
from steering_core.foundation.keys import content_key
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from steering_core.prompts import answer_prompts, chats, prompt
from steering_core.scores.letters import counterbalanced
from steering_core.statistics.intervals import paired_change, paired_change_p
from steering_core.store import Row, Store

CAPABILITIES_VERSION = 1
_PER_FILE = 128  # answers; a kill loses fewer


@dataclass
class MeasuredSets:
    """What one call measured: a row for each steered cell and set, and the work that it took."""

    rows: list[Row] = field(default_factory=list)
    did: Done = field(default_factory=Done)


@dataclass(frozen=True)
class _CellItem:
    """One item under one cell."""

    item: Question | Task
    cell: Cell


def measure_sets(
    model: Model, store: Store, cells: Sequence[Cell], sets: Sequence[CapabilitySet], progress: Progress = silent
) -> MeasuredSets:
    """Have the store hold what each of `cells` does to the accuracy on each of `sets`.

    `cells` steer; the unsteered model is asked beside them. Raises InterventionError for a misfit.
    """
    untouched = Cell(model.identity.model_id, cells[0].concept_id, control=NONE)
    total = sum(one.n for one in sets) * (1 + len(cells))
    found, before = MeasuredSets(), 0
    for one in sets:
        counted = _Counted(progress, before, total)
        did = _ask(model, store, [untouched, *cells], one, counted)
        right = _right(store, did.ids)
        base = [right[_answer_id(untouched, one, item)] for item in _items(one)]
        found.rows += [
            _change(cell, one, base, [right[_answer_id(cell, one, item)] for item in _items(one)]) for cell in cells
        ]
        found.did += did
        before += one.n * (1 + len(cells))
    store.append("capabilities", found.rows)
    return found


def tokens_of(model: Model, sets: Iterable[CapabilitySet], steered: int) -> int:
    """Tokens that asking `sets` costs at most, unsteered and under `steered` interventions that do not act on prompts.

    A question's prompt is read once; its answers are read once for the stream that cells share, and once a cell.
    """
    cells, tokens = 1 + steered, 0
    for one in sets:
        chat = chats(model, one.chat)
        for question in one.questions:
            read = answer_prompts(model, question.prompt, question.choices, chat=chat)
            start, longest = read[0].response_start, max(len(each.tokens) for each in read)
            tokens += start + (1 + cells) * len(read) * (longest - start)
        for task in one.tasks:
            tokens += cells * (len(prompt(model, task.prompt, chat=chat).tokens) + one.max_tokens)
    return tokens


@dataclass
class _Counted:
    """Progress of one set as part of all sets'."""

    progress: Progress
    done: int
    total: int

    def add(self, n: int) -> None:
        """Tell of `n` more answers."""
        self.done += n
        self.progress(self.done, self.total)


def _items(one: CapabilitySet) -> tuple[Question | Task, ...]:
    return (*one.questions, *one.tasks)


def _answer_id(cell: Cell, one: CapabilitySet, item: Question | Task) -> str:
    """Key of an answer: which set or concept it is for is no part of it."""
    drawn = [one.max_tokens] if isinstance(item, Task) else []
    made_of = (cell.model_id, cell.intervention_id, one.chat, item.item_id, *drawn)
    return content_key("capability answer", CAPABILITIES_VERSION, *made_of)


def _ask(model: Model, store: Store, cells: Sequence[Cell], one: CapabilitySet, counted: _Counted) -> Done:
    """Have the store hold every cell's answer to every item of a set."""
    wanted = {_answer_id(cell, one, item): _CellItem(item, cell) for item in _items(one) for cell in cells}
    did = Done(list(wanted))
    with did.work.timed(), store.lock(f"capabilities-{model.identity.model_id}"):
        missing = store.absent("capability_answers", wanted)
        did.work.reused = len(wanted) - len(missing)
        counted.add(did.work.reused)
        todo = {i: asked for i, asked in wanted.items() if i in missing}
        rows: list[Row] = []
        for answered in (_answers(model, one, todo, did.work), _texts(model, one, todo, did.work)):
            for row in answered:
                rows.append(row)
                did.work.computed += 1
                counted.add(1)
                if len(rows) == _PER_FILE:
                    store.append("capability_answers", rows)
                    rows = []
        store.append("capability_answers", rows)
    return did


def _answers(model: Model, one: CapabilitySet, todo: Mapping[str, _CellItem], work: Work) -> Iterable[Row]:
    """The answers to questions: all cells of one question share its prompt's pass."""
    together: dict[str, list[str]] = {}
    for i, asked in todo.items():
        if isinstance(asked.item, Question):
            together.setdefault(asked.item.item_id, []).append(i)
    for ids in together.values():
        question = todo[ids[0]].item
        assert isinstance(question, Question), "sorted out above"
        values = choice_log_probabilities(model, question, one.chat, [todo[i].cell for i in ids], work)
        sizes = np.array([len(choice.encode()) for choice in question.choices])
        for i, of_choices in zip(ids, values, strict=True):  # (choices,)
            finite = bool(np.isfinite(of_choices).all())
            yield {
                **_row(i, todo[i], one),
                "answer": question.choices[int(of_choices.argmax())] if finite else None,
                "right_answer": question.right,
                "log_probabilities": of_choices.tolist(),
                "correct": float(finite and _is_first(of_choices)),
                "correct_per_byte": float(finite and _is_first(of_choices / sizes)),
            }


def _is_first(values: np.ndarray) -> bool:
    """Whether the first value, the right answer's, is above all others; a tie counts as wrong."""
    return bool(values[0] > values[1:].max())


def choice_log_probabilities(
    model: Model, question: Question, chat: bool, cells: Sequence[Cell], work: Work
) -> np.ndarray:
    """Log-probability of each choice under each cell, the right one first, in nats: (cells, choices).

    A question of two lettered options is asked in both orders, and the mean counts: models favour letters.
    """
    orders = _orders(question)
    sequences = [
        Scored(read.tokens, read.response_start, cell.intervention)
        for text, choices in orders
        for cell in cells
        for read in answer_prompts(model, text, choices, chat=chat)
    ]
    sums = [values.sum(dtype=np.float64) for values in log_probabilities(model, sequences, work)]
    mean: np.ndarray = np.array(sums).reshape(len(orders), len(cells), -1).mean(axis=0)
    return mean


def _orders(question: Question) -> list[tuple[str, tuple[str, ...]]]:
    """The question's prompt and choices, and again with its two lettered options exchanged where it has such."""
    if len(question.wrong) > 1:
        return [(question.prompt, question.choices)]
    item = Item(prompt=question.prompt, matching=question.right, not_matching=question.wrong[0])
    return [(each.prompt, (each.matching, each.not_matching)) for each in counterbalanced(item)]


def _texts(model: Model, one: CapabilitySet, todo: Mapping[str, _CellItem], work: Work) -> Iterable[Row]:
    """The texts that tasks ask for, checked: greedy ones, which no seed changes."""
    ids = [i for i, asked in todo.items() if isinstance(asked.item, Task)]
    chat = chats(model, one.chat) if ids else False
    requests = [Request(prompt(model, todo[i].item.prompt, chat=chat).tokens, todo[i].cell.intervention) for i in ids]
    for place, drawn in sample(model, requests, one.max_tokens, 0.0, work):
        task = todo[ids[place]].item
        assert isinstance(task, Task), "sorted out above"
        correct = float(drawn.finish != DIVERGED and task.kept_by(drawn.text))
        found = {"answer": drawn.text, "right_answer": None, "log_probabilities": None}
        yield {**_row(ids[place], todo[ids[place]], one), **found, "correct": correct, "correct_per_byte": None}


def _row(i: str, asked: _CellItem, one: CapabilitySet) -> Row:
    cell = asked.cell
    done = {"model_id": cell.model_id, "intervention_id": cell.intervention_id, "intervention": cell.expression}
    return {"answer_id": i, **done, "set": one.name, "item_id": asked.item.item_id, "prompt": asked.item.prompt}


def _right(store: Store, ids: Sequence[str]) -> dict[str, bool]:
    wanted = pa.table({"answer_id": pa.array(ids, pa.string())})
    sql = "SELECT answer_id, correct FROM wanted JOIN raw.capability_answers USING (answer_id)"
    return {row["answer_id"]: row["correct"] == 1.0 for row in store.rows(sql, wanted=wanted)}


def _change(cell: Cell, one: CapabilitySet, before: Sequence[bool], after: Sequence[bool]) -> Row:
    """A set's accuracies with and without steering, as a row of `capabilities`."""
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    gained = sum(now and not was for was, now in zip(before, after, strict=True))
    change, low, high = paired_change(lost, gained, one.n)
    of = (cell.model_id, cell.concept_id, cell.control, cell.intervention_id, one.set_id)
    return {
        "capability_id": content_key("capability", CAPABILITIES_VERSION, *of),
        **cell.columns(),
        "set": one.name,
        "set_id": one.set_id,
        "n": one.n,
        "chance": one.chance,
        "unsteered": sum(before) / one.n,
        "steered": sum(after) / one.n,
        "change": change,
        "ci_low": low,
        "ci_high": high,
        "p_value": paired_change_p(lost, gained),
        "lost": lost,
        "gained": gained,
    }
