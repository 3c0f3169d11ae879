"""The shipped capability sets: enough items, right answers, cards, and no answer that its length gives away."""

import re
from collections.abc import Callable, Sequence

import pytest

from steering_core.candidates.cell import Cell
from steering_core.capabilities import CapabilitySet, available_sets, load_set
from steering_core.capabilities.checks import CHECKS
from steering_core.capabilities.refusals import refuses
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import CapabilityError
from steering_core.foundation.validation import checked
from steering_core.models import Model
from steering_core.scores.capabilities import choice_log_probabilities

SHIPPED = ("arithmetic", "facts", "grammar", "harmful-requests", "instructions", "over-refusal", "reading")
ASKED = tuple(name for name in SHIPPED if name != "instructions")
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    r"What is (\d+) \+ (\d+)\?": lambda a, b: a + b,
    r"What is (\d+) - (\d+)\?": lambda a, b: a - b,
    r"What is (\d+) times (\d+)\?": lambda a, b: a * b,
    r"What is (\d+) divided by (\d+)\?": lambda a, b: _quotient(a, b),
    r"A shop has (\d+) apples and sells (\d+)\..*": lambda a, b: a - b,
    r"Each of (\d+) tables seats (\d+) guests\..*": lambda a, b: a * b,
    r"A train leaves with (\d+) people on board, and (\d+) more get on\..*": lambda a, b: a + b,
    r"(\d+) stickers are shared equally among (\d+) children\..*": lambda a, b: _quotient(a, b),
    r"A film lasts (\d+) minutes, of which (\d+) have passed\..*": lambda a, b: a - b,
    r"One ticket costs (\d+) euros\. What do (\d+) tickets cost, in euros\?": lambda a, b: a * b,
    r"A library owns (\d+) books and buys (\d+) more\..*": lambda a, b: a + b,
}


def _quotient(a: int, b: int) -> int:
    assert a % b == 0, f"{a} / {b} leaves a remainder"
    return a // b


def test_these_sets_are_shipped() -> None:
    assert set(SHIPPED) <= set(available_sets())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_set_has_a_hundred_items_and_a_card(name: str) -> None:
    one = load_set(name)
    assert one.name == name
    assert one.n >= 100
    assert one.description
    assert all((one.card.what, one.card.made, one.card.biases, one.card.licence))
    prompts = [item.prompt for item in (*one.questions, *one.tasks)]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("pick", [max, min])
def test_length_does_not_give_the_answer(name: str, pick: Callable[[Sequence[int]], int]) -> None:
    """Whoever always takes the longest answer, or the shortest, is right about as often as one who guesses."""
    one = load_set(name)
    right = 0.0
    for question in one.questions:
        lengths = [len(choice) for choice in question.choices]
        taken = [i for i, length in enumerate(lengths) if length == pick(lengths)]
        right += (0 in taken) / len(taken)
    assert one.chance is not None
    assert right / one.n <= one.chance + 0.06


def test_every_sum_is_right() -> None:
    for question in load_set("arithmetic").questions:
        told = [(found, do) for form, do in OPERATIONS.items() if (found := re.fullmatch(form, question.prompt))]
        assert len(told) == 1, question.prompt
        found, do = told[0]
        results = [int(choice.rpartition("= ")[2]) for choice in question.choices]
        assert results[0] == do(int(found[1]), int(found[2])), question
        assert results[0] not in results[1:]
        assert len({choice.rpartition("= ")[0] for choice in question.choices}) == 1  # the equation is the same


def test_a_sum_of_every_form_is_there() -> None:
    prompts = [question.prompt for question in load_set("arithmetic").questions]
    assert all(any(re.fullmatch(form, prompt) for prompt in prompts) for form in OPERATIONS)


def test_sentences_of_grammar_end_alike() -> None:
    """Right and wrong differ in the form alone: what follows it is the same."""
    for question in load_set("grammar").questions:
        (wrong,) = question.wrong
        differing = set(re.findall(r"[\w']+", question.right)) ^ set(re.findall(r"[\w']+", wrong))
        assert len(differing) <= 4, question
        assert question.right[-1] == wrong[-1], question


def test_answers_of_reading_are_about_passages_that_are_shared() -> None:
    passages = [question.prompt.split("\n\n")[0] for question in load_set("reading").questions]
    assert 20 <= len(set(passages)) <= len(passages) / 3


def test_replies_refuse_where_they_should() -> None:
    """Wording that a refusal check would miss is rare, and no answering reply reads as a refusal."""
    over, harmful = load_set("over-refusal"), load_set("harmful-requests")
    assert not [q.right for q in over.questions if refuses(q.right)]
    assert not [q.wrong[0] for q in harmful.questions if refuses(q.wrong[0])]
    assert sum(refuses(q.wrong[0]) for q in over.questions) > 0.8 * over.n


def test_instructions_are_of_many_kinds() -> None:
    used = {check.id for task in load_set("instructions").tasks for check in task.checks}
    assert len(used) >= 20
    assert used <= set(CHECKS)
    assert {name.split(":")[0] for name in used} >= {"length_constraints", "detectable_format", "language"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"questions": [{"prompt": "a", "right": "b", "wrong": ["b"]}]}, "two of its answers are the same"),
        ({"questions": [{"prompt": "a", "right": "b", "wrong": []}]}, "give at least 1 item"),
        ({"questions": [{"prompt": "a", "right": 3, "wrong": ["b"]}]}, "put it in quotes"),
        ({"questions": [{"prompt": "a", "right": "b", "wrong": ["c"]}] * 2}, "question 2 repeats question 1"),
        ({}, "holds neither questions nor tasks"),
        ({"tasks": [{"prompt": "a", "checks": []}]}, "give at least 1 item"),
        (
            {"tasks": [{"prompt": "a", "checks": [{"id": "punctuation:no_coma"}]}]},
            "did you mean 'punctuation:no_comma'",
        ),
        ({"question": []}, "did you mean 'questions'"),
    ],
)
def test_a_faulty_set_is_refused_with_its_fault(given: dict[str, object], why: str) -> None:
    with pytest.raises(CapabilityError, match=why):
        checked(CapabilitySet, {"name": "x", **given}, "x", CapabilityError)


@pytest.mark.real
def test_the_embedded_model_completes_sentences_and_knows_facts(real: Model) -> None:
    """Far above chance, in the form in which the sets ask: a set at chance would have nothing to lose."""
    untouched = [Cell(real.identity.model_id, None)]
    for name, at_least in (("grammar", 9), ("facts", 5)):
        one = load_set(name)
        asked = one.questions[:12]
        found = [choice_log_probabilities(real, q, one.chat, untouched, Work())[0] for q in asked]
        assert sum(values[0] > values[1:].max() for values in found) >= at_least, name
