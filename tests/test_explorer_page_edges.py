"""The explorer's page in a real browser: what people type by mistake, links, and answers that break off."""

# ruff: noqa: F401, F811  (fixtures of tests/browser.py)

import contextlib
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from steering_core.store import Store
from tests.browser import address, browser, needs_chromium, page, ran, steered
from tests.explorer import served

pytestmark = needs_chromium


@pytest.mark.parametrize("layers", ["1,", "-1", "2-", "1-2-3", "1, 3-2", "0-99999999999", "one"])
def test_layers_that_cannot_be_read_are_told(page: Page, layers: str) -> None:
    page.click("#type-contrast")
    page.get_by_label("Towards").fill("yes")
    page.get_by_label("Away from").fill("no")
    page.get_by_label("Layers", exact=True).fill(layers)
    page.click("#run")
    expect(page.locator(".pane .error")).to_have_text(f"layers {layers}: write 12, or 10-14")


def test_layers_may_be_written_with_spaces(page: Page) -> None:
    page.click("[aria-label^='Remove']")
    page.click("#type-contrast")
    page.get_by_label("Towards").fill("yes")
    page.get_by_label("Away from").fill("no")
    page.get_by_label("Layers", exact=True).fill(" 0 - 1 , 3")
    with page.expect_request("**/api/steer") as asked:
        steered(page)
    assert asked.value.post_data_json["steering"]["vectors"][0]["layers"] == [0, 1, 3]


def test_a_reply_keeps_the_prompt_that_was_answered_and_what_was_typed_since(page: Page) -> None:
    page.get_by_role("spinbutton", name="Tokens").fill("4")
    page.locator("#prompt").fill("Hello")
    steered(page)
    page.locator("#prompt").fill("And then?")
    page.click("#reply")
    expect(page.locator("#prompt")).to_have_value("And then?")
    with page.expect_request("**/api/steer") as asked:
        steered(page)
    body = asked.value.post_data_json
    assert [turn["prompt"] for turn in body["history"]] == ["Hello"]
    assert body["prompt"] == "And then?"


def test_a_link_that_is_followed_from_another_view_opens_steer(page: Page) -> None:
    page.click("#tab-look")
    expect(page.locator("#look .tile").first).to_be_visible()
    page.evaluate("""() => {
        const steering = { vectors: [], phase: "all" };
        const body = { model: document.querySelector("#model").value, prompt: "Linked", steering };
        location.hash = `steer?${encodeURIComponent(JSON.stringify(body))}`;
    }""")
    expect(page.locator("#steer")).to_be_visible()
    expect(page.locator("#look")).to_be_hidden()
    expect(page.locator("#prompt")).to_have_value("Linked")


def test_an_address_that_names_no_view_opens_steer(browser: Browser, address: str) -> None:
    with contextlib.closing(browser.new_page()) as page:
        page.goto(f"{address}/#constructor")
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#steer")).to_be_visible()
        expect(page.locator("#notice")).to_have_text("")


def test_enter_takes_nothing_from_a_closed_menu(page: Page) -> None:
    page.fill("#probe-picker-search", "layer 2")
    page.press("#probe-picker-search", "Escape")
    page.press("#probe-picker-search", "Enter")
    expect(page.locator(".picked li")).to_have_count(0)
    page.fill("#probe-picker-search", "layer 1")
    page.press("#probe-picker-search", "Enter")
    page.press("#probe-picker-search", "Enter")
    expect(page.locator(".picked li")).to_have_count(1)
    expect(page.locator("#notice")).to_have_text("")


def test_a_long_list_in_an_answer_is_shown_by_its_values(page: Page) -> None:
    page.click("#tab-ask")
    expect(page.locator("#answer th").first).to_have_text("model")  # the first question is asked already
    page.locator("#sql").fill(f"SELECT [NULL, '{'x' * 40}', 'b', 'c', 'd', 'e', 'f', 'g'] AS found")
    page.locator("#sql").press("Control+Enter")
    expect(page.locator("#answer th")).to_have_count(1)
    expect(page.locator("#answer td")).to_have_text(f'[null, "{"x" * 40}", "b", "c", … 8]')


def test_a_stream_that_breaks_off_is_told(page: Page) -> None:
    def broken(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body='data: {"event":"queued","position":0}\n\n')

    page.route("**/api/steer", broken)
    page.click("#run")
    expect(page.locator(".pane .error")).to_contain_text("stopped in the middle of the text")
    expect(page.locator("#run")).to_have_text("Steer")


def failing_once(page: Page, url: str) -> None:
    """Have the first request to `url` refused, and those after it answered."""
    refusal = '{"error": {"message": "the store was busy: try again"}}'
    page.route(url, lambda route: route.fulfill(status=429, content_type="application/json", body=refusal), times=1)


def test_a_view_that_could_not_begin_begins_when_it_is_shown_again(browser: Browser, address: str) -> None:
    with contextlib.closing(browser.new_page()) as page:
        failing_once(page, "**/api/queries")
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.click("#tab-ask")
        expect(page.locator("#notice")).to_contain_text("the store was busy")
        page.click("#tab-steer")
        page.click("#tab-ask")
        expect(page.locator("#answer th").first).to_have_text("model")
        expect(page.locator("#sql")).to_have_count(1)


def test_what_goes_wrong_behind_a_click_in_look_is_told(browser: Browser, address: str) -> None:
    with contextlib.closing(browser.new_page()) as page:
        page.goto(f"{address}/#look")
        page.wait_for_selector("html[data-ready]")
        failing_once(page, "**/api/rows/texts_of_intervention*")
        page.locator("#leaderboard tbody tr").first.click()
        expect(page.locator("#notice")).to_contain_text("the store was busy")
        expect(page.locator("#texts")).not_to_have_attribute("aria-busy", "true")


def two_cards(page: Page) -> None:
    """Have the page steer with the concept's vectors at layers 1 and 2, a few tokens, when it is asked to."""
    page.get_by_label("live").uncheck()
    page.get_by_role("spinbutton", name="Tokens").fill("4")
    page.click("[aria-label^='Remove']")
    for layer in (1, 2):
        page.fill("#picker-search", f"loud layer {layer} mean")
        page.press("#picker-search", "Enter")


def test_a_card_colours_by_its_own_vector_when_another_was_removed(page: Page) -> None:
    two_cards(page)
    steered(page)
    expect(page.locator(".legend")).to_contain_text("projection on loud (layer 2)")
    page.locator("[aria-label^='Remove']").first.click()
    page.locator(".vector .colour input").click()
    page.locator(".vector .colour input").dispatch_event("change")
    expect(page.locator(".legend")).to_contain_text("projection on loud (layer 2)")
    steered(page)
    expect(page.locator(".legend")).to_contain_text("projection on loud (layer 2)")


def test_a_text_is_labelled_by_what_was_asked_not_by_what_was_moved_since(page: Page) -> None:
    two_cards(page)
    strengths = page.get_by_label("Strength as a number")
    for place in range(2):
        strengths.nth(place).fill("0.5")

    def moved(route: Route) -> None:
        """Somebody moves on while the request waits."""
        strengths.first.fill("0.9")
        page.locator("[aria-label^='Remove']").last.click()
        route.continue_()

    page.route("**/api/steer", moved)
    steered(page)
    note = page.locator(".pane .note").last
    expect(note).to_have_text("loud (layer 1) dose +0.50, loud (layer 2) dose +0.50")


def test_vectors_and_probes_beyond_the_servers_bound_are_told(page: Page) -> None:
    most = page.request.get(page.url.partition("#")[0] + "api/page").json()["most_vectors"]
    page.click("[aria-label^='Remove']")
    for _ in range(most + 1):
        page.click("#type-contrast")
    expect(page.locator("#notice")).to_have_text(f"{most} vectors at once are the most.")
    expect(page.locator(".vector")).to_have_count(most)


def test_vectors_alike_but_for_their_position_are_told_apart(browser: Browser, ran: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(ran.root, tmp_path / "alike"))
    twin = store.rows("FROM raw.vectors WHERE control IS NULL AND layer = 1 ORDER BY method")[0]
    store.append("vectors", [{**twin, "vector_id": "0" * 20, "position": "last"}])
    with served(store) as address, contextlib.closing(browser.new_page()) as page:
        page.goto(address)
        page.fill("#picker-search", f"layer {twin['layer']} {twin['method']}".replace("_", " "))
        options = page.locator("#picker [role=option]")
        expect(options).to_have_count(2)
        for position in (twin["position"], "last"):
            expect(options.filter(has_text=f"read at {position}, {twin['n_pairs']} pairs")).to_have_count(1)
