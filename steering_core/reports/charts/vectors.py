"""Charts of vectors: one function each, over rows of `vector_qualities` or `vector_similarities`."""

from typing import Any

import altair as alt

from steering_core.reports.charts.render import Drawing
from steering_core.store import Row, TableRows

WIDTH, HEIGHT = 300, 180
COSINE = alt.Scale(domain=[-1, 1], scheme="blueorange")


def separation(rows: TableRows) -> Drawing:
    """AUC on test pairs by layer, each method beside the spread of its controls."""
    return _by_layer(_of(rows, "auc", split="test"), "AUC on test pairs", controls=True, rule=0.5)


def d_prime(rows: TableRows) -> Drawing:
    """Distance of the two sides' test projections in standard deviations, by layer."""
    return _by_layer(_of(rows, "d_prime", split="test"), "d′ on test pairs", controls=True, rule=0.0)


def split_half(rows: TableRows) -> Drawing:
    """Cosine of the directions of two random halves of the training pairs, by layer."""
    return _by_layer(_of(rows, "split_half"), "cosine of two halves")


def bootstrap(rows: TableRows) -> Drawing:
    """Cosine of the direction with those of redrawn training pairs, by layer."""
    return _by_layer(_of(rows, "bootstrap"), "cosine with redrawn pairs")


def sample_size(rows: TableRows) -> Drawing:
    """Cosine with the whole direction of those from fewer pairs, one line a layer."""
    layer = alt.Color("layer:O", scale=alt.Scale(scheme="viridis"))
    lines = (
        alt.Chart()
        .mark_line(point=True)
        .encode(
            x=alt.X("n:Q", title="pairs", scale=alt.Scale(type="log", base=2)),
            y=alt.Y("value:Q", title="cosine with the direction of all pairs", scale=alt.Scale(domainMax=1)),
            color=layer,
            detail="layer:N",
            tooltip=["method:N", "layer:O", "n:Q", alt.Tooltip("value:Q", format=".3f")],
        )
    )
    return _faceted(lines, _of(rows, "sample_size"), row="method:N")


def influence(rows: TableRows) -> Drawing:
    """How far leaving out each of the 20 weightiest pairs turns the direction, over layers."""
    found = _of(rows, "influence")
    greatest: dict[str, float] = {}  # of each pair, over layers and methods
    for row in found:
        greatest[row["pair_id"]] = max(row["value"], greatest.get(row["pair_id"], row["value"]))
    weightiest = sorted(greatest, key=lambda pair_id: -greatest[pair_id])[:20]
    shown = [row for row in found if row["pair_id"] in weightiest]
    tiles = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("layer:O"),
            y=alt.Y(
                "pair:N",
                sort=alt.EncodingSortField("value", op="max", order="descending"),
                axis=alt.Axis(title=None, labelLimit=360),
            ),
            color=alt.Color("value:Q", title="1 − cosine", scale=alt.Scale(scheme="oranges")),
            tooltip=["pair:N", "layer:O", alt.Tooltip("value:Q", format=".4f")],
        )
    )
    return _faceted(tiles, shown, row="method:N")


def similar_methods(rows: TableRows) -> Drawing:
    """Cosine of each two methods' vectors of one concept, by layer."""
    return _pairs(_kind(rows, "method"))


def similar_concepts(rows: TableRows) -> Drawing:
    """Cosine of each two concepts' vectors, at the layer in the middle of those that there are, one panel a method."""
    found = _kind(rows, "concept")
    layers = sorted({row["layer"] for row in found})
    middle = layers[len(layers) // 2] if layers else None
    shown = [row for row in found if row["layer"] == middle]
    both = [*shown, *({**row, "one": row["other"], "other": row["one"]} for row in shown)]
    tiles = (
        alt.Chart(title=f"layer {middle}")
        .mark_rect()
        .encode(
            x=alt.X("one:N", title=None),
            y=alt.Y("other:N", title=None),
            color=alt.Color("cosine:Q", scale=COSINE),
            tooltip=["one:N", "other:N", "method:N", alt.Tooltip("cosine:Q", format=".3f")],
        )
        .properties(width=WIDTH, height=WIDTH)
    )
    return alt.layer(tiles, data=alt.InlineData(values=both)).facet(column=_header("model:N"), row=_header("method:N"))


def similar_layers(rows: TableRows) -> Drawing:
    """Cosine of each layer's vector with the next layer's."""
    return _cosines(_kind(rows, "layer"), "cosine with the next layer's", "method:N")


def similar_models(rows: TableRows) -> Drawing:
    """Cosine of each layer's vector with its twin's in a model of the same shape, such as a 4-bit one."""
    found = [{**row, "pair": f"{row['one']} and {row['other']}"} for row in _kind(rows, "model")]
    return _cosines(found, "cosine with the twin's", "method:N")


def _of(rows: TableRows, metric: str, split: str | None = None) -> list[Row]:
    return [row for row in rows if row["metric"] == metric and (split is None or row["split"] == split)]


def _kind(rows: TableRows, kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _by_layer(rows: TableRows, title: str, *, controls: bool = False, rule: float | None = None) -> Drawing:
    """A line a method with its 95 % band; controls as grey points, and a rule where chance lies."""
    x = alt.X("layer:Q", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    tooltip = ["method:N", "control:N", "layer:O", alt.Tooltip("value:Q", format=".3f"), "n:Q"]
    own = alt.Chart().transform_filter("datum.control == 'none'")
    method = alt.Color("method:N", legend=alt.Legend(symbolOpacity=1))
    band = own.mark_area(opacity=0.15).encode(x=x, y=alt.Y("ci_low:Q", title=title), y2="ci_high:Q", color=method)
    line = own.mark_line(point=True).encode(x=x, y=y, color=method, tooltip=tooltip)
    layers: list[Any] = [band, line]
    if controls:
        others = alt.Chart().transform_filter("datum.control != 'none'")
        shape = alt.Shape("control:N", title="control")
        layers.insert(0, others.mark_point(color="grey", opacity=0.6).encode(x=x, y=y, shape=shape, tooltip=tooltip))
    if rule is not None:
        chance = alt.Chart().encode(y=alt.datum(rule))
        layers.append(chance.mark_rule(strokeDash=[4, 4], color="grey"))
        said = chance.mark_text(text="chance", align="left", dx=3, dy=-6, color="grey")
        layers.append(said.encode(x=alt.value(0)))
    return _faceted(alt.layer(*layers), rows)


def _pairs(rows: TableRows) -> Drawing:
    named = [{**row, "pair": f"{row['one']} and {row['other']}"} for row in rows]
    tiles = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("layer:O"),
            y=alt.Y("pair:N", title=None, axis=alt.Axis(labelLimit=320)),
            color=alt.Color("cosine:Q", scale=COSINE),
            tooltip=["pair:N", "layer:O", alt.Tooltip("cosine:Q", format=".3f")],
        )
    )
    return alt.layer(tiles.properties(width=WIDTH), data=alt.InlineData(values=named)).facet(
        column="concept:N", row="model:N"
    )


def _cosines(rows: TableRows, title: str, color: str) -> Drawing:
    lines = (
        alt.Chart()
        .mark_line(point=True)
        .encode(
            x=alt.X("layer:Q", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("cosine:Q", title=title, scale=alt.Scale(zero=False)),
            color=color,
            tooltip=["method:N", "one:N", "other:N", alt.Tooltip("cosine:Q", format=".3f")],
        )
    )
    return _faceted(lines, rows)


def _faceted(panel: Any, rows: TableRows, row: str = "model:N") -> Drawing:
    """A panel for each concept, and each model or method."""
    sized = panel.properties(width=WIDTH, height=HEIGHT)
    layered = sized if isinstance(sized, alt.LayerChart) else alt.layer(sized)
    layered.data = alt.InlineData(values=list(rows))
    return layered.facet(column=_header("concept:N"), row=_header(row))


def _header(field: str) -> Any:
    """A facet's field without a title of its own: its values say what it is."""
    return alt.FacetFieldDef(field=field.removesuffix(":N"), type="nominal", header=alt.Header(title=None))
