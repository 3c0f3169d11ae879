"""The report: whole, self-contained, safe against what texts hold, and with commands that can be typed."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering_core.cli import runs
from steering_core.cli.main import app
from steering_core.foundation.errors import QueryError
from steering_core.reports.next_steps import leads_to, next_command, shared_command
from steering_core.reports.page import report_page
from steering_core.reports.terminal import print_report
from steering_core.reports.unfinished import unfinished
from steering_core.store import Store
from steering_core.store.commands import at_store, commands_at_store


@pytest.fixture(scope="module")
def page(reported: Store) -> str:
    return report_page(reported)


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


def test_what_to_type_next_names_the_store_and_steers_only_what_may_steer(
    reported: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    for verdict in ("works", "weak"):
        assert next_command(reported, row | {"verdict": verdict}).endswith(f" --store {reported.root}")
    for verdict in ("no better than random", "too few to tell"):
        (given,) = json.loads(reported.rows("SELECT spec FROM runs")[0]["spec"])["concepts"]
        assert given.endswith("capitals.yaml")
        assert next_command(reported, row | {"verdict": verdict}) == f"steer concepts lint {given}"
        assert leads_to(row | {"verdict": verdict}) == "What the concept may lack:"
        assert shared_command(reported, row | {"verdict": verdict}) == "steer concepts lint capitals"
        assert next_command(reported, row | {"verdict": verdict, "spec_key": None}) == "steer concepts lint capitals"
    monkeypatch.setenv("STEERFLOW_STORE", str(reported.root))  # the worker's shell, not the reader's
    assert "--store" in next_command(reported, row | {"verdict": "works"})
    folder = Path(reported.root).parent
    (folder / "data").mkdir()
    moved = Store(shutil.copytree(reported.root, folder / "data" / "store"))
    monkeypatch.chdir(folder)
    assert "--store" not in next_command(moved, row | {"verdict": "works"})


@pytest.mark.parametrize(("width", "beside"), [("80", False), ("200", True)])
def test_no_command_is_broken_and_what_it_gives_stands_beside_or_above_it(
    reported: Store, width: str, beside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    (row,) = reported.rows("SELECT * FROM recommendations")
    print_report(reported, {"recommendations": [row], "stages": {"scores": {"computed": 1}}})
    lines = capsys.readouterr().out.splitlines()
    assert next_command(reported, row) in lines
    commands = [line for line in lines if line.startswith("  steer ")]
    assert len(commands) == 4
    assert all(f"--store {reported.root}" in line or "explain" in line for line in commands)
    about = "# verdicts, pictures and texts as one page"
    (at,) = (i for i, line in enumerate(lines) if about in line)
    assert lines[at].endswith(about)
    assert ("steer report" in lines[at]) == beside
    assert beside or lines[at + 1] == f"  steer report --store {reported.root}"


def test_a_command_names_the_store_that_it_was_written_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert at_store("steer report", "/a b") == "steer report --store '/a b'"
    assert at_store("steer report", "s3://bucket/x") == "steer report --store s3://bucket/x"
    for usual in ("data/store", tmp_path / "data" / "store"):
        assert at_store("steer report", usual) == "steer report"
    for alone in ("steer concepts lint x", "steer explain dose", "steer VERB --help", "steer run x --store y"):
        assert at_store(alone, "/s") == alone
    assert commands_at_store("run `steer run x`, or `make up`", "/s") == "run `steer run x --store /s`, or `make up`"


def test_the_page_holds_no_path_of_this_machine(
    reported: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    works = {**row, "verdict": "works", "model": f"{tmp_path}/a model"}
    assert str(tmp_path) in next_command(reported, works)
    command = shared_command(reported, works)
    assert command.startswith("steer generate MODEL_FOLDER ")
    assert command.endswith(" --store STORE_FOLDER")
    monkeypatch.setattr("steering_core.reports.page.shared_command", lambda *_: command)
    monkeypatch.setattr(
        "steering_core.reports.page._recommended", lambda reported, _: {**works, "model": f"{tmp_path}/a model"}
    )
    page = report_page(reported)
    assert "capitals on a model</h2>" in page
    assert "MODEL_FOLDER is where the model lies on your machine, and STORE_FOLDER is where this store lies" in page
    assert str(tmp_path) not in page
    assert str(reported.root) not in page
    assert str(tmp_path) not in report_page(Store(tmp_path / "empty"))


def test_the_owner_of_a_report_is_told_what_its_commands_leave_out(reported: Store, tmp_path: Path) -> None:
    def said() -> str:
        asked = ["report", "--store", str(reported.root), "-o", str(tmp_path / "report.html")]
        return CliRunner().invoke(app, asked).stdout

    assert said().splitlines()[1:] == [
        f"So that it can be given away, STORE_FOLDER stands in its commands for {reported.root}"
    ]
    assert "STORE_FOLDER" in (tmp_path / "report.html").read_text()


def test_the_command_writes_the_file(reported: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from steering_core.cli.report import report

    report(output=tmp_path / "out.html", model=None, concept="capitals", store=str(reported.root))
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "out.html" in capsys.readouterr().out


def test_a_name_that_nothing_is_recommended_for_is_refused(reported: Store) -> None:
    with pytest.raises(QueryError, match="nothing is recommended for the concept 'nobody'"):
        report_page(reported, concept="nobody")
    with pytest.raises(QueryError, match="nothing is recommended for the model 'nobody'"):
        report_page(reported, model="nobody")


def test_a_store_without_recommendations_says_what_is_kept(reported: Store, tmp_path: Path) -> None:
    assert unfinished(Store(tmp_path / "empty")) == ""
    assert "holds no recommendations yet" in report_page(Store(tmp_path / "empty"))
    part = tmp_path / "part"
    shutil.copytree(reported.root, part)
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
