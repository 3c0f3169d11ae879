"""Where nobody says how strongly a vector acts, and nothing is recommended: alpha 1, and which dose that is."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.cli import vectors
from steering_core.foundation.errors import SteeringWarning
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors.resolve import resolved
from tests.explorer import serving

FAINT = "so it acts at alpha 1, which is 0.2% of the residual stream's norm: begin at 30%*faint, a dose of 0.3, and let"

BOTH = "acts at alpha 1, which is 0.4% of the residual stream's norm in all"


def of_norm_one(model: Model, layer: int, name: str) -> steer.Vector:
    """A vector of length 1 in a stream of norm 500: alpha 1 is 0.2 % of it."""
    direction = np.eye(model.identity.width)[layer]
    return steer.Vector.from_numpy(model, direction, layer, name, residual_norm=500.0)


@pytest.fixture
def shelf(tiny: Model, tmp_path: Path) -> Store:
    """A store with `faint` at layer 1, and `wide` at layers 2 and 3, none of which is recommended."""
    for name, layers in (("faint", (1,)), ("wide", (2, 3))):
        for layer in layers:
            steer.save_vector(tiny, of_norm_one(tiny, layer, name), name, tmp_path / "shelf")
    return Store(tmp_path / "shelf")


def said_of(tiny: Model, what: object, store: Store, recwarn: pytest.WarningsRecorder, **strength: float) -> list[str]:
    intervention(tiny, what, store=store.root, **strength)  # type: ignore[arg-type]
    return [str(recwarn.pop(SteeringWarning).message) for _ in list(recwarn)]


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("faint", [FAINT]),
        ("-faint @all", [FAINT]),
        ("faint + wide", [FAINT, f"each of its 2 layers {BOTH}"]),
        ("wide", ["begin at 15%*wide, a dose of 0.15"]),
        ("wide[3]", ["for wide[3], so it acts"]),
        ("faint @layers(0,3)", ["for faint, so each of its 2 layers acts"]),
        ("1*faint", []),
        ("30%*faint", []),
        ("!faint", []),
    ],
)  # fmt: skip
def test_a_name_without_any_strength_says_its_dose(
    tiny: Model, shelf: Store, expression: str, parts: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    said = said_of(tiny, expression, shelf, recwarn)
    assert len(said) == len(parts)
    assert all(part in one for part, one in zip(parts, said, strict=True)), said


def test_a_vector_without_any_strength_says_its_dose(
    tiny: Model, shelf: Store, recwarn: pytest.WarningsRecorder
) -> None:
    faint = steer.find_vector(tiny, "faint", shelf.root)
    (said,) = said_of(tiny, faint, shelf, recwarn)
    assert FAINT in said
    assert not said_of(tiny, faint, shelf, recwarn, alpha=1)
    assert not said_of(tiny, 150 * faint, shelf, recwarn)  # a multiple says how strong
    assert not said_of(tiny, dataclasses.replace(faint, recommended=150.0), shelf, recwarn)
    assert not said_of(tiny, dataclasses.replace(faint, residual_norm=math.nan), shelf, recwarn)


def test_a_multiple_by_name_has_its_own_strength(tiny: Model, shelf: Store, recwarn: pytest.WarningsRecorder) -> None:
    steer.save_vector(tiny, 150 * steer.find_vector(tiny, "faint", shelf.root), "strong", shelf.root)
    assert not said_of(tiny, "strong", shelf, recwarn)


def test_alpha_1_beyond_what_texts_bear_is_told_once(tiny: Model) -> None:
    loud = dataclasses.replace(of_norm_one(tiny, 1, "loud"), residual_norm=0.2)
    (said,) = resolved(parse("loud"), lambda _: loud, 4).cautions
    assert "for loud, so it acts at alpha 1, which is 500% of" in said
    (said,) = resolved(parse("2*loud + loud"), lambda _: loud, 4).cautions[1:]
    assert "a dose of 10 of loud was never measured" in said


def test_a_percentage_at_many_layers_says_what_it_is_in_all(tiny: Model, shelf: Store) -> None:
    def said(expression: str) -> tuple[str, ...]:
        return resolved(parse(expression), lambda name: steer.find_vectors(tiny, name, shelf.root), 4).cautions

    (told,) = said("60%*wide @generation")
    assert told.startswith("wide acts at 2 layers, which is 120% of the residual stream's norm in all, as each has")
    assert ": begin at 15%*wide, a dose of 0.3 in all, and let `steer run`" in told
    assert said("-300*wide") == (told,)
    one, other = (v.intervention(v.alpha(0.6), "all") for v in steer.find_vectors(tiny, "wide", shelf.root))
    assert (one + other).cautions == (told,)
    (loud,) = said("250%*wide")  # once, not for each layer
    assert "500% of" in loud
    for few in ("50%*wide", "90%*wide[3]", "100%*faint"):
        assert not said(few)


def test_what_is_imported_for_several_layers_says_where_to_begin(shelf: Store, tmp_path: Path) -> None:
    file, there = str(tmp_path / "wide.safetensors"), ["--store", str(tmp_path / "other")]
    given = ["export", "wide", "--to", file, "--alpha", "1", "--store", str(shelf.root)]
    assert CliRunner().invoke(vectors.app, given).exit_code == 0
    done = CliRunner().invoke(vectors.app, ["import", file, "--name", "far", *there])
    assert "It acts at each of its 2 layers: begin at 15%*far, a dose of 0.3 in all." in done.output, done.output


def test_an_export_says_the_dose_of_alpha_1(tiny: Model, shelf: Store, tmp_path: Path) -> None:
    asked = ["export", "faint", "--to", str(tmp_path / "faint.npy"), "--store", str(shelf.root)]
    with pytest.warns(SteeringWarning, match="for faint, so it acts at alpha 1, which is 0.2%"):
        done = CliRunner().invoke(vectors.app, asked)
    assert done.exit_code == 0, done.output


def test_an_export_at_a_strength_says_nothing(
    tiny: Model, shelf: Store, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    asked = ["export", "faint", "--to", str(tmp_path / "faint.npy"), "--store", str(shelf.root)]
    assert CliRunner().invoke(vectors.app, [*asked, "--alpha", "150"]).exit_code == 0
    assert not [one for one in recwarn if one.category is SteeringWarning]


def test_the_explorer_s_api_says_it(tiny_folder: Path, shelf: Store) -> None:
    body = {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 1}
    with serving(shelf, models=[str(tiny_folder)]) as client:
        for steering in ({"vectors": [{"vector": "faint"}]}, {"expression": "faint"}):
            assert client.post("/api/steer", json={**body, "steering": steering}).text.count(FAINT) == 1
        told = client.post("/api/steer", json={**body, "steering": {"vectors": [{"vector": "faint", "alpha": 1}]}}).text
        assert "no strength was given" not in told
