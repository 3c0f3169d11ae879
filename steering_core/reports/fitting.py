"""Tables that fit: which columns a width has room for, ids as short as they stay unique, records where it is narrow."""

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steering_core.foundation.terminal import harmless
from steering_core.store import TableRows

# Columns in the order in which they matter; those that are not named here follow, as they come.
FIRST = (
    *("what", "quality", "value", "check", "level", "message", "remedy", "name"),
    *("concept", "outcome", "verdict", "split", "method", "layers", "dose", "control", "effect"),
    *("vector_id", "one", "other", "cosine", "layer", "model"),
    *("regression", "over_controls", "interval", "p_value", "auc_test", "alpha", "kl", "perplexity_ratio"),
    *("error", "prompt"),
)
KEY = re.compile(r"[0-9a-f]{20}")
MOST_SHOWN = 20_000  # letters of a value; rich takes a second for some 200,000
PROSE = 32  # letters from which a value is wrapped, and its column may be narrow
LEAST_PROSE = 24
LEAST_ID = 6  # digits; the library takes no fewer
FEW = 3  # rows that become records rather than lose a column
EDGE, GAP = 1, 3  # of a table, and between its columns


def fitted(rows: TableRows, names: Sequence[str], width: int | None, title: str | None = None) -> RenderableType:
    """The rows as a table of at most `width`, or as it is without one; a line says which columns were left out.

    Values that all rows share stand above a table that is too wide, then columns that matter least go. A few rows, and
    rows of which not even two columns fit, become records: a line a column.
    """
    cells = {name: _column(name, rows) for name in names}
    if width is None or _natural(names, cells) <= width:
        return _table(rows, names, cells, title)
    shared = _shared(names, cells) if len(rows) > 1 else []
    above = " · ".join(f"{name} {cells[name][0]}" for name in shared if cells[name][0])
    left = [name for name in names if name not in shared and any(cells[name])]
    kept = _kept(left, cells, width)
    if len(kept) < len(left) and (len(rows) <= FEW or len(kept) < 2):
        return _records(rows, [name for name in names if any(cells[name])], cells, title, width)
    gone = [name for name in left if name not in kept]
    parts: list[RenderableType] = [_table(rows, kept, cells, title)]
    if above:
        parts.append(Text(f"All rows: {above}"))
    if gone:
        parts.append(Text(f"Left out for want of room: {', '.join(gone)}. --wide shows them.", style="dim"))
    return Group(*parts)


def shown(value: Any) -> str:
    """One value, short enough for a table."""
    if value is None or value == []:
        return ""
    if isinstance(value, float):
        return _decimals(value)
    if isinstance(value, list) and len(value) > 4:
        return f"[{', '.join(shown(v) for v in value[:3])}, … {len(value)} values]"
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    text = str(value)
    if len(text) > MOST_SHOWN:
        text = f"{text[:MOST_SHOWN]} … ({len(text):,} letters)"
    return harmless(text)


def _decimals(value: float) -> str:
    """The value to three decimals, or in scientific notation where these would be 0.

    It is rounded to six digits first, so that a strength that was computed in two ways is shown alike.
    """
    if value and abs(value) < 0.0005:
        return f"{value:.1e}"
    if not 0 < abs(value) < 1000:
        return f"{value + 0.0:.3f}"  # never -0.000
    return str(Decimal(f"{value:.6g}").quantize(Decimal("0.001"), ROUND_HALF_UP))


def _column(name: str, rows: TableRows) -> list[str]:
    texts = [shown(row[name]) for row in rows]
    keys = {text for text in texts if KEY.fullmatch(text)}
    if not keys:
        return texts
    digits = next(n for n in range(LEAST_ID, 21) if len({key[:n] for key in keys}) == len(keys))
    return [text[:digits] if text in keys else text for text in texts]


def _is_prose(texts: Sequence[str]) -> bool:
    return any(cell_len(text) > PROSE or "\n" in text for text in texts)


def _least(name: str, texts: Sequence[str]) -> int:
    """The width that a column needs, so that no number, name or id is broken."""
    longest = max((cell_len(text) for text in texts), default=0)
    return max(cell_len(name), min(longest, LEAST_PROSE) if _is_prose(texts) else longest)


def _whole(name: str, texts: Sequence[str]) -> int:
    return max(cell_len(line) for text in (name, *texts) for line in text.split("\n"))


def _natural(names: Sequence[str], cells: Mapping[str, Sequence[str]]) -> int:
    return EDGE + sum(_whole(name, cells[name]) + GAP for name in names)


def _shared(names: Sequence[str], cells: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns that say one thing of all rows, unless that would leave no column."""
    same = [name for name in names if len(set(cells[name])) == 1 and not _is_prose(cells[name])]
    return same if len(same) < len(names) else []


def _kept(names: Sequence[str], cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The columns that fit, those that matter most first; in the order in which they came."""
    order = {name: place for place, name in enumerate(FIRST)}
    room, kept = width - EDGE, []
    for name in sorted(names, key=lambda name: (order.get(name, len(FIRST)), names.index(name))):
        needs = _least(name, cells[name]) + GAP
        if needs > room:
            break
        room -= needs
        kept.append(name)
    return [name for name in names if name in kept]


def _table(rows: TableRows, names: Sequence[str], cells: Mapping[str, Sequence[str]], title: str | None) -> Table:
    drawn = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in names:
        numeric = any(isinstance(row[name], int | float) for row in rows)
        prose = _is_prose(cells[name])
        least = _least(name, cells[name])
        drawn.add_column(
            name, justify="right" if numeric else "left", overflow="fold", no_wrap=not prose, min_width=least
        )
    for i in range(len(rows)):
        drawn.add_row(*(Text(cells[name][i]) for name in names))
    return drawn


def _records(
    rows: TableRows, names: Sequence[str], cells: Mapping[str, Sequence[str]], title: str | None, width: int
) -> RenderableType:
    """Each row by itself, a line a column."""
    parts: list[RenderableType] = [Text(title, style="bold")] if title else []
    label = max(cell_len(name) for name in names)
    for i in range(len(rows)):
        record = Table.grid(padding=(0, 2))
        record.add_column(style="bold", no_wrap=True, min_width=min(label, width // 2))
        record.add_column(overflow="fold")
        for name in names:
            if cells[name][i]:
                record.add_row(name, Text(cells[name][i]))
        parts += [Text("─" * min(width, 40), style="dim"), record] if i else [record]
    return Group(*parts)
