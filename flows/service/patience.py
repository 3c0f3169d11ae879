"""Patience with a Prefect server that is away for a while: killed, restarted, upgraded.

Prefect's clients wait for a server that they have reached before (PREFECT_CLIENT_MAX_RETRIES). A client that is new, as
that of a task's tags, of an artifact or of a deployment's run is, fails at the first refused connection.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.settings import get_current_settings

from steering_core.reports.markdown import markdown_text

SECONDS = 480.0  # as long as Prefect's own clients wait with eight retries
POLL_SECONDS = 2.0
AWAY = (httpx.TransportError, ConcurrencySlotAcquisitionError)

Result = TypeVar("Result")


def patiently(call: Callable[[], Result], seconds: float = SECONDS) -> Result:
    """What `call` returns; where the server is away it is called again once the server answers, within `seconds`.

    `call` must do no harm when it is repeated.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except AWAY as error:
            if time.monotonic() > deadline:
                raise
            get_run_logger().warning("the server is away (%s): waiting for it", error)
        time.sleep(POLL_SECONDS)
        while not _answers() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def publish(text: str, key: str, description: str) -> None:
    """Publish a Markdown artifact, once the server is there. The description is plain text."""
    patiently(lambda: create_markdown_artifact(text, key=key, description=markdown_text(description)))


def _answers() -> bool:
    """Whether the server says that it is well."""
    try:
        return httpx.get(f"{get_current_settings().api.url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False
