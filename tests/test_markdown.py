"""Text of others in Markdown: it is read back as it was, and nothing of it takes effect."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from steering_core.foundation.terminal import harmless
from steering_core.reports.markdown import markdown_code, markdown_table, markdown_text

PAGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = (
    "![x](https://evil.example/a.png)",
    "![x][y]\n\n[y]: https://evil.example/a.png",
    "<img src=https://evil.example/a.png>",
    "<https://evil.example>",
    "[a](javascript:alert(1))",
    "# heading | another column | `code` *b* ~~s~~ __u__",
    "- item\n\n1. item\n\n> quote\n\n    code",
    "a \\| b \\",
    "```\nfence\n```",
    "&lt;b&gt; &#42; $x$",
    "---",
)
TEXTS = st.text(st.sampled_from("!*_`[]()<>#|~\\&;:$=+-.1 \n\tab/\"'{}é"), max_size=40) | st.text(max_size=40)


def read(markdown: str) -> tuple[str, set[str]]:
    """The text that a page shows, and the kinds of everything in it that is not text."""
    tokens = [child for token in PAGE.parse(markdown) for child in (token, *(token.children or ()))]
    said = "".join(t.content for t in tokens if t.type in ("text", "code_inline", "text_special"))
    return said, {t.type for t in tokens if t.type not in ("text", "text_special", "inline")}


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", NASTY)
def test_a_text_is_shown_and_takes_no_effect(text: str) -> None:
    assert read(f"It says {markdown_text(text)}") == (f"It says {words(text)}", {"paragraph_open", "paragraph_close"})


@given(TEXTS)
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    said, kinds = read(f"x{markdown_text(text)}x")
    assert said == f"x{words(text)}x".replace("\0", "�")
    assert kinds == {"paragraph_open", "paragraph_close"}
    said, kinds = read(f"# {markdown_text(text)}.")
    assert kinds == {"heading_open", "heading_close"}


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_any_texts_make_a_table_of_as_many_cells(rows: list[tuple[str, str]]) -> None:
    table = markdown_table([{"a|b": f"x{one}", "c": f"y{other}"} for one, other in rows])
    tokens = PAGE.parse(table)
    cells = [after for before, after in itertools.pairwise(tokens) if before.type in ("td_open", "th_open")]
    assert [read_inline(cell) for cell in cells] == [
        "a|b", "c", *(words(harmless(text)) for row in rows for text in (f"x{row[0]}", f"y{row[1]}"))
    ]  # fmt: skip


def read_inline(token: Any) -> str:
    assert {child.type for child in token.children} <= {"text", "text_special"}
    return "".join(child.content for child in token.children)


@given(TEXTS.filter(lambda text: text.split()))
def test_any_text_is_one_span_of_code(text: str) -> None:
    said, kinds = read(f"run {markdown_code(text)} now")
    assert said == f"run {words(text)} now".replace("\0", "�")
    assert kinds == {"paragraph_open", "paragraph_close", "code_inline"}


def test_numbers_and_nothing_stay_readable() -> None:
    assert markdown_table([{"effect": -0.1534, "n": 24, "control": None}]).splitlines()[2] == "| -0.153 | 24 |  |"
    assert markdown_table([{"effect": -1.1e-07, "p": 1.1e-05, "x": 0}]).splitlines()[2] == "| 0 | 1.1e-05 | 0 |"
    assert markdown_table([]) == ""
