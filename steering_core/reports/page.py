"""The report as one HTML file that needs nothing else: verdicts, pictures, leaderboards and texts."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files as package_files
from typing import Any

import jinja2

from steering_core.reports.charts import evaluation, explorer
from steering_core.reports.charts.render import Drawing, svg
from steering_core.reports.printing import shown
from steering_core.reports.terminal import command, verdict_in_words
from steering_core.spec import ScoresSpec
from steering_core.store import Store
from steering_core.store.queries import named_query

Row = dict[str, Any]
Picture = tuple[Drawing, str]
"""A chart and its caption."""

HEAT_MAP = "Effect of every candidate by layer and dose, on validation items."
RESPONSE = "Effect over dose with its interval; grey: what controls did at that dose."
FRONTIER = "Effect against damage; the dashed line is the bound, {:g}."
PROFILE = "The best effect within the damage bounds, by layer; grey: its best control."
STABILITY = "How far the direction agrees with itself, found from either half of the pairs."
TOKENS = (
    "How far each token of a sample text lies along the vector, read by the untouched model: from the unsteered text's "
    "mean, in shares of the residual norm."
)


def report_page(store: Store, model: str | None = None, concept: str | None = None) -> str:
    """The HTML of the latest recommendation of every model and concept, or of those named."""
    found = store.rows(named_query("recommended"))
    wanted = [r for r in found if model in (None, r["model"]) and concept in (None, r["concept"])]
    source = (package_files("steering_core.reports") / "page.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    return template.render(title="Steering report", parts=[_part(store, row) for row in wanted])


def _part(store: Store, latest: Row) -> Row:
    """What one recommendation shows."""
    row = store.rows("SELECT * FROM recommendations WHERE recommendation_id = ?", [latest["recommendation_id"]])[0]
    ids = [row["model_id"], row["concept_id"]]
    tables = [
        ("Base and steered text", store.rows(named_query("side_by_side"), [row["recommendation_id"]])),
        ("What the texts say", store.rows(named_query("text_scores_of_concept"), ids)),
        ("Who says so", store.rows(named_query("scorers_of_concept"), ids)),
        ("Leaderboard", store.rows(named_query("leaderboard_of_concept"), ids)),
    ]
    return {
        "heading": f"{row['concept']} on {row['model']}",
        "verdict": row["verdict"],
        "summary": verdict_in_words(row).plain.removeprefix(f"{row['verdict']}: "),
        "command": command(row),
        "charts": [{"svg": svg(chart), "caption": caption} for chart, caption in charts(store, row).values()],
        "tables": [_table(heading, rows) for heading, rows in tables if rows],
    }


def charts(store: Store, row: Row) -> dict[str, Picture]:
    """The pictures of one recommendation, each with its caption; those without data are left out."""
    ids, bounds = [row["model_id"], row["concept_id"]], _bounds(store, row["spec_key"])
    limits = [bounds.max_perplexity_ratio, bounds.max_kl]
    damage = partial(evaluation.frontier, max_perplexity_ratio=bounds.max_perplexity_ratio)
    drawn: list[tuple[str, list[Any], Callable[[Sequence[Row]], Drawing], str]] = [
        ("layer_by_dose", ids, explorer.layer_by_dose, HEAT_MAP),
        ("dose_response_of_concept", ids, explorer.dose_response, RESPONSE),
        ("frontier_of_concept", ids, damage, FRONTIER.format(bounds.max_perplexity_ratio)),
        ("layer_profile", [*limits, *ids], evaluation.layer_profile, PROFILE),
        ("stability_of_concept", ids, evaluation.stability, STABILITY),
        ("token_projections", [row["recommendation_id"]], evaluation.token_projection, TOKENS),
    ]
    pictures: dict[str, Picture] = {}
    for query, parameters, draw, caption in drawn:
        if rows := store.rows(named_query(query), parameters):
            pictures[query] = (draw(rows), caption)
    return pictures


def _bounds(store: Store, spec_key: str) -> ScoresSpec:
    """The scores' part of the spec that a recommendation came from; the defaults where no run holds it."""
    found = store.rows("SELECT spec FROM runs WHERE spec_key = ? LIMIT 1", [spec_key])
    return ScoresSpec.model_validate(json.loads(found[0]["spec"])["scores"]) if found else ScoresSpec()


def _table(heading: str, rows: Sequence[Row]) -> Row:
    names = list(rows[0]) if rows else []
    numbers = [name for name in names if any(isinstance(row[name], int | float) for row in rows)]
    return {
        "heading": heading,
        "names": names,
        "numbers": numbers,
        "rows": [{name: shown(row[name]) for name in names} for row in rows],
    }
