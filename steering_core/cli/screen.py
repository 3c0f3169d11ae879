"""`steer screen DATA --model M --vectors a,b`: what a data set would push a model towards, row by row."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from steering_core.cli.shared.named_vectors import names_in
from steering_core.cli.shared.options import StoreOption
from steering_core.foundation.bounds import MAX_NEW_TOKENS, MAX_SHOWN
from steering_core.models import open_model
from steering_core.monitors.answers import read_answers
from steering_core.monitors.screen import screen
from steering_core.reports.printing import Format, console, print_rows, progress_bars
from steering_core.store import Store, default_store
from steering_core.vectors import library

app = typer.Typer()
Own = Annotated[
    int, typer.Option(min=0, max=MAX_NEW_TOKENS, help="Tokens of the model's own answers; 0 compares with none.")
]
_BINS, _BAR = 12, 50  # of the histogram: bars, and the characters of the longest
_SHOWN = ["rank", "ordinal", "projection", "own_projection", "difference", "prompt", "answer"]
_LETTERS = 60  # of a prompt or an answer that a table shows


@app.command("screen")
def screen_command(
    data: Annotated[Path, typer.Argument(help="JSON, JSON lines, CSV or Parquet: messages, or prompts and answers.")],
    model: Annotated[str, typer.Option(help="The model that would be trained.")],
    vectors: Annotated[str, typer.Option(help="Vectors by name: a,b.")],
    own: Own = 64,
    prompt_column: Annotated[str | None, typer.Option(help="The column of prompts.")] = None,
    answer_column: Annotated[str | None, typer.Option(help="The column of answers.")] = None,
    ends: Annotated[int, typer.Option(min=0, max=MAX_SHOWN, help="Rows to show at either end.")] = 5,
    store: StoreOption = None,
    form: Annotated[Format, typer.Option("--format", help="JSON and CSV print every row, ranked.")] = Format.TABLE,
) -> None:
    """Rank a data set's answers along vectors: each answer, and what it has beyond the model's own answer."""
    answers = read_answers(data, prompt_column, answer_column)
    opened = Store.existing(store or default_store())
    names = list(dict.fromkeys(names_in(vectors, "--vectors")))
    with open_model(model) as network, progress_bars() as notify:
        found = [library.find(opened, name, network.identity) for name in names]
        done = screen(network, opened, answers, found, own, lambda n, total: notify("screened", n, total))
    ranked = {
        name: opened.rows(
            "SELECT * EXCLUDE (model_id) FROM screened WHERE dataset_id = ? AND vector_id = ? AND own_tokens = ? "
            "ORDER BY rank, ordinal",
            [done.dataset_id, vector.vector_id, own],
        )
        for name, vector in zip(names, found, strict=True)
    }
    if form is not Format.TABLE:
        every = [{"vector": name, **row} for name, rows in ranked.items() for row in rows]
        print_rows(every, ["vector", *_SHOWN], form)
        return
    for name, rows in ranked.items():
        _print(name, rows, ends)
    said = f"{done.work.computed} rows measured, {done.work.reused} reused"
    said += f", {answers.left_out} without an answer" if answers.left_out else ""
    said += f", {done.too_long} beyond the model's context" if done.too_long else ""
    console().print(said)


def _print(name: str, rows: list[dict[str, Any]], ends: int) -> None:
    """A histogram of the values by which rows are ranked, and the rows at its ends."""
    values = np.array([_value(row) for row in rows])
    what = "difference from the model's own answers" if rows and rows[0]["difference"] is not None else "projection"
    console().print(f"\n{name}: {what}, {len(rows)} rows")
    counts, edges = np.histogram(values, bins=_BINS)
    for count, (low, high) in zip(counts, pairwise(edges), strict=True):
        bar = "█" * round(_BAR * count / max(counts.max(), 1))
        console().print(f"{low:9.2f} .. {high:9.2f} {bar} {count}", highlight=False)
    shown = rows[:ends] + rows[max(ends, len(rows) - ends) :]
    print_rows([{**row, **{key: _short(row[key]) for key in ("prompt", "answer")}} for row in shown], _SHOWN)


def _value(row: dict[str, Any]) -> float:
    return float(row["projection"] if row["difference"] is None else row["difference"])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"
