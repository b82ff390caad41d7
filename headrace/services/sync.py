"""Observing: what changes in deployments becomes phases, transitions and the next steps of operations.

Costs in proportion to what changed: a watch resumed from the stored resourceVersion, a full list only where the
history is gone, or every few minutes as a backstop. Knows no task framework; never changes a deployment: what a plan
wants of the cluster wakes a worker. The trouble of one job stays that job's.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from headrace.domain.deployments import JOB_ID_ANNOTATION, RUN_ANNOTATION, TENANT_ANNOTATION, Deployment, Gone
from headrace.domain.document import JobDocument
from headrace.domain.jobs import NATIVE, SETTLED, JobKey, Observation, Transition
from headrace.domain.operations import DUE
from headrace.errors import HeadraceError, HistoryGone, LostRace, Refused, Unanswered, Unavailable, Unreadable
from headrace.ports import Clock, Lease, Scope, Store, TaskQueue, WatchEvent
from headrace.services.diagnose import Diagnose
from headrace.services.handover import Handover, Over
from headrace.services.observe import Observe, Seeing, Sighted
from headrace.services.records import Records
from headrace.services.runtimes import Runtimes

Result = TypeVar("Result")

LEASE = "sync"
LEASE_SECONDS = 30.0
BATCH = 200
LONGEST_LOOK = timedelta(seconds=3)
"""How long one run may look into jobs that turned bad, how long at those that are due, and how long at those that its
watch tells of: a JobManager that does not answer takes seconds to say so. All of it is well below the lease's time,
since the last look of each may last longer."""

LONGEST_WAIT = timedelta(seconds=30)
"""How long a native job may be due for a look before its record says that it is STALE."""

TRIES = 5

RECONSIDERED = 50
"""How many jobs that are due are looked at in one round, the longest due first."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=10)
"""How long a job is left alone that cannot be observed; it doubles each time."""


@dataclass(frozen=True)
class Trouble:
    """A job that cannot be observed: what was raised, why in words, and until when it is left alone."""

    error: Exception
    why: str
    until: datetime
    pause: timedelta


class Sync:
    """Brings deployments' status into the store. One holder at a time, by a lease with a fencing token."""

    def __init__(
        self,
        records: Records,
        runtimes: Runtimes,
        queue_: TaskQueue,
        observe: Observe,
        diagnose: Diagnose,
        clock: Clock,
        holder: str,
        relist_period_seconds: float,
    ) -> None:
        self._records = records
        self._store: Store = records.store
        self._scope: Scope = records.scope
        self._runtimes = runtimes
        self._queue = queue_
        self._observe = observe
        self._diagnose = diagnose
        self._clock = clock
        self._holder = holder
        self._relist_period = timedelta(seconds=relist_period_seconds)
        self._listed_at: datetime | None = None
        self._looked = timedelta()
        self._looked_again_for = timedelta()
        self._postponed: dict[JobKey, None] = {}
        self._troubles: dict[JobKey, Trouble] = {}
        self._met: dict[JobKey, Trouble] = {}
        self._changes: list[Transition] = []

    @property
    def troubles(self) -> Mapping[JobKey, Trouble]:
        """Jobs that were looked at in the last run and could not be observed."""
        return self._met

    def run(self, hold_seconds: float) -> Sequence[Transition]:
        """Follows the watch for `hold_seconds`, listing first where that is due; returns the changes of phases that
        it stored, and none, at once, where another process holds the lease. Raises Unavailable, and Refused where
        the account may not look, after marking every job's observation."""
        self._changes, self._met = [], {}
        self._looked = self._looked_again_for = timedelta()
        lease = self._store.take_lease(self._scope.lease(LEASE), self._holder, LEASE_SECONDS)
        if lease is None:
            return []
        try:
            self._follow(lease, hold_seconds)
        except HistoryGone:
            self._listed_at = None  # the list itself ran out of history: the next run lists anew
        except (Unavailable, Refused):
            self._listed_at = None
            self._store.mark(self._scope, Observation.UNREACHABLE, None)
            raise
        finally:
            self._store.release_lease(lease, self._holder)
        return self._changes

    def _follow(self, lease: Lease, hold_seconds: float) -> None:
        stored = self._store.cursor(self._scope)
        cursor = stored.resource_version if stored is not None else None
        if cursor is None or self._listed_at is None or self._clock.now() - self._listed_at >= self._relist_period:
            cursor = self._list(lease, gap=cursor is not None)
        self._reconsider()
        try:
            self._watch(lease, cursor, hold_seconds)
        except HistoryGone:
            self._list(lease, gap=True)

    def _list(self, lease: Lease, gap: bool) -> str:
        """The backstop: every deployment against what is stored; what is stored and not listed is asked for by name."""
        stored = dict(self._store.versions(self._scope))
        resource_version = ""
        for runtime, page in self._runtimes.list_pages(self._scope.namespace):
            resource_version, kind = page.resource_version, "MODIFIED" if page.is_whole else "TOUCHED"
            changed = [WatchEvent(kind, each) for each in page.deployments if not _is_stored(stored, each)]
            for uid in self._observe_all([(runtime, each) for each in (*page.unreadable, *changed)], gap=gap):
                stored.pop(uid, None)
            self._renew(lease)
        for key in self._store.jobs_of(self._scope, stored) if stored else ():
            self._look_again(key, gap=True)
        self._store.mark(self._scope, Observation.FRESH, self._clock.now())
        for key, trouble in self._troubles.items():
            self._say_trouble(key, trouble.why)
        self._store.set_cursor(self._scope, resource_version, lease)
        self._listed_at = self._clock.now()
        return resource_version

    def _renew(self, lease: Lease) -> None:
        """Raises Unavailable where another process has taken over: what this one has seen is older."""
        if self._store.take_lease(lease.name, self._holder, LEASE_SECONDS) != lease:
            raise Unavailable("another process has taken the sync over")

    def _watch(self, lease: Lease, cursor: str, hold_seconds: float) -> None:
        latest = cursor
        self._looked_again_for = timedelta()  # what the watch tells of has its own time
        with _Pump(self._runtimes.watch(self._scope.namespace, cursor, max(1, int(hold_seconds)))) as pump:
            for batch in pump.batches(hold_seconds):
                self._observe_all([each for each in batch if each[1].kind != "BOOKMARK"], gap=False)
                latest = batch[-1][1].cursor
                if not self._store.set_cursor(self._scope, latest, lease):
                    return
        if latest == cursor:
            self._store.set_cursor(self._scope, latest, lease)  # nothing changed, and that is known to be so now

    def _observe_all(self, events: Sequence[tuple[str, WatchEvent]], gap: bool) -> set[str]:
        """One read of the jobs concerned, then each event in turn; one write of those that changed. Gives the uids of
        the deployments that were their jobs' on record."""
        keyed = [(key, name, event) for name, event in events if (key := self._key_of(event.deployment)) is not None]
        keys = sorted({key for key, _, _ in keyed})
        read = {document.key: document for document in self._store.documents(keys)} if keys else {}
        now = {**read}
        again: set[JobKey] = set()
        for key, runtime, event in keyed:
            if key not in now or key in again or self._is_left_alone(key):
                continue
            seen = self._isolated(key, partial(self._after, now[key], runtime, event, gap))
            if seen is None:
                again.add(key)
            else:
                now[key] = seen
        changed = [(read[key], after) for key, after in now.items() if after != read[key] and key not in again]
        again |= self._written(changed)
        for key in sorted(again):
            self._look_in_time(key, gap=gap)
        uids = {key: document.job.deployment_uid for key, document in read.items()}
        return {uid for key, _, event in keyed if (uid := event.deployment.metadata.uid) == uids.get(key)}

    def _after(self, document: JobDocument, runtime: str, event: WatchEvent, gap: bool) -> JobDocument | None:
        """The document after an event; None where only a fresh look can say what is."""
        live = event.deployment
        if event.kind == "UNREADABLE":
            raise Unreadable(event.why)
        if event.kind in ("DELETED", "TOUCHED") or runtime != document.job.runtime:
            return None
        if self._is_older(document, live) or self._is_another(document, live):
            return None
        return self._shown(document, live, gap)

    def _is_older(self, document: JobDocument, live: Deployment) -> bool:
        """Whether it was seen before what is stored: not written, and confirmed by a look."""
        stored, seen = document.job.resource_version, live.metadata.resource_version
        if document.job.deployment_uid != live.metadata.uid or not stored:
            return False
        return not (stored.isdecimal() and seen.isdecimal()) or int(seen) < int(stored)

    def _is_another(self, document: JobDocument, live: Deployment) -> bool:
        return document.job.deployment_uid is not None and document.job.deployment_uid != live.metadata.uid

    def _shown(self, document: JobDocument, what: Deployment | Gone, gap: bool) -> JobDocument:
        """The document after a sight, looked into where it turned bad; wakes a worker where one is wanted."""
        if isinstance(what, Deployment) and self._observe.is_unwanted(document, what):
            self._queue.wake(document.key)
            return document
        seeing = self._observe.seen(document, what, self._clock.now(), gap=gap)
        told = self._looked_into(seeing)
        if told is None:
            return seeing.document  # its phase is written now; why, and what that ends, a little later
        sighted = self._observe.progressed(told, seeing.seen)
        if sighted.left or self._wants_a_worker(document, sighted.document, what) or self._has_an_act(sighted, what):
            self._queue.wake(document.key)
        return sighted.document.without_detour(document)

    def _wants_a_worker(self, before: JobDocument, after: JobDocument, what: Deployment | Gone) -> bool:
        """Whether a step of a worker's came up, or what one waits to be removed is gone."""
        following = after.oldest
        if following is None or following.step not in DUE:
            return False
        return isinstance(what, Gone) or before.oldest is None or before.oldest.step not in DUE

    def _has_an_act(self, sighted: Sighted, what: Deployment | Gone) -> bool:
        """Whether the runtime has something left to do of a job of which nothing is asked."""
        status = what.status if isinstance(what, Deployment) else None
        return sighted.document.oldest is None and status is not None and status.act is not None

    def _looked_into(self, seeing: Seeing) -> JobDocument | None:
        """The document with why its job turned bad, where it did; None where there is no time for that now."""
        document, seen = seeing.document, seeing.seen
        if not isinstance(seen.what, Deployment) or not self._diagnose.is_due(document.job, seen.what, seen.trouble):
            return document
        if self._looked >= LONGEST_LOOK:
            self._postponed[document.key] = None
            return None
        begun = self._clock.now()
        facts = self._diagnose.facts(document.job, seen.what, seen.trouble, seeing.pods)
        self._looked += self._clock.now() - begun
        return self._observe.told(document, seen, facts)

    def _written(self, changed: Sequence[tuple[JobDocument, JobDocument]]) -> set[JobKey]:
        """Writes them in one call, and what they lack in their collections; returns those that lost their race."""
        if not changed:
            return set()
        counted = [(before, self._records.counted(before, after)) for before, after in changed]
        lost = set(self._store.write_all(counted))
        stored = [after for _, after in counted if after.key not in lost]
        for before, after in counted:
            if after.key not in lost:
                self._changes.extend(after.history[len(before.history) :])
        self._records.flush_all(stored)
        return lost

    def _look_in_time(self, key: JobKey, gap: bool = False, is_overdue: bool = False) -> None:
        """Looks again while there is time for that in this run; what is left over has its turn before others in the
        next one, and says so where it is overdue. A gap is not put off: nobody would know of it then."""
        if self._is_left_alone(key):
            return
        if not gap and self._looked_again_for >= LONGEST_LOOK:
            self._postponed[key] = None
            if is_overdue and key not in self._troubles:  # a trouble of its own says more
                self._say_stale(key, "it was not observed in time: looks at other jobs take long")
            return
        self._look_again(key, gap)

    def _look_again(self, key: JobKey, gap: bool = False) -> None:
        begun = self._clock.now()
        self._isolated(key, partial(self._looked_again, key, gap))
        self._looked_again_for += self._clock.now() - begun

    def _looked_again(self, key: JobKey, gap: bool) -> bool:
        """A GET made after the record was read: what it shows is newer than the record."""
        for _ in range(TRIES):
            document = self._records.read(key)
            if document is None:
                return True
            job = document.job
            live = self._runtimes.of(job).get(job.namespace, job.deployment_name)
            after = self._shown(document, live if live is not None else Gone(), gap)
            if after == document or not self._written([(document, after)]):
                return True
        raise LostRace(f"job {key.job_id}: its record changes too often to be observed; it is tried again")

    def _isolated(self, key: JobKey, look: Callable[[], Result]) -> Result | None:
        """What looking at one job gives. Servers that do not answer are everybody's trouble, and raised. Whatever else
        goes wrong with a job, with its own JobManager too, is that job's: it is said on it, and it is left alone for a
        growing while."""
        try:
            result = look()
        except Unanswered as error:
            self._is_in_trouble(key, error)
            return None
        except Unavailable:
            raise
        except LostRace:
            self._postponed[key] = None
            return None
        except Exception as error:  # noqa: BLE001 - whatever one job's records or deployment lead to stays that job's
            self._is_in_trouble(key, error)
            return None
        self._troubles.pop(key, None)
        return result

    def _is_in_trouble(self, key: JobKey, error: Exception) -> None:
        known = self._troubles.get(key) if not isinstance(error, Unanswered) else None  # it is waited for, and not long
        pause = min(2 * known.pause, LONGEST_PAUSE) if known is not None else FIRST_PAUSE
        words = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__} while it was observed"
        self._troubles[key] = self._met[key] = Trouble(error, words, self._clock.now() + pause, pause)
        self._say_trouble(key, words)

    def _say_trouble(self, key: JobKey, words: str) -> None:
        self._say_stale(key, f"it cannot be observed: {words}"[:500])

    def _say_stale(self, key: JobKey, reason: str) -> None:
        document = next(iter(self._store.documents([key])), None)
        if document is None:
            return
        if document.job.phase in SETTLED:
            reason = document.job.reason  # why it has ended: nothing would say so again
        job = replace(document.job, observation=Observation.STALE, reason=reason)
        if job != document.job:
            self._store.write_all([(document, self._records.counted(document, document.with_job(job)))])

    def _is_left_alone(self, key: JobKey) -> bool:
        trouble = self._troubles.get(key)
        return trouble is not None and self._clock.now() < trouble.until

    def _reconsider(self) -> None:
        """Looks at jobs that time moves on: a deadline, a grace period, a pod that cannot start, one that there was no
        time to look into; and takes in what was accepted and is in no document yet."""
        for key in self._store.unplaced(self._scope, RECONSIDERED):
            self._isolated(key, partial(self._records.place, key))
        postponed, self._postponed = self._postponed, {}
        now = self._clock.now()
        found = self._store.due(self._scope, now, RECONSIDERED, for_workers=False)
        overdue = {each.key for each in found if _is_overdue(each, now)}
        due = self._records.flush_all(found)  # what the log lacks: no sight need come that would bring it there
        for key in dict.fromkeys([*postponed, *(each.key for each in due)]):
            self._look_in_time(key, is_overdue=key in overdue)

    def _key_of(self, deployment: Deployment) -> JobKey | None:
        """Whose deployment it is; None where it is not of this installation."""
        annotations: Mapping[str, str] = deployment.metadata.annotations or {}
        tenant, job_id = annotations.get(TENANT_ANNOTATION), annotations.get(JOB_ID_ANNOTATION)
        if tenant != self._scope.tenant or not job_id or not annotations.get(RUN_ANNOTATION):
            return None
        return JobKey(tenant, job_id)


class _Pump:
    """Reads a blocking watch in a thread, so that what has arrived is handled together and nothing waits."""

    def __init__(self, events: Iterator[tuple[str, WatchEvent]]) -> None:
        self._events = events
        self._arrived = Handover[tuple[str, WatchEvent]](10 * BATCH)

    def __enter__(self) -> _Pump:
        self._arrived.read(self._events, "watch")
        return self

    def __exit__(self, *_: object) -> None:
        self._arrived.leave()

    def batches(self, hold_seconds: float) -> Iterator[list[tuple[str, WatchEvent]]]:
        """What has arrived, together, until the watch ends. Raises what the watch raised."""
        end: Over | None = None
        while end is None:
            try:
                arrived = self._arrived.take(BATCH, hold_seconds + 10)
            except queue.Empty:
                raise Unavailable("the watch of deployments went silent beyond its bound") from None
            batch = [item for item in arrived if not isinstance(item, Over)]
            end = next((item for item in arrived if isinstance(item, Over)), None)
            if batch:
                yield batch
        if end.error is not None:
            raise end.error


def _is_stored(stored: dict[str, str | None], live: Deployment) -> bool:
    """Whether this very version was seen, which is then crossed off; what no record knows was not."""
    uid = live.metadata.uid
    if stored.get(uid) != live.metadata.resource_version:
        return False
    del stored[uid]
    return True


def _is_overdue(document: JobDocument, at: datetime) -> bool:
    """Whether nobody has looked for long at a job of which no event tells what became of it: a native one that has not
    settled."""
    job, due_at = document.job, document.due_at
    return job.runtime == NATIVE and job.phase not in SETTLED and due_at is not None and at - due_at >= LONGEST_WAIT
