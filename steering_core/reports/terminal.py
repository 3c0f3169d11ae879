"""The report of a run as text, read back from the store through DuckDB."""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from steering_core.reports.judges import untrusted_judges
from steering_core.reports.next_steps import leads_to, next_command
from steering_core.reports.printing import console, table
from steering_core.reports.verdict_words import verdict_in_words
from steering_core.store import Store
from steering_core.store.commands import at_store
from steering_core.store.queries import named_query

NARROW = 110  # columns below which texts stand under each other


def print_report(store: Store, report: dict[str, Any]) -> None:
    """Print leaderboard, sample texts, where the store is and what to type next."""
    out = console()
    for recommendation in report["recommendations"]:
        out.print(_report_of(store, recommendation))
        if why := leads_to(recommendation):
            out.print(why)
        out.print(next_command(store, recommendation), soft_wrap=True)  # a command that is broken cannot be copied
    out.print(_counts(report["stages"]))
    out.print(_next_steps(store, report), soft_wrap=True)


def _report_of(store: Store, recommendation: dict[str, Any]) -> RenderableType:
    ids = [recommendation["model_id"], recommendation["concept_id"]]
    everything = store.rows(named_query("leaderboard_of_concept"), ids)
    board = [r for r in everything if r["split"] == "test" or r["perplexity_ratio"] is not None] or everything
    texts = store.rows(named_query("side_by_side"), [recommendation["recommendation_id"]])
    title = f"{recommendation['concept']} on {recommendation['model']}"
    sets = store.rows(named_query("capabilities_of_recommendation"), [recommendation["recommendation_id"]])
    verdict = Panel(verdict_in_words(recommendation), title=Text(f"Recommendation: {title}"), title_align="left")
    above = not console().is_terminal  # a terminal shows the end first, a file or a pager the beginning
    return Group(
        *([verdict] if above else []),
        table(board, list(board[0]), f"Leaderboard: {title}"),
        *([_side_by_side(texts, recommendation["dose"])] if texts else []),
        *([table(sets, list(sets[0]), f"Capabilities: {title}")] if sets else []),
        *([] if above else [verdict]),
        *map(Text, untrusted_judges(store, recommendation["concept_id"])),
    )


def _side_by_side(texts: list[dict[str, Any]], dose: float | None) -> RenderableType:
    headings = ("mirrored", "steered") if dose is None else (f"dose {-dose:+.2f}", f"dose {dose:+.2f}")
    columns = {"prompt": "prompt", "mirrored": headings[0], "base": "base", "steered": headings[1]}
    if console().width < NARROW:
        lines = [
            Text.assemble((f"{heading}: ", "bold"), row[name] or "")
            for row in texts
            for name, heading in columns.items()
        ]
        return Group(Text("Base and steered text", style="bold"), *lines)
    drawn = Table(title="Base and steered text", title_justify="left", title_style="bold", show_lines=True)
    for name, heading in columns.items():
        drawn.add_column(heading, overflow="fold", ratio=1 if name == "prompt" else 2)
    for row in texts:
        drawn.add_row(*(Text(row[name] or "") for name in columns))
    return drawn


def _counts(stages: dict[str, dict[str, Any]]) -> RenderableType:
    rows = [{"stage": stage, **counts} for stage, counts in stages.items()]
    return table(rows, list(rows[0]), "What was computed")


def _next_steps(store: Store, report: dict[str, Any]) -> Text:
    """What to type next, here: nothing that is not in this folder."""
    query = (
        f"SELECT control, layers, dose, effect FROM leaderboard WHERE {_of_concept(store, report)} AND split = 'test' "
        "ORDER BY effect DESC"
    )
    commands = {
        f'steer sql "{query}"': "",
        "steer report": "verdicts, pictures and texts as one page",
        "steer explore": "the same to click through, and to steer with",
        "steer explain dose effect control": "what the words mean",
    }
    lines = [_explained(at_store(command, store.root), about) for command, about in commands.items()]
    if Path("Makefile").is_file() and Path("prefect.yaml").is_file():
        usual = at_store("steer report", store.root) == "steer report"
        there = "" if usual else f"STEERFLOW_STORE={shlex.quote(str(store.root))} "
        lines.append(f"  {there}make up, then: .venv/bin/prefect deployment run discover-vectors")
    return Text(f"\nThe store is {store.root}. Next:\n" + "\n".join(lines) + "\n")


def _of_concept(store: Store, report: dict[str, Any]) -> str:
    """The condition of a query for the first recommendation's concept: its key where its name has several contents."""
    if not report["recommendations"]:
        return "concept = 'sentiment'"
    name, concept_id = (report["recommendations"][0][column] for column in ("concept", "concept_id"))
    contents = store.rows("SELECT concept_id FROM raw.concepts WHERE name = ?", [name])
    return f"concept_id = '{concept_id}'" if len(contents) > 1 else f"concept = '{name}'"


def _explained(command: str, about: str) -> str:
    """A command with a comment on what it gives: behind it, or, where both together are too wide, above it."""
    beside = f"  {command:<48}# {about}" if about else f"  {command}"
    return beside if not about or len(beside) <= console().width else f"  # {about}\n  {command}"
