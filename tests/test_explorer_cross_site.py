"""Another site's page, open in the browser of somebody whose explorer is running, has the browser ask it for things."""

# ruff: noqa: F401, F811  (fixtures of tests/browser.py)

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steering_core.explorer.app import explorer_app
from steering_core.store import Store
from tests.browser import CHROMIUM, browser, needs_chromium, ran
from tests.explorer import served_app

pytestmark = needs_chromium

EVIL = "evil.example"
ASK = """async (url) => {
  await fetch(url, { mode: "no-cors", credentials: "include" }).catch(() => {});
  const made = (tag, place, name) => new Promise((done) => {
    const element = document.createElement(tag);
    element.onload = element.onerror = done;
    element[name] = url;
    place.append(element);
  });
  await made("img", document.body, "src");
  await made("script", document.head, "src");
  await made("iframe", document.body, "src");
  const style = document.createElement("link");
  style.rel = "stylesheet";
  await new Promise((done) => {
    style.onload = style.onerror = done;
    style.href = url;
    document.head.append(style);
  });
}"""


class Noting:
    """ASGI middleware that notes what was asked for, in which mode, and the status of the answer."""

    def __init__(self, app: ASGIApp, notes: list[tuple[str, str, int]]) -> None:
        self._app, self._notes = app, notes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and note its answer."""

        async def noted(message: Message) -> None:
            """Note the answer's status as it goes out."""
            if message["type"] == "http.response.start":
                mode = dict(scope["headers"]).get(b"sec-fetch-mode", b"").decode()
                self._notes.append((scope["path"], mode, message["status"]))
            await send(message)

        await self._app(scope, receive, noted if scope["type"] == "http" else send)


@pytest.fixture(scope="module")
def notes() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture(scope="module")
def address(ran: Store, notes: list[tuple[str, str, int]]) -> Iterator[str]:
    app = explorer_app(ran)
    app.add_middleware(Noting, notes=notes)
    with served_app(app) as address:
        yield address


@pytest.fixture(scope="module")
def site(address: str) -> Iterator[str]:
    """The address of a site that has nothing to do with the explorer, and links to it."""
    app = FastAPI()

    @app.get("/")
    async def page() -> HTMLResponse:
        """A page with a link to the explorer."""
        return HTMLResponse(f"<!doctype html><title>Other</title><body><a href='{address}/#look'>Look</a></body>")

    with served_app(app) as other:
        yield other


@pytest.fixture(params=[EVIL, "127.0.0.1"], ids=["another site", "another port of this machine"])
def foreign(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[Page]:
    """The other site's page, open."""
    rules = [f"--host-resolver-rules=MAP {EVIL} 127.0.0.1", "--no-sandbox"]
    with contextlib.closing(browser.browser_type.launch(executable_path=CHROMIUM, args=rules)) as other:
        page = other.new_page()
        page.goto(site.replace("127.0.0.1", request.param))
        yield page


def test_what_another_site_has_the_browser_ask_for_is_refused_and_does_no_work(
    foreign: Page, address: str, tiny_folder: Path, notes: list[tuple[str, str, int]]
) -> None:
    model = quote(str(tiny_folder), safe="")
    asked = [f"/api/vectors?model={model}", f"/api/promoted?model={model}&vector=loud", "/api/rows/leaderboard"]
    asked += ["/api/look", "/api/status", "/api/openapi.json", "/v1/models"]
    notes.clear()
    for path in asked:
        foreign.evaluate(ASK, address + path)
        with foreign.expect_popup() as opened:
            foreign.evaluate("(url) => void window.open(url)", address + path)
        opened.value.wait_for_load_state()
        opened.value.close()
    ways = [(path.partition("?")[0], mode) for path in asked for mode in ("no-cors", "navigate")]
    found = {note for note in notes if note[0] != "/favicon.ico"}  # which the browser asks for by itself
    assert found == {(*way, 403) for way in ways}
    assert not any(row["loaded"] for row in httpx.get(f"{address}/api/models").json())


def test_a_link_on_another_site_opens_the_page(foreign: Page) -> None:
    foreign.click("a")
    foreign.wait_for_selector("html[data-ready]")
    expect(foreign.locator("#look .tile")).to_have_count(1)
