"""The explorer's page in a real browser: Look on a desk and on a phone, and while a run is in progress."""

# ruff: noqa: F401, F811  (fixtures of tests/browser.py)

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from steering_core.store import Store
from tests.browser import DESK, PHONE, address, browser, needs_chromium, ran
from tests.explorer import AGREE, copied, ran_store, served

pytestmark = needs_chromium


def board_of(browser: Browser, address: str, viewport: Any, verdict: str = "works") -> Iterator[Page]:
    """Look over a leaderboard of 16 candidates, the greatest effects of them on few validation items."""

    def changed(route: Route) -> None:
        """The server's answer with the leaderboard in the place of its own."""
        found = route.fetch().json()
        (recommended,) = found["recommended"]
        recommended |= {"verdict": verdict, "intervention_id": "tried"}
        ids = {key: recommended[key] for key in ("model", "concept", "model_id", "concept_id")}
        kept = ids | {"method": "mean_difference", "layers": "15, 18, 21", "dose": 0.31, "over_controls": None}
        kept |= {"perplexity_ratio": 1.2, "effect_low": 0.1, "effect_high": 0.9, "n_missing": 0}
        rows = [("validation", 6, 0.9 - i / 100, f"v{i}") for i in range(13)]
        rows += [("validation", 24, 0.2, "long"), ("test", 24, 0.3, "tried"), ("test", 24, 0.1, "also")]
        keys = ("split", "n", "effect", "intervention_id")
        found["leaderboard"] = [kept | dict(zip(keys, row, strict=True)) for row in rows]
        route.fulfill(json=found | {"leaderboard_cut": True})

    context = browser.new_context(viewport=viewport)
    with contextlib.closing(context):
        page = context.new_page()
        page.route("**/api/look*", changed)
        page.goto(address)
        page.click("#tab-look")
        expect(page.locator("#leaderboard tbody tr")).to_have_count(12)
        yield page
        page.unroute_all(behavior="wait")  # an answer under way ends before its context does


def cells(page: Page, title: str) -> list[str]:
    """The texts below one of the leaderboard's headings."""
    titles = page.locator("#leaderboard th").all_inner_texts()
    return page.locator(f"#leaderboard td:nth-child({titles.index(title) + 1})").all_inner_texts()


def test_the_leaderboard_begins_with_test_and_with_what_many_items_measured(browser: Browser, address: str) -> None:
    for page in board_of(browser, address, DESK):
        assert cells(page, "split")[:4] == ["test", "test", "validation", "validation"]
        assert cells(page, "n")[:4] == ["24", "24", "24", "6"]
        assert [text.split()[0] for text in cells(page, "effect")[:4]] == ["+0.300", "+0.100", "+0.200", "+0.900"]
        expect(page.locator("#leaderboard header")).to_contain_text("Only the first 16 candidates of the store")
        page.get_by_role("button", name="Show all 16").click()
        expect(page.locator("#leaderboard tbody tr")).to_have_count(16)
        expect(page.get_by_role("button", name="Show all 16")).to_be_hidden()


@pytest.mark.parametrize(
    ("verdict", "word"), [("works", "recommended"), ("weak", "recommended"), ("no better than random",) * 2]
)
def test_a_word_marks_the_row_that_the_recommendation_is_about(
    browser: Browser, address: str, verdict: str, word: str
) -> None:
    for page in board_of(browser, address, DESK, verdict):
        assert [word in text for text in cells(page, "layers")] == [True] + [False] * 11


def test_a_phone_shows_the_effect_with_its_interval_without_scrolling(browser: Browser, address: str) -> None:
    for page in board_of(browser, address, PHONE):
        effects = page.locator("#leaderboard .with-interval")
        assert "[+0.10, +0.90]" in effects.first.inner_text()
        for shown in (effects.first, effects.first.locator("small")):
            box = shown.bounding_box()
            assert box is not None
            card = page.locator("#leaderboard").bounding_box()
            assert card is not None
            assert box["x"] + box["width"] <= card["x"] + card["width"]
            assert card["x"] + card["width"] <= PHONE["width"]


def test_charts_say_what_they_have_no_place_for(browser: Browser, address: str, ran: Store) -> None:
    sql = "SELECT DISTINCT intervention_id FROM leaderboard WHERE control IS NULL AND len(layers) > 1"
    n = len(ran.rows(sql))
    assert n > 0
    with contextlib.closing(browser.new_page(viewport=DESK)) as page:
        page.goto(f"{address}#look")
        missing = page.locator("#detail .pair").first.locator(".not-drawn:visible")
        expect(missing).to_have_count(2)
        for text in missing.all_inner_texts():
            assert re.match(rf"{n} candidates? of several layers .* not drawn here; the leaderboard lists", text)
        page.locator("#detail .pair").last.scroll_into_view_if_needed()
        expect(page.locator("#detail .pair").last.locator("svg.marks").first).to_be_visible()
        expect(page.locator("#detail .pair").last.locator(".not-drawn:visible")).to_have_count(0)
        page.click("#tab-steer")
        expect(page.locator("#evidence .not-drawn")).to_have_count(1)


def test_a_run_in_progress_is_told_and_its_end_is_shown(browser: Browser, ran: Store, tmp_path: Path) -> None:
    store = copied(ran.root, tmp_path)
    at_the_end = ("scores", "recommendations", "outcomes", "runs", "side_effects")
    found = {name: Path(store.root, name).glob("*.parquet") for name in at_the_end}
    kept = {name: [file for file in files if file.name != "schema.parquet"] for name, files in found.items()}
    for file in (file for files in kept.values() for file in files):
        file.rename(tmp_path / file.name)
    with served(store) as address, contextlib.closing(browser.new_page(viewport=DESK)) as page:
        page.clock.install()
        page.goto(f"{address}#look")
        expect(page.locator("#look .empty")).to_contain_text(re.compile(r"has stored .*\d+ vectors"))
        back(kept["scores"], tmp_path)
        page.click("#tab-steer")
        page.click("#tab-look")
        expect(page.locator("#look .empty")).to_contain_text("measured so far")
        for name in at_the_end[1:]:
            back(kept[name], tmp_path)
        page.clock.run_for(11_000)  # nobody touches the page, which looks again
        expect(page.locator("#look .tile")).to_have_count(1)
        expect(page.locator("#look .empty")).to_have_count(0)


def test_what_a_run_recommends_later_is_shown_beside_what_is_being_read(
    browser: Browser, ran: Store, tiny_folder: Path, tmp_path: Path
) -> None:
    store = copied(ran.root, tmp_path)
    with served(store) as address, contextlib.closing(browser.new_page(viewport=DESK)) as page:
        page.clock.install()
        page.goto(f"{address}#look")
        expect(page.locator("#look .tile b")).to_have_text(["loud"])
        page.locator("#detail summary").click()
        page.locator("#look .tile").focus()
        ran_store(tmp_path, tiny_folder, AGREE)
        page.clock.run_for(11_000)  # nobody touches the page, which looks again
        expect(page.locator("#look .tile")).to_have_count(2)
        expect(page.locator("#notice")).to_have_text("Recommended just now: agree.")
        expect(page.locator("#look .tile[aria-current=true] b")).to_have_text("loud")
        expect(page.locator("#look .tile:focus b")).to_have_text("loud")
        expect(page.locator("#detail details[open]")).to_have_count(1)  # the evidence is as it was
        expect(page.locator("#runs tbody tr")).to_have_count(2)
        page.locator("#look .tile", has_text="agree").click()
        expect(page.locator("#detail .summary h2")).to_have_text("agree")
        expect(page.locator("#leaderboard tbody tr")).not_to_have_count(0)


def test_evidence_is_shown_anew_where_another_recommendation_took_its_place(browser: Browser, address: str) -> None:
    later: dict[str, Any] = {}

    def changed(route: Route) -> None:
        """The server's answer, in which a later run may have recommended otherwise."""
        found = route.fetch().json()
        found["recommended"][0] |= later
        route.fulfill(json=found)

    with contextlib.closing(browser.new_context(viewport=DESK)) as context:
        page = context.new_page()
        page.route("**/api/look*", changed)
        page.clock.install()
        page.goto(f"{address}#look")
        expect(page.locator("#detail .said")).not_to_contain_text("Found later.")
        later |= {"recommendation_id": "later", "says": "Found later."}
        page.clock.run_for(11_000)
        expect(page.locator("#detail .said")).to_contain_text("Found later.")
        expect(page.locator("#look .tile[aria-current=true]")).to_have_count(1)
        page.unroute_all(behavior="wait")


def back(files: list[Path], kept_in: Path) -> None:
    """Put a table's files back, as a run does that has come as far."""
    for file in files:
        (kept_in / file.name).rename(file)
