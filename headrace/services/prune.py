"""What has been kept for long enough goes: what runs that have ended left in the cluster, and the records of jobs that
were deleted. Never a savepoint, nor its record. Ends no run: what it asks for is a STOP that leaves one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headrace.domain.jobs import Job, JobKey, Phase, forgotten
from headrace.domain.operations import KindName, Source
from headrace.errors import HeadraceError, LostRace, Unreadable
from headrace.ports import Clock, Remains
from headrace.services.accept import Accept
from headrace.services.diagnose import Diagnose
from headrace.services.records import Records

AT_ONCE = 50
"""How many ended runs are cleared, and how many jobs forgotten, in one round at most."""

LEASE = "prune"
LEASE_SECONDS = 120.0

KEYS_KEPT = timedelta(days=30)
"""How long an idempotency key is known, whatever becomes of its job: a repeat may come as late."""


@dataclass(frozen=True)
class Retention:
    """How long an installation keeps what has ended; a job's own `ended_run_kept_hours` stands before `ended_runs`. A
    native run that is done is not kept: its end is on record, and nothing of it is left to be looked at."""

    ended_runs: timedelta
    deleted_jobs: timedelta

    def until(self, remains: Remains) -> datetime:
        """When what a run has left may go."""
        own = 0.0 if remains.kept_hours is None and remains.is_done else remains.kept_hours
        return remains.since + (self.ended_runs if own is None else timedelta(hours=own))


@dataclass(frozen=True)
class Pruned:
    """What one round did: jobs whose ended run is being cleared, jobs whose records went, and what kept others."""

    cleared: Sequence[JobKey] = ()
    forgotten: Sequence[JobKey] = ()
    troubles: Sequence[tuple[JobKey, HeadraceError]] = ()


@dataclass(frozen=True)
class Prune:
    """One holder at a time; a crash between any two writes leaves what the next round finishes."""

    records: Records
    accept: Accept
    diagnose: Diagnose
    clock: Clock
    holder: str
    retention: Retention

    def run(self) -> Pruned:
        """One round; nothing where another process is at it. Raises Unavailable where the store does not answer."""
        with self.records.turn(LEASE, self.holder, LEASE_SECONDS) as is_ours:
            return self._round(self.clock.now()) if is_ours else Pruned()

    def _round(self, now: datetime) -> Pruned:
        store, scope = self.records.store, self.records.scope
        store.drop_forgotten(scope, now - KEYS_KEPT)
        old = store.deleted(scope, now - self.retention.deleted_jobs, AT_ONCE)
        gone = [key for key in old if self._forgot(key, now)]
        return replace(self._cleared(now), forgotten=gone)

    def goes_at(self, job: Job) -> datetime | None:
        """When a job's records go; None where it is not deleted."""
        is_deleted = job.phase is Phase.DELETED and job.phase_since is not None
        return job.phase_since + self.retention.deleted_jobs if is_deleted and job.phase_since else None

    def _cleared(self, now: datetime) -> Pruned:
        ended = [each for each in self.records.store.remains(self.records.scope) if self.retention.until(each) <= now]
        cleared: list[JobKey] = []
        troubles: list[tuple[JobKey, HeadraceError]] = []
        for each in ended:
            if len(cleared) + len(troubles) >= AT_ONCE:
                break
            try:
                if self._clears(each.key):
                    cleared.append(each.key)
            except HeadraceError as error:
                troubles.append((each.key, error))
        return Pruned(cleared, (), troubles)

    def _clears(self, key: JobKey) -> bool:
        """What is left to read of the run is on record before anything is asked for. Asked once a run: where that
        failed, its words say why, and a STOP by hand is left."""
        document = self.records.place(key)
        if document is None or document.open_operations:
            return False
        asked = f"prune/{key.job_id}/{document.job.run}"
        if self.records.store.operation_by_key(key.tenant, asked) is not None:
            return False
        kept = replace(document.job, **self.diagnose.last_words(document.job))
        if kept != document.job:
            self.records.write(document, document.with_job(kept))
        source = Source(via="schedule", detail={"why": f"run {document.job.run} has ended, and was kept for its time"})
        self.accept.operation(
            KindName.STOP, key.job_id, {"only_remains": True}, tenant=key.tenant, key=asked, source=source
        )
        return True

    def _forgot(self, key: JobKey, now: datetime) -> bool:
        """The job's own record goes first, by a write that whoever asks for something meanwhile wins or loses: what was
        brought back is whole. Until the rest is gone too it says since when the job is deleted, and so is found again.
        """
        try:
            document = self.records.place(key)
            if document is None or not document.is_hidden or not document.is_flushed:
                return False
            if not document.job.is_forgotten:
                document = self.records.write(document, document.with_job(forgotten(document.job, now)))
            job = document.job
            self.records.store.forget(key, job.last_sequence, job.transition_count)
            self.records.write(document, document.with_job(replace(job, phase_since=None)))
        except (LostRace, Unreadable):
            return False
        return True
