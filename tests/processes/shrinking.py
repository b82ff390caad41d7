"""A schedule that breaks a rule is made smaller, for as long as there is time: parts of it are left out, the rest is
played again. Real processes do not do the same twice: what is left out was not needed once, what stays may not be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.processes.checker import broken
from tests.processes.history import History
from tests.processes.schedule import Event

Play = Callable[[Sequence[Event]], History]


def shrunk(events: Sequence[Event], play: Play, seconds: float) -> tuple[Sequence[Event], History | None]:
    """The fewest events that still broke a rule, and the last history of them; delta debugging, bounded by time."""
    until, parts, last = time.monotonic() + seconds, 2, None
    while len(events) > 1 and time.monotonic() < until:
        smaller = _smaller(events, parts, play, until)
        if smaller is not None:
            events, last = smaller
            parts = max(parts - 1, 2)
        elif parts >= len(events):
            break
        else:
            parts = min(2 * parts, len(events))
    return events, last


def _smaller(events: Sequence[Event], parts: int, play: Play, until: float) -> tuple[Sequence[Event], History] | None:
    """What is left without one of so many parts, where that still breaks a rule."""
    size = -(-len(events) // parts)
    for start in range(0, len(events), size):
        if time.monotonic() > until:
            return None
        left = [*events[:start], *events[start + size :]]
        if left and broken(history := play(left)):
            return left, history
    return None
