"""The reference pages are as they would be written, and every column, key and word is explained."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.evaluation.verdicts import CHANCE, TOO_FEW, WEAK, WORKS
from steering_core.foundation.errors import InterventionError, WordUnknown
from steering_core.foundation.words import columns, glossary, meaning
from steering_core.interventions.parsing import parse
from steering_core.store import Store
from steering_core.store.views import every_view

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


@pytest.mark.parametrize(
    ("text", "meant"), [("a @generations", "generation"), ("a @promt", "prompt"), ("a @lasst(2)", "last")]
)
def test_a_wrong_phase_leads_to_the_right_one(text: str, meant: str) -> None:
    with pytest.raises(InterventionError, match=f"did you mean '{meant}'"):
        parse(text)
