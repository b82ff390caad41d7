"""Rows and columns for `kubectl get`: the server prints, the client only aligns."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from local.kubernetes_api.resources import Resource

Json = dict[str, Any]
Column = tuple[str, Callable[[Json], Any]]


def table(
    resource: Resource, bodies: Iterable[Json], metadata: Json, *, include: str, with_columns: bool = True
) -> Json:
    """A meta.k8s.io/v1 Table; `include` is Metadata, None or Object."""
    columns = _columns(resource)
    rows = [{"cells": [cell(body) for _, cell in columns], "object": _row_object(body, include)} for body in bodies]
    definitions = [_definition(name) for name, _ in columns]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if with_columns else [],
        "rows": rows,
    }


def _definition(name: str) -> Json:
    kind = "name" if name == "Name" else ""
    return {"name": name, "type": "string", "format": kind, "description": name, "priority": 0}


def _row_object(body: Json, include: str) -> Json | None:
    if include == "None":
        return None
    if include == "Object":
        return body
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}


def _columns(resource: Resource) -> list[Column]:
    if resource.columns:
        return [NAME, *((each["name"], _json_path(each)) for each in resource.columns)]
    return BUILT_IN.get(resource.kind, [NAME, AGE])


def _json_path(column: Json) -> Callable[[Json], Any]:
    path = column["jsonPath"].lstrip(".").split(".")
    is_date = column["type"] == "date"

    def cell(body: Json) -> Any:
        value = _at(body, *path)
        return _elapsed(value) if is_date and value else value

    return cell


def _at(body: Any, *path: str) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _name(body: Json) -> str:
    return str(body["metadata"]["name"])


def _age(body: Json) -> str:
    return _elapsed(body["metadata"].get("creationTimestamp"))


def _elapsed(timestamp: str | None) -> str:
    if not timestamp:
        return "<unknown>"
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _container_statuses(pod: Json) -> list[Json]:
    return _at(pod, "status", "containerStatuses") or []


def _ready_containers(pod: Json) -> str:
    ready = sum(1 for each in _container_statuses(pod) if each.get("ready"))
    return f"{ready}/{len(_at(pod, 'spec', 'containers') or [])}"


def _pod_status(pod: Json) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for init in _at(pod, "status", "initContainerStatuses") or []:
        if reason := _stopped_reason(init, failed_only=True):
            return f"Init:{reason}"
    for each in _container_statuses(pod):
        if reason := _stopped_reason(each, failed_only=False):
            return reason
    return str(_at(pod, "status", "reason") or _at(pod, "status", "phase") or "Unknown")


def _stopped_reason(container: Json, *, failed_only: bool) -> str | None:
    waiting, ended = _at(container, "state", "waiting", "reason"), _at(container, "state", "terminated")
    if waiting:
        return str(waiting)
    if ended and not (failed_only and ended.get("exitCode") == 0):
        return str(ended.get("reason") or f"ExitCode:{ended.get('exitCode')}")
    return None


def _restarts(pod: Json) -> str:
    """Those of the init containers while one of them fails, as kubectl users know it."""
    inits = _at(pod, "status", "initContainerStatuses") or []
    counted = inits if _pod_status(pod).startswith("Init:") else _container_statuses(pod)
    return str(sum(each.get("restartCount", 0) for each in counted))


def _replicas(name: str) -> Callable[[Json], Any]:
    return lambda body: _at(body, "status", name) or 0


def _deployment_ready(body: Json) -> str:
    return f"{_at(body, 'status', 'readyReplicas') or 0}/{_at(body, 'spec', 'replicas') or 0}"


def _ports(service: Json) -> str:
    ports = [f"{each.get('port')}/{each.get('protocol', 'TCP')}" for each in _at(service, "spec", "ports") or []]
    return ",".join(ports) or "<none>"


def _event_object(event: Json) -> str:
    return f"{str(_at(event, 'involvedObject', 'kind')).lower()}/{_at(event, 'involvedObject', 'name')}"


def _last_seen(event: Json) -> str:
    return _elapsed(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp"))


NAME: Column = ("Name", _name)
AGE: Column = ("Age", _age)
BUILT_IN: dict[str, list[Column]] = {
    "Pod": [NAME, ("Ready", _ready_containers), ("Status", _pod_status), ("Restarts", _restarts), AGE],
    "Namespace": [NAME, ("Status", lambda body: _at(body, "status", "phase")), AGE],
    "ConfigMap": [NAME, ("Data", lambda body: len(body.get("data") or {}) + len(body.get("binaryData") or {})), AGE],
    "Secret": [
        NAME,
        ("Type", lambda body: body.get("type", "Opaque")),
        ("Data", lambda body: len(body.get("data") or {})),
        AGE,
    ],
    "Service": [
        NAME,
        ("Type", lambda body: _at(body, "spec", "type") or "ClusterIP"),
        ("Cluster-IP", lambda body: _at(body, "spec", "clusterIP") or "<none>"),
        ("External-IP", lambda body: "<none>"),
        ("Port(s)", _ports),
        AGE,
    ],
    "Deployment": [
        NAME,
        ("Ready", _deployment_ready),
        ("Up-to-date", _replicas("updatedReplicas")),
        ("Available", _replicas("availableReplicas")),
        AGE,
    ],
    "Event": [
        ("Last Seen", _last_seen),
        ("Type", lambda body: body.get("type")),
        ("Reason", lambda body: body.get("reason")),
        ("Object", _event_object),
        ("Message", lambda body: str(body.get("message", "")).strip()),
    ],
    "CustomResourceDefinition": [NAME, ("Created At", lambda body: body["metadata"].get("creationTimestamp"))],
}
