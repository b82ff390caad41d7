"""Taking stock: the numbers of an installation, for whoever watches over it. Reads alone; knows no metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.domain.stock import Stock, stock
from headrace.ports import TaskQueue
from headrace.services import dispose, prune, redeliver, sync, take_savepoints, waits
from headrace.services.records import Records

LEASES = (sync.LEASE, redeliver.LEASE, waits.LEASE, prune.LEASE, dispose.LEASE, take_savepoints.LEASE)


@dataclass(frozen=True)
class TakeStock:
    """Looks at the records and at the queues, each in a bounded time and apart: one may be away without the other."""

    records: Records
    queue: TaskQueue

    def of_records(self) -> Stock:
        """What is on record. Raises Unavailable."""
        store, scope = self.records.store, self.records.scope
        cursor = store.cursor(scope)
        held = store.leases([scope.lease(name) for name in LEASES])
        return stock(
            jobs=store.count_phases(scope),
            opened=store.open_operations(scope),
            synced_at=cursor.at if cursor is not None else None,
            leases={name: held[scope.lease(name)] for name in LEASES if scope.lease(name) in held},
            now=self.records.clock.now(),
        )

    def of_queues(self) -> Mapping[str, int]:
        """How many messages no worker has taken yet, by queue. Raises Unavailable."""
        return self.queue.lengths()
