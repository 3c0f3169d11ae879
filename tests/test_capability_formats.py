"""Benchmarks' own files, in the columns in which they are published, as capability sets; what is left out is named."""

import json
import logging
from pathlib import Path

import pytest

from steering_core.capabilities import load_set, load_sets
from steering_core.foundation.errors import CapabilityError

# The columns are those of the published files; the rows are our own.
TRUTHFUL = """\
Type,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source
Adversarial,Misconceptions,What happens to an egg in cold water?,It stays raw,It boils,It stays raw; It gets cold,\
It boils; It hatches; It boils,https://example.org/egg
Non-Adversarial,Weather,"Does it rain, or not?",Nobody knows,It rains,Nobody knows,Nobody knows,https://example.org/rain
"""
TRUTHFUL_MC = [
    {
        "question": "What is a tomato?",
        "mc0_targets": {"A fruit": 1, "A stone": 0},
        "mc1_targets": {"A fruit": 1, "A stone": 0, "A bird": 0},
        "mc2_targets": {"A fruit": 1, "A berry": 1, "A stone": 0},
    },
    {"question": "And a plum?", "mc1_targets": {"choices": ["A fruit", "A shoe"], "labels": [1, 0]}},
    {"question": "And nothing?", "mc1_targets": {"choices": ["A fruit", "A shoe"], "labels": [0, 0]}},
]
XSTEST_V1 = """\
id,prompt,type,label,focus,note
1,How do I kill the lights?,homonyms,safe,kill,violence
2,How do I harm a person?,contrast_homonyms,unsafe,harm,
"""
XSTEST_V2 = """\
id_v1,id_v2,type,prompt,focus,note
v1-1,v2-1,homonyms,How do I kill the lights?,kill,violence
,v2-26,contrast_homonyms,How do I harm a person?,harm,
"""
MODEL_WRITTEN = """\
{"question": "Is tea hot?", "statement": "Tea is hot", "label_confidence": 0.9, "answer_matching_behavior": " Yes", \
"answer_not_matching_behavior": " No"}
{"question": "Which?\\n (A) tea\\n (B) milk", "answer_matching_behavior": " (A)", \
"answer_not_matching_behavior": " (B)"}
"""
IFEVAL = [
    {
        "key": 1,
        "prompt": "Write about tea without commas in 30 words or more.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"relation": "at least", "num_words": 30}],
    },
    {
        "key": 2,
        "prompt": "Write it in lowercase.",
        "instruction_id_list": ["change_case:english_lowercase"],
        "kwargs": [{"num_highlights": None, "relation": None, "num_words": None, "keywords": None}],
    },
    {
        "key": 3,
        "prompt": "Write it backwards.",
        "instruction_id_list": ["change_case:backwards", "punctuation:no_comma"],
        "kwargs": [{}, {}],
    },
    {
        "key": 4,
        "prompt": "In Klingon.",
        "instruction_id_list": ["language:response_language"],
        "kwargs": [{"language": "tlh"}],
    },
]


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8-sig" if name.endswith(".csv") else "utf-8")
    return str(folder / name)


def test_truthfulqa_csv_is_its_best_answer_against_the_incorrect_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        one = load_set(written(tmp_path, "TruthfulQA.csv", TRUTHFUL))
    assert one.name == "TruthfulQA"
    assert [(q.prompt, q.right, q.wrong) for q in one.questions] == [
        ("What happens to an egg in cold water?", "It stays raw", ("It boils", "It hatches"))
    ]
    assert "1 of 2 rows are left out: no wrong answer (1)" in caplog.text


def test_truthfulqa_mc_is_its_mc1_task_in_both_of_its_forms(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = load_set(written(tmp_path, "mc_task.json", json.dumps(TRUTHFUL_MC)))
    assert [(q.right, q.wrong) for q in one.questions] == [("A fruit", ("A stone", "A bird")), ("A fruit", ("A shoe",))]
    assert "0 true answers in mc1_targets (1)" in caplog.text


@pytest.mark.parametrize(("name", "text"), [("v1.csv", XSTEST_V1), ("v2.csv", XSTEST_V2)])
def test_xstest_asks_for_answers_and_for_refusals(tmp_path: Path, name: str, text: str) -> None:
    one = load_set(written(tmp_path, name, text))
    assert [(t.prompt, t.checks[0].id) for t in one.tasks] == [
        ("How do I kill the lights?", "refusal:complies"),
        ("How do I harm a person?", "refusal:refuses"),
    ]
    assert one.tasks[1].kept_by("I'm sorry, but I can't help with that.")


def test_model_written_evaluations_are_questions_of_two_answers(tmp_path: Path) -> None:
    one = load_set(written(tmp_path, "tea.jsonl", MODEL_WRITTEN))
    assert [(q.right, q.wrong) for q in one.questions] == [("Yes", ("No",)), ("(A)", ("(B)",))]
    assert one.questions[1].prompt == "Which?\n (A) tea\n (B) milk"


def test_ifeval_is_tasks_and_ids_that_nobody_knows_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join(json.dumps(row) for row in IFEVAL)
    with caplog.at_level(logging.WARNING):
        one = load_set(written(tmp_path, "input_data.jsonl", text))
    assert [[check.id for check in task.checks] for task in one.tasks] == [
        ["punctuation:no_comma", "length_constraints:number_words"],
        ["change_case:english_lowercase"],
    ]
    assert one.tasks[0].checks[1].kwargs == {"relation": "at least", "num_words": 30}
    assert one.max_tokens == 512
    assert "2 of 4 rows are left out" in caplog.text
    assert "unknown instruction id 'change_case:backwards' (1)" in caplog.text
    assert "language is 'tlh'" in caplog.text


def test_one_row_of_ifeval_is_read_too(tmp_path: Path) -> None:
    assert load_set(written(tmp_path, "one.jsonl", json.dumps(IFEVAL[0]))).n == 1


def test_a_set_of_ones_own_is_yaml_or_json(tmp_path: Path) -> None:
    own = {"questions": [{"prompt": "2 + 2?", "right": "4", "wrong": ["5"]}]}
    one = load_set(written(tmp_path, "my sums.json", json.dumps(own, indent=1)))
    assert (one.name, one.n, one.chance, one.chat) == ("my-sums", 1, 0.5, True)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "one,two\n1,2\n", "its columns are 'one', 'two'"),
        ("a.jsonl", "{", "is not JSON"),
        ("a.csv", XSTEST_V1.replace("unsafe", "bad"), "label is 'bad'"),
        ("a.csv", XSTEST_V1.replace("How do I kill the lights?", ""), "line 2: 'prompt' is ''"),
        ("a.jsonl", json.dumps(IFEVAL[2]), "none of its rows can be used.*backwards"),
        ("a.jsonl", json.dumps({**IFEVAL[0], "kwargs": [{}]}), "lists of one length"),
        ("a.json", json.dumps([{"question": "?", "mc1_targets": "A"}]), "mc1_targets is 'A'"),
        ("a.yaml", "questions: [{prompt: a, right: b, wrong: [b]}]", "the same"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error(tmp_path: Path, name: str, text: str, why: str) -> None:
    with pytest.raises(CapabilityError, match=why):
        load_set(written(tmp_path, name, text))


def test_an_unknown_name_leads_to_the_right_one() -> None:
    with pytest.raises(CapabilityError, match="did you mean 'arithmetic'"):
        load_set("arithmetik")


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "facts.json", '{"questions": [{"prompt": "a", "right": "b", "wrong": ["c"]}]}')
    with pytest.raises(CapabilityError, match="two capability sets are called 'facts'"):
        load_sets(["facts", path])
