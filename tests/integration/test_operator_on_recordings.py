"""The local operator answers to users and to Flink as the recorded one did: each change of a spec is made again, Flink
shows what the recording shows of it, and every status that follows has to be the recorded one, step by step.

No JVM runs: what Flink shows is set. On real Flink a part of them is played in tests/e2e/test_local_operator.py. What a
laptop has not is not here: images that cannot be pulled and a quota (image-pull-fails, image-absent-pull-never,
quota-exceeded, a TaskManager too large for the node), an operator that rolls back by itself, and a JobManager's pod
that Kubernetes starts again and again where the main class is missing (here the job FAILED at once).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.flink_operator import changing, observing, snapshots
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.kube import Kube
from local.flink_operator.reconciler import Reconciler
from local.flink_operator.rest import SavepointFailed
from tests.e2e.operator_alone import Api, Resource, running_api
from tests.support.patience import wait_for
from tests.support.recorded import Look, looks_of, recorded_versions
from tests.support.stack import DEPLOYMENTS

BY_OPERATOR = ("UPGRADING", "SUSPENDED")
"""Lifecycle states in which a status tells of what the operator does, and not of what Flink shows."""

LOOKS = 3
"""How often the operator looks after each step: to start a cluster, to see it, to tell of it."""


@dataclass
class Flink:
    """A JobManager's REST, as far as the operator asks it: whether it answers, and the state of its job."""

    answers: bool = False
    state: str | None = None
    cannot_save: bool = False
    saved: int = 0

    def shows(self, status: Resource) -> None:
        """What was to be seen for this status to be written."""
        manager = status.get("jobManagerDeploymentStatus")
        self.answers = manager in ("DEPLOYED_NOT_READY", "READY")
        self.state = status.get("jobStatus", {}).get("state") if manager == "READY" else None
        self.cannot_save = "Savepoint Error" in (status.get("error") or "")

    def is_up(self) -> bool:
        return self.answers

    def job(self, job_id: str) -> dict[str, Any] | None:
        if self.state is None:
            return None
        tasks = {"running": 1, "finished": 0, "total": 1}
        return {"jid": job_id, "name": "job", "state": self.state, "tasks": tasks} | dict.fromkeys(
            ("start-time", "last-modification"), 1
        )

    def exceptions(self, _: str) -> list[dict[str, Any]]:
        return []

    def config(self) -> dict[str, Any]:
        return {"flink-revision": "abc", "flink-version": "2.2.1"}

    def require(self, *_: Any) -> bool:
        return True

    def stop_with_savepoint(self, *_: Any, **__: Any) -> str:
        if self.cannot_save:
            raise SavepointFailed("java.util.concurrent.CompletionException: no savepoint")
        return self.savepoint()

    def savepoint(self, *_: Any) -> str:
        self.saved += 1
        return f"file:/state/savepoint-{self.saved}"


@dataclass
class Running:
    """A cluster of which nothing runs."""

    rest: Flink
    rest_port: int = 1
    was_seen: bool = False
    job_manager: Any = field(default_factory=lambda: Process())
    task_managers: Sequence[Any] = ()

    def stop(self) -> None:
        return

    stop_task_managers = revive_task_managers = stop

    def have_task_managers(self, _: int) -> None:
        return


@dataclass(frozen=True)
class Process:
    exit_code: int | None = None
    log: Path = Path("none.log")
    pid: int = 0


class Untold:
    """Events are told on real Flink."""

    def normal(self, *_: Any) -> None:
        return

    warning = normal


@dataclass
class Replay:
    """One recording's deployment under the local operator, on a small API of its own."""

    api: Api
    kube: Kube
    http: httpx.Client
    flink: Flink
    folder: Path
    operator: Reconciler | None = None

    def begin(self, first: Resource, spec: Resource | None = None) -> None:
        """Makes the deployment, which is looked at from now on."""
        metadata = {"name": first["metadata"]["name"]}
        body = {"apiVersion": first["apiVersion"], "kind": first["kind"], "metadata": metadata}
        self.api.create(DEPLOYMENTS, {**body, "spec": spec or first["spec"]})
        self.name = metadata["name"]
        self.another_operator()

    def another_operator(self) -> None:
        """An operator that knows nothing but what the API has."""
        live = self.kube.deployment(self.name)
        assert live is not None
        self.operator = Reconciler(self.kube, Untold(), live, self.folder, threading.Event())

    def goes_on(self, before: Resource, after: Resource) -> None:
        """From one recorded version to the next: a user's change is made again, else Flink shows what it showed."""
        metadata = after["metadata"]
        if metadata.get("deletionTimestamp"):
            if not before["metadata"].get("deletionTimestamp"):
                self.api.delete(self.name)
        elif metadata["generation"] != before["metadata"]["generation"]:
            patch = json.dumps([{"op": "replace", "path": "/spec", "value": after["spec"]}])
            kind = {"Content-Type": "application/json-patch+json"}
            self.http.patch(f"{DEPLOYMENTS}/{self.name}", content=patch, headers=kind).raise_for_status()
            self.flink.cannot_save = False
            return
        status = after.get("status") or {}
        if status.get("lifecycleState") not in BY_OPERATOR:
            self.flink.shows(status)
        self.look()

    def runs(self) -> None:
        """Lets its first deployment come up."""
        for manager in ("DEPLOYING", "DEPLOYED_NOT_READY", "READY"):
            self.look()
            self.flink.shows({"jobManagerDeploymentStatus": manager, "jobStatus": {"state": "RUNNING"}})
        self.look()

    def look(self) -> None:
        assert self.operator is not None
        for _ in range(LOOKS):
            self.operator._look()

    def looks(self) -> list[Look]:
        """What its statuses showed, one after another, once the last is here."""
        live = self.kube.deployment(self.name)

        def are_here() -> list[Resource]:
            found = self.api.versions(self.name)
            last = found[-1]["metadata"]["resourceVersion"] if found else None
            return found if live is None or last == live["metadata"]["resourceVersion"] else []

        return looks_of(wait_for("the last version", are_here))


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    flink = Flink()

    def start(deployment: LocalDeployment) -> None:
        flink.answers, flink.state = False, None
        deployment.cluster = Running(flink)

    monkeypatch.setattr(observing, "start_cluster", start)
    monkeypatch.setattr(observing, "UNREACHABLE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(changing, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.0)
    with running_api("small", tmp_path / "kubernetes") as api:
        server = yaml.safe_load(api.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        with httpx.Client(base_url=server, headers={"Authorization": "Bearer token"}, trust_env=False) as http:
            kube = Kube(api.kubeconfig, "default")
            yield Replay(api, kube, http, flink, tmp_path / "flink")
            kube._http.close()


RECORDINGS = {
    "batch-finishes": 2,
    "stop-and-second-run": 3,
    "crash-loop-with-checkpoints": 4,
    "exception-in-user-code": 3,
    "jobmanager-unreachable": 2,
    "taskmanager-lost-adaptive-waits": 2,
    "no-savepoint-directory": 2,
    "invalid-parallelism": 2,
    "in-place-rescale-and-unschedulable": 3,
    "rescale-rollback-and-missing-jobmanager": 4,
    "pods-killed-and-quick-edits": 1,
}
"""The last generation of each that a laptop can play. Of two edits within a second the recorded operator had begun with
the first; this one has seen both, or is through with the first."""


@pytest.mark.parametrize("recording", RECORDINGS)
def test_it_answers_as_the_recorded_one_did(replay: Replay, recording: str) -> None:
    versions = until(RECORDINGS[recording], recorded_versions(recording))
    replay.begin(versions[0])
    for before, after in pairwise(versions):
        replay.goes_on(before, after)
    assert replay.looks() == told(versions)


def test_a_whole_life_goes_as_the_recorded_one_went(replay: Replay) -> None:
    """A savepoint by nonce, a rescale, suspends by savepoint, last state and without, resumes, other arguments, a
    restart, a redeploy from a chosen savepoint."""
    versions = recorded_versions("life-cycle")
    first = versions[0]
    job = {name: value for name, value in first["spec"]["job"].items() if name != "savepointTriggerNonce"}
    replay.begin(first, {**first["spec"], "job": job})
    replay.runs()
    begun = len(replay.looks()) - 1
    for before, after in pairwise([{**first, "metadata": {**first["metadata"], "generation": 1}}, *versions]):
        replay.goes_on(before, after)
    assert replay.looks()[begun:] == told(versions)
    assert replay.flink.saved == 5, "by nonce, by rescale, suspend, arguments and restart"


def test_an_operator_that_dies_in_a_rescale_is_followed_by_one_that_goes_on(replay: Replay) -> None:
    versions = until(2, recorded_versions("operator-killed-in-a-rescale"))
    replay.begin(versions[0])
    for before, after in pairwise(versions):
        replay.goes_on(before, after)
        if (after.get("status") or {}).get("lifecycleState") == "UPGRADING":
            replay.another_operator()
    assert replay.looks() == told(versions)


def until(generation: int, versions: Sequence[Resource]) -> list[Resource]:
    return [each for each in versions if each["metadata"]["generation"] <= generation]


def told(versions: Sequence[Resource]) -> list[Look]:
    """What they show, but for a pod whose volume was mounted late: here none is."""
    looks = [
        look._replace(error=None, fields=look.fields - {".error"}) if is_of_a_pod(look) else look
        for look in looks_of(versions)
        if look.job_manager != "ERROR"
    ]
    return [look for n, look in enumerate(looks) if n == 0 or looks[n - 1] != look]


def is_of_a_pod(look: Look) -> bool:
    return look.error is not None and look.error.type.endswith(".DeploymentFailedException")
