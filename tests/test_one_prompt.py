"""Rows that all answer one question, or a few: where they stand in the splits, and what is said of it."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering_core.authoring.lint.check import lint
from steering_core.cli.concepts import app
from steering_core.cli.vectors import app as vectors
from steering_core.concepts import Concept, Item, Pair
from steering_core.concepts.concept import SIDES, Example, Unpaired
from steering_core.concepts.formats.read import read_concept
from tests.concepts import gibberish, sound_concept

QUESTION = "How was it for you there?"


def asked(*questions: str, n: int = 70) -> list[Pair]:
    """Pairs that answer the questions in turn."""
    return [
        Pair(prompt=questions[i % len(questions)], positive=gibberish(i + 1000), negative=gibberish(i + 2000))
        for i in range(n)
    ]


def sizes(concept: Concept) -> list[int]:
    return [len(concept.pairs_in(split)) for split in ("train", "validation", "test")]


def test_rows_on_one_constant_question_are_dealt_one_by_one() -> None:
    items = [Item(prompt=QUESTION, matching=gibberish(i + 4000), not_matching=gibberish(i + 5000)) for i in range(44)]
    concept = sound_concept(pairs=asked(QUESTION), items=items)
    assert sizes(concept) == [42, 14, 14]
    assert [len(concept.items_in(split)) for split in ("validation", "test")] == [22, 22]
    assert lint(concept) == []
    sides = {
        side: tuple(Example(prompt=QUESTION, text=gibberish(i + k)) for i in range(70))
        for side, k in zip(SIDES, (1000, 2000), strict=True)
    }
    lone = Concept(name="lone", unpaired=Unpaired(**sides))
    assert Counter((text.side, text.split) for text in lone.texts) == {
        (side, split): n for side in SIDES for split, n in (("train", 42), ("validation", 14), ("test", 14))
    }


def test_a_concept_of_several_questions_is_dealt_and_known_as_before() -> None:
    concept = Concept(name="six", pairs=asked(*(f"{i}?" for i in range(6)), n=12))
    assert sizes(concept) == [8, 2, 2]
    assert {pair.prompt for pair in concept.pairs_in("test")} == {"2?"}
    assert concept.concept_id == "e8f4a09dc4e7eb1f6fd3"


def test_near_repeats_on_one_question_are_found() -> None:
    pairs = asked(QUESTION)
    concept = sound_concept(pairs=pairs)
    train, test = (concept.pairs_in(split)[0] for split in ("train", "test"))
    echo = Pair(prompt=QUESTION, positive=train.positive.replace(".", " indeed."), negative=test.negative)
    pairs[pairs.index(test)] = echo
    findings = lint(sound_concept(pairs=pairs))
    assert {finding.check for finding in findings} <= {"leakage", "duplicates"}
    assert len(findings) == 1
    asks = sound_concept(pairs=asked(QUESTION), prompts=[QUESTION, *sound_concept().prompts])
    (leak,) = lint(asks)
    assert (leak.check, len(leak.rows)) == ("leakage", 1)


def test_too_few_questions_are_an_error_that_names_them(tmp_path: Path) -> None:
    concept = sound_concept(pairs=asked("Was it good?", "Was it long?"))
    (finding,) = lint(concept)
    said = (
        "no pair is held out for validation or test: rows on one prompt stay together in a split, and all 70 pairs "
        "stand on 2 prompts ('Was it good?', 'Was it long?')"
    )
    assert (finding.level, finding.check, finding.message) == ("error", "few", said)
    assert "at least 5 different ones" in finding.remedy
    path = tmp_path / "two.json"
    path.write_text(concept.model_dump_json())
    for words in (["show", str(path)], ["import", str(path), "--out", str(tmp_path / "out.yaml")]):
        assert said in " ".join(CliRunner().invoke(app, words).output.split())


def test_derive_says_why_nothing_is_held_out(tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "two.json"
    path.write_text(sound_concept(pairs=asked("Was it good?", "Was it long?", n=12)).model_dump_json())
    words = ["derive", str(tiny_folder), str(path), "--draws", "0", "--controls", "0", "--layers", "1"]
    found = CliRunner().invoke(vectors, [*words, "--store", str(tmp_path / "store")], catch_exceptions=False)
    assert "measured on 0 pairs held out for the test (no pair is held out for validation or test:" in found.stdout
    assert "60 pairs leave 12" not in found.stdout


@pytest.mark.parametrize("question", [QUESTION, "Why?", "What next?", "And you?"])
def test_rows_of_a_table_with_one_question_become_pairs_and_items(tmp_path: Path, question: str) -> None:
    rows = [{"prompt": question, "positive": gibberish(i + 1000), "negative": gibberish(i + 2000)} for i in range(70)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    concept = read_concept(str(tmp_path / "rows.json"))
    assert len(concept.pairs) + len(concept.items) == 70
    assert 15 < len(concept.items) < 40
    assert min(sizes(concept)) >= 6
