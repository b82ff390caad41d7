"""FlinkStateSnapshots: the resources by which newer operators take savepoints, ours and those that an operator makes.
Pure.

Source: the FlinkStateSnapshot CRD v1beta1, operator 1.15.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.domain import deployments as wire
from headrace.domain.jobs import Job

JOB_LABEL = "job-reference.name"
"""The label by which all snapshots of a deployment are found; the operator sets it, too."""

TRIGGER_LABEL = "snapshot.trigger-type"
COMPLETED, GIVEN_UP = "COMPLETED", ("FAILED", "ABANDONED")


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the resource: unknown fields are skipped while decoding."""


class _Metadata(_Part, frozen=True, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Savepoint(_Part, frozen=True, rename="camel"):
    format_type: str | None = None


class _Spec(_Part, frozen=True, rename="camel"):
    savepoint: _Savepoint | None = None


class _Status(_Part, frozen=True, rename="camel"):
    state: str | None = None
    path: str | None = None
    error: str | None = None


class SnapshotResource(_Part, frozen=True, rename="camel"):
    """A FlinkStateSnapshot as the API has it."""

    metadata: _Metadata
    spec: _Spec = _Spec()
    status: _Status | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One FlinkStateSnapshot as it was seen. `state` is empty while no operator has looked at it; `operation` is the
    operation of ours that made it. `order` puts the snapshots of a deployment in the order of their making."""

    name: str
    uid: str
    resource_version: str
    order: str
    operation: str | None = None
    is_manual: bool = False
    state: str = ""
    path: str = ""
    format: str | None = None
    error: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether there is a state at its path."""
        return self.state == COMPLETED and bool(self.path)


@dataclass(frozen=True)
class NotServed:
    """The cluster has no FlinkStateSnapshots: a savepoint shows in the deployment's status."""


@dataclass(frozen=True)
class NotSeen:
    """Nobody looked, or the account may not; `why` says which."""

    why: str


SnapshotsSeen = Sequence[Snapshot] | NotServed | NotSeen
"""What was seen of a deployment's snapshots."""


def snapshot_of(resource: SnapshotResource) -> Snapshot:
    """The resource as a plan looks at it."""
    metadata, status = resource.metadata, resource.status or _Status()
    return Snapshot(
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        order=f"{metadata.creation_timestamp} {metadata.name}",
        operation=(metadata.annotations or {}).get(wire.OPERATION_ANNOTATION),
        is_manual=(metadata.labels or {}).get(TRIGGER_LABEL) == "MANUAL",
        state=status.state or "",
        path=status.path or "",
        format=resource.spec.savepoint.format_type if resource.spec.savepoint else None,
        error=status.error or "",
    )


def snapshot_name(deployment_name: str, sequence: int) -> str:
    """The name of the snapshot of an operation: a repeat makes no second."""
    return f"{deployment_name}-savepoint-{sequence}"


def snapshot_manifest(job: Job, sequence: int, annotations: Mapping[str, str]) -> dict[str, Any]:
    """A savepoint of the job that runs. The state outlives the resource: without that said, deleting it would delete
    the state; without a limit said, the operator does not try again."""
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkStateSnapshot",
        "metadata": {
            "name": snapshot_name(job.deployment_name, sequence),
            "namespace": job.namespace,
            "labels": {wire.MANAGED_BY_LABEL: wire.MANAGED_BY, JOB_LABEL: job.deployment_name},
            "annotations": dict(annotations),
        },
        "spec": {
            "backoffLimit": 1,
            "jobReference": {"kind": "FlinkDeployment", "name": job.deployment_name},
            "savepoint": {"formatType": "CANONICAL", "disposeOnDelete": False},
        },
    }
