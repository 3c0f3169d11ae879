"""The explorer's page in a real browser, Debian's chromium without a window: fixtures and what its tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from steering_core.concepts import Concept, Item, Pair
from steering_core.foundation.counting import Work
from steering_core.models import open_model
from steering_core.monitors.gates import fit_gates
from steering_core.store import Store
from steering_core.vectors import library
from tests.explorer import ran_store, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESK, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Store:
    """A store with a run of the concept `loud`, whose vector at layer 1 has a gate."""
    markup = "<img src=x onerror=alert(1)>"
    concept = Concept(
        name="loud",
        chat=True,
        pairs=tuple(Pair(prompt=f"Say {i}", positive=f"{i} LOUD! {markup}", negative=f"{i} quiet.") for i in range(10)),
        prompts=("Hello", "Hello again", markup, f"{markup} again"),  # every other one is the test's
        items=tuple(Item(prompt=f"Shout {i}?", matching="YES", not_matching="nope") for i in range(8)),
    )
    store = ran_store(tmp_path_factory.mktemp("page"), tiny_folder, concept)
    with open_model(str(tiny_folder)) as model:
        fit_gates(model, store, library.find(store, "loud/mean_difference/1"), concept, Work())
    return store


@pytest.fixture(scope="module")
def address(ran: Store) -> Iterator[str]:
    with served(ran) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, open; the test fails where it wrote an error or a warning, or asked another host for anything."""
    context = browser.new_context(viewport=DESK)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield from watched(context.new_page(), address)
    context.close()


def watched(page: Page, address: str, path: str = "") -> Iterator[Page]:
    """The page at `path`, open; what it did that it should not fails the test at the end."""
    said: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
    page.on("request", lambda request: request.url.startswith((address, "blob:", "data:")) or said.append(request.url))
    page.goto(address + path)
    page.wait_for_selector("html[data-ready]")
    yield page
    assert said == [], said


def steered(page: Page) -> str:
    """Press Steer and wait for the end; the steered text."""
    page.click("#run")
    expect(page.locator("#status")).to_contain_text("a second", timeout=30_000)
    return page.locator(".pane .text").nth(1).inner_text()


def copied(page: Page, kind: str) -> str:
    """What the button of that name puts into the clipboard."""
    page.get_by_role("button", name=kind, exact=True).click()
    expect(page.locator("#notice")).to_contain_text(f"Copied as {kind}")
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text
