"""The report of a run as text, read back from the store through DuckDB."""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from steering_core.evaluation.costs import verdict_with_costs
from steering_core.evaluation.verdicts import WEAK, WORKS
from steering_core.reports.judges import untrusted_judges
from steering_core.reports.printing import console, table
from steering_core.store import Row, Store
from steering_core.store.opening import DEFAULT_STORE
from steering_core.store.queries import named_query

NARROW = 110  # columns below which texts stand under each other


def print_report(store: Store, report: dict[str, Any]) -> None:
    """Print leaderboard, sample texts, where the store is and what to type next."""
    out = console()
    for recommendation in report["recommendations"]:
        out.print(_report_of(store, recommendation))
    out.print(_counts(report["stages"]))
    out.print(_next_steps(store, report))


def _report_of(store: Store, recommendation: dict[str, Any]) -> RenderableType:
    ids = [recommendation["model_id"], recommendation["concept_id"]]
    everything = store.rows(named_query("leaderboard_of_concept"), ids)
    board = [r for r in everything if r["split"] == "test" or r["perplexity_ratio"] is not None] or everything
    texts = store.rows(named_query("side_by_side"), [recommendation["recommendation_id"]])
    title = f"{recommendation['concept']} on {recommendation['model']}"
    sets = store.rows(named_query("capabilities_of_recommendation"), [recommendation["recommendation_id"]])
    verdict = Panel(verdict_in_words(recommendation), title=f"Recommendation: {title}", title_align="left")
    above = not console().is_terminal  # a terminal shows the end first, a file or a pager the beginning
    return Group(
        *([verdict] if above else []),
        table(board, list(board[0]), f"Leaderboard: {title}"),
        _side_by_side(texts, recommendation["dose"]),
        *([table(sets, list(sets[0]), f"Capabilities: {title}")] if sets else []),
        *([] if above else [verdict]),
        *map(Text, untrusted_judges(store, recommendation["concept_id"])),
        Text(next_command(store, recommendation)),
    )


FAR = 1.2  # times the expected perplexity ratio, from where that of a few texts is a surprise


def verdict_in_words(row: Row) -> Text:
    """A recommendation in two sentences, the verdict first."""
    if row["effect"] is None:
        return Text(f"{verdict_with_costs(row)}: {row['reason']}")
    interval = f" [{row['effect_low']:.3f}, {row['effect_high']:.3f}]" if row["effect_low"] is not None else ""
    return Text.assemble(
        (f"{verdict_with_costs(row)}: ", "bold"),
        f"{row['method']} at {_place_and_strength(row)} moves the propensity of {row['n']} held-out test items by "
        f"{row['effect']:+.3f} nats per token{interval}; {row['reason']}.{_costs(row)}",
    )


def _costs(row: Row) -> str:
    """What else a reader should know, each where it was measured: perplexity, how strong is safe, what is missing."""
    said = ""
    if row["perplexity_ratio"] is not None:
        said += f" Its test texts are {row['perplexity_ratio']:.2f} times as perplexing to the untouched model."
        if row.get("expected_ratio") and row["perplexity_ratio"] > FAR * row["expected_ratio"]:
            said += (
                f" By its damage {row['expected_ratio']:.2f} times is to be expected of other texts, which is what the "
                "verdict goes by (expected_ratio)."
            )
    if row.get("safe_dose") is not None:
        dose = f"{row['safe_dose']:.2f} [{row['dose_low']:.2f}, {row['dose_high']:.2f}]"
        said += f" By the damage on validation it is expected to stay within the spec's bound up to a dose of {dose}."
    if row.get("ties"):
        said += f" As good on validation: {len(row['ties'])} more (column ties)."
    return said + (f" {row['n_missing']} gave nothing finite to measure." if row["n_missing"] else "")


def _place_and_strength(row: Row) -> str:
    """`layer 21, alpha 2.95 (dose 0.30)`, or `layers 15 and 18 together (dose 0.30)`."""
    layers = " and ".join(str(layer) for layer in sorted(row["layers"]))
    strength = f", alpha {row['alpha']:.3g}" if row["alpha"] is not None else " together"
    dose = f" (dose {row['dose']:.2f})" if row["dose"] is not None else ""
    return f"layer{'s' * (len(row['layers']) > 1)} {layers}{strength}{dose}"


def command(row: Row) -> str:
    """The command that steers as a recommendation does: by the concept's name, where that says all of it."""
    head = f"steer generate {shlex.quote(row['model'])} 'PROMPT'"
    keys = [f"*{vector_id}" for vector_id in row.get("vector_ids") or []]
    terms = row["intervention"].removesuffix(" @generation").split(" + ")
    named = bool(keys) and len(terms) == len(keys) and all(t.endswith(k) for t, k in zip(terms, keys, strict=True))
    named = named and "(" not in row["intervention"] and row.get("concept") is not None
    return f"{head} --vector {row['concept']}" if named else f"{head} --steer {shlex.quote(row['intervention'])}"


def next_command(store: Store, row: Row) -> str:
    """What helps after a verdict: to steer, or, where nothing was found that steers, to see what the concept lacks."""
    if row["verdict"] in (WORKS, WEAK):
        return f"{command(row)}{_at(store)}"
    return f"steer concepts lint {shlex.quote(row['concept'])}"


def _at(store: Store) -> str:
    """The option that names a store, but for the one that every command takes in this folder without any setting."""
    return "" if str(store.root) == str(Path(DEFAULT_STORE).resolve()) else f" --store {shlex.quote(str(store.root))}"


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
    recommended = report["recommendations"][0]["concept"] if report["recommendations"] else "sentiment"
    at = _at(store)
    lines = [
        f"  steer sql \"SELECT control, layer, dose, effect FROM leaderboard WHERE concept = '{recommended}'\"{at}",
        f"  steer report{at}                                # verdicts, pictures and texts as one page",
        "  steer explain dose effect control             # what the words mean",
    ]
    if Path("Makefile").is_file() and Path("prefect.yaml").is_file():
        there = f"STEERFLOW_STORE={shlex.quote(str(store.root))} " if at else ""
        lines.append(f"  {there}make up, then: .venv/bin/prefect deployment run discover-vectors")
    return Text(f"\nThe store is {store.root}. Next:\n" + "\n".join(lines) + "\n")
