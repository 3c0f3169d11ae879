"""`steer explore`: the explorer, served on this machine."""

import errno
import socket
import threading
import webbrowser
from typing import Annotated

import typer

from steering_core.cli.shared.options import StoreOption
from steering_core.explorer.app import explorer_app
from steering_core.explorer.server import server
from steering_core.explorer.shield import LOOPBACK, new_token
from steering_core.foundation.errors import SteerflowError
from steering_core.reports.printing import SafeConsole
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def explore(
    store: StoreOption = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to offer beside the store's; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; any but loopback demands a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Steer by hand in a browser, beside the evidence; an API under /api, an OpenAI-compatible one under /v1."""
    token = None if host in LOOPBACK else new_token()
    application = explorer_app(Store(store or default_store()), model or [], token)
    with _bound(host, port) as listener:
        served = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{served}/" + (f"?token={token}" if token else "")
        SafeConsole().print(f"The explorer is at {address}", highlight=False, soft_wrap=True)
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        server(application, timeout_graceful_shutdown=2).run(sockets=[listener])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address and port of this machine. Raises SteerflowError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        remedy = "Try --port 0"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "--host is an address of this machine: 127.0.0.1, or 0.0.0.0 for all"
        raise SteerflowError(f"cannot serve on {host}:{port}: {error.strerror}. {remedy}") from error
    return listener
