"""Reading contrast data: every form is known by its contents, and the same rows are the same concept in each."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.concepts import available_concepts, load_concept, neutral_prompts
from steering_core.concepts.formats.columns import Columns, concept_of_rows, found_columns
from steering_core.concepts.formats.contents import text_contents
from steering_core.concepts.formats.read import open_questions, read_concept
from steering_core.foundation.errors import ConceptError
from tests.contrast_files import EVALS, WRITERS, write

SAMPLES = Path(os.environ.get("STEERFLOW_EVALS", "no-evals"))  # a folder of model-written evaluations
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(lambda t: t.strip() == t != "")


def test_every_shipped_concept_loads_with_all_its_parts() -> None:
    names = available_concepts()
    assert len(names) >= 15
    for name in names:
        concept = load_concept(name)
        assert len(concept.pairs) >= 60, name
        assert len(concept.items) >= 40, name
        assert len(concept.prompts) >= 12, name
        assert concept.instructions, name


def test_neutral_prompts_are_many_and_different() -> None:
    assert len(neutral_prompts()) == len(set(neutral_prompts())) >= 60


@pytest.mark.parametrize("writer", WRITERS)
def test_evaluations_are_read_from_any_container(tmp_path: Path, writer: Callable[..., str]) -> None:
    concept = read_concept(write(tmp_path, writer(EVALS), "My evals (v2).whatever"))
    assert concept.name == "My-evals-v2"
    assert concept.chat
    assert len(concept.pairs) + len(concept.items) == 50
    assert 10 <= len(concept.items) <= 30
    assert {concept.pairs[0].positive, concept.pairs[0].negative} == {"(A)", "(B)"}
    assert not {pair.prompt for pair in concept.pairs} & {item.prompt for item in concept.items}


def test_the_same_rows_give_the_same_concept_whatever_the_container(tmp_path: Path) -> None:
    read = [read_concept(write(tmp_path, writer(EVALS), "rows")) for writer in WRITERS]
    assert {concept.concept_id for concept in read} == {read[0].concept_id}


def test_parquet_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"pos": "good", "neg": "bad"}]), tmp_path / "x.csv")
    concept = read_concept(tmp_path / "x.csv")
    assert (concept.pairs[0].positive, concept.pairs[0].negative, concept.chat) == ("good", "bad", False)


def test_columns_of_other_names_are_read_when_told_which(tmp_path: Path) -> None:
    path = write(tmp_path, "happy;sad\nyay;oh no\n")
    with pytest.raises(ConceptError, match="--positive happy --negative sad"):
        read_concept(path)
    assert read_concept(path, Columns("happy", "sad")).pairs[0].positive == "yay"
    with pytest.raises(ConceptError, match="no column 'glad'"):
        read_concept(path, Columns("glad", "sad"))


def test_a_table_that_might_mean_two_contrasts_is_not_guessed() -> None:
    assert found_columns(["prompt", "Chosen", "Rejected"]) == Columns("Chosen", "Rejected", "prompt")
    assert found_columns(["pos", "neg", "chosen", "rejected"]) is None
    assert found_columns(["question", "answer"]) is None


def test_repeng_templates_expand_to_raw_texts_with_shared_suffixes(tmp_path: Path) -> None:
    file = {
        "template": "[INST] Act {persona}. [/INST]",
        "positive_personas": ["glad", "merry"],
        "negative_personas": ["sad"],
        "suffix_list": [f"It is {i} o'clock" for i in range(7)],
    }
    concept = read_concept(write(tmp_path, json.dumps(file)))
    assert len(concept.pairs) == 14
    assert not concept.chat
    for pair in concept.pairs:
        assert pair.positive.replace("glad", "sad").replace("merry", "sad") == pair.negative
    assert concept.instructions is not None
    assert concept.instructions.negative == "[INST] Act sad. [/INST]"


def test_trait_files_of_persona_vectors_are_read(tmp_path: Path) -> None:
    file = {
        "instruction": [{"pos": "Be vain.", "neg": "Be humble."}, {"pos": "Boast.", "neg": "Never boast."}],
        "questions": [f"What of {i}?" for i in range(20)],
        "eval_prompt": "Judge {question} and {answer}.",
    }
    concept = read_concept(write(tmp_path, json.dumps(file), "vanity.json"))
    assert (concept.name, len(concept.pairs), len(concept.prompts)) == ("vanity", 24, 8)
    assert concept.pairs[0].negative == "Be humble.\n\nWhat of 0?"


def test_a_concept_may_be_json_and_takes_its_name_from_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"pairs": [{"positive": "a", "negative": "b"}]}, indent=1), "calm.json")
    assert load_concept(str(path)).name == "calm"


def test_open_questions_are_read(tmp_path: Path) -> None:
    assert open_questions(write(tmp_path, '["a?", "b?", "a?"]')) == ("a?", "b?")
    assert open_questions(write(tmp_path, '[{"question": "a?"}, {"question": "b?"}]')) == ("a?", "b?")
    with pytest.raises(ConceptError, match="open prompt 2 holds half"):
        open_questions(write(tmp_path, '["a?", "\\ud800"]'))
    with pytest.raises(ConceptError, match="open prompt 2 must be a text"):
        open_questions(write(tmp_path, '[{"question": "a?"}, {"other": "b?"}]'))


def test_sound_files_of_odd_make_are_read(tmp_path: Path) -> None:
    rows = [("a", "b"), ("c\nd", 'e"f')]
    texts = [
        b'\xef\xbb\xbfpos,neg\r\na,b\r\n"c\nd","e""f"\r\n',
        b'\xef\xbb\xbf{"pos": "a", "neg": "b"}\r\n\r\n{"pos": "c\\nd", "neg": "e\\"f"}\r\n',
        b'- &row {pos: a, neg: b}\n- {<<: *row, pos: "c\\nd", neg: "e\\"f"}\n- *row\n',
        b" " * (1 << 21) + b'[{"pos": "a", "neg": "b"}, {"pos": "c\\nd", "neg": "e\\"f"}]',
    ]
    for text in texts:
        assert [(pair.positive, pair.negative) for pair in read_concept(write(tmp_path, text)).pairs] == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"prompt": TEXT, "positive": TEXT, "negative": TEXT}), min_size=1, max_size=30))
def test_rows_survive_every_container(rows: list[dict[str, str]]) -> None:
    rows = [row for row in rows if row["positive"] != row["negative"]]
    wanted = {(row["prompt"], row["positive"], row["negative"]) for row in rows}
    for writer in WRITERS if rows else []:
        concept = concept_of_rows(text_contents("x", writer(rows)), "x", Columns("positive", "negative", "prompt"))
        found = [(pair.prompt, pair.positive, pair.negative) for pair in concept.pairs]
        found += [(item.prompt, item.matching, item.not_matching) for item in concept.items]
        assert sorted(found) == sorted(wanted)


@pytest.mark.skipif(not SAMPLES.exists(), reason="STEERFLOW_EVALS names no folder")
@pytest.mark.parametrize("name", ["agreeableness", "myopic-reward", "survival-instinct", "corrigible-neutral-HHH"])
def test_model_written_evaluations_are_read_whole(name: str) -> None:
    path = SAMPLES / f"{name}.jsonl"
    rows = {line for line in path.read_text().splitlines() if line.strip()}
    concept = load_concept(str(path))
    distinct = {tuple(v.strip() for v in (r["question"], r["answer_matching_behavior"])) for r in map(json.loads, rows)}
    assert {(row.prompt, row.positive) for row in concept.pairs} | {
        (row.prompt, row.matching) for row in concept.items
    } == distinct
    assert 0.3 < len(concept.items) / (len(concept.items) + len(concept.pairs)) < 0.5


def test_pairs_with_prompts_are_chat_unless_the_file_says_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answers, texts = "{prompt: How so?, positive: A., negative: b}", "{positive: A., negative: b}"
    for said, expected in (
        (f"pairs: [{answers}]", True),
        (f"pairs: [{texts}]", False),
        (f"chat: false\npairs: [{answers}]", False),
    ):
        (tmp_path / "c.yaml").write_text(f"name: c\n{said}\n")
        caplog.clear()
        assert read_concept(tmp_path / "c.yaml").chat is expected
        assert ("`chat: false` reads raw text" in caplog.text) is expected
    wording = "template: {prompt: 'Is {x}?', positive: 'Yes {x}', negative: 'No {x}'}\nslots: {x: [a, b]}\n"
    (tmp_path / "t.yaml").write_text(wording)
    assert read_concept(tmp_path / "t.yaml").chat
