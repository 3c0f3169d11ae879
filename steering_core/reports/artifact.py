"""The report as Markdown for Prefect's page: verdict, pictures and texts, then a table that fits beside its menu.

The page leaves some 690 pixels at a window of 1280, and cuts off what a table has beyond that: cells do not wrap. So
texts and errors are paragraphs, and tables have few columns, the narrow ones that matter most first.
"""

from collections.abc import Sequence
from typing import Any

from steering_core.reports.charts.render import data_uri
from steering_core.reports.judges import untrusted_judges
from steering_core.reports.markdown import markdown_code, markdown_quote, markdown_table, markdown_text
from steering_core.reports.next_steps import leads_to, next_command
from steering_core.reports.page import charts
from steering_core.reports.printing import shown
from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers
from steering_core.store import Row, Store
from steering_core.store.queries import named_query

PICTURES = ("layer_by_dose", "dose_response", "side_effects", "token_projection")


def markdown_report(store: Store, report: dict[str, Any]) -> str:
    """The report of a run: each recommendation in turn, what failed, and what was computed."""
    parts = [part for recommendation in report["recommendations"] for part in _recommendation(store, recommendation)]
    if failures := report.get("failures"):
        parts += ["## What failed", *failed_cells(failures)]
    parts += ["## What was computed", markdown_table([{"stage": s, **c} for s, c in report["stages"].items()])]
    return "\n\n".join(parts)


def _recommendation(store: Store, row: Row) -> list[str]:
    texts = store.rows(named_query("side_by_side"), [row["recommendation_id"]])
    board = store.rows(named_query("leaderboard_of_concept"), [row["model_id"], row["concept_id"]])
    sets = store.rows(named_query("capabilities_of_recommendation"), [row["recommendation_id"]])
    return [
        f"## {markdown_text(row['concept'])} on {markdown_text(row['model'])}",
        f"**{markdown_text(plain_verdict(row))}**",
        markdown_text(verdict_in_numbers(row)),
        *filter(None, [leads_to(row)]),
        markdown_code(next_command(store, row)),
        *map(markdown_text, untrusted_judges(store, row["concept_id"])),
        *_pictures(store, row),
        "### Base and steered text",
        *(part for text in texts for part in _texts(text, row["dose"])),
        *(["### Capabilities", markdown_table([_set(line) for line in sets])] if sets else []),
        "### On held-out test items, with controls",
        markdown_table([_candidate(line) for line in board if line["split"] == "test"]),
    ]


def _pictures(store: Store, row: Row) -> list[str]:
    """The pictures that say most, as inline images, each with its caption."""
    drawn = charts(store, row, PICTURES)
    return [f"{one.caption}\n\n![{one.caption}]({data_uri(one.drawing)})" for one in drawn]


def failed_cells(failures: Sequence[Row]) -> list[str]:
    """Each cell that failed, its error below it as a paragraph."""
    return [
        part
        for failed in failures
        for part in (
            f"**{markdown_text(failed['concept'])} on {markdown_text(failed['model'])}**",
            markdown_quote(failed["error"]),
        )
    ]


def _texts(row: Row, dose: float | None) -> list[str]:
    """A prompt as a heading, and below it what the model says without the vector, with it, and with its opposite."""
    strength = "" if dose is None else f", dose {dose:+.2f}"
    opposite = "" if dose is None else f", dose {-dose:+.2f}"
    kinds = {"base": "Unsteered", "steered": f"Steered{strength}", "mirrored": f"The other way{opposite}"}
    said = [part for kind, name in kinds.items() if row[kind] is not None for part in (name, markdown_quote(row[kind]))]
    return [f"#### {markdown_text(row['prompt'])}", *said]


def _candidate(line: Row) -> Row:
    """A line of the leaderboard in five narrow columns; the others stand in `steer sql "FROM leaderboard"`."""
    effect = "" if line["effect"] is None else f"{line['effect']:.3f} {line['interval'] or ''}".strip()
    what = line["control"] or f"{line['method']} at {line['layers']}"
    return {"what": what, "effect": effect} | {
        "dose": line["dose"],
        "kl": line["kl"],
        "perplexity": "" if line["perplexity_ratio"] is None else f"{shown(line['perplexity_ratio'])} times",
    }


def _set(line: Row) -> Row:
    """A capability set in five narrow columns; the others stand in `steer sql "FROM capabilities"`."""
    change = f"{line['change']:+.3f} {line['interval'] or ''}".strip()
    return {"set": line["set"], "n": line["n"], "unsteered": line["unsteered"], "steered": line["steered"]} | {
        "change": change
    }
