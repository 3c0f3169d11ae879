"""What notebooks use: charts by their names, sweeps of layers and doses, and how all of it shows itself."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steering_core as steer
from steering_core.foundation.errors import InterventionError, OutputError, QueryError, SpecError
from steering_core.models import Model
from steering_core.reports.charts.listed import CHARTS
from steering_core.scores.metrics import Setup
from steering_core.store import Store
from tests import toy
from tests.explorer import copied

PNG = b"\x89PNG"


def test_every_chart_is_a_function_of_its_name() -> None:
    for name in CHARTS:
        function = getattr(steer, name.replace("-", "_"))
        assert name.replace("-", "_") in steer.__all__
        assert function.__doc__


def drawn(name: str, place: Path) -> steer.Picture:
    function: Callable[..., steer.Picture] = getattr(steer, name.replace("-", "_"))
    return function(layer=1, store=place) if name == "similarity" else function(store=place)


NOT_MEASURED = {
    "side_effects": r"scores\.side_effects is not none",
    "variants": "`steer stability`",
    "d-prime": r"vectors\.quality_draws above 0, of a concept with several test pairs",
    "similar-methods": r"several of vectors\.methods",
    "similar-concepts": "several concepts",
    "similar-models": "several models",
}
"""Charts of what a run of one concept on five pairs, with one method on one model, does not measure, and what would."""


@pytest.mark.parametrize("name", sorted(CHARTS.keys() - NOT_MEASURED.keys()))
def test_charts_are_drawn(place: Path, name: str) -> None:
    picture = drawn(name, place)
    assert picture.name == name
    assert picture.caption.endswith(".")
    assert picture.png().startswith(PNG)


@pytest.mark.parametrize("name", sorted(NOT_MEASURED))
def test_a_chart_of_what_was_not_measured_says_so(place: Path, name: str) -> None:
    with pytest.raises(QueryError, match=f"that {name} could be drawn from: run a spec .*{NOT_MEASURED[name]}"):
        drawn(name, place)


def test_a_picture_shows_itself_and_is_saved(place: Path, tmp_path: Path) -> None:
    picture = steer.dose_response("agree", store=place)
    shown = picture._repr_mimebundle_()
    assert set(shown) == {"text/html", "image/png", "text/plain"}
    assert shown["text/html"] == picture._repr_html_()
    assert shown["text/html"].startswith('<figure><img src="data:image/png;base64,')
    assert shown["text/plain"] == f"<Picture dose_response: {picture.caption}>"
    beginnings = {".png": PNG, ".svg": b"<svg", ".html": b"<!DOCTYPE html>", ".json": b"{"}
    for suffix, beginning in beginnings.items():
        picture.save(tmp_path / f"chart{suffix}")
        assert (tmp_path / f"chart{suffix}").read_bytes().startswith(beginning)
    with pytest.raises(OutputError, match=r"chart.gif: end it in .png, .svg"):
        picture.save(tmp_path / "chart.gif")


def test_what_there_is_no_chart_of_is_told(place: Path, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"no recommendation for 'agrees'.*did you mean 'agree'"):
        steer.frontier("agrees", store=place)
    with pytest.raises(QueryError, match="no recommendation: run a spec first"):
        steer.frontier(store=Store(tmp_path / "empty").root)


def spec(place: Path, tiny_folder: Path) -> dict[str, Any]:
    grid = {"layers": (1,), "doses": (0.5,), "prompts": 1, "max_tokens": 3}
    return {
        "models": [str(tiny_folder)],
        "concepts": [str(place.parent / "agree.yaml")],
        "generations": grid,
        "vectors": {"controls": 1, "quality_draws": 0},
        "scores": {"bootstrap": 100, "answers": 4, "neutral": 2},
    }


@pytest.fixture(scope="module")
def agree_spec(agree_run: Path, tiny_folder: Path) -> dict[str, Any]:
    return spec(agree_run, tiny_folder)


def test_a_layer_sweep_is_rows_a_table_and_a_chart(place: Path, agree_spec: dict[str, Any]) -> None:
    found = steer.layer_sweep(agree_spec, layers=[1, 2], store=place)
    assert sorted(row["layer"] for row in found) == [1, 2]
    effects = [row["odd_effect"] for row in found]
    assert effects == sorted(effects, reverse=True)
    assert found._repr_html_().startswith("<table><thead><tr><th>model</th><th>concept</th>")
    assert found.chart().png().startswith(PNG)
    assert len(found.pandas()) == 2
    assert found.chart().of.startswith("agree on ")
    drawing = found.chart().drawing.to_dict()
    assert [row["effect_low"] for row in drawing["datasets"].popitem()[1]] == [row["effect_low"] for row in found]
    assert {"field": "effect_high"} in [layer["encoding"].get("y2") for layer in drawing["layer"]]
    assert repr(found).startswith("<LayerSweep: 2 rows of model, concept, name, method, layer, layers, alpha, dose")
    with pytest.raises(SpecError, match="damage is 0: give nats per token"):
        steer.layer_sweep(agree_spec, damage=0, store=place)


def items_measured(place: Path) -> int:
    """How many items the store has measured under candidates."""
    sql = "SELECT count(*) AS n FROM raw.measurements WHERE control IS NULL AND metric = 'propensity'"
    (row,) = Store(place).rows(sql)
    return int(row["n"])


def test_a_dose_sweep_measures_what_a_run_does(tiny: Model, place: Path, agree_run: Path) -> None:
    board = Store(place).rows(
        "SELECT vector_id, dose, effect FROM leaderboard WHERE split = 'validation' AND control IS NULL AND layer = 1"
    )
    (key,) = {row["vector_id"] for row in board}
    vector = steer.find_vector(tiny, key, place)
    concept = str(agree_run.parent / "agree.yaml")
    doses = [row["dose"] for row in board]
    before = items_measured(place)
    found = steer.dose_sweep(tiny, vector, concept, doses, controls=1, store=place)
    assert items_measured(place) == before > 0, "what a run has measured is not measured again"
    mine = {round(row["dose"], 3): row for row in found if row["kind"] == "candidate"}
    assert len(mine) == len(board) > 2
    for row in board:
        assert mine[round(row["dose"], 3)]["effect"] == row["effect"]
    (base,) = (row for row in found if row["kind"] == "none")
    assert (base["dose"], base["effect"], base["kl"]) == (0, 0, 0)
    assert sum(row["kind"] == "random" for row in found) == len(board)
    order = [(round(row["dose"], 4), row["kind"]) for row in found]
    assert order == sorted(order)
    assert {(row["layer"], row["split"]) for row in found} == {(1, "validation")}
    assert found.pandas()["layer"].dtype.kind == "i"
    assert all(row["kl"] > 0 for row in mine.values())
    assert {(row["concept"], row["name"]) for row in found} == {("agree", None)}
    assert found.chart().of.startswith("agree on ")
    assert found.chart().png().startswith(PNG)


def test_a_direction_along_which_the_toy_reads_has_a_steep_dose_response(setup: Setup, tmp_path: Path) -> None:
    _, v = toy.axes()
    vector = steer.Vector.from_numpy(setup.model, v, layer=1, name="mine")
    found = steer.dose_sweep(setup.model, vector, setup.concept, [-0.2, 0.2, 0.4], store=tmp_path / "store")
    effects = [row["effect"] for row in found if row["kind"] != "random"]
    assert effects == sorted(effects)
    assert effects[0] < -1 < 1 < effects[-1]
    assert {row["name"] for row in found} == {"mine"}
    assert found.chart().of.startswith("mine: capitals on ")
    best = next(row for row in found if row["kind"] == "candidate" and row["dose"] > 0.3)
    assert best["p_value"] < 0.01 < 1 < best["over_controls"]


@pytest.mark.parametrize(("doses", "said"), [([0.0], "no doses but 0"), ([], "no doses"), ([30], "30%")])
def test_doses_that_mean_nothing_are_refused(tiny: Model, place: Path, doses: list[float], said: str) -> None:
    vector = steer.Vector.from_numpy(tiny, np.ones(32), layer=1, residual_norm=1.0)
    with pytest.raises(InterventionError, match=said):
        steer.dose_sweep(tiny, vector, "sentiment", doses, store=place)


def test_0_and_repeats_among_the_doses_are_left_out(setup: Setup, tmp_path: Path) -> None:
    vector = steer.Vector.from_numpy(setup.model, toy.axes()[1], layer=1, name="mine")
    doses = [*np.linspace(-0.2, 0.2, 3), 0.2]
    found = steer.dose_sweep(setup.model, vector, setup.concept, doses, controls=0, store=tmp_path / "store")
    assert [(row["kind"], round(row["dose"], 4)) for row in found] == [
        ("candidate", -0.2),
        ("none", 0.0),
        ("candidate", 0.2),
    ]
    with pytest.raises(InterventionError, match="30") as refused:
        steer.dose_sweep(setup.model, vector, setup.concept, np.array([30.0]), store=tmp_path / "store")
    assert "np." not in str(refused.value)


def test_a_run_s_report_says_its_verdicts(place: Path, agree_spec: dict[str, Any]) -> None:
    report = steer.run(agree_spec, place)
    (row,) = report["recommendations"]
    assert f"{row['model']}: agree: {row['verdict']}" in repr(report)
    assert row["verdict"] in report._repr_html_()
    assert repr(Store(place)).startswith(f"<Store {place}: 1 models")


def test_markup_in_values_is_text() -> None:
    import pyarrow as pa

    rows = steer.Rows(pa.table({"text": ["<b>bold</b>"] * 21}))
    assert "&lt;b&gt;bold" in rows._repr_html_()
    assert rows._repr_html_().endswith("<p>… 21 rows</p>")


IN_JUPYTER = """
import warnings
from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Config
import IPython
shell = IPython.InteractiveShell.instance(config=Config({"IPKernelApp": {"connection_file": "here"}}))
import importlib
import inspect
import json
import platform
import pydoc
import subprocess
import sys
sys.modules["ipywidgets"] = None
warnings.simplefilter("error")
import duckdb
try:
    duckdb.connect().execute("SET enable_progress_bar = false")
    refused = False
except duckdb.Error:
    refused = True
import steering_core as steer
import steering_core.models.mlx_lm
print(refused, steer.Store("store"))
"""


def test_a_notebook_without_ipywidgets_has_a_store_and_no_warning(tmp_path: Path) -> None:
    """DuckDB refuses to switch its progress bar off there, and tqdm warns when it is imported."""
    done = subprocess.run([sys.executable, "-c", IN_JUPYTER], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True <Store ")


def test_concepts_and_expressions_show_themselves_in_a_line(agree_run: Path) -> None:
    concept = steer.load_concept(str(agree_run.parent / "agree.yaml"))
    assert repr(concept).startswith("<Concept agree: 5 pairs, ")
    assert repr(steer.parse("30%*agree + 2*calm @all")) == "<Expression 30%*agree + 2*calm @all>"


def test_a_run_says_on_what_it_ran(place: Path) -> None:
    versions = json.loads(Store(place).rows("SELECT versions FROM runs")[0]["versions"])
    assert versions["python"] == platform.python_version()
    assert {"platform", "numpy", "mlx", "transformers"} <= versions.keys()


def test_readme_s_question_for_the_most_moved_items_names_each_once(place: Path, tmp_path: Path) -> None:
    """Two runs may recommend the same intervention."""
    store = Store(copied(place, tmp_path).root)
    blocks = Path("README.md").read_text().split("```sql")
    query = next(block for block in blocks if "AS moved" in block).split("```")[0]
    query = query.replace("'sentiment'", "'agree'").replace("LIMIT 5", "")
    once = store.rows(query)
    recommended = store.rows("SELECT * FROM raw.recommendations")
    store.append("recommendations", [{**row, "recommendation_id": f"again {i}"} for i, row in enumerate(recommended)])
    assert once
    assert sorted(map(str, store.rows(query))) == sorted(map(str, once))
