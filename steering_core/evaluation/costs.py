"""Costs: the capability sets on which a recommended vector surely loses more accuracy than a bound allows."""

from collections.abc import Sequence

from steering_core.store import Row


def costs_of(rows: Sequence[Row], most: float) -> list[str]:
    """Each set whose drop is surely beyond `most` (the upper end of its interval lies below -most), the worst first.

    `arithmetic -12 points [-19, -5]`: a point is a hundredth of the items.
    """
    beyond = [row for row in rows if row["ci_high"] < -most]
    return [_said(row) for row in sorted(beyond, key=lambda row: (row["change"], row["set"]))]


def _said(row: Row) -> str:
    change, low, high = (round(100 * row[name]) for name in ("change", "ci_low", "ci_high"))
    return f"{row['set']} {change:+d} points [{low:+d}, {high:+d}]"
