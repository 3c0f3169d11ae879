"""The plan of a whole run: its tokens against those that the run then takes, and its time by this machine's pace."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from steering_core.cli import plan, vectors
from steering_core.concepts.library import load_concept, load_concepts
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.paces import keep_paces, known_paces
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.outlook import outlook
from steering_core.spec import Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store

PARTS = {"text_tokens": "generations", "score_tokens": "scores", "side_effect_tokens": "side_effects"}


@pytest.fixture(autouse=True)
def no_pace_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nothing ran: its cache folder is empty."""
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "cache"))


def concept(folder: Path, name: str) -> str:
    pairs = [{"prompt": f"What of {name} {i}?", "positive": f"{i} yes", "negative": f"{i} no"} for i in range(12)]
    items = [{"prompt": f"Is {name} {i}?", "matching": "yes it is", "not_matching": "no"} for i in range(12)]
    prompts = [f"Well, {name},", "So,", "Then,", "Now,"]
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({"name": name, "pairs": pairs, "prompts": prompts, "items": items, "chat": True})
    )
    return str(folder / f"{name}.yaml")


@pytest.fixture
def spec(tiny_folder: Path, tmp_path: Path) -> Path:
    concepts = [concept(tmp_path, name) for name in ("tidy", "merry")]
    grid = {"layers": [1, 2], "doses": [0.2, 0.5], "max_tokens": 6, "shortlist": 2, "prompts": 2}
    scores = {"draws": 5, "bootstrap": 100}
    path = tmp_path / "spec.yaml"
    path.write_text(
        yaml.safe_dump({"models": [str(tiny_folder)], "concepts": concepts, "generations": grid, "scores": scores})
    )
    return path


def planned(spec: Path, store: Path) -> dict[str, object]:
    arguments = [str(spec), "--store", str(store), "--format", "json"]
    done = CliRunner().invoke(plan.app, arguments, catch_exceptions=False, standalone_mode=False)
    (row,) = json.loads(done.stdout)
    return row


def test_a_plan_counts_the_whole_run_and_times_it_by_the_last_one(spec: Path, tmp_path: Path) -> None:
    read: Spec = load_spec(spec)
    first = planned(spec, tmp_path / "a")
    assert "a second of passes took here" in str(first["pace"])
    report = run(read, Store(tmp_path / "a"))["stages"]
    for part, stage in PARTS.items():
        assert 0.5 < first[part] / report[stage]["tokens"] < 2, (part, first[part], report[stage])
    again = planned(spec, tmp_path / "b")  # the same in an empty store: as long as the run took
    assert "this machine's last run" in str(again["pace"])
    took = sum(stage["seconds"] for stage in report.values())
    assert 0.5 < again["seconds"] / took < 2
    assert again["seconds"] == pytest.approx(
        sum(again[f"{p}_seconds"] for p in ("extraction", "text", "score", "side_effect"))
    )
    there = planned(spec, tmp_path / "a")
    assert (there["seconds"], there["pace"]) == (0, "nothing to compute")
    assert "the store has it all" in str(there["takes"])


def test_people_read_a_sentence_and_what_each_stage_takes(spec: Path, tmp_path: Path) -> None:
    arguments = [str(spec), "--store", str(tmp_path / "a")]
    shown = CliRunner().invoke(plan.app, arguments, catch_exceptions=False, standalone_mode=False).stdout
    said = " ".join(shown.split())  # lines end at words
    assert re.search(
        r"tiny: about \d+ (s|min) \(.*\)\. It holds at most .* of memory and writes .*; 0 of 48 prompts are", said
    )
    assert re.search(r"scores .* scores\.draws", said)
    assert "training" not in said  # nothing is trained
    run(load_spec(spec), Store(tmp_path / "a"))
    again = CliRunner().invoke(plan.app, arguments, catch_exceptions=False, standalone_mode=False).stdout
    assert "no time: the store has it all. It holds at most" in " ".join(again.split())
    assert "scores" not in again


def test_the_time_follows_the_kept_pace(spec: Path, tiny: Model, tmp_path: Path) -> None:
    stages = {stage: Work(tokens=1000, seconds=2.0) for stage in ("activations", *PARTS.values())}
    keep_paces(tiny.identity.model_id, stages)
    row = planned(spec, tmp_path / "a")
    tokens = row["tokens_run"] + row["text_tokens"] + row["score_tokens"] + row["side_effect_tokens"]
    assert row["seconds"] == pytest.approx(tokens / 500)


def test_a_pace_is_kept_of_what_did_enough_and_a_torn_file_is_measured_anew(tmp_path: Path) -> None:
    keep_paces("m", {"scores": Work(tokens=10_000, seconds=4.0), "vectors": Work(tokens=3, seconds=1.0)})
    keep_paces("m", {"generations": Work(tokens=1_000, seconds=10.0)})
    assert {stage: pace.tokens_per_second for stage, pace in known_paces("m").items()} == {
        "scores": 2500,
        "generations": 100,
    }
    (tmp_path / "cache" / "paces" / "m.json").write_text('{"scores": {"tok')
    assert known_paces("m") == {}
    keep_paces("m", {"scores": Work(tokens=1_000, seconds=1.0)})
    assert known_paces("m")["scores"].tokens_per_second == 1000


SHORTER = {  # a key that a plan names, the part of the outlook that it shortens, and a value that does
    "vectors.methods": ("training", ["mean_difference"]),
    "vectors.train_layers": ("training", [1]),
    "generations.prompts": ("texts", 1),
    "generations.max_tokens": ("texts", 3),
    "generations.shortlist": ("texts", 1),
    "scores.draws": ("scores", 5),
    "scores.metrics": ("scores", ["propensity"]),
    "generations.layers": ("scores", [1]),
    "scores.side_effects": ("side_effects", "none"),
    "scores.capabilities": ("capabilities", "none"),
}


@pytest.mark.parametrize("key", SHORTER)
def test_the_keys_that_a_plan_names_make_a_run_shorter(spec: Path, tiny: Model, key: str) -> None:
    told = ", ".join(keys for *_, keys in plan.STAGES).replace(" .", " generations.").replace(" (none)", "")
    assert set(told.split(", ")) == {*SHORTER, "activations.layers"}  # passes of fewer layers have as many tokens
    said = yaml.safe_load(spec.read_text())
    said["vectors"] = {"methods": ["mean_difference", "preference"]}
    said["generations"] |= {"layers": "all", "prompts": 4, "max_tokens": 12}
    said["scores"] = {"draws": 39, "capabilities": ["arithmetic"]}
    part, value = SHORTER[key]
    group, name = key.split(".")
    less = {**said, group: {**said[group], name: value}}
    before, after = (
        getattr(outlook(one, tiny, load_concepts(one.concepts)), part) for one in map(Spec.model_validate, (said, less))
    )
    assert 0 <= after < before


def test_a_plan_says_at_which_layers_prompts_are_stored(spec: Path, tiny_folder: Path, tmp_path: Path) -> None:
    given = yaml.safe_load(spec.read_text())
    store = tmp_path / "store"
    runner = CliRunner()
    derive = ["derive", str(tiny_folder), given["concepts"][0], "--layers", "1", "--controls", "0", "--draws", "0"]
    done = runner.invoke(vectors.app, [*derive, "--store", str(store)], catch_exceptions=False)
    assert re.search(r"tidy\.yaml` finds \d errors? in the concept: mend (it|them) before its vectors", done.stdout)
    said = runner.invoke(plan.app, [str(spec), "--store", str(store)], catch_exceptions=False).stdout
    assert "of 48 prompts 24 are stored at layer 1, none at layer" in " ".join(said.split())
    assert planned(spec, store)["stored_prompts"]["1"] == 24


def test_a_concept_that_no_run_could_choose_for_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "bare",
                "pairs": [{"positive": f"A{i}", "negative": f"b{i}"} for i in range(8)],
                "items": [{"prompt": f"{i}?", "matching": "A", "not_matching": "b", "split": "test"} for i in range(9)],
            }
        )
    )
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({"models": [str(tiny_folder)], "concepts": [str(tmp_path / "bare.yaml")]}))
    with pytest.raises(
        ConceptError, match=r"bare has no held-out items in the validation split \(9 items are in the test split\)"
    ):
        planned(path, tmp_path / "store")


def test_a_plan_warns_of_what_no_run_could_say(spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = yaml.safe_load(spec.read_text())
    tidy = yaml.safe_load(Path(said["concepts"][0]).read_text())
    few = {**tidy, "name": "few", "pairs": tidy["pairs"][:3]}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(few))
    (tmp_path / "few-spec.yaml").write_text(yaml.safe_dump({**said, "concepts": [str(tmp_path / "few.yaml")]}))
    planned(tmp_path / "few-spec.yaml", tmp_path / "store")
    assert "few: this run cannot reach a verdict. 2 training pairs can be labelled in 4 ways" in caplog.text


def test_a_concept_that_is_in_neither_folder_is_told_of_once(
    spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = yaml.safe_load(spec.read_text()) | {"concepts": ["tidi.yaml"]}
    spec.write_text(yaml.safe_dump(given))
    with pytest.raises(
        ConceptError, match=r"tidi\.yaml cannot be read: No such file .*; did you mean '.*/tidy\.yaml'\?"
    ):
        planned(spec, tmp_path / "store")
    assert not caplog.text


def test_a_file_that_is_nearly_called_as_a_shipped_concept_suggests_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConceptError, match=r"no file 'sentimnt\.yaml'; did you mean the concept 'sentiment'\?"):
        load_concept("sentimnt.yaml")
