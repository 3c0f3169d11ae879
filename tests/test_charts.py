"""Charts: each draws what its query's rows say, as SVG and PNG, and a caption says what it leaves out."""

import inspect
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from steering_core.evaluation.bounds import USUAL_SLOPE
from steering_core.reports.charts import evaluation, explorer, vectors
from steering_core.reports.charts.listed import CHARTS, not_drawn
from steering_core.reports.charts.render import chart_of, data_uri, png, svg
from steering_core.reports.page import charts, report_page
from steering_core.store import Store
from steering_core.store.queries import description, named_query
from tests import toy
from tests.reported import a_recommendation


def test_pictures_draw_as_svg_and_png(reported: Store) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    drawn = charts(reported, row)
    assert all(picture.caption.endswith(".") for picture in drawn)
    (chart,) = (picture.drawing for picture in charts(reported, row, ["layer_by_dose"]))
    ElementTree.fromstring(svg(chart))
    assert png(chart).startswith(b"\x89PNG")
    assert data_uri(chart).startswith("data:image/png;base64,")


def test_charts_of_single_layers_count_the_candidates_of_several(reported: Store) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    board = reported.rows("SELECT DISTINCT intervention_id FROM leaderboard WHERE control IS NULL AND len(layers) > 1")
    said = not_drawn(CHARTS["layer_by_dose"], lambda _: [{"n": len(board)}])
    assert said.startswith(f"{len(board)} candidate")
    told = {picture.name for picture in charts(reported, row) if picture.caption.endswith(said)}
    assert told == {"layer_by_dose", "dose_response"}
    assert report_page(reported).count(said) == 2
    listed = reported.rows(named_query("leaderboard_of_concept"), [row["model_id"], row["concept_id"]])
    assert any("," in line["layers"] for line in listed if not line["control"])


@pytest.mark.parametrize(
    ("name", "n", "said"),
    [
        ("layer_by_dose", 0, ""),
        ("dose_response", 1, "1 candidate of several layers is not drawn here; the leaderboard lists it."),
        ("dose_response", 2, "2 candidates of several layers are not drawn here; the leaderboard lists them."),
        ("frontier", 2, ""),
    ],
)
def test_what_a_chart_leaves_out_is_one_sentence(name: str, n: int, said: str) -> None:
    assert not_drawn(CHARTS[name], lambda _: [{"n": n}]) == said


def test_a_text_that_no_picture_can_hold_ends_no_process() -> None:
    evil = "\x1b[31m\x00\x07\x0b\ufffe\uffff\x9b \ud800 ]]> &x; <b>"
    chart = chart_of([{"name": evil, "value": 1.0}]).mark_bar().encode(x="value:Q", y="name:N").properties(title=evil)
    picture = svg(chart)
    ElementTree.fromstring(picture)
    assert "u001b[31m" in picture
    assert png(chart).startswith(b"\x89PNG")


def test_the_profile_keeps_to_the_bounds_and_names_the_best_control_beside(reported: Store) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    ids = [row["model_id"], row["concept_id"]]
    everything = reported.rows(named_query("layer_profile"), [1e9, 9.0, *ids])
    strict = reported.rows(named_query("layer_profile"), [9.0, 1e-9, *ids])
    assert {r["layer"] for r in everything} == {0, 1, 2}
    assert strict == []
    board = reported.rows("SELECT * FROM leaderboard WHERE split = 'validation'")
    for best in everything:
        at = [r for r in board if r["layer"] == best["layer"] and r["control"] is None]
        assert best["effect"] == max(r["effect"] for r in at)
        beside = [r["effect"] for r in board if r["control"] in ("random", "shuffled") and r["layer"] == best["layer"]]
        if best["control_effect"] is not None:
            assert best["control_effect"] in [pytest.approx(effect) for effect in beside]
    assert any(best["control_effect"] is not None for best in everything)
    untold = [r for r in board if r["control"] is None and r["perplexity_ratio"] is None and r["damage"]]
    assert untold, "cells without texts whose damage was measured"
    foreseen = {math.exp(USUAL_SLOPE * r["damage"]): r["effect"] for r in untold}
    bound = min(foreseen) * 0.999  # below what the least damaging of them foresees
    within = reported.rows(named_query("layer_profile"), [bound, 9.0, *ids])
    assert not {r["effect"] for r in within if r["perplexity_ratio"] is None} & set(foreseen.values())


def test_the_dose_response_of_a_concept_is_of_one_split(reported: Store, tmp_path: Path) -> None:
    row = a_recommendation(reported)
    query = named_query("dose_response_of_concept")
    rows = reported.rows(query, [row["model_id"], row["concept_id"]])
    assert {found["split"] for found in rows} == {"validation"}
    assert {found["kind"] for found in rows} >= {"candidate", "random", "none"}


def test_the_controls_band_is_how_far_their_intervals_reach_at_each_dose() -> None:
    """Doses of one strength differ in a digit behind: they are one place of the band."""
    at = {"layer": 1, "method": "planted", "split": "test"}
    rows = [{"kind": kind, **at, "dose": dose, "effect": e, "effect_low": e - 0.1, "effect_high": e + 0.1}
            for kind, dose, e in (("none", 0.0, 0.0), ("candidate", 0.5, 1.0), ("random", 0.5, 0.2),
                                  ("random", 0.4997, -0.3), ("shuffled", 0.25, 0.1))]  # fmt: skip
    drawn = explorer.dose_response(rows).to_dict()
    assert "on test items" in str(drawn)
    band = drawn["datasets"][drawn["layer"][0]["data"]["name"]]
    assert [place["dose"] for place in band] == [0.0, 0.25, 0.5]
    assert [place["low"] for place in band] == pytest.approx([0.0, 0.0, -0.4])
    assert [place["high"] for place in band] == pytest.approx([0.0, 0.2, 0.3])


def test_a_tokens_colour_is_its_projection_from_the_base_texts_mean(reported: Store) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    rows = reported.rows(named_query("token_projections"), [row["recommendation_id"]])
    assert list(dict.fromkeys(r["kind"] for r in rows)) == ["unsteered", "steered", "mirrored"]
    u, v = toy.axes()
    first = row["vector_ids"][0]  # of several that steer together the first one is shown
    (vector,) = reported.rows("SELECT vector, residual_norm FROM vectors WHERE vector_id = ?", [first])
    unit = np.array(vector["vector"]) / np.linalg.norm(vector["vector"])
    signs = {token: toy.signs()[i] for token, i in toy.byte_tokenizer().get_vocab().items()}
    along = [toy.ALONG_U * u @ unit + toy.ALONG_V * signs.get(r["token"], 0.0) * v @ unit for r in rows]
    mean = np.mean([a for a, r in zip(along, rows, strict=True) if r["kind"] == "unsteered"])
    assert [r["projection"] for r in rows] == pytest.approx(
        (np.array(along) - mean) / vector["residual_norm"], abs=1e-5
    )


def test_a_long_text_is_broken_into_lines_and_every_token_is_there_once() -> None:
    rows = [{"kind": kind, "place": i, "token": token, "projection": 0.1 * i} for kind in ("unsteered", "steered")
            for i, token in enumerate([" word"] * 40 + ["\n", "", "a\x19\ud800\uffff"])]  # fmt: skip
    drawn = evaluation.token_projection(rows).to_dict()
    (values,) = drawn["datasets"].values()
    tokens = [v for v in values if v["place"] >= 0]
    assert [(v["kind"], v["place"]) for v in tokens] == [(r["kind"], r["place"]) for r in rows]
    assert all(v["end"] <= evaluation.LINE for v in tokens)
    assert [v["token"] for v in tokens[40:43]] == ["↵", "·", "a···"]
    assert png(evaluation.token_projection(rows)).startswith(b"\x89PNG")
    by_line: dict[int, int] = {}
    for v in tokens:
        assert v["start"] == by_line.get(v["line"], 0)
        by_line[v["line"]] = v["end"]
    assert [v["token"] for v in values if v["place"] < 0] == ["unsteered:", "steered:"]


def test_every_chart_is_listed_with_a_query_that_there_is() -> None:
    functions = {
        function
        for module in (evaluation, explorer, vectors)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert {chart.draw for chart in CHARTS.values()} == functions
    for name, chart in CHARTS.items():
        says, _ = description(named_query(chart.query))
        assert says, name
        assert chart.caption or "report" not in chart.places, name


HALF_IMPORTED = """
import pathlib, sys, threading, time
folder = pathlib.Path(sys.argv[1], "pandas")
folder.mkdir()
types = "DataFrame = Series = Index = Timestamp = type('Timestamp', (), {})"
(folder / "__init__.py").write_text(f"import time; time.sleep(2); {types}")
sys.path.insert(0, sys.argv[1])
from steering_core.reports.charts.render import chart_of, svg
assert "pandas" not in sys.modules
importing = threading.Thread(target=lambda: __import__("pandas"))
importing.start()
while "pandas" not in sys.modules:
    time.sleep(0.01)
print(svg(chart_of([{"x": 1, "y": 2}]).mark_point().encode(x="x:Q", y="y:Q"))[:4])
"""


def test_a_chart_is_drawn_while_another_thread_imports_pandas(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HALF_IMPORTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "<svg\n", done.stderr
