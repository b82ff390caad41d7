"""What many may wait for at once: an operation's end, a look at the store. Knows no route."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from headrace.domain.operations import Operation

WAITING_AT_ONCE = 256
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 1.0
KEPT_SECONDS = 1.0

Result = TypeVar("Result")


class Waiting:
    """Requests that wait for an operation's end. They hold no thread; beyond so many, one is answered at once."""

    def __init__(self, read: Callable[[str, str], Operation | None], longest_seconds: float) -> None:
        """`read` has a tenant and an operation's id."""
        self._read = read
        self._longest_seconds = longest_seconds
        self._count = 0

    async def ended(self, request: Request, operation: Operation, seconds: float) -> Operation:
        """The operation once it has ended, or as it is when the time is over or the client has left."""
        with self._counted() as has_room:
            until = time.monotonic() + (min(seconds, self._longest_seconds) if has_room else 0.0)
            pause = FIRST_PAUSE_SECONDS
            while operation.is_open and time.monotonic() < until and not await request.is_disconnected():
                await asyncio.sleep(pause)
                stored = await run_in_threadpool(self._read, operation.tenant, operation.id)
                operation, pause = stored or operation, min(1.5 * pause, LONGEST_PAUSE_SECONDS)
        return operation

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        self._count += 1
        try:
            yield self._count <= WAITING_AT_ONCE
        finally:
            self._count -= 1


class Shared(Generic[Result]):
    """One look for all who ask meanwhile, kept for a second, in a thread of its own."""

    def __init__(self, look: Callable[[], Result], name: str) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(1, name)
        self._latest: Future[Result] | None = None
        self._begun = 0.0

    async def found(self) -> Result:
        """What the look found. Raises what it raised."""
        return await asyncio.shield(asyncio.wrap_future(self.looked()))

    def looked(self) -> Future[Result]:
        """The look that counts now, for a caller in a thread. It may still go on."""
        with self._lock:
            latest = self._latest
            if latest is None or (latest.done() and time.monotonic() - self._begun > KEPT_SECONDS):
                latest = self._latest = self._threads.submit(self._look)
                self._begun = time.monotonic()
            return latest
