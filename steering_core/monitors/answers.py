"""Answers to screen: the rows of a data set that somebody may train on, each a conversation and its last answer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from steering_core.concepts.formats.contents import read_contents
from steering_core.concepts.formats.messages import SYSTEM, turns_of
from steering_core.concepts.formats.shapes import as_rows
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import shown

PROMPTS = ("prompt", "question", "instruction", "input", "query", "user")
ANSWERS = ("answer", "response", "completion", "output", "chosen", "assistant", "text")
TALKS = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class AnswerRow:
    """One row: the messages before an answer (none for a bare text), and the answer."""

    ordinal: int
    messages: tuple[tuple[str, str], ...]
    answer: str

    @property
    def prompt(self) -> str:
        """What the answer answers, in words."""
        return "\n\n".join(text for _, text in self.messages)


@dataclass(frozen=True)
class Answers:
    """A data set: its name, its rows, and how many rows of the file hold no answer."""

    name: str
    rows: tuple[AnswerRow, ...]
    left_out: int = 0

    @cached_property
    def dataset_id(self) -> str:
        """Content key of its rows."""
        return content_key("dataset", [[row.messages, row.answer] for row in self.rows])


def read_answers(path: Path, prompt: str | None = None, answer: str | None = None) -> Answers:
    """The answers in a file of JSON, JSON lines, CSV or Parquet; columns are found by their usual names.

    A column of messages (OpenAI's form, or ShareGPT's) goes first, then one of prompts and one of answers; `prompt` and
    `answer` name others. Raises ConceptError for a file without answers.
    """
    contents = as_rows(read_contents(path))
    columns = contents.columns
    for wanted in (prompt, answer):
        if wanted is not None and wanted not in columns:
            raise ConceptError(f"{path} has no column {wanted!r}; there are: {', '.join(columns) or 'none'}")
    talk = None if answer else next((name for name in TALKS if name in columns), None)
    asked = prompt or next((name for name in PROMPTS if name in columns), None)
    said = answer or next((name for name in ANSWERS if name in columns and name != asked), None)
    if talk is None and said is None and contents.strings:
        begins = f"{path} holds bare texts, beginning {shown(contents.strings[0])}"
        raise ConceptError(f'{begins}: write each as JSON, {{"text": …}}, or with the prompt that it answers')
    if talk is None and said is None:
        raise ConceptError(
            f"{path} has no column of answers: there are {', '.join(columns) or 'none'}, and it is looked for "
            f"{', '.join(TALKS)}, or {', '.join(ANSWERS)}; name yours with --answer-column"
        )
    found = [_answer_row(i, row.values, talk, asked, said) for i, row in enumerate(contents.rows)]
    rows = tuple(row for row in found if row is not None)
    if not rows:
        raise ConceptError(f"none of the {len(found)} rows of {path} holds an answer: an assistant's words, not empty")
    return Answers(path.name, rows, len(found) - len(rows))


def _answer_row(
    ordinal: int, values: dict[str, Any], talk: str | None, asked: str | None, said: str | None
) -> AnswerRow | None:
    """A row by its messages where it has some, else by its columns: a data set of several sources has both."""
    if talk and values.get(talk) is not None:
        return _of_talk(ordinal, values[talk])
    return _of_columns(ordinal, values, asked, said) if said else None


def _of_talk(ordinal: int, value: Any) -> AnswerRow | None:
    """A conversation up to its last answer; None where the model says nothing in it."""
    turns = turns_of(value) or ()
    last = max((i for i, turn in enumerate(turns) if turn.answers and turn.text.strip()), default=None)
    if last is None:
        return None
    roles = {True: "assistant", False: "user"}
    before = tuple(("system" if t.role in SYSTEM else roles[t.answers], t.text) for t in turns[:last] if t.text)
    return AnswerRow(ordinal, before, turns[last].text)


def _of_columns(ordinal: int, values: dict[str, Any], prompt: str | None, answer: str) -> AnswerRow | None:
    said, asked = values.get(answer), values.get(prompt) if prompt else None
    if not isinstance(said, str) or not said.strip():
        return None
    messages = (("user", asked),) if isinstance(asked, str) and asked.strip() else ()
    return AnswerRow(ordinal, messages, said)
