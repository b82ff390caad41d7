"""A call: what was asked, by whom, and whether its client is still there. Knows no rpc."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from api.waiting import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from headrace.domain.operations import Operation
from headrace.services.api_keys import Caller

WAITING_AT_ONCE = 32
"""A wait holds a thread here: half of them are never kept by waits."""

ANSWER_SECONDS = 0.25
"""Before a call's deadline a wait ends by so much, to answer still."""


@dataclass(frozen=True)
class Call:
    """A request and its client."""

    given: Mapping[str, Any]
    caller: Caller
    left: threading.Event
    """Set once the client has gone, or its deadline has passed."""
    seconds_left: Callable[[], float]


def call_of(given: Mapping[str, Any], caller: Caller, context: grpc.ServicerContext) -> Call:
    """The call that this context is of."""
    left = threading.Event()
    if not context.add_callback(left.set):
        left.set()  # it is over already

    def seconds_left() -> float:
        seconds = context.time_remaining()
        return math.inf if seconds is None else float(seconds)

    return Call(given, caller, left, seconds_left)


class Waits:
    """Calls that wait for an operation's end. Beyond so many, one is answered at once."""

    def __init__(self, read: Callable[[str, str], Operation | None], longest_seconds: float) -> None:
        """`read` has a tenant and an operation's id."""
        self._read = read
        self._longest_seconds = longest_seconds
        self._places = threading.BoundedSemaphore(WAITING_AT_ONCE)

    def ended(self, operation: Operation, seconds: float, call: Call) -> Operation:
        """The operation once it has ended, or as it is when the time is over, the call's own too, or its client has
        left."""
        with self._place() as has_room:
            bound = min(seconds, self._longest_seconds, call.seconds_left() - ANSWER_SECONDS) if has_room else 0.0
            until, pause = time.monotonic() + bound, FIRST_PAUSE_SECONDS
            while operation.is_open and (rest := until - time.monotonic()) > 0 and not call.left.wait(min(pause, rest)):
                operation = self._read(operation.tenant, operation.id) or operation
                pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
        return operation

    @contextmanager
    def _place(self) -> Iterator[bool]:
        has_room = self._places.acquire(blocking=False)
        try:
            yield has_room
        finally:
            if has_room:
                self._places.release()
