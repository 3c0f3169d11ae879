"""What a chart says of itself: a title where it stands alone, a legend of its colours, the recommended dose."""

from pathlib import Path
from typing import Any

import pytest

import steering_core as steer
from steering_core.reports.charts import evaluation, explorer
from steering_core.reports.charts.listed import CHARTS, charts_in
from steering_core.reports.charts.render import svg
from steering_core.reports.page import report_page
from steering_core.store import Store
from steering_core.store.queries import named_query


@pytest.fixture(scope="module")
def shelf(agree_run: Path) -> Store:
    return Store(agree_run)


def test_a_picture_alone_says_what_it_is_of_whom(shelf: Store, tmp_path: Path) -> None:
    picture = steer.dose_response(store=shelf.root)
    model = Path(shelf.rows("SELECT name FROM raw.models")[0]["name"]).name
    assert (picture.title, picture.of) == ("Effect over dose", f"agree on {model}")
    for suffix in (".svg", ".json", ".html"):
        picture.save(tmp_path / f"chart{suffix}")
        assert all(said in (tmp_path / f"chart{suffix}").read_text() for said in (picture.title, picture.of)), suffix
    assert picture.png() != steer.Picture("dose_response", picture.drawing).png()


def test_every_chart_has_a_title_of_its_own() -> None:
    titles = [chart.title for chart in CHARTS.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)


def test_a_chart_of_all_concepts_is_of_the_model_alone(shelf: Store) -> None:
    assert "agree on" not in steer.similarity(1, store=shelf.root).of


def test_the_page_heads_its_pictures_once(shelf: Store) -> None:
    page = report_page(shelf)
    assert page.count("<svg") >= 4
    for name in charts_in("report"):
        assert f">{CHARTS[name].title}</text>" not in page  # the caption below says it
    assert f">{CHARTS['frontier'].title}</text>" in steer.frontier(store=shelf.root).svg()


def response(**last: Any) -> list[dict[str, Any]]:
    at = {"layer": 1, "method": "planted", "split": "validation"}
    doses = [("none", 0.0), ("candidate", 0.5), ("candidate", 0.25), ("random", 0.5)]
    rows = [{"kind": kind, **at, "dose": d, "effect": d, "effect_low": d, "effect_high": d} for kind, d in doses]
    rows[2] |= last
    return rows


def test_the_recommended_dose_is_marked_where_there_is_one() -> None:
    drawn = explorer.dose_response(response(recommended=True)).to_dict()
    (marked,) = [rows for rows in drawn["datasets"].values() if rows[0].get("what") == "recommended dose"]
    assert [row["dose"] for row in marked] == [0.25]
    shown = svg(explorer.dose_response(response(recommended=True)))
    assert ">recommended dose</text>" in shown
    assert ">recommended dose</text>" not in svg(explorer.dose_response(response(recommended=False)))
    assert ">recommended dose</text>" not in svg(explorer.dose_response(response()))  # a sweep recommends nothing


def test_every_line_goes_through_the_unsteered_model() -> None:
    """In a sweep's rows, which name no vector, and in a run's, where two vectors share a layer."""
    run = [{**row, "vector_id": of} for of in "ab" for row in response() if row["kind"] in ("candidate", "none")]
    for rows, n in ((response(), 1), (run, 2)):
        drawn = explorer.dose_response(rows).to_dict()
        (lines,) = (
            data for data in drawn["datasets"].values() if {row["kind"] for row in data} == {"candidate", "none"}
        )
        doses = {of: [row["dose"] for row in lines if row["vector_id"] == of] for of in (r["vector_id"] for r in lines)}
        assert len(doses) == n
        assert all(sorted(each) == [0.0, 0.25, 0.5] for each in doses.values())


def test_the_query_says_which_candidate_is_recommended(shelf: Store) -> None:
    (last,) = shelf.rows(named_query("recommended"))
    rows = shelf.rows(named_query("dose_response_of_concept"), [last["model_id"], last["concept_id"]])
    board = shelf.rows(
        "SELECT dose FROM leaderboard WHERE intervention_id = ? AND split = 'validation' AND layer IS NOT NULL "
        "AND effect IS NOT NULL", [last["intervention_id"]],
    )  # fmt: skip
    assert [row["dose"] for row in rows if row["recommended"]] == [row["dose"] for row in board]
    assert {row["recommended"] for row in rows if row["kind"] != "candidate"} == {False}


def test_colours_and_lines_are_named_in_the_picture() -> None:
    assert ">controls</text>" in svg(explorer.dose_response(response()))
    rows = [{"layer": 1, "method": "a", "effect": 1.0, "control_effect": 0.5, "dose": 0.3, "kl": 0.1}]
    shown = svg(evaluation.layer_profile(rows))
    assert ">candidate</text>" in shown
    assert ">best control</text>" in shown
    alone = svg(evaluation.layer_profile([{**rows[0], "control_effect": None}]))
    assert ">best control</text>" not in alone
    both = svg(evaluation.layer_profile([*rows, {**rows[0], "method": "b"}]))
    assert ">a</text>" in both
    assert ">b</text>" in both
    point = {"kind": "candidate", "method": "a", "layers": "1", "perplexity_ratio": 1.2, "effect": 1.0}
    points = svg(evaluation.frontier([{**point, "dose": 0.3, "kl": 0.1}], 1.5))
    assert ">bound 1.5</text>" in points
    assert ">random</text>" not in points  # what is not there is not in the legend
