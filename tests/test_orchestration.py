"""prefect.yaml and docs/orchestration.md are true: deployments load, their forms are described, their SQL answers."""

import importlib
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun

from flows.sweep import line, restarted
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
