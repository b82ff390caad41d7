"""Observing: what changes in deployments becomes phases, transitions and the next steps of operations.

Costs in proportion to what changed: a watch resumed from the stored resourceVersion, a full list only where the
history is gone, or every few minutes as a backstop. Knows no task framework; never changes a deployment, but for
one of ours that nobody wants any more.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.deployments import (
    JOB_ID_ANNOTATION,
    RUN_ANNOTATION,
    TENANT_ANNOTATION,
    Deployment,
    Gone,
    PodTrouble,
    Seen,
    is_running,
    sequence_of,
)
from headrace.domain.job_requests import parse_request
from headrace.domain.jobs import SETTLED, Desired, Job, JobKey, Observation, Transition
from headrace.domain.manifest import with_parallelism
from headrace.domain.operations import DUE, Kind, Operation, State, Step
from headrace.domain.pods import PodSeen, first_trouble, manager_is_up
from headrace.domain.status import observe
from headrace.errors import HeadraceError, LostRace, Refused, Unavailable
from headrace.ports import Clock, FlinkRuntime, HistoryGone, Lease, Store, TaskQueue, WatchEvent
from headrace.services.deadlines import Deadlines
from headrace.services.diagnose import Diagnose

LEASE = "sync"
LEASE_SECONDS = 30.0
BATCH = 200
LONGEST_LOOK = timedelta(seconds=3)
"""How long one run may look into jobs that turned bad: a JobManager that does not answer takes seconds to say so."""

TRIES = 5

RECONSIDERED = 50
"""How many waiting operations are looked at again in one round, the overdue ones first."""

LASTING = timedelta(seconds=15)
"""How long an operation waits before its deployment and pods are looked at without an event."""


@dataclass(frozen=True)
class Scope:
    """Whose deployments are observed, and the times it takes, in seconds."""

    cluster: str
    namespace: str
    relist_period_seconds: float
    grace_seconds: float


class Sync:
    """Brings deployments' status into the store. One holder at a time, by a lease with a fencing token."""

    def __init__(
        self,
        store: Store,
        runtime: FlinkRuntime,
        queue_: TaskQueue,
        clock: Clock,
        deadlines: Deadlines,
        diagnose: Diagnose,
        scope: Scope,
        holder: str,
    ) -> None:
        self._diagnose = diagnose
        self._store = store
        self._runtime = runtime
        self._queue = queue_
        self._clock = clock
        self._deadlines = deadlines
        self._scope = scope
        self._holder = holder
        self._listed_at: datetime | None = None
        self._looked = timedelta()
        self._postponed: set[JobKey] = set()
        self._changes: list[Transition] = []

    def run(self, hold_seconds: float) -> Sequence[Transition]:
        """Follows the watch for `hold_seconds`, listing first where that is due; returns the changes of phases that
        it stored, and none, at once, where another process holds the lease. Raises Unavailable, and Refused where
        the account may not look, after marking every job's observation."""
        self._changes = []
        self._looked = timedelta()
        self._deadlines.keep()
        now = self._clock.now()
        lease = self._store.take_lease(f"{LEASE}/{self._scope.namespace}", self._holder, LEASE_SECONDS, now)
        if lease is None:
            return []
        try:
            self._follow(lease, hold_seconds)
        except HistoryGone:
            self._listed_at = None  # the list itself ran out of history: the next run lists anew
        except (Unavailable, Refused):
            self._listed_at = None
            self._mark(Observation.UNREACHABLE)
            raise
        finally:
            self._store.release_lease(lease, self._holder)
        return self._changes

    def _follow(self, lease: Lease, hold_seconds: float) -> None:
        cursor = self._store.cursor(self._scope.cluster, self._scope.namespace)
        if cursor is None or self._relist_is_due():
            cursor = self._list(lease, gap=cursor is not None)
        self._reconsider()
        try:
            self._watch(lease, cursor, hold_seconds)
        except HistoryGone:
            self._list(lease, gap=True)

    def _relist_is_due(self) -> bool:
        period = timedelta(seconds=self._scope.relist_period_seconds)
        return self._listed_at is None or self._clock.now() - self._listed_at >= period

    def _list(self, lease: Lease, gap: bool) -> str:
        """The backstop: every deployment against what is stored; what is stored and not listed counts as a 404."""
        resource_version, listed = "", set()
        for page in self._runtime.list_pages(self._scope.namespace):
            resource_version = page.resource_version
            listed |= {d.metadata.uid for d in page.deployments}
            self._observe_all([WatchEvent("MODIFIED", d) for d in page.deployments], gap=gap)
        self._count_missing(listed)
        self._mark(Observation.FRESH)
        self._store.set_cursor(self._scope.cluster, self._scope.namespace, resource_version, lease)
        self._listed_at = self._clock.now()
        return resource_version

    def _count_missing(self, listed: set[str]) -> None:
        for job in self._store.unsettled_jobs(self._scope.cluster, self._scope.namespace):
            if job.deployment_uid in listed:
                continue
            live = self._runtime.get(job.namespace, job.deployment_name)
            if live is None or live.metadata.uid != job.deployment_uid:
                self._observe_one(job.key, Gone(reads=2), gap=True)

    def _watch(self, lease: Lease, cursor: str, hold_seconds: float) -> None:
        with _Pump(self._runtime.watch(self._scope.namespace, cursor, max(1, int(hold_seconds)))) as pump:
            for batch in pump.batches(hold_seconds):
                self._observe_all([event for event in batch if event.kind != "BOOKMARK"], gap=False)
                latest = batch[-1].deployment.metadata.resource_version
                if not self._store.set_cursor(self._scope.cluster, self._scope.namespace, latest, lease):
                    return

    def _observe_all(self, events: Sequence[WatchEvent], gap: bool) -> None:
        """One read of the jobs concerned, then each in turn; only what changed is written."""
        keys = sorted({key for event in events if (key := _key_of(event.deployment)) is not None})
        known = {job.key: job for job in self._store.jobs(keys)} if keys else {}
        for event in events:
            key = _key_of(event.deployment)
            job = known.get(key) if key else None
            if key is None or job is None:
                continue
            if gap and job.resource_version == event.deployment.metadata.resource_version:
                continue
            seen = Gone(deleted_event=True) if event.kind == "DELETED" else event.deployment
            written = self._observe_one(key, seen, gap, uid=event.deployment.metadata.uid, job=job)
            if written is not None:
                known[key] = written

    def _observe_one(
        self, key: JobKey, what: Deployment | Gone, gap: bool, uid: str | None = None, job: Job | None = None
    ) -> Job | None:
        for _ in range(TRIES):
            job = job or self._store.job(key)
            if job is None:
                return None
            try:
                return self._record(job, what, gap, uid)
            except LostRace:
                job = None
        raise Unavailable(f"job {key.job_id}: its record changes too often to be observed; it is tried again")

    def _record(self, job: Job, what: Deployment | Gone, gap: bool, uid: str | None) -> Job | None:
        operation = next(iter(self._store.open_operations_of(job.key)), None)
        uid = uid or job.deployment_uid
        if isinstance(what, Deployment) and self._is_unwanted(job, operation, what):
            self._runtime.delete(job.namespace, job.deployment_name, what.metadata.uid)
            return job
        if job.deployment_uid is None and isinstance(what, Deployment) and self._is_being_created(operation, what):
            job = replace(job, deployment_uid=what.metadata.uid)
        if uid is not None and job.deployment_uid is not None and uid != job.deployment_uid:
            self._wake_if_clearing(job, operation)
            return job
        if isinstance(what, Gone) and operation is not None and operation.step in (Step.CLEAR, Step.CREATE):
            self._wake_if_clearing(job, operation)
            return job
        pods = self._pods(job, what)
        trouble = first_trouble(pods)
        silent = self._deadlines.silent_for(operation) if operation else timedelta()
        seen = Seen(what, self._clock.now(), trouble, silent, manager_is_up(pods))
        observed = observe(seen, job, operation, grace_seconds=self._scope.grace_seconds)
        if isinstance(what, Deployment) and self._diagnose.is_due(observed.job, what, trouble):
            if self._looked >= LONGEST_LOOK:
                self._postponed.add(job.key)  # who is well is observed on; this one a little later
                return job
            told = replace(job, **self._look_into(observed.job, what, trouble))
            observed = observe(seen, told, operation, grace_seconds=self._scope.grace_seconds)
        after = self._store_observed(job, operation, observed.job, observed.operation, observed.transition, gap)
        if observed.operation is None or observed.operation.is_open:
            return after
        return self._show_without(after, replace(seen, at=self._clock.now(), silent=timedelta()))

    def _look_into(self, job: Job, live: Deployment, trouble: PodTrouble | None) -> dict[str, Any]:
        begun = self._clock.now()
        facts = self._diagnose.facts(job, live, trouble)
        self._looked += self._clock.now() - begun
        return facts

    def _show_without(self, job: Job, seen: Seen) -> Job:
        """An operation that has just ended no longer gives the job its phase, and no event may come to say so."""
        following = next(iter(self._store.open_operations_of(job.key)), None)
        observed = observe(seen, job, following, grace_seconds=self._scope.grace_seconds)
        if observed.transition is None:
            return job
        # Keyed by its time: the version of the deployment has its transition already.
        transition = replace(observed.transition, resource_version=None)
        return self._store_observed(job, None, observed.job, None, transition, gap=False)

    def _store_observed(
        self,
        before: Job,
        operation: Operation | None,
        job: Job,
        progressed: Operation | None,
        transition: Transition | None,
        gap: bool,
    ) -> Job:
        if progressed is not None and operation is not None and progressed.state is State.SUCCEEDED:
            job = _with_result(job, operation)
        if job != before:
            job = self._store.replace_job(job)
        if transition is not None:
            self._store.add_transitions([replace(transition, gap=gap)])
            self._changes.append(transition)
        if progressed is not None and operation is not None and progressed != operation:
            self._store.replace_operation(progressed)
            if not progressed.is_open or progressed.step in DUE:
                self._queue.wake(job.key)
        return job

    def _is_unwanted(self, job: Job, operation: Operation | None, seen: Deployment) -> bool:
        """A deployment of an operation that ended long before the last one: a frozen worker's late create."""
        sequence = sequence_of(seen)
        is_another = seen.metadata.uid != job.deployment_uid
        ended = operation is None or operation.sequence > sequence
        return (
            is_another
            and ended
            and sequence < job.last_sequence
            and seen.metadata.deletion_timestamp is None
            and job.desired is Desired.CANCELLED
            and job.phase in SETTLED
        )

    def _is_being_created(self, operation: Operation | None, seen: Deployment) -> bool:
        return operation is not None and operation.kind is Kind.SUBMIT and sequence_of(seen) == operation.sequence

    def _wake_if_clearing(self, job: Job, operation: Operation | None) -> None:
        if operation is not None and operation.step in (Step.CLEAR, Step.CREATE):
            self._queue.wake(job.key)

    def _pods(self, job: Job, what: Deployment | Gone) -> Sequence[PodSeen]:
        """Pods are looked at only while a job is not up: the operator misses some of what keeps them from starting."""
        if not isinstance(what, Deployment) or what.status is None or is_running(what):
            return ()
        status = what.status
        if status.lifecycle_state in ("SUSPENDED", "FAILED", "DELETING"):
            return ()
        if status.job_manager_deployment_status == "MISSING":
            return ()
        try:
            return self._runtime.pods(job.namespace, job.deployment_name)
        except Refused:
            return ()  # an account that may not look at pods still sees what the operator says

    def _reconsider(self) -> None:
        """Looks again at operations that time moves on: a deadline, a grace period, a pod that cannot start; and at
        jobs that there was no time to look into."""
        now = self._clock.now()
        postponed, self._postponed = self._postponed, set()
        for key in postponed:
            self._look_again(key)
        waiting = [o for o in self._store.open_operations(limit=100_000) if o.step not in DUE]
        due = [o for o in waiting if _time_matters(o, now, self._scope.grace_seconds)][:RECONSIDERED]
        others = [o for o in waiting if o not in due and now - o.accepted_at >= LASTING]
        for operation in [*due, *random.sample(others, min(len(others), RECONSIDERED - len(due)))]:
            self._look_again(operation.key)

    def _look_again(self, key: JobKey) -> None:
        job = self._store.job(key)
        if job is None or job.namespace != self._scope.namespace:
            return
        live = self._runtime.get(job.namespace, job.deployment_name)
        self._observe_one(job.key, live if live is not None else Gone(reads=2), gap=False, job=job)

    def _mark(self, observation: Observation) -> None:
        """A failing API call changes the observation and nothing else."""
        now = self._clock.now()
        jobs = self._store.unsettled_jobs(self._scope.cluster, self._scope.namespace)
        changed = [
            replace(
                job, observation=observation, observed_at=now if observation is Observation.FRESH else job.observed_at
            )
            for job in jobs
            if job.observation is not observation
        ]
        if changed:
            self._store.replace_jobs(changed)


@dataclass(frozen=True)
class _End:
    """The end of a watch, and what ended it."""

    error: Exception | None = None


class _Pump:
    """Reads a blocking watch in a thread, so that what has arrived is handled together and nothing waits."""

    def __init__(self, events: Iterator[WatchEvent]) -> None:
        self._events = events
        self._arrived: queue.Queue[WatchEvent | _End] = queue.Queue(maxsize=10 * BATCH)
        self._thread = threading.Thread(target=self._read, name="watch", daemon=True)

    def __enter__(self) -> _Pump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        close = getattr(self._events, "close", None)
        if close is not None and not self._thread.is_alive():
            close()

    def batches(self, hold_seconds: float) -> Iterator[list[WatchEvent]]:
        """What has arrived, together, until the watch ends. Raises what the watch raised."""
        end: _End | None = None
        while end is None:
            try:
                arrived = [self._arrived.get(timeout=hold_seconds + 10)]
            except queue.Empty:
                raise Unavailable("the watch of FlinkDeployments went silent beyond its bound") from None
            while len(arrived) < BATCH and not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            batch = [item for item in arrived if isinstance(item, WatchEvent)]
            end = next((item for item in arrived if isinstance(item, _End)), None)
            if batch:
                yield batch
        if end.error is not None:
            raise end.error

    def _read(self) -> None:
        try:
            for event in self._events:
                self._arrived.put(event)
        except (HistoryGone, HeadraceError) as error:
            self._arrived.put(_End(error))
        else:
            self._arrived.put(_End())


def _time_matters(operation: Operation, now: datetime, grace_seconds: float) -> bool:
    if now >= operation.deadline:
        return True
    stale = timedelta(seconds=max(grace_seconds, 15.0))
    return operation.trouble_since is not None and now - operation.trouble_since >= stale


def _with_result(job: Job, operation: Operation) -> Job:
    """What a successful operation leaves in the job's record: the request that holds from now on."""
    if operation.kind is Kind.SCALE and job.request:
        scaled = with_parallelism(parse_request(job.request), operation.arguments["parallelism"])
        return replace(job, request=scaled.as_json())
    return job


def _key_of(deployment: Deployment) -> JobKey | None:
    annotations: Mapping[str, str] = deployment.metadata.annotations or {}
    tenant, job_id = annotations.get(TENANT_ANNOTATION), annotations.get(JOB_ID_ANNOTATION)
    return JobKey(tenant, job_id) if tenant and job_id and annotations.get(RUN_ANNOTATION) else None
