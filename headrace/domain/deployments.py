"""What is read of a FlinkDeployment and of its pods: only the fields that the status function needs, typed.

Field names are the resource's own (camelCase renamed), so that bytes decode straight into these. No I/O here.
Source: the FlinkDeployment CRD v1beta1, operator 1.15.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from headrace.domain.vertices import OVERRIDES_KEY
from headrace.errors import Unreadable


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a Kubernetes object: unknown fields are skipped while decoding."""


class Metadata(_Part, frozen=True, rename="camel"):
    """metadata: what identifies an object and one version of it."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class JobSpec(_Part, frozen=True, rename="camel"):
    """spec.job."""

    state: str | None = None
    parallelism: int | None = None
    upgrade_mode: str | None = None
    savepoint_redeploy_nonce: int | None = None
    savepoint_trigger_nonce: int | None = None
    initial_savepoint_path: str | None = None


class TaskManagerSpec(_Part, frozen=True, rename="camel"):
    """spec.taskManager."""

    replicas: int | None = None


class FlinkConfiguration(_Part, frozen=True, rename={"overrides": OVERRIDES_KEY}):
    """spec.flinkConfiguration: of a free form, in which nothing else is read."""

    overrides: Any = None


class Spec(_Part, frozen=True, rename="camel"):
    """spec."""

    job: JobSpec | None = None
    task_manager: TaskManagerSpec | None = None
    restart_nonce: int | None = None
    flink_configuration: FlinkConfiguration | None = None


class LastSavepoint(_Part, frozen=True, rename="camel"):
    """status.jobStatus.savepointInfo.lastSavepoint."""

    location: str | None = None
    trigger_nonce: int | None = None
    format_type: str | None = None


class SavepointInfo(_Part, frozen=True, rename="camel"):
    """status.jobStatus.savepointInfo: `trigger_id` is Flink's, of a savepoint that is being taken."""

    trigger_id: str | None = None
    last_savepoint: LastSavepoint | None = None


class JobStatus(_Part, frozen=True, rename="camel"):
    """status.jobStatus."""

    job_id: str | None = None
    job_name: str | None = None
    state: str | None = None
    start_time: str | None = None
    upgrade_savepoint_path: str | None = None
    savepoint_info: SavepointInfo | None = None


class ReconciliationStatus(_Part, frozen=True, rename="camel"):
    """status.reconciliationStatus; the specs in it are JSON text."""

    state: str | None = None
    last_reconciled_spec: str | None = None


class TaskManagerInfo(_Part, frozen=True, rename="camel"):
    """status.taskManager."""

    replicas: int | None = None


class Status(_Part, frozen=True, rename="camel"):
    """status; `error` is JSON text or plain text, and may stay on a STABLE job. `act` and `has_led` are the native
    runtime's, and no operator's: what is to be done next, and whether a JobManager that does not answer has led."""

    observed_generation: int | None = None
    lifecycle_state: str | None = None
    job_manager_deployment_status: str | None = None
    job_status: JobStatus | None = None
    reconciliation_status: ReconciliationStatus | None = None
    task_manager: TaskManagerInfo | None = None
    error: str | None = None
    act: str | None = None
    has_led: bool = False


class Deployment(_Part, frozen=True, rename="camel"):
    """One version of a FlinkDeployment as it was seen."""

    metadata: Metadata
    spec: Spec = Spec()
    status: Status | None = None


class _Named(_Part, frozen=True, rename="camel"):
    metadata: Metadata


def deployment_of(whole: Mapping[str, Any]) -> Deployment:
    """A FlinkDeployment as the API has it, typed. Raises Unreadable, with the place that is wrong."""
    try:
        return msgspec.convert(whole, Deployment)
    except msgspec.ValidationError as error:
        raise unreadable(error) from error


def named_in(whole: Mapping[str, Any]) -> Deployment:
    """One of which only the metadata can be read. Raises Unreadable where not even that can."""
    try:
        return Deployment(metadata=msgspec.convert(whole, _Named).metadata)
    except msgspec.ValidationError as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> Unreadable:
    """What is wrong with a FlinkDeployment that does not fit: the decoder's words name the place and no value."""
    return Unreadable(f"its FlinkDeployment cannot be read: {error}; kubectl edit mends it")


@dataclass(frozen=True)
class Gone:
    """The deployment is not there: a GET of its name answered 404, or a resource that is not this job's."""


@dataclass(frozen=True)
class PodTrouble:
    """Why a pod of a deployment does not run, in one line: from its container states and conditions."""

    pod: str
    reason: str
    message: str = ""
    component: str = ""


TRIGGER_NONCE = "savepointTriggerNonce"
"""The field of spec.job whose every new value asks for a savepoint."""

SEQUENCE_ANNOTATION = "headrace.io/sequence"
JOB_ID_ANNOTATION = "headrace.io/job-id"
TENANT_ANNOTATION = "headrace.io/tenant"
LONGEST_SEQUENCE = 18
"""Digits: what somebody else wrote there may be anything."""

OPERATION_ANNOTATION = "headrace.io/operation-id"
RUN_ANNOTATION = "headrace.io/run"
JOB_LABEL = "headrace.io/job"
TENANT_LABEL = "headrace.io/tenant"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "headrace"


@dataclass(frozen=True)
class Seen:
    """Everything one observation of a job rests on.

    `at` is the time of the observation; `trouble` the first pod that cannot start, and `manager_is_up` whether the
    JobManager was seen to run, where pods were looked at.
    """

    what: Deployment | Gone
    at: datetime
    trouble: PodTrouble | None = None
    manager_is_up: bool = False


def sequence_of(deployment: Deployment) -> int:
    """The fence on the deployment: the sequence of the last operation that wrote it; 0 where there is none."""
    text = (deployment.metadata.annotations or {}).get(SEQUENCE_ANNOTATION, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_SEQUENCE else 0


def operation_of(deployment: Deployment) -> str | None:
    """The id of the operation that wrote it last."""
    return (deployment.metadata.annotations or {}).get(OPERATION_ANNOTATION)


def run_of(deployment: Deployment) -> int:
    """The number of the run that it is; 0 where it does not say."""
    text = (deployment.metadata.annotations or {}).get(RUN_ANNOTATION, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_SEQUENCE else 0


def is_of(deployment: Deployment, tenant: str, job_id: str) -> bool:
    """Whether it is this job's: by our annotations. A label that was taken off makes it nobody else's."""
    annotations = deployment.metadata.annotations or {}
    return annotations.get(JOB_ID_ANNOTATION) == job_id and annotations.get(TENANT_ANNOTATION) == tenant


def owner_of(deployment: Deployment) -> str:
    """Whose it seems to be, in words."""
    labels = deployment.metadata.labels or {}
    return labels.get(MANAGED_BY_LABEL) or f"somebody who set no {MANAGED_BY_LABEL} label"


def is_running(deployment: Deployment) -> bool:
    """Whether the operator sees the job RUNNING under a JobManager that is READY."""
    status = deployment.status
    if status is None or status.job_status is None:
        return False
    return status.job_status.state == "RUNNING" and status.job_manager_deployment_status == "READY"


ENDED_IN_FLINK = ("FAILED", "FINISHED", "CANCELED")
"""States that Flink's job does not leave."""


def has_ended(deployment: Deployment) -> bool:
    """Whether Flink's job has come to an end of its own: it takes no checkpoint any more."""
    job = deployment.status.job_status if deployment.status else None
    return job is not None and job.state in ENDED_IN_FLINK


FAILED_BEFORE_IT_RAN = "(application driver)"
"""The name of the job that Flink puts up where a program failed and left no job of its own
(ApplicationDispatcherBootstrap.FAILED_JOB_NAME)."""


def failed_before_it_ran(deployment: Deployment) -> bool:
    """Whether what ended is the program, before it gave Flink a job."""
    job = deployment.status.job_status if deployment.status else None
    return job is not None and job.state == "FAILED" and job.job_name == FAILED_BEFORE_IT_RAN


def keeps_failing(deployment: Deployment) -> bool:
    """Whether Flink's job has run and failed, and is on its way to the next try."""
    job = deployment.status.job_status if deployment.status else None
    return job is not None and job.state in ("FAILING", "RESTARTING")


def never_started(deployment: Deployment, was_running: bool) -> bool:
    """Whether no JobManager of this run can have completed a checkpoint: none was ever READY."""
    status = deployment.status
    if was_running or (status is not None and status.has_led):
        return False
    return status is None or status.job_status is None or not status.job_status.start_time


def is_behind(deployment: Deployment, generation: int | None) -> bool:
    """Whether the operator has not begun to reconcile `generation` yet."""
    observed = deployment.status.observed_generation if deployment.status else None
    return observed is None or (generation is not None and observed < generation)


def is_suspended(deployment: Deployment) -> bool:
    """Rule f: the spec is suspended and the operator is done with it (FLINK-40164 leaves some at UPGRADING)."""
    status, spec = deployment.status, deployment.spec.job
    if status is None or spec is None or spec.state != "suspended":
        return False
    if status.lifecycle_state == "SUSPENDED" and not is_behind(deployment, deployment.metadata.generation):
        return True
    ended = status.job_status is not None and status.job_status.state in ("CANCELED", "FINISHED")
    return ended and _reconciled_job(status).get("state") == "suspended"


def left_by(deployment: Deployment) -> str | None:
    """The upgradeMode by which the operator ended the last run of the job, whatever the spec says: `savepoint` where it
    took one; None where it does not say (`lastReconciledSpec`: seen in recordings)."""
    mode = _reconciled_job(deployment.status).get("upgradeMode") if deployment.status else None
    return str(mode) if mode is not None else None


def savepoint_of(deployment: Deployment, nonce: int) -> LastSavepoint | None:
    """The savepoint that was taken for this savepointTriggerNonce, where the status has it."""
    last = _savepoints(deployment).last_savepoint
    return last if last is not None and last.location and last.trigger_nonce == nonce else None


def gave_up_savepoint(deployment: Deployment, nonce: int) -> bool:
    """Whether the operator has taken up this savepointTriggerNonce, is not at it any more, and has no path for it."""
    taken_up = deployment.status is not None and _reconciled_job(deployment.status).get(TRIGGER_NONCE) == nonce
    return taken_up and not _savepoints(deployment).trigger_id and savepoint_of(deployment, nonce) is None


def _savepoints(deployment: Deployment) -> SavepointInfo:
    job = deployment.status.job_status if deployment.status else None
    return (job.savepoint_info if job else None) or SavepointInfo()


def _reconciled_job(status: Status) -> Mapping[str, Any]:
    text = status.reconciliation_status.last_reconciled_spec if status.reconciliation_status else None
    try:
        spec: Any = json.loads(text) if text else {}
        job = (spec.get("spec") or {}).get("job")
    except (ValueError, AttributeError, RecursionError):
        return {}
    return job if isinstance(job, Mapping) else {}
