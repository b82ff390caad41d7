"""One deployment's life: what its spec asks for is brought about, and what its processes show becomes its status.

Every status follows from processes and the JobManager's REST, never from a script of delays. The sequences are those
of a real operator (tests/data/recordings).
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from loguru import logger

from local.flink_operator import pods, specs, statuses
from local.flink_operator.changing import Changing
from local.flink_operator.cluster import Cluster, end_what_is_left
from local.flink_operator.deploying import deploy_first
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.events import Events
from local.flink_operator.kube import Kube, KubeError, Resource
from local.flink_operator.rest import effective_state
from local.flink_operator.starting import start_cluster
from local.flink_operator.statuses import EXCEPTIONS, SERIALIZED

FINALIZER = "flinkdeployments.flink.apache.org/finalizer"
LOOK_SECONDS = 0.5
EXCEPTIONS_SECONDS = 10.0
SHOWN_LINES = 5
UNREACHABLE_AFTER_SECONDS = 10.0


class Reconciler(threading.Thread):
    """A thread for one deployment (its uid), from its first sight until it is gone."""

    def __init__(self, kube: Kube, events: Events, live: Resource, data: Path, is_stopping: threading.Event) -> None:
        self.deployment_name = live["metadata"]["name"]
        super().__init__(name=f"deployment-{self.deployment_name}", daemon=True)
        self._deployment = LocalDeployment(kube, events, live, data)
        self._changing = Changing(self._deployment)
        self._is_stopping = is_stopping
        self._silent_since: float | None = None
        self._exceptions_at = 0.0
        self._last_exception = 0

    @property
    def rest_port(self) -> int | None:
        """Where its JobManager has its REST API, while there is one."""
        cluster = self._deployment.cluster
        return cluster.rest_port if cluster is not None else None

    def run(self) -> None:
        """Looks again and again; what the API server does not take now is tried at the next look."""
        end_what_is_left(self._deployment.folder)
        try:
            while not self._is_stopping.is_set():
                try:
                    if not self._look():
                        return
                except KubeError as error:
                    logger.warning("{}: {}", self.deployment_name, error)
                self._is_stopping.wait(LOOK_SECONDS)
        finally:
            self._deployment.stop_cluster()

    def _look(self) -> bool:
        """One look; False where the deployment is gone."""
        kube, name = self._deployment.kube, self._deployment.name
        live = kube.deployment(name)
        if live is None or live["metadata"]["uid"] != self._deployment.uid:
            self._clean_up()
            return False
        self._deployment.live = live
        finalizers = live["metadata"].get("finalizers") or []
        if live["metadata"].get("deletionTimestamp"):
            self._deployment.tell("Operator", "Cleanup", "Cleaning up FlinkDeployment")
            self._clean_up()
            kube.set_finalizers(name, [finalizer for finalizer in finalizers if finalizer != FINALIZER])
            return False
        if FINALIZER not in finalizers:
            kube.set_finalizers(name, [*finalizers, FINALIZER])
        self._reconcile()
        return True

    def _reconcile(self) -> None:
        before = statuses.reconciled_spec(self._deployment.status) if self._deployment.status else None
        try:
            specs.validate(self._deployment.spec)
        except specs.Invalid as error:
            self._refuse(str(error), first=before is None)
            if before is not None:
                self._observe()
            return
        if before is None:
            deploy_first(self._deployment)
        elif self._deployment.is_behind() and self._deployment.may_try():
            self._changing.change(before)
        else:
            self._observe()

    def _refuse(self, message: str, *, first: bool) -> None:
        status = self._deployment.status or statuses.new_status()
        if first:
            status = {**status, "lifecycleState": "FAILED"}
        refused = statuses.error(f"{EXCEPTIONS}.ValidationException", message)
        if status.get("error") != refused:
            self._deployment.warn("Operator", "ValidationError", message)
        self._deployment.write(statuses.with_error(status, refused))

    # Observing

    def _observe(self) -> None:
        wanted = (statuses.reconciled_spec(self._deployment.status) or {}).get("job", {}).get("state")
        if wanted != "running" or self._deployment.status["lifecycleState"] in ("FAILED", "SUSPENDED"):
            return
        if self._deployment.cluster is None:
            if statuses.job_state(self._deployment.status) not in ("FINISHED", "FAILED", "CANCELED"):
                start_cluster(self._deployment)
            return
        if self._deployment.cluster.job_manager.exit_code is not None:
            self._job_manager_ended(self._deployment.cluster)
            return
        self._revive_task_managers(self._deployment.cluster)
        self._deployment.show_pods()
        self._observe_job(self._deployment.cluster)

    def _revive_task_managers(self, cluster: Cluster) -> None:
        for process in cluster.task_managers:
            if process.exit_code is not None:
                self._deployment.launch(process.log, _as_shown(process.exit_code))
        cluster.revive_task_managers()

    def _observe_job(self, cluster: Cluster) -> None:
        job = cluster.rest.job(self._deployment.status["jobStatus"]["jobId"])
        if job is not None:
            cluster.was_seen = True
            self._silent_since = None
            self._show_answering()
            self._show_job(cluster, job)
            return
        if cluster.rest.is_up():
            self._silent_since = None
            if not cluster.was_seen:
                self._deployment.show_manager("DEPLOYED_NOT_READY")
            return
        self._silent_since = self._silent_since or time.monotonic()
        is_starting = (
            not cluster.was_seen and self._deployment.status["jobManagerDeploymentStatus"] != "DEPLOYED_NOT_READY"
        )
        if is_starting or time.monotonic() - self._silent_since >= UNREACHABLE_AFTER_SECONDS:
            self._deployment.show_manager("DEPLOYING")

    def _show_answering(self) -> None:
        """No JobManager is READY that was not DEPLOYED_NOT_READY before, however quick it was between two looks."""
        if self._deployment.status["jobManagerDeploymentStatus"] not in ("DEPLOYED_NOT_READY", "READY"):
            self._deployment.show_manager("DEPLOYED_NOT_READY")

    def _show_job(self, cluster: Cluster, job: dict[str, Any]) -> None:
        state = effective_state(job)
        facts = {
            "jobName": job["name"],
            "startTime": str(job["start-time"]),
            "updateTime": str(max(job["last-modification"], job["start-time"])),
        }
        status = statuses.with_job({**self._deployment.status, "jobManagerDeploymentStatus": "READY"}, state, **facts)
        if not status["clusterInfo"]:
            config = cluster.rest.config()
            status["clusterInfo"] = {
                "flink-revision": config.get("flink-revision", ""),
                "flink-version": config.get("flink-version", ""),
            }
        if state in ("RUNNING", "FINISHED"):
            status = statuses.stable(status)
        elif state == "FAILED":
            status = {**status, "lifecycleState": "FAILED"}
        before = statuses.job_state(self._deployment.status)
        # What keeps a change from being made is told until it is tried again.
        self._deployment.write(status if self._deployment.is_behind() else statuses.with_error(status, None))
        self._tell_state(before, state)
        self._tell_exceptions(cluster, is_new=before != state)

    def _tell_state(self, before: str | None, state: str) -> None:
        if before not in (None, state):
            self._deployment.tell("Job", "JobStatusChanged", f"Job status changed from {before} to {state}")

    def _tell_exceptions(self, cluster: Cluster, *, is_new: bool) -> None:
        """The exceptions since the last look at them: when the state has changed, and every now and then."""
        if not is_new and time.monotonic() - self._exceptions_at < EXCEPTIONS_SECONDS:
            return
        self._exceptions_at = time.monotonic()
        for entry in cluster.rest.exceptions(self._deployment.status["jobStatus"]["jobId"]):
            if entry["timestamp"] > self._last_exception:
                self._last_exception = entry["timestamp"]
                self._deployment.warn("Job", "JobException", _first_lines(entry["stacktrace"]))

    def _job_manager_ended(self, cluster: Cluster) -> None:
        """A JobManager that was killed is started again and goes on from the job's last checkpoint; one whose program
        failed before there was a job has FAILED."""
        code = cluster.job_manager.exit_code or 0
        if code > 0 and code < 128 and not cluster.was_seen:
            self._program_failed(cluster, code)
            return
        logger.warning("{}: the JobManager ended with {}; it is started again", self._deployment.name, code)
        self._deployment.launch(cluster.job_manager.log, _as_shown(code))
        if cluster.is_highly_available:
            cluster.restart_job_manager()
        else:
            self._deployment.stop_cluster()
        self._deployment.show_manager("DEPLOYING")

    def _program_failed(self, cluster: Cluster, code: int) -> None:
        causes = cluster.failure()
        self._deployment.stop_cluster()
        self._show_answering()
        message = causes[0] if causes else f"the JobManager ended with {code}; see its log"
        failure = statuses.error(SERIALIZED, message, [(SERIALIZED, cause) for cause in causes[1:]])
        status = {**self._deployment.status, "lifecycleState": "FAILED", "jobManagerDeploymentStatus": "READY"}
        self._deployment.attempt(lambda: pods.show_end(self._deployment.kube, self._deployment.live, _as_shown(code)))
        self._deployment.attempt(lambda: pods.hide_task_managers(self._deployment.kube, self._deployment.name))
        self._deployment.warn("Job", "Error", statuses.error_words(failure))
        self._tell_state(statuses.job_state(self._deployment.status), "FAILED")
        now = str(int(time.time() * 1000))
        facts = {"jobName": "(application driver)", "startTime": now, "updateTime": now}
        self._deployment.write(statuses.with_error(statuses.with_job(status, "FAILED", **facts), failure))

    # Ending

    def _clean_up(self) -> None:
        self._deployment.stop_cluster()
        pods.hide(self._deployment.kube, self._deployment.name)
        self._deployment.kube.forget_high_availability(self._deployment.name)
        shutil.rmtree(self._deployment.folder / "tmp", ignore_errors=True)


def _as_shown(exit_code: int) -> int:
    """The exit code as a container's: one that a signal ended has 128 and the signal's number."""
    return exit_code if exit_code >= 0 else 128 - exit_code


def _first_lines(stacktrace: str) -> str:
    lines = stacktrace.rstrip().splitlines()
    left_out = [f"... ({len(lines) - SHOWN_LINES} more lines)"] if len(lines) > SHOWN_LINES else []
    return "\n".join([*lines[:SHOWN_LINES], *left_out])
