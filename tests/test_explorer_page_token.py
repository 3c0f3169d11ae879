"""The explorer's page on a server that wants a token, opened under another name than loopback's."""

# ruff: noqa: F401, F811  (fixtures of tests/browser.py)

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from steering_core.store import Store
from tests.browser import CHROMIUM, DESK, browser, needs_chromium, ran, steered
from tests.explorer import served

pytestmark = needs_chromium

TOKEN, NAME = "a-token-of-ours", "my-machine"


@pytest.fixture(scope="module")
def page(browser: Browser, ran: Store) -> Iterator[Page]:
    """The page as another machine opens it: over plain http, where browsers lend no clipboard."""
    rules = [f"--host-resolver-rules=MAP {NAME} 127.0.0.1", "--no-sandbox"]
    with served(ran, token=TOKEN) as address:
        other = browser.browser_type.launch(executable_path=CHROMIUM, args=rules)
        with contextlib.closing(other):
            page = other.new_page(viewport=DESK)
            page.goto(f"{address.replace('127.0.0.1', NAME)}/?token={TOKEN}")
            page.wait_for_selector("html[data-ready]")
            assert page.evaluate("navigator.clipboard") is None
            page.get_by_role("spinbutton", name="Tokens").fill("6")
            yield page


def copied(page: Page, kind: str) -> str:
    """What the button of that name puts into the clipboard, pasted into a box, at loopback's own address."""
    page.get_by_role("button", name=kind, exact=True).click()
    expect(page.locator("#notice")).to_have_text(
        f"Copied as {kind}. It reads the token that this address was opened with from STEERFLOW_TOKEN."
    )
    box, before = page.get_by_label("System prompt"), ""
    box.fill(before)
    box.press("Control+V")
    text = box.input_value()
    box.fill(before)
    assert TOKEN not in text + page.content()
    return text.replace(NAME, "127.0.0.1")


def test_the_copied_curl_is_answered(page: Page) -> None:
    command = copied(page, "curl")
    environment = {name: value for name, value in os.environ.items() if name != "STEERFLOW_TOKEN"}
    for token, says in (({"STEERFLOW_TOKEN": TOKEN}, '"event": "done"'), ({}, "wants its token")):
        done = subprocess.run(
            ["bash", "-c", command], env=environment | token, capture_output=True, text=True, timeout=60, check=False
        )
        assert says in done.stdout.replace('":"', '": "'), done


def test_the_copied_python_prints_the_text_on_the_page(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = steered(page).removesuffix(" …")
    monkeypatch.setenv("STEERFLOW_TOKEN", TOKEN)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(copied(page, "Python"), "copied", "exec"), {})
    texts = ["".join(filter(str.isprintable, text)).strip() for text in (printed.getvalue(), shown)]
    assert texts[0] == texts[1]
