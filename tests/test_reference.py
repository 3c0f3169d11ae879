"""The reference pages are as they would be written, and every column, key and word is explained."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering_core.activations.forecast import Forecast
from steering_core.cli.main import VERBS, app
from steering_core.cli.plan import STAGES
from steering_core.evaluation.verdicts import CHANCE, TOO_FEW, WEAK, WORKS
from steering_core.foundation.errors import InterventionError, WordUnknown
from steering_core.foundation.words import columns, glossary, lint_checks, meaning
from steering_core.interventions.parsing import parse
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.store.views import every_view
from steering_core.vectors.methods import method_meanings

ROOT = Path(__file__).parent.parent


def test_the_pages_are_as_they_would_be_written() -> None:
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_column_is_explained_and_no_other(store: Store) -> None:
    rows = store.rows("SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'")
    there = {c["column_name"] for row in rows for c in store.rows(f"DESCRIBE {row['view_name']}")}
    assert there == set(columns())


NAMED_TABLE = re.compile(
    r"(?:rows? of|tables?|views?) `((?:raw\.)?[a-z_]+)`|`((?:raw\.)?[a-z_]+)` (?:table|view)\b"
    r"|\b(?:FROM|JOIN) ((?:raw\.)?[a-z_]+)\b"
)
NO_TABLES = {"layers"}  # of `steer layers`, which it prints


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem
)
def test_every_table_that_a_page_names_answers(store: Store, page: Path) -> None:
    if page.stem in ("log", "views"):  # what was tried once; and the page that is written from the views
        return
    named = {next(filter(None, found)) for found in NAMED_TABLE.findall(page.read_text())} - NO_TABLES
    assert named <= set(every_view())


def test_pages_do_name_tables() -> None:
    found = NAMED_TABLE.findall("its error is a row of `outcomes`; the view `runs`; FROM raw.planted JOIN items")
    assert [next(filter(None, one)) for one in found] == ["outcomes", "runs", "raw.planted", "items"]


def test_activations_say_token_and_how_many_were_read(store: Store) -> None:
    assert {"token", "n_read"} <= set(store.query("FROM activations").column_names)


@pytest.mark.parametrize(
    ("word", "name"),
    [("Doses", "dose"), ("residual-stream", "residual stream"), ("p-value", "p_value"), ("p", "p_value"),
     ("over controls", "over_controls"), ("log probability", "log-probability")],
)  # fmt: skip
def test_a_word_is_explained_however_it_is_written(word: str, name: str) -> None:
    assert meaning(word) == glossary()[name]


@pytest.mark.parametrize("verdict", [WORKS, WEAK, CHANCE, TOO_FEW])
def test_every_verdict_is_explained(verdict: str) -> None:
    assert meaning(verdict) == glossary()[verdict]


def test_columns_are_explained_where_no_word_is() -> None:
    assert meaning("auc_test") == columns()["auc_test"]


def test_the_verb_explains_and_suggests() -> None:
    said = CliRunner().invoke(app, ["explain", "dose"]).stdout
    assert " ".join(glossary()["dose"].split()[:4]) in said
    with pytest.raises(WordUnknown, match="did you mean 'dose'"):
        meaning("dosee")
    wrong = CliRunner().invoke(app, ["genrate", "smollm2-135m", "Hi"])
    assert isinstance(wrong.exception, WordUnknown)
    assert "did you mean 'generate'" in str(wrong.exception)


@pytest.mark.parametrize("verb", [*VERBS, "lint", "derive", "concepts import", "vectors import", "verify"])
def test_every_verb_is_explained(verb: str) -> None:
    done = CliRunner().invoke(app, ["explain", verb, "--format", "json"], catch_exceptions=False)
    (row,) = json.loads(done.stdout)
    assert row["word"] == verb
    assert row["meaning"]


def test_a_misspelt_verb_is_suggested_by_the_verb_that_explains() -> None:
    wrong = CliRunner().invoke(app, ["explain", "dervie"])
    assert "did you mean 'derive'" in str(wrong.exception)


QUERIES = ROOT / "steering_core" / "store" / "sql" / "queries"


@pytest.mark.parametrize("query", sorted(path.stem for path in QUERIES.glob("*.sql")))
def test_every_column_of_a_named_query_is_explained(store: Store, query: str) -> None:
    sql = named_query(query)
    parameters = re.sub("--.*", "", sql).count("?")
    for column in store.query(sql, [None] * parameters).column_names:
        assert meaning(column, method_meanings())


def test_every_column_that_a_verb_names_is_explained() -> None:
    found = {name for path in (ROOT / "steering_core" / "cli").rglob("*.py") for name in columns_named(path)}
    assert {"remedy", "auc_test", "own_projection", "meaning"} <= found
    found |= {field.name for field in dataclasses.fields(Forecast)} - {"tokens_per_second"}
    found |= {"takes", *(f"{part}_seconds" for *_, part, _ in STAGES)}
    assert [name for name in sorted(found) if not meaning(name, method_meanings())] == []


def columns_named(path: Path) -> Iterator[str]:
    """The columns that a verb's module names, in what it prints or in a list of its own beside it."""
    tree = ast.parse(path.read_text())
    given = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)]
    lists = {target.id: one.value for one in given for target in one.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print_rows":
            for named in ast.walk(node.args[1]):
                values = lists.get(named.id) if isinstance(named, ast.Name) else named
                if isinstance(values, ast.List):
                    yield from (one.value for one in values.elts if isinstance(one, ast.Constant))


@pytest.mark.parametrize(
    ("text", "meant"), [("a @generations", "generation"), ("a @promt", "prompt"), ("a @lasst(2)", "last")]
)
def test_a_wrong_phase_leads_to_the_right_one(text: str, meant: str) -> None:
    with pytest.raises(InterventionError, match=f"did you mean '{meant}'"):
        parse(text)


def test_every_check_of_lint_is_explained_and_in_the_docs() -> None:
    modules = [ast.parse(path.read_text()) for path in (ROOT / "steering_core/authoring/lint").glob("*.py")]
    calls = [node for module in modules for node in ast.walk(module) if isinstance(node, ast.Call) and node.args]
    made = [call.args[0] for call in calls if getattr(call.func, "id", "") in ("error", "warning", "Finding")]
    names = {one.value for one in made if isinstance(one, ast.Constant)}
    assert names == lint_checks().keys()
    table = (ROOT / "docs/concepts.md").read_text().partition("| check | finds |")[2].partition("\n\n")[0]
    assert {name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")} == names
    assert meaning("giveaway").startswith("`steer concepts lint` finds: a word or mark")
    assert meaning("tokens").startswith(columns()["tokens"])  # a column and a check: both are told
    assert "longer in tokens" in meaning("tokens")
