"""Finding out why a job has turned bad: each channel is read once, and what will be gone with its pod is kept.

Knows no task framework; writes nothing. A channel that does not answer in its bound says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from headrace.domain.deployments import Deployment, PodTrouble, keeps_failing
from headrace.domain.failures import LONGEST_LOG, Evidence, Explanation, explain, failure_in
from headrace.domain.jobs import LOOKED_INTO_AGAIN_AFTER, Diagnosis, Job, Phase
from headrace.domain.manifest.parts import pod_labels_of
from headrace.domain.pods import JOB_MANAGER, KILLED_FOR_MEMORY, PodSeen, default_container, manager_is_up
from headrace.domain.status import is_bad, telling_error
from headrace.errors import HeadraceError, MissingRight, Refused
from headrace.ports import Clock, ExceptionSeen, JobManager, LogPart, LogStream
from headrace.services.runtimes import Runtimes

LOG_LINES = 400
RECENT = timedelta(minutes=10)
"""How old what a restart is blamed on may be: a job runs for weeks, and its logs and history go as far back."""

NOTHING_FOUND_AGAIN_AFTER = timedelta(seconds=10)
"""Where nothing was found of a job that restarts again and again: its JobManager may know by its next try."""

Read = TypeVar("Read")


@dataclass(frozen=True)
class _Log:
    """The end of a log, its recent part, and whether the process that wrote it has ended."""

    text: str = ""
    recent: str = ""
    has_ended: bool = False


@dataclass(frozen=True)
class Diagnose:
    """Explains a job that is FAILED, RESTARTING or cannot start."""

    runtimes: Runtimes
    job_manager: JobManager
    clock: Clock

    def is_due(self, job: Job, live: Deployment, trouble: PodTrouble | None) -> bool:
        """Whether the job, as it was just observed, has turned bad and was not looked into for that."""
        kind, known = kind_of(job, live, trouble), job.diagnosis
        if not kind or known is None:
            return bool(kind)
        if known.of == kind or known.of.startswith(f"{kind} "):
            return False
        is_loop = job.phase is Phase.RESTARTING or keeps_failing(live)
        pause = LOOKED_INTO_AGAIN_AFTER if known.cause else NOTHING_FOUND_AGAIN_AFTER
        return not is_loop or self.clock.now() - known.at >= pause

    def last_words(self, job: Job) -> dict[str, Any]:
        """The ends of a job's log and of its exceptions, for its record: what will be gone with its pods. What is kept
        already stays where nothing is there to read. Raises TransientError where what is there cannot be read now."""
        pods = self.runtimes.of(job).pods(job.namespace, job.deployment_name, pod_labels_of(job))
        is_up = manager_is_up(pods)
        return self._kept(job, self._log(job, pods), self._exceptions(job) if is_up else ())

    def _kept(self, job: Job, log: _Log, exceptions: Sequence[ExceptionSeen]) -> dict[str, Any]:
        said = "\n\n".join(each.stacktrace for each in exceptions)[:LONGEST_LOG]
        return {"kept_log": log.text or job.kept_log, "kept_exceptions": said or job.kept_exceptions}

    def facts(
        self, job: Job, live: Deployment, trouble: PodTrouble | None, pods: Sequence[PodSeen] | None
    ) -> dict[str, Any]:
        """What becomes of the job's record: its diagnosis, and the ends of its log and of its exceptions. `pods` are
        the job's, where they have just been read."""
        read: Sequence[PodSeen] = pods if pods is not None else self._pods(job)
        log: _Log = _read(lambda: self._log(job, read), _Log())
        exceptions: Sequence[ExceptionSeen] = _read(lambda: self._exceptions(job), ())
        raised = [each.stacktrace for each in exceptions if self._counts(job, each.at)]
        failure = failure_in(log.recent)
        raised = [failure, *raised] if failure else raised
        evidence = Evidence(
            deployment=job.deployment_name,
            trouble=trouble or (None if raised else self._killed(read)),
            exceptions=raised,
            error=telling_error(live.status, job.phase, manager_is_up(read)),
            log=log.text if log.has_ended or not _goes_on(job) else "",
        )
        found = explain(evidence) or Explanation("", "")
        kind = kind_of(job, live, trouble)
        return {
            "diagnosis": Diagnosis(of=kind, at=self.clock.now(), cause=found.cause, next_step=found.next_step),
            **self._kept(job, log, exceptions),
        }

    def _pods(self, job: Job) -> Sequence[PodSeen]:
        nothing: Sequence[PodSeen] = ()
        runtime = self.runtimes.of(job)
        return _read(lambda: runtime.pods(job.namespace, job.deployment_name, pod_labels_of(job)), nothing)

    def _counts(self, job: Job, at: datetime) -> bool:
        """Whether what happened then may be why the job is bad now. What ended a job for good may be long ago."""
        return not _goes_on(job) or self.clock.now() - at <= RECENT

    def _killed(self, pods: Sequence[PodSeen]) -> PodTrouble | None:
        """A pod that was just killed for its use of memory, and may run again already."""
        just_now = self.clock.now() - RECENT
        killed = (pod for pod in pods if pod.killed_at is not None and pod.killed_at >= just_now)
        return next((PodTrouble(pod.name, KILLED_FOR_MEMORY, component=pod.component) for pod in killed), None)

    def _log(self, job: Job, pods: Sequence[PodSeen]) -> _Log:
        """The end of the JobManager's log; of the container before it, where that has just died."""
        manager = next((pod for pod in pods if pod.component == JOB_MANAGER), None)
        if manager is None:
            return _Log()
        container = default_container(manager)
        of_now = int(RECENT.total_seconds()) if job.was_running else None
        ended = self._tail(job, manager.name, container, previous=True, since=of_now) if manager.restarts else ""
        if ended:
            return _Log(ended, ended, has_ended=True)
        whole = self._tail(job, manager.name, container)
        return _Log(whole, self._tail(job, manager.name, container, since=of_now) if _goes_on(job) else whole)

    def _tail(self, job: Job, pod: str, container: str, *, previous: bool = False, since: int | None = None) -> str:
        """Its last lines, of so many seconds; none where there is no log, as of a container that never started. A job
        that ran may have a container in its past that died of something else."""
        wanted = LogPart(LOG_LINES, since_seconds=since, previous=previous, limit_bytes=4 * LONGEST_LOG)
        stream = self._opened(job, pod, container, wanted)
        if stream is None:
            return ""
        try:
            return b"".join(stream).decode(errors="replace")[-LONGEST_LOG:]
        finally:
            stream.close()

    def _opened(self, job: Job, pod: str, container: str, wanted: LogPart) -> LogStream | None:
        try:
            return self.runtimes.of(job).logs(job.namespace, pod, container, wanted)
        except MissingRight:
            raise  # there may be one
        except Refused:
            return None

    def _exceptions(self, job: Job) -> Sequence[ExceptionSeen]:
        """Newest first."""
        if job.flink_job_id is None:
            return ()
        found = self.job_manager.exceptions(job.namespace, job.deployment_name, job.flink_job_id)
        return list(reversed(found))


def _goes_on(job: Job) -> bool:
    """Whether it ran before and will again: its log also holds failures that it survived."""
    return job.was_running and job.phase is not Phase.FAILED


def kind_of(job: Job, live: Deployment, trouble: PodTrouble | None) -> str:
    """Which trouble a job is in; empty for none. Trouble's own words change, and what comes by turns is one
    kind."""
    if not is_bad(job.phase, live, trouble):
        return ""
    return f"{job.phase} {_kind_of_trouble(trouble)}" if trouble is not None else str(job.phase)


def _kind_of_trouble(trouble: PodTrouble) -> str:
    if "Image" in trouble.reason:
        return "image"
    return trouble.reason if trouble.reason in ("Unschedulable", KILLED_FOR_MEMORY) else "container"


def _read(channel: Callable[[], Read], otherwise: Read) -> Read:
    try:
        return channel()
    except HeadraceError:
        return otherwise
