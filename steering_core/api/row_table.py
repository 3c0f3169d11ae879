"""`Rows`: what the store or a measurement says, as an Arrow table that notebooks show and pandas and polars take."""

import html
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from steering_core.foundation.errors import PackageMissing
from steering_core.reports.fitting import shown
from steering_core.store.values import rows_of

if TYPE_CHECKING:
    import pandas
    import polars


@dataclass(frozen=True, repr=False)
class Rows:
    """Rows with named columns; `table` is the Arrow table. A loop over them gives each as a dictionary."""

    table: pa.Table
    _shown: ClassVar[int] = 20  # rows in a notebook

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(rows_of(self.table))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows of {', '.join(self.table.column_names)}>"

    def pandas(self) -> "pandas.DataFrame":
        """The rows as pandas' frame. Raises PackageMissing where pandas is not installed."""
        _needed("pandas", ".pandas()")
        return self.table.to_pandas()

    def polars(self) -> "polars.DataFrame":
        """The rows as polars' frame. Raises PackageMissing where polars is not installed."""
        frame: polars.DataFrame = _needed("polars", ".polars()").from_arrow(self.table)
        return frame

    def _repr_html_(self) -> str:
        """The first rows as a table."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.table.column_names)
        lines = "".join(
            f"<tr>{''.join(f'<td>{html.escape(shown(value))}</td>' for value in row.values())}</tr>"
            for row in rows_of(self.table.slice(0, self._shown))
        )
        more = f"<p>… {len(self)} rows</p>" if len(self) > self._shown else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{more}"


def _needed(package: str, called: str) -> Any:
    """An optional package. Raises PackageMissing."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise PackageMissing(
            f"{called} needs the package {package}, which is not installed: pip install {package}, or take .table, an "
            "Arrow table"
        ) from error
