"""Parameters of a flow run as they are typed: refused with what to type, or with their paths made whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.absent import absent
from flows.sweep_layers import sweep_layers
from flows.typed import parameters, refuse_other_forms, refuse_what_is_not_there, with_whole_paths

FORMS = sweep_layers.parameters.properties  # as its deployment says them


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("concepts=formality", """concepts takes a list of texts, not 'formality': type -p 'concepts=["formality"]'"""),
        ("models=a, b", """type -p 'models=["a", "b"]'"""),
        ("concepts=[formality]", """type -p 'concepts=["formality"]'"""),
        ("concepts=[5]", """type -p 'concepts=["5"]'"""),
        ("spec=5", r"""spec takes a text, not 5: type -p 'spec="5"'"""),
        ('spec=["quickstart"]', "spec takes a text, not ['quickstart']: type -p 'spec=quickstart'"),
        ("damage=much", "damage takes a number, not 'much'"),
        ("damage=true", "damage takes a number, not True"),
        ("concept=formality", "There is no parameter 'concept': did you mean 'concepts'?"),
    ],
)
def test_a_parameter_of_another_form_is_told_with_what_to_type(typed: str, says: str) -> None:
    with pytest.raises(SystemExit) as refused:
        refuse_other_forms(parameters(["-p", typed]), FORMS)
    assert says in str(refused.value)
    if "type -p '" in says:  # and what it says to type is taken
        refuse_other_forms(parameters(["-p", str(refused.value).split("type -p '")[1].removesuffix("'")]), FORMS)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SystemExit) as refused:
        refuse_other_forms({"concepts": "a", "modles": []}, FORMS)
    assert len(str(refused.value).splitlines()) == 2
    with pytest.raises(SystemExit) as refused:
        refuse_what_is_not_there({"concepts": ["formalty", "nowhere.yaml"], "models": ["smollm2-135"], "spec": "x"})
    assert len(str(refused.value).splitlines()) == 4


@pytest.mark.parametrize(
    "given", [{"models": None}, {"models": ["a/b"]}, {"damage": 1}, {"damage": 0.5}, {"spec": "x"}]
)
def test_what_a_deployment_takes_is_left_to_it(given: dict[str, Any]) -> None:
    refuse_other_forms(given, FORMS)


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("model", "nope", "There is no model 'nope': there are: gemma3-270m, "),
        ("model", "smollm2-135n", "did you mean 'smollm2-135m'? A model is also a folder, or a Hugging Face id"),
        ("model", "./nowhere", "no such file is seen from"),
        ("concept", "formalty", "There is no concept 'formalty': did you mean 'formality'?"),
        ("concept", "tests", "There is no concept 'tests'"),  # a folder is no concept
        ("spec", "nihgtly", "did you mean 'nightly'?"),
    ],
)
def test_a_name_that_nothing_has_is_told_with_what_is_near(kind: str, name: str, says: str) -> None:
    assert says in str(absent(kind, name))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "smollm2-135m"),
        ("model", "org/model@main"),
        ("model", "tests"),
        ("concept", "hub:a/b"),
        ("spec", "smoke"),
    ],
)
def test_a_name_that_may_be_meant_is_not_refused(kind: str, name: str) -> None:
    assert absent(kind, name) is None


def test_a_file_that_another_machine_may_have_is_refused_only_where_that_is_asked() -> None:
    assert "no such file" in str(absent("concept", "/elsewhere/loud.yaml"))
    assert absent("concept", "/elsewhere/loud.yaml", paths=False) is None
    assert absent("concept", "formalty", paths=False)


def test_paths_are_made_whole_and_everything_else_is_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow run looks from another folder than whoever types."""
    monkeypatch.chdir(tmp_path)
    for name in ("loud.yaml", "params.yaml"):
        (tmp_path / name).touch()
    here = str(tmp_path / "loud.yaml")
    typed = ["-p", "spec=params.yaml", '--param=concepts=["loud.yaml", "formality"]', "-p", "damage=0.5", "--watch"]
    first, second, *others = with_whole_paths(typed)[1:]
    assert first == f"spec={tmp_path / 'params.yaml'}"
    assert json.loads(second.removeprefix("--param=concepts=")) == [here, "formality"]
    assert others == typed[3:]
    (_, together) = with_whole_paths(["--params", '{"spec": "loud.yaml", "store": "loud.yaml"}'])
    assert json.loads(together) == {"spec": here, "store": "loud.yaml"}
    untouched = ["-p", "spec=smoke", "-p", 'models=["a/b", "x.yaml"]', "-p", "--params", "[", "--params={}", "-p"]
    assert with_whole_paths(untouched) == untouched
