"""The explorer's charts. Each takes the rows of the named query that its docstring names; colours are the reader's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steering_core.reports.charts.evaluation import CANDIDATE
from steering_core.reports.charts.render import EFFECT, Drawing, chart_of, marks_of
from steering_core.store import TableRows


def layer_by_dose(rows: TableRows) -> Drawing:
    """Heat map of effect over layer and dose, a dot where texts were sampled; a click selects. Query: layer_by_dose."""
    cell = alt.selection_point(name="cell", fields=["intervention_id"], on="click", empty=False)
    bound = max((abs(row["effect"]) for row in rows), default=1.0) or 1.0
    order = list(dict.fromkeys(f"{dose:+.2f}" for dose in sorted({row["dose"] for row in rows})))
    columns = _columns(rows)
    said = [{**row, **_in_words(row), "column": column} for row, column in zip(rows, columns, strict=True)]
    flat = all(column.isdecimal() for column in columns)
    base = chart_of(said).encode(
        x=alt.X(
            "column:O", title="layer", sort=list(dict.fromkeys(columns)), axis=alt.Axis(labelAngle=0 if flat else -40)
        ),
        y=alt.Y("dose_shown:O", title="dose", sort=order[::-1]),
        tooltip=[
            alt.Tooltip("method:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("dose:Q", format=".3f"),
            alt.Tooltip("effect:Q", format="+.3f", title=EFFECT),
            alt.Tooltip("interval_shown:N", title="95 % interval"),
            alt.Tooltip("n_shown:N", title="measured on"),
            alt.Tooltip("perplexity_shown:N", title="perplexity ratio"),
            alt.Tooltip("texts_shown:N", title="texts"),
        ],
    )
    tiles = base.mark_rect(cornerRadius=3, cursor="pointer").encode(
        color=alt.Color(
            "effect:Q", title="effect", scale=alt.Scale(domain=[-bound, bound], domainMid=0, interpolate="rgb")
        ),
        strokeWidth=alt.condition(cell, alt.value(2.5), alt.value(0)),
        stroke=alt.value("currentColor"),
    )
    dots = base.transform_filter("datum.texts > 0").mark_point(
        filled=True, size=26, opacity=0.75, color="#1c1e22", cursor="pointer"
    )
    return alt.layer(tiles.add_params(cell), dots).properties(width="container", height=max(3, len(order)) * 30)


def _columns(rows: TableRows) -> list[str]:
    """The column of each row: its layer, with the name of a vector of the library where others share the layer."""
    there: dict[int, set[str | None]] = {}
    for row in rows:
        there.setdefault(row["layer"], set()).add(row.get("given"))
    shared = {layer for layer, given in there.items() if len(given) > 1}
    called = [row.get("given") if row["layer"] in shared else None for row in rows]
    return [str(row["layer"]) + (f" {name}" if name else "") for row, name in zip(rows, called, strict=True)]


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """What a cell's tooltip says in words, also where there is no number."""
    low, high, ratio = row["effect_low"], row["effect_high"], row["perplexity_ratio"]
    return {
        "dose_shown": f"{row['dose']:+.2f}",
        "interval_shown": f"{low:+.3f} to {high:+.3f}" if low is not None else "too few items for one",
        "n_shown": f"{row['n']} held-out items",
        "perplexity_shown": f"{ratio:.2f}" if ratio is not None else "not measured",
        "texts_shown": f"{row['texts']}, a click shows them"
        if row["texts"]
        else "no texts yet, a click offers to sample them",
    }


def dose_response(rows: TableRows) -> Drawing:
    """Effect over dose by layer with its interval, on the controls' band; a diamond where a dose is recommended.

    Each vector has a line of its own. Query: dose_response_of_concept.
    """
    candidates = [row for row in rows if row["kind"] in ("candidate", "none")]
    controls = [row for row in rows if row["kind"] in ("random", "shuffled")]
    zero = [row for row in candidates if row["kind"] == "none"][:1]
    lines = [{"vector_id": None, **row} for row in candidates if row["kind"] == "candidate"]
    vector = ("layer", "method", "vector_id")
    vectors = list({tuple(row[column] for column in vector): None for row in lines})
    lines += [{**row, **dict(zip(vector, one, strict=True))} for row in zero for one in vectors]
    called = _called(vectors)
    lines = [{**row, "line": called[tuple(row[column] for column in vector)]} for row in lines]
    x = alt.X("dose:Q", title="dose (share of the residual norm)")
    base = chart_of(lines).encode(x=x)
    order = [called[one] for one in sorted(vectors, key=lambda one: (one[0], called[one]))]
    legend = alt.Legend(title="layer", symbolOpacity=1)
    colour = alt.Color("line:O", sort=order, scale=alt.Scale(scheme="viridis"), legend=legend)
    title, of_vector = f"{EFFECT}, on {rows[0]['split']} items", ["method:N", "vector_id:N"]
    interval = base.mark_area(opacity=0.12).encode(
        y=alt.Y("effect_low:Q", title=title), y2="effect_high:Q", color=colour, detail=of_vector
    )
    tooltip = ["layer:O", "method:N", alt.Tooltip("dose:Q", format=".3f"), alt.Tooltip("effect:Q", format="+.3f")]
    line = base.mark_line(point=True).encode(y="effect:Q", color=colour, detail=of_vector, tooltip=tooltip)
    layered: list[alt.Chart] = [interval, line]
    if controls:
        layered = [*_control_band(controls, x), *layered]
    if chosen := [row for row in lines if row.get("recommended")]:
        layered += _recommended(chosen, x)
    return alt.layer(*layered).properties(width="container", height=240)


def _called(vectors: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """What the legend calls each vector (layer, method, vector_id): its layer, with more where others share that.

    More is the method, or the name of a vector of one's own; and the key's first digits where that is shared as well.
    """
    layers, places = Counter(one[0] for one in vectors), Counter(one[:2] for one in vectors)
    return {
        one: " ".join([str(one[0]), *[str(one[1])] * (layers[one[0]] > 1), *[str(one[2])[:6]] * (places[one[:2]] > 1)])
        for one in vectors
    }


def _control_band(controls: TableRows, x: alt.X) -> list[alt.Chart]:
    """What random and shuffled directions do: each as a point, and how far their intervals reach at a dose."""
    reach: dict[float, list[float]] = {0.0: [0.0]}
    for row in controls:  # doses of one strength differ in their fourth digit, as norms do in float32
        reach.setdefault(round(row["dose"], 2), []).extend((row["effect_low"], row["effect_high"]))
    ends = [{"dose": dose, "low": min(found), "high": max(found)} for dose, found in sorted(reach.items())]
    band = chart_of([{**place, "kind": "controls"} for place in ends])
    said = alt.value("random and shuffled-label controls, with their intervals")
    gray = alt.Fill("kind:N", **marks_of({"controls": "gray"}))
    area = band.mark_area(opacity=0.25).encode(x=x, y="low:Q", y2="high:Q", fill=gray, tooltip=said)
    tooltip = ["kind:N", "layer:O", alt.Tooltip("dose:Q", format=".3f"), alt.Tooltip("effect:Q", format="+.3f")]
    points = chart_of(controls).mark_point(size=18, filled=True, color="gray")
    return [area, points.encode(x=x, y="effect:Q", tooltip=tooltip)]


def _recommended(chosen: TableRows, x: alt.X) -> list[alt.Chart]:
    """The recommended dose: a diamond at its effect, on a line down to the dose."""
    base = chart_of([{**chosen[0], "what": "recommended dose"}]).encode(x=x)
    shape = alt.Shape("what:N", **marks_of({"recommended dose": "diamond"}))
    tooltip = ["layer:O", "method:N", alt.Tooltip("dose:Q", format=".3f"), alt.Tooltip("effect:Q", format="+.3f")]
    point = base.mark_point(size=130, filled=True, color=CANDIDATE).encode(y="effect:Q", shape=shape, tooltip=tooltip)
    return [base.mark_rule(color=CANDIDATE, strokeDash=[4, 3]), point]


def similarity(rows: TableRows) -> alt.Chart:
    """Cosine between directions, a square. Query: vector_similarity."""
    tooltip = ["a:N", "b:N", alt.Tooltip("cosine:Q", format="+.3f")]
    return (
        chart_of(rows)
        .mark_rect(cornerRadius=3)
        .encode(
            x=alt.X("a:N", title=None, axis=alt.Axis(labelAngle=-40, labelLimit=130)),
            y=alt.Y("b:N", title=None, axis=alt.Axis(labelLimit=160)),
            color=alt.Color("cosine:Q", scale=alt.Scale(domain=[-1, 1], domainMid=0)),
            tooltip=tooltip,
        )
        .properties(width="container", height=max(3, len({row["b"] for row in rows})) * 24)
    )
