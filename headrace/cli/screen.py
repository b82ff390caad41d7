"""The terminal as a whole screen, with keys that need no Enter, given back as it was however this ends. Knows no job.

A signal wakes who waits, and is acted on there: nothing is ever half taken or half given back.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

TAKEN = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, without a cursor, where no line goes on in the next."""

GIVEN_BACK = "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
WAKING = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
PATIENCE_SECONDS = 2.0
"""After so long a second signal does not wait for its turn: a terminal that takes nothing holds no process."""


class Ended(BaseException):
    """A signal came that ends a process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """The terminal of stdout, and its keys where stdin is one too. Once in a process, in its main thread."""

    def __init__(self) -> None:
        self._keys: int | None = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before = termios.tcgetattr(self._keys) if self._keys is not None else None
        self._handlers: dict[int, Any] = {}
        self._asked_to_end: float | None = None
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def __enter__(self) -> Screen:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (*ENDING, *WAKING):
            self._handlers[number] = signal.getsignal(number)
            if self._handlers[number] != signal.SIG_IGN:
                signal.signal(number, self._ends if number in ENDING else _wakes)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._give_back()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._write(TAKEN)

    def _give_back(self) -> None:
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        self._write(GIVEN_BACK)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now; those of an old terminal where it does not say."""
        with suppress(OSError):
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            if columns and lines:
                return columns, lines
        return 80, 24

    def draw(self, lines: Sequence[str]) -> None:
        """Shows these lines and nothing else: no more than `size` has room for."""
        self._write(HOME + "\n".join(line + REST_OF_LINE for line in lines) + REST_OF_SCREEN)

    def wake(self) -> None:
        """Ends a wait that goes on, or the next one. May be called by any thread, also after the end."""
        with suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._waker, b"\0")

    def wait(self, seconds: float) -> str:
        """The key that was pressed; none where the time is over, or it was woken, or the screen is another. Raises
        Ended where a signal asked for it."""
        watched = [self._woken] + ([self._keys] if self._keys is not None else [])
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._woken in ready:
            self._heed(os.read(self._woken, 4096))
        if self._keys is None or self._keys not in ready:
            return ""
        typed = os.read(self._keys, 64)
        if not typed:
            self._keys = None  # nobody types there any more
        return typed[:1].decode("ascii", "replace")

    def _heed(self, numbers: bytes) -> None:
        for number in ENDING:
            if number in numbers:
                raise Ended(number)
        if signal.SIGTSTP in numbers:
            self._stop()

    def _stop(self) -> None:
        """Ctrl-Z: the terminal is the shell's, until this goes on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _wakes)
        self._take()

    def _ends(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        self._asked_to_end = self._asked_to_end or now
        if now - self._asked_to_end > PATIENCE_SECONDS:
            raise Ended(number)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _wakes(_number: int, _frame: FrameType | None) -> None:
    """Its number stands in the pipe."""
