"""The report: whole, self-contained, safe against what texts hold, and with pictures that draw what the rows say."""

import inspect
import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from steering_core.cli import runs
from steering_core.cli.main import app
from steering_core.concepts import Concept
from steering_core.evaluation.bounds import USUAL_SLOPE
from steering_core.foundation.errors import QueryError
from steering_core.pipeline.discover import run
from steering_core.reports.artifact import markdown_report
from steering_core.reports.charts import evaluation, explorer, vectors
from steering_core.reports.charts.listed import CHARTS, not_drawn
from steering_core.reports.charts.render import chart_of, data_uri, png, svg
from steering_core.reports.markdown import markdown_text
from steering_core.reports.next_steps import leads_to, next_command, shared_command
from steering_core.reports.page import charts, report_page
from steering_core.reports.terminal import print_report
from steering_core.reports.unfinished import unfinished
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers, verdict_in_words
from steering_core.spec import Spec
from steering_core.store import Row, Store
from steering_core.store.commands import at_store, commands_at_store
from steering_core.store.queries import description, named_query
from tests import toy

CONCEPT = Concept(
    name="capitals",
    pairs=tuple({"positive": a, "negative": a.lower()} for a in ("AB", "CD", "EF", "GH", "IJ", "KL")),
    prompts=("<script>alert(1)</script>", "![1 + 1](//evil.example/a.png) | *"),
    items=tuple({"prompt": f"{i}?", "matching": "YES", "not_matching": "no"} for i in range(20)),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "capitals.yaml"
    path.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy.save_toy_model(folder / "toy")),),
        concepts=(str(path),),
        generations={"layers": "all", "doses": (0.02, 0.05), "prompts": 2, "max_tokens": 4},
        scores={"bootstrap": 200, "max_perplexity_ratio": 9.0},
    )
    store = Store(folder / "store")
    run(spec, store)
    return store


@pytest.fixture(scope="module")
def page(store: Store) -> str:
    return report_page(store)


def a_recommendation(store: Store) -> Row:
    return store.rows("SELECT * FROM recommendations LIMIT 1")[0]


def test_the_page_is_one_file_with_every_picture(page: str) -> None:
    assert page.count("<svg") == 6
    assert "capitals on" in page
    assert not re.search(r"https://|src=|@import|url\((?!#)", page)
    assert page.count("http://") == page.count("http://www.w3.org/")  # the SVG's namespaces


def test_scorers_that_were_not_asked_are_not_shown(page: str) -> None:
    assert "Leaderboard" in page
    assert "Who says so" not in page


def test_a_column_without_a_value_is_left_out_and_an_interval_is_not_broken(page: str) -> None:
    assert "<th>alpha</th>" in page or '<th class="number">alpha</th>' in page
    assert "judge harmonic</th>" not in page  # nobody asked a judge
    assert '<th class="number">interval</th>' in page


def test_texts_are_shown_and_not_run(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_pictures_draw_as_svg_and_png(store: Store) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    drawn = charts(store, row)
    assert all(picture.caption.endswith(".") for picture in drawn)
    (chart,) = (picture.drawing for picture in charts(store, row, ["layer_by_dose"]))
    ElementTree.fromstring(svg(chart))
    assert png(chart).startswith(b"\x89PNG")
    assert data_uri(chart).startswith("data:image/png;base64,")


def test_charts_of_single_layers_count_the_candidates_of_several(store: Store, page: str) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    board = store.rows("SELECT DISTINCT intervention_id FROM leaderboard WHERE control IS NULL AND len(layers) > 1")
    said = not_drawn(CHARTS["layer_by_dose"], lambda _: [{"n": len(board)}])
    assert said.startswith(f"{len(board)} candidate")
    told = {picture.name for picture in charts(store, row) if picture.caption.endswith(said)}
    assert told == {"layer_by_dose", "dose_response"}
    assert page.count(said) == 2
    listed = store.rows(named_query("leaderboard_of_concept"), [row["model_id"], row["concept_id"]])
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


def test_prefects_artifact_begins_with_verdict_pictures_and_texts(store: Store) -> None:
    report = {"recommendations": store.rows("SELECT * FROM recommendations"), "stages": {"score": {"computed": 1}}}
    text = markdown_report(store, report)
    places = [
        text.index(part) for part in ("## capitals on", "**", "steer generate", "data:image", "### Base", "### On held")
    ]
    assert places == sorted(places)
    assert text.count("](data:image/png;base64,") == 3
    heading = text[text.index("### On held") :].splitlines()[2]
    assert heading == "| what | effect | dose | kl | perplexity |"
    only_stages = markdown_report(store, report | {"recommendations": []})
    assert only_stages.startswith("## What was computed")


def test_texts_and_errors_are_paragraphs_of_an_artifact_and_its_tables_are_narrow(store: Store) -> None:
    """At a window of 1280 pixels the page has 690 for a table, some 95 letters, and cuts off the rest."""
    said = "the model answers this. " * 20
    report = {
        "recommendations": store.rows("SELECT * FROM recommendations"),
        "failures": [{"model": "m", "concept": "c", "error": said}],
        "stages": {"score": {"computed": 1}},
    }
    texts = store.rows(named_query("side_by_side"), [report["recommendations"][0]["recommendation_id"]])[0]
    text = markdown_report(store, report)
    lines = text.splitlines()
    assert f"> {markdown_text(said)}" in lines
    base, steered = (lines.index(f"> {markdown_text(texts[kind])}") for kind in ("base", "steered"))
    assert lines[base - 2] == "Unsteered"
    assert lines[steered - 2].startswith("Steered, dose +")
    cells = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert cells
    assert all(len(re.sub(r"[|\\]", "", line)) < 95 for line in cells)


def test_what_to_type_next_names_the_store_and_steers_only_what_may_steer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    for verdict in ("works", "weak"):
        assert next_command(store, row | {"verdict": verdict}).endswith(f" --store {store.root}")
    for verdict in ("no better than random", "too few to tell"):
        (given,) = json.loads(store.rows("SELECT spec FROM runs")[0]["spec"])["concepts"]
        assert given.endswith("capitals.yaml")
        assert next_command(store, row | {"verdict": verdict}) == f"steer concepts lint {given}"
        assert leads_to(row | {"verdict": verdict}) == "What the concept may lack:"
        assert shared_command(store, row | {"verdict": verdict}) == "steer concepts lint capitals"
        assert next_command(store, row | {"verdict": verdict, "spec_key": None}) == "steer concepts lint capitals"
    monkeypatch.setenv("STEERFLOW_STORE", str(store.root))  # the worker's shell, not the reader's
    assert "--store" in next_command(store, row | {"verdict": "works"})
    folder = Path(store.root).parent
    (folder / "data").mkdir()
    moved = Store(shutil.copytree(store.root, folder / "data" / "store"))
    monkeypatch.chdir(folder)
    assert "--store" not in next_command(moved, row | {"verdict": "works"})


@pytest.mark.parametrize(("width", "beside"), [("80", False), ("200", True)])
def test_no_command_is_broken_and_what_it_gives_stands_beside_or_above_it(
    store: Store, width: str, beside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    (row,) = store.rows("SELECT * FROM recommendations")
    print_report(store, {"recommendations": [row], "stages": {"scores": {"computed": 1}}})
    lines = capsys.readouterr().out.splitlines()
    assert next_command(store, row) in lines
    commands = [line for line in lines if line.startswith("  steer ")]
    assert len(commands) == 4
    assert all(f"--store {store.root}" in line or "explain" in line for line in commands)
    about = "# verdicts, pictures and texts as one page"
    (at,) = (i for i, line in enumerate(lines) if about in line)
    assert lines[at].endswith(about)
    assert ("steer report" in lines[at]) == beside
    assert beside or lines[at + 1] == f"  steer report --store {store.root}"


def test_a_verdict_begins_with_a_plain_sentence() -> None:
    row = {
        "concept": "sentiment", "verdict": "works", "method": "mean_difference", "layers": [21], "alpha": 2.557,
        "dose": 0.26, "effect": 0.695, "effect_low": 0.521, "effect_high": 0.869, "odd_effect": 0.676, "n": 24,
        "null_effects": [0.642, 0.62] + 37 * [0.1], "reason": "39 searches … (p = 0.025)", "perplexity_ratio": 1.272,
        "n_missing": 0,
    }  # fmt: skip
    assert plain_verdict(row) == (
        "sentiment works at layer 21 with strength 26 %: each token of answers that show it becomes 2 times as likely, "
        "next to answers that do not; none of 39 vectors made by chance did as much."
    )
    assert verdict_in_words(row).plain == (
        f"{plain_verdict(row)} In numbers: mean_difference, alpha 2.56 (dose 0.26, or 26 %) moves the propensity of 24 "
        "held-out test items by +0.695 nats per token [0.521, 0.869]; 39 searches … (p = 0.025). Its test "
        "texts are 1.27 times as perplexing to the untouched model."
    )
    own = row | {"method": "given", "called": "mine"}
    assert plain_verdict(own).startswith("sentiment works by mine at layer 21 with strength 26 %: ")
    assert verdict_in_numbers(own).startswith("In numbers: mine, alpha 2.56 (dose")
    assert verdict_in_numbers(own | {"called": "given"}).startswith("In numbers: given, alpha 2.56 (dose")
    away = {"dose": -0.034, "effect": -0.405, "odd_effect": -0.4, "null_effects": [0.5, 0.1], "layers": [18, 15]}
    assert plain_verdict(row | away) == (
        "sentiment works at layers 15 and 18 together with strength -3.4 %: each token of answers that do not show it "
        "becomes 1.5 times as likely, next to answers that do; 1 of 2 vectors made by chance did as much."
    )
    assert "becomes over 1,000 times as likely" in plain_verdict(row | {"effect": 2000.0})
    assert plain_verdict(row | {"costs": ["arithmetic -12 points"]}).startswith(
        "sentiment works at layer 21 with strength 26 %, at a cost: "
    )
    for verdict, said in {
        "weak": "sentiment is weak at layer 21 with strength 26 %: each token of answers that show it becomes 2 times "
        "as likely, next to answers that do not, but something speaks against relying on it.",
        "no better than random": "sentiment is no better than random at layer 21 with strength 26 %: chance may have "
        "done all that was seen.",
        "too few to tell": "sentiment: too few to tell whether a vector steers it.",
    }.items():
        assert plain_verdict(row | {"verdict": verdict}) == said


def test_a_verdict_is_said_whatever_a_row_lacks(store: Store) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    for verdict in ("works", "weak", "no better than random", "too few to tell", "of another program", None):
        for column, value in row.items():
            without: list[object] = [None, [], [None]] if isinstance(value, list) else [None]
            for lacking in without:
                changed = {**row, "verdict": verdict, column: lacking}
                assert plain_verdict(changed).endswith(".")
                assert verdict_in_numbers(changed).endswith(".")
    assert "[" not in verdict_in_numbers({**row, "effect_high": None, "dose_high": None, "reason": "so"})


def test_a_command_names_the_store_that_it_was_written_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert at_store("steer report", "/a b") == "steer report --store '/a b'"
    assert at_store("steer report", "s3://bucket/x") == "steer report --store s3://bucket/x"
    for usual in ("data/store", tmp_path / "data" / "store"):
        assert at_store("steer report", usual) == "steer report"
    for alone in ("steer concepts lint x", "steer explain dose", "steer VERB --help", "steer run x --store y"):
        assert at_store(alone, "/s") == alone
    assert commands_at_store("run `steer run x`, or `make up`", "/s") == "run `steer run x --store /s`, or `make up`"


def test_the_page_holds_no_path_of_this_machine(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    works = {**row, "verdict": "works", "model": f"{tmp_path}/a model"}
    assert str(tmp_path) in next_command(store, works)
    command = shared_command(store, works)
    assert command.startswith("steer generate MODEL_FOLDER ")
    assert command.endswith(" --store STORE_FOLDER")
    monkeypatch.setattr("steering_core.reports.page.shared_command", lambda *_: command)
    monkeypatch.setattr(
        "steering_core.reports.page._recommended", lambda store, _: {**works, "model": f"{tmp_path}/a model"}
    )
    page = report_page(store)
    assert "capitals on a model</h2>" in page
    assert "MODEL_FOLDER is where the model lies on your machine, and STORE_FOLDER is where this store lies" in page
    assert str(tmp_path) not in page
    assert str(store.root) not in page
    assert str(tmp_path) not in report_page(Store(tmp_path / "empty"))


def test_the_owner_of_a_report_is_told_what_its_commands_leave_out(store: Store, tmp_path: Path) -> None:
    def said() -> str:
        asked = ["report", "--store", str(store.root), "-o", str(tmp_path / "report.html")]
        return CliRunner().invoke(app, asked).stdout

    assert said().splitlines()[1:] == [
        f"So that it can be given away, STORE_FOLDER stands in its commands for {store.root}"
    ]
    assert "STORE_FOLDER" in (tmp_path / "report.html").read_text()


def test_a_verdict_tells_what_was_measured_from_what_is_expected(store: Store) -> None:
    """A few test texts may be beyond a bound up to which the damage on validation lets expect it to hold."""
    (row,) = store.rows("SELECT * FROM recommendations")
    said = verdict_in_words(
        row | {"perplexity_ratio": 2.23, "dose": 0.336, "safe_dose": 0.38, "dose_low": 0.3, "dose_high": 0.5}
    ).plain
    assert "Its test texts are 2.23 times as perplexing" in said
    assert "within the spec's max_perplexity_ratio up to a dose of 0.38 [0.30, 0.50], which is 38 %." in said
    assert "is safe" not in said


def test_an_artifact_fetches_nothing_that_a_text_names(store: Store) -> None:
    """Prompts, names and errors are others' text: what the page draws is our tables and pictures alone."""
    recommendations = store.rows("SELECT * FROM recommendations")
    (row,) = recommendations
    named = row | {
        "concept": "<img src=https://evil.example/b.png>",
        "model": "[x](https://evil.example)",
        "reason": "`",
    }
    failures = [{"model": "m", "concept": "a|b", "error": "![x](https://evil.example/c.png)\n\n# big"}]
    report = {"recommendations": [named], "failures": failures, "stages": {"score": {"computed": 1}}}
    text = markdown_report(store, report)
    page = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [child for token in page.parse(text) for child in (token, *(token.children or ()))]
    assert {str(token.attrs["src"])[:22] for token in tokens if token.type == "image"} == {"data:image/png;base64,"}
    assert not [token for token in tokens if token.type in ("html_inline", "html_block", "link_open")]
    said = "".join(token.content for token in tokens if token.type == "text")
    for told in ("![1 + 1](//evil.example/a.png) | *", *named.values(), *failures[0].values()):
        assert not isinstance(told, str) or "\n" in told or "evil" not in told or told in said


def test_the_profile_keeps_to_the_bounds_and_names_the_best_control_beside(store: Store) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    ids = [row["model_id"], row["concept_id"]]
    everything = store.rows(named_query("layer_profile"), [1e9, 9.0, *ids])
    strict = store.rows(named_query("layer_profile"), [9.0, 1e-9, *ids])
    assert {r["layer"] for r in everything} == {0, 1, 2}
    assert strict == []
    board = store.rows("SELECT * FROM leaderboard WHERE split = 'validation'")
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
    within = store.rows(named_query("layer_profile"), [bound, 9.0, *ids])
    assert not {r["effect"] for r in within if r["perplexity_ratio"] is None} & set(foreseen.values())


def test_the_dose_response_of_a_concept_is_of_one_split(store: Store, tmp_path: Path) -> None:
    row = a_recommendation(store)
    query = named_query("dose_response_of_concept")
    rows = store.rows(query, [row["model_id"], row["concept_id"]])
    assert {found["split"] for found in rows} == {"validation"}
    assert {found["kind"] for found in rows} >= {"candidate", "random", "none"}


def test_a_ratio_of_few_texts_far_from_the_expected_one_is_explained(store: Store) -> None:
    row = a_recommendation(store)
    far = verdict_in_words({**row, "perplexity_ratio": 1.72, "expected_ratio": 1.13}).plain
    assert "1.72 times as perplexing to the untouched model. By its damage 1.13 times is to be expected" in far
    assert (
        "times is to be expected"
        not in verdict_in_words({**row, "perplexity_ratio": 1.2, "expected_ratio": 1.13}).plain
    )


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


def test_a_tokens_colour_is_its_projection_from_the_base_texts_mean(store: Store) -> None:
    (row,) = store.rows("SELECT * FROM recommendations")
    rows = store.rows(named_query("token_projections"), [row["recommendation_id"]])
    assert list(dict.fromkeys(r["kind"] for r in rows)) == ["unsteered", "steered", "mirrored"]
    u, v = toy.axes()
    first = row["vector_ids"][0]  # of several that steer together the first one is shown
    (vector,) = store.rows("SELECT vector, residual_norm FROM vectors WHERE vector_id = ?", [first])
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


def test_the_command_writes_the_file(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from steering_core.cli.report import report

    report(output=tmp_path / "out.html", model=None, concept="capitals", store=str(store.root))
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "out.html" in capsys.readouterr().out


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


def test_a_name_that_nothing_is_recommended_for_is_refused(store: Store) -> None:
    with pytest.raises(QueryError, match="nothing is recommended for the concept 'nobody'"):
        report_page(store, concept="nobody")
    with pytest.raises(QueryError, match="nothing is recommended for the model 'nobody'"):
        report_page(store, model="nobody")


def test_a_store_without_recommendations_says_what_is_kept(store: Store, tmp_path: Path) -> None:
    assert unfinished(Store(tmp_path / "empty")) == ""
    assert "holds no recommendations yet" in report_page(Store(tmp_path / "empty"))
    part = tmp_path / "part"
    shutil.copytree(store.root, part)
    for table in ("recommendations", "runs", "outcomes"):
        shutil.rmtree(part / table, ignore_errors=True)
    kept = unfinished(Store.existing(part))
    assert "activations" in kept
    assert kept in report_page(Store.existing(part))
    done = CliRunner().invoke(runs.app, ["--store", str(part)])
    assert "No run has come to its end" in done.stdout
    assert kept in done.stdout
    with pytest.raises(QueryError, match=r"there is no 'last' yet: No run has come to its end.*activations"):
        CliRunner().invoke(runs.app, ["last", "--store", str(part)], catch_exceptions=False)


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
