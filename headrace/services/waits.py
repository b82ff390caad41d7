"""Saying what jobs that are on their way for long wait for. Knows no task framework.

It runs apart from the sync, so that a JobManager that does not answer never holds a phase back: of a job's record it
writes the reason alone, and only while the phase is the one that it looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from headrace.domain.deployments import Deployment, Seen
from headrace.domain.document import JobDocument
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.jobs import NATIVE, Job, JobKey, Waiting
from headrace.domain.manifest.parts import pod_labels_of
from headrace.domain.operations import Operation, Step
from headrace.domain.pods import PodSeen, first_trouble, manager_is_up
from headrace.domain.status import observe
from headrace.domain.waiting import (
    WAITS,
    Progress,
    Sight,
    Unseen,
    can_have_ended,
    has_failed_a_try,
    has_manager,
    is_due,
    pod_waited_for,
    told,
    unseen,
    what_is_waited_for,
)
from headrace.errors import HeadraceError, LostRace, Unanswered, Unreadable
from headrace.ports import Clock, JobManager
from headrace.services.diagnose import RECENT
from headrace.services.records import Records
from headrace.services.runtimes import Runtimes

LEASE = "waits"
LEASE_SECONDS = 60.0

MOST_AT_ONCE = 100
"""How many jobs one round looks at, those first that were looked at longest ago."""

LONGEST_ROUND = timedelta(seconds=8)
"""After so long no other job is begun with: the round after this one goes on."""

Read = TypeVar("Read")


class Waits:
    """Looks at jobs on their way to RUNNING, each once a period, whatever number of events it has meanwhile."""

    def __init__(
        self,
        records: Records,
        runtimes: Runtimes,
        job_manager: JobManager,
        clock: Clock,
        grace_seconds: float,
        holder: str,
    ) -> None:
        self._records = records
        self._runtimes = runtimes
        self._job_manager = job_manager
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._holder = holder

    def run(self) -> int:
        """Says of each job that lasts on its way what it waits for; returns how many were looked at. One holder at a
        time."""
        begun = self._clock.now()
        with self._records.turn(LEASE, self._holder, LEASE_SECONDS) as is_ours:
            return self._round(until=begun + LONGEST_ROUND) if is_ours else 0

    def _round(self, until: datetime) -> int:
        looked, away = 0, None
        for key in self._records.store.jobs_in(self._records.scope, WAITS, MOST_AT_ONCE):
            now = self._clock.now()
            document = self._document(key) if now < until else None
            if document is None or not is_due(document.job, now):
                continue
            live = away or self._live(document.job)
            is_away = isinstance(live, Unseen) and not live.is_of_one_job
            away = live if is_away else None  # it is asked once a round then, and not once a job
            with suppress(LostRace):  # whoever wrote it meanwhile knows better; the next round looks again
                self._look_and_go_on(document, live)
            looked += 1
        return looked

    def _document(self, key: JobKey) -> JobDocument | None:
        """None also where a later release has written it: that one says what the job waits for."""
        try:
            return self._records.store.document(key)
        except Unreadable:
            return None

    def _live(self, job: Job) -> Deployment | Unseen | None:
        return _read(lambda: self._runtimes.of(job).get(job.namespace, job.deployment_name))

    def _look_and_go_on(self, document: JobDocument, live: Deployment | Unseen | None) -> None:
        """What cannot be made sense of is that one job's trouble: it is said on it, and the others are looked at."""
        try:
            self._look(document, live)
        except HeadraceError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever pure code raises over what was read
            self._cannot_look(document, Unseen(f"what was read makes no sense: {error!r}"))

    def _look(self, document: JobDocument, live: Deployment | Unseen | None) -> None:
        if isinstance(live, Unseen):
            self._cannot_look(document, live)
        elif live is not None and live.metadata.uid == document.job.deployment_uid:
            self._look_at(document, live)

    def _cannot_look(self, document: JobDocument, why: Unseen) -> None:
        """What was known before is not taken away."""
        job = document.job
        is_explained = bool(job.reason) and job.reason != told(job).cause
        waiting = self._waiting(None if is_explained else unseen([why.why]))
        waits = replace(job, waiting=waiting, phase_since=job.phase_since or waiting.at)
        self._remember(document, waits if is_explained else _with_reason(waits, told(waits)))

    def _look_at(self, document: JobDocument, live: Deployment) -> None:
        job, operation = document.job, document.oldest
        pods = _read(lambda: self._runtimes.of(job).pods(job.namespace, job.deployment_name, pod_labels_of(job)))
        seen = self._seen(live, () if isinstance(pods, Unseen) else pods)
        plain = self._observed(seen, replace(job, waiting=None), operation)
        if plain.phase is not job.phase:
            return  # the sync's to see and to tell
        waiting = self._waiting(None if plain.reason else what_is_waited_for(self._sight(document, live, pods)))
        self._remember(document, self._observed(seen, replace(job, waiting=waiting), operation))

    def _waiting(self, found: Explanation | None) -> Waiting:
        now = self._clock.now()
        return Waiting(at=now, cause=found.cause, next_step=found.next_step) if found else Waiting(at=now)

    def _seen(self, live: Deployment, pods: Sequence[PodSeen]) -> Seen:
        return Seen(live, self._clock.now(), first_trouble(pods), manager_is_up=manager_is_up(pods))

    def _observed(self, seen: Seen, job: Job, operation: Operation | None) -> Job:
        return observe(seen, job, operation, grace_seconds=self._grace_seconds)

    def _remember(self, document: JobDocument, seen: Job) -> None:
        """The words alone: the rest of what was seen is the sync's to write."""
        job = document.job
        words = replace(job, reason=seen.reason, next_step=seen.next_step, error=seen.error, waiting=seen.waiting)
        told = replace(words, phase_since=seen.phase_since, updated_at=self._clock.now())
        self._records.write(document, document.with_job(told))

    def _sight(self, document: JobDocument, live: Deployment, pods: Sequence[PodSeen] | Unseen) -> Sight:
        job = document.job
        sight = Sight(live, pods, is_native=job.runtime == NATIVE)
        pod = pod_waited_for(sight)
        status = live.status.job_status if live.status else None
        flink_job_id = (status.job_id if status else None) or job.flink_job_id or ""
        progress = self._progress(job, flink_job_id) if has_manager(sight) else None
        return replace(
            sight,
            progress=progress,
            kubelet=self._kubelet(job, pod) if pod is not None else "",
            failure=self._failure(job, flink_job_id) if has_failed_a_try(progress) else None,
            is_without_metadata=can_have_ended(progress) and self._is_without_metadata(document, flink_job_id),
        )

    def _is_without_metadata(self, document: JobDocument, flink_job_id: str) -> bool:
        """Of a job that has run under this id: one that is started anew has none yet."""
        job, operation = document.job, document.oldest
        if not job.was_running or (operation is not None and operation.step is not Step.BEGIN):
            return False
        runtime = self._runtimes.of(job)
        return _read(lambda: runtime.ha_metadata(job.namespace, job.deployment_name, flink_job_id)) is None

    def _progress(self, job: Job, flink_job_id: str) -> Progress | Unseen:
        return _read(lambda: self._job_manager.progress(job.namespace, job.deployment_name, flink_job_id))

    def _failure(self, job: Job, flink_job_id: str) -> Explanation | None:
        """Why its last try ended. No status may change between two tries, so the sync is not told of it."""
        raised = _read(lambda: self._job_manager.exceptions(job.namespace, job.deployment_name, flink_job_id))
        newest = raised[-1] if not isinstance(raised, Unseen) and raised else None
        if newest is None or self._clock.now() - newest.at > RECENT:
            return None
        return explain(Evidence(deployment=job.deployment_name, exceptions=[newest.stacktrace]))

    def _kubelet(self, job: Job, pod: PodSeen) -> str:
        """What was last said of it: what is pulled, or why a volume cannot be mounted."""
        events = _read(lambda: self._runtimes.of(job).pod_events(job.namespace, pod.name))
        return "" if isinstance(events, Unseen) or not events else f"{events[-1].reason}: {events[-1].message}"


def _with_reason(job: Job, why: Explanation) -> Job:
    return replace(job, reason=why.cause, next_step=why.next_step)


def _read(channel: Callable[[], Read]) -> Read | Unseen:
    try:
        return channel()
    except HeadraceError as error:
        return Unseen(str(error), is_of_one_job=isinstance(error, Unanswered))
