"""Who may talk to the server: whoever has the token, from the page's own origin, by a name of this machine."""

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_BODY = 1 << 25
"""Maximum size of a request's body, in bytes."""
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets through only requests of the page.

    - `GET /?token=TOKEN` sets a cookie and goes to `/`. All other requests need the cookie, or the token as
      `Authorization: Bearer`.
    - The header Host names this machine, unless `any_host`: another name may be one that a foreign page had resolved to
      this machine.
    - The header Origin, if there is one, is that of the page.
    - Bodies have at most `max_body` bytes.

    Args:
        app: that answers.
        token: the secret.
        port: of the server, which the cookie is named after: cookies of several servers do not mix.
        any_host: whether the server may have any name.
        max_body: see above.
    """

    def __init__(
        self, app: ASGIApp, token: str, port: int, *, any_host: bool = False, max_body: int = MAX_BODY
    ) -> None:
        self._app, self._token, self._any_host, self._max_body = app, token, any_host, max_body
        self.cookie = f"stm_fast_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer(scope, Headers(scope=scope))
        if answer is not None:
            await answer(scope, receive, with_headers)
            return
        await self._app(scope, _Bounded(receive, self._max_body), with_headers)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that is not let through; None for one that is."""
        host = headers.get("host", "")
        if not self._any_host and host.rpartition(":")[0] not in LOCAL and host not in LOCAL:
            return _refused(f"the server is not called {host}"[:200])
        if (origin := headers.get("origin")) is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _refused("the request comes from another page")
        if headers.get("content-length", "0") != "0" and not _at_most(headers["content-length"], self._max_body):
            return JSONResponse({"error": _too_large(self._max_body)}, status_code=413)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["method"] == "GET" and scope["path"] == "/" and given:
            if not self._is_token(given[0]):
                return _refused("the token is not that of this server: use the address that it printed")
            entered = RedirectResponse("/", status_code=303)
            entered.set_cookie(self.cookie, self._token, httponly=True, samesite="strict")
            return entered
        if not (self._is_token(_bearer(headers)) or self._is_token(_cookie(headers, self.cookie))):
            return _refused("open the address with the token that the server printed")
        return None

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


class _Bounded:
    """Receives a body up to a maximum size, also one whose size was not announced."""

    def __init__(self, receive: Receive, max_body: int) -> None:
        self._receive, self._left, self._max_body = receive, max_body, max_body

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, _too_large(self._max_body))
        return message


def _too_large(max_body: int) -> str:
    return f"a request may have at most {max_body} bytes"


def _refused(sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=403)


def _at_most(text: str, maximum: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= maximum


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
