"""What a FlinkDeployment's spec asks for, as the operator reads it, and which specs it refuses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.domain.vertices import OVERRIDES_KEY, overrides_of

DRAIN = "kubernetes.operator.job.drain-on-savepoint-deletion"
SAVEPOINT_DIRECTORY = "execution.checkpointing.savepoint-dir"


class Invalid(Exception):
    """The spec is one that the operator's validation refuses. The words are those of its status."""


def validate(spec: dict[str, Any]) -> None:
    """Raises Invalid."""
    configuration = spec.get("flinkConfiguration") or {}
    replicas = (spec.get("taskManager") or {}).get("replicas")
    if replicas is not None and replicas < 1:
        raise Invalid("TaskManager replicas must be larger than 0")
    if replicas is None and (spec["job"].get("parallelism") or 0) < 1:
        raise Invalid("Job parallelism must be larger than 0")
    if spec["job"].get("savepointRedeployNonce") is not None and not spec["job"].get("initialSavepointPath"):
        raise Invalid("InitialSavepointPath must not be empty for savepoint redeployment")
    if spec["job"].get("upgradeMode") == "savepoint" and not configuration.get(SAVEPOINT_DIRECTORY):
        raise Invalid(f"Job could not be upgraded with savepoint while config key[{SAVEPOINT_DIRECTORY}] is not set")


def parallelism(spec: dict[str, Any]) -> int:
    """replicas times slots where replicas are set, else job.parallelism, as in the operator."""
    replicas = (spec.get("taskManager") or {}).get("replicas")
    return int(replicas) * _slots(spec) if replicas else int(spec["job"].get("parallelism") or 1)


def task_managers(spec: dict[str, Any]) -> int:
    """As many as the widest vertex needs."""
    widest = max(overrides(spec).values(), default=parallelism(spec))
    return -(-widest // _slots(spec))


def overrides(spec: Mapping[str, Any]) -> dict[str, int]:
    """The parallelism of single vertices, by their ids."""
    return overrides_of((spec.get("flinkConfiguration") or {}).get(OVERRIDES_KEY))


def _slots(spec: dict[str, Any]) -> int:
    return int((spec.get("flinkConfiguration") or {}).get("taskmanager.numberOfTaskSlots", "1"))
