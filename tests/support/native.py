"""A native cluster played by hand: what its JobManager answers, and what Flink's command line would write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.adapters.flink_rest import Body, RestAnswer
from headrace.adapters.native import Launcher
from headrace.adapters.native.launcher import Made
from headrace.domain.runtimes.native.cluster import labels_of_cluster, labels_of_manager
from headrace.errors import HeadraceError, Unavailable

VERTEX = "a" * 32
STARTED = 1795448818262


@dataclass
class PlayedJobManager:
    """The REST API of one JobManager: a savepoint is there as soon as it was asked for, unless it is held back."""

    state: str = "RUNNING"
    is_up: bool = True
    failure: str = ""
    job_id: str = ""
    is_held_back: bool = False
    triggers: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    requirements: dict[str, Any] = field(
        default_factory=lambda: {VERTEX: {"parallelism": {"lowerBound": 1, "upperBound": 1}}}
    )

    def send(self, method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        """One request, as clusters.RestSend."""
        if not self.is_up:
            raise Unavailable(f"the JobManager of {namespace}/{name} did not answer")
        if method != "GET":
            self.asked.append((method, path.rpartition("/")[2]))
        if path == "/jobs/overview":
            return _answer({"jobs": [self._overview()]})
        what = path.split("/")[3:]
        if not what:
            return _answer(
                {
                    "jid": path.split("/")[2],
                    "name": "orders",
                    "state": self.state,
                    "start-time": STARTED,
                    "vertices": [self._vertex],
                }
            )
        if what == ["resource-requirements"]:
            self.requirements = dict(body or {}) if method == "PUT" else self.requirements
            return _answer(self.requirements)
        if method == "POST":
            trigger = str((body or {})["triggerId"])
            self.triggers.setdefault(trigger, what[0])
            self.state = "FINISHED" if what[0] == "stop" and not self.failure else self.state
            return _answer({"request-id": trigger}, 202)
        return self._outcome(what[1])

    @property
    def _vertex(self) -> dict[str, Any]:
        """It has all the slots that it is to have."""
        parallelism = self.requirements[VERTEX]["parallelism"]["upperBound"]
        return {"id": VERTEX, "tasks": self.tasks, "parallelism": parallelism, "maxParallelism": 128}

    def _overview(self) -> dict[str, Any]:
        tasks = {"total": sum(self.tasks.values()), **{state.lower(): n for state, n in self.tasks.items()}}
        return {"jid": self.job_id, "name": "orders", "state": self.state, "start-time": STARTED, "tasks": tasks}

    def _outcome(self, trigger: str) -> RestAnswer:
        if trigger not in self.triggers:
            return _answer({"errors": ["There is no savepoint operation with triggerId"]}, 404)
        if self.is_held_back:
            return _answer({"status": {"id": "IN_PROGRESS"}, "operation": None})
        number = list(self.triggers).index(trigger) + 1
        failed = {"failure-cause": {"class": "x", "stack-trace": f"x\n\tat y\nCaused by: {self.failure}\n"}}
        operation = failed if self.failure else {"location": f"file:/state/savepoints/savepoint-ffffff-{number}"}
        return _answer({"status": {"id": "COMPLETED"}, "operation": operation})


def _answer(content: Any, status: int = 200) -> RestAnswer:
    return RestAnswer(status, json.dumps(content).encode())


class PlayedLauncher(Launcher):
    """A command line that writes at once, for a JobManager that has the job then; `launched` has the state that each
    start began from."""

    def __init__(self, manager: PlayedJobManager) -> None:
        super().__init__(Path("/opt/flink"), None, 1.0)
        self.manager = manager
        self.launched: list[str | None] = []
        self.error: HeadraceError | None = None

    @property
    def release(self) -> tuple[int, ...]:  # type: ignore[override]
        """The release that it plays."""
        return (2, 2, 1)

    def launch(
        self, name: str, namespace: str, spec: Mapping[str, Any], *, job_id: str, start_from: str | None
    ) -> Made:
        """See Launcher."""
        if self.error is not None:
            raise self.error
        object.__setattr__(self, "launched", [*self.launched, start_from])
        self.manager.job_id = job_id
        return made(name, {"config.yaml": f"job: {job_id}"})


def made(name: str, config: Mapping[str, str]) -> Made:
    """A cluster as Flink's command line would make it."""
    labels = labels_of_manager(name)
    container = {"name": "flink-main-container", "image": "flink", "command": ["/docker-entrypoint.sh"]}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "serviceAccountName": "default"}}
    port = {"name": "rest", "port": 8081, "targetPort": 8081}
    return Made(
        {
            "metadata": {"name": name, "labels": labels},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
        },
        [
            ("configmaps", _object("ConfigMap", f"flink-config-{name}", name, data=dict(config))),
            ("services", _object("Service", f"{name}-rest", name, spec={"ports": [port], "selector": labels})),
        ],
    )


def _object(kind: str, name: str, cluster: str, **content: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels_of_cluster(cluster)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}
