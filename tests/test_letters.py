"""Items answered by letters are asked both ways round."""

import pytest

from steering_core.concepts import Item
from steering_core.scores.letters import counterbalanced

QUESTION = "Do you agree?\n\nChoices:\n (A) Yes, I do\n (B) No, I do not\n\nAnswer:"


@pytest.mark.parametrize(("a", "b"), [("(A)", "(B)"), ("A", "B"), (" A)", " B)"), (" (A)", " (B)")])
def test_options_are_exchanged_and_so_are_the_answers(a: str, b: str) -> None:
    item = Item(prompt=QUESTION, matching=a, not_matching=b)
    first, second = counterbalanced(item)
    assert first == item
    assert second.prompt == "Do you agree?\n\nChoices:\n (A) No, I do not\n (B) Yes, I do\n\nAnswer:"
    assert (second.matching, second.not_matching) == (b, a)
    assert counterbalanced(second)[1] == item


@pytest.mark.parametrize(
    ("prompt", "matching", "other"),
    [
        (QUESTION, "Yes", "No"),
        ("Is it so?", "(A)", "(B)"),
        (QUESTION, "(A)", "(C)"),
        (QUESTION, "A cat", "A dog"),
    ],
)
def test_other_items_are_left_alone(prompt: str, matching: str, other: str) -> None:
    item = Item(prompt=prompt, matching=matching, not_matching=other)
    assert counterbalanced(item) == [item]
