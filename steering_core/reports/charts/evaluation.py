"""The evaluation's charts. Each takes the rows of the named query that its docstring names.

The heat map and the dose response are the explorer's: `steering_core.reports.charts.explorer`.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from steering_core.reports.charts.render import EFFECT, Drawing, chart_of, marks_of
from steering_core.statistics.intervals import LEVEL
from steering_core.statistics.metric_names import unit_of
from steering_core.store import Row, TableRows

LINE, CHARACTER = 84, 6.7  # characters a line, and the points that one takes
CANDIDATE, CONTROL, RULE, INTERVAL = "#d9730d", "#8a8f98", "#b3261e", "#5b3a1a"
_SHAPES = {
    "candidate": "circle",
    "mirrored": "square",
    "random": "triangle-up",
    "shuffled": "diamond",
    "prompt": "triangle-down",
    "none": "cross",
}


def frontier(rows: TableRows, max_perplexity_ratio: float) -> Drawing:
    """Effect against damage of every text-bearing cell, with the bound. Query: frontier_of_concept."""
    there = {row["kind"] for row in rows}
    kinds = [kind for kind in _SHAPES if kind in there]
    points = (
        chart_of(rows)
        .mark_point(filled=True, size=90, opacity=0.85)
        .encode(
            x=alt.X(
                "perplexity_ratio:Q",
                title="perplexity ratio (damage)",
                scale=alt.Scale(type="log", nice=False, padding=20),
            ),
            y=alt.Y("effect:Q", title=EFFECT),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=kinds, range=_colours(kinds))),
            shape=alt.Shape(
                "kind:N", title=None, scale=alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds])
            ),
            tooltip=["kind:N", "method:N", "layers:N", *_numbers("dose", "effect", "perplexity_ratio", "kl")],
        )
    )
    bound = chart_of([{"bound": max_perplexity_ratio, "said": f"bound {max_perplexity_ratio:g}"}]).encode(x="bound:Q")
    rule = bound.mark_rule(color=RULE, strokeDash=[4, 3])
    said = bound.mark_text(color=RULE, align="right", baseline="top", dx=-4).encode(y=alt.value(2), text="said:N")
    return alt.layer(rule, said, points).properties(height=260)


def layer_profile(rows: TableRows) -> Drawing:
    """By layer, the largest effect within the damage bounds with its interval, and the largest of a control.

    Query: layer_profile.
    """
    said = [{**row, "bar": "candidate", "tick": "best control"} for row in rows]
    one_method = len({row["method"] for row in rows}) == 1
    base = chart_of(said).encode(x=alt.X("layer:O", title="layer", axis=_flat()))
    if not one_method:  # of one method alone Vega warns
        base = base.encode(xOffset=alt.XOffset("method:N"))
    y = alt.Y("effect:Q", title=f"effect at equal damage ({unit_of('effect')})")
    tooltip = ["method:N", "layer:O", *_numbers("dose", "effect", "control_effect", "kl")]
    colour = alt.Color("bar:N", **marks_of({"candidate": CANDIDATE})) if one_method else alt.Color("method:N")
    bars = base.mark_bar(opacity=0.85).encode(y=y, color=colour, tooltip=tooltip)
    grey = alt.Stroke("tick:N", **marks_of({"best control": CONTROL}))
    marks = base.mark_tick(thickness=3, color=CONTROL).encode(y="control_effect:Q", stroke=grey, tooltip=tooltip)
    controlled = any(row["control_effect"] is not None for row in rows)  # without one Vega warns of an empty scale
    ends = base.mark_rule(color=INTERVAL, strokeWidth=1.5)  # of the same rows: a filter's own would sort layers anew
    interval = ends.encode(y=alt.Y("effect_low:Q"), y2="effect_high:Q", tooltip=tooltip)
    known = any(row.get("effect_low") is not None for row in rows)
    return alt.layer(bars, *[interval] * known, *[marks] * controlled).properties(height=220)


def stability(rows: TableRows) -> Drawing:
    """Cosine of a direction with itself from the other half of the pairs, by layer. Query: stability_of_concept."""
    base = chart_of(rows).encode(
        x=alt.X("layer:Q", title="layer", axis=alt.Axis(tickMinStep=1)),
        color=alt.Color("method:N", legend=alt.Legend(title=None, symbolOpacity=1)),
    )
    y = alt.Y("split_half:Q", title="split-half cosine", scale=alt.Scale(domain=[0, 1], clamp=True))
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("split_half_low:Q"), y2="split_half_high:Q")
    tooltip = ["method:N", "layer:O", *_numbers("split_half", "auc_test")]
    return alt.layer(band, base.mark_line(point=True).encode(y=y, tooltip=tooltip)).properties(height=220)


def variants(rows: TableRows) -> Drawing:
    """Dose that each seed, and each half of the pairs, recommends, by verdict. Query: variants_of_concept."""
    base = chart_of(rows)
    x = alt.X("dose:Q", title="recommended dose", scale=alt.Scale(zero=True))
    tooltip = ["variant:N", "verdict:N", "layers:N", *_numbers("dose", "effect", "p_value")]
    points = base.mark_point(filled=True, size=90, opacity=0.85)
    return points.encode(
        x=x,
        y=alt.Y("variant:N", title=None),
        color=alt.Color("verdict:N", title=None),
        shape="layers:N",
        tooltip=tooltip,
    )


def side_effects(rows: TableRows) -> Drawing:
    """Heat map of effects on items, rows steered and columns measured. Query: side_effects_of_model."""
    bound = max((abs(row["effect"]) for row in rows), default=1.0) or 1.0
    marked = [{**row, "star": "★" if _sure(row) else ""} for row in rows]
    order = list(dict.fromkeys(row["row"] for row in rows))
    base = chart_of(marked).encode(
        x=alt.X("measured:N", title="measured on the items of", axis=alt.Axis(labelAngle=-40, labelLimit=130)),
        y=alt.Y("row:N", title="steered", sort=order, axis=alt.Axis(labelLimit=200)),
    )
    tiles = base.mark_rect(cornerRadius=3).encode(
        color=alt.Color(
            "effect:Q",
            title=EFFECT,
            scale=alt.Scale(domain=[-bound, bound], domainMid=0),
            legend=alt.Legend(orient="top", direction="horizontal", gradientLength=160),
        ),
        stroke=alt.condition("datum.own", alt.value("currentColor"), alt.value(None)),
        tooltip=[
            *("steered:N", "control:N", "measured:N"),
            *_numbers("effect", "effect_low", "effect_high", "p_corrected"),
        ],
    )
    stars = base.mark_text(fontSize=11).encode(text="star:N")
    return alt.layer(tiles, stars).properties(width="container", height=max(3, len(order)) * 24)


def _sure(row: Row) -> bool:
    return row["p_corrected"] is not None and row["p_corrected"] <= 1 - LEVEL


def token_projection(rows: TableRows) -> Drawing:
    """Texts whose tokens are coloured by their projection on a direction, a block a text. Query: token_projections."""
    placed = _laid_out(rows)
    bound = max((abs(row["projection"]) for row in rows), default=1.0) or 1.0
    lines = 1 + max((row["line"] for row in placed), default=0)
    y = alt.Y("line:O", axis=None, scale=alt.Scale(domain=list(range(lines)), paddingInner=0.1))
    base = chart_of(placed)
    columns = alt.Scale(domain=[0, LINE], nice=False)
    x = alt.X("start:Q", axis=None, scale=columns)
    colour = alt.Color("projection:Q", title="projection", scale=alt.Scale(domain=[-bound, bound], domainMid=0))
    tiles = base.transform_filter("datum.place >= 0").mark_rect()
    tiles = tiles.encode(x=x, x2="end:Q", y=y, color=colour, tooltip=["place:O", "token:N", *_numbers("projection")])
    written = base.mark_text(align="left", baseline="middle", font="monospace", fontSize=11)
    written = written.encode(x=alt.X("word:Q", axis=None, scale=columns), y=y, text="token:N", opacity=alt.value(0.9))
    return alt.layer(tiles, written).properties(width=LINE * CHARACTER, height=18 * lines)


def _laid_out(rows: TableRows) -> list[dict[str, Any]]:
    """The rows with the line and the columns that each token takes, after a heading (place -1) for each text.

    `word` is where it begins after its spaces, which an SVG would swallow.
    """
    placed: list[dict[str, Any]] = []
    line, column, kind = -1, 0, None
    for row in rows:
        shown = _printable(row["token"])
        if row["kind"] != kind:
            kind, line, column = row["kind"], line + 2, 0
            placed.append({"place": -1, "token": f"{kind}:", "line": line - 1, "start": 0, "end": 0, "word": 0})
        if column and column + len(shown) > LINE:
            line, column = line + 1, 0
        end, word = column + len(shown), column + len(shown) - len(shown.lstrip())
        placed.append({**row, "token": shown, "line": line, "start": column, "end": end, "word": word})
        column = end
    return placed


def _printable(token: str) -> str:
    """The token as a picture can hold it: vl-convert ends the whole process over what XML does not allow."""
    visible = token.replace("\n", "↵").replace("\t", "→")
    return "".join(character if character.isprintable() else "·" for character in visible) or "·"


def _colours(kinds: Sequence[str]) -> list[str]:
    named = {"candidate": CANDIDATE, "mirrored": "#b8860b", "random": CONTROL, "shuffled": "#5b6675"}
    named["prompt"] = "#2f6fb2"
    return [named.get(kind, "#111111") for kind in kinds]


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".3f") for name in names]


def _flat() -> alt.Axis:
    return alt.Axis(labelAngle=0)
