"""What one answer may take, as a whole, of a server that is not to be trusted: a JobManager's pod runs users' code.

An HTTP client bounds each read and not their sum: one byte now and then keeps a thread for ever. Knows no client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

MOST_BYTES = 16 * 2**20
"""Far more than a JobManager says of the largest job."""


class BeyondBounds(OSError):
    """An answer that was not read to its end: it took too long, or is too large."""


class Bounds:
    """The time and the size of one answer, whose requests are made in this context. Whoever waits in a read is ended by
    shutting the connection down, from a thread of its own; the context raises BeyondBounds then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._is_over = False
        self._shut_down: Callable[[], object] | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Bounds:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._is_over and (error is None or isinstance(error, Exception)):
            raise BeyondBounds(f"its answer was not over after {self._seconds:g} s") from error

    def watch(self, shut_down: Callable[[], object]) -> None:
        """What ends the reads of the connection that there is from now on. It is called at once where time is over."""
        with self._lock:
            self._shut_down = shut_down
            if self._is_over:
                self._end_reads()

    def body(self, pieces: Iterable[bytes]) -> bytes:
        """All of it. Raises BeyondBounds where it is too large."""
        found = bytearray()
        for piece in pieces:
            found += piece
            if len(found) > MOST_BYTES:
                raise BeyondBounds(f"its answer is larger than {MOST_BYTES} bytes")
        return bytes(found)

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            self._end_reads()

    def _end_reads(self) -> None:
        if self._shut_down is not None:
            with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
                self._shut_down()
