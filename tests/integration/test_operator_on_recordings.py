"""The local operator answers to users, to Kubernetes and to Flink as the recorded one did: each change of a spec is
made again, pods and Flink show what the recording shows of them, and every status that follows has to be the recorded
one, step by step.

No JVM runs, and no kubelet: what they show is set. On real Flink a part of them is played in
tests/e2e/test_local_operator.py. All recordings are here, each from its beginning to its end, but for one end: the
JobManager's Deployment that somebody deletes by hand (the last of rescale-rollback-and-missing-jobmanager), since a
laptop has no such Deployment. Not here is an operator that rolls back by itself: no recording shows one. The one that
was told to (generation 5 of that recording) did not, since the job had FAILED, and this one does not either.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.flink_operator import changing, observing, snapshots, starting
from local.flink_operator.cluster import PROGRAM_FAILED
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.kube import Forbidden, Kube, KubeError
from local.flink_operator.reconciler import Reconciler
from local.flink_operator.rest import SavepointFailed
from local.flink_operator.statuses import JOB_NOT_FOUND
from tests.e2e.operator_alone import Api, Resource, running_api
from tests.support.patience import REQUEST_SECONDS
from tests.support.recorded import Look, Shown, looks_of, recorded_shown
from tests.support.stack import DEPLOYMENTS

BY_OPERATOR = ("UPGRADING", "SUSPENDED")
"""Lifecycle states in which a status tells of what the operator does, and not of what Flink shows."""

LOOKS = 3
"""How often the operator looks after each step: to start a cluster, to see it, to tell of it."""

PERIOD_SECONDS = 15.0
"""How often the recorded operator looked, at least."""


@dataclass
class Flink:
    """A JobManager and its REST, as far as the operator asks it: whether it answers, the state of its job, and what its
    program said where that has failed. `meanwhile` happens while the next savepoint is taken."""

    log: Path
    answers: bool = False
    state: str | None = None
    exit_code: int | None = None
    pid: int = 0
    savepoint_failure: str | None = None
    saved: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def shows(self, status: Resource) -> None:
        """What was to be seen for this status to be written."""
        manager, state = status.get("jobManagerDeploymentStatus"), status.get("jobStatus", {}).get("state")
        self.answers = manager in ("DEPLOYED_NOT_READY", "READY")
        self.state = state if manager == "READY" and state != "RECONCILING" else None
        error = status.get("error") or ""
        self.savepoint_failure = (
            json.loads(error)["throwableList"][-1]["message"] if "Savepoint Error" in error else None
        )
        if status.get("lifecycleState") == "FAILED":
            self._program_fails(json.loads(error))

    def _program_fails(self, error: Resource) -> None:
        outermost = f"org.apache.flink.client.deployment.application.{PROGRAM_FAILED}"
        said = [outermost, error["message"], *(cause["message"] for cause in error["throwableList"])]
        self.log.write_text("\nCaused by: ".join(said))
        self.exit_code = 1

    def starts(self) -> None:
        self.answers, self.state, self.exit_code = False, None, None

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
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if self.savepoint_failure is not None:
            raise SavepointFailed(self.savepoint_failure)
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
    task_managers: Sequence[Any] = ()

    @property
    def job_manager(self) -> Flink:
        return self.rest

    def stop(self) -> None:
        return

    stop_task_managers = revive_task_managers = stop

    def have_task_managers(self, _: int) -> None:
        return


class Kubernetes(Kube):
    """The small API; it takes no pod of the operator's where a quota is said to be used up."""

    refusal: str | None = None

    def put_core(self, kind: str, body: Resource, status: Any = None) -> Resource:
        if kind == "pods" and self.refusal is not None:
            raise Forbidden(self.refusal)
        return super().put_core(kind, body, status)

    def shows(self, shown: Shown) -> None:
        """The JobManager's pods as they were recorded, and what was said of them."""
        for change, pod in shown.pods:
            if change == "DELETED":
                self.delete_core("pods", pod["metadata"]["name"])
            else:
                super().put_core("pods", _bare_pod(pod), pod["status"])
        for event in shown.events:
            if event["reason"] == "FailedMount":
                self._tells(event)

    def _tells(self, event: Resource) -> None:
        name = event["involvedObject"]["name"]
        pod = self.pod(name)
        assert pod is not None
        about = {"kind": "Pod", "namespace": "default", "name": name, "uid": pod["metadata"]["uid"]}
        said = {field: event.get(field) for field in ("type", "reason", "message", "lastTimestamp")}
        metadata = {"name": f"{name}.1", "namespace": "default"}
        self.count_event({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about, **said})


def _bare_pod(pod: Resource) -> Resource:
    containers = [{"name": each["name"], "image": each["image"]} for each in pod["spec"]["containers"]]
    metadata = {name: pod["metadata"][name] for name in ("name", "labels")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


class Untold:
    """Events are told on real Flink."""

    def normal(self, *_: Any) -> None:
        return

    warning = normal


@dataclass
class Replay:
    """One recording's deployment under the local operator, on a small API of its own. `misses_jobs` says from when on
    the operator misses a job that is not there."""

    api: Api
    kube: Kubernetes
    http: httpx.Client
    flink: Flink
    folder: Path
    misses_jobs: Callable[[bool], None]
    operator: Reconciler | None = None
    name: str = field(init=False)

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

    def goes_on(self, before: Shown, shown: Shown) -> None:
        """From one recorded version to the next: a user's change is made again, else Kubernetes and Flink show what
        they showed."""
        after = shown.version
        self.kube.shows(shown)
        if is_new(before, shown):
            if not is_behind(before.version) and shown.seconds - before.seconds > PERIOD_SECONDS:
                self.look()
            self._users_turn(after)
        elif is_behind(after):
            self._tries_again(after["status"])
        else:
            self._sees(after.get("status") or {})

    def _users_turn(self, after: Resource) -> None:
        if after["metadata"].get("deletionTimestamp"):
            self.api.delete(self.name)
            self.look()
        else:
            self.edit(after)

    def edit(self, after: Resource) -> None:
        patch = json.dumps([{"op": "replace", "path": "/spec", "value": after["spec"]}])
        kind = {"Content-Type": "application/json-patch+json"}
        self.http.patch(f"{DEPLOYMENTS}/{self.name}", content=patch, headers=kind).raise_for_status()
        self.flink.savepoint_failure = None

    def is_edited_in_a_try(self, after: Resource, *, breaks_off: bool = False) -> None:
        """While the operator takes a savepoint for the change before. Its try may come to nothing by that: its own
        write is refused then, since the deployment is another by now."""

        def edit() -> None:
            self.edit(after)
            if breaks_off:
                raise KubeError("Status have been modified externally")

        self.flink.meanwhile = edit
        with suppress(KubeError):
            self.look(1)

    def _tries_again(self, status: Resource) -> None:
        """What cannot be done yet is tried at each look, so it looks once for each error that was told."""
        if "error" in status:
            self.flink.shows(status)
            self.look(1)

    def _sees(self, status: Resource) -> None:
        if status.get("lifecycleState") not in BY_OPERATOR:
            self.flink.shows(status)
        self.misses_jobs(status.get("error") == JOB_NOT_FOUND)
        self.look()

    def runs(self) -> None:
        """Lets its first deployment come up."""
        for manager in ("DEPLOYING", "DEPLOYED_NOT_READY", "READY"):
            self.look()
            self.flink.shows({"jobManagerDeploymentStatus": manager, "jobStatus": {"state": "RUNNING"}})
        self.look()

    def look(self, times: int = LOOKS) -> None:
        assert self.operator is not None
        for _ in range(times):
            self.operator._look()

    def looks(self) -> list[Look]:
        """What its statuses showed, one after another."""
        return looks_of(self.api.versions(self.name), optional=())


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    flink = Flink(tmp_path / "jobmanager.log")

    def start(deployment: LocalDeployment) -> None:
        if starting.pod_is_taken(deployment):
            flink.starts()
            deployment.cluster = Running(flink)

    def misses_jobs(at_once: bool) -> None:
        monkeypatch.setattr(observing, "JOB_MISSED_AFTER_SECONDS", 0.0 if at_once else math.inf)

    monkeypatch.setattr(observing, "start_cluster", start)
    monkeypatch.setattr(observing, "UNREACHABLE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(changing, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.0)
    misses_jobs(False)
    with running_api("small", tmp_path / "kubernetes") as api:
        server = yaml.safe_load(api.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        headers = {"Authorization": "Bearer token"}
        with httpx.Client(base_url=server, headers=headers, timeout=REQUEST_SECONDS, trust_env=False) as http:
            kube = Kubernetes(api.kubeconfig, "default")
            yield Replay(api, kube, http, flink, tmp_path / "flink", misses_jobs)
            kube._http.close()


RECORDINGS = (
    "batch-finishes",
    "crash-loop-with-checkpoints",
    "exception-in-user-code",
    "image-absent-pull-never",
    "image-pull-fails",
    "in-place-rescale-and-unschedulable",
    "init-container-fails",
    "invalid-parallelism",
    "jobmanager-unreachable",
    "main-class-missing",
    "no-savepoint-directory",
    "quota-exceeded",
    "rescale-rollback-and-missing-jobmanager",
    "savepoint-directory-unwritable",
    "script-missing",
    "stop-and-second-run",
    "taskmanager-lost-adaptive-waits",
)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_it_answers_as_the_recorded_one_did(replay: Replay, recording: str) -> None:
    play(replay, playable(recording))


def test_a_second_run_from_a_savepoint_goes_as_the_recorded_one_went(replay: Replay) -> None:
    play(replay, playable("stop-and-second-run", run=1))


def play(replay: Replay, played: Sequence[Shown]) -> None:
    replay.kube.refusal = refusal_of(played)
    replay.begin(played[0].version)
    for before, after in pairwise(played):
        replay.goes_on(before, after)
    assert replay.looks() == told(played)


def refusal_of(played: Sequence[Shown]) -> str | None:
    """Why Kubernetes took none of its pods."""
    said = (each["message"] for shown in played for each in shown.events if each["reason"] == "FailedCreate")
    return next((words.removeprefix("Error creating: ") for words in said), None)


def test_a_whole_life_goes_as_the_recorded_one_went(replay: Replay) -> None:
    """A savepoint by nonce, a rescale, suspends by savepoint, last state and without, resumes, other arguments, a
    restart, a redeploy from a chosen savepoint."""
    played = playable("life-cycle")
    first = played[0].version
    job = {name: value for name, value in first["spec"]["job"].items() if name != "savepointTriggerNonce"}
    replay.begin(first, {**first["spec"], "job": job})
    replay.runs()
    begun = len(replay.looks()) - 1
    original = {**first, "metadata": {**first["metadata"], "generation": 1}}
    for before, after in pairwise([Shown(original, played[0].seconds, (), ()), *played]):
        replay.goes_on(before, after)
    assert replay.looks()[begun:] == told(played)
    assert replay.flink.saved == 5, "by nonce, by rescale, suspend, arguments and restart"


def test_an_operator_that_dies_in_a_rescale_is_followed_by_one_that_goes_on(replay: Replay) -> None:
    """Also where the job was left, and nothing was deployed yet. Then a suspend whose savepoint fails is taken back."""
    played = playable("operator-killed-in-a-rescale")
    replay.begin(played[0].version)
    for before, after in pairwise(played):
        if is_new(before, after) and generation_of(after) == 4:
            replay.is_edited_in_a_try(after.version, breaks_off=True)
            continue
        replay.goes_on(before, after)
        if is_new(before, after) and generation_of(after) == 2:
            replay.look(1)
            replay.another_operator()
    assert replay.looks() == told(played)


def test_an_edit_while_the_one_before_takes_its_savepoint_is_what_is_deployed(replay: Replay) -> None:
    played = playable("pods-killed-and-quick-edits")
    replay.begin(played[0].version)
    for before, after in pairwise(played):
        if is_new(before, after) and generation_of(after) == 3:
            replay.is_edited_in_a_try(after.version)
        else:
            replay.goes_on(before, after)
    assert replay.looks() == told(played)
    assert replay.flink.saved == 1


def is_new(before: Shown, after: Shown) -> bool:
    """Whether a user did something between the two."""
    return generation_of(before) != generation_of(after)


def generation_of(shown: Shown) -> int:
    return int(shown.version["metadata"]["generation"])


def is_behind(version: Resource) -> bool:
    """Whether the operator has tried a user's change, and could not make it yet."""
    observed = (version.get("status") or {}).get("observedGeneration")
    is_deleted = "deletionTimestamp" in version["metadata"]
    return not is_deleted and observed is not None and observed != version["metadata"]["generation"]


def playable(recording: str, run: int = 0) -> list[Shown]:
    return list(takewhile(has_its_deployment, recorded_shown(recording, run)))


def has_its_deployment(shown: Shown) -> bool:
    return "MissingJobManagerException" not in (shown.version.get("status") or {}).get("error", "")


def told(played: Sequence[Shown]) -> list[Look]:
    return looks_of([shown.version for shown in played], optional=())
