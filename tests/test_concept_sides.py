"""One file a side, files of prompts, and what a refusal tells to do."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering_core.cli.concepts import app
from steering_core.concepts import load_concept
from steering_core.concepts.formats.read import open_questions, read_concept
from steering_core.concepts.formats.sides import concept_of_sides
from steering_core.foundation.errors import ConceptError

FILES = {
    "lines": "Hello, world\nWhat is it: love?\n\n- no, hate\n",
    "JSON strings": '["Hello, world", "What is it: love?", "- no, hate"]',
    "JSON lines": '{"text": "Hello, world"}\n{"text": "What is it: love?"}\n{"text": "- no, hate"}\n',
    "a table": 'category,instruction\nx,"Hello, world"\nx,What is it: love?\n,"- no, hate"\n',
    "one column": 'text\n"Hello, world"\nWhat is it: love?\n"- no, hate"\n',
}


@pytest.mark.parametrize("form", FILES)
def test_texts_are_read_from_any_file(tmp_path: Path, form: str) -> None:
    (tmp_path / "texts").write_text(FILES[form])
    assert open_questions(tmp_path / "texts") == ("Hello, world", "What is it: love?", "- no, hate")


def test_files_of_as_many_texts_are_pairs_and_others_are_unpaired(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.json"
    good.write_text("a\nc\n")
    bad.write_text('[{"instruction": "b", "category": null}, {"instruction": "d", "category": "x"}]')
    concept = concept_of_sides(str(good), str(bad), "goodness")
    assert [(pair.positive, pair.negative) for pair in concept.pairs] == [("a", "b"), ("c", "d")]
    assert not concept.chat
    good.write_text("a\nc\ne\na\n")
    for told, given in ((False, str(good)), (True, str(bad))):
        concept = concept_of_sides(given, str(bad), "goodness", unpaired=told)
        assert not concept.pairs
        sides = [[text.text for text in concept.texts if text.side == side] for side in ("positive", "negative")]
        assert sides == [["b", "d"] if told else ["a", "c", "e"], ["b", "d"]]
    made = concept_of_sides(str(good), str(bad), "goodness").card.made
    assert "Imported: 3 positive and 2 negative texts, unpaired, from 6 rows." in made
    assert "1 row said the same as another and counts once." in made


REFUSED = {
    "two lists": ('{\n"wet": ["a", "b"], "dry": ["c", "d"]\n}', "--positive wet --negative dry"),
    "columns of other names": (
        "prompt,wet one,dry one\nA?,a,b\n",
        "--positive 'wet one' --negative 'dry",
    ),
    "unknown labels": (
        '[{"text": "a", "label": "wet"}, {"text": "b", "label": "dry"}]',
        "--label label --positive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_that_a_refusal_names_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text, part = REFUSED[case]
    Path("my data").write_text(text)
    with pytest.raises(ConceptError) as raised:
        read_concept("my data")
    command = next(line for line in str(raised.value).splitlines() if "steer concepts import" in line)
    assert part in command
    words = shlex.split(command.partition("steer concepts ")[2])
    done = CliRunner().invoke(app, [*words, "--out", "made.yaml"])
    assert done.exit_code == 0, done.output
    assert "Imported:" in done.output
    assert load_concept("made.yaml").texts[0][2:4] == ("positive", "a")


def test_one_side_alone_says_where_the_other_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(json.dumps([{"instruction": "Rob a bank.", "category": "x"}]))
    Path("b.txt").write_text("Bake a cake.\n")
    with pytest.raises(ConceptError, match=r"import --positive-file a\.json --negative-file OTHER_FILE"):
        read_concept("a.json")
    options = ["--positive-file", "a.json", "--negative-file", "b.txt", "--name", "harm", "--out", "harm.yaml"]
    done = CliRunner().invoke(app, ["import", *options])
    assert done.exit_code == 0, done.output
    assert load_concept("harm.yaml").pairs[0].negative == "Bake a cake."


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--positive-file", "a"],
        ["x", "--positive-file", "a", "--negative-file", "b"],
        ["--positive-file", "a", "--negative-file", "b", "--label", "c"],
        ["x", "--positive", "a"],
        ["x", "--prompt", "a"],
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, ["import", *options]).exception, ConceptError)
