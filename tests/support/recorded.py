"""The sequence of states that a deployment went through, from a recording of the real operator or from an API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
OPTIONAL = ("CREATED", "INITIALIZING", "Job Not Found")
"""Job states that may be skipped between two looks, and an error that may pass between two."""

Seen = tuple[str | None, str | None, str | None, str | None]


def states_of(objects: Iterable[dict[str, Any]]) -> list[Seen]:
    """(lifecycleState, jobManagerDeploymentStatus, jobStatus.state, reconciliationStatus.state), repeats collapsed."""
    found: list[Seen] = []
    for each in objects:
        status = each.get("status") or {}
        job_state = (status.get("jobStatus") or {}).get("state")
        reconciliation = (status.get("reconciliationStatus") or {}).get("state")
        seen = (status.get("lifecycleState"), status.get("jobManagerDeploymentStatus"), job_state, reconciliation)
        if job_state not in OPTIONAL and (not found or found[-1] != seen):
            found.append(seen)
    return found


def recorded(name: str, run: int = 0) -> list[Seen]:
    """The states of a recording's first deployment, or of its run-th."""
    return states_of(recorded_versions(name, run))


def recorded_versions(name: str, run: int = 0) -> list[dict[str, Any]]:
    """Every version of a recording's first deployment, or of its run-th."""
    objects = _recorded(name, "flinkdeployments")
    uids = list(dict.fromkeys(each["metadata"]["uid"] for each in objects))
    return [each for each in objects if each["metadata"]["uid"] == uids[run]]


class Shown(NamedTuple):
    """A version of a recorded deployment, how many seconds it came after the first, and what Kubernetes had
    shown of its JobManager since the version before: (ADDED, MODIFIED or DELETED, a pod) and events of pods and of what
    makes pods."""

    version: dict[str, Any]
    seconds: float
    pods: Sequence[tuple[str, dict[str, Any]]]
    events: Sequence[dict[str, Any]]


def recorded_shown(name: str, run: int = 0) -> Iterator[Shown]:
    """Every version of a recording's first deployment, or of its run-th."""
    uid = recorded_versions(name, run)[0]["metadata"]["uid"]
    pods: list[tuple[str, dict[str, Any]]] = []
    events: list[dict[str, Any]] = []
    for line in _lines(name):
        each = line["object"]
        if line["resource"] == "pods" and each["metadata"]["labels"].get("component") == "jobmanager":
            pods.append((line["type"], each))
        elif line["resource"] == "events" and each["involvedObject"]["kind"] in ("Pod", "ReplicaSet"):
            events.append(each)
        elif line["resource"] == "flinkdeployments" and each["metadata"]["uid"] == uid:
            yield Shown(each, line["t"], pods, events)
            pods, events = [], []


def recorded_snapshots(name: str) -> list[dict[str, Any]]:
    """The newest version of each FlinkStateSnapshot of a recording."""
    return list({each["metadata"]["name"]: each for each in _recorded(name, "flinkstatesnapshots")}.values())


Told = tuple[str, str, str]


def events_told(events: Iterable[dict[str, Any]]) -> set[Told]:
    """(type, reason, component) of the events about a FlinkDeployment, but for a job's exceptions: which of those an
    operator sees depends on when it looks."""
    return {
        (event["type"], event["reason"], event["source"]["component"])
        for event in events
        if event["involvedObject"]["kind"] == "FlinkDeployment" and event["reason"] != "JobException"
    }


def recorded_events(name: str) -> set[Told]:
    """What the real operator told of a recording's deployments."""
    return events_told(_recorded(name, "events"))


def _recorded(name: str, resource: str) -> list[dict[str, Any]]:
    return [line["object"] for line in _lines(name) if line["resource"] == resource]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


class Error(NamedTuple):
    """The shape of a status' error: whatever names a path, a URL or a number of this run is taken out."""

    type: str
    message: str
    metadata: tuple[tuple[str, str], ...]
    causes: tuple[tuple[str, str], ...]


class Look(NamedTuple):
    """What one version of a deployment shows."""

    lifecycle: str | None
    job_manager: str | None
    job: str | None
    reconciliation: str | None
    observed_generation: int | None
    error: Error | None
    fields: frozenset[str]


def looks_of(objects: Iterable[dict[str, Any]], optional: Iterable[str] = OPTIONAL) -> list[Look]:
    """What the versions show, one after another, repeats collapsed, without those of an optional job state
    or error."""
    found: list[Look] = []
    for each in objects:
        status = each.get("status") or {}
        look = Look(
            status.get("lifecycleState"),
            status.get("jobManagerDeploymentStatus"),
            (status.get("jobStatus") or {}).get("state"),
            (status.get("reconciliationStatus") or {}).get("state"),
            status.get("observedGeneration"),
            _error(status.get("error")),
            frozenset(_fields(status)),
        )
        passes = look.job in optional or (look.error is not None and look.error.message in optional)
        if not passes and (not found or found[-1] != look):
            found.append(look)
    return found


def _fields(part: Any, path: str = "") -> Iterator[str]:
    """Which fields there are, whatever their values; clusterInfo as one, since the local operator leaves out sizes."""
    if isinstance(part, dict) and part and path != ".clusterInfo":
        for key, value in part.items():
            yield from _fields(value, f"{path}.{key}")
    elif isinstance(part, list) and part:
        for value in part:
            yield from _fields(value, f"{path}[]")
    else:
        yield path


def _error(text: str | None) -> Error | None:
    if not text:
        return None
    if not text.startswith("{"):
        return Error("", _masked(text), (), ())
    content = json.loads(text)
    causes = tuple((cause["type"], _masked(cause["message"])) for cause in content["throwableList"])
    metadata = tuple(sorted(content["additionalMetadata"].items()))
    return Error(content["type"], _masked(content["message"]), metadata, causes)


def shape_of_snapshot(snapshot: dict[str, Any], deployment: str) -> dict[str, Any]:
    """A snapshot without what is of this run: uid, versions, times. The finalizer is left out too: the local operator
    looks after no snapshot that is deleted, so it sets none that nobody would take away."""
    metadata = {key: snapshot["metadata"][key] for key in ("name", "labels")}
    shape = {key: snapshot[key] for key in ("apiVersion", "kind", "spec", "status")}
    text = json.dumps({**shape, "metadata": metadata}, sort_keys=True).replace(deployment, "NAME")
    text = re.sub(r'"file:[^"]*"', '"PATH"', text)
    text = re.sub(r'"\d{4}-\d\d-\d\dT[^"]*Z"', '"TIME"', text)
    masked: dict[str, Any] = json.loads(re.sub(r"-\d{13}", "-MS", text))
    return masked


def _masked(text: str) -> str:
    return re.sub(r"\S*/\S*|(?<=pod=)\S+", "…", text)
