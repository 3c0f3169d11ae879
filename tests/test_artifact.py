"""Prefect's artifact of a run: Markdown that fits the page, begins with the verdict, and fetches nothing."""

import re

from markdown_it import MarkdownIt

from steering_core.reports.artifact import markdown_report
from steering_core.reports.markdown import markdown_text
from steering_core.store import Store
from steering_core.store.queries import named_query


def test_prefects_artifact_begins_with_verdict_pictures_and_texts(reported: Store) -> None:
    report = {"recommendations": reported.rows("SELECT * FROM recommendations"), "stages": {"score": {"computed": 1}}}
    text = markdown_report(reported, report)
    places = [
        text.index(part) for part in ("## capitals on", "**", "steer generate", "data:image", "### Base", "### On held")
    ]
    assert places == sorted(places)
    assert text.count("](data:image/png;base64,") == 3
    heading = text[text.index("### On held") :].splitlines()[2]
    assert heading == "| what | effect | dose | kl | perplexity |"
    only_stages = markdown_report(reported, report | {"recommendations": []})
    assert only_stages.startswith("## What was computed")


def test_texts_and_errors_are_paragraphs_of_an_artifact_and_its_tables_are_narrow(reported: Store) -> None:
    """At a window of 1280 pixels the page has 690 for a table, some 95 letters, and cuts off the rest."""
    said = "the model answers this. " * 20
    report = {
        "recommendations": reported.rows("SELECT * FROM recommendations"),
        "failures": [{"model": "m", "concept": "c", "error": said}],
        "stages": {"score": {"computed": 1}},
    }
    texts = reported.rows(named_query("side_by_side"), [report["recommendations"][0]["recommendation_id"]])[0]
    text = markdown_report(reported, report)
    lines = text.splitlines()
    assert f"> {markdown_text(said)}" in lines
    base, steered = (lines.index(f"> {markdown_text(texts[kind])}") for kind in ("base", "steered"))
    assert lines[base - 2] == "Unsteered"
    assert lines[steered - 2].startswith("Steered, dose +")
    cells = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert cells
    assert all(len(re.sub(r"[|\\]", "", line)) < 95 for line in cells)


def test_an_artifact_fetches_nothing_that_a_text_names(reported: Store) -> None:
    """Prompts, names and errors are others' text: what the page draws is our tables and pictures alone."""
    recommendations = reported.rows("SELECT * FROM recommendations")
    (row,) = recommendations
    named = row | {
        "concept": "<img src=https://evil.example/b.png>",
        "model": "[x](https://evil.example)",
        "reason": "`",
    }
    failures = [{"model": "m", "concept": "a|b", "error": "![x](https://evil.example/c.png)\n\n# big"}]
    report = {"recommendations": [named], "failures": failures, "stages": {"score": {"computed": 1}}}
    text = markdown_report(reported, report)
    page = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [child for token in page.parse(text) for child in (token, *(token.children or ()))]
    assert {str(token.attrs["src"])[:22] for token in tokens if token.type == "image"} == {"data:image/png;base64,"}
    assert not [token for token in tokens if token.type in ("html_inline", "html_block", "link_open")]
    said = "".join(token.content for token in tokens if token.type == "text")
    for told in ("![1 + 1](//evil.example/a.png) | *", *named.values(), *failures[0].values()):
        assert not isinstance(told, str) or "\n" in told or "evil" not in told or told in said
