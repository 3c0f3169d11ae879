"""Making concepts: scaffolds, drafts by a model, balanced letters, files that are written and read back."""

import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.concepts import Concept, Item, Pair, available_concepts, load_concept
from steering_core.concepts.concept import Sides
from steering_core.concepts.formats.choices import balanced, exchanged
from steering_core.concepts.formats.contrast import with_items
from steering_core.concepts.generate import API_KEY, Ask, Endpoint, Sampling, drafted, local_writer
from steering_core.concepts.writing import concept_yaml, write_concept
from steering_core.errors import ConceptError
from steering_core.models import Model
from steering_core.progress import Progress, silent

ASKED = ("How are you?", "What is rain?", "Why sleep?")
QUESTION = "Shall we?\n\nChoices:\n (A) Yes, let us\n (B) No"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


def kind() -> Concept:
    """A concept with instructions, to draft for."""
    return Concept(
        name="kind",
        pairs=(Pair(positive="a", negative="b"),),
        prompts=("What is rain?", "And snow?"),
        instructions=Sides(positive="Be kind.", negative="Be cold."),
    )


def echo(asks: Sequence[Ask], progress: Progress) -> list[str]:
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
    answers = ["good", "good!", "", "x", "one", "one two three four five six", "warm", "cold"]
    draft = drafted(kind(), [*ASKED, "Tea?"], lambda asks, progress: answers, "list")
    assert [pair.prompt for pair in draft.concept.pairs] == ["Tea?"]
    assert [why for _, why in draft.left_out] == [
        "both answers are the same",
        "an answer is empty",
        "one answer is over three times as long as the other",
    ]
    with pytest.raises(ConceptError, match="gave no usable pair"):
        drafted(kind(), ASKED, lambda asks, progress: [""] * len(asks), "mute")
    with pytest.raises(ConceptError, match="has no instructions"):
        drafted(kind().model_copy(update={"instructions": None}), ASKED, echo, "echo")


def test_a_local_model_drafts_the_same_from_the_same_seed(tiny: Model) -> None:
    asks = [("Be kind.", "How are you?"), ("Be cold.", "How are you?")]
    seen: list[tuple[int, int]] = []
    first = local_writer(tiny, Sampling(max_tokens=6, seed=1))(asks, lambda *done: seen.append(done))
    assert first == local_writer(tiny, Sampling(max_tokens=6, seed=1))(asks, silent)
    assert first != local_writer(tiny, Sampling(max_tokens=6, seed=2))(asks, silent)
    assert seen[-1] == (2, 2)


class Server(http.server.BaseHTTPRequestHandler):
    """A chat-completions server that repeats the last message, or misbehaves as `mode` says."""

    mode: ClassVar[str] = "good"
    asked: ClassVar[list[tuple[str, str | None, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        answer = f"Well. {body['messages'][-1]['content']} and so o"
        reply = {"choices": [{"message": {"content": answer}, "finish_reason": "length"}]}
        data = json.dumps(reply if self.mode == "good" else {"choices": []} if self.mode == "odd" else "x").encode()
        self.send_response(401 if self.mode == "refuse" else 200)
        self.end_headers()
        self.wfile.write(b"not json" if self.mode == "garbage" else data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running server."""
    monkeypatch.setattr(Server, "asked", [])
    monkeypatch.setattr(Server, "mode", "good")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1/"
        running.shutdown()
        thread.join()


def test_a_server_is_asked_in_openais_form(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, "key")
    found = Endpoint(server, "some-model", Sampling(max_tokens=9)).write([("Be kind.", "Rain?")], silent)
    assert found == ["Well. Rain?"]  # what the limit cut off is gone
    ((path, key, body),) = Server.asked
    assert (path, key) == ("/v1/chat/completions", "Bearer key")
    assert (body["model"], body["max_tokens"], body["messages"][0]["content"]) == ("some-model", 9, "Be kind.")


@pytest.mark.parametrize(
    ("mode", "message"), [("refuse", "answers 401"), ("garbage", "cannot be used"), ("odd", "does not answer as")]
)
def test_a_server_that_misbehaves_is_an_error(
    server: str, mode: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "mode", mode)
    with pytest.raises(ConceptError, match=message):
        Endpoint(server, "m").write([("a", "b")], silent)


def test_without_a_server_it_says_what_it_needs() -> None:
    with pytest.raises(ConceptError, match=r"start a server there .* --model smollm2-135m"):
        Endpoint("http://127.0.0.1:9/v1", "m").write([("a", "b")], silent)
    with pytest.raises(ConceptError, match="begins with http"):
        Endpoint("localhost", "m").write([("a", "b")], silent)


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


@pytest.mark.parametrize("name", sorted(available_concepts()))
def test_shipped_files_are_in_the_form_that_is_written(name: str) -> None:
    path = available_concepts()[name]
    assert path.read_text(encoding="utf-8") == concept_yaml(load_concept(name))
