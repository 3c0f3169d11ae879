"""What a sweep's artifact says: when it ran, what became of every cell, since when it changed, and where to read more.

The page leaves some 690 pixels and cuts off what a table has beyond that, so the table has six columns and the rest are
paragraphs and lists.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from steering_core.foundation.validation import counted
from steering_core.reports.artifact import failed_cells
from steering_core.reports.markdown import markdown_quote, markdown_table, markdown_text
from steering_core.store import Row, TableRows

NAMED = 3  # cells that are named where they were compared with another sweep than the others
_SOON = 90  # seconds, and minutes, that are not yet told in the next larger unit
_WHY = "Flow run encountered an exception: "


@dataclass(frozen=True)
class Ended:
    """A sweep whose flow runs have ended: when it began, those of its models, the artifacts `report` that they have."""

    began: datetime.datetime
    runs: Sequence[FlowRun]
    reports: Mapping[UUID, UUID] = field(default_factory=dict)

    @property
    def lost(self) -> list[FlowRun]:
        """The flow runs that did not complete."""
        return [run for run in self.runs if run.state and not run.state.is_completed()]


def sweep_text(sweep: str, wanted: int, cells: TableRows, ended: Ended) -> str:
    """The artifact of a sweep of `wanted` cells."""
    now = datetime.datetime.now(datetime.UTC)
    parts = [f"# Sweep {markdown_text(sweep)}", headline(cells, wanted)]
    parts += [markdown_text(f"It began on {moment(ended.began)} and took {lasted(now - ended.began)}.")]
    parts += [markdown_table([line(cell) for cell in cells])]
    if cells:
        parts += ["## What each change is measured from", "\n".join(f"- {one}" for one in compared(cells))]
    if failed := [cell for cell in cells if cell["error"]]:
        parts += ["## What failed", *failed_cells(failed)]
    if ended.lost:
        parts += ["## Flow runs that did not complete"]
        for run in ended.lost:
            parts += [f"**{markdown_text(f'{run.name}: {run.state_name}')}**", markdown_quote(message(run))]
    if again := [one for one in map(restarted, ended.runs) if one]:
        parts += ["## Begun again after a death", *map(markdown_text, again)]
    parts += ["## Flow runs", "\n".join(f"- {linked(run, ended.reports.get(run.id))}" for run in ended.runs)]
    return "\n\n".join(parts)


def moment(at: datetime.datetime) -> str:
    """A time of day on its date, by this machine's clock: `Saturday, 28 November 2026 at 02:00 CET`."""
    return f"{(at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).astimezone():%A, %d %B %Y at %H:%M %Z}"


def lasted(span: datetime.timedelta) -> str:
    """How long something took: `40 s`, `12 min`, `5 h 3 min`."""
    seconds = round(span.total_seconds())
    minutes = round(seconds / 60)
    if seconds < _SOON:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < _SOON else f"{minutes // 60} h {minutes % 60} min"


def compared(cells: TableRows) -> list[str]:
    """Which earlier sweep the changes are measured from, and when that was: the most cells' first, the others named."""
    since: dict[tuple[str, datetime.datetime] | None, list[Row]] = {}
    for cell in cells:
        before = cell["previous_sweep"]
        since.setdefault((before, cell["previous_sweep_at"]) if before else None, []).append(cell)
    lines = []
    for n, (before, of) in enumerate(sorted(since.items(), key=lambda each: -len(each[1]))):
        named = ", ".join(f"{cell['concept']} on {cell['model']}" for cell in of[:NAMED]) if n else ""
        more = f" and {len(of) - NAMED} more" if named and len(of) > NAMED else ""
        which = f"{counted(len(of), 'cell')}{f' ({named}{more})' if named else ''}"
        said = (
            f"the sweep {before[0]} of {moment(before[1])}"
            if before
            else "nothing: no earlier sweep of this spec completed it"
        )
        lines.append(markdown_text(f"{which}: {said}"))
    return lines


def linked(run: FlowRun, report: UUID | None) -> str:
    """A flow run in Markdown: its name as a link to its page, how and after what time it ended, and its report."""
    address, name = url_for("flow-run", obj_id=run.id), markdown_text(run.name)
    said = markdown_text(f": {run.state_name}, {lasted(run.total_run_time)}")
    if not address:
        return f"{name}{said}"
    there = f", [report]({address.partition('/runs/flow-run/')[0]}/artifacts/artifact/{report})" if report else ""
    return f"[{name}]({address}){said}{there}"


def restarted(run: FlowRun) -> str | None:
    """A sentence on a flow run that was begun more than once, since its process, worker or machine had died."""
    attempt = int((run.idempotency_key or "-0").rpartition("-")[2])
    n = attempt + max(run.run_count, 1)
    return f"{run.name} was begun {n} times; what was computed before each death was kept." if n > 1 else None


def message(run: FlowRun) -> str:
    """Why a flow run ended as it did, without Prefect's own words before it."""
    return (run.state.message or "").removeprefix(_WHY) if run.state else ""


def line(cell: Row) -> Row:
    """A cell in six columns; `steer runs last --wide` has all.

    What says most comes first and the longest name last, where the page cuts a table off.
    """
    effect = "" if cell["effect"] is None else f"{cell['effect']:.3f} {cell['interval'] or ''}"
    return {
        "regression": cell["regression"],
        "concept": cell["concept"],
        "outcome": cell["verdict"] or cell["outcome"],
        "effect": effect,
        "change": cell["change"],
        "model": cell["model"],
    }


def headline(cells: Sequence[Mapping[str, Any]], wanted: int) -> str:
    """The sweep in one line."""
    done = sum(cell["outcome"] == "completed" for cell in cells)
    work = sum(cell["verdict"] == "works" for cell in cells)
    worse = sum(cell["regression"] is not None for cell in cells)
    computed, reused = (sum(cell[what] for cell in cells) for what in ("computed", "reused"))
    return (
        f"**{done} of {wanted} cells completed**; {work} with the verdict *works*, {worse} regressed since the time "
        f"before; {computed} results computed, {reused} reused."
    )
