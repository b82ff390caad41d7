"""Finding out why a job has turned bad: each channel is read once, and what will be gone with its pod is kept.

Knows no task framework; writes nothing. A channel that does not answer in its bound says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from headrace.domain.deployments import Deployment, PodTrouble
from headrace.domain.failures import LONGEST_LOG, Evidence, Explanation, explain
from headrace.domain.jobs import Diagnosis, Job, Phase
from headrace.domain.pods import PodSeen, default_container
from headrace.domain.status import error_of
from headrace.errors import HeadraceError
from headrace.ports import Clock, FlinkRuntime, JobManager

LOG_LINES = 400
AGAIN_AFTER = timedelta(seconds=60)
"""A job that restarts again and again is read again after so long, and not at each restart."""

BAD = frozenset({Phase.FAILED, Phase.REJECTED, Phase.RESTARTING})

Read = TypeVar("Read")


@dataclass(frozen=True)
class Diagnose:
    """Explains a job that is FAILED, RESTARTING or cannot start."""

    runtime: FlinkRuntime
    job_manager: JobManager
    clock: Clock

    def is_due(self, job: Job, trouble: PodTrouble | None) -> bool:
        """Whether the job, as it was just observed, has turned bad and was not looked into for that."""
        kind = kind_of(job, trouble)
        if not kind or (job.diagnosis is not None and job.diagnosis.of == kind):
            return False
        is_known_loop = job.phase is Phase.RESTARTING and job.diagnosis is not None
        return not is_known_loop or self.clock.now() - job.diagnosis.at >= AGAIN_AFTER  # type: ignore[union-attr]

    def facts(self, job: Job, live: Deployment, trouble: PodTrouble | None) -> dict[str, Any]:
        """What becomes of the job's record: its diagnosis, and the ends of its log and of its exceptions."""
        pods: Sequence[PodSeen] = _read(lambda: self.runtime.pods(job.namespace, job.deployment_name), ())
        log = _read(lambda: self._log(job, pods), "")
        exceptions: Sequence[str] = _read(lambda: self._exceptions(job), ())
        error = error_of(live.status)
        words = error.message if error is not None and error.message != "Job Not Found" else ""
        found = explain(Evidence(error=words, trouble=trouble, exceptions=exceptions, log=log)) or Explanation("", "")
        kind = kind_of(job, trouble)
        return {
            "diagnosis": Diagnosis(of=kind, at=self.clock.now(), cause=found.cause, next_step=found.next_step),
            "kept_log": log or job.kept_log,
            "kept_exceptions": "\n\n".join(exceptions)[:LONGEST_LOG] or job.kept_exceptions,
        }

    def _log(self, job: Job, pods: Sequence[PodSeen]) -> str:
        """The end of the JobManager's log; of the container before it, where that has just died."""
        manager = next((pod for pod in pods if pod.component == "jobmanager"), None)
        if manager is None:
            return ""
        container = default_container(manager)
        for previous in (manager.restarts > 0, False):
            text = self._tail(job, manager.name, container, previous=previous)
            if text:
                return text
        return ""

    def _tail(self, job: Job, pod: str, container: str, *, previous: bool) -> str:
        stream = self.runtime.logs(
            job.namespace, pod, container, tail_lines=LOG_LINES, previous=previous, limit_bytes=4 * LONGEST_LOG
        )
        if stream is None:
            return ""
        try:
            return b"".join(stream).decode(errors="replace")[-LONGEST_LOG:]
        finally:
            stream.close()

    def _exceptions(self, job: Job) -> Sequence[str]:
        if job.flink_job_id is None:
            return ()
        found = self.job_manager.exceptions(job.namespace, job.deployment_name, job.flink_job_id)
        return [each.stacktrace for each in reversed(found)]


def kind_of(job: Job, trouble: PodTrouble | None) -> str:
    """What kind of bad a job is in; empty for a good one. Trouble's own words change, and are one kind."""
    if job.phase in BAD:
        return str(job.phase)
    return f"{job.phase} in trouble" if trouble is not None else ""


def _read(channel: Callable[[], Read], otherwise: Read) -> Read:
    try:
        return channel()
    except HeadraceError:
        return otherwise
