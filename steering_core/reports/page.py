"""The report as one HTML file that needs nothing else: verdicts, pictures, leaderboards and texts."""

from collections.abc import Iterable, Sequence
from importlib.resources import files as package_files

import jinja2

from steering_core.foundation.errors import QueryError, StoreDamaged
from steering_core.foundation.suggestions import did_you_mean
from steering_core.foundation.validation import checked
from steering_core.models.shared_names import MODEL_FOLDER, shared_name
from steering_core.reports.charts.listed import charts_in, picture
from steering_core.reports.charts.picture import Picture
from steering_core.reports.judges import untrusted_judges
from steering_core.reports.next_steps import STORE_FOLDER, shared_command, without_store_path
from steering_core.reports.printing import shown
from steering_core.reports.unfinished import unfinished
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers
from steering_core.runs import stored_spec
from steering_core.spec import ScoresSpec
from steering_core.store import Row, Store
from steering_core.store.commands import at_store
from steering_core.store.queries import named_query


def report_page(store: Store, model: str | None = None, concept: str | None = None) -> str:
    """The HTML of the latest recommendation of every model and concept, or of those named.

    Raises QueryError where recommendations are there, and none is of the model and concept that were named.
    """
    found = store.rows(named_query("recommended"))
    _check_named(found, "model", model)
    _check_named(found, "concept", concept)
    wanted = [r for r in found if model in (None, r["model"]) and concept in (None, r["concept"])]
    if found and not wanted:
        raise QueryError(f"nothing is recommended for {concept} on {model} yet: a run of both does that at its end")
    source = (package_files("steering_core.reports") / "page.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    return template.render(
        title="Steering report",
        first=without_store_path(at_store("steer run quickstart", store.root), store),
        unfinished="" if found else unfinished(store),
        parts=[_part(store, row) for row in wanted],
    )


def _check_named(found: Sequence[Row], what: str, name: str | None) -> None:
    """Raise QueryError for a model or concept that no recommendation is of, where there are some."""
    names = {row[what] for row in found}
    if found and name is not None and name not in names:
        raise QueryError(f"nothing is recommended for the {what} {name!r}; {did_you_mean(name, names)}")


def _part(store: Store, latest: Row) -> Row:
    """What one recommendation shows."""
    row = _recommended(store, latest["recommendation_id"])
    command = shared_command(store, row)
    ids = [row["model_id"], row["concept_id"]]
    tables = [
        ("Base and steered text", store.rows(named_query("side_by_side"), [row["recommendation_id"]])),
        ("What the texts say", store.rows(named_query("text_scores_of_concept"), ids)),
        ("Who says so", store.rows(named_query("scorers_of_concept"), ids)),
        ("The judge on texts of known quality", store.rows(named_query("judge_checks_of_concept"), ids[1:])),
        ("Capabilities", store.rows(named_query("capabilities_of_recommendation"), [row["recommendation_id"]])),
        ("Leaderboard", store.rows(named_query("leaderboard_of_concept"), ids)),
    ]
    return {
        "heading": f"{row['concept']} on {shared_name(row['model'])}",
        "verdict": row["verdict"],
        "summary": plain_verdict(row),
        "numbers": verdict_in_numbers(row),
        "command": command,
        "stands_for": _stands_for(command),
        "warnings": untrusted_judges(store, row["concept_id"]),
        "charts": [{"svg": drawn.svg(titled=False), "caption": drawn.caption} for drawn in charts(store, row)],
        "tables": [_table(heading, rows) for heading, rows in tables if rows],
    }


def _recommended(store: Store, recommendation_id: str) -> Row:
    """One recommendation with all its columns."""
    return store.rows("SELECT * FROM recommendations WHERE recommendation_id = ?", [recommendation_id])[0]


def _stands_for(command: str) -> str:
    """A sentence on the names in a command that stand for a reader's own folders; empty for none."""
    meant = {MODEL_FOLDER: "the model", STORE_FOLDER: "this store"}
    said = [f"{name} is where {what} lies on your machine" for name, what in meant.items() if name in command]
    return f"{', and '.join(said)}." if said else ""


def charts(store: Store, row: Row, names: Iterable[str] | None = None) -> list[Picture]:
    """The pictures of one recommendation, all or those of the charts named; those without data are left out."""
    values = chart_values(store, row)
    drawn = (picture(store, name, values) for name in (charts_in("report") if names is None else names))
    return [found for found in drawn if found]


def chart_values(store: Store, row: Row) -> Row:
    """What charts of a recommendation are drawn with: its row, and the damage bounds of its run."""
    return {**row, **_bounds(store, row["spec_key"]).model_dump()}


def _bounds(store: Store, spec_key: str) -> ScoresSpec:
    """The scores' part of the spec that a recommendation came from; the defaults where no run holds it."""
    found = stored_spec(store, spec_key)
    return checked(ScoresSpec, found.get("scores"), "raw.runs.spec", StoreDamaged) if found else ScoresSpec()


def _table(heading: str, rows: Sequence[Row]) -> Row:
    """A table as the page shows it: its columns are those in which some row has a value."""
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    numbers = [name for name in names if name == "interval" or any(isinstance(r[name], int | float) for r in rows)]
    return {
        "heading": heading,
        "names": names,
        "numbers": numbers,
        "rows": [{name: shown(row[name]) for name in names} for row in rows],
    }
