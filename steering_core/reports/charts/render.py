"""What all charts share: their data, an axis's title, and how they become files for artifacts and HTML reports."""

import base64
import importlib
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import altair as alt
import vl_convert

from steering_core.foundation.terminal import harmless
from steering_core.statistics.metric_names import unit_of
from steering_core.store import TableRows

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart
WIDTH = 560
_NO_XML = re.compile("[\ufffe\uffff]")
EFFECT = f"effect ({unit_of('effect')})"  # an axis's title


def chart_of(rows: TableRows) -> alt.Chart:
    """A chart whose data are these rows, part of the chart itself."""
    _import_pandas()
    return alt.Chart(alt.InlineData(values=list(rows)))


@cache
def _import_pandas() -> None:
    """Import pandas to its end, where it is installed.

    DuckDB imports it in whichever thread first asks with parameters, and altair takes a module that another thread
    has imported by half for a whole one.
    """
    if importlib.util.find_spec("pandas"):
        importlib.import_module("pandas")


def titled(chart: Drawing, title: str, of: str = "") -> Drawing:
    """A copy that says above itself what it shows, for where it stands alone, and below that of what: `of`."""
    if not title:
        return chart
    head = alt.TitleParams(
        title, subtitle=of or alt.Undefined, anchor="start", fontSize=13, offset=10, subtitleColor="#5b6675"
    )
    return chart.properties(title=head)


def marks_of(kinds: Mapping[str, str]) -> dict[str, Any]:
    """The scale and legend of a channel that tells `kinds` of marks apart, each by its colour or shape."""
    scale = alt.Scale(domain=list(kinds), range=list(kinds.values()))
    return {"scale": scale, "legend": alt.Legend(title=None, orient="top", symbolOpacity=1)}


def svg(chart: Drawing, width: int = WIDTH) -> str:
    """The chart as an SVG element, that many pixels wide inside its axes."""
    return vl_convert.vegalite_to_svg(_drawable(_sized(chart, width).to_dict()))


def png(chart: Drawing, width: int = WIDTH, scale: float = 2.0) -> bytes:
    """The chart as a PNG, `scale` pixels a point."""
    return vl_convert.vegalite_to_png(_drawable(_sized(chart, width).to_dict()), scale=scale)


def data_uri(chart: Drawing, width: int = WIDTH) -> str:
    """The chart as a `data:` URI of a PNG, for Markdown that can hold no other file."""
    return "data:image/png;base64," + base64.b64encode(png(chart, width, scale=1.5)).decode()


def _drawable(part: Any) -> Any:
    """A part of a chart's Vega-Lite whose texts hold nothing that XML forbids: vl-convert ends the process over that.

    Names and tokens come from stores, concepts and models, which may hold anything. Controls stand as escapes.
    """
    if isinstance(part, str):
        return _NO_XML.sub("\ufffd", harmless(part))
    if isinstance(part, dict):
        return {_drawable(name): _drawable(inner) for name, inner in part.items()}
    return [_drawable(inner) for inner in part] if isinstance(part, list | tuple) else part


def _sized(chart: Drawing, width: int) -> Drawing:
    """A copy that fills no container: a file has none. Panels keep their width."""
    wide = chart if isinstance(chart, alt.FacetChart) else chart.properties(width=width)
    sized = wide.configure_view(stroke=None).configure_axis(gridOpacity=0.4)
    return sized.configure_range(diverging=["#2f6fb2", "#f0f0f0", "#d9730d"])
