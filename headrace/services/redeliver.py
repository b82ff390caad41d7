"""Redelivering: what is accepted and not done is woken again, however its wake-up was lost. Knows no task framework.

Also lets deadlines stand still while this did not run: what Celery carries pauses while Redis is down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from headrace.domain.operations import DUE, Operation
from headrace.errors import LostRace
from headrace.ports import Clock, Store, TaskQueue

HEARTBEAT = "heartbeat"
LEASE_SECONDS = 60.0


class Redeliver:
    """Sends open operations again. Idempotent: an operation that is woken twice has one effect."""

    def __init__(self, store: Store, queue: TaskQueue, clock: Clock, holder: str, period_seconds: float) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._holder = holder
        self._period = timedelta(seconds=period_seconds)

    def run(self) -> int:
        """Wakes the jobs whose oldest open operation is due; returns how many. One holder at a time."""
        now = self._clock.now()
        lease = self._store.take_lease("redeliver", self._holder, LEASE_SECONDS, now)
        if lease is None:
            return 0
        try:
            operations = self._store.open_operations(limit=100_000)
            self._stand_still(operations, now)
            self._store.set_cursor(HEARTBEAT, "redeliver", now.isoformat(), lease)
            return self._wake(operations, now)
        finally:
            self._store.release_lease(lease, self._holder)

    def _wake(self, operations: Sequence[Operation], now: datetime) -> int:
        due = {
            operation.key
            for operation in operations
            if operation.step in DUE and (operation.not_before is None or operation.not_before <= now)
        }
        for key in sorted(due):
            self._queue.wake(key)
        return len(due)

    def _stand_still(self, operations: Sequence[Operation], now: datetime) -> None:
        """Moves deadlines by the time that passed without us, beyond three periods."""
        last = self._store.cursor(HEARTBEAT, "redeliver")
        if last is None:
            return
        silent = now - datetime.fromisoformat(last)
        if silent <= 3 * self._period:
            return
        for operation in operations:
            begun = max(operation.accepted_at, datetime.fromisoformat(last))
            try:
                self._store.replace_operation(replace(operation, deadline=operation.deadline + (now - begun)))
            except LostRace:
                continue
