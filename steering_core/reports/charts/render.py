"""Charts as files: one definition serves Prefect artifacts, HTML reports and the explorer."""

import base64

import altair as alt
import vl_convert

Drawing = alt.Chart | alt.LayerChart | alt.FacetChart
WIDTH = 560


def svg(chart: Drawing, width: int = WIDTH) -> str:
    """The chart as an SVG element, that many pixels wide inside its axes."""
    return vl_convert.vegalite_to_svg(_sized(chart, width).to_dict())


def png(chart: Drawing, width: int = WIDTH, scale: float = 2.0) -> bytes:
    """The chart as a PNG, `scale` pixels a point."""
    return vl_convert.vegalite_to_png(_sized(chart, width).to_dict(), scale=scale)


def data_uri(chart: Drawing, width: int = WIDTH) -> str:
    """The chart as a `data:` URI of a PNG, for Markdown that can hold no other file."""
    return "data:image/png;base64," + base64.b64encode(png(chart, width, scale=1.5)).decode()


def _sized(chart: Drawing, width: int) -> Drawing:
    """A copy that fills no container: a file has none. Panels keep their width."""
    wide = chart if isinstance(chart, alt.FacetChart) else chart.properties(width=width)
    sized = wide.configure_view(stroke=None).configure_axis(gridOpacity=0.4)
    return sized.configure_range(diverging=["#2f6fb2", "#f0f0f0", "#d9730d"])
