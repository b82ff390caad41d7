"""Parts of a manifest that every job type shares: configuration, labels, env, the state volume. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from headrace.domain import deployments as wire
from headrace.domain.diff import at
from headrace.domain.environment import Sealed, SecretReference
from headrace.domain.flink_options import without_given
from headrace.domain.job_requests import JobRequest, Resources, StateLocation, StateVolume
from headrace.domain.jobs import Job
from headrace.domain.policy import Policy

MAIN_CONTAINER = "flink-main-container"
"""The container that the operator fills in; env and mounts given under this name reach it (`spec.env` is none)."""

FLINK_USER_ID = 9999
"""The uid and gid of `flink` in the official images; a shared volume must be writable by it."""

STATE_VOLUME = "headrace-state"


@dataclass(frozen=True)
class Platform:
    """What the installation gives every job: from settings, made in bootstrap.

    `state_location` is a URI; `state_volume` is `hostPath:/dir`, `pvc:claim` or empty, mounted at that URI's path.
    `profiles` are resources by the name that a template may give; `policy` is what jobs may have beyond all this.
    """

    image: str
    flink_version: str
    state_location: str
    state_volume: str
    service_account: str
    max_artifact_bytes: int
    policy: Policy
    profiles: Mapping[str, Resources] = field(default_factory=dict)

    def state(self) -> StateLocation:
        """The installation's own location of state. Raises ValueError where pods would not share it."""
        kind, _, name = self.state_volume.partition(":")
        volumes = {
            "hostPath": lambda: StateVolume(host_path=name),
            "pvc": lambda: StateVolume(persistent_volume_claim=name),
        }
        try:
            return StateLocation(location=self.state_location, volume=volumes[kind]() if kind in volumes else None)
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error


def state_of(request: JobRequest, platform: Platform) -> StateLocation:
    """Where a job's state goes: its own location, else the installation's."""
    return request.state or platform.state()


def job_location(job: Job, state: StateLocation, what: str) -> str:
    """Where a job keeps `what`: one folder a job below the state location, the same in every run."""
    return f"{state.location.rstrip('/')}/{job.tenant}/{job.deployment_name}/{what}"


DEFAULTS: Mapping[str, str] = {
    "execution.checkpointing.interval": "10s",
    "execution.checkpointing.num-retained": "5",
    "kubernetes.operator.savepoint.cleanup.enabled": "false",
}
"""What a job gets where it says nothing. The operator's own cleanup would remove savepoints that are on our record:
those of its status' history, after a day or beyond ten (SnapshotObserver.cleanupSavepointHistoryLegacy)."""


def configuration(job: Job, request: JobRequest, platform: Platform) -> dict[str, str]:
    """Flat Flink configuration: safe defaults, where the request sets none of an option's keys; the request's keys;
    then where state goes.

    Retained checkpoints and high availability are always on: a STOP of a job that cannot take a savepoint lives on
    them. Five are retained so that a path read just before a suspend is still there after it.
    """
    state = state_of(request, platform)
    ours = {
        "execution.checkpointing.dir": job_location(job, state, "checkpoints"),
        "execution.checkpointing.savepoint-dir": job_location(job, state, "savepoints"),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "high-availability.type": "kubernetes",
        "high-availability.storageDir": job_location(job, state, "ha"),
        "taskmanager.numberOfTaskSlots": str(request.resources.task_manager.slots),
    }
    given = {key: str(value) for key, value in request.flink_configuration.items()}
    return {**without_given(DEFAULTS, given), **without_given(given, ours), **ours}


def label_value(text: str) -> str:
    """The text where it is a legal label value, else a slug and 8 hex digits of its hash."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:50].strip("-")
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".strip("-")


def metadata_labels(job: Job, own: Mapping[str, str]) -> dict[str, str]:
    """The user's labels with ours on top."""
    return {**own, wire.MANAGED_BY_LABEL: wire.MANAGED_BY, **labels_of(job)}


def pod_labels_of(job: Job) -> dict[str, str]:
    """What a job's pods are known by, beside the operator's `app`: those of an adopted one have no label of ours."""
    return {} if job.is_as_found else labels_of(job)


def labels_of(job: Job) -> dict[str, str]:
    """Whose a deployment, and what we make for it, is."""
    return {wire.JOB_LABEL: label_value(job.job_id), wire.TENANT_LABEL: label_value(job.tenant)}


def output_location(job: Job, request: JobRequest, platform: Platform) -> str:
    """Where a job may write what it makes: given to it as HEADRACE_OUTPUT."""
    return f"{state_of(request, platform).location.rstrip('/')}/output/{job.job_id}"


def shared_pod(job: Job, request: JobRequest, platform: Platform, env: Mapping[str, str]) -> dict[str, Any]:
    """The pod template of JobManager and TaskManagers: env, labels, the state volume, and the template's pod fields.
    `env` is what the program adds to the variables."""
    container: dict[str, Any] = {"name": MAIN_CONTAINER, "env": _env(job, request, platform, env)}
    if request.env_from:
        container["envFrom"] = [source.resource() for source in request.env_from]
    spec: dict[str, Any] = {"containers": [container], **request.pod.pod_spec()}
    mounts = [volume.mount() for volume in request.pod.volumes]
    volumes = [volume.volume() for volume in request.pod.volumes]
    state = state_of(request, platform)
    if state.volume is not None:
        mounts.insert(0, {"name": STATE_VOLUME, "mountPath": urlsplit(state.location).path.rstrip("/")})
        volumes.insert(0, {"name": STATE_VOLUME, **_source(state.volume)})
        spec["securityContext"] = {"fsGroup": FLINK_USER_ID}
    if volumes:
        container["volumeMounts"], spec["volumes"] = mounts, volumes
    metadata: dict[str, Any] = {"labels": metadata_labels(job, request.labels)}
    if request.pod.annotations:
        metadata["annotations"] = dict(request.pod.annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _env(job: Job, request: JobRequest, platform: Platform, added: Mapping[str, str]) -> list[dict[str, Any]]:
    own = {"HEADRACE_OUTPUT": output_location(job, request, platform), "HEADRACE_JOB_ID": job.job_id, **added}
    return [_variable(job, request, name, value) for name, value in sorted({**request.env, **own}.items())]


def _variable(job: Job, request: JobRequest, name: str, value: str | SecretReference | Sealed) -> dict[str, Any]:
    if isinstance(value, Sealed):
        reference = {"name": secret_name(job, request), "key": name}
        return {"name": name, "valueFrom": {"secretKeyRef": reference}}
    return (
        {"name": name, "valueFrom": value.resource()}
        if isinstance(value, SecretReference)
        else {"name": name, "value": as_typed(str(value))}
    )


def as_typed(text: str) -> str:
    """The text of which Kubernetes makes this one: in env, command and args it takes `$$` for `$`, and `$(X)` for the
    value of a variable."""
    return re.sub(r"\$\$+|\$(?=\()", lambda found: found[0] * 2, text)


def sealed_of(request: JobRequest) -> dict[str, str]:
    """The sealed variables of a request: their names and what is stored of them."""
    return {name: value.sealed for name, value in request.env.items() if isinstance(value, Sealed)}


def secret_name(job: Job, request: JobRequest) -> str:
    """The name of the Secret that carries what was sealed: it changes with the content."""
    text = "\n".join(f"{name}={sealed}" for name, sealed in sorted(sealed_of(request).items()))
    return f"{job.deployment_name}-env-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def secret_name_in(manifest: Mapping[str, Any], request: JobRequest) -> str | None:
    """The name of the Secret from which a rendered manifest takes what was sealed; None where nothing was."""
    containers = at(manifest, ("spec", "podTemplate", "spec", "containers")) or ()
    variables = [each for container in containers for each in container.get("env") or ()]
    sealed = sealed_of(request)
    references = (at(each, ("valueFrom", "secretKeyRef", "name")) for each in variables if each["name"] in sealed)
    return next((str(name) for name in references if name is not None), None)


def _source(volume: StateVolume) -> dict[str, Any]:
    if volume.host_path is not None:
        return {"hostPath": {"path": volume.host_path, "type": "DirectoryOrCreate"}}
    return {"persistentVolumeClaim": {"claimName": volume.persistent_volume_claim}}


def extending(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template that adds `own` to the `shared` one.

    The operator merges two templates' lists by position, unless kubernetes.operator.pod-template.merge-arrays-by-name
    is set: so each list here begins with the shared one's, no name stands twice in one, and both ways give the same.
    """
    base = shared["spec"]
    mounts = [*base["containers"][0].get("volumeMounts", []), *own["mounts"]]
    spec = {
        "containers": [{"name": MAIN_CONTAINER, "volumeMounts": mounts}],
        "volumes": [*base.get("volumes", []), *own["volumes"]],
        **({"initContainers": own["initContainers"]} if own["initContainers"] else {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec}
