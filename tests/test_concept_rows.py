"""Rows of contrast data: what stands around the prompt, conversations, lists of answers, and what the card says."""

import json
from pathlib import Path
from typing import Any

import pytest

from steering_core.authoring.writing import write_concept
from steering_core.concepts import Concept, available_concepts, load_concept
from steering_core.concepts.concept import Unpaired
from steering_core.concepts.formats.columns import Columns, found_columns
from steering_core.concepts.formats.read import read_concept
from steering_core.foundation.errors import ConceptError


def concept_of(folder: Path, *rows: dict[str, Any]) -> Concept:
    path = folder / "data"
    path.write_text(json.dumps(list(rows)))
    return read_concept(path)


SIDES = {"chosen": "Yes.", "rejected": "No."}


@pytest.mark.parametrize(
    ("around", "prompt"),
    [
        ({"system": "Be an owl.", "question": "Who?"}, "Be an owl.\n\nWho?"),
        ({"question": "Who?", "context": "An owl sits here."}, "An owl sits here.\n\nWho?"),
        ({"input": "Who?", "instruction": "Translate."}, "Translate.\n\nWho?"),
        ({"context": "An owl.", "instruction": "Shorten."}, "Shorten.\n\nAn owl."),
        ({"instruction": "Answer.", "prompt": "Who?"}, "Answer.\n\nWho?"),
        ({"prompt": "Answer: who?", "input": "who?"}, "Answer: who?"),
        ({"system": None, "question": "Who?"}, "Who?"),
        ({"system": " ", "question": "Who?"}, "Who?"),
    ],
)
def test_columns_around_the_prompt_are_joined_as_their_formats_mean_them(
    tmp_path: Path, around: dict[str, Any], prompt: str
) -> None:
    concept = concept_of(tmp_path, around | SIDES)
    assert concept.pairs[0].prompt == prompt
    assert "left out" not in concept.card.made


def test_rows_that_differ_in_their_context_alone_stay_different(tmp_path: Path) -> None:
    rows = [{"context": f"It is {i}.", "question": "When?"} | SIDES for i in range(5)]
    assert len(concept_of(tmp_path, *rows).pairs) == 5


def test_the_card_names_the_columns_that_were_joined_and_left_out(tmp_path: Path) -> None:
    row = {"id": 1, "system": "Be.", "prompt": "Who?", "source": "x", "context": [["a list"]]} | SIDES
    made = concept_of(tmp_path, row).card.made
    assert "The prompt is system + prompt." in made
    assert "Columns left out: 'source', 'context'." in made


def test_the_card_counts_rows_that_say_the_same(tmp_path: Path) -> None:
    made = concept_of(tmp_path, *[{"prompt": "Who?"} | SIDES] * 3).card.made
    assert "1 pair and 0 items from 3 rows. 2 rows said the same as another and count once." in made


def test_rows_that_share_an_id_are_read_with_a_warning_unless_they_are_the_same(tmp_path: Path) -> None:
    rows = [{"id": 7, "pos": "a", "neg": "b"}, {"id": 7, "pos": "c", "neg": "d"}]
    concept = concept_of(tmp_path, *rows)
    assert len(concept.pairs) == 2
    assert "Warning: 1 id stands on rows that differ, such as 7 on line 1 and line 1, entry 2" in concept.card.made
    assert "Warning" not in concept_of(tmp_path, rows[0], rows[0]).card.made


def test_rows_of_one_line_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"pos": "a", "neg": 1}, {"pos": 2, "neg": "b"},\n {"pos": "", "neg": "b"}]')
    with pytest.raises(ConceptError, match=r"3 faults") as refused:
        read_concept(tmp_path / "rows.json")
    places = [line.strip().partition(":")[0] for line in str(refused.value).splitlines()[1:]]
    assert places == ["line 1", "line 1, entry 2", "line 2"]


def said(*turns: str) -> list[dict[str, str]]:
    """Messages of a user and an assistant in turn, the last by the assistant."""
    roles = ["user", "assistant"] * len(turns)
    return [{"role": role, "content": text} for role, text in zip(roles[len(turns) % 2 :], turns, strict=False)]


OWL = {"role": "system", "content": "Be an owl."}
SHAREGPT = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"chosen": said("Who?", "I."), "rejected": said("Who?", "He.")}, "Who?"),
        ({"prompt": "Who?", "chosen": said("Who?", "I."), "rejected": said("Who?", "He.")}, "Who?"),
        ({"prompt": [*said("Who?", "")[:1]], "chosen": said("I."), "rejected": said("He.")}, "Who?"),
        ({"prompt": [OWL, said("Who?", "")[0]], "chosen": said("I."), "rejected": said("He.")}, "Be an owl.\n\nWho?"),
        ({"prompt": "Who?", "chosen": said("I."), "rejected": said("He.")}, "Who?"),
        ({"chosen": SHAREGPT, "rejected": [SHAREGPT[0], {"from": "gpt", "value": "He."}]}, "Who?"),
        (
            {"chosen": said("Hi.", "Ho.", "Who?", "I."), "rejected": said("Hi.", "Ho.", "Who?", "He.")},
            "User: Hi.\n\nAssistant: Ho.\n\nUser: Who?",
        ),
    ],
)
def test_the_last_message_is_the_answer_and_what_is_before_it_the_prompt(
    tmp_path: Path, row: dict[str, Any], prompt: str
) -> None:
    (pair,) = concept_of(tmp_path, row).pairs
    assert (pair.prompt, pair.positive, pair.negative) == (prompt, "I.", "He.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": said("Who?", "I."), "rejected": said("Where?", "He.")}, "differ before their last turn"),
        ({"chosen": said("Who?", "I.")[:1], "rejected": said("Who?", "He.")}, "ends with a turn of 'user'"),
        (
            {"prompt": "Hm", "chosen": said("Who?", "I."), "rejected": said("Who?", "He.")},
            "no turn of the conversation",
        ),
        ({"chosen": said("Who?", "I."), "rejected": said("Who?", "I.")}, "both sides are the same text"),
        ({"prompt": "Who?", "chosen": [], "rejected": "No"}, "'chosen' must hold 1 to 100 answers, not 0"),
        ({"prompt": "Who?", "chosen": True, "rejected": "No"}, "put it in quotes, for YAML takes an unquoted yes"),
        ({"prompt": "2+2?", "chosen": 4, "rejected": "5"}, "not 4: put it in quotes"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(ConceptError, match=message):
        concept_of(tmp_path, row)


def test_each_answer_of_a_list_stands_against_each_of_the_other_side(tmp_path: Path) -> None:
    concept = concept_of(tmp_path, {"question": "Who?", "matching": ["A"], "not_matching": ["B", "C"]})
    assert [(pair.positive, pair.negative) for pair in concept.pairs] == [("A", "B"), ("A", "C")]


def test_a_name_and_its_negation_are_sides() -> None:
    assert found_columns(["not_polite", "polite"]) == Columns("polite", "not_polite")


def test_unquoted_yes_in_a_concept_says_that_it_wants_quotes(tmp_path: Path) -> None:
    (tmp_path / "yes.yaml").write_text("pairs:\n- {prompt: Hot?, positive: Yes, negative: 'No'}\n")
    with pytest.raises(ConceptError, match=r"1 fault:\n  pairs, entry 1, positive: must be a text: put it in quotes"):
        read_concept(tmp_path / "yes.yaml")


TWICE = """
pairs:
- {prompt: Hot?, positive: Very., negative: Hardly.}
- {prompt: Cold?, positive: Very., negative: Hardly.}
- {prompt: Hot?, positive: Very., negative: Hardly., split: train}
prompts: [Say it., Say it., And this.]
items:
- {prompt: Wet?, matching: Very., not_matching: Hardly.}
- {prompt: Wet?, matching: Very., not_matching: Hardly.}
"""


def test_a_row_that_stands_twice_counts_once_in_a_concept_and_in_a_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "twice.yaml").write_text(TWICE)
    concept = read_concept(tmp_path / "twice.yaml")
    assert [len(rows) for rows in (concept.pairs, concept.items, concept.prompts)] == [2, 1, 2]
    assert "1 pair, 1 item and 1 prompt said the same as another and count once." in caplog.text
    (tmp_path / "lone.yaml").write_text("unpaired: {positive: [a, b, {text: a}], negative: [c, c]}")
    assert read_concept(tmp_path / "lone.yaml").unpaired == Unpaired.model_validate(
        {"positive": ["a", "b"], "negative": ["c"]}
    )
    assert "2 texts said the same as another and count once." in caplog.text
    (tmp_path / "twice.csv").write_text("prompt,positive,negative\nHot?,Very.,Hardly.\nHot?,Very.,Hardly.\n")
    concept = read_concept(tmp_path / "twice.csv")
    assert len(concept.pairs) == 1
    assert concept.card.made.endswith("1 row said the same as another and counts once.")


def test_a_row_in_two_splits_of_a_concept_is_refused_as_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(TWICE.replace("split: train", "split: test"))
    with pytest.raises(ConceptError, match=r"has one row in two splits, train and test: .*\('Very\.'\)"):
        read_concept(tmp_path / "both.yaml")


def test_faults_of_a_file_count_from_one_and_show_values_as_files_have_them(tmp_path: Path) -> None:
    rows = "pairs: [{positive: a, negative: true}, [1, 2]]\nitems: {a: null, b: true}\n"
    (tmp_path / "odd.yaml").write_text(rows)
    with pytest.raises(ConceptError) as raised:
        read_concept(tmp_path / "odd.yaml")
    first, second, third = str(raised.value).splitlines()[1:]
    assert first.startswith("  pairs, entry 1, negative: must be a text: ")
    assert first.endswith(" (got true)")
    assert second == "  pairs, entry 2: must be a mapping of keys to values (got [1, 2])"
    assert third == "  items: must be a list (got {a: null, b: true})"


SHIPPED = {  # what runs made of the shipped concepts are addressed by
    "confidence": "09852524fab3e9659389",
    "expertise": "93b777075534be51e8f8",
    "formality": "8abd9a1fff4b5e386cbb",
    "french": "24034c036d69bcf162a9",
    "future": "30168e4d76ca56bd0208",
    "golden-gate-bridge": "8bd0143b08db31c46d09",
    "honesty": "f3df92bdb7e014c6fc7c",
    "nonsense": "be6e8cdb4da85f06f1dc",
    "pirate": "651bac80cf45e858c12b",
    "politeness": "7b2005e23a662317dd20",
    "power-seeking": "6b3e1b80bc75ae70ce2b",
    "refusal": "f8d9e49644b2b9e95d31",
    "sentiment": "56da67485d5d4d12635c",
    "sycophancy": "2885b0dd27d3c185b8ed",
    "verbosity": "d27d9e05b78c9eba395f",
}


def test_shipped_concepts_keep_their_identity() -> None:
    assert {name: load_concept(name).concept_id for name in SHIPPED} == SHIPPED
    assert SHIPPED.keys() <= available_concepts().keys()


def test_whatever_reads_a_table_is_told_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "calm.csv"
    file.write_text("positive,negative,source\n" + "".join(f"calm {i},loud {i},web\n" for i in range(6)))
    with caplog.at_level("WARNING"):
        load_concept(str(file))
    assert "calm.csv: Columns left out: 'source'." in caplog.text
    caplog.clear()
    imported = load_concept(str(file))
    write_concept(imported, tmp_path / "mine.yaml")
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert load_concept(str(tmp_path / "mine.yaml")).card == imported.card  # which says it, where it belongs
    assert not caplog.records
    file.write_text("positive,negative\n" + "".join(f"calm {i},loud {i}\n" for i in range(6)))
    with caplog.at_level("WARNING"):
        load_concept(str(file))
        load_concept("sentiment")
    assert not caplog.records
