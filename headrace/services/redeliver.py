"""Redelivering: what is accepted and not done is woken again, however its wake-up was lost. Knows no task framework."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from headrace.domain.operations import DUE, Operation
from headrace.ports import Clock, Store, TaskQueue
from headrace.services.deadlines import Deadlines

LEASE = "redeliver"
LEASE_SECONDS = 60.0

MOST_AT_ONCE = 300
"""How many jobs one round wakes, the oldest first: more would only queue up behind those, again and again."""


class Redeliver:
    """Sends open operations again. Idempotent: an operation that is woken twice has one effect."""

    def __init__(self, store: Store, queue: TaskQueue, clock: Clock, deadlines: Deadlines, holder: str) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._deadlines = deadlines
        self._holder = holder

    def run(self) -> int:
        """Wakes jobs that have an open operation due, the oldest first; returns how many. One holder at a time."""
        self._deadlines.keep()
        now = self._clock.now()
        lease = self._store.take_lease(LEASE, self._holder, LEASE_SECONDS, now)
        if lease is None:
            return 0
        try:
            return self._wake(self._store.open_operations(limit=100_000), now)
        finally:
            self._store.release_lease(lease, self._holder)

    def _wake(self, operations: Sequence[Operation], now: datetime) -> int:
        due = dict.fromkeys(
            o.key for o in operations if o.step in DUE and (o.not_before is None or o.not_before <= now)
        )
        woken = list(due)[:MOST_AT_ONCE]
        for key in woken:
            self._queue.wake(key)
        return len(woken)
