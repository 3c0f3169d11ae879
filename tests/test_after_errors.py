"""After an error: it is said once, in whole words, and nothing follows it."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import yaml

from steering_core.concepts import Concept
from steering_core.concepts.library import load_concepts
from steering_core.foundation.errors import ConceptError, RunIncomplete, SpecError
from steering_core.foundation.validation import checked, shortened, shown
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Store

STEER = Path(sys.executable).with_name("steer")


def spec_file(folder: Path, **given: object) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def concept_file(folder: Path, name: str, file: str) -> str:
    pairs = [{"positive": f"{i} yes {file}", "negative": f"{i} no"} for i in range(5)]
    (folder / file).write_text(yaml.safe_dump({"name": name, "pairs": pairs}))
    return str(folder / file)


def test_a_failed_run_says_why_once_and_then_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    listed = [{"positive": ["a list of texts that is so long that it is not shown whole"], "negative": "another"}]
    (tmp_path / "listed.yaml").write_text(yaml.safe_dump({"name": "listed", "pairs": listed}))
    spec = spec_file(tmp_path, models=[str(tiny_folder)], concepts=[str(tmp_path / "listed.yaml")])
    done = subprocess.run(
        [STEER, "run", spec, "--store", tmp_path / "store"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("pairs, entry 1, positive: ") == 1
    assert done.stderr.splitlines()[-1].endswith("…)")
    assert "leaked" not in done.stderr
    assert not done.stdout


def test_an_error_about_a_file_keeps_nothing_of_its_callers() -> None:
    class Held:
        """Stands for an open store."""

    def reads() -> "weakref.ref[Held]":
        held = Held()
        kept = []
        with pytest.raises(SpecError) as fault:
            checked(Spec, {"models": ["a"], "concepts": ["b"], "generations": {"doses": [0]}}, "it", SpecError)
        kept.append((fault.value, kept, held))
        return weakref.ref(held)

    seen = reads()
    gc.collect()
    assert seen() is None


def test_an_error_that_nobody_foresaw_ends_a_run_in_one_sentence(
    tiny_folder: Path,
    tmp_path: Path,
    concept: Concept,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def odd(*given: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("steering_core.pipeline.stages.derive", odd)
    (tmp_path / "loud.yaml").write_text(concept.model_dump_json())
    spec = Spec(models=(str(tiny_folder),), concepts=(str(tmp_path / "loud.yaml"),))
    with pytest.raises(RunIncomplete, match="ZeroDivisionError: odd"):
        run(spec, Store(tmp_path / "store"))
    assert "in odd" in caplog.text  # the place, for whoever mends it


def test_two_concepts_of_one_name_are_refused_before_anything_runs(tiny_folder: Path, tmp_path: Path) -> None:
    files = (concept_file(tmp_path, "same", "a.yaml"), concept_file(tmp_path, "same", "b.yaml"))
    with pytest.raises(ConceptError, match="two concepts are called 'same'"):
        load_concepts(files)
    store = Store(tmp_path / "store")
    with pytest.raises(ConceptError, match="two concepts are called 'same'"):
        run(Spec(models=(str(tiny_folder),), concepts=files), store)
    assert not store.rows("FROM raw.models")
    assert not store.rows("FROM raw.runs")


def test_a_text_is_cut_between_words() -> None:
    assert shortened("whole", 5) == "whole"
    assert shortened("two words", 5) == "two …"
    assert shortened("two words", 3) == "two …"
    assert shortened("nonsense", 4) == "nons …"
    assert shown(["a word"] * 100).endswith(" …")
    assert len(shown("x" * 10**7)) <= 62
