"""Contrast data in other shapes than rows with two sides: lists, splits, labels, suffixes, instructions."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steering_core.concepts import Concept
from steering_core.concepts.concept import Pair
from steering_core.concepts.formats.choices import balanced
from steering_core.concepts.formats.columns import Columns
from steering_core.concepts.formats.labels import LabelColumn
from steering_core.concepts.formats.read import read_concept
from steering_core.foundation.errors import ConceptError


def concept_of(folder: Path, data: Any, columns: Columns | LabelColumn | None = None) -> Concept:
    path = folder / "data"
    path.write_text(json.dumps(data, indent=1))
    return read_concept(path, columns)


def texts(concept: Concept) -> list[tuple[str | None, str, str]]:
    return [(pair.prompt, pair.positive, pair.negative) for pair in concept.pairs]


AB_CD = [(None, "a", "b"), (None, "c", "d")]


@pytest.mark.parametrize(
    "data",
    [
        {"positive": ["a", "c"], "negative": ["b", "d"]},
        {"kind": ["a", "c"], "non_kind": ["b", "d"]},
        [["a", "b"], ["c", "d"]],
        {"classes": ["pos", "neg"], "data": [["a", "b"], ["c", "d"]]},
        {"train": [["a", "b"], ["c", "d"]]},
        {"train": {"pos": ["a", "c"], "neg": ["b", "d"]}},
    ],
)
def test_two_lists_and_lists_of_two_are_pairs(tmp_path: Path, data: Any) -> None:
    assert texts(concept_of(tmp_path, data)) == AB_CD


def test_lists_of_columns_are_rows(tmp_path: Path) -> None:
    concept = concept_of(tmp_path, {"prompt": ["A?", "B?"], "chosen": ["a", "c"], "rejected": ["b", "d"]})
    assert texts(concept) == [("A?", "a", "b"), ("B?", "c", "d")]


def test_sides_of_other_names_are_read_when_told_which(tmp_path: Path) -> None:
    told = Columns("adult", "child")
    assert texts(concept_of(tmp_path, {"child": ["b", "d"], "adult": ["a", "c"]}, told)) == AB_CD
    assert texts(concept_of(tmp_path, {"classes": ["adult", "child"], "data": [["a", "b"], ["c", "d"]]}, told)) == AB_CD


@pytest.mark.parametrize("told", [None, Columns("good", "bad")])
def test_lists_of_different_lengths_are_unpaired(tmp_path: Path, told: Columns | None) -> None:
    one, other = ("good", "bad") if told else ("positive", "negative")
    concept = concept_of(tmp_path, {one: ["a", "c", "e"], other: ["b", "d"]}, told)
    assert [text.text for text in concept.texts if text.side == "positive"] == ["a", "c", "e"]
    assert [text.text for text in concept.texts if text.side == "negative"] == ["b", "d"]
    splits = {"train": {one: ["a", "c"], other: ["b"]}, "test": {one: ["e"], other: ["d"]}}
    kept = {text.text: text.split for text in concept_of(tmp_path, splits, told).texts}
    assert (kept["d"], kept["e"]) == ("test", "test")
    assert {kept[text] for text in "abc"} <= {"train", "validation"}


def test_one_list_alone_is_no_contrast(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="has no text of the negative side"):
        concept_of(tmp_path, {"train": {"positive": ["a", "c"], "negative": [""]}}, Columns("positive", "negative"))


def test_classes_whose_data_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="entry 2 of `data` must be a list of 2 texts"):
        concept_of(tmp_path, {"classes": ["pos", "neg"], "data": [["a", "b"], ["c"]]})


def rows(name: str, n: int, prompt: bool = False) -> list[dict[str, str]]:
    made = [{"positive": f"{name} yes {i}", "negative": f"{name} no {i}"} for i in range(n)]
    return [row | {"prompt": f"{name} {i}?"} for i, row in enumerate(made)] if prompt else made


def splits(concept: Concept) -> dict[str, set[str]]:
    """Of each name of a file's split, the splits in which its pairs and items are."""
    found: dict[str, set[str]] = {}
    for pair in concept.pairs:
        found.setdefault(pair.positive.split()[0], set()).add(concept.splits[pair.pair_id])
    for item in concept.items:
        found.setdefault(item.matching.split()[0], set()).add(f"item {concept.item_splits[item.item_id]}")
    return found


def test_a_files_splits_are_kept_and_train_fills_the_one_that_is_not_there(tmp_path: Path) -> None:
    two = concept_of(tmp_path, {"train": rows("A", 20), "test": rows("B", 9)})
    assert splits(two) == {"A": {"train", "validation"}, "B": {"test"}}
    assert len(two.pairs_in("train")) == 15
    three = concept_of(tmp_path, {"train": rows("A", 9), "val": rows("B", 5), "test": rows("C", 5)})
    assert splits(three) == {"A": {"train"}, "B": {"validation"}, "C": {"test"}}


def test_held_out_items_come_from_their_own_split(tmp_path: Path) -> None:
    data = {"train": rows("A", 60, True), "test": rows("B", 40, True)}
    assert splits(concept_of(tmp_path, data)) == {
        "A": {"train", "validation", "item validation"},
        "B": {"test", "item test"},
    }
    data = {"train": rows("A", 60, True), "dev": rows("B", 40, True), "test": rows("C", 40, True)}
    assert splits(concept_of(tmp_path, data)) == {
        "A": {"train"},
        "B": {"validation", "item validation"},
        "C": {"test", "item test"},
    }


def test_splits_survive_being_written_and_balanced(tmp_path: Path) -> None:
    concept = concept_of(tmp_path, {"train": rows("A", 9), "test": rows("B", 9)})
    again = Concept.model_validate_json(concept.model_dump_json())
    assert again.splits == concept.splits == balanced(concept).splits
    assert "split" not in Pair(positive="a", negative="b").model_dump()


def test_a_row_in_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="one row in two splits, train and test"):
        concept_of(tmp_path, {"train": rows("A", 3), "test": rows("A", 1)})


def labelled(*labels: Any, column: str = "label", prompt: bool = True) -> list[dict[str, Any]]:
    """Rows that go through prompts 0, 0, 1, 1, …"""
    return [
        {"completion": f"text {i}", column: label} | ({"prompt": f"{i // 2}?"} if prompt else {})
        for i, label in enumerate(labels)
    ]


PAIRED = [("0?", "text 1", "text 0"), ("1?", "text 2", "text 3")]


@pytest.mark.parametrize(
    "values", [(False, True, True, False), (0, 1, 1, 0), ("no", "Yes", "yes", "No"), ("neg", "pos", "pos", "neg")]
)
def test_labelled_rows_are_paired_on_their_prompt(tmp_path: Path, values: tuple[Any, ...]) -> None:
    assert texts(concept_of(tmp_path, labelled(*values))) == PAIRED


def test_labels_of_other_names_and_values_are_read_when_told_which(tmp_path: Path) -> None:
    data = labelled("cold", "warm", "warm", "cold", column="mood")
    assert texts(concept_of(tmp_path, data, LabelColumn("mood", "warm", "cold"))) == PAIRED
    with pytest.raises(ConceptError, match="--label mood --positive LABEL --negative LABEL"):
        concept_of(tmp_path, data, LabelColumn("mood"))
    with pytest.raises(ConceptError, match="no column 'mod'"):
        concept_of(tmp_path, data, LabelColumn("mod"))


def test_labelled_rows_without_a_partner_are_counted(tmp_path: Path) -> None:
    concept = concept_of(tmp_path, labelled(1, 0, 1, 1))
    assert texts(concept) == [("0?", "text 0", "text 1")]
    assert concept.card.made.startswith("Imported: 1 pair and 0 items from 4 rows. Rows were paired by their 'label'.")
    assert (
        "2 rows had no partner and were left out (`steer concepts import --unpaired` keeps all)." in concept.card.made
    )
    few = concept_of(tmp_path, labelled(1, 0, 1, 1, 0, 0))
    assert Counter(text.side for text in few.texts) == {"positive": 3, "negative": 3}


def lone(concept: Concept) -> list[tuple[str, str | None, str]]:
    return [(text.side, text.prompt, text.text) for text in concept.texts]


def test_labelled_rows_without_a_prompt_or_on_different_ones_are_unpaired(tmp_path: Path) -> None:
    bare = concept_of(tmp_path, labelled(1, 0, 1, prompt=False))
    assert lone(bare) == [("positive", None, "text 0"), ("positive", None, "text 2"), ("negative", None, "text 1")]
    assert not bare.chat
    answers = concept_of(tmp_path, labelled(1, 1, 0, 0, 0))
    assert lone(answers) == [
        ("positive", "0?", "text 0"),
        ("positive", "0?", "text 1"),
        ("negative", "1?", "text 2"),
        ("negative", "1?", "text 3"),
        ("negative", "2?", "text 4"),
    ]
    assert answers.chat


def test_rows_that_could_be_paired_are_unpaired_when_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps(labelled(1, 0, 1)))
    concept = read_concept(tmp_path / "file", unpaired=True)
    assert lone(concept) == [("positive", "0?", "text 0"), ("positive", "1?", "text 2"), ("negative", "0?", "text 1")]
    (tmp_path / "file").write_text("positive,negative\na,b\nc,\n")
    with pytest.raises(ConceptError, match="'negative' is empty"):
        read_concept(tmp_path / "file")
    concept = read_concept(tmp_path / "file", unpaired=True)
    assert lone(concept) == [("positive", None, "a"), ("positive", None, "c"), ("negative", None, "b")]


def test_a_suffix_may_be_empty(tmp_path: Path) -> None:
    file = {"positive_personas": ["glad"], "negative_personas": ["sad"], "suffixes": ["", "The sea"]}
    pairs = concept_of(tmp_path, file | {"template": "Be {persona}."}).pairs
    assert {pair.positive for pair in pairs} == {"Be glad.", "Be glad. The sea"}


def test_instructions_for_one_side_alone_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="2 of 2 instructions have `pos` but no `neg`: a contrast needs both"):
        concept_of(tmp_path, {"instruction": [{"pos": "a"}, {"pos": "b"}], "questions": ["c"]})


def test_keys_of_a_trait_file_that_are_not_read_are_named(tmp_path: Path) -> None:
    file = {"instruction": [{"pos": "a", "neg": "b"}], "questions": ["c"], "positive_label": "kind"}
    made = concept_of(tmp_path, file).card.made
    assert made == "1 pair of instructions over 1 question. Keys left out: 'positive_label'."
