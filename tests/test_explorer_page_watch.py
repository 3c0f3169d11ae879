"""The explorer's page in a real browser: vectors that read along, conversations, links, texts sampled on the spot."""

# ruff: noqa: F401, F402, F811  (fixtures of tests/browser.py)

import ast
import contextlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from steering_core.engine.probes import Probe, projections
from steering_core.engine.sampling import Request, sample
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.prompts import conversation
from steering_core.store import Store
from steering_core.vectors import library
from tests.browser import PHONE, address, browser, copied, needs_chromium, page, ran, steered, watched
from tests.explorer import served

pytestmark = needs_chromium

GATED, PLAIN = "loud/mean_difference/1", "loud/mean_difference/2"


def chosen(page: Page, menu: str, query: str) -> None:
    """Type into a menu, and take what stands first."""
    page.fill(f"#{menu}-search", query)
    page.press(f"#{menu}-search", "Enter")


def number(text: str) -> float:
    """The first number of a text, with the page's minus sign."""
    found = re.search(r"[+−-]?\d+\.\d+", text)
    assert found, text
    return float(found[0].replace("−", "-"))


def readings(page: Page, lane: Locator) -> list[float]:
    """Each token's value on a track, as somebody hears it who walks over it with the arrow keys."""
    lane.focus()
    page.keyboard.press("Home")
    values = []
    for _ in range(int(lane.get_attribute("aria-valuemax") or 0)):
        says = lane.get_attribute("aria-valuetext") or ""  # the token, its value, and on which side of the gate
        values.append(number(re.findall(r" [+−]\d+\.\d\d", says)[-1]))
        page.keyboard.press("ArrowRight")
    return values


# -- vectors that read along ----------------------------------------------------------------------------------------


def test_a_track_under_each_text_shows_what_an_offline_pass_reads(page: Page, tiny: Model, ran: Store) -> None:
    chosen(page, "probe-picker", "loud layer 1")
    chosen(page, "probe-picker", "loud layer 2")
    page.get_by_role("spinbutton", name="Tokens").fill("12")
    page.get_by_label("Strength as a number").fill("0.5")
    steered(page)
    steering = page.locator(".vector .title .soft").inner_text()
    vectors = [library.find(ran, name) for name in (GATED, PLAIN)]
    by = vectors[0] if steering.endswith("layer 1") else vectors[1]
    tokens = conversation(tiny, [{"role": "user", "content": page.locator("#prompt").input_value()}]).tokens
    for pane, what in enumerate((Intervention(), by.intervention(by.alpha(0.5), "generation"))):
        ((_, drawn),) = sample(tiny, [Request(tokens, what, 0)], 12, 0.7, Work())
        probes = [Probe(vector.layer, vector.direction) for vector in vectors]
        offline = projections(tiny, tokens + drawn.tokens, probes, Work(), what, len(tokens))
        offline = offline[:, len(tokens) - 1 : len(tokens) - 1 + len(drawn.tokens)]
        tracks = page.locator(".pane").nth(pane).locator(".probe-track")
        expect(tracks).to_have_count(2)
        for place, values in enumerate(offline):
            track = tracks.nth(place)
            np.testing.assert_allclose(readings(page, track.locator(".lane")), values, atol=0.0051)
            expect(track.locator(".verdict")).to_contain_text("mean")
            assert number(track.locator(".verdict .soft").inner_text()) == pytest.approx(values.mean(), abs=0.0051)
        gate = vectors[0].gates
        expect(tracks.first.locator("header")).to_contain_text(f"gate {gate['token']:.2f}")
        side = "above" if offline[0].mean() > gate["mean"] else "below"
        expect(tracks.first.locator(".badge")).to_have_text(f"{side} its gate")
        expect(tracks.nth(1).locator(".verdict")).to_contain_text("no gate")


def test_bars_stand_on_the_gate(page: Page, ran: Store) -> None:
    chosen(page, "probe-picker", "layer 1 gate")
    page.get_by_role("spinbutton", name="Tokens").fill("16")
    steered(page)
    page.get_by_label("less the push").uncheck()
    threshold = library.find(ran, GATED).gates["token"]
    for pane in range(2):
        lane = page.locator(".pane").nth(pane).locator(".lane")
        values = np.array(readings(page, lane))
        for side, count in (("above", (values > threshold).sum()), ("below", (values <= threshold).sum())):
            assert (lane.locator(f"path.{side}").get_attribute("d") or "").count("M") == count


def test_a_token_and_its_bars_are_looked_at_together(page: Page) -> None:
    chosen(page, "probe-picker", "layer 1")
    page.get_by_role("spinbutton", name="Tokens").fill("16")
    steered(page)
    pane = page.locator(".pane").first
    pane.locator(".token").nth(3).hover()
    expect(pane.locator(".token.seen")).to_have_count(1)
    said = pane.locator(".reading").inner_text()
    assert re.search(r"[+−]\d+\.\d\d$", said)
    page.locator("#prompt").hover()
    expect(pane.locator(".reading")).to_have_text("")
    pane.locator(".lane").hover(position={"x": 4, "y": 20})
    expect(pane.locator(".reading")).not_to_have_text("")


def test_probes_are_removed_and_asked_for_once(page: Page) -> None:
    for _ in range(2):
        chosen(page, "probe-picker", "layer 2")
    expect(page.locator("#notice")).to_contain_text("reads along already")
    page.get_by_label("Stop reading along").click()
    with page.expect_request("**/api/steer") as asked:
        steered(page)
    assert "probes" not in asked.value.post_data_json
    expect(page.locator(".probe-track")).to_have_count(0)


# -- the menu ---------------------------------------------------------------------------------------------------------


def test_the_menu_is_searched_and_recommendations_come_first(page: Page) -> None:
    page.click("#picker-search")
    options = page.locator("#picker [role=option]")
    expect(page.locator("#picker .group").first).to_have_text("Recommended")
    expect(options.first.locator(".badge")).to_be_visible()
    page.fill("#picker-search", "LAYER 2 mean")
    expect(options).to_have_count(1)
    expect(options.first).to_contain_text("layer 2")
    page.fill("#picker-search", "no such thing")
    expect(options).to_have_count(0)
    expect(page.locator("#picker")).to_contain_text("nothing in the library says")
    page.press("#picker-search", "Escape")
    expect(page.locator("#picker [role=listbox]")).to_be_hidden()
    chosen(page, "picker", "layer 2")
    expect(page.locator(".vector")).to_have_count(2)


def test_vectors_that_were_recommended_together_come_together(browser: Browser, ran: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(ran.root, tmp_path / "together"))
    (row, *_) = store.rows("FROM raw.recommendations")
    for file in Path(store.root, "recommendations").glob("*.parquet"):
        file.unlink()
    two, one = (library.find(store, name).vector_id for name in (PLAIN, GATED))
    together = {"vector_id": None, "vector_ids": [two, one], "layer": None, "layers": [1, 2], "dose": 0.25}
    expression = f"6.5%*{two} - 18.5%*{one} @generation"
    Store(store.root).append("recommendations", [{**row, **together, "verdict": "works", "intervention": expression}])
    with served(store) as address, contextlib.closing(browser.new_page()) as page:
        page.goto(address)
        strengths = page.get_by_label("Strength as a number")
        expect(strengths).to_have_count(2)
        assert [box.input_value() for box in strengths.all()] == ["0.065", "-0.185"]
        page.click("[aria-label^='Remove']")
        page.click("#tab-look")
        page.get_by_role("button", name="Steer with it").first.click()
        expect(strengths).to_have_count(2)
        expect(page.locator("#notice")).to_have_text("")


# -- conversations and links ------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_from_what_either_said(page: Page, tiny: Model) -> None:
    page.get_by_role("spinbutton", name="Tokens").fill("8")
    page.locator("#prompt").fill("Hello")
    said = []
    for turn in ("Hello", "And then?", "Go on."):
        page.locator("#prompt").fill(turn)
        with page.expect_request("**/api/steer") as asked:
            steered(page)
        history = asked.value.post_data_json.get("history", [])
        assert [one["prompt"] for one in history] == ["Hello", "And then?", "Go on."][: len(said)]
        said.append(page.locator(".pane .text").first.inner_text().removesuffix(" …"))
        page.click("#reply")
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": history[0]["base"]},
            {"role": "user", "content": "And then?"}]  # fmt: skip
    ((_, alone),) = sample(tiny, [Request(conversation(tiny, talk).tokens, seed=0)], 8, 0.7, Work())
    assert history[1]["base"] == alone.text
    assert history[1]["steered"] != history[1]["base"]
    expect(page.locator(".past").first.locator(".answered")).to_have_count(3)
    page.get_by_role("button", name="Start over (3 turns so far)").click()
    expect(page.locator(".past").first).to_be_hidden()


def test_a_link_opens_the_same_steering_prompt_and_probes(page: Page, browser: Browser, address: str) -> None:
    page.locator("#prompt").fill("What's “new”? <b>&%</b>")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_role("spinbutton", name="Tokens").fill("7")
    page.get_by_label("Strength as a number").fill("-0.75")
    page.click("#type-contrast")
    page.get_by_label("Towards").fill("yes\nja")
    page.get_by_label("Away from").fill("no\nnein")
    page.get_by_label("Layers", exact=True).fill("1-2")
    chosen(page, "probe-picker", "layer 1")
    with page.expect_request("**/api/steer") as asked:
        steered(page)
    page.click("#reply")
    page.locator("#prompt").fill("And now?")
    with page.expect_request("**/api/steer") as asked:
        steered(page)
    link = copied(page, "Link")
    assert link.startswith(address)
    context = browser.new_context()
    for other in watched(context.new_page(), address, link.removeprefix(address)):
        expect(other.locator(".pane .text").nth(1)).to_be_empty()  # it is filled in, and run by whoever opened it
        with other.expect_request("**/api/steer") as again:
            steered(other)
        assert again.value.post_data_json == asked.value.post_data_json
        assert other.locator(".pane .text").nth(1).inner_text() == page.locator(".pane .text").nth(1).inner_text()
    context.close()


@pytest.mark.parametrize(
    ("behind", "words"),
    [("nonsense", "cannot be read"), ('{"model":"nowhere","steering":{"vectors":[]}}', "no model nowhere")],
)
def test_a_link_that_says_nothing_is_told(browser: Browser, address: str, behind: str, words: str) -> None:
    context = browser.new_context()
    for page in watched(context.new_page(), address, f"/#steer?{behind}"):
        expect(page.locator("#notice")).to_contain_text(words)
    context.close()


def test_copied_python_is_python_and_prints_the_text_on_the_page(page: Page) -> None:
    page.locator("#prompt").fill('Say "hello\\n" to me')
    page.get_by_role("spinbutton", name="Tokens").fill("10")
    page.get_by_label("Strength as a number").fill("0.9")
    chosen(page, "probe-picker", "layer 1")
    shown = steered(page).removesuffix(" …")
    program = copied(page, "Python")
    assert "json" not in program
    call = next(
        node for node in ast.walk(ast.parse(program)) if getattr(node, "keywords", []) and len(node.keywords) > 2
    )
    given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert given["messages"] == [{"role": "user", "content": 'Say "hello\\n" to me'}]
    assert given["extra_body"]["steering"]["vectors"][0]["dose"] == 0.9
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "copied", "exec"), {})
    assert (
        "".join(filter(str.isprintable, printed.getvalue())).strip() == "".join(filter(str.isprintable, shown)).strip()
    )


# -- look, ask, and a phone -------------------------------------------------------------------------------------------


def test_a_cell_says_whether_it_has_texts_and_they_are_sampled_on_the_spot(page: Page, ran: Store) -> None:
    page.click("#tab-look")
    heat = page.locator("#detail .chart").first
    cells, dots, texts = (
        heat.locator("svg .mark-rect path"),
        heat.locator("svg .mark-symbol path"),
        page.locator("#texts"),
    )
    expect(cells).not_to_have_count(0)
    expect(page.locator(".heat-key")).to_contain_text("no candidate was tried there")
    page.get_by_text("What the numbers say").click()
    expect(page.locator(".reading dd").first).to_contain_text("held-out items")
    had = dots.count()
    assert 0 < had < cells.count()
    told = page.locator("#vg-tooltip-element")
    for i in range(cells.count()):
        cells.nth(i).hover()
        expect(told).to_contain_text("held-out items")
        assert "null" not in told.inner_text()
        if "no texts yet" in told.inner_text():
            expect(told).to_contain_text("not measured")
            break
    cells.nth(i).click()
    expect(texts).to_contain_text("a run samples them for its shortlist alone")
    page.get_by_role("button", name="Sample them now").click()
    expect(texts.locator("tbody tr")).to_have_count(4, timeout=30_000)  # two prompts, each answered twice
    expect(dots).to_have_count(had + 1)
    key = texts.get_attribute("data-cell")
    rows = ran.rows("SELECT text, seed, temperature, max_tokens FROM generations WHERE intervention_id = ?", [key])
    assert len(rows) == 4
    assert {row["max_tokens"] for row in rows} == {4}  # as the run sampled


def test_no_tooltip_shows_a_number_that_is_not_there(page: Page) -> None:
    page.click("#tab-look")
    expect(page.locator("#detail .chart svg").first).to_be_visible()
    places = page.locator("#detail .chart")
    for i in range(places.count()):
        places.nth(i).evaluate("place => place.closest('section').scrollIntoView()")
        page.wait_for_load_state("networkidle")  # what is seen is asked for; what has no rows is hidden then
        for mark in places.nth(i).locator("svg .mark-symbol path, svg .mark-rect path").all()[:12]:
            mark.hover(force=True)
            assert not re.search("null|NaN|undefined", page.locator("#vg-tooltip-element").text_content() or "")


def test_a_wide_answer_breaks_no_word(page: Page) -> None:
    page.click("#tab-ask")
    page.locator("#sql").fill("SELECT * FROM leaderboard")
    page.locator("#sql").press("Control+Enter")
    expect(page.locator("#answer td").first).to_be_visible()
    expect(page.locator("#answer th abbr", has_text="over_controls")).to_have_attribute("title", re.compile("control"))
    broken = page.locator("#answer td, #answer th").evaluate_all(
        """cells => cells.filter(cell => {
            const words = cell.textContent.trim().split(/\\s+/).filter(Boolean);
            const probe = document.createElement("span");
            probe.style.cssText = "position:absolute;white-space:nowrap;font:" + getComputedStyle(cell).font;
            document.body.append(probe);
            const wide = word => ((probe.textContent = word), probe.getBoundingClientRect().width);
            const longest = Math.max(0, ...words.map(wide));
            probe.remove();
            return longest > cell.clientWidth + 1;
        }).map(cell => cell.textContent)"""
    )
    assert broken == []


def test_a_phone_has_one_header_row_and_room_for_a_system_prompt(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    for page in watched(context.new_page(), address):
        bar = page.locator("header.bar").bounding_box()
        assert bar is not None
        assert bar["height"] < 70
        for part in ("h1", ".tabs", ".model", "#theme"):
            box = page.locator(f"header.bar {part}").bounding_box()
            assert box is not None
            assert bar["y"] <= box["y"] < bar["y"] + bar["height"] - box["height"] + 1, part
            assert box["x"] + box["width"] <= PHONE["width"]
        system = page.get_by_label("System prompt").bounding_box()
        assert system is not None
        assert (system["width"] > 300, system["height"] > 60) == (True, True)
        page.fill("#probe-picker-search", "layer 1")
        page.press("#probe-picker-search", "Enter")
        steered(page)
        expect(page.locator(".probe-track")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()
