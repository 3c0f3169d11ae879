"""The report as Markdown for Prefect's page: verdict, pictures and texts, then a table that fits beside its menu."""

from typing import Any

from steering_core.reports.charts.render import data_uri
from steering_core.reports.judges import untrusted_judges
from steering_core.reports.markdown import markdown_code, markdown_table, markdown_text
from steering_core.reports.page import charts
from steering_core.reports.terminal import command, verdict_in_words
from steering_core.store import Row, Store
from steering_core.store.queries import named_query

PICTURES = ("layer_by_dose", "dose_response", "side_effects", "token_projection")


def markdown_report(store: Store, report: dict[str, Any]) -> str:
    """The report of a run: each recommendation in turn, what failed, and what was computed."""
    parts = [part for recommendation in report["recommendations"] for part in _recommendation(store, recommendation)]
    if failures := report.get("failures"):
        parts += ["## What failed", markdown_table(failures)]
    parts += ["## What was computed", markdown_table([{"stage": s, **c} for s, c in report["stages"].items()])]
    return "\n\n".join(parts)


def _recommendation(store: Store, row: Row) -> list[str]:
    texts = store.rows(named_query("side_by_side"), [row["recommendation_id"]])
    board = store.rows(named_query("leaderboard_of_concept"), [row["model_id"], row["concept_id"]])
    sets = store.rows(named_query("capabilities_of_recommendation"), [row["recommendation_id"]])
    return [
        f"## {markdown_text(row['concept'])} on {markdown_text(row['model'])}",
        f"**{markdown_text(verdict_in_words(row).plain)}**",
        markdown_code(command(row)),
        *map(markdown_text, untrusted_judges(store, row["concept_id"])),
        *_pictures(store, row),
        "### Base and steered text",
        markdown_table(texts),
        *(["### Capabilities", markdown_table(sets)] if sets else []),
        "### On held-out test items, with controls",
        markdown_table([_candidate(line) for line in board if line["split"] == "test"]),
    ]


def _pictures(store: Store, row: Row) -> list[str]:
    """The pictures that say most, as inline images, each with its caption."""
    drawn = charts(store, row)
    chosen = [drawn[name] for name in PICTURES if name in drawn]
    return [f"{one.caption}\n\n![{one.caption}]({data_uri(one.drawing)})" for one in chosen]


def _candidate(line: Row) -> Row:
    """A line of the leaderboard in six columns; those left out stand in `steer sql "FROM leaderboard"`."""
    steered = f"{line['method']} at {line['layers']}" if line["method"] else ""
    what = ", ".join(part for part in (line["control"], steered) if part)
    return {"what": what} | {name: line[name] for name in ("dose", "effect", "interval", "kl", "perplexity_ratio")}
