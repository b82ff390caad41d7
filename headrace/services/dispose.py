"""Savepoints that are wanted no more go, through Flink and never by touching files: those that somebody names, and
those beyond what a job keeps. Decides by records; asks a JobManager; knows no task framework.

A record says so first, and for a while nothing else happens: whoever was about to start from the state is in the log by
then, and it stays. A crash at any place is taken up by the next round, and Flink finds what is gone already gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from headrace.domain import diff
from headrace.domain.jobs import SETTLED, Job, JobKey, Phase
from headrace.domain.savepoint_settings import SavepointSettings
from headrace.domain.savepoints import Savepoint, place_of, surplus
from headrace.errors import Conflict, HeadraceError, NotFound, PermanentError, Refused, Unavailable, Unreadable
from headrace.ports import Clock, JobManager
from headrace.services.records import Records
from headrace.services.runtimes import Runtimes

LEASE = "dispose"
LEASE_SECONDS = 120.0

LOOKED_FOR_EVERY_SECONDS = 3600.0
"""How often what is beyond a job's settings is looked for: it reads every savepoint on record."""

TRIED_AGAIN_AFTER = timedelta(hours=1)
AT_ONCE = 20
PAGE = 500
LONGEST_ROUND = timedelta(seconds=25)


NAMING = (("spec", "job", "initialSavepointPath"), ("status", "jobStatus", "upgradeSavepointPath"))
"""Where a deployment names the state that it starts from, or goes on from."""

AT_REST = (*SETTLED, Phase.SUSPENDED)
"""Phases of a job that has no JobManager until somebody asks for one."""

InUse = Mapping[str, JobKey]
"""Which job needs the state at a place, as savepoints.place_of writes it."""

Troubles = Sequence[tuple[Savepoint, HeadraceError]]

LAST_ONE = "it is the job's last one"


@dataclass(frozen=True)
class Disposals:
    """What one round did: savepoints that are gone, and what kept others."""

    gone: Sequence[Savepoint] = ()
    troubles: Troubles = ()


@dataclass(frozen=True)
class Dispose:
    """One holder at a time. `defaults` are the installation's settings, under a job's own; `notice` how long before a
    savepoint goes that is known: longer than accepting a request that starts from it takes."""

    records: Records
    runtimes: Runtimes
    job_manager: JobManager
    clock: Clock
    holder: str
    defaults: SavepointSettings
    notice: timedelta

    def ask(self, tenant: str, path: str) -> Savepoint:
        """The savepoint at this path is to go; again is harmless. Raises NotFound, and Conflict in words where it has
        to stay."""
        found = [each for each in self.records.store.savepoints_at(path) if each.tenant == tenant]
        if not found or found[0].disposed_at is not None:
            raise NotFound(f"there is no savepoint {path} that is yours; GET savepoints lists those that are")
        if found[0].disposing_since is not None:
            return found[0]
        why = self._why_kept(found[0], self._in_use()) or self._nobody_removes_it(found[0])
        if why:
            raise Conflict(f"savepoint {path} is not disposed of: {why}")
        return self._goes_from(found[0], self.clock.now())

    def shown(self, savepoints: Sequence[Savepoint]) -> list[Savepoint]:
        """The savepoints, each with why it stays, or else when it may go for its age: none of them has to before."""
        store, keys, in_use = self.records.store, {each.key for each in savepoints}, self._in_use()
        newest = {key: store.newest_savepoint(key) for key in keys}
        own = store.savepoint_settings(keys)
        kept = {key: self._settings_for_readers(own.get(key)) for key in keys}
        return [_told(each, newest[each.key], kept[each.key], in_use) for each in savepoints]

    def _settings_for_readers(self, own: Mapping[str, Any] | None) -> SavepointSettings | None:
        """None where no savepoint of the job goes by itself, or where only a later release knows."""
        try:
            return self.defaults.under(own) if own is not None else None
        except Unreadable:
            return None

    def run(self) -> Disposals:
        """One round; nothing where another process is at it. Raises Unavailable where the store does not answer."""
        with self.records.turn(LEASE, self.holder, LEASE_SECONDS) as is_ours:
            if not is_ours:
                return Disposals()
            return self._round(self._mark_what_is_beyond() if self._is_time_to_look() else ())

    def _is_time_to_look(self) -> bool:
        """By a lease that is never given back, and is nobody's for a second time before it has run out."""
        lease = self.records.scope.lease("retention")
        return self.records.store.take_lease(lease, str(uuid.uuid4()), LOOKED_FOR_EVERY_SECONDS) is not None

    # What is to go

    def _mark_what_is_beyond(self) -> Troubles:
        """What cannot be told of a job is that job's trouble, and holds up no other."""
        in_use, troubles = self._in_use(), list[tuple[Savepoint, HeadraceError]]()
        for of_job in self._by_job():
            try:
                self._mark_of_job(of_job, in_use)
            except (Conflict, Unreadable) as error:
                troubles.append((of_job[0], error))
        return troubles

    def _mark_of_job(self, newest_first: Sequence[Savepoint], in_use: InUse) -> None:
        """Of a job that runs alone: nothing else could remove them now, and until then somebody may start from one."""
        job, now = self.records.store.job(newest_first[0].key), self.clock.now()
        if job is None or not self.records.scope.has(job) or job.phase is not Phase.RUNNING:
            return
        for each in surplus(newest_first, self._settings(job), now):
            if not self._why_kept(each, in_use):
                self._goes_from(each, now)

    def _by_job(self) -> Iterator[list[Savepoint]]:
        """The savepoints of each job, the newest first."""
        known = sorted(self._all(), key=lambda each: (each.job_id, each.at), reverse=True)
        for _, found in groupby(known, key=lambda each: each.key):
            yield list(found)

    def _all(self) -> Iterator[Savepoint]:
        before = None
        while page := self.records.store.savepoints_of(self.records.scope.tenant, None, before, PAGE):
            yield from page
            before = (page[-1].at, page[-1].path)

    def _settings(self, job: Job) -> SavepointSettings:
        return self.defaults.under(job.submitted.get("savepoints"))

    def _in_use(self) -> InUse:
        """Which job needs the state at which place."""
        return {place_of(path): key for path, key in self.records.store.states_in_use().items()}

    def _why_kept(self, savepoint: Savepoint, in_use: InUse) -> str:
        """Why this state stays whatever is asked, in words; empty where nothing needs it."""
        store = self.records.store
        if savepoint.kind != "savepoint":
            return "it is a checkpoint, which is Flink's own"
        if any(each.key != savepoint.key for each in store.savepoints_at(savepoint.path)):
            return "others have it on record too"
        if store.document(savepoint.key) is None:
            return f"there is no job {savepoint.job_id} any more whose JobManager would remove it"
        return _whose(savepoint, in_use) or _as_the_last(savepoint, store.newest_savepoint(savepoint.key))

    def _goes_from(self, savepoint: Savepoint, now: datetime) -> Savepoint:
        return self._marked(savepoint, replace(savepoint, disposing_since=now, goes_at=now + self.notice))

    def _marked(self, before: Savepoint, after: Savepoint) -> Savepoint:
        """Raises Conflict where somebody else has marked it meanwhile."""
        if not self.records.store.mark_savepoint(before, after):
            raise Conflict(f"savepoint {before.path}: somebody else is at it; look again")
        return after

    # Its going

    def _round(self, before: Troubles) -> Disposals:
        began, gone, troubles = self.clock.now(), list[Savepoint](), list(before)
        waiting = self.records.store.disposing(self.records.scope.tenant, began, PAGE)
        in_use = self._in_use() if waiting else {}
        for each in waiting:
            if self.clock.now() - began > LONGEST_ROUND or len(gone) + len(troubles) >= AT_ONCE:
                break  # those of another namespace do not count: there they go
            try:
                if self._goes(each, in_use):
                    gone.append(each)
            except HeadraceError as error:
                troubles.append((each, error))
                self._puts_off(each, str(error))
        return Disposals(gone, troubles)

    def _goes(self, savepoint: Savepoint, in_use: InUse) -> bool:
        why = self._why_kept(savepoint, in_use)
        if why:
            return self._stays(savepoint, why)
        job = self.records.store.job(savepoint.key)
        if job is None or not self.records.scope.has(job):
            return False
        if job.phase in AT_REST:
            return self._stays(savepoint, _without_a_manager(job))
        if job.phase is not Phase.RUNNING:
            raise Unavailable(_without_a_manager(job))
        if place_of(savepoint.path) in self._named_live(job):
            return self._stays(savepoint, f"the deployment of job {job.job_id} names it")
        self.job_manager.dispose(job.namespace, job.deployment_name, savepoint.path)
        self._marked(savepoint, replace(savepoint, disposed_at=self.clock.now(), trouble=""))
        self._drops_snapshot(job, savepoint)
        return True

    def _nobody_removes_it(self, savepoint: Savepoint) -> str:
        """Why it would wait for long, and could be started from by nobody meanwhile; empty where its job runs."""
        job = self.records.store.job(savepoint.key)
        return _without_a_manager(job) if job is not None and job.phase in AT_REST else ""

    def _stays(self, savepoint: Savepoint, why: str) -> bool:
        self._marked(savepoint, replace(savepoint, disposing_since=None, goes_at=None, trouble=f"it stays: {why}"))
        return False

    def _named_live(self, job: Job) -> set[str]:
        """The places of state that the job's deployment names as it is now: hands may have been at it since the records
        were written."""
        whole = self.runtimes.of(job).get_whole(job.namespace, job.deployment_name)
        if whole is None:
            raise Unavailable(f"its JobManager removes it, and the deployment of job {job.job_id} is gone")
        return {place_of(path) for each in NAMING if isinstance(path := diff.at(whole, each), str)}

    def _drops_snapshot(self, job: Job, savepoint: Savepoint) -> None:
        """The resource by which Headrace had it taken stands for nothing any more; an operator's own is left alone."""
        try:
            found = self.runtimes.of(job).snapshots_of(job.namespace, job.deployment_name) or ()
            for each in found:
                if each.operation is not None and each.path == savepoint.path:
                    self.runtimes.of(job).delete_snapshot(job.namespace, each)
        except (Refused, Unavailable):
            return  # it is harmless: deleting it disposes of nothing

    def _puts_off(self, savepoint: Savepoint, why: str) -> None:
        again = self.clock.now() + TRIED_AGAIN_AFTER
        try:
            self._marked(savepoint, replace(savepoint, goes_at=again, trouble=why[:500]))
        except PermanentError:
            return


def _without_a_manager(job: Job) -> str:
    return f"its JobManager removes it once job {job.job_id} is RUNNING; it is {job.phase}"


def _told(savepoint: Savepoint, newest: Savepoint | None, kept: SavepointSettings | None, in_use: InUse) -> Savepoint:
    if savepoint.kind != "savepoint" or savepoint.disposing_since is not None:
        return savepoint
    why = _whose(savepoint, in_use) or _as_the_last(savepoint, newest)
    ends = kept.expires_at(savepoint.at) if kept is not None and not why else None
    return replace(savepoint, kept_because=why, expires_at=ends)


def _as_the_last(savepoint: Savepoint, newest: Savepoint | None) -> str:
    """By the place: one state may be on record by two paths."""
    return LAST_ONE if newest is None or place_of(newest.path) == place_of(savepoint.path) else ""


def _whose(savepoint: Savepoint, in_use: InUse) -> str:
    user = in_use.get(place_of(savepoint.path))
    if user is None:
        return ""
    whose = f"job {user.job_id}" if user.tenant == savepoint.tenant else "a job"
    return f"{whose} has started from it, or would"
