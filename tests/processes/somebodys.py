"""What others bring: a deployment that kubectl made, and the triggers that make operations of others' events.

Must not know of faults or histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.domain.triggers import idempotency_key
from headrace.settings import Settings

EVENTS, SOURCE = "faults.events", "/faults"
JARS, JAR, MAIN = "examples/jar", "counting-job.jar", "io.headrace.examples.CountingJob"
MODES = ("savepoint", "last-state", "stateless")
OF_THE_EVENT = ("parallelism", "force", "to", "start_from", "args")
"""Arguments that an event brings; others stand in the rule, as a program has to."""


def deployment(name: str, value: int, root: Path, state: Path) -> dict[str, Any]:
    """As the operator's own examples are (basic.yaml and pod-template.yaml): nothing of it is Headrace's."""
    mounted = [{"name": "jars", "mountPath": "/opt/flink/usrlib"}]
    pod = {
        "containers": [{"name": "flink-main-container", "volumeMounts": mounted}],
        "volumes": [{"name": "jars", "hostPath": {"path": str(root / JARS), "type": "Directory"}}],
    }
    job = {
        "jarURI": f"local:///opt/flink/usrlib/{JAR}",
        "entryClass": MAIN,
        "args": ["--rate", "20", "--output", f"{state}/output/{name}"],
        "parallelism": 1,
        "state": "running",
        "upgradeMode": MODES[value % len(MODES)],
    }
    folders = {f"execution.checkpointing.{kind}-dir": f"file://{state}/theirs" for kind in ("savepoint", "checkpoint")}
    options = {"taskmanager.numberOfTaskSlots": "2", "execution.checkpointing.interval": "2s", **folders}
    sized = {"resource": {"memory": "1024m", "cpu": 1}}
    spec = {
        **{"image": "flink:2.2", "flinkVersion": "v2_2", "serviceAccount": "flink", "podTemplate": {"spec": pod}},
        **{"flinkConfiguration": options, "jobManager": sized, "taskManager": sized, "job": job},
    }
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "kubectl"}}
    return {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment", "metadata": metadata, "spec": spec}


def trigger_of(kind: str, arguments: Mapping[str, Any]) -> str:
    """The name of the rule that makes this operation of an event: one for each kind and the fields that it is given."""
    return "-".join((kind.lower(), *sorted(_leaves(arguments))))


def triggers(asks: Iterator[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A rule for each of these kinds of requests, with the event's values in it."""
    found = {}
    for kind, arguments in asks:
        name = trigger_of(kind, arguments)
        action = {"operation": kind, "job_id": "${data.job_id}", **_blanked(arguments)}
        found[name] = {"name": name, "topic": EVENTS, "when": f"type == '{name}'", "action": action}
    return list(found.values())


def cloud_event(kind: str, job_id: str, arguments: Mapping[str, Any], event_id: str) -> dict[str, Any]:
    """The event that one of those rules makes this operation of."""
    data = {"job_id": job_id, **dict(_brought(arguments))}
    named = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": trigger_of(kind, arguments)}
    return {**named, "data": data}


def key_of_event(kind: str, arguments: Mapping[str, Any], event_id: str) -> str:
    """The idempotency key of the one operation that this event is to become."""
    settings = Settings(_env_file=None)
    place = (settings.cluster, settings.namespace)
    return idempotency_key(place, trigger_of(kind, arguments), ("event", SOURCE, event_id))


def _leaves(arguments: Mapping[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        yield name.replace("_", "-")
        if isinstance(value, Mapping):
            yield from (each for each in value if each in OF_THE_EVENT)


def _brought(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            yield from _brought(value)
        elif name in OF_THE_EVENT:
            yield name, value


def _blanked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _blank(name, value) for name, value in arguments.items()}


def _blank(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return _blanked(value) if any(each in OF_THE_EVENT for each in value) else value
    return f"${{data.{name}}}" if name in OF_THE_EVENT else value
