"""From the spec that was last reconciled to the one that is asked for: a job is suspended, resumed or upgraded, or the
change is only noted.
"""

from __future__ import annotations

import time
from typing import Any

from loguru import logger

from local.flink_operator import changes, pods, specs, statuses
from local.flink_operator.cluster import Cluster
from local.flink_operator.deploying import deploy_again, deploy_from
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.kube import Resource
from local.flink_operator.rest import SavepointFailed, effective_state
from local.flink_operator.snapshots import manual
from local.flink_operator.specs import DRAIN, SAVEPOINT_DIRECTORY
from local.flink_operator.statuses import Status

RETRY_SECONDS = 15.0

Spec = dict[str, Any]


class Changing:
    """Makes the changes of one deployment, and remembers which it has told of."""

    def __init__(self, deployment: LocalDeployment) -> None:
        self._deployment = deployment
        self._told_generation = 0

    def change(self, before: Spec) -> None:
        """From `before` to the spec that is there. Where that takes a savepoint that fails, the job goes on, and it is
        tried again later. Raises KubeError."""
        self._tell(before)
        try:
            _change(self._deployment, before)
        except SavepointFailed as failure:
            _not_saved(self._deployment, failure)

    def go_on(self) -> None:
        """With a change that was begun: the job has been left, or has never run. Raises KubeError."""
        _deploy_anew(self._deployment)

    def _tell(self, before: Spec) -> None:
        """Once for each generation, however often it has to be tried; of what is no upgrade nothing is told."""
        if self._told_generation == self._deployment.generation:
            return
        spec = self._deployment.spec
        after = {**spec, "job": {"state": "running", **spec["job"]}}
        if _state(after) != _state(before) or changes.is_upgrade(before, after):
            self._told_generation = self._deployment.generation
            self._deployment.tell("JobManagerDeployment", "SpecChanged", changes.spec_changed(before, after))


def _state(spec: Spec) -> str:
    state: str = spec["job"].get("state", "running")
    return state


def _change(deployment: LocalDeployment, before: Spec) -> None:
    was, wanted = _state(before), _state(deployment.spec)
    if wanted == "running" and changes.is_redeploy(before, deployment.spec):
        _redeploy(deployment)
    elif was == "running" and wanted == "suspended":
        _suspend(deployment)
    elif was == "suspended" and wanted == "running":
        _resume(deployment)
    elif wanted == "running" and _rescales(deployment, before):
        _rescale(deployment)
    elif wanted == "running" and changes.is_upgrade(before, deployment.spec):
        _upgrade(deployment)
    else:
        _note(deployment, before, wanted)


def _note(deployment: LocalDeployment, before: Spec, wanted: str) -> None:
    """Nothing of it touches the job; one that is asked for a savepoint is STABLE again at the next look."""
    status = statuses.with_reconciled(deployment.status, deployment.live, "DEPLOYED", wanted)
    if wanted == "running" and changes.asks_for_savepoint(before, deployment.spec):
        deployment.kube.put_snapshot(manual(deployment.name))
        status = {**status, "lifecycleState": "DEPLOYED"}
    if wanted == "suspended" and _is_left(deployment.status):
        status = {**status, "lifecycleState": "SUSPENDED"}
    deployment.write(status)


def _is_left(status: Status) -> bool:
    """Whether its job was left for an upgrade that is not deployed yet."""
    return statuses.is_half_way(status) and not statuses.is_first(status)


def _rescales(deployment: LocalDeployment, before: Spec) -> bool:
    """Whether there is a job that can be told of the change, be it that it just rescales. One that has ended is
    upgraded."""
    ended = statuses.job_state(deployment.status) in (None, "FINISHED", "FAILED", "CANCELED")
    is_up = deployment.cluster is not None and not ended
    return is_up and changes.is_in_place(before, deployment.spec)


def _rescale(deployment: LocalDeployment) -> None:
    """Flink is told, and TaskManagers come or go; it is STABLE at the next look, whether Flink has rescaled or not."""
    cluster = deployment.cluster
    assert cluster is not None  # noqa: S101 - it was looked for just before
    if not cluster.rest.require(deployment.status["jobStatus"]["jobId"], specs.overrides(deployment.spec)):
        deployment.try_again_in(RETRY_SECONDS)
        return
    deployment.have_task_managers(specs.task_managers(deployment.spec))
    deployment.tell("Job", "Scaling", "In-place scaling triggered")
    status = statuses.with_reconciled(deployment.status, deployment.live, "DEPLOYED", "running")
    deployment.write({**status, "lifecycleState": "DEPLOYED"})


def _suspend(deployment: LocalDeployment) -> None:
    """A job that was stopped with a savepoint leaves its JobManager."""
    mode, savepoint = _stop_job(deployment)
    manager = "READY" if deployment.cluster is not None else "MISSING"
    status = statuses.with_reconciled(deployment.status, deployment.live, "DEPLOYED", "suspended", mode=mode)
    status = {**status, "lifecycleState": "SUSPENDED", "jobManagerDeploymentStatus": manager}
    reconciliation = status["reconciliationStatus"]
    if reconciliation.get("lastStableSpec"):
        reconciliation["lastStableSpec"] = reconciliation["lastReconciledSpec"]
    deployment.write(_without_job(deployment, status, savepoint))


def _resume(deployment: LocalDeployment) -> None:
    """The JobManager that a savepoint left is READY until it is removed."""
    status = statuses.with_reconciled(deployment.status, deployment.live, "UPGRADING", "suspended")
    deployment.write({**status, "lifecycleState": "UPGRADING"})
    _deploy_anew(deployment)


def _upgrade(deployment: LocalDeployment) -> None:
    """The job is left; the next look goes on. What was changed in the meantime, as while the savepoint was taken, is
    deployed then, and nothing in between."""
    mode, savepoint = _stop_job(deployment)
    status = statuses.with_reconciled(deployment.status, deployment.live, "UPGRADING", "suspended", mode=mode)
    manager = "READY" if deployment.cluster is not None else "MISSING"
    status = {**status, "lifecycleState": "UPGRADING", "jobManagerDeploymentStatus": manager}
    deployment.write(_without_job(deployment, status, savepoint))


def _deploy_anew(deployment: LocalDeployment) -> None:
    """The old cluster ends before the new one is deployed, and its status shows both."""
    deployment.end_cluster()
    deployment.write({**deployment.status, "jobManagerDeploymentStatus": "MISSING"})
    deploy_again(deployment)


def _redeploy(deployment: LocalDeployment) -> None:
    """What runs is cancelled, whatever its state."""
    deployment.end_cluster()
    deployment.write({**deployment.status, "jobManagerDeploymentStatus": "MISSING"})
    deploy_from(deployment, deployment.spec["job"]["initialSavepointPath"])


def _without_job(deployment: LocalDeployment, status: Status, savepoint: str | None) -> Status:
    """The status with the job ended, and with the savepoint that it left. An older one that it shows stays there."""
    status = statuses.with_job(status, "FINISHED", **({"upgradeSavepointPath": savepoint} if savepoint else {}))
    return statuses.with_error(statuses.with_task_managers(status, deployment.name, 0), None)


def _stop_job(deployment: LocalDeployment) -> tuple[str, str | None]:
    """Ends the job as its upgradeMode asks, and returns by which mode it was left, and its savepoint. A job of which
    not every task runs is left with its last state. Raises SavepointFailed."""
    deployment.tell("JobManagerDeployment", "Suspended", "Suspending existing deployment.")
    cluster, mode = deployment.cluster, deployment.spec["job"].get("upgradeMode", "stateless")
    job = cluster.rest.job(deployment.status["jobStatus"].get("jobId", "")) if cluster else None
    if mode == "savepoint" and cluster is not None and job is not None:
        if effective_state(job) == "RUNNING":
            return mode, _stop_with_savepoint(deployment, cluster, job["jid"])
        if job["state"] == "FINISHED":
            return mode, statuses.savepoint_to_restore(deployment.status)
    deployment.end_cluster()
    return "stateless" if mode == "stateless" else "last-state", None


def _stop_with_savepoint(deployment: LocalDeployment, cluster: Cluster, job_id: str) -> str:
    deployment.write(statuses.with_error(deployment.status, None))
    configuration = deployment.spec.get("flinkConfiguration") or {}
    drain = str(configuration.get(DRAIN)).lower() == "true"
    path = cluster.rest.stop_with_savepoint(job_id, configuration.get(SAVEPOINT_DIRECTORY, ""), drain=drain)
    cluster.stop_task_managers()
    deployment.attempt(lambda: pods.hide_task_managers(deployment.kube, deployment.name))
    deployment.kube.put_snapshot(*_snapshot(deployment.name, path))
    return path


def _not_saved(deployment: LocalDeployment, failure: SavepointFailed) -> None:
    deployment.try_again_in(RETRY_SECONDS)
    logger.warning("{}: no savepoint: {}", deployment.name, failure.root_cause)
    error = statuses.savepoint_error(str(failure))
    deployment.warn("JobManagerDeployment", "SavepointError", statuses.error_words(error))
    deployment.write(statuses.with_error(deployment.status, error))


def _snapshot(name: str, path: str) -> tuple[Resource, Status]:
    """The FlinkStateSnapshot of a savepoint that was taken for a change, and its status."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    labels = {
        "job-reference.kind": "FlinkDeployment",
        "job-reference.name": name,
        "snapshot.state": "COMPLETED",
        "snapshot.trigger-type": "UPGRADE",
        "snapshot.type": "SAVEPOINT",
    }
    body = {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkStateSnapshot",
        "metadata": {"name": f"{name}-savepoint-upgrade-{int(time.time() * 1000)}", "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "jobReference": {"kind": "FlinkDeployment", "name": name},
            "savepoint": {"alreadyExists": True, "disposeOnDelete": False, "formatType": "NATIVE", "path": path},
        },
    }
    status = {"failures": 0, "path": path, "resultTimestamp": now, "state": "COMPLETED", "triggerTimestamp": now}
    return body, status
