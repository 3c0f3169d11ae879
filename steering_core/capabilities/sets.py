"""`CapabilitySet`: questions with one right answer among several, and tasks whose texts are checked by code."""

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from steering_core.capabilities.checks import fault_of, keeps
from steering_core.concepts.concept import MAX_CONCEPT_NAME, MAX_ROWS, Card, Text, refuse_repeats
from steering_core.foundation.bounds import MaxTokens
from steering_core.foundation.errors import CapabilityError
from steering_core.foundation.keys import content_key
from steering_core.foundation.validation import Strict

MAX_CHOICES = 100
MAX_CHECKS = 32  # of one task
MAX_ARGUMENTS = 64  # of one check; IFEval's rows on the hub name all of theirs, most of them null


class Question(Strict, fault=CapabilityError):
    """A prompt with one right answer and at least one wrong one."""

    prompt: Text
    right: Text
    wrong: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_CHOICES)]

    @model_validator(mode="after")
    def _all_different(self) -> "Question":
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("two of its answers are the same: every answer must differ from the others")
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """All answers, the right one first."""
        return (self.right, *self.wrong)

    @cached_property
    def item_id(self) -> str:
        """Content key of the question."""
        return content_key("question", self.prompt, *self.choices)


class Demand(Strict, fault=CapabilityError):
    """One instruction that a text has to keep: the id of a check, and what that check takes."""

    id: Text
    kwargs: Annotated[dict[str, Any], Field(max_length=MAX_ARGUMENTS)] = {}

    @field_validator("kwargs")
    @classmethod
    def _without_nulls(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in kwargs.items() if value is not None}

    @model_validator(mode="after")
    def _known(self) -> "Demand":
        if fault := fault_of(self.id, self.kwargs):
            raise ValueError(fault)
        return self


class Task(Strict, fault=CapabilityError):
    """A prompt whose answer is a text that has to keep all of `checks`."""

    prompt: Text
    checks: Annotated[tuple[Demand, ...], Field(min_length=1, max_length=MAX_CHECKS)]

    def kept_by(self, text: str) -> bool:
        """Whether the text keeps every instruction; one without any letter keeps none (IFEval's strict accuracy)."""
        return bool(text.strip()) and all(keeps(one.id, text, one.kwargs) for one in self.checks)

    @cached_property
    def item_id(self) -> str:
        """Content key of the task."""
        return content_key("task", self.prompt, [[one.id, one.kwargs] for one in self.checks])


class CapabilitySet(Strict, fault=CapabilityError):
    """A named set of `questions`, `tasks` or both, with the card that says what it is and how it was made.

    With `chat` prompts go through the model's chat template, where it has one. A task's text has at most `max_tokens`
    tokens.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MAX_CONCEPT_NAME)]
    description: str = ""
    chat: bool = True
    max_tokens: MaxTokens = 64
    questions: Annotated[tuple[Question, ...], Field(max_length=MAX_ROWS)] = ()
    tasks: Annotated[tuple[Task, ...], Field(max_length=MAX_ROWS)] = ()
    card: Card = Card()

    @field_validator("questions")
    @classmethod
    def _no_question_twice(cls, questions: tuple[Question, ...]) -> tuple[Question, ...]:
        refuse_repeats("question", [question.item_id for question in questions])
        return questions

    @field_validator("tasks")
    @classmethod
    def _no_task_twice(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        refuse_repeats("task", [task.item_id for task in tasks])
        return tasks

    @model_validator(mode="after")
    def _holds_something(self) -> "CapabilitySet":
        if not self.questions and not self.tasks:
            raise ValueError("holds neither questions nor tasks: give at least one")
        return self

    @cached_property
    def set_id(self) -> str:
        """Content key of all that a measurement depends on: everything but description and card."""
        items = [*(one.item_id for one in self.questions), *(one.item_id for one in self.tasks)]
        return content_key("capability set", self.name, self.chat, self.max_tokens if self.tasks else None, items)

    @property
    def n(self) -> int:
        """How many questions and tasks it has."""
        return len(self.questions) + len(self.tasks)

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing; None where there are tasks, which nobody guesses."""
        if self.tasks:
            return None
        return sum(1 / len(question.choices) for question in self.questions) / len(self.questions)
