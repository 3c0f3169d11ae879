"""Text of others in Markdown: what a model, a concept, a spec or an error says is shown and takes no effect.

Prefect's page renders artifacts as Markdown with HTML in it: an image's address in a prompt would be fetched, a pipe
would begin another column. A backslash before a punctuation character makes it plain text (CommonMark 2.4). A bare
address may still be drawn as a link to what it says.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steering_core.reports.printing import shown

NOISE = 1e-6  # float32 arithmetic of sums that cancel
SPECIAL = re.compile(r"[!#$&()*+.:<=>@\[\\\]^_`{|}~-]")  # the rest of ASCII's punctuation begins nothing


def markdown_text(text: str) -> str:
    """Markdown of one line that reads as `text`; its line breaks become spaces."""
    return SPECIAL.sub(r"\\\g<0>", _one_line(text))


def markdown_code(text: str) -> str:
    """`text` as a code span: in a fence longer than any run of backticks within; its line breaks become spaces."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {_one_line(text)} {fence}" if "`" in text else f"{fence}{_one_line(text)}{fence}"


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; nothing for no rows."""
    if not rows:
        return ""
    cells = [[_cell(name) for name in rows[0]], ["---"] * len(rows[0])]
    cells += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def markdown_quote(text: str) -> str:
    """`text` as a quoted paragraph, which wraps where a cell of a table would be cut off at the page's edge."""
    return f"> {markdown_text(text)}" if text.strip() else "> *nothing*"


def _cell(value: Any) -> str:
    """A value as the command line shows it, without the last bits' noise; numbers hold nothing to be escaped."""
    if isinstance(value, int | float):
        return "0" if abs(value) < NOISE else shown(value)
    return markdown_text(shown(value))


def _one_line(text: str) -> str:
    return " ".join(text.split())
