"""What is wrong with a request, as an answer: one paragraph in the form of OpenAI's errors."""

import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from steering_core.explorer.queue import Busy
from steering_core.foundation.errors import ModelNotFound, SteerflowError, VectorNotFound
from steering_core.foundation.validation import MAX_FAULTS, names_a_branch, of_likeliest_branches, shown
from steering_core.store.commands import commands_at_store

log = logging.getLogger(__name__)

MAX_MESSAGE = 2_000  # letters
_UNFORESEEN = "something went wrong here; the server's log has the details"
_STATUS = {ModelNotFound: 404, VectorNotFound: 404, Busy: 429}
_SAYS_ENOUGH = ("missing", "extra_forbidden", "value_error")


def tell_faults(app: FastAPI) -> None:
    """Have `app` answer every error in one form."""
    app.add_exception_handler(SteerflowError, _mistake)
    app.add_exception_handler(RequestValidationError, _misfits)
    app.add_exception_handler(HTTPException, _not_served)
    app.add_exception_handler(Exception, _unforeseen)


def _answer(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(told(message, code, status), status_code=status, headers=headers)


def status_of(error: Exception) -> int:
    """The HTTP status of an error: whose fault it is, and of what kind."""
    if not isinstance(error, SteerflowError):
        return 500
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)


def told(message: str, code: str, status: int) -> dict[str, Any]:
    """An error as OpenAI's API tells it, in one paragraph of bounded length."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": _paragraph(message), "type": kind, "code": code}}


def error_event(error: Exception) -> dict[str, Any]:
    """The event `error` of a stream, with the status that an answer would have; what nobody foresaw is logged alone."""
    message = str(error)
    if not isinstance(error, SteerflowError):
        log.error("a request failed", exc_info=error)
        message = _UNFORESEEN
    kind, status = type(error).__name__, status_of(error)
    return {"event": "error", "message": _paragraph(message), "type": kind, "status": status}


async def with_errors(events: AsyncIterable[dict[str, Any]], root: Path | str) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream that has begun; whatever goes wrong among them is its last one, `error`.

    Commands in an error name the store at `root`.
    """
    try:
        async for event in events:
            yield _at(event, root) if event.get("event") == "error" else event
    except Exception as error:  # noqa: BLE001  (told, and logged where it is ours)
        yield _at(error_event(error), root)


def _at(event: dict[str, Any], root: Path | str) -> dict[str, Any]:
    return {**event, "message": commands_at_store(event["message"], root)}


def _paragraph(message: str) -> str:
    text = "\n".join(line for line in message.splitlines() if line.strip())
    text = text.encode(errors="replace").decode()  # half of a surrogate pair is no UTF-8
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + " …"


def _mistake(request: Request, error: Exception) -> JSONResponse:
    """A mistake as the command line tells it."""
    status = status_of(error)
    message = commands_at_store(str(error), request.app.state.explorer.store.root)
    return _answer(status, message, type(error).__name__, {"retry-after": "1"} if status == 429 else None)


def _misfits(request: Request, error: Exception) -> JSONResponse:
    """Every fault of a request at once, each with its place and its value."""
    assert isinstance(error, RequestValidationError)
    faults = of_likeliest_branches(error.errors())
    lines = [_fault(fault) for fault in faults[:MAX_FAULTS]]
    lines += [f"and {len(faults) - MAX_FAULTS} faults more"] * (len(faults) > MAX_FAULTS)
    return _answer(422, "; ".join(lines), "InvalidRequest")


def _fault(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"the body is no JSON, from letter {fault['loc'][-1]} on: {fault.get('ctx', {}).get('error', '')}"
    parts = [part for part in fault["loc"][1:] if not names_a_branch(part)]
    where = ".".join(f"{part:.60}" if isinstance(part, str) else str(part) for part in parts)
    said = fault["msg"].removeprefix("Value error, ")
    got = "" if fault["type"] in _SAYS_ENOUGH or not where else f" (got {shown(fault['input'])})"
    return f"{where or 'the request'}: {said}{got}"


def _not_served(request: Request, error: Exception) -> JSONResponse:
    """What the application does not have, or could not read."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"[:200]
    says = {404: "there is nothing at", 405: "this method is not served:"}.get(error.status_code)
    message = f"{says} {what}; /api/openapi.json lists what there is" if says else f"{what}: {error.detail}"
    return _answer(error.status_code, message, "InvalidRequest", error.headers)


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours; the server writes it into its log."""
    return _answer(500, _UNFORESEEN, type(error).__name__)
