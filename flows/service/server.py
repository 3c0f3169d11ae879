"""This clone's Prefect server: where it answers, and what happens where something else does."""

import dataclasses
import os
import socket
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NoReturn

import httpx

from flows.service.clone import Address, keep_address, keep_private, remembered_api
from flows.service.guard import own_hosts
from flows.service.loopback import LOOPBACK
from flows.service.processes import ServiceError, background, environment_of, wait

PORTS_TO_TRY = 50


class SeenServer(StrEnum):
    """What answers at a server's address."""

    OURS = "this clone's Prefect server"
    OPEN = "a Prefect server without a password"
    ANOTHERS = "a Prefect server with another password, such as another clone's"
    STRANGER = "something that is no Prefect server"
    NOTHING = "nothing"


def look(address: Address) -> SeenServer:
    """What answers at the address: a Prefect server says its API's version, ours to this clone's password only."""
    try:
        bare = httpx.get(f"{address.api}/admin/version", timeout=5)
        if _is_version(bare):
            return SeenServer.OPEN
        if bare.status_code != httpx.codes.UNAUTHORIZED:
            return SeenServer.STRANGER
        answer = httpx.get(f"{address.api}/admin/version", timeout=5, auth=address.login())
    except httpx.ConnectError:
        return SeenServer.NOTHING
    except httpx.HTTPError:
        return SeenServer.STRANGER
    return SeenServer.OURS if _is_version(answer) else SeenServer.ANOTHERS


def _is_version(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.OK and answer.text.strip('"')[:1].isdigit()


def have_server(address: Address) -> Address:
    """Have this clone's server answer; its address. Raises ServiceError where it cannot.

    An address that the user chose is the only one tried. Otherwise it is the first free port from the last one used on,
    which is kept for the next time.
    """
    if background("server").process_id is not None:
        return _running(address)
    taken: dict[str, SeenServer] = {}
    for candidate in _candidates(address):
        seen = look(candidate)
        if seen is SeenServer.OURS or (seen is SeenServer.OPEN and candidate.given):
            _say_whose(candidate, seen)
        elif seen is not SeenServer.NOTHING or not _started(candidate):
            taken[candidate.api] = seen if seen is not SeenServer.NOTHING else look(candidate)
            continue
        keep_address(candidate)
        if taken:
            print(f"{_all(taken)}; this clone's server has another port.")  # noqa: T201
        return candidate
    raise ServiceError(_refusal(address, taken))


def await_server(address: Address, seconds: float = 60) -> None:
    """Return once the server answers to this clone's password. Raises ServiceError after `seconds`."""
    deadline = time.monotonic() + seconds
    while (seen := look(address)) not in (SeenServer.OURS, SeenServer.OPEN):
        if time.monotonic() > deadline:
            remedy = (
                "export its PREFECT_API_AUTH_STRING"
                if seen is SeenServer.ANOTHERS
                else "start this clone's server first"
            )
            raise ServiceError(f"{seen} answers at {address.api}: {remedy}")
        time.sleep(1)


def _all(taken: dict[str, SeenServer]) -> str:
    return "; ".join(f"{seen} is at {api.removesuffix('/api')}" for api, seen in taken.items())


def _running(address: Address) -> Address:
    """The address of the server that this clone's `make up` started before."""
    at = remembered_api() or address.api
    if address.given and address.api != at:
        raise ServiceError(f"this clone's server runs at {at} already: `make down` first, then choose {address.api}")
    found = dataclasses.replace(address, api=at)
    wait(background("server"), lambda: look(found) is SeenServer.OURS)
    return found


def _candidates(address: Address) -> Iterator[Address]:
    yield address
    url = httpx.URL(address.api)
    if not address.given and url.host in LOOPBACK:
        for port in range((url.port or 80) + 1, (url.port or 80) + PORTS_TO_TRY):
            yield dataclasses.replace(address, api=str(url.copy_with(port=port)))


def _say_whose(address: Address, seen: SeenServer) -> None:
    print(f"{seen.capitalize()}, which `make up` did not start, answers at {address.api}: using it.")  # noqa: T201
    if seen is SeenServer.OPEN:
        print("Whoever reaches it may run flows, web pages too: start it with a password.")  # noqa: T201


def _started(address: Address) -> bool:
    """Start the server at an address where nothing answers; False where something else took the port meanwhile."""
    host = httpx.URL(address.api).host
    if host not in LOOPBACK and not _is_ours(host):
        raise ServiceError(
            f"no Prefect server answers at {address.api}, and it is another machine's: start it there first"
        )
    keep_address(address)
    server = background("server")
    server.start([sys.executable, "-m", "flows.service", "serve"], environment_of(address))
    try:
        wait(server, lambda: look(address) is SeenServer.OURS)
    except ServiceError:
        if server.process_id is None and look(address) is not SeenServer.NOTHING:
            return False
        raise
    return True


def _refusal(address: Address, taken: dict[str, SeenServer]) -> str:
    seen = taken[address.api]
    if seen is SeenServer.ANOTHERS and not _is_ours(httpx.URL(address.api).host):
        return f"the Prefect server at {address.api} has another password: export its PREFECT_API_AUTH_STRING"
    url = httpx.URL(address.api)
    another = url.copy_with(port=(url.port or 80) + 1)
    return (
        f"port {url.port} of {url.host} is taken by {seen}: stop it, choose another with PREFECT_API_URL={another} "
        "(for `make up` and for `prefect` alike), or leave PREFECT_API_URL out, and a free port is found"
    )


def _is_ours(host: str) -> bool:
    """Whether `host` is an address of this machine, so that a server can be bound to it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def serve(address: Address) -> NoReturn:
    """Become the server at this address: Prefect's, with a password, behind the guard; its files are its owner's."""
    keep_address(address)
    keep_private()
    os.umask(0o077)
    url = httpx.URL(address.api)
    command: list[Any] = [sys.executable, "-m", "uvicorn", "--factory", "flows.service.guard:guarded_app"]
    command += ["--host", url.host, "--port", str(url.port or 80), "--timeout-keep-alive", "5"]
    os.execve(sys.executable, command, environment_of(address) | _settings(address))


def _settings(address: Address) -> dict[str, str]:
    """Prefect's own settings for its server: the password, and pages of no origin but its own."""
    origins = ",".join(f"{scheme}://{host}" for host in own_hosts(address.api) for scheme in ("http", "https"))
    return {
        "PREFECT_SERVER_API_AUTH_STRING": address.auth,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
        "PREFECT_SERVER_UI_API_URL": os.environ.get("PREFECT_SERVER_UI_API_URL", address.api),
    }
