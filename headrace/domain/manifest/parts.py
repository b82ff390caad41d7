"""Parts of a manifest that every job type shares: configuration, labels, the state volume. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from headrace.domain import deployments as wire
from headrace.domain.jobs import Job
from headrace.domain.templates import JobRequest

MAIN_CONTAINER = "flink-main-container"
"""The container that the operator fills in; env and mounts given under this name reach it (`spec.env` is none)."""

FLINK_USER_ID = 9999
"""The uid and gid of `flink` in the official images; a shared volume must be writable by it."""

STATE_VOLUME = "headrace-state"


@dataclass(frozen=True)
class Platform:
    """What the installation gives every job: from settings, made in bootstrap.

    `state_location` is a URI; `state_volume` is `hostPath:/dir`, `pvc:claim` or empty, mounted at that URI's path.
    """

    image: str
    flink_version: str
    state_location: str
    state_volume: str
    service_account: str
    allowed_hosts: tuple[str, ...]
    max_artifact_bytes: int


def job_location(job: Job, platform: Platform, what: str) -> str:
    """Where a job keeps `what`: one folder a job below the state location, the same in every run."""
    return f"{platform.state_location.rstrip('/')}/{job.tenant}/{job.deployment_name}/{what}"


def configuration(job: Job, request: JobRequest, platform: Platform) -> dict[str, str]:
    """Flat Flink configuration: safe defaults, then the request's keys, then where state goes.

    Retained checkpoints and high availability are always on: a STOP of a job that cannot take a savepoint lives on
    them. Five are retained so that a path read just before a suspend is still there after it.
    """
    return {
        "execution.checkpointing.interval": "10s",
        "execution.checkpointing.num-retained": "5",
        **request.flink_configuration,
        "execution.checkpointing.dir": job_location(job, platform, "checkpoints"),
        "execution.checkpointing.savepoint-dir": job_location(job, platform, "savepoints"),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "high-availability.type": "kubernetes",
        "high-availability.storageDir": job_location(job, platform, "ha"),
        "taskmanager.numberOfTaskSlots": str(request.resources.task_manager.slots),
    }


def labels_of(request: JobRequest) -> dict[str, str]:
    """The user's own labels."""
    return dict(request.labels)


def label_value(text: str) -> str:
    """The text where it is a legal label value, else a slug and 8 hex digits of its hash."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:50].strip("-")
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".strip("-")


def metadata_labels(job: Job, own: Mapping[str, str]) -> dict[str, str]:
    """The user's labels with ours on top."""
    return {
        **own,
        wire.MANAGED_BY_LABEL: wire.MANAGED_BY,
        "headrace.io/job": label_value(job.job_id),
        "headrace.io/tenant": label_value(job.tenant),
    }


def output_location(job: Job, platform: Platform) -> str:
    """Where a job may write what it makes: given to it as HEADRACE_OUTPUT."""
    return f"{platform.state_location.rstrip('/')}/output/{job.job_id}"


def state_pod(job: Job, request: JobRequest, platform: Platform) -> dict[str, Any]:
    """The pod template of JobManager and TaskManagers: env, labels and the shared state volume."""
    env = {**request.env, "HEADRACE_OUTPUT": output_location(job, platform), "HEADRACE_JOB_ID": job.job_id}
    container: dict[str, Any] = {
        "name": MAIN_CONTAINER,
        "env": [{"name": name, "value": value} for name, value in sorted(env.items())],
    }
    spec: dict[str, Any] = {"containers": [container]}
    volume = state_volume(platform)
    if volume:
        container["volumeMounts"] = [{"name": STATE_VOLUME, "mountPath": urlsplit(platform.state_location).path}]
        spec["volumes"] = [volume]
        spec["securityContext"] = {"fsGroup": FLINK_USER_ID}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": metadata_labels(job, request.labels)},
        "spec": spec,
    }


def state_volume(platform: Platform) -> dict[str, Any] | None:
    """The volume that the setting names, or None for object storage."""
    kind, _, name = platform.state_volume.partition(":")
    if kind == "hostPath":
        return {"name": STATE_VOLUME, "hostPath": {"path": name, "type": "DirectoryOrCreate"}}
    if kind == "pvc":
        return {"name": STATE_VOLUME, "persistentVolumeClaim": {"claimName": name}}
    return None


def extending(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template that adds `own` to the `shared` one.

    The operator merges two templates' lists by position, unless kubernetes.operator.pod-template.merge-arrays-by-name
    is set: so each list here begins with the shared one's, and both ways give the same pod.
    """
    base = shared["spec"]
    main, added = base["containers"][0], own["containers"][0]
    mounts = [*main.get("volumeMounts", []), *added.get("volumeMounts", [])]
    spec = {
        **own,
        "containers": [{"name": MAIN_CONTAINER, "volumeMounts": mounts}],
        "volumes": [*base.get("volumes", []), *own.get("volumes", [])],
    }
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec}
