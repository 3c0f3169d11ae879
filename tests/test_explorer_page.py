"""The explorer's page in a real browser: Debian's chromium, headless."""

# ruff: noqa: F401, F402, F811  (fixtures of tests/browser.py)

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect
from typer.testing import CliRunner

from steering_core.api.generate import strengths
from steering_core.cli.main import app
from steering_core.foundation.words import columns, glossary
from steering_core.interventions.declarations import OPERATIONS
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors import library
from tests.browser import DESK, PHONE, address, browser, copied, needs_chromium, page, ran, steered, watched
from tests.explorer import served

IMAGES = os.environ.get("STEERFLOW_IMAGES")  # where the README's screenshot is kept, when it is made anew

pytestmark = needs_chromium


def test_from_a_typed_contrast_to_streamed_text_to_a_saved_vector(page: Page, ran: Store) -> None:
    page.click("[aria-label^='Remove']")
    page.click("#type-contrast")
    page.get_by_label("Towards").fill("I love it!\nGreat.")
    page.get_by_label("Away from").fill("I hate it.\nAwful.")
    page.get_by_label("Layers", exact=True).fill("1-2")
    page.get_by_role("spinbutton", name="Tokens").fill("12")
    page.get_by_label("Strength as a number").fill("1.1")
    first = steered(page)
    assert page.locator(".pane .text").first.inner_text() != first
    assert page.locator(".token").count() > 12
    assert page.locator(".token").last.get_attribute("style")
    page.get_by_label("Name in the library").fill("cheerful")
    page.get_by_label("Layers", exact=True).fill("1, 99")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_contain_text("layer 99: the model has layers 0..3")
    page.get_by_label("Layers", exact=True).fill("1-2")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notice")).to_contain_text("Saved cheerful: 2 layers")
    assert [vector.layer for vector in library.find_all(ran, "cheerful")] == [1, 2]
    expect(page.locator("#steer .vector h2").last).to_have_text("cheerful")  # the card goes by its name now
    page.click("#picker-search")
    expect(page.locator("#picker [role=option]", has_text="cheerful")).to_have_count(2)
    page.keyboard.press("Escape")
    page.get_by_label("Towards").fill("I adore it!\nGreat.")  # another contrast, which was not saved
    page.get_by_label("Away from").focus()
    expect(page.locator("#steer .vector h2").last).to_have_text("Typed contrast")


def test_a_vector_says_the_layer_alpha_and_dose_that_its_name_means(page: Page, tiny: Model, ran: Store) -> None:
    meant = strengths(tiny, parse("loud"), store=ran.root)
    layer, alpha, dose = re.findall(r"-?[\d.]+", meant)
    card = page.locator("#steer .vector")
    expect(card.locator("h2")).to_have_text("loud")
    expect(card.locator("header")).to_contain_text(f"layer {layer}")
    strength = float(card.get_by_label("Strength as a number").input_value())
    assert strength == pytest.approx(float(dose), rel=0.05)
    (shown,) = re.findall(r"dose · alpha (-?[\d.]+)", card.inner_text())
    assert float(shown) == pytest.approx(float(alpha), rel=0.01)
    page.get_by_role("spinbutton", name="Tokens").fill("4")
    steered(page)
    note = re.escape(f"loud (layer {layer}) dose ")
    expect(page.locator(".pane .note").last).to_have_text(re.compile(rf"^{note}[+−]\d\.\d\d$"))


def test_moving_a_slider_changes_the_text(page: Page) -> None:
    before = steered(page)
    slider = page.get_by_label("Strength", exact=True)
    slider.focus()
    slider.press("End")
    expect(page.locator("#status")).not_to_contain_text("a second")
    expect(page.locator("#status")).to_contain_text("a second", timeout=30_000)
    assert page.locator(".pane .text").nth(1).inner_text() != before


def test_every_operation_can_be_chosen_and_steers(page: Page) -> None:
    page.get_by_role("spinbutton", name="Tokens").fill("4")
    page.get_by_label("live").uncheck()
    choice = page.get_by_label("Operation")
    assert choice.locator("option").all_inner_texts() == list(OPERATIONS)
    for name, operation in OPERATIONS.items():
        choice.select_option(name)
        assert float(page.get_by_label("Strength as a number").input_value()) == operation.start
        with page.expect_request("**/api/steer") as asked:
            steered(page)
        (use,) = asked.value.post_data_json["steering"]["vectors"]
        assert use["operation"] == name
        assert use["dose" if operation.has_dose else "alpha"] == operation.start


def test_a_fault_is_told_in_words(page: Page) -> None:
    page.click("#type-contrast")
    page.click("#run")
    expect(page.locator(".pane .error")).to_contain_text("This contrast is empty")
    page.get_by_label("Towards").fill("yes")
    page.click("#run")
    expect(page.locator(".pane .error")).to_contain_text("as many lines on either side")
    page.get_by_label("Away from").fill("no")
    page.get_by_label("Layers", exact=True).fill("99")
    page.click("#run")
    expect(page.locator(".pane .error")).to_contain_text("layers 0..3")
    expect(page.locator("#status")).to_have_text("refused")
    page.get_by_role("spinbutton", name="Tokens").fill("99999")
    page.click("#run")
    expect(page.locator(".pane .error")).to_contain_text("Tokens")


def test_what_is_on_the_page_can_be_copied(page: Page) -> None:
    for kind, said in (
        ("Python", r"client\.chat\.completions\.create\("),
        ("curl", "curl -N"),
        ("Spec", r"concepts: \[loud\]"),
        ("Expression", r"^-?\d+(\.\d+)?%\*[0-9a-f]{20}$"),
    ):
        assert re.search(said, copied(page, kind))


def test_the_copied_spec_has_the_operation_and_says_what_it_lacks(page: Page) -> None:
    page.get_by_label("live").uncheck()
    page.get_by_label("Operation").select_option("clamp")
    page.get_by_label("System prompt").fill("Be brief.")
    (expression,) = yaml.safe_load(copied(page, "Spec"))["generations"]["expressions"]
    assert expression == copied(page, "Expression")
    assert expression.startswith("clamp(")
    page.get_by_role("button", name="Spec", exact=True).click()
    expect(page.locator("#notice")).to_contain_text("Not in it: the system prompt.")


def test_the_copied_command_prints_the_text_on_the_page(page: Page) -> None:
    page.get_by_label("System prompt").fill("You're loud.")
    page.get_by_role("spinbutton", name="Tokens").fill("12")
    page.get_by_label("Strength as a number").fill("1.1")
    shown = steered(page)
    program, *words = shlex.split(copied(page, "CLI"))
    printed = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert (program, readable(printed)) == ("steer", readable(shown.removesuffix(" …")))


def readable(text: str) -> str:
    """A text without control characters, which neither a terminal nor a page shows."""
    return "".join(filter(str.isprintable, text)).strip()


def test_a_click_on_the_heat_map_shows_the_cells_texts(page: Page) -> None:
    page.click("#tab-look")
    cells, texts = page.locator("#detail .chart svg .mark-rect path"), page.locator("#texts")
    expect(cells).not_to_have_count(0)
    for i in range(cells.count()):  # texts are sampled for the shortlist alone
        cells.nth(i).click()
        expect(texts).to_be_visible()
        expect(texts).not_to_have_attribute("aria-busy", "true")
        if texts.locator("tbody tr").count():
            break
    assert texts.locator("tbody tr").count() in (4, 8)  # two prompts, each answered twice, of one split or of both
    expect(texts).to_contain_text("<img src=x onerror=alert(1)>")  # shown, not run
    page.get_by_role("button", name="Steer with it").click()
    expect(page.locator("#steer .vector h2")).to_have_text("loud")


def test_the_sql_box_answers_and_hands_out_files(page: Page) -> None:
    page.click("#tab-ask")
    expect(page.locator("#answer th").first).to_have_text("model")  # the first question is asked already
    page.locator("#sql").fill("SELECT name, n_layers FROM models")
    page.locator("#sql").press("Control+Enter")
    expect(page.locator("#answer td").last).to_have_text("4")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert Path(download.value.path()).read_text().startswith('"name","n_layers"')


def test_a_file_that_was_cut_is_told(page: Page) -> None:
    page.click("#tab-ask")
    page.locator("#sql").fill("SELECT range AS a FROM range(100001)")
    with page.expect_download():
        page.get_by_role("button", name="CSV").click()
    expect(page.locator("#notice")).to_contain_text("The file has the first 100,000 rows; more were left out.")


def test_named_queries_run_from_the_page(page: Page) -> None:
    page.click("#tab-ask")
    page.locator(".example", has_text="layer_by_dose").click()
    expect(page.locator("#answer tbody tr").first).to_be_visible()
    assert "?" not in page.locator("#sql").input_value().split("\n", 2)[2]


def test_tabs_theme_and_run_work_from_the_keyboard(page: Page) -> None:
    page.focus("#tab-steer")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#look")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("a second", timeout=30_000)


@pytest.mark.parametrize("view", ["steer", "look", "ask"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_every_view_without_scrolling_sideways(
    browser: Browser, address: str, view: str, theme: str
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=theme, has_touch=True)
    for page in watched(context.new_page(), address):
        page.click(f"#tab-{view}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


@pytest.mark.real
def test_the_screenshot_of_the_readme(browser: Browser, tmp_path: Path) -> None:
    """With STEERFLOW_IMAGES=docs/images it is kept there."""
    try:
        store = Store.existing(os.environ.get("STEERFLOW_STORE"))
        board = store.rows("SELECT concept FROM recommendations WHERE model = 'smollm2-135m'")
    except Exception as error:  # noqa: BLE001  (no store, or one of an older version: nothing to show)
        pytest.skip(f"make discover fills the store that is shown: {error}")
    if not board:
        pytest.skip("make discover fills the store that is shown")
    with served(store) as address:
        context = browser.new_context(viewport=DESK, device_scale_factor=1.5, color_scheme="light")
        for page in watched(context.new_page(), address):
            page.locator("#prompt").fill("How was your trip to the mountains?")
            page.fill("#probe-picker-search", board[0]["concept"])
            page.press("#probe-picker-search", "Enter")
            page.click("#run")
            expect(page.locator("#status")).to_contain_text("a second", timeout=120_000)
            expect(page.locator(".pane .text").nth(1)).not_to_be_empty()
            expect(page.locator("#evidence svg").first).to_be_visible()
            path = Path(IMAGES or tmp_path, "explorer.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=path)
            assert path.stat().st_size > 20_000
        context.close()


def test_words_have_their_meaning_behind_them_in_every_view(page: Page) -> None:
    def behind(view: str, word: str) -> str:
        return page.locator(f"#{view} abbr", has_text=re.compile(f"^{word}$", re.IGNORECASE)).first.get_attribute(
            "title"
        )

    dose = glossary()["dose"]
    assert behind("steer", "dose") == dose
    assert behind("steer", "phase") == glossary()["phase"]
    assert page.locator("#steer .badge").first.get_attribute("title") == glossary()["verdict"]
    page.click("#tab-look")
    expect(page.locator("#look table").first).to_be_visible()
    assert behind("look", "dose") == dose
    assert behind("look", "over controls") == glossary()["over_controls"]
    page.click("#tab-ask")
    expect(page.locator("#ask table")).to_be_visible()
    assert behind("ask", "over_controls") == glossary()["over_controls"]
    assert behind("ask", "n") == columns()["n"]


def test_a_dose_beyond_the_measured_range_is_told_before_and_with_the_text(page: Page, ran: Store) -> None:
    page.get_by_role("spinbutton", name="Tokens").fill("4")
    page.get_by_label("live").uncheck()
    steered(page)
    expect(page.locator(".caution")).to_contain_text("the verdict on loud is 'too few to tell'")
    expect(page.locator(".caution")).not_to_contain_text("beyond")
    (found,) = ran.rows("SELECT safe_dose FROM raw.recommendations")
    page.get_by_label("Strength as a number").fill(str(found["safe_dose"] * 1.5))
    steered(page)
    expect(page.locator(".caution")).to_contain_text("of loud is beyond")
    expect(page.locator(".vector.outside > p")).to_contain_text("expect damaged text")
