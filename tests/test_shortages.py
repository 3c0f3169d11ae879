"""Where more items or prompts are asked for than a concept has, that is said once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

import steering_core as steer
from steering_core.foundation.errors import ModelNotFound, RunIncomplete, SteeringWarning
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.shortages import lack_of_wanted_items, shortages
from steering_core.pipeline.stages import PLAIN
from steering_core.spec import Spec
from steering_core.store import Store
from tests.capitals import CAPITALS

ITEMS = "capitals: 12 held-out items are asked for, and it has 10 in the validation split and 10 in the test split"
PROMPTS = "capitals: 5 open prompts are asked for, and it has 1 in the validation split and 1 in the test split"


def asking(items: int | None = None, prompts: int | None = None) -> Spec:
    grid: dict[str, Any] = {} if prompts is None else {"prompts": prompts}
    return Spec(models=("one", "two"), concepts=("capitals",), generations=grid, scores={"items": items})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (asking(), []),  # what nobody asked for lacks nothing
        (asking(items=10, prompts=1), []),
        (asking(items=12), [f"{ITEMS}: add some, or ask for fewer"]),
        (asking(items=12, prompts=5), [f"{one}: add some, or ask for fewer" for one in (ITEMS, PROMPTS)]),
    ],
)
def test_what_a_spec_asks_for_and_a_concept_lacks_is_said(spec: Spec, said: list[str]) -> None:
    assert shortages(spec, CAPITALS) == said


def test_a_concept_without_any_is_left_to_what_needs_them() -> None:
    assert shortages(asking(items=3, prompts=3), CAPITALS.model_copy(update={"items": (), "prompts": ()})) == []


def test_only_the_splits_that_are_measured_count() -> None:
    items = tuple(item.model_copy(update={"split": "test"}) for item in CAPITALS.items)
    reported = CAPITALS.model_copy(update={"items": items})
    assert lack_of_wanted_items(reported, 20, ["test"]) == ""
    assert "it has 0 in the validation split: add" in lack_of_wanted_items(reported, 1, ["validation"])


def test_a_run_says_it_once_for_all_its_models(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "capitals.yaml"
    path.write_text(yaml.safe_dump(CAPITALS.model_dump(mode="json", exclude_none=True)))

    def load_model(*_: Any) -> Any:
        raise ModelNotFound("enough was seen")

    spec = asking(items=12).model_copy(update={"concepts": (str(path),)})
    with pytest.raises(RunIncomplete):
        run(spec, Store(tmp_path / "store"), stages=dataclasses.replace(PLAIN, load_model=load_model))
    assert sum(ITEMS in record.getMessage() for record in caplog.records) == 1


def test_a_dose_sweep_warns_of_it(toy_model: Model, tmp_path: Path) -> None:
    vector = steer.Vector.from_numpy(toy_model, range(1, toy_model.identity.width + 1), layer=1, residual_norm=10.0)
    with pytest.warns(
        SteeringWarning, match="capitals: 12 held-out items are asked for, and it has 10 in the val"
    ) as seen:
        sweep = steer.dose_sweep(toy_model, vector, CAPITALS, [0.1], controls=0, items=12, store=tmp_path / "store")
    assert seen[0].filename == __file__
    assert {row["n"] for row in sweep if row["dose"]} == {10}
