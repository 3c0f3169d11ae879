"""prefect.yaml and docs/orchestration.md are true: deployments load, their forms are described, their SQL answers."""

import datetime
import importlib
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect.states import Completed, Failed

from flows.sweep_text import Ended, compared, lasted, line, moment, restarted, sweep_text
from steering_core.spec_files import load_spec
from steering_core.store import Store

ROOT = Path(__file__).parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
PAGE = (ROOT / "docs" / "orchestration.md").read_text()


def test_the_page_names_every_deployment() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE, flags=re.MULTILINE)
    assert rows == [deployment["name"] for deployment in DEPLOYMENTS]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_a_deployments_parameters_are_flat_typed_and_described(deployment: dict[str, Any]) -> None:
    module, name = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(module), name)
    assert flow.name == deployment["name"]
    properties = flow.parameters.properties
    assert set(deployment["parameters"]) <= set(properties)
    for parameter, form in properties.items():
        assert form.get("description"), parameter
        assert "type" in form or "anyOf" in form, parameter
        assert "$ref" not in str(form), parameter
    for schedule in deployment.get("schedules", []):
        assert schedule["timezone"]


@pytest.mark.parametrize("query", re.findall(r'^steer sql "(.*)"$', PAGE, flags=re.MULTILINE))
def test_the_pages_sql_answers(store: Store, query: str) -> None:
    assert store.query(query).num_rows == 0


def test_the_nightly_spec_loads() -> None:
    assert len(load_spec("nightly").models) == 2


def test_a_sweep_s_table_fits_beside_the_page_s_menu() -> None:
    """Six columns, the regression first and the longest name last, whatever became of a cell."""
    worked = {"effect": 0.654321, "interval": "[0.086, 1.222]", "verdict": "works", "change": 0.1, "regression": None}
    failed = {"effect": None, "interval": None, "verdict": None, "change": None, "regression": "REGRESSION"}
    names = {"model": "m", "concept": "c", "computed": 1, "reused": 2, "seconds": 3.0, "error": None}
    assert list(line({**names, **worked, "outcome": "completed"}).values()) == [
        *(None, "c", "works", "0.654 [0.086, 1.222]", 0.1, "m")
    ]
    assert list(line({**names, **failed, "outcome": "failed"}).values()) == ["REGRESSION", "c", "failed", "", None, "m"]


def test_the_morning_s_report_says_what_was_begun_again_after_a_death() -> None:
    def run(key: str | None, count: int) -> FlowRun:
        return FlowRun(flow_id=uuid4(), name="discover m", idempotency_key=key, run_count=count)

    assert restarted(run("nightly-1-m-0", 1)) is None
    assert restarted(run(None, 1)) is None
    assert "was begun 2 times" in str(restarted(run("nightly-1-m-1", 1)))  # the sweep began it again
    assert "was begun 2 times" in str(restarted(run("nightly-1-m-0", 2)))  # its worker was started again
    assert "was begun 4 times" in str(restarted(run("nightly-1-m-1", 3)))


CELL = {
    "model": "m", "concept": "c", "outcome": "completed", "verdict": "works", "effect": 0.5, "interval": None,
    "change": 0.1, "regression": None, "computed": 0, "reused": 1, "error": None, "previous_sweep": "nightly-1",
    "previous_sweep_at": datetime.datetime(2026, 11, 27, 2, 0),
}  # fmt: skip


def test_a_sweep_s_report_says_when_it_ran_since_when_it_changed_and_where_to_read_more() -> None:
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=5, minutes=3)
    why = "Flow run encountered an exception: SpecError: bad"
    spent = datetime.timedelta(minutes=12)
    good = FlowRun(flow_id=uuid4(), name="discover m", state=Completed(), total_run_time=spent, state_name="Completed")
    bad = good.model_copy(update={"id": uuid4(), "name": "other", "state": Failed(message=why), "state_name": "Failed"})
    report = uuid4()
    with temporary_settings({PREFECT_UI_URL: "http://127.0.0.1:4200"}):
        text = sweep_text("nightly-2", 1, [CELL], Ended(began, [good, bad], {good.id: report}))
    assert f"It began on {moment(began)} and took 5 h 3 min" in text.replace("\\", "")
    assert "- 1 cell: the sweep nightly-1 of Friday, 27 November 2026 at " in text.replace("\\", "")
    address = "http://127.0.0.1:4200"
    page, its = f"{address}/runs/flow-run/{good.id}", f"{address}/artifacts/artifact/{report}"
    assert f"- [discover m]({page}): Completed, 12 min, [report]({its})" in text.replace("\\:", ":")
    assert f"- [other]({address}/runs/flow-run/{bad.id})" in text
    assert "> SpecError: bad" in text.replace("\\", "")


def test_cells_that_are_compared_with_another_sweep_than_most_are_named() -> None:
    older = {"previous_sweep": "nightly-0", "previous_sweep_at": datetime.datetime(2026, 11, 20, 2, 0)}
    new = {"previous_sweep": None, "previous_sweep_at": None}
    cells = [CELL, CELL, CELL, CELL | {"concept": "late"} | older, CELL | {"concept": "new"} | new]
    first, second, third = (said.replace("\\", "") for said in compared(cells))
    assert first.startswith("3 cells: the sweep nightly-1 of Friday, 27 November 2026")
    assert second.startswith("1 cell (late on m): the sweep nightly-0 of Friday, 20 November 2026")
    assert third == "1 cell (new on m): nothing: no earlier sweep of this spec completed it"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "1 h 30 min"), (18180, "5 h 3 min")]
)
def test_how_long_something_took_is_said_in_the_unit_that_says_enough(seconds: float, said: str) -> None:
    assert lasted(datetime.timedelta(seconds=seconds)) == said
