"""Redelivering: what is accepted and not done is woken again, however its wake-up was lost. Knows no task framework."""

from __future__ import annotations

from dataclasses import replace

from headrace.errors import Conflict, LostRace, Unreadable
from headrace.ports import Clock, TaskQueue
from headrace.services.records import Records, soon

LEASE = "redeliver"
LEASE_SECONDS = 60.0

MOST_AT_ONCE = 300
"""How many wake-ups may wait for workers. A round adds what there is room for, the longest due first: more would only
queue up behind those, and workers that are slower than the rounds would never be through with them."""

NEXT_WAKE_UP_SECONDS = 30.0
"""When a job that was woken and is still due is woken again: until then it is the turn of others."""


class Redeliver:
    """Wakes jobs whose oldest operation is due. Idempotent: an operation that is woken twice has one effect."""

    def __init__(self, records: Records, queue: TaskQueue, clock: Clock, holder: str) -> None:
        self._records = records
        self._queue = queue
        self._clock = clock
        self._holder = holder

    def run(self) -> int:
        """Wakes what is due, the longest due first, as far as workers keep up; returns how many jobs. One holder at a
        time."""
        with self._records.turn(LEASE, self._holder, LEASE_SECONDS) as is_ours:
            return self._round() if is_ours else 0

    def _round(self) -> int:
        store, scope = self._records.store, self._records.scope
        self._place()
        now, room = self._clock.now(), MOST_AT_ONCE - self._queue.waiting()
        if room <= 0:
            return 0
        due = self._records.flush_all(store.due(scope, now, room, for_workers=True))
        for each in due:
            self._queue.wake(each.key)
        store.flushed([replace(each, due_at=soon(now, NEXT_WAKE_UP_SECONDS)) for each in due if each.is_flushed])
        return len(due)

    def _place(self) -> None:
        """Takes in what was accepted and is in no document yet: its accepting process died, or lost its race. What a
        later release has accepted is left to that."""
        store, scope = self._records.store, self._records.scope
        for key, operation_ids in store.unplaced(scope, MOST_AT_ONCE).items():
            try:
                self._records.place(key)
                store.clear_unplaced(operation_ids)  # also of what was placed by who ended before it said so
            except (LostRace, Conflict, Unreadable):
                continue
