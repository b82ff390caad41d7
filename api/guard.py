"""What every request meets first: is it counted, are there not too many, does it bring a key that may do this, is its
body's size given and small enough. What is asked for beyond reading is logged, with whose key it was.

Closed by default: whatever is not one of the open paths needs a key, also what no route has. Knows no route's meaning.
"""

from __future__ import annotations

from loguru import logger
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import access, problems
from headrace import metrics
from headrace.domain.inputs import MOST_BYTES
from headrace.errors import HeadraceError
from headrace.logs import say_unforeseen
from headrace.services.api_keys import Caller

REQUESTS_AT_ONCE = 512
"""More that are under way are answered 503; who asks how the process is, is told even then: a kubelet would kill it."""

HEALTH_PATHS = frozenset({"/livez", "/readyz"})

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by their names: others are the caller's own words."""


class Guard:
    """ASGI middleware. It looks at the path that the routes look at, never at what the Host header makes of it."""

    def __init__(self, app: ASGIApp, gate: access.Gate, base: str) -> None:
        """`base` is the path below which the API is."""
        self._app = app
        self._gate = gate
        self._base = base
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._guarded(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        self._under_way += 1
        try:
            await (await self._refusal(scope) or self._app)(scope, receive, answer.send)
        except Exception as error:
            if answer.status is not None:
                raise
            metrics.UNFORESEEN.labels("http").inc()
            say_unforeseen(error, f"{_method(scope)} {scope['path'][:200]!r}")
            words = "this is a mistake of ours; it is in the log of the API's process"
            await problems.problem(500, "an error", words)(scope, receive, answer.send)
        finally:
            self._under_way -= 1
            metrics.REQUESTS.labels(_method(scope), answer.status or 500).inc()
            _say_who(scope, answer.status or 500)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._under_way > REQUESTS_AT_ONCE and scope["path"] not in HEALTH_PATHS:
            words = f"{REQUESTS_AT_ONCE} requests are under way in this process; ask again"
            return problems.problem(503, "too much at once", words, headers={"Retry-After": "2"})
        if scope["path"] not in access.OPEN_PATHS:
            try:
                scope.setdefault("state", {})["caller"] = caller = await self._caller(access.given_by(headers))
                access.check_role(caller, access.needed(scope["method"], scope["path"], self._base))
                self._gate.rate_limit.check(caller)
            except HeadraceError as error:
                return problems.of(error)
        if "transfer-encoding" in headers:
            return problems.problem(411, problems.TITLE_OF[411], "send it with a Content-Length")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 10 or int(length) > MOST_BYTES:
            return problems.problem(413, problems.TITLE_OF[413], f"at most {MOST_BYTES} bytes are taken")
        return None

    async def _caller(self, key: str) -> Caller:
        """Raises Unauthorized, or Unavailable where the store has to be asked and does not answer."""
        caller = self._gate.callers.at_hand(key)
        return caller if caller is not None else await run_in_threadpool(self._gate.callers.of, key)


class _Answer:
    """Remembers the status that was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _say_who(scope: Scope, status: int) -> None:
    caller = (scope.get("state") or {}).get("caller")
    if caller is not None and scope["method"] not in access.READING:
        logger.info("{} {!r} by {}: {}", _method(scope), scope["path"][:200], caller.name, status)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "OTHER"
