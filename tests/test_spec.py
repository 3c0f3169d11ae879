"""Specs: defaults, and every fault at once."""

from pathlib import Path

import pytest
import yaml

from steering_core.concepts import Concept, Pair
from steering_core.concepts.library import load_concept
from steering_core.foundation.data_files import data_files
from steering_core.foundation.errors import ConceptError, SpecError
from steering_core.foundation.validation import checked
from steering_core.spec import Spec
from steering_core.spec_files import load_spec


def test_everything_but_models_and_concepts_has_a_default() -> None:
    spec = Spec(models=("m",), concepts=("c",))
    assert spec.activations.layers == "all"
    assert spec.vectors.methods == ("mean_difference",)


def test_all_faults_are_told_at_once_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("model: [m]\nconcepts: [c]\ngenerations: {dose: [1], max_tokens: 0}\nvectors: {methods: [mean]}\n")
    with pytest.raises(SpecError) as raised:
        load_spec(path)
    message = str(raised.value)
    assert "did you mean 'models'?" in message
    assert "did you mean 'doses'?" in message
    assert "generations.max_tokens" in message
    assert "there is no method 'mean'" in message
    assert "models: Field required" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [a\n", "is not YAML"),
        ("models: [a]\nconcepts: [b]\nname: my run: the first\n", "line 3.*colon and a space stands in .quotes"),
        ("models:\n  - a\n - b\nconcepts: [c]\n", "line 3.*begin in the same column"),
        ("models: [a]\n  concepts: [b]\n", "line 2.*(begin in the same column|colon and a space)"),
        ("- a\n", "must be a mapping"),
        ("models: [a]\nconcepts: [b]\ngenerations: {doses: [1], alphas: [1]}\n", "doses or alphas, not both"),
        ("models: [a]\nconcepts: [b]\ngenerations: {doses: [0, 1]}\n", "leave out 0"),
        ("models: []\nconcepts: [b]\n", "at least 1"),
        *[
            (f"models: [a]\nconcepts: [b]\n{section}: {{{key}: {value}}}\n", said)
            for section, key, value, said in [
                ("generations", "doses", "[.inf]", "finite number"),
                ("generations", "alphas", "[1, .nan]", "finite number"),
                ("generations", "temperature", ".inf", "finite number"),
                ("generations", "layers", "[]", "at least 1 item"),
                ("activations", "layers", "[]", "at least 1 item"),
                ("generations", "seed", "-1", "greater than or equal to 0"),
                ("scores", "seed", "4294967296", "less than or equal to 4294967295"),
                ("scores", "metrics", "[kl]", "add propensity"),
            ]
        ],
    ],
)
def test_a_spec_that_cannot_run_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        load_spec(path)


def test_a_spec_that_is_not_utf8_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_spec(path)
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "nowhere.yaml")
    with pytest.raises(SpecError, match="did you mean 'quickstart'"):
        load_spec("quickstrat")


def test_the_key_follows_the_content() -> None:
    spec = Spec(models=("m",), concepts=("c",))
    assert spec.key == Spec(models=("m",), concepts=("c",)).key
    assert spec.key != Spec(models=("m",), concepts=("c",), name="other").key


@pytest.mark.parametrize("name", sorted(data_files("specs")))
def test_shipped_specs_load(name: str) -> None:
    assert load_spec(name).models


def test_a_changed_copy_forgets_what_was_computed_from_the_old_values() -> None:
    whole = Concept(name="loud", pairs=tuple(Pair(positive=f"{i} YES", negative=f"{i} no") for i in range(10)))
    known = whole.concept_id, whole.splits
    few = whole.model_copy(update={"pairs": whole.pairs[:4]})
    assert few.splits.keys() == {pair.pair_id for pair in whole.pairs[:4]}
    assert few.concept_id != whole.concept_id
    assert (whole.concept_id, whole.splits) == known


def test_paths_in_a_spec_are_looked_for_beside_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, files in ((there, ["tidy.yaml", "my model/config.json"]), (here, ["tidy.yaml", "loud.yaml"])):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
    names = ["tidy.yaml", "loud.yaml", "gone.yaml", "formality", "hf:owner/data", str(here / "tidy.yaml")]
    spec = {"models": ["./my model", "owner/name"], "concepts": names}
    (there / "spec.yaml").write_text(yaml.safe_dump(spec))
    monkeypatch.chdir(here)

    found = load_spec("../there/spec.yaml")
    # loud.yaml lies in the working directory alone, gone.yaml in neither: it is missed where the spec is
    assert found.concepts == ("../there/tidy.yaml", "loud.yaml", "../there/gone.yaml", *names[3:])
    assert found.models == ("../there/my model", "owner/name")
    assert not caplog.records
    with pytest.raises(ConceptError, match=r"\.\./there/gone\.yaml cannot be read: No such file"):
        load_concept(found.concepts[2])

    monkeypatch.chdir(there)
    assert load_spec("spec.yaml").concepts == load_spec(there / "spec.yaml").concepts == tuple(names)


def test_a_dose_in_percent_is_the_dose() -> None:
    given = {"models": ["tiny"], "concepts": ["loud"], "generations": {"doses": ["30%", 0.1, " -5 %"]}}
    assert checked(Spec, given, "the spec", SpecError).generations.doses == (0.3, 0.1, -0.05)
    for wrong in ("x%", "%", "3000%"):
        with pytest.raises(SpecError):
            checked(Spec, {**given, "generations": {"doses": [wrong]}}, "the spec", SpecError)


def test_a_concept_or_another_file_in_a_specs_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\npairs: [{positive: a, negative: b}]\n")
    with pytest.raises(SpecError, match="is a concept, not a spec: name it under `concepts:`"):
        load_spec(tmp_path / "mine.yaml")
    with pytest.raises(SpecError, match=r"no such file; did you mean '.*mine.yaml'"):
        load_spec(tmp_path / "mien.yaml")
    (tmp_path / "README.md").write_text("# Words")
    with pytest.raises(SpecError, match=r"is no spec: .* ends in .yaml, or one of .*quickstart"):
        load_spec(tmp_path / "README.md")


def test_a_spec_in_a_concepts_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("models: [m]\nconcepts: [c]\n")
    with pytest.raises(ConceptError, match=r"holds a spec: .* `steer run .*run.yaml` runs it"):
        load_concept(str(tmp_path / "run.yaml"))
