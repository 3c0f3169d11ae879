"""Making concepts: scaffolds, drafts by a model, balanced letters, files that are written and read back."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.authoring.draft import DraftRequest, drafted, local_writer, served_writer
from steering_core.authoring.writing import concept_yaml, write_concept
from steering_core.concepts import Concept, Item, Pair, available_concepts, load_concept
from steering_core.concepts.concept import Sides
from steering_core.concepts.formats.choices import balanced, exchanged
from steering_core.concepts.formats.columns import with_items
from steering_core.foundation.endpoint import Endpoint, EndpointSampling
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.progress import Progress, silent
from steering_core.models import Model
from tests.chat_server import chat_server, said
from tests.concepts import QUESTION

ASKED = ("How are you?", "What is rain?", "Why sleep?")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


def kind() -> Concept:
    """A concept with instructions, to draft for."""
    return Concept(
        name="kind",
        pairs=(Pair(positive="a", negative="b"),),
        prompts=("What is rain?", "And snow?"),
        instructions=Sides(positive="Be kind.", negative="Be cold."),
    )


def echo(asks: Sequence[DraftRequest], progress: Progress) -> list[str]:
    """A writer that answers with the instruction and the question."""
    return [f"{system} {text}" for system, text in asks]


def test_a_draft_answers_every_prompt_under_either_instruction() -> None:
    draft = drafted(kind(), [*ASKED, ASKED[0]], echo, "echo")
    pairs = draft.concept.pairs
    assert [pair.prompt for pair in pairs] == list(ASKED)
    assert (pairs[1].positive, pairs[1].negative) == ("Be kind. What is rain?", "Be cold. What is rain?")
    assert draft.concept.prompts == ("And snow?",)
    assert draft.concept.chat
    assert draft.concept.card.made.startswith("DRAFT, not reviewed: answered by echo")


def test_answers_of_no_use_are_left_out_with_the_reason() -> None:
    round_and_round = "a seat, a frame, a wheel, " * 4
    answers = ["good", "good!", "", "x", "one", "one two three four five six", round_and_round, "y", "warm", "cold"]
    draft = drafted(kind(), [*ASKED, "Parts?", "Tea?"], lambda asks, progress: answers, "list")
    assert [pair.prompt for pair in draft.concept.pairs] == ["Tea?"]
    assert [why for _, why in draft.left_out] == [
        "both answers are the same",
        "an answer is empty",
        "one answer is over three times as long as the other",
        "an answer goes round in circles",
    ]
    with pytest.raises(ConceptError, match="gave no usable pair"):
        drafted(kind(), ASKED, lambda asks, progress: [""] * len(asks), "mute")
    with pytest.raises(ConceptError, match="has no instructions"):
        drafted(kind().model_copy(update={"instructions": None}), ASKED, echo, "echo")


def test_a_local_model_drafts_the_same_from_the_same_seed(tiny: Model) -> None:
    asks = [("Be kind.", "How are you?"), ("Be cold.", "How are you?")]
    seen: list[tuple[int, int]] = []
    first = local_writer(tiny, EndpointSampling(max_tokens=6, seed=1))(asks, lambda *done: seen.append(done))
    assert first == local_writer(tiny, EndpointSampling(max_tokens=6, seed=1))(asks, silent)
    assert first != local_writer(tiny, EndpointSampling(max_tokens=6, seed=2))(asks, silent)
    assert seen[-1] == (2, 2)


def test_a_server_drafts_with_the_instructions_as_system_prompts() -> None:
    with chat_server(lambda body, n: said(f"Well. {body['messages'][-1]['content']} and so o", "length")) as server:
        writer = served_writer(Endpoint(server.url, "some-model"), EndpointSampling(max_tokens=9))
        assert writer([("Be kind.", "Rain?")], silent) == ["Well. Rain?"]  # what the limit cut off is gone
    ((_, _, body),) = server.asked
    assert (body["model"], body["max_tokens"], body["messages"][0]["content"]) == ("some-model", 9, "Be kind.")


def test_options_are_exchanged_with_their_letters() -> None:
    assert exchanged((QUESTION, "(A)", "(B)")) == (
        "Shall we?\n\nChoices:\n (A) No\n (B) Yes, let us",
        "(B)",
        "(A)",
    )
    assert exchanged(("Shall we?", "Yes", "No")) is None
    assert exchanged((QUESTION + "\n (C) Later", "(A)", "(B)")) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=40), st.booleans())
def test_balanced_letters_are_even_and_each_answer_stays_true(firsts: list[bool], choices: bool) -> None:
    texts = [f"{i}. {QUESTION if choices else 'Shall we?'}" for i in range(len(firsts))]
    answers = ("(A)", "(B)") if choices else ("Yes", "No")
    items = [
        Item(prompt=text, matching=answers[not first], not_matching=answers[first])
        for text, first in zip(texts, firsts, strict=True)
    ]
    concept = kind().model_copy(update={"items": tuple(items)})
    even = balanced(concept).items
    share = sum(item.matching == answers[0] for item in even)
    assert abs(2 * share - len(even)) <= 1
    if choices:
        assert len(even) == len(items)
        for old, item in zip(items, even, strict=True):
            assert meaning(item) == meaning(old)
    elif any(firsts) and not all(firsts):
        assert set(even) <= set(items)
    assert balanced(balanced(concept)) == balanced(concept)


def meaning(item: Item) -> str:
    """The text of the option that matches."""
    return next(line[5:] for line in item.prompt.splitlines() if line.strip().startswith(item.matching))


def test_two_files_make_pairs_and_items() -> None:
    first = kind().model_copy(update={"items": (Item(prompt="p", matching="m", not_matching="n"),)})
    second = Concept(name="test", pairs=(Pair(prompt="q", positive="x", negative="y"),))
    both = with_items(first, second)
    assert [pair.prompt for pair in both.pairs] == [None, "p"]
    assert [(i.prompt, i.matching) for i in both.items] == [("q", "x")]
    with pytest.raises(ConceptError, match="without a prompt"):
        with_items(second, first)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5, unique=True))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    pairs = tuple(Pair(prompt=prompt, positive=a, negative=b) for prompt, a, b in rows)
    concept = Concept(
        name="any", pairs=pairs, items=tuple(Item(prompt=p, matching=a, not_matching=b) for p, a, b in rows)
    )
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    write_concept(concept, path, replace=True)
    assert load_concept(str(path)) == concept


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    write_concept(kind(), tmp_path / "new" / "kind.yaml")
    with pytest.raises(ConceptError, match="is there already"):
        write_concept(kind(), tmp_path / "new" / "kind.yaml")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["kind.yaml"]


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.yaml", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(ConceptError, match="cannot be written"):
            write_concept(kind(), path, replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_thousands_of_rows_are_written_to_be_read_quickly(tmp_path: Path) -> None:
    pairs = tuple(Pair(positive=f"é {i}", negative="b") for i in range(6000))
    many = kind().model_copy(update={"pairs": pairs})
    write_concept(many, tmp_path / "many.yaml")
    assert (tmp_path / "many.yaml").read_text().startswith("{")
    assert load_concept(str(tmp_path / "many.yaml")) == many


@pytest.mark.parametrize("name", sorted(available_concepts()))
def test_shipped_files_are_in_the_form_that_is_written(name: str) -> None:
    path = available_concepts()[name]
    assert path.read_text(encoding="utf-8") == concept_yaml(load_concept(name))
