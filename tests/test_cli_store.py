"""steer plan and steer store, run in this process as typer runs them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from steering_core.cli import plan, store
from steering_core.foundation.errors import DiskFull, LayerNotFound, StoreDamaged, StoreError
from steering_core.pipeline.discover import run
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick
from tests.verbs import typed


@pytest.fixture(scope="module")
def spec(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    stem = "What do you think of the plan that we made together last week, number"
    pairs = [{"prompt": f"{stem} {i}?", "positive": f"{i} yes", "negative": f"{i} no"} for i in range(12)]
    items = [{"prompt": f"Is it {i}?", "matching": "yes", "not_matching": "no"} for i in range(4)]
    concept = {"name": "yes", "description": "agrees", "pairs": pairs, "prompts": ["Well,"], "items": items}
    (folder / "yes.yaml").write_text(yaml.safe_dump(concept))
    grid = {"layers": [1], "doses": [0.5], "max_tokens": 3}
    text = {"models": [str(tiny_folder)], "concepts": [str(folder / "yes.yaml")], "generations": grid, **quick.SPEC}
    (folder / "spec.yaml").write_text(yaml.safe_dump(text))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def root(spec: Path) -> Path:
    """A store in which the spec was planned (spec's folder / plan.json) and run."""
    folder = spec.parent / "store"
    planned = typed(plan.app, str(spec), "--store", str(folder), "--format", "json")
    report = run(load_spec(spec), Store(folder))
    (spec.parent / "plan.json").write_text(json.dumps([planned, report["stages"]["activations"]], default=str))
    return folder


def test_the_plan_says_what_the_run_then_does(spec: Path, root: Path) -> None:
    ((planned,), did) = json.loads((spec.parent / "plan.json").read_text())
    assert (planned["computed"], planned["reused"]) == (did["computed"], did["reused"]) == (24, 0)
    assert (planned["forward_passes"], planned["tokens_run"]) == (did["forward_passes"], did["tokens"])
    assert planned["tokens_run"] < planned["tokens"] / 2
    assert planned["bytes"] == 24 * 4 * 32 * 4
    assert planned["seconds"] > 0
    (again,) = typed(plan.app, str(spec), "--store", str(root), "--format", "json")
    assert (again["computed"], again["reused"], again["tokens_run"], again["seconds"]) == (0, 24, 0, 0)


def test_a_plan_of_layers_that_the_model_lacks_is_refused(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(spec.read_text().replace("- 1\n", "- 99\n"))
    with pytest.raises(LayerNotFound, match=r"layer 99: .* 0\.\.3"):
        typed(plan.app, str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "new"))


def test_a_plan_beyond_the_disk_is_refused(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering_core.store.files.LocalFolder.room", lambda self: 1000)
    with pytest.raises(DiskFull, match="has 1,000 free"):
        typed(plan.app, str(spec), "--store", str(tmp_path / "new"))


def test_info_counts_and_tells_what_runs_reused(root: Path) -> None:
    found = {row["table"]: row for row in typed(store.app, "info", "--store", str(root), "--format", "json")}
    assert (found["activations"]["rows"], found["activations"]["files"]) == (24 * 4, 1)
    (told,) = typed(store.app, "info", "--runs", "--store", str(root), "--format", "json")
    assert told["activations"] == "24 + 0"


def test_export_writes_what_a_query_finds(root: Path, tmp_path: Path) -> None:
    import duckdb

    sql = "SELECT pair_id, side, layer, activation FROM activations WHERE layer = 2"
    for suffix in ("parquet", "csv", "json"):
        to = tmp_path / f"slice.{suffix}"
        CliRunner().invoke(store.app, ["export", sql, str(to), "--store", str(root)], catch_exceptions=False)
        assert duckdb.sql(f"SELECT count(*) FROM '{to}'").fetchall() == [(24,)]
    with pytest.raises(StoreError, match=r"ends in \.parquet"):
        typed(store.app, "export", sql, str(tmp_path / "slice.xls"), "--store", str(root))


def test_verify_compact_and_gc(root: Path) -> None:
    at = ("--store", str(root), "--format", "json")
    assert typed(store.app, "verify", *at)[0]["damaged_files"] == 0
    assert {row["files_after"] for row in typed(store.app, "compact", *at)} == {1}
    assert typed(store.app, "gc", *at) == []
    assert typed(store.app, "verify", *at)[0]["damaged_files"] == 0
    (shard,) = (root / "activations").glob("*/*.parquet")
    shard.write_bytes(b"PAR1 no more")
    with pytest.raises(StoreDamaged, match="1 files were damaged"):
        typed(store.app, "verify", *at)


def test_gc_says_that_a_run_goes_on(root: Path) -> None:
    gc = ["gc", "--store", str(root)]
    assert "a run goes on" not in CliRunner().invoke(store.app, gc, catch_exceptions=False).stderr
    with Store(root).in_use():
        assert "a run goes on in this store" in CliRunner().invoke(store.app, gc, catch_exceptions=False).stderr


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        typed(store.app, "info", "--store", str(tmp_path / "nowhere"))
