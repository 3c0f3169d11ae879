"""Every number and every list that comes in has bounds, and true is no number: the schemas themselves are walked."""

import importlib
import math
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import steering_core
from steering_core.cli.main import VERBS, app
from steering_core.foundation.bounds import dose_in, no_boolean, possible_dose
from steering_core.foundation.errors import SpecError
from steering_core.foundation.validation import Strict, checked
from steering_core.spec import Spec

LISTS = ("tuple", "list", "set", "dict")
NUMBERS = ("int", "float")


def schemas() -> list[type[BaseModel]]:
    """Every schema that people's files and requests are read by."""
    for module in pkgutil.walk_packages(steering_core.__path__, "steering_core."):
        if not module.name.endswith(".__main__") and not module.name.startswith("steering_core.models."):
            importlib.import_module(module.name)
    found, todo = set(), list(BaseModel.__subclasses__())
    while todo:
        schema = todo.pop()
        todo += schema.__subclasses__()
        if schema.__module__.startswith("steering_core.") and schema is not Strict:
            found.add(schema)
    return sorted(found, key=lambda schema: schema.__qualname__)


def nodes(schema: Any, path: str, guarded: bool = False) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every typed node of a core schema, with its path, and whether booleans are refused right before it."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str):
            yield path, schema, guarded
        refuses = kind == "function-before" and schema["function"]["function"] is no_boolean
        for key, value in schema.items():
            if key not in ("metadata", "ref", "serialization", "cls", "config"):
                yield from nodes(value, f"{path}.{key}", refuses)
    elif isinstance(schema, list | tuple):
        for i, value in enumerate(schema):
            yield from nodes(value, f"{path}[{i}]")


def faults(schema: type[BaseModel]) -> list[str]:
    """What is without bounds in one schema."""
    found = []
    for path, node, guarded in nodes(schema.__pydantic_core_schema__, schema.__qualname__):
        if node["type"] in NUMBERS:
            if not all(math.isfinite(node.get(bound, math.inf)) for bound in ("ge", "le")):
                found.append(f"{path} has no finite bounds: annotate it with Within")
            if not guarded and not node.get("strict"):
                found.append(f"{path} takes true for a number: annotate it with Within")
        variable = node["type"] != "tuple" or "variadic_item_index" in node
        if node["type"] in LISTS and variable and "max_length" not in node:
            found.append(f"{path} is a list without a maximum length")
    return found


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.__qualname__)
def test_every_number_and_list_of_every_schema_is_bounded(schema: type[BaseModel]) -> None:
    assert not faults(schema)


def test_the_walk_knows_the_specs_and_the_requests() -> None:
    assert {"Spec", "JudgeSpec", "Concept", "SteerRequest", "SqlQuery", "ChatCompletion"} <= {
        schema.__qualname__ for schema in schemas()
    }


def test_the_walk_sees_what_has_no_bounds() -> None:
    class Loose(Strict):
        number: int
        real: float | None = None
        many: tuple[tuple[str, ...], ...] = ()

    assert [fault.split(" ", 1)[1][:15] for fault in faults(Loose)] == [
        *["has no finite b", "takes true for "] * 2,
        *["is a list witho"] * 2,
    ]


def numbers() -> Iterator[tuple[str, Any]]:
    """Every option and argument of every verb that is a number, or a list of them."""
    for verb in VERBS:
        app = importlib.import_module(f"steering_core.cli.{verb.replace('-', '_')}").app
        for command in app.registered_commands:
            for name, hint in get_type_hints(command.callback, include_extras=True).items():
                if get_origin(hint) is Annotated and {int, float} & set(parts(get_args(hint)[0])):
                    yield f"{verb} {command.callback.__name__} {name}", get_args(hint)[1]


def parts(hint: Any) -> Iterator[Any]:
    """A type, and the types that it is made of."""
    yield hint
    for inner in get_args(hint):
        yield from parts(inner)


def test_every_number_of_every_verb_is_bounded() -> None:
    found = list(numbers())
    assert len(found) > 20
    assert not [name for name, option in found if option.min is None or option.max is None]
    assert all(math.isfinite(option.min) and math.isfinite(option.max) for _, option in found)


@pytest.mark.parametrize("given", ["nan", "inf", "1e30", "true", "-1"])
def test_an_option_that_is_no_sensible_number_is_refused(given: str) -> None:
    for option in ("--temperature", "--max-tokens", "--seed"):
        found = CliRunner().invoke(app, ["generate", "smollm2-135m", "Hi", option, given])
        assert (found.exit_code, option in found.output) == (2, True)


TOO_MUCH = {
    "true is no number": {"generations": {"doses": [True]}},
    "false is no number": {"scores": {"seed": False}},
    "layers, entry 1: true is no number": {"activations": {"layers": [True]}},
    "changes nothing": {"generations": {"doses": [1e-320]}},
    "finite number": {"scores": {"judge": {"model": "m", "timeout": math.inf}}},
    "scores.max_kl: Input should be a finite number": {"scores": {"max_kl": math.nan}},
    "less than or equal to 20000": {"scores": {"bootstrap": 1e9}},
    "at most 100 items, not 100000": {"generations": {"doses": [i / 1e5 for i in range(1, 100_001)]}},
    "less than or equal to 100 ": {"generations": {"samples": 10_000}},
    "generations.max_tokens": {"generations": {"max_tokens": 1e30}},
    "'loud' stands here twice": {"concepts": ["loud", "loud"]},
    "'tiny' stands here twice": {"models": ["tiny", "tiny"]},
    "did you mean 30%, which is a dose of 0.3?": {"generations": {"doses": [30]}},
    "100000 times the mean residual norm": {"generations": {"doses": [100_000]}},
}


@pytest.mark.parametrize("said", TOO_MUCH)
def test_what_lies_outside_is_one_fault_with_its_place_and_value(said: str) -> None:
    given = {"models": ["tiny"], "concepts": ["loud"], **TOO_MUCH[said]}
    with pytest.raises(SpecError) as fault:
        checked(Spec, given, "the spec", SpecError)
    assert said in str(fault.value).replace("100,000", "100000").replace("1e+05", "100000")
    assert "has 1 fault:" in str(fault.value)


def test_layers_are_still_words_or_lists() -> None:
    given = {"models": ["tiny"], "concepts": ["loud"], "activations": {"layers": "all"}}
    for layers, kept in (("auto", "auto"), ("all", "all"), ([3, 1], (3, 1)), (["3"], (3,))):
        spec = checked(Spec, given | {"generations": {"layers": layers}}, "the spec", SpecError)
        assert spec.generations.layers == kept


@pytest.mark.parametrize(("text", "dose"), [("30%", 0.3), (" -5 % ", -0.05), ("+30%", 0.3), ("1e1%", 0.1)])
def test_a_dose_in_percent_is_read_alike_by_verbs_and_by_specs(text: str, dose: float) -> None:
    assert dose_in(text) == possible_dose(text) == pytest.approx(dose)


@pytest.mark.parametrize("text", ["abc", "%", "3%0", "30%%", "++3", ""])
def test_what_is_no_dose_is_told_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no dose: write 0.3 or 30%"):
        dose_in(text)
    assert possible_dose(text) == text  # a spec says of it what it says of any other text
