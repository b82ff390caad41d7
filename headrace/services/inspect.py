"""What a person looks at to understand a job: its logs, events and exceptions. It reads, and changes nothing.

Logs are the user's own words: they are passed on as they are, and never kept or logged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.domain.jobs import SETTLED, Job, JobKey, Phase
from headrace.domain.log_requests import LogRequest
from headrace.domain.manifest.parts import pod_labels_of
from headrace.domain.pods import JOB_MANAGER, ContainerSeen, PodSeen, default_container
from headrace.errors import InvalidRequest, NotFound, Unavailable
from headrace.ports import EventSeen, ExceptionSeen, JobManager, LogPart, LogStream
from headrace.services.records import Records
from headrace.services.runtimes import Runtimes

LIMIT_BYTES = 1024 * 1024
KEPT_LINE = "# the pod is gone; this is what was kept of it\n"
CUT_LINE = f"# cut after {LIMIT_BYTES} bytes; ask for fewer lines\n"
COMPONENT_WORDS = {"jobmanager": "JobManager", "taskmanager": "TaskManager"}


@dataclass(frozen=True)
class LogAnswer:
    """A log, and whose it is: a pod's, or (`pod` is empty) what was kept of one that is gone."""

    body: LogStream
    pod: str = ""
    container: str = ""
    has_ended: bool = True


@dataclass(frozen=True)
class EventsAnswer:
    """A job's events, newest last; `note` says what a reader should know of what is missing."""

    events: Sequence[EventSeen]
    note: str = ""


@dataclass(frozen=True)
class ExceptionsAnswer:
    """A job's exceptions, newest last; where its JobManager is gone, what was `kept` of them, and a `note`."""

    exceptions: Sequence[ExceptionSeen] = ()
    kept: str = ""
    note: str = ""


class Inspect:
    """Reads logs, events and exceptions from where they are, and from the job's record where that is gone."""

    def __init__(self, records: Records, runtimes: Runtimes, job_manager: JobManager, follow_seconds: float) -> None:
        self._records = records
        self._runtimes = runtimes
        self._job_manager = job_manager
        self._follow_seconds = follow_seconds

    def logs(self, key: JobKey, asked: LogRequest) -> LogAnswer:
        """The log that was asked for. Raises NotFound, in words, where it is gone and nothing was kept."""
        job = self._job(key)
        pods = self._pods_of(job, asked)
        if not pods:
            return self._kept_log(job, asked)
        if asked.follow and len(pods) > 1:
            names = ", ".join(pod.name for pod in pods)
            raise InvalidRequest({"pod": f"one log can be followed at a time: give one of {names}"})
        if len(pods) > 1:
            return LogAnswer(_Text(self._one_after_another(job, pods, asked)), ", ".join(pod.name for pod in pods))
        pod, container = pods[0], _container(pods[0], asked)
        body = self._read(job, pod, container, asked)
        return self._kept_log(job, asked) if body is None else LogAnswer(body, pod.name, container, pod.has_ended)

    def events(self, key: JobKey) -> EventsAnswer:
        """What happened to the job's deployment and pods, as far as the API server still has it: about an hour."""
        job = self._job(key)
        found = self._runtimes.of(job).events(job.namespace, job.deployment_name)
        note = "" if found else "; ".join(filter(None, ("no events of the last hour", _state(job), _kept(job))))
        return EventsAnswer(found, note)

    def exceptions(self, key: JobKey) -> ExceptionsAnswer:
        """The exceptions that the JobManager knows; once it is gone, what was kept of them."""
        job = self._job(key)
        if job.flink_job_id is None:
            return ExceptionsAnswer(kept=job.kept_exceptions, note=self._no_job_manager(job))
        try:
            found = self._job_manager.exceptions(job.namespace, job.deployment_name, job.flink_job_id)
        except Unavailable:
            pods = self._runtimes.of(job).pods(job.namespace, job.deployment_name, pod_labels_of(job))
            if any(pod.component == JOB_MANAGER and pod.is_running for pod in pods):
                raise
            return ExceptionsAnswer(kept=job.kept_exceptions, note=self._no_job_manager(job))
        return ExceptionsAnswer(found, note="" if found else f"no exception yet; {_state(job)}")

    def _job(self, key: JobKey) -> Job:
        job = self._records.job(key)
        if job is None:
            raise NotFound(f"job {key.job_id}: there is none of this name")
        return job

    def _pods_of(self, job: Job, asked: LogRequest) -> Sequence[PodSeen]:
        """The pods of the component that was asked for, or the one that was named, if it is the job's."""
        pods = self._runtimes.of(job).pods(job.namespace, job.deployment_name, pod_labels_of(job))
        if not asked.pod:
            return [pod for pod in pods if pod.component == asked.component]
        named = [pod for pod in pods if pod.name == asked.pod]
        if pods and not named:
            names = ", ".join(pod.name for pod in pods)
            raise NotFound(f"job {job.job_id} has no pod {asked.pod}; it has {names}")
        return named

    def _read(self, job: Job, pod: PodSeen, container: str, asked: LogRequest) -> LogStream | None:
        if asked.previous and not _found(pod, container).restarts:
            raise NotFound(f"container {container} of pod {pod.name} was never restarted: there is no log before this")
        found = self._runtimes.of(job).logs(
            job.namespace,
            pod.name,
            container,
            LogPart(
                tail_lines=asked.tail,
                since_seconds=asked.since_seconds,
                previous=asked.previous,
                timestamps=asked.timestamps,
                follow_seconds=self._follow_seconds if asked.follow else 0,
                limit_bytes=None if asked.follow else LIMIT_BYTES,
            ),
        )
        return found if found is None or asked.follow else _Text(b"".join(found))

    def _one_after_another(self, job: Job, pods: Sequence[PodSeen], asked: LogRequest) -> bytes:
        text = b""
        for pod in pods:
            body = self._read(job, pod, _container(pod, asked), asked)
            text += f"# {pod.name}\n".encode() + b"".join(body or ())
            if len(text) >= LIMIT_BYTES:
                break
        return text

    def _kept_log(self, job: Job, asked: LogRequest) -> LogAnswer:
        if not job.kept_log:
            raise NotFound(self._no_pod(job, asked))
        lines = job.kept_log.splitlines(keepends=True)
        kept = "".join(lines[-asked.tail :] if asked.tail else [])
        return LogAnswer(_Text((KEPT_LINE + kept).encode()))

    def _no_pod(self, job: Job, asked: LogRequest) -> str:
        whose = f"the {COMPONENT_WORDS[asked.component]}'s pod of job {job.job_id}"
        if job.phase in SETTLED or job.phase is Phase.SUSPENDED:
            return f"{whose} is gone since {self._end(job)}; {_kept(job) or 'nothing was kept of it'}"
        return "; ".join(filter(None, (f"{whose} is not there: {_state(job)}", _kept(job))))

    def _no_job_manager(self, job: Job) -> str:
        words = f"the JobManager of job {job.job_id} does not run: {self._end(job)}"
        return "; ".join(filter(None, (words, "" if job.kept_exceptions else _kept(job))))

    def _end(self, job: Job) -> str:
        """When the run ended, as the history has it."""
        ended = [each for each in self._records.transitions_of(job.key) if each.to_phase is job.phase]
        if job.phase not in SETTLED or not ended:
            return _state(job)
        return f"its run {job.run} ended {job.phase} at {ended[-1].at:%Y-%m-%dT%H:%M:%SZ}"


class _Text:
    """ports.LogStream of a text that is there, cut at the limit in words."""

    def __init__(self, text: bytes) -> None:
        cut = text if len(text) < LIMIT_BYTES else text[:LIMIT_BYTES].rpartition(b"\n")[0] + f"\n{CUT_LINE}".encode()
        self._left = iter([cut] if cut else [])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._left)

    def close(self) -> None:
        """See ports.LogStream."""


def _container(pod: PodSeen, asked: LogRequest) -> str:
    names = [each.name for each in pod.containers]
    if asked.container and asked.container not in names:
        raise InvalidRequest({"container": f"pod {pod.name} has no {asked.container}; it has {', '.join(names)}"})
    return asked.container or default_container(pod)


def _found(pod: PodSeen, container: str) -> ContainerSeen:
    return next((each for each in pod.containers if each.name == container), ContainerSeen(container))


def _state(job: Job) -> str:
    return f"the job is {job.phase}"


def _kept(job: Job) -> str:
    """What the record kept of why."""
    kept = [f"{name}: {words}" for name, words in (("reason", job.reason), ("error", job.error)) if words]
    return f"what was kept: {'; '.join(kept)}" if kept else ""
