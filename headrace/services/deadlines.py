"""Deadlines stand still while nobody redelivered: what Celery carries pauses while Redis is down, and nothing that
was accepted may fail for that. Knows no task framework.

Silences are remembered in one record, so that the return of Celery costs one write however many operations wait.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace.domain.operations import Operation
from headrace.ports import Clock, Store

HEARTBEAT = ("heartbeat", "redeliver")
LEASE = "deadlines"
LEASE_SECONDS = 60.0

SILENCES_KEPT = timedelta(days=7)
"""How long a silence is remembered: longer than any deadline."""


@dataclass(frozen=True)
class _Heartbeat:
    """When it was last seen that Celery carries anything, and the times in which it did not."""

    last: datetime
    silences: Sequence[tuple[datetime, datetime]] = ()


class Deadlines:
    """Keeps a heartbeat, and knows how long an operation waited while there was none."""

    def __init__(self, store: Store, clock: Clock, holder: str, period_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._period = timedelta(seconds=period_seconds)

    def keep(self) -> None:
        """Called by everything that Celery carries, before it looks at a deadline. Idempotent."""
        now = self._clock.now()
        seen = self._seen()
        if seen is not None and now - seen.last < self._period:
            return
        lease = self._store.take_lease(LEASE, self._holder, LEASE_SECONDS, now)
        if lease is None:
            return
        try:
            self._store.set_cursor(*HEARTBEAT, _text(self._beat(self._seen(), now)), lease)
        finally:
            self._store.release_lease(lease, self._holder)

    def is_silent(self) -> bool:
        """Whether nothing that Celery carries has run for three periods: what is known of jobs is STALE then."""
        seen = self._seen()
        return seen is None or self._is_silence(seen.last, self._clock.now())

    def silent_for(self, operation: Operation) -> timedelta:
        """How long nothing was carried since it was accepted; zero, without a look, before its deadline."""
        now = self._clock.now()
        seen = self._seen() if now >= operation.deadline else None
        if seen is None:
            return timedelta()
        ongoing = [(seen.last, now)] if self._is_silence(seen.last, now) else []
        times = (end - max(begin, operation.accepted_at) for begin, end in [*seen.silences, *ongoing])
        return sum((time for time in times if time > timedelta()), timedelta())

    def _beat(self, seen: _Heartbeat | None, now: datetime) -> _Heartbeat:
        if seen is None:
            return _Heartbeat(now)
        kept = [silence for silence in seen.silences if now - silence[1] < SILENCES_KEPT]
        return _Heartbeat(now, [*kept, (seen.last, now)] if self._is_silence(seen.last, now) else kept)

    def _is_silence(self, begin: datetime, end: datetime) -> bool:
        return end - begin > 3 * self._period

    def _seen(self) -> _Heartbeat | None:
        stored = self._store.cursor(*HEARTBEAT)
        return _heartbeat(stored) if stored else None


def _text(heartbeat: _Heartbeat) -> str:
    silences = [[begin.isoformat(), end.isoformat()] for begin, end in heartbeat.silences]
    return json.dumps({"last": heartbeat.last.isoformat(), "silences": silences})


def _heartbeat(text: str) -> _Heartbeat:
    stored = json.loads(text)
    silences = [(datetime.fromisoformat(begin), datetime.fromisoformat(end)) for begin, end in stored["silences"]]
    return _Heartbeat(datetime.fromisoformat(stored["last"]), silences)
