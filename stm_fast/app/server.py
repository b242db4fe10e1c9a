"""The server of the page: what it answers, and how it is run."""

import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stm_fast.app.answers import Answers
from stm_fast.app.events import Events
from stm_fast.app.open_project import OpenProject
from stm_fast.app.security import MAX_BODY, Guard
from stm_fast.errors import ArgumentError

STATIC = Path(__file__).parent / "static"
LOCALHOST = "127.0.0.1"
_PATIENCE = 2
"""Seconds that tabs have to close their connections when the server ends."""


def make_app(
    opened: OpenProject,
    token: str,
    port: int,
    *,
    any_host: bool = False,
    static: Path = STATIC,
    max_body: int = MAX_BODY,
) -> Guard:
    """Make the application that answers requests.

    Args:
        opened: what it works on; its job is stopped when the application ends.
        token: the secret that requests have.
        port: of the server.
        any_host: answer under any name, not only those of this machine.
        static: folder of the page.
        max_body: maximum size of a request's body, in bytes.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        opened.jobs.stop(wait=True)

    async def page(request: Request) -> Response:
        return FileResponse(static / "index.html", headers={"Cache-Control": "no-cache"})

    routes = [
        Route("/", page),
        *Answers(opened).routes(),
        Mount("/static", StaticFiles(directory=static, check_dir=False)),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _in_json})
    return Guard(app, token, port, any_host=any_host, max_body=max_body)


def _in_json(request: Request, error: Exception) -> Response:
    """Answer a request that is not for any of the routes, or whose body is too large."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


def serve(
    opened: OpenProject, *, host: str | None = None, port: int = 0, ready: Callable[[str], None] = lambda address: None
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        opened: see `make_app`.
        host: name or address to listen at; None for this machine alone.
        port: to listen at; 0 for a free one.
        ready: called with the address of the page once it can be opened.

    Raises:
        ArgumentError: the host or port cannot be listened at.
    """
    token = secrets.token_urlsafe(24)
    listening = _listen(host or LOCALHOST, port)
    found = listening.getsockname()[1]
    app = make_app(opened, token, found, any_host=host is not None)
    settings = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own would close the handlers that are there, and with them the command's log
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_PATIENCE,
        server_header=False,
    )
    name = f"[{host}]" if host and ":" in host else host or LOCALHOST
    ready(f"http://{name}:{found}/?token={token}")
    with listening:
        _Server(settings, opened.project.events).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the streams of events first, which would keep it waiting."""

    def __init__(self, config: uvicorn.Config, events: Events) -> None:
        super().__init__(config)
        self._events = events

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the server; called at a signal."""
        self._events.close()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError) as error:
        raise ArgumentError("host", f"must be a name or address of this machine, got {host}") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ArgumentError("port", f"must be free at {host}, got {port} ({error.strerror})") from error
    return listening
