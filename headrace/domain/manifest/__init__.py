"""Rendering: a job request becomes the FlinkDeployment that a real cluster gets. Pure; knows no server.

Shared parts are here and in `parts`; each job type has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain import deployments as wire
from headrace.domain.job_requests import JobRequest, JobType
from headrace.domain.jobs import Job
from headrace.domain.manifest import jar, python_script, sql
from headrace.domain.manifest.parts import Platform, configuration, extending, metadata_labels, shared_pod
from headrace.domain.manifest.programs import Program, job_manager_pod, task_manager_pod

__all__ = ["Platform", "Stamp", "render", "with_parallelism", "with_state"]

Manifest = dict[str, Any]

PROGRAMS: Mapping[JobType, Callable[[JobRequest], Program]] = {
    JobType.PYTHON_SCRIPT: python_script.program,
    JobType.JAR: jar.program,
    JobType.SQL: sql.program,
}


@dataclass(frozen=True)
class Stamp:
    """What every write leaves on the deployment: the fence and where it came from."""

    sequence: int
    operation_id: str
    run: int


def render(job: Job, request: JobRequest, platform: Platform, stamp: Stamp) -> Manifest:
    """The whole FlinkDeployment of this job, running.

    Follows the operator's v1beta1 CRD; `flinkConfiguration` is flat text (1.12 and older take nothing else), and
    either `job.parallelism` or `taskManager.replicas` is set, never both (the operator ignores the first then).
    """
    program = PROGRAMS[request.type](request)
    resources = request.resources
    shared = shared_pod(job, request, platform)
    own = job_manager_pod(job, request, platform, program), task_manager_pod(request, platform)
    pods = [{"podTemplate": extending(shared, pod)} if pod["volumes"] else {} for pod in own]
    spec: Manifest = {
        "image": request.image or platform.image,
        **({"imagePullPolicy": request.pod.image_pull_policy} if request.pod.image_pull_policy else {}),
        "flinkVersion": request.flink_version or platform.flink_version,
        "mode": "native",
        "serviceAccount": request.service_account or platform.service_account,
        "flinkConfiguration": {**configuration(job, request, platform), **program.configuration},
        "podTemplate": shared,
        "jobManager": {
            "replicas": 1,
            "resource": {"memory": resources.job_manager.memory, "cpu": resources.job_manager.cpu},
            **pods[0],
        },
        "taskManager": {
            "resource": {"memory": resources.task_manager.memory, "cpu": resources.task_manager.cpu},
            **pods[1],
        },
        "job": {**program.job, "state": "running", "upgradeMode": "savepoint"},
    }
    if resources.task_manager.replicas is None:
        spec["job"]["parallelism"] = request.parallelism
    else:
        spec["taskManager"]["replicas"] = resources.task_manager.replicas
    if job.start_from:
        spec["job"]["initialSavepointPath"] = job.start_from
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": {
            "name": job.deployment_name,
            "namespace": job.namespace,
            "labels": metadata_labels(job, request.labels),
            "annotations": annotations_of(job, stamp),
        },
        "spec": spec,
    }


def annotations_of(job: Job, stamp: Stamp) -> dict[str, str]:
    """Ours on the deployment: whose it is, and the fence that every later write tests."""
    return {
        wire.JOB_ID_ANNOTATION: job.job_id,
        wire.TENANT_ANNOTATION: job.tenant,
        wire.SEQUENCE_ANNOTATION: str(stamp.sequence),
        wire.OPERATION_ANNOTATION: stamp.operation_id,
        wire.RUN_ANNOTATION: str(stamp.run),
    }


def with_parallelism(request: JobRequest, parallelism: int) -> JobRequest:
    """The request at another parallelism. Where replicas are set, those are: ceil(parallelism / slots)."""
    task_manager = request.resources.task_manager
    if task_manager.replicas is None:
        return request.model_copy(update={"parallelism": parallelism})
    replicas = -(-parallelism // task_manager.slots)
    resources = request.resources.model_copy(
        update={"task_manager": task_manager.model_copy(update={"replicas": replicas})}
    )
    return request.model_copy(update={"parallelism": parallelism, "resources": resources})


def with_state(manifest: Manifest, state: str, job: Job, stamp: Stamp) -> Manifest:
    """The same manifest with `spec.job.state` set and a new stamp: what a suspend writes."""
    spec = {**manifest["spec"], "job": {**manifest["spec"]["job"], "state": state}}
    metadata = {
        **manifest["metadata"],
        "annotations": {**manifest["metadata"]["annotations"], **annotations_of(job, stamp)},
    }
    return {**manifest, "metadata": metadata, "spec": spec}
