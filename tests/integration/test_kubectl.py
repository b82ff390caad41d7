"""What kubectl shows of a Flink job on the small Kubernetes API.

Every promise is kept over HTTP, with the headers that kubectl sends; where kubectl is on the PATH its own output is
looked at too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.kubernetes_api import LocalKubernetesApi
from local.kubernetes_api.pod_logs import LOGS_ANNOTATION
from tests.support.missing import missing
from tests.support.patience import REQUEST_SECONDS

Json = dict[str, Any]

CORE = "/api/v1/namespaces/default"
FLINK = "/apis/flink.apache.org/v1beta1/namespaces/default"
TABLES = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
MERGE = {"Content-Type": "application/merge-patch+json"}
MAIN = "flink-main-container"


@dataclass(frozen=True)
class Seen:
    """The small API with a job on it, as the local operator shows one."""

    local: LocalKubernetesApi
    http: httpx.Client
    folder: Path

    def table(self, path: str, **query: str) -> list[list[Any]]:
        """The names of the columns, and the rows, as kubectl gets them."""
        answer = self.http.get(path, params=query, headers={"Accept": TABLES})
        assert answer.status_code == 200, answer.text
        content = answer.json()
        assert content["kind"] == "Table"
        names = [each["name"] for each in content["columnDefinitions"]]
        return [names, *(row["cells"] for row in content["rows"])]

    def log(self, pod: str, **query: str) -> httpx.Response:
        return self.http.get(f"{CORE}/pods/{pod}/log", params=query)

    def create(self, path: str, kind: str, name: str, **parts: Any) -> Json:
        group = "flink.apache.org/v1beta1" if path.startswith(FLINK) else "v1"
        status, metadata = parts.pop("status", None), {"name": name, **parts.pop("metadata", {})}
        answer = self.http.post(path, json={"apiVersion": group, "kind": kind, "metadata": metadata, **parts})
        assert answer.status_code == 201, answer.text
        if status is not None:
            content = json.dumps({"status": status})
            self.http.patch(f"{path}/{name}/status", content=content, headers=MERGE).raise_for_status()
        return dict(answer.json())

    def event(self, about: Json, reason: str, message: str, component: str, count: int = 1) -> None:
        involved = {"kind": about["kind"], "apiVersion": about["apiVersion"], "namespace": "default"}
        involved |= {"name": about["metadata"]["name"], "uid": about["metadata"]["uid"]}
        kind = "Warning" if reason == "BackOff" else "Normal"
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        parts = {"reason": reason, "message": message, "type": kind, "count": count, "involvedObject": involved}
        times = {"firstTimestamp": at, "lastTimestamp": at, "source": {"component": component}}
        self.create(f"{CORE}/events", "Event", f"{about['metadata']['name']}.{reason.lower()}", **parts, **times)

    def write(self, name: str, *lines: str) -> Path:
        """Appends to a log of this name."""
        with (self.folder / name).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        return self.folder / name


def stamp(ago: timedelta) -> str:
    """The time that begins a line of Flink's log."""
    return (datetime.now(UTC) - ago).astimezone().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("kubectl")
    with LocalKubernetesApi(folder / "data", token="t") as local:
        headers = {"Authorization": "Bearer t"}
        with httpx.Client(base_url=local.url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False) as http:
            found = Seen(local, http, folder)
            _fill(found)
            yield found


def _fill(seen: Seen) -> None:
    status = {"lifecycleState": "STABLE", "jobStatus": {"state": "RUNNING"}}
    spec = {"flinkVersion": "v2_2", "job": {"parallelism": 1}}
    orders = seen.create(f"{FLINK}/flinkdeployments", "FlinkDeployment", "orders", spec=spec, status=status)
    seen.event(orders, "Submit", "Starting deployment", "JobManagerDeployment", 2)
    taken = {"state": "COMPLETED", "path": "file:///state/savepoint-1", "failures": 0}
    savepoint = {"savepoint": {"formatType": "NATIVE"}}
    seen.create(f"{FLINK}/flinkstatesnapshots", "FlinkStateSnapshot", "orders-1", spec=savepoint, status=taken)
    seen.create(f"{CORE}/configmaps", "ConfigMap", "orders-files", data={"job.py": "print(1)"})
    seen.create(f"{CORE}/services", "Service", "orders-rest", spec={"ports": [{"name": "rest", "port": 8081}]})
    _job_manager(seen)
    _task_manager(seen)
    _cannot_start(seen)


def _job_manager(seen: Seen) -> None:
    """Restarted once: the first container's lines are old."""
    log = seen.write("jobmanager.log", f"{stamp(timedelta(hours=2))} INFO  first life")
    start = log.stat().st_size
    seen.write("jobmanager.log", f"{stamp(timedelta(hours=1))} INFO  an hour ago", "\tat its.stack.trace")
    seen.write("jobmanager.log", f"{stamp(timedelta(minutes=1))} INFO  a minute ago", "print without a time")
    places = {MAIN: {"path": str(log), "start": start, "previous": 0}}
    _pod(seen, "orders-5d6885bb49-blqsx", "jobmanager", places, [_running(1)])


def _task_manager(seen: Seen) -> None:
    log = seen.write("taskmanager.log", "counted")
    places = {MAIN: {"path": str(log), "start": 0, "previous": None}}
    _pod(seen, "orders-taskmanager-1-1", "taskmanager", places, [_running(0)])


def _cannot_start(seen: Seen) -> None:
    log = seen.write("fetch.log", "SCRIPT_URL https://x/y.py answered 404")
    places = {"fetch": {"path": str(log), "start": 0, "previous": None}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    inits = [_status("fetch", 3, waiting)]
    mains = [_status(MAIN, 0, {"waiting": {"reason": "PodInitializing"}})]
    pod = _pod(seen, "late-5d6885bb49-blqsx", "jobmanager", places, mains, inits, app="late")
    seen.event(pod, "BackOff", "Back-off restarting failed container fetch", "kubelet", 3)


def _running(restarts: int) -> Json:
    return _status(MAIN, restarts, {"running": {"startedAt": datetime.now(UTC).isoformat(timespec="seconds")}}) | {
        "ready": True
    }


def _status(name: str, restarts: int, state: Json) -> Json:
    return {"name": name, "ready": False, "restartCount": restarts, "image": "flink", "imageID": "", "state": state}


def _pod(
    seen: Seen,
    name: str,
    component: str,
    places: Json,
    mains: list[Json],
    inits: list[Json] | None = None,
    app: str = "orders",
) -> Json:
    labels = {"app": app, "component": component}
    metadata = {"labels": labels, "annotations": {LOGS_ANNOTATION: json.dumps(places)}}
    spec: Json = {"containers": [{"name": MAIN, "image": "flink"}]}
    status: Json = {"phase": "Running", "containerStatuses": mains}
    if inits:
        spec["initContainers"] = [{"name": each["name"], "image": "flink"} for each in inits]
        status = {"phase": "Pending", "containerStatuses": mains, "initContainerStatuses": inits}
    return seen.create(f"{CORE}/pods", "Pod", name, metadata=metadata, spec=spec, status=status)


def test_deployments_and_snapshots_have_the_columns_of_their_definitions(seen: Seen) -> None:
    names, row = seen.table(f"{FLINK}/flinkdeployments")
    assert names == ["Name", "Job Status", "Lifecycle State"]
    assert row == ["orders", "RUNNING", "STABLE"]
    names, row = seen.table(f"{FLINK}/flinkstatesnapshots")
    assert names == ["Name", "Path", "Result Timestamp", "Snapshot State"]
    assert (row[0], row[1], row[3]) == ("orders-1", "file:///state/savepoint-1", "COMPLETED")


def test_pods_show_what_is_ready_and_how_often_they_were_restarted(seen: Seen) -> None:
    names, late, manager, worker = seen.table(f"{CORE}/pods")
    assert names == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert late[:4] == ["late-5d6885bb49-blqsx", "0/1", "Init:CrashLoopBackOff", "3"]
    assert manager[:4] == ["orders-5d6885bb49-blqsx", "1/1", "Running", "1"]
    assert worker[:4] == ["orders-taskmanager-1-1", "1/1", "Running", "0"]


def test_events_of_one_object(seen: Seen) -> None:
    names, row = seen.table(f"{CORE}/events", fieldSelector="involvedObject.name=orders")
    assert names == ["Last Seen", "Type", "Reason", "Object", "Message"]
    assert row[1:] == ["Normal", "Submit", "flinkdeployment/orders", "Starting deployment"]


def test_what_belongs_to_all_is_named(seen: Seen) -> None:
    found = {each["name"]: each.get("categories") for each in seen.http.get("/api/v1").json()["resources"]}
    assert found["pods"] == found["services"] == ["all"]
    assert found["configmaps"] is None


def test_a_log_begins_with_the_container_that_runs(seen: Seen) -> None:
    text = seen.log("orders-5d6885bb49-blqsx").text
    assert "an hour ago" in text
    assert "first life" not in text
    assert seen.log("orders-5d6885bb49-blqsx", previous="true").text.endswith("first life\n")
    refused = seen.log("orders-taskmanager-1-1", previous="true").json()
    assert (refused["code"], refused["message"]) == (
        400,
        'previous terminated container "flink-main-container" in pod "orders-taskmanager-1-1" not found',
    )


def test_a_log_is_cut_by_time_lines_and_bytes(seen: Seen) -> None:
    pod = "orders-5d6885bb49-blqsx"
    since = seen.log(pod, sinceSeconds="300").text
    assert since.splitlines()[0].endswith("a minute ago")
    assert since.splitlines()[1] == "print without a time"
    moment = (datetime.now(UTC) - timedelta(minutes=90)).isoformat()
    assert "an hour ago" in seen.log(pod, sinceTime=moment).text
    assert seen.log(pod, tailLines="1").text == "print without a time\n"
    assert seen.log(pod, tailLines="1", limitBytes="5").text == "print"
    for query in ({"tailLines": "some"}, {"sinceTime": "yesterday"}):
        assert seen.log(pod, **query).status_code == 400


def test_a_line_without_a_time_has_that_of_the_line_before(seen: Seen) -> None:
    lines = seen.log("orders-5d6885bb49-blqsx", timestamps="true", tailLines="2").text.splitlines()
    times = [datetime.fromisoformat(line.split(" ", 1)[0].replace("000Z", "Z")) for line in lines]
    assert times[0] == times[1]
    assert timedelta(seconds=50) < datetime.now(UTC) - times[0] < timedelta(minutes=5)
    assert lines[1].endswith(" print without a time")


def test_init_containers_have_logs_of_their_own(seen: Seen) -> None:
    pod = "late-5d6885bb49-blqsx"
    assert seen.log(pod, container="fetch").text == "SCRIPT_URL https://x/y.py answered 404\n"
    waiting = seen.log(pod, container=MAIN).json()
    assert waiting["code"] == 400
    assert "is waiting to start: PodInitializing" in waiting["message"]
    assert seen.log(pod, container="other").status_code == 400


def test_following_ends_with_the_pod_and_misses_nothing(seen: Seen) -> None:
    log = seen.write("ends.log", "one")
    _pod(seen, "ends-1", "jobmanager", {MAIN: {"path": str(log), "start": 0, "previous": None}}, [_running(0)], app="e")
    with seen.http.stream("GET", f"{CORE}/pods/ends-1/log", params={"follow": "true"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "one"
        seen.write("ends.log", "two")
        assert next(lines) == "two"
        seen.write("ends.log", "three")
        seen.http.delete(f"{CORE}/pods/ends-1").raise_for_status()
        assert list(lines) == ["three"]


def test_following_ends_with_the_container(seen: Seen) -> None:
    log = seen.write("again.log", "one")
    place = {"path": str(log), "start": 0, "previous": None}
    pod = _pod(seen, "again-1", "jobmanager", {MAIN: place}, [_running(0)], app="again")
    name = pod["metadata"]["name"]
    with seen.http.stream("GET", f"{CORE}/pods/{name}/log", params={"follow": "true"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "one"
        restarted = json.dumps({MAIN: {**place, "start": log.stat().st_size, "previous": 0}})
        content = json.dumps({"metadata": {"annotations": {LOGS_ANNOTATION: restarted}}})
        seen.http.patch(f"{CORE}/pods/{name}", content=content, headers=MERGE).raise_for_status()
        assert list(lines) == []


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the kubeconfig that laptop mode writes for it."""

    program: str
    env: dict[str, str]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [self.program, *words], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def starts(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen([self.program, *words], env=self.env, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def kubectl(seen: Seen) -> Kubectl:
    program = shutil.which("kubectl")
    if program is None:
        missing("kubectl is not on the PATH; install it (kubernetes.io/docs/tasks/tools) to look at its own output")
    config = seen.folder / "kubeconfig"
    seen.local.write_kubectl_kubeconfig(config)
    return Kubectl(program, {**os.environ, "KUBECONFIG": str(config), "HOME": str(seen.folder)})


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("get flinkdeployments", ["NAME JOB STATUS LIFECYCLE STATE", "orders RUNNING STABLE"]),
        (
            "get flinkstatesnapshots",
            ["NAME PATH RESULT TIMESTAMP SNAPSHOT STATE", "orders-1 file:///state/savepoint-1"],
        ),
        ("get pods -l app=orders", ["NAME READY STATUS RESTARTS AGE", "orders-taskmanager-1-1 1/1 Running 0"]),
        ("get all", ["pod/orders-taskmanager-1-1 1/1 Running", "service/orders-rest ClusterIP"]),
        (
            "get configmaps,services",
            ["configmap/orders-files 1", "service/orders-rest ClusterIP <none>"],
        ),
        ("get events", ["LAST SEEN TYPE REASON OBJECT MESSAGE", "Normal Submit flinkdeployment/orders Starting"]),
        (
            "get events --field-selector involvedObject.name=late-5d6885bb49-blqsx",
            ["Warning BackOff pod/late-5d6885bb49"],
        ),
        ("events --for flinkdeployment/orders", ["Submit FlinkDeployment/orders Starting deployment"]),
        ("describe flinkdeployment orders", ["Lifecycle State: STABLE", "Submit", "JobManagerDeployment Starting"]),
        ("describe pod late-5d6885bb49-blqsx", ["Reason: CrashLoopBackOff", "BackOff", "(x3 over", "kubelet Back-off"]),
        ("logs orders-5d6885bb49-blqsx --tail 1", ["print without a time"]),
        ("logs orders-5d6885bb49-blqsx -p", ["INFO first life"]),
        ("logs orders-5d6885bb49-blqsx --since 5m", ["INFO a minute ago"]),
        ("logs orders-5d6885bb49-blqsx --timestamps --tail 1", ["000Z print without a time"]),
        ("logs late-5d6885bb49-blqsx -c fetch", ["SCRIPT_URL https://x/y.py answered 404"]),
        ("logs -l app=orders --prefix", ["[pod/orders-taskmanager-1-1/flink-main-container] counted", "a minute ago"]),
    ],
)
def test_kubectl_shows_it(kubectl: Kubectl, command: str, shown: list[str]) -> None:
    printed = " ".join(kubectl(*command.split()).split())
    assert [words for words in shown if words not in printed] == []


def test_kubectl_follows_until_the_pod_is_gone(seen: Seen, kubectl: Kubectl) -> None:
    log = seen.write("followed.log", "one")
    place = {MAIN: {"path": str(log), "start": 0, "previous": None}}
    _pod(seen, "followed-1", "jobmanager", place, [_running(0)], app="followed")
    with kubectl.starts("logs", "-f", "followed-1") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        seen.http.delete(f"{CORE}/pods/followed-1").raise_for_status()
        assert following.stdout.read() == ""
        assert following.wait(30) == 0
