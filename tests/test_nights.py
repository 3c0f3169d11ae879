"""Two nights of `nightly-sweep` on an embedded model: the schedule starts it at two o'clock, a regression is marked.

The clocks of server and workers are moved to shortly before two, and by a day for the second night. Minutes long, and
it needs a C compiler on Linux: `pytest -m slow tests/test_nights.py`.
"""

import datetime
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import yaml

from steering_core.foundation.cache import cache_folder
from steering_core.foundation.data_files import data_files
from steering_core.store import Store
from tests.machine import clean_environment, client, free_port, service, until
from tests.moved_clock import COMPILER, moved_clock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(not COMPILER or sys.platform != "linux", reason="the clock is moved by a library made with cc"),
]
MODELS = ["smollm2-135m"]
SPEC = {
    "name": "nightly",
    "models": MODELS,
    "concepts": ["sentiment", "mood"],
    "activations": {"layers": [18]},
    "vectors": {"methods": ["mean_difference"], "controls": 1, "quality_draws": 0},
    "generations": {"layers": [18], "doses": [0.3], "shortlist": 1, "prompts": 1, "samples": 1, "max_tokens": 8},
    "scores": {
        "metrics": ["propensity", "kl", "damage", "perplexity"],
        "items": 10,
        "neutral": 2,
        "answers": 4,
        "draws": 9,
        "bootstrap": 200,
        "side_effects": "none",
    },
}
NIGHT = datetime.datetime(2026, 12, 1, 2, 0, tzinfo=ZoneInfo("Europe/Berlin"))
BEFORE = datetime.timedelta(minutes=float(os.environ.get("STEERFLOW_NIGHT_MINUTES", "3")))  # for a server to start
ROUNDED = datetime.timedelta(seconds=0.5)  # Prefect's server says to wait so many whole seconds, rounded
TABLES = {
    "activations": "(prompt_id, layer)",
    "vectors": "vector_id",
    "generations": "generation_id",
    "measurements": "measurement_id",
}


def mood(folder: Path, changed: bool) -> None:
    """A concept that somebody edits between the nights: sentiment, and then by mistake without its pairs."""
    content = yaml.safe_load(data_files("concepts")["sentiment"].read_text())
    content = {key: content[key] for key in ("chat", "pairs", "prompts", "items")} | {"name": "mood"}
    if changed:
        content["pairs"] = []
    (folder / "concepts" / "mood.yaml").write_text(yaml.safe_dump(content))


@contextmanager
def night(folder: Path, days: int) -> Iterator[dict[str, str]]:
    """A machine whose clock stands shortly before two o'clock; it is stopped and may be started again."""
    ahead = NIGHT + datetime.timedelta(days=days) - BEFORE - datetime.datetime.now(datetime.UTC)
    environment = clean_environment() | {
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(folder / "state" / "prefect" / "profiles.toml"),
        "STEERFLOW_STATE": str(folder / "state"),
        "STEERFLOW_STORE": str(folder / "store"),
        "STEERFLOW_CACHE": str(cache_folder()),
        "STEERFLOW_DATA": str(folder / "data"),
        "STEERFLOW_ACCELERATOR": folder.name,  # whoever computes here besides does not hold up the night
        "DO_NOT_TRACK": "1",
        **moved_clock(folder, ahead.total_seconds()),
    }
    (folder / "prefect").mkdir(exist_ok=True)
    try:
        service("up", environment)
        yield environment
    finally:
        service("down", environment)


def ended(here: dict[str, str], sweeps: int) -> list[dict[str, Any]]:
    """The nightly sweeps, once so many have ended."""
    try:
        with client(here) as asked:
            runs = asked.post("/flow_runs/filter", json={}).json()
    except httpx.HTTPError:
        return []
    over = [r for r in runs if r["name"].startswith("nightly-sweep") and r["state_type"] in ("COMPLETED", "FAILED")]
    return over if len(over) == sweeps else []


def counted(store: Store) -> dict[str, int]:
    """Rows of every table, of which none is there twice."""
    found = {}
    for table, key in TABLES.items():
        (row,) = store.rows(f"SELECT count(*) AS n, count(DISTINCT {key}) AS kinds FROM raw.{table}")
        assert row["n"] == row["kinds"], table
        found[table] = row["n"]
    return found


def test_two_nights_mark_a_regression_and_compute_nothing_twice(tmp_path: Path) -> None:
    for kind in ("specs", "concepts"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    (tmp_path / "data" / "specs" / "nightly.yaml").write_text(yaml.safe_dump(SPEC))
    mood(tmp_path / "data", changed=False)
    limit = float(os.environ.get("STEERFLOW_NIGHT_SECONDS", "1800"))
    with night(tmp_path, 0) as here:
        (first,) = until("the first night", lambda: ended(here, 1), limit)
    store = Store(tmp_path / "store")
    before, told = counted(store), store.rows("FROM sweep_summary ORDER BY model, concept")
    assert first["state_type"] == "COMPLETED"
    assert first["auto_scheduled"]
    due, began = (datetime.datetime.fromisoformat(first[key]) for key in ("expected_start_time", "start_time"))
    assert due == NIGHT
    assert -ROUNDED <= began - NIGHT < datetime.timedelta(minutes=5), began
    cells = [(model, concept) for model in MODELS for concept in ("mood", "sentiment")]
    assert [(cell["model"], cell["concept"]) for cell in told] == cells
    assert all(cell["effect"] > 0.1 for cell in told), told
    assert not any(cell["regression"] for cell in told)
    mood(tmp_path / "data", changed=True)
    with night(tmp_path, 1) as here:
        until("the second night", lambda: ended(here, 2), limit)
    told = {(cell["model"], cell["concept"]): cell for cell in store.rows("FROM sweep_summary")}
    for model in MODELS:
        same, edited = told[model, "sentiment"], told[model, "mood"]
        assert (same["computed"], same["change"], same["regression"]) == (0, 0, False)
        assert (edited["outcome"], edited["regression"]) == ("failed", True), edited
        assert "mood" in edited["error"]
    assert counted(store) == before
