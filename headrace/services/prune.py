"""What has been kept for long enough goes: the records of jobs that were deleted. Never a savepoint, nor its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headrace.domain.jobs import Job, JobKey, Phase, forgotten
from headrace.errors import LostRace
from headrace.ports import Clock
from headrace.services.records import Records

AT_ONCE = 200
"""How many jobs one round forgets, at most."""

LEASE_SECONDS = 60.0

KEYS_KEPT = timedelta(days=30)
"""How long an idempotency key is known, whatever becomes of its job: a repeat may come as late."""


@dataclass(frozen=True)
class Prune:
    """Removes the records of deleted jobs after `kept_deleted`. One holder at a time; a crash between any two writes
    leaves what the next round finishes."""

    records: Records
    clock: Clock
    holder: str
    kept_deleted: timedelta

    def run(self) -> Sequence[JobKey]:
        """The jobs whose records went in this round; none where another process is at it."""
        store, scope = self.records.store, self.records.scope
        lease = store.take_lease(scope.lease("prune"), self.holder, LEASE_SECONDS)
        if lease is None:
            return ()
        try:
            now = self.clock.now()
            store.drop_forgotten(scope, now - KEYS_KEPT)
            old = store.deleted(scope, now - self.kept_deleted, AT_ONCE)
            return [key for key in old if self._forgot(key, now)]
        finally:
            store.release_lease(lease, self.holder)

    def goes_at(self, job: Job) -> datetime | None:
        """When a job's records go; None where it is not deleted."""
        is_deleted = job.phase is Phase.DELETED and job.phase_since is not None
        return job.phase_since + self.kept_deleted if is_deleted and job.phase_since else None

    def _forgot(self, key: JobKey, now: datetime) -> bool:
        """The job's own record goes last, and only where nobody has asked anything of it since: by it the rest is
        found again."""
        try:
            document = self.records.place(key)
            if document is None or not document.is_hidden or not document.is_flushed:
                return False
            self.records.store.forget(key, document.job.last_sequence)
            self.records.write(document, replace(document, job=forgotten(document.job, now)))
        except LostRace:
            return False
        return True
