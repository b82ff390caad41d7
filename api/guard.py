"""What every request meets first: is it counted, does it bring a key, is its body's size given and small enough.

Closed by default: whatever is not one of the open paths needs a key, also what no route has. Knows no route's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import access, problems
from headrace import metrics
from headrace.domain.inputs import MOST_BYTES
from headrace.logs import say_unforeseen

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by their names: others are the caller's own words."""


class Guard:
    """ASGI middleware. It looks at the path that the routes look at, never at what the Host header makes of it."""

    def __init__(self, app: ASGIApp, keys: Sequence[bytes]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._guarded(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            await (self._refusal(scope) or self._app)(scope, receive, answer.send)
        except Exception as error:
            if answer.status is not None:
                raise
            metrics.UNFORESEEN.labels("http").inc()
            say_unforeseen(error, f"{_method(scope)} {scope['path'][:200]!r}")
            words = "this is a mistake of ours; it is in the log of the API's process"
            await problems.problem(500, "an error", words)(scope, receive, answer.send)
        finally:
            metrics.REQUESTS.labels(_method(scope), answer.status or 500).inc()

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_PATHS and not access.is_allowed(self._keys, *access.given_by(headers)):
            words = "send an API key: Authorization: Bearer <key>, or X-API-Key"
            return problems.problem(401, "unauthorized", words, headers={"WWW-Authenticate": "Bearer"})
        if "transfer-encoding" in headers:
            return problems.problem(411, "the body's length is not given", "send it with a Content-Length")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 10 or int(length) > MOST_BYTES:
            return problems.problem(413, "the body is too large", f"at most {MOST_BYTES} bytes are taken")
        return None


class _Answer:
    """Remembers the status that was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "OTHER"
