"""Every table of every verb at 80, 100 and 160 columns: nothing is wider, broken, or lost without a word."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.concepts import Concept
from steering_core.reports.fitting import FEW, KEY, PROSE, fitted, shown
from steering_core.store import Store
from tests import quick
from tests.explorer import ran_store

VERBS = {
    "runs": ["runs"],
    "a run": ["runs", "last"],
    "library": ["vectors", "list"],
    "controls": ["vectors", "list", "--controls"],
    "cosines": ["vectors", "compare", "loud/mean_difference/1", "loud/mean_difference/2"],
    "concepts": ["concepts", "list"],
    "lint": ["concepts", "lint", "sentiment", "pirate"],
    "store": ["store", "info"],
    "reuse": ["store", "info", "--runs"],
    "whole": ["store", "verify"],
    "garbage": ["store", "gc"],
    "leaderboard": ["sql", "FROM leaderboard"],
    "recommendations": ["sql", "FROM recommendations"],
    "generations": ["sql", "FROM generations"],
    "plan": ["plan", "SPEC"],
    "calibration": ["calibrate", "SPEC", "--no-texts"],
    "layer sweep": ["sweep-layers", "SPEC"],
    "two texts": ["generate", "MODEL", "Hello", "Bye", "--max-tokens", "3", "--compare"],
}
WIDTHS = (80, 100, 160)
MOVING = ("seconds", "room", "started", "finished", "started_at", "finished_at")  # from one call to the next
CHOOSE = ("library", "controls", "concepts", "garbage", "two texts")  # a table's columns are not JSON's
WITHOUT_STORE = ("concepts",)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, loud: Concept) -> Store:
    return ran_store(tmp_path_factory.mktemp("tables"), tiny_folder, loud)


@pytest.fixture(scope="module")
def loud() -> Concept:
    from tests.explorer import AGREE

    return AGREE.model_copy(update={"name": "loud"})


def said(ran: Store, model: Path, arguments: list[str], width: int) -> str:
    spec = Path(ran.root).parent / "spec.json"
    grid = {"layers": [1, 2], "doses": [0.5], "prompts": 1, "max_tokens": 2}
    concept = str(Path(ran.root).parent / "loud.yaml")
    spec = spec.with_suffix(".yaml")
    spec.write_text(json.dumps({"models": [str(model)], "concepts": [concept], "generations": grid, **quick.SPEC}))
    places = {"SPEC": str(spec), "MODEL": str(model)}
    store = [] if arguments[0] in WITHOUT_STORE else ["--store", str(ran.root)]
    done = CliRunner().invoke(app, [*(places.get(a, a) for a in arguments), *store], env={"COLUMNS": str(width)})
    assert done.exit_code in (0, 1), f"{done.exception!r}\n{done.output}"
    return done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_table_fits_and_breaks_nothing(ran: Store, tiny_folder: Path, verb: str) -> None:
    rows: list[dict[str, Any]] = json.loads(said(ran, tiny_folder, [*VERBS[verb], "--format", "json"], 160))
    for width in WIDTHS:
        text = said(ran, tiny_folder, VERBS[verb], width)
        assert max(map(cell_len, text.splitlines()), default=0) <= width, verb
        if verb == "plan":  # a sentence and a table by stage, whose numbers are JSON's
            tokens = [row[name] for row in rows for name in row if name.endswith("_tokens") and row[name]]
            assert all(str(n) in text for n in tokens), f"{verb} at {width}"
            continue
        lost = text.partition("Left out for want of room:")[2].replace("\n", " ")
        there = [name for name in rows[0] if name in text.split("Left out")[0].replace("\n", " ")] if rows else []
        for name in there:
            values = [shown(row[name]) for row in rows]
            if name not in MOVING and all(len(value) <= PROSE and "\n" not in value for value in values):
                broken = [
                    value for value in values if value.isprintable() and not KEY.fullmatch(value) and value not in text
                ]
                assert not broken, f"{verb} at {width}: {name}"
        if verb not in CHOOSE and rows:
            empty = {name for name in rows[0] if not any(shown(row[name]) for row in rows)}
            untold = [name for name in rows[0] if name not in {*there, *empty} and name not in lost]
            assert not untold, f"{verb} at {width}"


def test_wide_shows_every_column(ran: Store, tiny_folder: Path) -> None:
    rows = json.loads(said(ran, tiny_folder, ["sql", "FROM leaderboard", "--format", "json"], 80))
    header = said(ran, tiny_folder, ["sql", "FROM leaderboard", "--wide"], 80).splitlines()[1]
    assert [name.strip() for name in header.strip("┃").split("┃")] == list(rows[0])


def test_ids_are_as_short_as_they_stay_unique() -> None:
    keys = ["abcdef0123456789abcd", "abcdef1123456789abcd", "fedcba0123456789abcd"]
    rows = [{"vector_id": key, "layer": i} for i, key in enumerate(keys)]
    assert _cells(rows, "vector_id") == ["abcdef0", "abcdef1", "fedcba0"]
    (row,) = [{"vector_id": keys[0], "layer": 1}]
    assert _cells([row], "vector_id") == ["abcdef"]


def _cells(rows: list[dict[str, Any]], name: str) -> list[str]:
    table = fitted(rows, list(rows[0]), None)
    column = next(c for c in table.columns if c.header == name)  # type: ignore[union-attr]
    return [str(cell) for cell in column.cells]


def test_a_few_rows_become_records_and_many_lose_columns_with_a_word() -> None:
    from rich.console import Console

    rows = [{f"column_{i}": f"value {i} of row {r}" for i in range(12)} for r in range(FEW + 3)]
    for some, expected in ((rows[:FEW], "column_11  value 11 of row 0"), (rows, "Left out for want of room: column_")):
        out = Console(width=80)
        with out.capture() as found:
            out.print(fitted(some, list(rows[0]), 80))
        assert expected in found.get()
        assert max(map(len, found.get().splitlines())) <= 80
