"""`headrace top`: looks at the fleet again and again, in a thread of its own: keys and the screen never wait for it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headrace.cli import fleet, output
from headrace.cli.fleet import Looked
from headrace.errors import Unavailable

ENDS_IT = ("q", "Q")
LEAST_SECONDS = 0.5
ANSWER_SECONDS = 10.0
"""How long one answer may take: it is asked again anyway."""

Look = Callable[[], Sequence[dict[str, Any]]]


class Looking:
    """Looks every so many seconds, until it is stopped. `on_news` is told, in its thread, when there is something to
    show; `failed` is what no further look would mend."""

    def __init__(self, look: Look, first: Looked, every_seconds: float, on_news: Callable[[], None]) -> None:
        self._look = look
        self._every_seconds = every_seconds
        self._on_news = on_news
        self._stopped = threading.Event()
        self.latest = first
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)

    def __enter__(self) -> Looking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_seconds) and self.failed is None:
            try:
                self.latest = Looked(self._look(), datetime.now(UTC))
            except Unavailable as error:
                self.latest = replace(self.latest, trouble=str(error))
            except Exception as error:  # noqa: BLE001 - raised again by whoever shows it
                self.failed = error
            self._on_news()


def live(look: Look, every_seconds: float) -> None:
    """Shows the fleet until q. Raises what the first look raises, and later what no further look would mend; Ctrl-C is
    KeyboardInterrupt. Another signal ends the process, after the terminal is as it was."""
    from headrace.cli import screen

    first = Looked(look(), datetime.now(UTC))
    try:
        with screen.Screen() as shown, Looking(look, first, every_seconds, shown.wake) as looking:
            _show(shown, looking, every_seconds)
    except screen.Ended as ended:
        if ended.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.stdout.flush()
        signal.raise_signal(ended.number)


def _show(shown: Any, looking: Looking, every_seconds: float) -> None:
    hint = f"every {every_seconds:g}s, q ends"
    while looking.failed is None:
        now, colours = datetime.now(UTC), output.has_colours()
        shown.draw(fleet.frame(looking.latest, now, shown.size, hint, has_colours=colours))
        if shown.wait(every_seconds) in ENDS_IT:
            return
    raise looking.failed


def once(look: Look) -> None:
    """Prints the fleet as one table."""
    jobs = fleet.trouble_first(look())
    if not jobs:
        output.say(output.NO_JOBS)
        return
    for line in fleet.grid(output.room(), has_colours=output.has_colours()).lines(jobs):
        print(line)


def is_possible() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    try:
        import termios  # noqa: F401 - not on every system
    except ImportError:
        return False
    return output.can_be_drawn_on()
