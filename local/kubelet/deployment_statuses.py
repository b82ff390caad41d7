"""What a Deployment's controller makes of it: the pod that its template describes, and its status. Pure."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

Resource = dict[str, Any]

HASH_LABEL = "pod-template-hash"
_ALPHANUMERICS = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes names of: nothing that could be read as a word."""


def template_hash(deployment: Mapping[str, Any]) -> str:
    """Another one for another template."""
    text = json.dumps(deployment["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def pod_of(deployment: Mapping[str, Any]) -> Resource:
    """The pod to be created. It belongs to the Deployment itself: a laptop has no ReplicaSets."""
    template, metadata = deployment["spec"]["template"], deployment["metadata"]
    number = template_hash(deployment)
    given = template.get("metadata") or {}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{number}-{''.join(secrets.choice(_ALPHANUMERICS) for _ in range(5))}",
            "labels": {**(given.get("labels") or {}), HASH_LABEL: number},
            "annotations": given.get("annotations") or {},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
    }


def is_outdated(pod: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """Whether the pod was made from another template than the one that is there."""
    return bool(pod["metadata"]["labels"].get(HASH_LABEL) != template_hash(deployment))


def status_of(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], refusal: str | None) -> Resource:
    """The Deployment's status with these pods; `refusal` is why the API took none."""
    wanted, ready = deployment["spec"].get("replicas", 1), sum(1 for pod in pods if _is_ready(pod))
    updated = sum(1 for pod in pods if not is_outdated(pod, deployment))
    before = {each["type"]: each for each in (deployment.get("status") or {}).get("conditions") or ()}
    enough = ready >= wanted
    conditions = [
        _condition(before, "Available", enough, "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"),
        _condition(before, "Progressing", True, "NewReplicaSetAvailable" if enough else "ReplicaSetUpdated"),
    ]
    if refusal is not None:
        conditions.append(_condition(before, "ReplicaFailure", True, "FailedCreate", refusal))
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(pods),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
        "conditions": conditions,
    }


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _condition(
    before: Mapping[str, Resource], kind: str, holds: bool, reason: str, message: str | None = None
) -> Resource:
    """A time changes where the condition does, and not else."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message or reason}
    was = before.get(kind) or {}
    moved = was["lastTransitionTime"] if was.get("status") == said["status"] else now
    is_same = all(was.get(key) == value for key, value in said.items())
    return {**said, "lastTransitionTime": moved, "lastUpdateTime": was["lastUpdateTime"] if is_same else now}
