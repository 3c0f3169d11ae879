"""`steer concepts`: what each word prints, writes and exits with."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steering_core.authoring.results import write_results
from steering_core.cli.concepts import app
from steering_core.concepts import load_concept
from steering_core.foundation.errors import ConceptError, SteerflowError
from steering_core.foundation.validation import counted
from tests.concepts import QUESTION, sound_concept


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steer(*words: str) -> Result:
    """The result of `steer concepts …`; an unexpected exception is raised."""
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_knows_the_shipped_concepts() -> None:
    rows = list(csv.DictReader(io.StringIO(steer("list", "--format", "csv").stdout)))
    names = [row["name"] for row in rows]
    assert names == sorted(names)
    assert {"sentiment", "french", "golden-gate-bridge", "nonsense"} <= set(names)
    assert all(int(row["pairs"]) >= 60 for row in rows)


def test_show_prints_card_and_rows_or_everything_as_json() -> None:
    shown = steer("show", "pirate", "--rows", "1").stdout
    assert "pirate" in shown
    assert "licence MIT" in shown
    assert json.loads(steer("show", "pirate", "--json").stdout)["name"] == "pirate"


def test_new_scaffolds_a_file_that_loads_and_lint_says_what_is_missing(here: Path) -> None:
    assert steer("new", "mood").exit_code == 0
    assert load_concept("mood").name == "mood"
    linted = steer("lint", "mood", "--format", "json")
    assert linted.exit_code == 1
    found = json.loads(linted.stdout)
    assert {row["check"] for row in found} == {"few", "unfilled"}
    (unfilled,) = (row for row in found if row["check"] == "unfilled")
    assert unfilled["level"] == "error"
    for left in ("card what", "card made", "card biases", "description", "positive instructions"):
        assert left in unfilled["message"]
    with pytest.raises(ConceptError, match="is there already"):
        steer("new", "mood")
    with pytest.raises(ConceptError, match="cannot be a concept's name"):
        steer("new", "../b", "--out", "x.yaml")
    with pytest.raises(ConceptError, match=r"cannot be written \(File name too long\)"):
        steer("new", "n" * 300)
    for name in ("123", "true", "1e5"):  # numbers and the like in YAML
        assert steer("new", name).exit_code == 0
        assert load_concept(name).name == name


def test_list_shows_the_others_beside_a_broken_file(here: Path) -> None:
    Path("data/concepts").mkdir(parents=True)
    Path("data/concepts/torn.yaml").write_text("name: [")
    rows = {row["name"]: row for row in json.loads(steer("list", "--format", "json").stdout)}
    assert rows["torn"]["description"].startswith("cannot be read: data/concepts/torn.yaml, line")
    assert rows["pirate"]["pairs"] >= 60
    assert "torn" in steer("list").stdout


def test_lint_passes_sound_data_and_fails_unreadable_files_as_findings(here: Path) -> None:
    Path("sound.json").write_text(sound_concept().model_dump_json())
    Path("torn.json").write_text('{"name": "torn", "pairs": [')
    good = steer("lint", "sound.json")
    assert (good.exit_code, good.stdout) == (0, "1 concept: nothing to mend\n")
    bad = steer("lint", "torn.json", "sound.json", "--format", "json")
    assert bad.exit_code == 1
    assert [(row["concept"], row["check"]) for row in json.loads(bad.stdout)] == [("torn.json", "unreadable")]


def test_lint_fails_on_warnings_only_when_strict(here: Path) -> None:
    Path("bare.json").write_text(sound_concept(instructions=None).model_dump_json())
    assert steer("lint", "bare.json").exit_code == 0
    assert steer("lint", "bare.json", "--strict").exit_code == 1


def test_lint_in_a_narrow_terminal_keeps_remedies_and_says_which_rows(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list(sound_concept().pairs)
    pairs[7] = pairs[7].model_copy(update={"positive": pairs[7].negative})
    Path("twice.json").write_text(sound_concept(pairs=pairs[:9], instructions=None, prompts=[]).model_dump_json())
    monkeypatch.setenv("COLUMNS", "80")
    said = steer("lint", "twice.json").stdout
    assert "remedy" in said
    assert "Left out for want of room: rows" in said
    assert "1 concept: 2 errors to mend before vectors are worth anything, 2 warnings of what weakens" in said
    monkeypatch.setenv("COLUMNS", "400")
    assert f'pair 8 "{str(pairs[7].prompt)[:12]}' in steer("lint", "twice.json").stdout
    assert "1 pair with the same on both sides" in steer("lint", "twice.json").stdout


def test_import_names_a_concept_as_its_file_and_says_that_texts_are_raw(here: Path) -> None:
    Path("excel.csv").write_text("positive,negative\n" + "\n".join(f"Lovely {i},Awful {i}" for i in range(9)))
    said = steer("import", "excel.csv", "--out", "tr.yaml").stdout
    assert "chat: false" in said
    assert load_concept("tr.yaml").name == "tr"
    assert "chat: false" not in steer("import", "excel.csv", "--out", "raw.yaml", "--raw").stdout


def test_import_and_show_say_whose_open_prompts_a_table_without_any_has(here: Path) -> None:
    Path("tr.csv").write_text("positive,negative\n" + "\n".join(f"Lovely {i},Awful {i}" for i in range(9)))
    whose = "16 open prompts (steerflow's own neutral ones; --prompts FILE"
    assert whose in steer("import", "tr.csv", "--out", "tr.yaml").stdout
    assert whose in " ".join(steer("show", "tr.yaml").stdout.split())
    Path("open.txt").write_text("What is new?\nTell me of tea.\n")
    said = steer("import", "tr.csv", "--prompts", "open.txt", "--out", "own.yaml").stdout
    assert "2 open prompts\n" in said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("question,good,bad", "import odd.csv --positive good --negative bad --prompt question\n"),
        ("frage,gut,schlecht", "import odd.csv --positive gut --negative schlecht --prompt frage\n"),
        ("gut,schlecht", "import odd.csv --positive gut --negative schlecht\n"),
        ("How are you?,Fine.,Bad.", "if it is a row, put a line above it such as `prompt,positive,negative`"),
    ],
)
def test_a_table_of_unknown_columns_is_told_the_command_that_names_them(here: Path, header: str, said: str) -> None:
    n = header.count(",")
    Path("odd.csv").write_text("\n".join([header, *(",".join(["What?", "Yes.", "No."][-n - 1 :]) for _ in range(3))]))
    with pytest.raises(ConceptError) as raised:
        steer("import", "odd.csv")
    assert said in str(raised.value)
    assert "prompt or question" in str(raised.value)  # what is known by itself
    with pytest.raises(ConceptError, match=r"`--positive`, `--negative` and `--prompt` of .* each name one of them"):
        steer("import", "odd.csv", "--positive", "gutt", "--negative", "schlecht")


def test_nothing_is_drafted_under_the_instructions_of_a_scaffold(here: Path, tiny_folder: Path) -> None:
    steer("new", "mood", "--out", "mood.yaml")
    with pytest.raises(ConceptError, match=r"the instructions of mood\.yaml are those that `steer concepts new` wrote"):
        steer("generate", "mood.yaml", "--model", str(tiny_folder), "--count", "1")
    assert not Path("data", "concepts", "mood-draft.yaml").exists()


def test_lint_names_what_a_card_accepts(here: Path) -> None:
    said = steer("lint", "french").stdout.splitlines()[-1]
    assert said.startswith("1 concept: ")
    assert said.endswith("accepted in the card, which says why")


def test_lint_reads_tokens_with_a_model(here: Path, tiny_folder: Path) -> None:
    Path("sound.json").write_text(sound_concept(prompts=["long " * 600, *sound_concept().prompts]).model_dump_json())
    found = json.loads(steer("lint", "sound.json", "--model", str(tiny_folder), "--format", "json").stdout)
    assert ("context", "prompt 1") in {(row["check"], row["rows"]) for row in found}


def test_import_brings_rows_in_and_balances_letters(here: Path) -> None:
    answers = {"answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}
    rows = [{"question": f"{i}. {QUESTION}", **answers} for i in range(30)]
    Path("train.jsonl").write_text("\n".join(map(json.dumps, rows[:20])))
    Path("test.json").write_text(json.dumps(rows[20:]))
    Path("open.json").write_text('["What now?"]')
    given = ["import", "train.jsonl", "--items", "test.json", "--prompts", "open.json", "--name", "vote", "--balance"]
    assert steer(*given).exit_code == 0
    vote = load_concept("vote")
    assert (len(vote.pairs), len(vote.items), vote.prompts, vote.chat) == (20, 10, ("What now?",), True)
    assert sum(pair.positive == "(A)" for pair in vote.pairs) == 10
    with pytest.raises(ConceptError, match="is there already"):
        steer(*given)
    with pytest.raises(ConceptError, match="go together"):
        steer("import", "train.jsonl", "--positive", "question")
    with pytest.raises(ConceptError, match="both name 'question'"):
        steer("import", "train.jsonl", "--positive", "question", "--negative", "question")
    with pytest.raises(ConceptError, match="name"):
        steer("import", "train.jsonl", "--name", "no good")


def test_generate_says_what_it_needs_and_drafts_with_a_local_model(here: Path, tiny_folder: Path) -> None:
    with pytest.raises(ConceptError, match="say who shall draft"):
        steer("generate", "sentiment")
    given = ["--model", str(tiny_folder), "--count", "4", "--max-tokens", "8"]
    assert steer("generate", "sentiment", *given).exit_code == 0
    draft = load_concept("data/concepts/sentiment-draft.yaml")
    assert 1 <= len(draft.pairs) <= 4
    assert "DRAFT" in draft.card.made
    with pytest.raises(ConceptError, match="is there already"):  # before a model is opened
        steer("generate", "sentiment", "--model", "no-such-model")


def test_results_measure_held_out_pairs_and_fill_a_page(here: Path, tiny_folder: Path) -> None:
    Path("sound.json").write_text(sound_concept(chat=True).model_dump_json())
    Path("page.md").write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    given = ["results", "sound.json", "--model", str(tiny_folder), "--store", "store"]
    (row,) = json.loads(steer(*given, "--format", "json").stdout)
    assert (row["pairs"], row["test_pairs"]) == (64, 12)
    assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    assert 0 <= row["auc"] <= 1
    assert steer(*given, "--write", "page.md").exit_code == 0
    page = Path("page.md").read_text()
    assert page.startswith("before\n<!-- results: begin -->\n| concept |")
    assert page.endswith("\n<!-- results: end -->\nafter\n")
    assert "old" not in page
    with pytest.raises(SteerflowError, match="no place for the table"):
        write_results(Path("none.md"), "table")


def test_results_find_a_plain_contrast(here: Path, tiny_folder: Path) -> None:
    loud = sound_concept(pairs=[p.model_copy(update={"positive": p.positive.upper()}) for p in sound_concept().pairs])
    Path("loud.json").write_text(loud.model_dump_json())
    given = ["--model", str(tiny_folder), "--store", "store", "--format", "json"]
    (row,) = json.loads(steer("results", "loud.json", *given).stdout)
    assert row["auc"] > 0.95
    assert row["surface_auc"] == 1.0


@pytest.mark.real
def test_a_shipped_concept_is_told_apart_and_the_control_is_not(here: Path) -> None:
    given = ["results", "sentiment", "nonsense", "--store", "store", "--format", "json"]
    sentiment, nonsense = json.loads(steer(*given).stdout)
    assert sentiment["auc"] > 0.95 > sentiment["surface_auc"]
    assert 0.25 < nonsense["auc"] < 0.75


@pytest.mark.real
def test_the_embedded_model_drafts_and_says_what_it_left_out(here: Path) -> None:
    drafted = steer("generate", "formality", "--model", "smollm2-135m", "--count", "4", "--max-tokens", "16")
    pairs = load_concept("data/concepts/formality-draft.yaml").pairs
    said = f"{counted(len(pairs), 'pair')} to review; {counted(4 - len(pairs), 'prompt')} left out"
    assert said in drafted.stdout
    assert all(pair.positive != pair.negative for pair in pairs)
