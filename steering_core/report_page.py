"""The report as one HTML file that needs nothing else: verdicts, pictures, leaderboards and texts."""

import json
from collections.abc import Sequence
from importlib.resources import files as package_files
from typing import Any

import jinja2

from steering_core.charts import evaluation, explorer
from steering_core.charts.render import Drawing, data_uri, svg
from steering_core.cli.output import shown
from steering_core.reports import named_query, verdict_in_words
from steering_core.spec import ScoresSpec
from steering_core.store import Store

Row = dict[str, Any]


def report_page(store: Store, model: str | None = None, concept: str | None = None) -> str:
    """The HTML of the latest recommendation of every model and concept, or of those named."""
    found = store.rows(named_query("recommended"))
    wanted = [r for r in found if model in (None, r["model"]) and concept in (None, r["concept"])]
    source = (package_files("steering_core") / "report_page.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(source)
    return template.render(title="Steering report", parts=[_part(store, row) for row in wanted])


def _part(store: Store, latest: Row) -> Row:
    """What one recommendation shows."""
    row = store.rows("SELECT * FROM recommendations WHERE recommendation_id = ?", [latest["recommendation_id"]])[0]
    ids = [row["model_id"], row["concept_id"]]
    texts = store.rows(named_query("side_by_side"), [row["recommendation_id"]])
    board = store.rows(named_query("leaderboard_of_concept"), ids)
    return {
        "heading": f"{row['concept']} on {row['model']}",
        "verdict": row["verdict"],
        "summary": verdict_in_words(row).plain.removeprefix(f"{row['verdict']}: "),
        "charts": [{"svg": svg(chart), "caption": caption} for chart, caption in charts(store, row)],
        "tables": [_table("Base and steered text", texts), _table("Leaderboard", board)],
    }


def charts(store: Store, row: Row) -> list[tuple[Drawing, str]]:
    """The pictures of one recommendation with their captions; those without data are left out."""
    ids, bounds = [row["model_id"], row["concept_id"]], _bounds(store, row["spec_key"])
    limits = [bounds.max_perplexity_ratio, bounds.max_kl]
    heat = store.rows(named_query("layer_by_dose"), ids)
    response = store.rows(named_query("dose_response_of_concept"), ids)
    damage = store.rows(named_query("frontier_of_concept"), ids)
    profile = store.rows(named_query("layer_profile"), [*limits, *ids])
    stable = store.rows(named_query("stability_of_concept"), ids)
    drawn = [
        (heat, explorer.layer_by_dose, "Effect of every candidate by layer and dose, on validation items."),
        (response, explorer.dose_response, "Effect over dose with its interval; grey: what controls did at that dose."),
        (
            profile,
            evaluation.layer_profile,
            "The best effect within the damage bounds, by layer; grey: its best control.",
        ),
        (
            stable,
            evaluation.stability,
            "How far the direction agrees with itself, found from either half of the pairs.",
        ),
    ]
    pictures = [(draw(rows), caption) for rows, draw, caption in drawn if rows]
    if damage:
        caption = f"Effect against damage; the dashed line is the bound, {bounds.max_perplexity_ratio:g}."
        pictures.insert(2, (evaluation.frontier(damage, bounds.max_perplexity_ratio), caption))
    return pictures


def pictures_in_markdown(store: Store, recommendations: Sequence[Row]) -> str:
    """The heat map and the dose response of every recommendation, as inline images: Prefect's UI shows them."""
    return "\n\n".join(
        f"**{row['concept']} on {row['model']}.** {caption}\n\n![{caption}]({data_uri(chart)})"
        for row in recommendations
        for chart, caption in charts(store, row)[:2]
    )


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
