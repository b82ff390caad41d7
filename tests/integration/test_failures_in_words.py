"""Failures that laptop mode cannot make: images, nodes, quotas, memory, rights, a cluster without an operator.

Real worker and sync processes on a real API server. The test plays the operator and the kubelet with what was recorded
of them (tests/data/recordings); it must not know how a cause is found. Each failure ends over HTTP, in MongoDB, in
`headrace describe` and in its operation with its cause and the next step. The others are in tests/e2e/test_failures.py.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pymongo import MongoClient

from api.access import gate
from api.app import create_app
from headrace import bootstrap
from headrace.adapters.kubernetes import connect
from headrace.adapters.kubernetes.runtime import CRD
from headrace.bootstrap import Services
from headrace.cli import connection, main
from headrace.client import Client
from headrace.domain.failures import Evidence, explain
from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName
from headrace.errors import Unavailable
from local.kube_apiserver import write_kubeconfig
from tests.integration.conftest import HERE, SCRIPT, Installation, installed, settings_of
from tests.support import servers
from tests.support.clusters import Cluster
from tests.support.kube_apiserver import CRDS_DIRECTORY, POWERLESS
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.replay import Event, events_of
from tests.support.rights import await_rights
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(240)

BASE = "/api/v1/flink"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
NO_ACCOUNT = (
    'pods "no-account-78bb9d496c-" is forbidden: error looking up service account flink/none: serviceaccount "none" '
    "not found"
)
"""As the API server's admission says it; the operator repeats it under the reason FailedCreate."""

KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}

Changed = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What a failure comes to: the job's phase, words of its cause and next step, and how its last operation ends."""

    phase: str
    cause: str
    next_step: str
    end: str = "FAILED"


CASES = {
    "pullb": Case("FAILED", "dial tcp 192.0.2.9:5000: connect: no route to host", "check image"),
    "badimage": Case("FAILED", "is not present with pull policy of Never", "pod.image_pull_policy"),
    "inpl": Case("FAILED", "no node takes the pod: 0/1 nodes are available: 1 Insufficient cpu", "add nodes"),
    "quota": Case("FAILED", "exceeded quota: q, requested: pods=1", "ResourceQuota raised"),
    "no-account": Case("FAILED", "namespace flink has no ServiceAccount none", "or set service_account"),
    "invalid": Case("REJECTED", "Job parallelism must be larger than 0", "correct it"),
    "noclass": Case("FAILED", "CrashLoopBackOff", "headrace logs"),
    "oom-jobmanager": Case("FAILED", "(OOMKilled)", "raise resources.job_manager.memory"),
    "oom-taskmanager": Case("RESTARTING", "(OOMKilled)", "raise resources.task_manager.memory", "SUCCEEDED"),
}


class Http:
    """The HTTP API over an installation's services, and the CLI on top of it."""

    def __init__(self, services: Services) -> None:
        self._app = create_app(services, gate(services, [b"k"]), tenant="default", wait_limit_seconds=1)

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            headers = {"Authorization": "Bearer k"}
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
                return await client.request(method, path, json=body)

        return asyncio.run(sent())

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.send("GET", BASE + path).raise_for_status().json()
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return self.send("POST", BASE + path, body)

    def submit(self, job_id: str) -> httpx.Response:
        return self.post("/jobs/submit", {"job_id": job_id, "job_config": {"script": SCRIPT}})

    def last_operation(self, job_id: str) -> dict[str, Any]:
        operations = self.get(f"/jobs/{job_id}/operations")["operations"]
        return dict(operations[-1])

    def described(self, job_id: str) -> str:
        """What `headrace describe` prints."""

        def answer(request: httpx.Request) -> httpx.Response:
            found = self.send(request.method, str(request.url))
            return httpx.Response(found.status_code, content=found.content, headers=found.headers)

        client = Client("http://api.test", "k", transport=httpx.MockTransport(answer))
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
            patch.setenv("HEADRACE_URL", "http://api.test")
            patch.setenv("HEADRACE_API_KEY", "k")
            patch.setattr(connection, "client", lambda _: client)
            patch.setattr("sys.argv", ["headrace", "describe", job_id])
            assert main.main() == 0
        return printed.getvalue()


@dataclass(frozen=True)
class Recorded:
    """The operator's and the kubelet's part for one job, as a recording shows it of its deployment `name`."""

    cluster: Cluster
    recording: str
    name: str
    job_id: str

    def plays(self, until: float, since: float = 0.0, pod: Changed = dict, **status: Any) -> None:
        """What was written between these seconds of the recording, each pod as `pod` changes it, with `status` in the
        deployment's."""
        for event in events_of(self.recording):
            if since <= event.at <= until:
                self._shows(self._of_the_job(event), pod, status)

    def _shows(self, event: Event, pod: Changed, status: Mapping[str, Any]) -> None:
        metadata, shown = event.whole["metadata"], event.whole.get("status")
        if event.resource == "flinkdeployments":
            if shown:
                self.cluster.set_status(self.job_id, {"error": None, **shown, **status})
        elif event.type == "ADDED":
            spec = {name: part for name, part in event.whole["spec"].items() if name != "nodeName"}
            labels = metadata["labels"]
            self.cluster.put_pod(metadata["name"], labels["app"], labels["component"], spec, pod(shown))
        elif event.type == "MODIFIED":
            self.cluster.set_pod_status(metadata["name"], pod(shown))

    def _of_the_job(self, event: Event) -> Event:
        named = rf"(?<![A-Za-z0-9]){self.name}(?![A-Za-z0-9])"
        whole = json.loads(re.sub(named, self.job_id, json.dumps(event.whole)))
        return Event(event.at, event.resource, event.type, whole)


def killed_before(status: dict[str, Any]) -> dict[str, Any]:
    """The pod's status, where what ended its container was the kernel, for its use of memory."""
    containers = status.get("containerStatuses") or []
    return {**status, "containerStatuses": [_killed(each, "lastState") for each in containers]}


def killed_now(status: dict[str, Any]) -> dict[str, Any]:
    """The status of a pod that is not started again: its container was just killed."""
    containers = status.get("containerStatuses") or []
    return {**status, "phase": "Failed", "containerStatuses": [_killed(each, "state") for each in containers]}


def _killed(container: dict[str, Any], which: str) -> dict[str, Any]:
    if which == "lastState" and not container["lastState"]:
        return container
    return {**container, which: KILLED}


def ended(http: Http, job_id: str) -> bool:
    return http.last_operation(job_id)["state"] in ("SUCCEEDED", "FAILED")


def stored(installation: Installation, job_id: str) -> dict[str, Any]:
    with MongoClient(installation.env["HEADRACE_MONGODB_URL"], timeoutMS=10_000) as client:
        found = client[installation.env["HEADRACE_MONGODB_DATABASE"]].jobs.find_one({"job_id": job_id})
    assert found is not None
    return dict(found)


def assert_told_everywhere(installation: Installation, http: Http, job_id: str, case: Case) -> None:
    def has_come() -> bool:
        job = http.get(f"/jobs/{job_id}")
        return job["status"] == case.phase and case.cause in job["reason"]

    try:
        wait_for(f"{job_id} to say {case.cause}", has_come)
        wait_for("its operation to end", lambda: http.last_operation(job_id)["state"] == case.end)
    finally:
        job, operation = http.get(f"/jobs/{job_id}"), http.last_operation(job_id)
        print(f"{job_id} | {job['status']} | {job['reason']} | {job['next_step']} | {operation['reason']}")
    assert case.next_step in job["next_step"]
    record = stored(installation, job_id)
    assert (record["reason"], record["next_step"]) == (job["reason"], job["next_step"])
    told = http.described(job_id)
    assert job["reason"] in told
    assert job["next_step"] in told
    if case.end == "FAILED":
        assert case.cause in operation["reason"]
        assert case.next_step in operation["reason"]


@contextmanager
def running(
    folder_of: pytest.TempPathFactory, mongodb_url: str, place: Cluster, **env: str
) -> Iterator[tuple[Installation, Http]]:
    """Headrace on this cluster, with a Redis of its own, a worker and Beat."""
    folder = folder_of.mktemp("words")
    redis = servers.redis(folder)
    with (
        servers.running(redis, folder),
        installed(folder, mongodb_url, redis.address, place, HEADRACE_FAILURE_GRACE_SECONDS="2", **env) as made,
    ):
        made.worker()
        made.beat()
        yield made, Http(made.services)


def start_failure(words: str) -> str:
    """The operator's error of a pod that could not be made."""
    return json.dumps({"type": "a.b.DeploymentFailedException", "message": words, "throwableList": []})


RESCALED = "operator-killed-in-a-rescale"
"""At 44 s of it the JobManager is READY, both pods run, and an old FailedMount stands in the operator's status."""

ON_THEIR_WAY = {
    "short-of-slots": "the job needs 2 slots, and its TaskManagers have 1",
    "short-of-taskmanagers": "0 of 1 TaskManagers have registered with the JobManager",
    "without-a-leader": "the JobManager waits for leadership",
    "silent": "the JobManager has started, and does not answer yet",
}


@contextmanager
def job_managers() -> Iterator[str]:
    """The JobManagers of the jobs on their way, by their job's name; one of them does not answer."""
    shown = [event.whole.get("status", {}).get("jobStatus", {}) for event in events_of(RESCALED)]
    flink_job_id = next(each["jobId"] for each in shown if "jobId" in each)
    job = {"state": "CREATED", "vertices": [{"parallelism": 2, "tasks": {"SCHEDULED": 2}}]}
    overviews = {"short-of-slots": {"taskmanagers": 1, "slots-total": 1}, "short-of-taskmanagers": {"taskmanagers": 0}}
    files: dict[str, Any] = {f"/default/{name}/overview": overview for name, overview in overviews.items()}
    files |= {f"/default/{name}/jobs/{flink_job_id}": job for name in overviews}
    electing = "/default/without-a-leader/overview"
    files[electing] = {"errors": ["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}
    bodies = {path: json.dumps(each).encode() for path, each in files.items()}
    with serving(bodies, statuses={electing: 503}) as address:
        yield f"{address}/{{namespace}}/{{name}}"


@pytest.fixture(scope="module")
def failing(
    tmp_path_factory: pytest.TempPathFactory, mongodb_url: str, clusters: Callable[[str], Cluster]
) -> Iterator[tuple[Installation, Http]]:
    """An installation in which each of the jobs was submitted, and its operator has done what was recorded."""
    place = clusters("real")
    with (
        job_managers() as address,
        running(tmp_path_factory, mongodb_url, place, HEADRACE_FLINK_REST_URL=address) as (made, http),
    ):
        for job_id in ("nobody", "unwr", *ON_THEIR_WAY, *CASES):
            assert http.submit(job_id).status_code == 202
        for job_id in ("nobody", "unwr", *ON_THEIR_WAY, *CASES):
            wait_for(f"{job_id} to be created", lambda job_id=job_id: place.runtime.get("default", job_id))
        Recorded(place, "savepoint-directory-unwritable", "unwr", "unwr").plays(until=26.54)
        Recorded(place, "image-pull-fails", "pullb", "pullb").plays(until=6)
        Recorded(place, "image-absent-pull-never", "badimage", "badimage").plays(until=60)
        Recorded(place, "quota-exceeded", "quota", "quota").plays(until=1)
        Recorded(place, "quota-exceeded", "quota", "no-account").plays(until=1, error=start_failure(NO_ACCOUNT))
        for job_id in ON_THEIR_WAY:
            Recorded(place, RESCALED, "sp", job_id).plays(until=44)
        Recorded(place, "invalid-parallelism", "invalid", "invalid").plays(until=0.1)
        Recorded(place, "main-class-missing", "noclass", "noclass").plays(until=26)
        Recorded(place, "main-class-missing", "noclass", "oom-jobmanager").plays(until=26, pod=killed_before)
        Recorded(place, "in-place-rescale-and-unschedulable", "inpl", "inpl").plays(
            until=95, since=65.1, observedGeneration=1
        )
        looping = Recorded(place, "crash-loop-with-checkpoints", "crashck", "oom-taskmanager")
        looping.plays(until=73)
        wait_for("oom-taskmanager to run", lambda: ended(http, "oom-taskmanager"))
        for pod in place.runtime.pods("default", "oom-taskmanager", {}):
            if pod.component == "taskmanager":
                place.set_pod_status(pod.name, killed_now(_status_of(place, pod.name)))
        looping.plays(until=118, since=117)
        yield made, http


def _status_of(place: Cluster, pod: str) -> dict[str, Any]:
    assert place.http is not None
    whole = place.http.get(f"/api/v1/namespaces/default/pods/{pod}").raise_for_status().json()
    return dict(whole["status"])


@pytest.mark.parametrize("job_id", CASES)
def test_a_failure_is_explained_wherever_one_looks(failing: tuple[Installation, Http], job_id: str) -> None:
    assert_told_everywhere(*failing, job_id, CASES[job_id])


@pytest.mark.parametrize("job_id", ON_THEIR_WAY)
def test_a_job_on_its_way_says_what_it_waits_for_and_since_when(
    failing: tuple[Installation, Http], job_id: str
) -> None:
    """And nothing of the old sentence that stands in the operator's status all the while."""
    made, http = failing
    wait_for(f"{job_id} to say what for", lambda: "waiting since" in http.get(f"/jobs/{job_id}")["reason"], 60)
    job = http.get(f"/jobs/{job_id}")
    print(f"{job_id} | {job['status']} | {job['reason']} | {job['next_step']}")
    assert job["status"] == "STARTING"
    assert ON_THEIR_WAY[job_id] in job["reason"]
    assert job["error"] == ""
    assert job["reason"] in http.described(job_id)
    first = [each["at"] for each in http.get(f"/jobs/{job_id}/transitions")["transitions"] if each["to"] == "STARTING"]
    assert f"waiting since {first[0][:19]}Z" in job["reason"]
    assert stored(made, job_id)["waiting"]["cause"] in job["reason"]


def test_a_stop_whose_savepoint_cannot_be_written_fails_in_words_and_is_taken_back(
    failing: tuple[Installation, Http],
) -> None:
    made, http = failing
    wait_for("unwr to run", lambda: ended(http, "unwr"))
    assert http.post("/jobs/unwr/stop", {}).status_code == 202

    def is_wanted(state: str) -> bool:
        whole = made.cluster.runtime.get_whole("default", "unwr")
        return whole is not None and whole["spec"]["job"]["state"] == state

    wait_for("the suspend to be written", lambda: is_wanted("suspended"))
    Recorded(made.cluster, "savepoint-directory-unwritable", "unwr", "unwr").plays(until=27.5, since=27)
    case = Case("UPGRADING", "the savepoint could not be taken: Savepoint Error: Stop with savepoint", "uid 9999")
    assert_told_everywhere(made, http, "unwr", case)
    assert is_wanted("running")


def test_a_job_that_no_operator_takes_says_so_within_moments_after_half_a_minute(
    failing: tuple[Installation, Http],
) -> None:
    case = Case("SUBMITTING", "no operator has taken it within 30 s", "watchNamespaces", "RUNNING")
    assert_told_everywhere(*failing, "nobody", case)


def test_the_api_servers_own_words_of_a_missing_service_account_are_understood(
    clusters: Callable[[str], Cluster],
) -> None:
    place = clusters("real")
    assert place.http is not None
    spec = {"serviceAccountName": "none-such", "containers": [{"name": "main", "image": "flink"}]}
    pod = {"metadata": {"name": "orders-1"}, "spec": spec}
    answer = place.http.post("/api/v1/namespaces/default/pods", json=pod)
    assert answer.status_code == 403
    found = explain(Evidence(error=answer.json()["message"], deployment="orders"))
    assert found is not None
    assert found.cause == "no pod can be made: namespace default has no ServiceAccount none-such"
    assert "or set service_account" in found.next_step


def test_an_account_without_rights_is_named_with_what_it_may_not_and_is_waited_for(
    tmp_path_factory: pytest.TempPathFactory, mongodb_url: str, clusters: Callable[[str], Cluster]
) -> None:
    place = clusters("real")
    with running(tmp_path_factory, mongodb_url, place, HEADRACE_KUBECONFIG=str(place.powerless)) as (made, http):
        accepted = http.submit("forbidden")
        assert accepted.status_code == 202
        words = f'is forbidden: User "{POWERLESS}" cannot get resource "flinkdeployments"'

        def says_so() -> bool:
            (operation,) = made.operations("forbidden")
            return operation.is_open and words in operation.reason and "RoleBinding" in operation.reason

        wait_for("the operation to say so", says_so)


def test_a_cluster_without_the_crd_is_told_before_anything_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, mongodb_url: str, clusters: Callable[[str], Cluster]
) -> None:
    """Before, where the CRD may be read; else by the operation, when the create meets it."""
    place = clusters("bare")
    words = "this cluster has no FlinkDeployment CRD"
    with running(tmp_path_factory, mongodb_url, place) as (made, http):
        answer = http.submit("unknown")
        assert answer.status_code == 502
        assert words in answer.json()["detail"]
        assert "install the Flink Kubernetes Operator" in answer.json()["detail"]
        assert made.open_operations() == []
        blind = bootstrap.services(settings_of({**made.env, "HEADRACE_KUBECONFIG": str(place.powerless)}))
        made.stack.callback(blind.store.close)  # type: ignore[attr-defined]
        assert Http(blind).submit("unknown").status_code == 202
        assert_told_everywhere(made, http, "unknown", Case("REJECTED", words, "install the Flink Kubernetes Operator"))


def test_a_crd_that_is_on_its_way_is_waited_for(
    tmp_path_factory: pytest.TempPathFactory, mongodb_url: str, redis_url: str, clusters: Callable[[str], Cluster]
) -> None:
    """An account that may not read CRDs cannot tell one that is missing from one that comes."""
    place = clusters("bare")
    assert place.http is not None
    account = {"HEADRACE_KUBECONFIG": str(place.powerless)}
    with installed(tmp_path_factory.mktemp("late"), mongodb_url, redis_url, place, **account) as made, rights(place):
        accept, asked = made.services.accept.operation, {"job_config": {"script": SCRIPT}}
        operation = accept(KindName.SUBMIT, "late", asked, tenant="default", key=None, source=HERE).operation
        key = JobKey("default", "late")
        with pytest.raises(Unavailable):
            made.services.execute.oldest_open_operation(key)
        waiting = made.services.records.operation("default", operation.id)
        assert waiting is not None
        assert waiting.is_open
        assert waiting.reason.startswith("waiting: ")
        assert "is the Flink Kubernetes Operator's CRD installed?" in waiting.reason
        with crd(place):
            wait_for("the CRD to be served", lambda: serves_deployments(place))
            made.services.execute.oldest_open_operation(key)
            assert place.runtime.get("default", "late") is not None


@contextmanager
def rights(place: Cluster) -> Iterator[None]:
    """The powerless account may do in its namespace what Headrace does there."""
    assert place.http is not None
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    rules = [
        {"apiGroups": ["flink.apache.org"], "resources": ["flinkdeployments"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
    ]
    binding = {
        "metadata": {"name": "headrace"},
        "roleRef": {**group, "kind": "Role", "name": "headrace"},
        "subjects": [{**group, "kind": "User", "name": POWERLESS}],
    }
    place.http.post(f"{ROLES}/roles", json={"metadata": {"name": "headrace"}, "rules": rules}).raise_for_status()
    place.http.post(f"{ROLES}/rolebindings", json=binding).raise_for_status()
    try:
        await_rights(place.http)
        yield
    finally:
        for kind in ("rolebindings", "roles"):
            place.http.delete(f"{ROLES}/{kind}/headrace").raise_for_status()


@contextmanager
def crd(place: Cluster) -> Iterator[None]:
    """The CRD of FlinkDeployments is there."""
    assert place.http is not None
    definitions = [yaml.safe_load(each.read_text()) for each in CRDS_DIRECTORY.glob("*.yml")]
    wanted = next(each for each in definitions if each["spec"]["names"]["plural"] == "flinkdeployments")
    place.http.post(CRDS, json=wanted).raise_for_status()
    try:
        yield
    finally:
        path = f"{CRDS}/{wanted['metadata']['name']}"
        place.http.delete(path).raise_for_status()
        wait_for("the CRD to be gone", lambda: place.http.get(path).status_code == 404)
        wait_for("it to be served no more", lambda: not serves_deployments(place))


def serves_deployments(place: Cluster) -> bool:
    assert place.http is not None
    path = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
    return place.http.get(path).status_code == 200


@pytest.mark.parametrize("seen", [{"kind": "CustomResourceDefinition"}, None], ids=["there", "not to be told"])
def test_what_is_not_served_for_a_moment_is_no_missing_crd(tmp_path: Path, seen: dict[str, str] | None) -> None:
    """A proxy, or a server that starts, answers 404 to everything."""
    with serving({CRD: json.dumps(seen).encode()} if seen else {}) as address:
        write_kubeconfig(tmp_path / "kubeconfig", address, "token")
        with pytest.raises(Unavailable, match="is the Flink Kubernetes Operator's CRD installed"):
            connect(tmp_path / "kubeconfig", REQUEST_SECONDS).get("default", "orders")
