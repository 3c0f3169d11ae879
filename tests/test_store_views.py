"""The views of a store: a query defines those that it names, and sees what a connection with all of them sees."""

from pathlib import Path

import duckdb
import pytest

from steering_core.foundation.errors import QueryError
from steering_core.store import Store
from steering_core.store.views import every_view, views_in

pytestmark = pytest.mark.usefixtures("catalogues")  # they prove stores as they are


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store's folder."""
    return Path(Store(tmp_path_factory.mktemp("views") / "store").root)


@pytest.fixture(scope="module")
def everything(root: Path) -> duckdb.DuckDBPyConnection:
    """A connection with every view."""
    return Store(root).connect()


@pytest.mark.parametrize("view", every_view())
def test_a_store_that_was_asked_nothing_before_answers_from_any_view(
    view: str, root: Path, everything: duckdb.DuckDBPyConnection
) -> None:
    columns = Store(root).query(f"SELECT * FROM {view}").column_names
    assert columns == everything.sql(f"SELECT * FROM {view}").columns
    with duckdb.connect(root / "catalog.duckdb", read_only=True) as catalogue:
        assert columns == catalogue.sql(f"SELECT * FROM {view}").columns


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("SELECT 1", []),
        ("SELECT * FROM raw.models", ["raw.models"]),
        ('FROM RAW."models"', ["raw.models"]),
        ('FROM "raw" . "models"', ["raw.models"]),
        ("FROM Models", ["raw.models", "models"]),
        ('FROM main."models" m JOIN raw.runs r ON true', ["raw.models", "raw.runs", "models"]),
        ("FROM sweep_summary", ["raw.recommendations", "raw.runs", "raw.outcomes", "sweep_history", "sweep_summary"]),
        ("SHOW TABLES", every_view()),
        ("FROM duckdb_views()", every_view()),
    ],
)
def test_a_query_defines_the_views_that_it_names_and_those_that_they_name(sql: str, views: list[str]) -> None:
    assert views_in(sql) == views


def test_a_view_is_defined_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defined: list[str] = []
    monkeypatch.setattr("steering_core.store.store.define", lambda connection, folder, views: defined.extend(views))
    store = Store(root)
    for sql in ("SELECT 1 AS models", "SELECT 2 AS models", "SELECT 3 AS raw, 4 AS runs"):
        store.query(sql)
    assert defined == ["raw.models", "models", "raw.runs", "runs"]


def test_a_name_that_is_mistyped_is_told_from_all_views(root: Path) -> None:
    with pytest.raises(QueryError, match='Did you mean "leaderboard"'):
        Store(root).query("SELECT * FROM leaderbord")


def test_every_measurement_can_be_read_beside_what_was_measured(agree_run: Path) -> None:
    rows = Store(agree_run).rows(
        """
        SELECT x.metric, count(*) AS n, count(coalesce(i.prompt, n.prompt, a.prompt, g.prompt)) AS told
        FROM measurements x
        LEFT JOIN items i ON i.item_id = x.subject_id AND i.concept_id = x.concept_id
        LEFT JOIN neutral_prompts n ON n.neutral_prompt_id = x.subject_id
        LEFT JOIN neutral_answers a ON a.answer_id = x.subject_id
        LEFT JOIN generations g ON g.generation_id = x.subject_id
        GROUP BY ALL
        """
    )
    assert {"propensity", "kl", "damage", "perplexity"} <= {row["metric"] for row in rows}
    assert all(row["n"] == row["told"] > 0 for row in rows)
