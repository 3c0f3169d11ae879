"""Groups of options: typer sees their fields, a verb gets one value, and what does not fit is told."""

import inspect
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from steering_core.cli.shared.options import StoreOption
from steering_core.cli.shared.steering_options import SteeringOptions, grouped
from steering_core.foundation.errors import InterventionError, VectorError


def test_a_group_stands_in_the_help_as_its_fields_and_arrives_as_one_value() -> None:
    app, seen = typer.Typer(), []

    @app.command()
    @grouped
    def verb(model: str, steering: SteeringOptions, store: StoreOption = None) -> None:
        """Steer."""
        seen.append((model, steering, store))

    done = CliRunner().invoke(app, ["m", "-v", "a", "-v", "b", "--dose", "0.3", "--layers", "1,2", "--store", "s"])
    assert done.exit_code == 0, done.output
    options = SteeringOptions(vector=["a", "b"], dose=[0.3], layers="1,2")
    assert seen == [("m", options, "s")]
    assert options.wanted_layers == [1, 2]
    assert str(options.expression) == "30%*a + 30%*b @generation"
    assert list(inspect.signature(verb).parameters) == [
        *("model", "vector", "alpha", "dose", "steer", "layers", "all_layers", "phase", "store")
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"vector": ["a"]}, "a @generation"),
        ({"vector": ["a", "b"], "alpha": [1.0, -2.0], "phase": "all"}, "1*a - 2*b @all"),
        ({"steer": "!refusal @all"}, "!refusal @all"),
    ],
)
def test_options_stand_for_an_expression(given: dict[str, Any], expected: str | None) -> None:
    found = SteeringOptions(**given).expression
    assert (found and str(found)) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": [1.0]}, "a strength without a vector"),
        ({"vector": ["a"], "steer": "b"}, "not both"),
        ({"steer": "b", "phase": "all"}, "write @all in it, and leave --phase out"),
        ({"vector": ["a"], "alpha": [1.0], "dose": [0.1]}, "give --alpha or --dose, not both"),
        ({"vector": ["a", "b", "c"], "alpha": [1.0, 2.0]}, "3 vectors and 2 strengths"),
        ({"vector": ["a"], "alpha": [float("nan")]}, "is no number"),
    ],
)
def test_options_that_do_not_fit_are_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InterventionError, match=said):
        _ = SteeringOptions(**given).expression


@pytest.mark.parametrize("given", [{"layers": "1", "all_layers": True}, {"layers": "one"}])
def test_layers_that_do_not_fit_are_told(given: dict[str, Any]) -> None:
    with pytest.raises(VectorError, match="--layers"):
        _ = SteeringOptions(**given).wanted_layers
