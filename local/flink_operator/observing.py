"""What a deployment's processes and its JobManager's REST show becomes its status and its events. Processes that have
ended are started again, as Kubernetes would; but for a program that has failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from loguru import logger

from local.flink_operator import pods, statuses
from local.flink_operator.cluster import Cluster, failure_in
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.rest import effective_state
from local.flink_operator.snapshots import Snapshots
from local.flink_operator.starting import start_cluster
from local.flink_operator.statuses import SERIALIZED, Status

UNREACHABLE_AFTER_SECONDS = 10.0
JOB_MISSED_AFTER_SECONDS = 15.0
KILLED_BY_A_SIGNAL = 128
"""Exit codes from here on."""

EXCEPTIONS_SECONDS = 10.0
SHOWN_LINES = 5


class Observing:
    """Looks at one deployment's cluster, and remembers since when its JobManager has been silent."""

    def __init__(self, deployment: LocalDeployment) -> None:
        self._deployment = deployment
        self._exceptions = _JobExceptions(deployment)
        self._snapshots = Snapshots(deployment)
        self._silent_since: float | None = None
        self._jobless_since: float | None = None

    def observe(self) -> None:
        """One look at what should be running; without a cluster, it is started. Raises KubeError."""
        deployment, cluster = self._deployment, self._deployment.cluster
        if not _should_run(deployment.status):
            return
        if cluster is None:
            if statuses.job_state(deployment.status) not in ("FINISHED", "FAILED", "CANCELED"):
                _start(deployment)
        elif cluster.job_manager.exit_code is not None:
            _job_manager_ended(deployment, cluster)
        else:
            _revive_task_managers(deployment, cluster)
            deployment.show_pods()
            self._ask(cluster)

    def _ask(self, cluster: Cluster) -> None:
        job = cluster.rest.job(self._deployment.status["jobStatus"]["jobId"])
        if job is not None:
            cluster.was_seen = True
            self._silent_since = self._jobless_since = None
            self._show_job(cluster, job)
        elif cluster.rest.is_up():
            self._silent_since = None
            if not cluster.was_seen:
                self._show_no_job()
        else:
            self._jobless_since = None
            self._show_silence(cluster)

    def _show_job(self, cluster: Cluster, job: dict[str, Any]) -> None:
        deployment = self._deployment
        _show_answering(deployment)
        before, state = statuses.job_state(deployment.status), effective_state(job)
        status = _with_seen(deployment.status, cluster, job)
        # What keeps a change from being made is told until it is tried again.
        deployment.write(status if deployment.is_behind() else statuses.healthy(status))
        _tell_state(deployment, before, state)
        self._exceptions.tell(cluster, is_new=before != state)
        self._snapshots.take(cluster, job, is_running=state == "RUNNING")

    def _show_no_job(self) -> None:
        """A JobManager that answers is DEPLOYED_NOT_READY at first; one that has no job after a while is READY, and its
        job is missed."""
        deployment = self._deployment
        self._jobless_since = self._jobless_since or time.monotonic()
        if deployment.status["jobManagerDeploymentStatus"] != "READY":
            deployment.show_manager("DEPLOYED_NOT_READY")
        if time.monotonic() - self._jobless_since < JOB_MISSED_AFTER_SECONDS:
            return
        if deployment.status.get("error") != statuses.JOB_NOT_FOUND:
            deployment.warn("Job", "Missing", statuses.JOB_NOT_FOUND)
        missed = statuses.reconciling(deployment.status, "READY")
        deployment.write(statuses.with_error(missed, statuses.JOB_NOT_FOUND))

    def _show_silence(self, cluster: Cluster) -> None:
        """A JobManager that does not answer is DEPLOYING while it starts; one that did answer, only after a while."""
        self._silent_since = self._silent_since or time.monotonic()
        has_answered = self._deployment.status["jobManagerDeploymentStatus"] == "DEPLOYED_NOT_READY"
        is_starting = not cluster.was_seen and not has_answered
        if is_starting or time.monotonic() - self._silent_since >= UNREACHABLE_AFTER_SECONDS:
            self._deployment.show_start()


def _start(deployment: LocalDeployment) -> None:
    start_cluster(deployment)
    if deployment.cluster is None:
        deployment.show_start()


def _should_run(status: Status) -> bool:
    wanted = (statuses.reconciled_spec(status) or {}).get("job", {}).get("state")
    return wanted == "running" and status["lifecycleState"] not in ("FAILED", "SUSPENDED")


def _show_answering(deployment: LocalDeployment) -> None:
    """No JobManager is READY that was not DEPLOYED_NOT_READY before, however quick it was between two looks."""
    if deployment.status["jobManagerDeploymentStatus"] not in ("DEPLOYED_NOT_READY", "READY"):
        deployment.show_manager("DEPLOYED_NOT_READY")


def _with_seen(status: Status, cluster: Cluster, job: dict[str, Any]) -> Status:
    """The status with the job as the JobManager shows it."""
    state = effective_state(job)
    facts = {
        "jobName": job["name"],
        "startTime": str(job["start-time"]),
        "updateTime": str(max(job["last-modification"], job["start-time"])),
    }
    status = statuses.with_job({**status, "jobManagerDeploymentStatus": "READY"}, state, **facts)
    if not status["clusterInfo"]:
        config = cluster.rest.config()
        status["clusterInfo"] = {name: config.get(name, "") for name in ("flink-revision", "flink-version")}
    if state in ("RUNNING", "FINISHED"):
        return statuses.stable(status)
    return {**status, "lifecycleState": "FAILED"} if state == "FAILED" else status


def _tell_state(deployment: LocalDeployment, before: str | None, state: str) -> None:
    if before not in (None, state):
        deployment.tell("Job", "JobStatusChanged", f"Job status changed from {before} to {state}")


class _JobExceptions:
    """Tells of each exception of a job once: it remembers the last."""

    def __init__(self, deployment: LocalDeployment) -> None:
        self._deployment = deployment
        self._looked_at = 0.0
        self._last_timestamp = 0

    def tell(self, cluster: Cluster, *, is_new: bool) -> None:
        """Those since the last look at them: where the job's state is new, and every now and then."""
        if not is_new and time.monotonic() - self._looked_at < EXCEPTIONS_SECONDS:
            return
        self._looked_at = time.monotonic()
        for entry in cluster.rest.exceptions(self._deployment.status["jobStatus"]["jobId"]):
            if entry["timestamp"] > self._last_timestamp:
                self._last_timestamp = entry["timestamp"]
                self._deployment.warn("Job", "JobException", _first_lines(entry["stacktrace"]))


def _first_lines(stacktrace: str) -> str:
    lines = stacktrace.rstrip().splitlines()
    left_out = [f"... ({len(lines) - SHOWN_LINES} more lines)"] if len(lines) > SHOWN_LINES else []
    return "\n".join([*lines[:SHOWN_LINES], *left_out])


def _revive_task_managers(deployment: LocalDeployment, cluster: Cluster) -> None:
    for process in cluster.task_managers:
        if process.exit_code is not None:
            deployment.launch(process.log, _as_shown(process.exit_code))
    cluster.revive_task_managers()


def _job_manager_ended(deployment: LocalDeployment, cluster: Cluster) -> None:
    """A JobManager that was killed is started again and goes on from the job's last checkpoint. Of one that ended by
    itself before there was a job, the job has FAILED where its program threw: Flink shows such a job. Else, as where
    there is no such program, it is a container that ends again and again."""
    code = cluster.job_manager.exit_code or 0
    if cluster.was_seen or not 0 < code < KILLED_BY_A_SIGNAL:
        _start_again(deployment, cluster, code)
    elif causes := failure_in(deployment.printed(cluster.job_manager.log)):
        _program_failed(deployment, code, causes)
    else:
        _crashed(deployment, code)


def _start_again(deployment: LocalDeployment, cluster: Cluster, code: int) -> None:
    logger.warning("{}: the JobManager ended with {}; it is started again", deployment.name, code)
    deployment.launch(cluster.job_manager.log, _as_shown(code))
    if cluster.is_highly_available:
        cluster.restart_job_manager()
    else:
        deployment.stop_cluster()
    deployment.show_manager("DEPLOYING")


def _crashed(deployment: LocalDeployment, code: int) -> None:
    """No TaskManager is there yet where a JobManager ends like this."""

    def show() -> None:
        wait = pods.show_crash(deployment.kube, deployment.events, deployment.live, _as_shown(code))
        deployment.start_again_in(wait)
        pods.hide_task_managers(deployment.kube, deployment.name)

    deployment.stop_cluster()
    deployment.attempt(show)
    deployment.show_start()


def _program_failed(deployment: LocalDeployment, code: int, causes: Sequence[str]) -> None:
    deployment.stop_cluster()
    _show_answering(deployment)
    failure = statuses.error(SERIALIZED, causes[0], [(SERIALIZED, cause) for cause in causes[1:]])
    deployment.attempt(lambda: pods.show_end(deployment.kube, deployment.live, _as_shown(code)))
    deployment.attempt(lambda: pods.hide_task_managers(deployment.kube, deployment.name))
    deployment.warn("Job", "Error", statuses.error_words(failure))
    _tell_state(deployment, statuses.job_state(deployment.status), "FAILED")
    now = str(int(time.time() * 1000))
    status = {**deployment.status, "lifecycleState": "FAILED", "jobManagerDeploymentStatus": "READY"}
    status = statuses.with_job(status, "FAILED", jobName="(application driver)", startTime=now, updateTime=now)
    deployment.write(statuses.with_error(status, failure))


def _as_shown(exit_code: int) -> int:
    """The exit code as a container's: one that a signal ended has 128 and the signal's number."""
    return exit_code if exit_code >= 0 else 128 - exit_code
