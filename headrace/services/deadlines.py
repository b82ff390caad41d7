"""Deadlines stand still while nobody redelivered: what Celery carries pauses while Redis is down, and nothing that
was accepted may fail for that. Knows no task framework.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from headrace.errors import LostRace
from headrace.ports import Clock, Store

HEARTBEAT = ("heartbeat", "redeliver")
LEASE = "deadlines"
LEASE_SECONDS = 60.0


class Deadlines:
    """Keeps a heartbeat, and moves open operations' deadlines by the time in which there was none."""

    def __init__(self, store: Store, clock: Clock, holder: str, period_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._period = timedelta(seconds=period_seconds)

    def keep(self) -> None:
        """Called by everything that Celery carries, before it looks at a deadline. Idempotent."""
        now = self._clock.now()
        last = self._last()
        if last is not None and now - last < self._period:
            return
        lease = self._store.take_lease(LEASE, self._holder, LEASE_SECONDS, now)
        if lease is None:
            return
        try:
            last = self._last()
            if last is not None and now - last > 3 * self._period:
                self._move(last, now)
            self._store.set_cursor(*HEARTBEAT, now.isoformat(), lease)
        finally:
            self._store.release_lease(lease, self._holder)

    def is_silent(self) -> bool:
        """Whether nothing that Celery carries has run for three periods: what is known of jobs is STALE then."""
        last = self._last()
        return last is None or self._clock.now() - last > 3 * self._period

    def _last(self) -> datetime | None:
        stored = self._store.cursor(*HEARTBEAT)
        return datetime.fromisoformat(stored) if stored else None

    def _move(self, last: datetime, now: datetime) -> None:
        for operation in self._store.open_operations(limit=100_000):
            silent = now - max(operation.accepted_at, last)
            try:
                self._store.replace_operation(replace(operation, deadline=operation.deadline + silent))
            except LostRace:
                continue  # it moves on by itself
