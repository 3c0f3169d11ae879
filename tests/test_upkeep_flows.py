"""The thin flows beside discovery: store-maintenance and calibrate-alpha, on the session's server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.calibrate_alpha import calibrate_alpha
from flows.service.clone import speaking_to
from flows.store_maintenance import store_maintenance
from steering_core.concepts import Concept
from steering_core.store import Store
from tests.machine import address_of
from tests.quick import spec_file

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _server(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STEERFLOW_CACHE", machine["STEERFLOW_CACHE"])  # they wait for no flow of this user's
    with speaking_to(address_of(machine)), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def test_calibration_then_maintenance(tiny_folder: Path, concept: Concept, tmp_path: Path) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept)
    found = calibrate_alpha(spec=str(spec), texts=False, store=str(tmp_path / "store"))
    assert [row["layer"] for row in found] == [1]
    assert found[0]["alpha"] >= 0
    store = Store(tmp_path / "store")
    assert store.rows("SELECT * FROM raw.outcomes") == []
    first = store_maintenance(store=str(tmp_path / "store"))
    assert first["whole"] > 0
    assert store.rows("SELECT count(*) AS n FROM vectors WHERE control IS NULL") == [{"n": 1}]
    damaged = next(path for path in (tmp_path / "store" / "vectors").glob("*.parquet") if path.stem != "schema")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    state = store_maintenance(store=str(tmp_path / "store"), return_state=True)
    assert state.is_failed()
    assert "damaged" in (state.message or "")
