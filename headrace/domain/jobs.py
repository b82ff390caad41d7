"""A job: one named Flink application that a user asked for. Three records, not one enum. No I/O here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

LEGAL_NAME = re.compile(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?")
"""What the operator's validator takes as a FlinkDeployment's name (45 characters at most)."""


OPERATOR, NATIVE = "operator", "native"
"""Runtimes: by the Flink Kubernetes Operator, and by Flink's own native mode."""


class Desired(StrEnum):
    """What was asked for."""

    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    CANCELLED = "CANCELLED"
    DELETED = "DELETED"
    RELEASED = "RELEASED"


NOTHING_RUNS = frozenset({Desired.CANCELLED, Desired.DELETED})
"""What is asked of a job of which nothing shall run."""


class Phase(StrEnum):
    """What the job is doing, as last observed."""

    REQUESTED = "REQUESTED"
    SUBMITTING = "SUBMITTING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    UPGRADING = "UPGRADING"
    SCALING = "SCALING"
    SUSPENDING = "SUSPENDING"
    CANCELLING = "CANCELLING"
    ROLLING_BACK = "ROLLING_BACK"
    DELETING = "DELETING"
    SUSPENDED = "SUSPENDED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    DELETED = "DELETED"
    RELEASED = "RELEASED"


SETTLED = frozenset({Phase.FINISHED, Phase.FAILED, Phase.CANCELLED, Phase.REJECTED, Phase.DELETED, Phase.RELEASED})
"""Phases that a job leaves only by another run, or by being seen RUNNING again. SUSPENDED rests and is not settled."""


ENDED = (Phase.FINISHED, Phase.FAILED, Phase.CANCELLED)
"""How a run ends of which something is left in the cluster."""


class Observation(StrEnum):
    """How fresh our knowledge of a job is. A failing API call changes this and never the phase."""

    FRESH = "FRESH"
    STALE = "STALE"
    UNREACHABLE = "UNREACHABLE"
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, order=True)
class JobKey:
    """What names a job: a tenant and the job's id."""

    tenant: str
    job_id: str


LOOKED_INTO_AGAIN_AFTER = timedelta(seconds=60)
"""A job that restarts again and again is looked into anew after so long, and not at each restart."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a job is as bad as it is: what kind of bad was looked into, when, its cause in words and the next step.

    `of` is empty once the job is well again; what is known stays for a job that fails over and over.
    """

    of: str
    at: datetime
    cause: str = ""
    next_step: str = ""

    def holds(self, at: datetime) -> bool:
        """Whether it says something of the job as it is at that time: it is bad still, or was just now."""
        return bool(self.cause) and (bool(self.of) or at - self.at < LOOKED_INTO_AGAIN_AFTER)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a job that is on its way for long was seen to wait for, and when; no cause where its reason is another."""

    at: datetime
    cause: str = ""
    next_step: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is known of a job: asked, seen and learnt. Whatever is lost of it is rebuilt from log and deployment.

    `submitted` is the resolved request of this run (template with overrides, JobRequest as JSON) without its programs'
    texts, which the log keeps under the operation `submitted_by`; `scaled_to` the parallelism that a SCALE gave since,
    or `scaled_to_task_managers` the TaskManagers.
    `runtime` is what its run goes by, from the run's begin on.
    `manifests` has FlinkDeployments whole by their hash: `applied` the one last written with success, `intended` the
    one that an open operation is writing.
    `flink_state` is the state of Flink's job as it was seen last; `first_start_time` the start that this run's
    JobManager showed first: one that came back shows another. `restarts` counts how often Flink's job was seen to begin
    again by itself in this run, `ran_generation` is the generation of the spec with which it was last seen RUNNING.
    `savepoint_path` is the newest state on record of any run, `state_path` that of this run and `state_number` Flink's
    number of it, where it was said; `ran_since_state` says
    that the job may have run, and so made newer state, since that was learnt; `state_start_time` is the start of
    the JobManager that had left it behind, None where none had: any other one is of a time after it. `upgrade_path`
    is the last upgradeSavepointPath that was seen: the operator leaves it in the status. `is_gapped` says that this
    run was not watched from its beginning: its record was rebuilt, or a deployment taken over; it never says "never
    ran". `is_as_found` says that it was adopted, and no request of ours has rendered its spec since: `submitted` is
    empty then. `is_gone` says that the last sight of the deployment's name was a 404, that no run ever began, or
    that the deployment was released.
    `is_forgotten` says that it was deleted and that its records are gone: what is left keeps numbers from being given
    twice.
    `reason` says why it is in its phase and `next_step` what to do, where somebody may wonder. `phase_since` is when
    it was first seen in it, `waiting` what it waits for meanwhile.
    `kept_log` and `kept_exceptions` are bounded ends of what the job's pod and its JobManager said, read once when the
    job turned bad: what is left to show when the pod is gone.
    """

    tenant: str
    job_id: str
    cluster: str
    namespace: str
    deployment_name: str
    created_at: datetime
    updated_at: datetime
    desired: Desired = Desired.RUNNING
    phase: Phase = Phase.REQUESTED
    phase_since: datetime | None = None
    observation: Observation = Observation.STALE
    observed_at: datetime | None = None
    run: int = 0
    runtime: str = OPERATOR
    template_id: str | None = None
    template_version: int | None = None
    submitted_by: str = ""
    submitted: Mapping[str, Any] = field(default_factory=dict)
    scaled_to: int | None = None
    scaled_to_task_managers: int | None = None
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    applied: str = ""
    intended: str = ""
    last_sequence: int = 0
    transition_count: int = 0
    deployment_uid: str | None = None
    resource_version: str | None = None
    generation: int = 0
    flink_job_id: str | None = None
    flink_state: str = ""
    start_time: str | None = None
    state_start_time: str | None = None
    first_start_time: str | None = None
    restarts: int = 0
    ran_generation: int | None = None
    parallelism: int | None = None
    was_running: bool = False
    start_from: str | None = None
    savepoint_path: str | None = None
    state_path: str | None = None
    state_number: int | None = None
    ran_since_state: bool = False
    upgrade_path: str | None = None
    is_gapped: bool = False
    is_as_found: bool = False
    is_gone: bool = True
    trouble_since: datetime | None = None
    reason: str = ""
    next_step: str = ""
    error: str = ""
    diagnosis: Diagnosis | None = None
    waiting: Waiting | None = None
    kept_log: str = ""
    kept_exceptions: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    is_forgotten: bool = False

    @property
    def key(self) -> JobKey:
        """The job's name among all."""
        return JobKey(self.tenant, self.job_id)

    @property
    def is_scaled(self) -> bool:
        """Whether its scale is a SCALE's word, and no request's."""
        return self.scaled_to is not None or self.scaled_to_task_managers is not None

    @property
    def request(self) -> Mapping[str, Any]:
        """The request as it holds now: as it was submitted, at the parallelism that a SCALE gave since."""
        return scaled(self.submitted, self.scaled_to, self.scaled_to_task_managers)

    @property
    def applied_manifest(self) -> Mapping[str, Any] | None:
        """The FlinkDeployment last written with success."""
        return self.manifests.get(self.applied)

    @property
    def intended_manifest(self) -> Mapping[str, Any] | None:
        """The FlinkDeployment that an open operation is writing."""
        return self.manifests.get(self.intended)

    def intending(self, manifest: Mapping[str, Any]) -> Job:
        """The job with this manifest as the one that is being written."""
        digest = manifest_hash(manifest)
        kept = {name: known for name, known in self.manifests.items() if name == self.applied}
        return replace(self, intended=digest, manifests={**kept, digest: manifest})


def scaled(request: Mapping[str, Any], parallelism: int | None, task_managers: int | None) -> Mapping[str, Any]:
    """The request (a JobRequest as JSON) at the scale that a SCALE gave it; as it is where neither is given."""
    resources = request.get("resources") or {}
    task_manager = resources.get("task_manager") or {}
    slots = int(task_manager.get("slots") or 1)
    parallelism = parallelism or (task_managers * slots if task_managers else None)
    if parallelism is None:
        return request
    changed = {**request, "parallelism": parallelism}
    if task_manager.get("replicas") is None:
        return changed
    replicas = {**task_manager, "replicas": -(-parallelism // slots)}
    return {**changed, "resources": {**resources, "task_manager": replicas}}


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """What names a manifest within its job."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One change of a job's phase. Unique by its number within the job.

    `gap` says that changes between this one and the one before may have been missed.
    """

    tenant: str
    job_id: str
    number: int
    run: int
    from_phase: Phase
    to_phase: Phase
    at: datetime
    observed_at: datetime
    reason: str = ""
    deployment_uid: str | None = None
    resource_version: str | None = None
    gap: bool = False


NUMBERED = ("tenant", "job_id", "cluster", "namespace", "deployment_name", "created_at", "run", "last_sequence")
"""What is kept of a job whose records are gone: its name, and the numbers that another run goes on from."""


def forgotten(job: Job, at: datetime) -> Job:
    """What is left of a deleted job once its records are gone. `phase_since` stays until the rest of them is."""
    return Job(
        **{name: getattr(job, name) for name in (*NUMBERED, "transition_count", "phase_since")},
        desired=Desired.DELETED,
        phase=Phase.DELETED,
        observation=Observation.NOT_FOUND,
        updated_at=at,
        is_gapped=True,
        is_forgotten=True,
    )


_DERIVED = re.compile(r".*-[0-9a-f]{16}")


def deployment_name(job_id: str) -> str:
    """The FlinkDeployment's name: the job id where that is legal and has not the form of a derived one, else derived
    from it. So an id never is the name that another id gets."""
    is_name = LEGAL_NAME.fullmatch(job_id) and not _DERIVED.fullmatch(job_id)
    return job_id if is_name else derived_name(job_id)


def derived_name(text: str) -> str:
    """A legal name made of a text: a slug, and 16 hex digits of its SHA-256."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:28].strip("-")
    slug = slug if slug[:1].isalpha() else f"job-{slug}".strip("-")
    return f"{slug[:28].strip('-')}-{digest}"
