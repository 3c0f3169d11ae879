"""`Picture`: one chart drawn from a store, with its caption, which notebooks show by itself."""

import base64
import html
import numbers
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_core.foundation.bounds import whole_number
from steering_core.foundation.errors import OutputError
from steering_core.foundation.output_files import new_file
from steering_core.reports.charts.render import WIDTH, Drawing, png, svg, titled

MAX_WIDTH = 10_000  # pixels
MAX_SCALE = 10.0
FORMS = (".png", ".svg", ".html", ".json")


@dataclass(frozen=True, repr=False)
class Picture:
    """A chart: its `name`, its `drawing` (Altair) and its `caption`. As a notebook cell's value it is shown inline.

    `title` and `of`, whose chart it is, stand above it wherever it stands alone.
    """

    name: str
    drawing: Drawing
    caption: str = ""
    title: str = ""
    of: str = ""

    def __repr__(self) -> str:
        said = f": {self.caption}" if self.caption else ""
        return f"<Picture {self.name}{said}>"

    def svg(self, width: int = WIDTH, *, titled: bool = True) -> str:
        """The chart as an SVG element, that many pixels wide inside its axes; `titled` where nothing else heads it.

        Raises OutputError for a width that no picture has.
        """
        width = whole_number(width, "width", OutputError, 1, MAX_WIDTH)
        return svg(self._titled() if titled else self.drawing, width)

    def png(self, width: int = WIDTH, scale: float = 2.0) -> bytes:
        """The chart as a PNG, `scale` pixels a point. Raises OutputError for a width or a scale that no picture has."""
        width = whole_number(width, "width", OutputError, 1, MAX_WIDTH)
        if not (isinstance(scale, numbers.Real) and 0 < scale <= MAX_SCALE):
            raise OutputError(f"scale is {scale!r}: give a number above 0, up to {MAX_SCALE:g}")
        return png(self._titled(), width, scale)

    def save(self, path: str | os.PathLike[str], width: int = WIDTH) -> None:
        """Write the chart to a file: .png, .svg, .html or .json (Vega-Lite).

        Raises OutputError for another, and for a width that no picture has.
        """
        width = whole_number(width, "width", OutputError, 1, MAX_WIDTH)
        to = Path(path)
        if to.suffix not in FORMS:
            raise OutputError(f"a chart cannot be written to {to}: end it in {', '.join(FORMS)}")
        with new_file(to, OutputError) as temporary:
            if to.suffix == ".png":
                temporary.write_bytes(self.png(width))
            elif to.suffix == ".svg":
                temporary.write_text(self.svg(width), encoding="utf-8")
            else:
                self._titled().save(str(temporary))

    def _titled(self) -> Drawing:
        return titled(self.drawing, self.title, self.of)

    def _repr_html_(self) -> str:
        """The picture, a PNG, with its caption. A notebook that is not trusted leaves SVG out."""
        drawn, said = self.png(), html.escape(self.caption)
        points = int.from_bytes(drawn[16:20]) // 2  # a PNG's width in pixels, two a point
        picture = f'<img src="data:image/png;base64,{_data(drawn)}" alt="{said or self.name}" width="{points}">'
        return f"<figure>{picture}<figcaption>{said}</figcaption></figure>" if said else picture

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The picture in every form that a notebook's front end may want: HTML, PNG and text."""
        return {"text/html": self._repr_html_(), "image/png": _data(self.png()), "text/plain": repr(self)}


def _data(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
