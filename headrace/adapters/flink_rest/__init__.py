"""A JobManager's REST API: what it says of a job, and the removal of a savepoint. Follows Flink's REST API v1; knows no
Kubernetes."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from headrace.adapters.bounds import BeyondBounds, Bounds
from headrace.adapters.paths import part
from headrace.adapters.prometheus.errors import counting_errors
from headrace.domain.state_on_hand import WITHOUT_GRAPH
from headrace.domain.vertices import Vertex, Vertices
from headrace.domain.waiting import Progress
from headrace.errors import Refused, Unavailable
from headrace.ports import Checkpoints, ExceptionSeen

LONGEST_STACKTRACE = 8000
BEGINNING = 5000
"""What of a longer one is kept from its beginning; the rest from its end, where the root cause stands."""

NO_MAXIMUM = 32_768
"""Flink's own upper bound of a max parallelism."""

DISPOSAL_LOOKS, DISPOSAL_LOOK_SECONDS = 20, 0.5
"""How often, and how long apart, it is asked whether a savepoint is removed."""

GONE = ("java.io.FileNotFoundException", "java.nio.file.NoSuchFileException", "Cannot find checkpoint or savepoint")
"""What Flink says of a savepoint that is not there (AbstractFsCheckpointStorageAccess.resolveCheckpointPointer)."""

NOT_ENABLED = b"Checkpointing has not been enabled"
"""In what Flink says, with a 404, of the checkpoints of a job that makes none (CheckpointingStatisticsHandler)."""

RUNS_WITHOUT = ("RUNNING", "FINISHED")
"""States of a job that certainly has, or had, an execution graph."""

ELECTING = b"leader election"
"""In what a JobManager answers, with a 503, while none leads (LeaderRetrievalHandler of Flink's REST server)."""

CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")
"""When httpx says that there is a connection, or the one in TLS in its place (its request extension `trace`)."""

AROUND_A_TRACE = ("<Exception on server side", "End of exception on server side")
"""How the lines begin that Flink puts around the stack trace of what it did not handle (AbstractHandler)."""

OVERVIEW = "/jobs/overview"
"""All jobs of a JobManager, each with its state and how many of its tasks are in which (JobsOverviewHandler)."""

IN_CLUSTER_URL = "http://{name}-rest.{namespace}:8081"
"""The Service that the operator and Flink's own client make for a JobManager, by its DNS name."""


@dataclass(frozen=True)
class RestAnswer:
    """What a JobManager answered."""

    status: int
    body: bytes


Body = Mapping[str, Any] | None
RestSend = Callable[[str, str, str, str, Body], RestAnswer]
"""One bounded request to a deployment's JobManager: method, namespace, name, path, body. Raises Unavailable where no
answer came."""


def sending(url_template: str, timeout_seconds: float) -> RestSend:
    """Requests straight to a JobManager, at an address made of `{namespace}` and `{name}`, each within the time."""

    def send(method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        url = url_template.format(namespace=namespace, name=name)
        try:
            return _asked(method, url + path, body, timeout_seconds)
        except (httpx.HTTPError, httpx.InvalidURL, BeyondBounds) as error:
            why = str(error) if isinstance(error, BeyondBounds) else repr(error)
            raise Unavailable(
                f"the JobManager of {namespace}/{name} at {url} did not answer (HEADRACE_FLINK_REST_URL): {why}"
            ) from error

    return send


def _asked(method: str, url: str, body: Body, timeout_seconds: float) -> RestAnswer:
    """One request and its answer, as it was sent: what is packed may be of any size, and is not asked for."""
    with Bounds(timeout_seconds) as bounds, httpx.Client(timeout=timeout_seconds, trust_env=False) as client:

        def watch(event: str, told: Mapping[str, Any]) -> None:
            if event in CONNECTED:
                connection: socket.socket = told["return_value"].get_extra_info("socket")
                bounds.watch(lambda: connection.shutdown(socket.SHUT_RDWR))

        headers, extensions = {"Accept-Encoding": "identity"}, {"trace": watch}
        with client.stream(method, url, json=body, headers=headers, extensions=extensions) as answer:
            return RestAnswer(answer.status_code, bounds.body(answer.iter_raw()))


class _NoLeader(Unavailable):
    """It answers everything so until it, or another, leads."""


class _Broken(Unavailable):
    """It answered that it cannot (500)."""


class _Unknown(Unavailable):
    """It does not know what it was asked for (yet)."""


class _NotCheckpointed(_Unknown):
    """It has no statistics of checkpoints: the job has none enabled, as a batch job, or never had a graph."""


def _size(checkpoint: Mapping[str, Any] | None) -> int | None:
    size = checkpoint.get("state_size") if checkpoint is not None else None
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None


class RestJobManager:
    """See ports.JobManager."""

    def __init__(self, send: RestSend, pause: Callable[[float], None] = time.sleep) -> None:
        self._send = send
        self._pause = pause

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """See ports.JobManager. Where nothing is told, the job's own state says whether anything could be."""
        try:
            content = self._get(namespace, name, f"/jobs/{part(flink_job_id)}/checkpoints")
        except _Unknown as error:  # so Flink says, too, of a job that failed before it had an execution graph
            job = self._details(namespace, name, flink_job_id)
            if _was_never_running(job):
                return Checkpoints(has_run=False)
            if isinstance(error, _NotCheckpointed) and job.get("state") in RUNS_WITHOUT:
                return Checkpoints()
            raise
        told = content.get("latest")
        latest = told if isinstance(told, dict) else {}
        taken = [each for kind in ("completed", "savepoint") if isinstance(each := latest.get(kind), dict)]
        newest = max(taken, key=_number, default=None)
        restored = latest.get("restored")
        known = newest or (restored if isinstance(restored, dict) else None)
        found = Checkpoints(
            self._path(namespace, name, newest) if newest is not None else None,
            self._path(namespace, name, restored) if isinstance(restored, dict) else None,
            number=(_number(known) or None) if known is not None else None,  # Flink counts from 1
            size_bytes=_size(newest),
        )
        if found.latest is not None:
            return found
        job = self._details(namespace, name, flink_job_id)
        state = job.get("state")
        has_graph = isinstance(state, str) and state not in WITHOUT_GRAPH
        return replace(found, has_graph=has_graph, has_run=not _was_never_running(job))

    def _path(self, namespace: str, name: str, checkpoint: Mapping[str, Any]) -> str:
        path = checkpoint.get("external_path")
        if not isinstance(path, str) or not path or path.startswith("<"):
            raise Unavailable(f"the last checkpoint of {namespace}/{name} has no path of its own: set a checkpoint dir")
        return path

    def exceptions(self, namespace: str, name: str, flink_job_id: str) -> Sequence[ExceptionSeen]:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{part(flink_job_id)}/exceptions")
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return sorted((_exception(entry) for entry in entries), key=lambda each: each.at)

    def progress(self, namespace: str, name: str, flink_job_id: str) -> Progress:
        """See ports.JobManager."""
        try:
            overview = self._get(namespace, name, "/overview")
            return _progress(overview, self._job(namespace, name, flink_job_id))
        except _NoLeader:
            return Progress(leads=False)
        except (AttributeError, TypeError, ValueError) as error:
            raise Unavailable(f"the JobManager of {namespace}/{name} answered with something else: {error}") from error

    def vertices(self, namespace: str, name: str, flink_job_id: str) -> Vertices:
        """See ports.JobManager."""
        job = self._get(namespace, name, f"/jobs/{part(flink_job_id)}")
        required = self._required(namespace, name, flink_job_id)
        try:
            return Vertices({str(each["id"]): _vertex(each, required) for each in job.get("vertices") or []})
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise Unavailable(f"the JobManager of {namespace}/{name} answered with something else: {error}") from error

    def _required(self, namespace: str, name: str, flink_job_id: str) -> dict[str, Any]:
        """What the adaptive scheduler is to get the vertices to; empty where nothing requires resources any more, or
        Flink is older than that."""
        try:
            return self._get(namespace, name, f"/jobs/{part(flink_job_id)}/resource-requirements")
        except _Unknown:
            return {}

    def _job(self, namespace: str, name: str, flink_job_id: str) -> dict[str, Any]:
        """Empty where the JobManager does not know the job: it may not have been given it yet."""
        try:
            return self._details(namespace, name, flink_job_id) if flink_job_id else {}
        except _Unknown:
            return {}

    def _details(self, namespace: str, name: str, flink_job_id: str) -> dict[str, Any]:
        """The job. One whose program failed before it had a graph cannot be shown by Flink 2.x (a NullPointerException,
        answered with 500), and is told by the overview of all jobs: it has no task there."""
        try:
            return self._get(namespace, name, f"/jobs/{part(flink_job_id)}")
        except _Broken:
            found = job_in(self._get(namespace, name, OVERVIEW), flink_job_id)
            if not found or tasks_in(found):
                raise
            return {**found, "vertices": [], "timestamps": {"RUNNING": 0}}

    def dispose(self, namespace: str, name: str, path: str) -> None:
        """See ports.JobManager. `POST /savepoint-disposal`, and then what has become of it."""
        asked = self._get(namespace, name, "/savepoint-disposal", {"savepoint-path": path})
        for _ in range(DISPOSAL_LOOKS):
            found = self._get(namespace, name, f"/savepoint-disposal/{part(str(asked.get('request-id')))}")
            if (found.get("status") or {}).get("id") == "COMPLETED":
                _check_disposed(path, (found.get("operation") or {}).get("failure-cause"))
                return
            self._pause(DISPOSAL_LOOK_SECONDS)
        raise Unavailable(f"the JobManager of {namespace}/{name} is not done with removing {path} yet")

    def _get(self, namespace: str, name: str, path: str, body: Body = None) -> dict[str, Any]:
        """The answer's JSON. A 404 says nothing: a JobManager that has just come back does not know its job yet."""
        method = "GET" if body is None else "POST"
        with counting_errors("flink"):
            answer = self._send(method, namespace, name, path, body)
        whose = f"the JobManager of {namespace}/{name}"
        words = f"{whose} answered {answer.status} to {method} {path}"
        if answer.status == 503 and ELECTING in answer.body:
            raise _NoLeader(f"{words}: it waits for leadership")
        if answer.status == 404:
            raise (_NotCheckpointed if NOT_ENABLED in answer.body else _Unknown)(words)
        if answer.status not in (200, 202):
            raise (_Broken if answer.status == 500 else Unavailable)(words)
        try:
            content = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{whose} answered GET {path} with something that is not JSON") from error
        if not isinstance(content, dict):
            raise Unavailable(f"{whose} answered GET {path} with something that is no object")
        return content


def _check_disposed(path: str, failure: Any) -> None:
    """Raises Refused with Flink's reason, but where there is nothing at the path any more."""
    if not isinstance(failure, Mapping):
        return
    trace = str(failure.get("stack-trace") or failure.get("class") or "")
    if any(words in trace for words in GONE):
        return
    raise Refused(f"Flink did not remove {path}: {root_cause(trace)}")


def root_cause(trace: str) -> str:
    """The innermost cause of a stack trace, in one line."""
    begins = ("\t", " ", *AROUND_A_TRACE)
    causes = [line.strip() for line in trace.splitlines() if line and not line.startswith(begins)]
    return (causes[-1] if causes else trace).removeprefix("Caused by: ")[:300]


def _was_never_running(job: Mapping[str, Any]) -> bool:
    """Whether a job has ended, and the time since which it was RUNNING is none (JobDetailsInfo of Flink's REST)."""
    times = job.get("timestamps")
    return job.get("state") == "FAILED" and isinstance(times, dict) and times.get("RUNNING") == 0


def _number(checkpoint: Mapping[str, Any]) -> int:
    number = checkpoint.get("id")
    return number if isinstance(number, int) else 0


def _exception(entry: Mapping[str, Any]) -> ExceptionSeen:
    return ExceptionSeen(
        at=datetime.fromtimestamp(int(entry.get("timestamp") or 0) / 1000, UTC),
        exception_name=str(entry.get("exceptionName") or ""),
        stacktrace=bounded(str(entry.get("stacktrace") or "")),
        task_name=str(entry.get("taskName") or ""),
        endpoint=str(entry.get("endpoint") or entry.get("location") or ""),
        task_manager_id=str(entry.get("taskManagerId") or ""),
    )


def _progress(overview: Mapping[str, Any], job: Mapping[str, Any]) -> Progress:
    vertices = job.get("vertices") or []
    return Progress(
        task_managers=int(overview.get("taskmanagers") or 0),
        slots=int(overview.get("slots-total") or 0),
        state=str(job.get("state") or ""),
        needed_slots=_needed_slots(vertices),
        tasks=_tasks(vertices),
    )


def _vertex(told: Mapping[str, Any], required: Mapping[str, Any]) -> Vertex:
    upper = upper_bound(required.get(str(told["id"])))
    return Vertex(int(told["parallelism"]), int(told.get("maxParallelism") or NO_MAXIMUM), upper)


def upper_bound(requirement: Any) -> int | None:
    """At what a vertex is to run, by its resource requirements; None where they do not say."""
    bounds = requirement.get("parallelism") if isinstance(requirement, Mapping) else None
    upper = bounds.get("upperBound") if isinstance(bounds, Mapping) else None
    return upper if isinstance(upper, int) and upper > 0 else None


def _needed_slots(vertices: Sequence[Mapping[str, Any]]) -> int:
    """Tasks of one slot sharing group share slots. Before Flink 2 no group is told: all are taken for one."""
    widest: dict[str, int] = {}
    for vertex in vertices:
        group = str(vertex.get("slotSharingGroupId") or "")
        widest[group] = max(widest.get(group, 0), int(vertex.get("parallelism") or 0))
    return sum(widest.values())


def _tasks(vertices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = Counter[str]()
    for vertex in vertices:
        counts.update({str(state): int(n or 0) for state, n in (vertex.get("tasks") or {}).items()})
    return {state: n for state, n in counts.items() if n}


def job_in(overview: Mapping[str, Any], flink_job_id: str) -> Mapping[str, Any] | None:
    """The job's entry in the overview, empty where the JobManager has no such job; None where it is no overview."""
    jobs = overview.get("jobs")
    if not isinstance(jobs, list):
        return None
    return next((each for each in jobs if isinstance(each, Mapping) and each.get("jid") == flink_job_id), {})


def tasks_in(overview: Mapping[str, Any]) -> dict[str, int]:
    """How many of a job's tasks are in which state, by its entry in the overview: `running` is told as RUNNING."""
    told = overview.get("tasks")
    counts = told if isinstance(told, Mapping) else {}
    return {str(state).upper(): int(n) for state, n in counts.items() if state != "total" and isinstance(n, int) and n}


def bounded(stacktrace: str) -> str:
    """The stack trace, a long one without its middle."""
    left_out = len(stacktrace) - LONGEST_STACKTRACE
    if left_out <= 0:
        return stacktrace.rstrip()
    end = stacktrace[BEGINNING + left_out :]
    return f"{stacktrace[:BEGINNING]}\n… {left_out} characters are left out …\n{end}".rstrip()
