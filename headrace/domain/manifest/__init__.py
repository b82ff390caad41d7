"""Rendering: a job request becomes the FlinkDeployment that a real cluster gets. Pure; knows no server.

Shared parts are here and in `parts`; each job type has a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain import deployments as wire
from headrace.domain.diff import Change
from headrace.domain.flink_options import options_in
from headrace.domain.job_requests import JobRequest, JobType
from headrace.domain.jobs import Job
from headrace.domain.manifest import jar, python_script, sql
from headrace.domain.manifest.parts import Platform, configuration, extending, metadata_labels, shared_pod
from headrace.domain.manifest.programs import Program, job_manager_pod, task_manager_pod
from headrace.domain.policy import Policy
from headrace.domain.vertices import LONGEST_COUNT, OVERRIDES_KEY
from headrace.errors import InvalidRequest

__all__ = [
    "Platform",
    "Stamp",
    "annotations_of",
    "render",
    "stamped",
    "to_save",
    "to_suspend",
    "with_job",
    "with_overrides",
    "with_parallelism",
    "with_spec",
]

Manifest = dict[str, Any]

PROGRAMS: Mapping[JobType, Callable[[JobRequest, Policy], Program]] = {
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


def render(
    job: Job, request: JobRequest, platform: Platform, stamp: Stamp, *, start_from: str | None = None
) -> Manifest:
    """The whole FlinkDeployment of this job, running from `start_from`. Raises InvalidRequest where the installation's
    policy does not let it reach the cluster.

    Follows the operator's v1beta1 CRD; `flinkConfiguration` is flat text (1.12 and older take nothing else), and
    either `job.parallelism` or `taskManager.replicas` is set, never both (the operator ignores the first then).
    """
    outside = dict(platform.policy.problems_of(request))
    if outside:
        raise InvalidRequest(outside)
    program = PROGRAMS[request.type](request, platform.policy)
    resources = request.resources
    shared = shared_pod(job, request, platform, program.env)
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
    if start_from:
        spec["job"]["initialSavepointPath"] = start_from
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


def with_parallelism(manifest: Mapping[str, Any], parallelism: int) -> Manifest:
    """The manifest at another parallelism. Where replicas are set, those are: ceil(parallelism / slots)."""
    task_manager = manifest["spec"].get("taskManager") or {}
    if task_manager.get("replicas") is None:
        return with_job(manifest, {"parallelism": parallelism})
    return with_spec(manifest, {"taskManager": {**task_manager, "replicas": -(-parallelism // slots_of(manifest))}})


def with_overrides(manifest: Mapping[str, Any], overrides: str | None) -> Manifest:
    """The manifest with these parallelism overrides, by vertex; None is without any."""
    configuration = dict(manifest["spec"].get("flinkConfiguration") or {})
    configuration.pop(OVERRIDES_KEY, None)
    if overrides is not None:
        configuration[OVERRIDES_KEY] = overrides
    return with_spec(manifest, {"flinkConfiguration": configuration})


def slots_of(manifest: Mapping[str, Any]) -> int:
    """The slots of a TaskManager; Flink's default where what stands there is no such count: anybody edits it."""
    text = str(options_in(manifest.get("spec") or {}).get("taskmanager.numberOfTaskSlots")).strip()
    return max(1, int(text)) if text.isdecimal() and len(text) <= LONGEST_COUNT else 1


def with_spec(manifest: Mapping[str, Any], fields: Mapping[str, Any]) -> Manifest:
    """The manifest with these fields of its spec."""
    return {**manifest, "spec": {**manifest["spec"], **fields}}


def with_job(manifest: Mapping[str, Any], fields: Mapping[str, Any]) -> Manifest:
    """The manifest with these fields of its spec's job."""
    return with_spec(manifest, {"job": {**manifest["spec"]["job"], **fields}})


def stamped(manifest: Mapping[str, Any], job: Job, stamp: Stamp) -> Manifest:
    """The manifest with the stamp of another write."""
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **annotations_of(job, stamp)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


DRAIN = "kubernetes.operator.job.drain-on-savepoint-deletion"
"""The operator's option by which every savepoint that ends a job drains it: it is set for one stop alone."""


def to_suspend(job: Job, stamp: Stamp, *, drain: bool = False) -> list[Change]:
    """The changes that suspend a deployment with a savepoint, with the stamp of this write."""
    wished = {("spec", "job", "state"): "suspended", ("spec", "job", "upgradeMode"): "savepoint"}
    if drain:
        wished["spec", "flinkConfiguration", DRAIN] = "true"
    return _stamped_changes(job, stamp, wished)


def to_save(job: Job, stamp: Stamp, nonce: int) -> list[Change]:
    """The changes that ask for a savepoint of a job that runs on, with the stamp of this write."""
    return _stamped_changes(job, stamp, {("spec", "job", wire.TRIGGER_NONCE): nonce})


def _stamped_changes(job: Job, stamp: Stamp, wished: Mapping[tuple[str, str, str], Any]) -> list[Change]:
    stamps = {("metadata", "annotations", name): text for name, text in annotations_of(job, stamp).items()}
    return [Change(path, value) for path, value in (*stamps.items(), *wished.items())]
