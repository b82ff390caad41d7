"""The status of a FlinkDeployment, in the shapes that the real operator writes (operator 1.15). Pure."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

Status = dict[str, Any]

EXCEPTIONS = "org.apache.flink.kubernetes.operator.exception"
SERIALIZED = "org.apache.flink.util.SerializedThrowable"
LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"
"""In the place of a savepoint's path: the job goes on from its own last state."""

JOB_NOT_FOUND = "Job Not Found"
"""An error that is no JSON text: the JobManager answers and does not have the job, or does not have it yet."""


def new_status() -> Status:
    """What the operator writes at its first sight of a deployment, but for its TaskManagers."""
    return {
        "clusterInfo": {},
        "conditions": [],
        "jobManagerDeploymentStatus": "MISSING",
        "jobStatus": {
            "checkpointInfo": {"lastPeriodicCheckpointTimestamp": 0},
            "savepointInfo": {"lastPeriodicSavepointTimestamp": 0, "savepointHistory": []},
        },
        "lifecycleState": "UPGRADING",
        "reconciliationStatus": {"reconciliationTimestamp": 0, "state": "UPGRADING"},
    }


def with_job(status: Status, state: str | None, **facts: Any) -> Status:
    """The status with the job in `state` and other facts of jobStatus; its condition follows."""
    changed = copy.deepcopy(status)
    job = changed["jobStatus"]
    for name, value in {"state": state, **facts}.items():
        if value is None:
            job.pop(name, None)
        else:
            job[name] = value
    if state is not None:
        changed["conditions"] = [_condition(state, status.get("conditions") or [])]
    return changed


def with_facts(status: Status, **facts: Any) -> Status:
    """The status with other facts of jobStatus, the job in the state that it is in."""
    return with_job(status, job_state(status), **facts)


def reconciling(status: Status, manager: str) -> Status:
    """The status with the JobManager's deployment in this state, and the job not seen."""
    return with_job({**status, "jobManagerDeploymentStatus": manager}, "RECONCILING")


def _condition(state: str, before: Sequence[dict[str, Any]]) -> dict[str, Any]:
    running = "True" if state == "RUNNING" else "False"
    reason = state.capitalize()
    same = [c for c in before if c.get("reason") == reason]
    at = same[0]["lastTransitionTime"] if same else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "lastTransitionTime": at,
        "message": f"Job status {state}",
        "reason": reason,
        "status": running,
        "type": "Running",
    }


def with_reconciled(
    status: Status, live: dict[str, Any], state: str, job: str, *, mode: str | None = None, first: bool = False
) -> Status:
    """The status with the spec of `live` as the last reconciled one, its job in state `job`, the reconciliation in
    `state`: no error is known of it yet. `mode` is the upgradeMode by which the job was left: what it goes on from,
    whatever the spec says. Without one it is as before."""
    changed, spec = copy.deepcopy(with_error(status, None)), live["spec"]
    changed["observedGeneration"] = live["metadata"]["generation"]
    reconciled = {**spec, "job": {**spec["job"], "state": job, "upgradeMode": mode or left_by(status)}}
    meta = {"apiVersion": "flink.apache.org/v1beta1", "firstDeployment": first}
    changed["reconciliationStatus"] |= {
        "lastReconciledSpec": json.dumps({"spec": reconciled, "resource_metadata": meta}),
        "reconciliationTimestamp": int(time.time() * 1000),
        "state": state,
    }
    return changed


def with_task_managers(status: Status, name: str, replicas: int) -> Status:
    """The status with the TaskManagers that a selector finds; none for 0."""
    selector = f"component=taskmanager,app={name}" if replicas else ""
    return {**status, "taskManager": {"labelSelector": selector, "replicas": replicas}}


def stable(status: Status) -> Status:
    """STABLE, with the last reconciled spec as the last stable one."""
    reconciliation = status["reconciliationStatus"]
    last = {"lastStableSpec": reconciliation.get("lastReconciledSpec")}
    return {**status, "lifecycleState": "STABLE", "reconciliationStatus": {**reconciliation, **last}}


def with_error(status: Status, error: str | None) -> Status:
    """The status with this error, or with none."""
    changed = {name: value for name, value in status.items() if name != "error"}
    return {**changed, "error": error} if error else changed


def healthy(status: Status) -> Status:
    """The status without the error of before, where all is well again: not before the spec that was deployed is the
    last stable one. What was said of a start stays until then, also while the JobManager answers already."""
    reconciliation = status["reconciliationStatus"]
    is_stable = reconciliation.get("lastReconciledSpec") == reconciliation.get("lastStableSpec")
    is_well = status["jobManagerDeploymentStatus"] != "ERROR" and job_state(status) != "FAILED"
    return with_error(status, None) if is_stable and is_well else status


def error(kind: str, message: str, causes: Sequence[tuple[str, str]] = (), reason: str | None = None) -> str:
    """An error as the operator writes it into the status: JSON text. `causes` are types and messages."""
    throwables = [{"type": cause, "message": said, "additionalMetadata": {}} for cause, said in causes]
    metadata = {"reason": reason} if reason else {}
    body = {"type": kind, "message": message, "additionalMetadata": metadata, "throwableList": throwables}
    return json.dumps(body)


def savepoint_error(said: str) -> str:
    """The error of a savepoint that failed with these words of Flink, as the operator's own client wraps them."""
    wrapped = ("java.util.concurrent.ExecutionException", f"java.util.concurrent.CompletionException: {said}")
    return error(f"{EXCEPTIONS}.UpgradeFailureException", "Savepoint Error", [wrapped, (SERIALIZED, said)])


def error_words(text: str) -> str:
    """The message of an event about this error: what is thrown and what caused it, as the operator joins them."""
    content = json.loads(text)
    return " -> ".join(_own_message(each) for each in (content, *content["throwableList"]))


def _own_message(throwable: dict[str, Any]) -> str:
    """A serialized throwable's message begins with the class that it was made from."""
    message: str = throwable["message"]
    return (message.partition(": ")[2] or message) if throwable["type"] == SERIALIZED else message


def reconciled_spec(status: Status) -> dict[str, Any] | None:
    """The last reconciled spec, or None at first."""
    text = status.get("reconciliationStatus", {}).get("lastReconciledSpec")
    return json.loads(text)["spec"] if text else None


def left_by(status: Status) -> str:
    """The upgradeMode by which its last run was left; of a first run it is stateless."""
    mode: str = ((reconciled_spec(status) or {}).get("job") or {}).get("upgradeMode") or "stateless"
    return mode


def is_half_way(status: Status) -> bool:
    """Whether a cluster is still to be deployed for the last reconciled spec."""
    return bool(status["reconciliationStatus"]["state"] == "UPGRADING")


def is_first(status: Status) -> bool:
    """Whether the last reconciled spec is that of its first deployment."""
    text = status["reconciliationStatus"].get("lastReconciledSpec")
    return bool(text and json.loads(text)["resource_metadata"]["firstDeployment"])


def job_state(status: Status) -> str | None:
    """The job's state as last shown, or None before its first."""
    state: str | None = status.get("jobStatus", {}).get("state")
    return state


def savepoint_to_restore(status: Status) -> str | None:
    """The savepoint that the job goes on from, or None: there is none, or it goes on from its last state."""
    path = status["jobStatus"].get("upgradeSavepointPath")
    return path if path and path != LAST_STATE else None
