"""The command line, run as its users do."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.concepts import Concept
from steering_core.foundation.errors import QueryError, SpecError
from steering_core.reports.printing import progress_bars, shown
from steering_core.store import Store
from steering_core.store.commands import WITHOUT_STORE
from tests import quick

STEER = Path(sys.executable).with_name("steer")


def steer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([STEER, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ran(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli")
    pairs = [{"positive": f"{i} yes", "negative": f"{i} no"} for i in range(5)]
    items = [{"prompt": f"Is it {i}?", "matching": "yes", "not_matching": "no"} for i in range(4)]
    concept = {"name": "yes", "description": "agrees", "pairs": pairs, "prompts": ["Well,"], "items": items}
    (folder / "yes.yaml").write_text(yaml.safe_dump(concept))
    grid = {"layers": [1], "doses": [0.5], "max_tokens": 3}
    spec = {"models": [str(tiny_folder)], "concepts": [str(folder / "yes.yaml")], "generations": grid, **quick.SPEC}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder, steer("run", str(folder / "spec.yaml"), "--store", str(folder / "store"), "--json")


def test_run_prints_one_json_object_and_nothing_else(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = ran
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["stages"]["activations"]["computed"] == 10
    assert report["recommendations"][0]["concept"] == "yes"


def test_run_prints_a_leaderboard_and_texts(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = ran
    done = steer("run", str(folder / "spec.yaml"), "--store", str(folder / "store"))
    assert done.returncode == 0, done.stderr
    for said in ("Leaderboard", "mean_difference", "Base and steered text", "Well,", "Recommendation", str(folder)):
        assert said in done.stdout
    assert done.stdout.index("Recommendation") < done.stdout.index("Leaderboard")  # of a file the beginning is read


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_sql_prints_in_every_form(ran: tuple[Path, subprocess.CompletedProcess[str]], form: str) -> None:
    folder, _ = ran
    query = "SELECT count(*) AS n, 'x,y' AS t FROM activations WHERE layer = 0"
    done = steer("sql", query, "--store", str(folder / "store"), "--format", form)
    assert done.returncode == 0, done.stderr
    if form == "json":
        assert json.loads(done.stdout) == [{"n": 10, "t": "x,y"}]
    elif form == "csv":
        assert done.stdout == 'n,t\n10,"x,y"\n'
    else:
        assert "10" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.yaml"], "SpecError"),
        (["run"], "name a spec: `steer run quickstart`"),
        (["sql", "SELECT 1", "--store", "nowhere"], "there is no store"),
        (["rum"], "did you mean 'run'?"),
    ],
)
def test_a_mistake_is_one_paragraph_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = steer(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Usage:" not in done.stderr
    assert done.stdout == ""


def test_wrong_sql_is_told_as_a_mistake(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = ran
    done = steer("sql", "SELECT nothing FROM nowhere", "--store", str(folder / "store"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr


def test_a_model_that_is_nowhere_is_told_with_a_remedy(tmp_path: Path, concept: Concept) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"models": ["no-such-model"], "concepts": ["sentiment"]}))
    done = steer("run", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "store"))
    assert done.returncode == 2
    assert "there is no model 'no-such-model'" in done.stderr
    assert "smollm2-135m" in done.stderr


def test_help_names_every_verb() -> None:
    from steering_core.cli.main import VERBS

    done = steer("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb and sub-verb, with the words that call it."""
    names = command.list_commands(None) if isinstance(command, TyperGroup) else []
    for name in names:
        yield from commands(command.get_command(None, name), (*path, name))
    if path:
        yield path, command


def test_help_is_printed_as_it_is_written() -> None:
    """No emoji for `span:a:b`, no markup for what stands in brackets, nothing cut short, for every verb."""
    whole = typer.main.get_command(app)
    found = list(commands(whole))
    assert len(found) > 40
    for path, command in found:
        said = "".join(CliRunner().invoke(app, [*path, "--help"]).output.split())
        options = [] if isinstance(command, TyperGroup) else command.params
        for text in [command.help, *(option.help for option in options)]:
            assert "".join((text or "").split()) in said, path
        for name in getattr(command, "commands", {}):
            assert "".join(command.commands[name].help.partition("\n\n")[0].split()) in said, (path, name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["genrate"], "did you mean 'generate'?"),
        (["vectors", "lisst"], "there is no verb 'lisst'; did you mean 'list'?"),
        (["generate", "m", "hi", "--strength", "3"], "no option '--strength': did you mean '--dose' or '--alpha'?"),
        (["generate", "m", "hi", "--vectr", "x"], "there is no option '--vectr': did you mean '--vector'?"),
        (["explain", "dosse"], "did you mean 'dose'?"),
        (["generate", "smollm2-135m", "hi", "--steer", "x @generations"], "did you mean 'generation'?"),
        (["report", "nosuch.yaml", "--format", "tabel"], "there is no option '--format'"),
        (["generate"], "model is missing"),
        (["generate", "m", "hi", "--temperature", "warm"], "a wrong value for '--temperature'"),
        (["generate", "m", "hi", "--vector"], "option '--vector' requires an argument"),
        (["runs", "--store", "nosuch folder"], "`steer run SPEC.yaml --store 'nosuch folder'`"),
    ],
)
def test_a_mistake_is_told_once_with_the_nearest_word_and_nothing_behind_it(words: list[str], said: str) -> None:
    done = steer(*words)
    assert done.returncode == 2
    assert done.stderr.count(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Usage:" not in done.stderr
    assert done.stdout == ""


def test_the_verbs_without_a_store_are_those_whose_commands_are_printed_without_one() -> None:
    found = {" ".join(path) for path, one in commands(typer.main.get_command(app)) if not isinstance(one, TyperGroup)
             and not any("--store" in option.opts for option in one.params)}  # fmt: skip
    assert found == set(WITHOUT_STORE)


def asked(store: Store, sql: str, *options: str, to: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    arguments = [STEER, "sql", sql, "--store", str(store.root), *options]
    return subprocess.run(arguments, stdout=to, stderr=subprocess.PIPE, text=True, check=False)


def test_sql_prints_every_column_and_only_what_json_has(store: Store) -> None:
    sql = "SELECT a.n, b.n, 'nan'::DOUBLE AS x FROM range(1, 2) a(n), range(2, 3) b(n)"
    assert json.loads(asked(store, sql, "--format", "json").stdout) == [{"n": 1, "n_1": 2, "x": None}]
    assert asked(store, sql, "--format", "csv").stdout == "n,n_1,x\n1,2,nan\n"


@pytest.mark.parametrize("sql", ["-- a comment\nSELECT 1 AS n", "--a comment\nSELECT 1 AS n", "--\nSELECT 1 AS n"])
def test_sql_may_begin_with_a_comment(store: Store, sql: str) -> None:
    assert asked(store, sql, "--format", "csv").stdout == "n\n1\n"
    done = subprocess.run(
        [STEER, "sql", "-", f"--store={store.root}", "--format", "csv"], input=sql, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "n\n1\n"


def test_a_table_without_rows_says_so_beside_what_a_program_reads(store: Store) -> None:
    none = "SELECT 1 AS n WHERE false"
    done = asked(store, none)
    assert "n" in done.stdout
    assert done.stderr == "0 rows\n"
    for form, said in (("json", "[]\n"), ("csv", "n\n")):
        done = asked(store, none, "--format", form)
        assert (done.stdout, done.stderr) == (said, "")
    assert not asked(store, "SELECT 1 AS n").stderr


@pytest.mark.parametrize(
    "sql", ["", "-- nothing", "DROP VIEW models; SELECT 1", "CREATE TABLE x (i INT)", "SELECT 1; SELECT 2"]
)
def test_sql_takes_one_select_and_nothing_else(store: Store, sql: str) -> None:
    with pytest.raises(QueryError, match="one SELECT"):
        store.answer(sql)


def test_a_pivot_without_its_values_is_told_what_it_lacks(store: Store) -> None:
    rows = "(SELECT 1 AS a, 'x' AS split)"
    with pytest.raises(QueryError, match=r"a PIVOT needs its values here, PIVOT … ON column IN \('a', 'b'\)"):
        store.answer(f"SELECT * FROM (PIVOT {rows} ON split USING sum(a))")
    assert store.rows(f"SELECT * FROM (PIVOT {rows} ON split IN ('x') USING sum(a))") == [{"x": 1}]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_cannot_be_printed_is_said_once_or_not_at_all(store: Store, form: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = asked(store, "FROM range(9)", "--format", form, to=full.fileno())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no room for standard output" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does when it has seen enough
    done = asked(store, "FROM range(9)", "--format", form, to=writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_what_is_said_on_the_side_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "talk.csv"
    header, row = ",".join(["positive", "negative", *(f"column_{i}" for i in range(6))]), "yes,no,1,2,3,4,5,6"
    table.write_text(f"{header}\n{row}\n")
    done = steer("concepts", "show", str(table))
    said = [line for line in done.stderr.splitlines() if "Columns left out" in line]
    assert said == [f"{table}: Columns left out: {', '.join(f'{name!r}' for name in header.split(',')[2:])}."]
    assert "1 pair (" in done.stdout


def test_a_table_rounds_to_what_can_be_told_apart() -> None:
    once, again = 0.31250000000000006, 0.31249999932300010  # one dose, computed in two ways
    values = [once, again, -0.0, 1e-5, -0.0004, 2.4586, 123456789.1234, float("nan"), [], None, [3]]
    seen = ["0.313", "0.313", "0.000", "1.0e-05", "-4.0e-04", "2.459", "123456789.123", "nan", "", "", "[3]"]
    assert [shown(value) for value in values] == seen


def test_a_run_that_is_stopped_says_that_it_goes_on(
    ran: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steering_core.cli.run.run", stopped)
    done = CliRunner().invoke(app, ["run", str(ran[0] / "spec.yaml"), "--store", str(ran[0] / "store")])
    assert done.exit_code == 128 + signal.SIGINT
    assert "the same command goes on from there" in done.stderr


@pytest.mark.parametrize("where", ['concept = "yes"', "concept = yes", 'concept IN ("yes")', 'concept LIKE "yes"'])
def test_a_text_in_the_wrong_quotes_is_told(ran: tuple[Path, subprocess.CompletedProcess[str]], where: str) -> None:
    store = Store.existing(ran[0] / "store")
    with pytest.raises(QueryError, match="a text takes single quotes, 'yes'"):
        store.answer(f"SELECT layer FROM vectors WHERE {where}")
    with pytest.raises(QueryError) as caught:
        store.answer("SELECT laier FROM vectors")
    assert "single quotes" not in str(caught.value)


def test_run_without_a_spec_names_the_quickstart() -> None:
    done = CliRunner().invoke(app, ["run"])
    assert isinstance(done.exception, SpecError)
    assert "steer run quickstart" in str(done.exception)


def test_a_log_names_each_step_when_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as notify:
        for done in (0, 3, 9):
            notify("1 of 9: extract", done, 9)
        assert capsys.readouterr().err == "1 of 9: extract: 9\n"  # at once, not at the end
        notify("2 of 9: derive", 0, 4)
        notify("2 of 9: derive", 1, 6)  # it grew
        notify("1 of 9: extract", 0, 2)
    assert capsys.readouterr().err == "2 of 9: derive: 4\n1 of 9: extract: 2\n"
