"""The routes of a job's logs, events and exceptions. A log is streamed as it comes, and ends when its reader goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import views
from api.document import answers, refusals, text
from headrace.domain.jobs import JobKey
from headrace.domain.log_requests import parse_log_request
from headrace.errors import Unavailable
from headrace.ports import LogStream
from headrace.services.inspect import Inspect, LogAnswer

FOLLOWED_AT_ONCE = 64
LOOK_SECONDS = 1.0


def install(app: FastAPI, inspect: Inspect, tenant: str, base: str) -> None:
    """Adds the routes, below `base`, for one tenant."""
    followed = Followed()

    @app.get(
        f"{base}/jobs/{{job_id}}/logs",
        response_class=StreamingResponse,
        responses={**text("text/plain"), **refusals(404, 502)},
    )
    async def logs(
        request: Request,
        job_id: str,
        component: str | None = None,
        pod: str | None = None,
        container: str | None = None,
        tail: str | None = None,
        since: str | None = None,
        previous: str | None = None,
        follow: str | None = None,
        timestamps: str | None = None,
    ) -> Response:
        words = {"component": component, "pod": pod, "container": container, "tail": tail, "since": since}
        words |= {"previous": previous, "follow": follow, "timestamps": timestamps}
        asked = parse_log_request(words)
        if not asked.follow:
            answer = await run_in_threadpool(inspect.logs, JobKey(tenant, job_id), asked)
            return StreamingResponse(answer.body, media_type="text/plain", headers=_headers(answer))
        place = followed.taken()
        try:
            answer = await run_in_threadpool(inspect.logs, JobKey(tenant, job_id), asked)
        except BaseException:
            place.release()
            raise
        return _Following(followed, place, answer, request)

    @app.get(f"{base}/jobs/{{job_id}}/events", responses={**answers(200, events=list, note=None), **refusals(404, 502)})
    def events(job_id: str) -> JSONResponse:
        return JSONResponse(jsonable_encoder(views.events_view(inspect.events(JobKey(tenant, job_id)))))

    found = answers(200, exceptions=list, kept=None, note=None)

    @app.get(f"{base}/jobs/{{job_id}}/exceptions", responses={**found, **refusals(404)})
    def exceptions(job_id: str) -> JSONResponse:
        return JSONResponse(jsonable_encoder(views.exceptions_view(inspect.exceptions(JobKey(tenant, job_id)))))


def _headers(answer: LogAnswer) -> dict[str, str]:
    """Whose log it is, and whether there will ever be more of it."""
    ended = "true" if answer.has_ended else "false"
    return {"Headrace-Pod": answer.pod, "Headrace-Container": answer.container, "Headrace-Ended": ended}


class Place:
    """One of the places for logs that are followed. Given back once, however often that is asked."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Gives it back."""
        release, self._release = self._release, None
        if release is not None:
            release()


class _Following(StreamingResponse):
    """A log that is followed. Its place is given back however it ends, also where not a byte of it was sent."""

    def __init__(self, followed: Followed, place: Place, answer: LogAnswer, request: Request) -> None:
        pieces = followed.pieces(answer.body, request)
        super().__init__(pieces, media_type="text/plain", headers=_headers(answer))
        self._followed, self._place, self._log = followed, place, answer.body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.release()
            self._followed.close(self._log)


class Followed:
    """The logs that are followed now: each holds a thread of its own, apart from those that other requests need."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2 * FOLLOWED_AT_ONCE, "follow")  # the second is for closing it
        self._count = 0

    def taken(self) -> Place:
        """A place, counted from now on. Raises Unavailable where no further log can be followed now."""
        if self._count >= FOLLOWED_AT_ONCE:
            raise Unavailable(f"{self._count} logs are followed through this API now; try later, or without follow")
        self._count += 1
        return Place(self._left)

    def _left(self) -> None:
        self._count -= 1

    async def pieces(self, body: LogStream, request: Request) -> AsyncIterator[bytes]:
        """The log until it ends or its reader goes, which is looked for also while nothing comes."""
        loop = asyncio.get_running_loop()
        while True:
            waiting = loop.run_in_executor(self._threads, next, body, None)
            while not (await asyncio.wait({waiting}, timeout=LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    return
            piece = await waiting
            if piece is None:
                return
            yield piece

    def close(self, body: LogStream) -> None:
        """Ends the log, in a thread: what waits for its next line must be woken."""
        self._threads.submit(body.close)
