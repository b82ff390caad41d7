"""Savepoints that are taken by themselves: a SAVEPOINT is asked for of each job whose time it is, through the same door
as anybody's. Takes none itself; knows no task framework.

One a slot, whoever asks how often: its idempotency key is the job's, the run's and the slot's. What waits or fails is
not asked for again before the next slot, and what was missed is not made up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, Source
from headrace.domain.savepoint_settings import SavepointSettings, due_slot
from headrace.errors import HeadraceError, PermanentError, Unreadable
from headrace.ports import Clock, Steady
from headrace.services.accept import Accept
from headrace.services.records import Records

LEASE = "savepoints"
LEASE_SECONDS = 60.0

LONGEST_ROUND = timedelta(seconds=30)
"""After so long no other savepoint is asked for: the next round does."""


@dataclass(frozen=True)
class AskedFor:
    """What one round did: jobs of which a savepoint is being taken, and why it could not be asked for of others."""

    jobs: Sequence[JobKey] = ()
    troubles: Sequence[tuple[JobKey, HeadraceError]] = ()


@dataclass(frozen=True)
class TakeSavepoints:
    """One holder at a time. `defaults` are the installation's settings, under a job's own."""

    records: Records
    accept: Accept
    clock: Clock
    holder: str
    defaults: SavepointSettings

    def run(self) -> AskedFor:
        """One round; nothing where another process is at it. Raises Unavailable where the store does not answer."""
        with self.records.turn(LEASE, self.holder, LEASE_SECONDS) as is_ours:
            return self._round(self.clock.now()) if is_ours else AskedFor()

    def _round(self, began: datetime) -> AskedFor:
        asked: list[JobKey] = []
        troubles: list[tuple[JobKey, HeadraceError]] = []
        for each in self.records.store.steady(self.records.scope, of_all=bool(self.defaults.every_minutes)):
            now = self.clock.now()
            if now - began > LONGEST_ROUND:
                break
            try:
                if self._asks(each, now):
                    asked.append(each.key)
            except (PermanentError, Unreadable) as error:  # it is something else by now, or of another release
                troubles.append((each.key, error))
        return AskedFor(asked, troubles)

    def _asks(self, job: Steady, now: datetime) -> bool:
        settings = self.defaults.under(job.savepoints)
        slot = due_slot(job.key, settings, job.since, now)
        if slot is None:
            return False
        tenant, job_id = job.key.tenant, job.key.job_id
        key = f"savepoint/{job_id}/{job.run}/{settings.every_minutes}/{slot}"
        if self.records.store.operation_by_key(tenant, key) is not None:
            return False
        source = Source(via="schedule", detail={"why": f"its state is kept every {settings.every_minutes} minutes"})
        return self.accept.operation(KindName.SAVEPOINT, job_id, {}, tenant=tenant, key=key, source=source).created
