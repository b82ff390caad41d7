"""Each process' calls, made with the very token that its account gets, on a real API server: all that it makes succeed,
and what another process does is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from headrace.adapters.kubernetes import OperatorRuntime, connect
from headrace.domain.deployments import Deployment
from headrace.domain.diff import Change
from headrace.domain.snapshots import JOB_LABEL
from headrace.errors import Refused
from headrace.ports import Fence
from local.kube_apiserver import write_kubeconfig
from tests.support.controllers import client
from tests.support.kube_apiserver import KubeServer
from tests.support.kubectl import DEPLOY, ROOT, Kubectl
from tests.support.patience import REQUEST_SECONDS
from tests.support.rights import await_rights

JOBS, OURS = "flink-jobs", "headrace"
As = Callable[[str], OperatorRuntime]


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "data" / "golden" / "file.yaml").read_text())
    found["metadata"] |= {"namespace": JOBS, "name": name}
    return found


@pytest.fixture(scope="module")
def runtime_of(kube_server: KubeServer, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> As:
    """A runtime with the token of a process' account."""
    for folder in ("flink/flink-jobs", "overlays/production"):
        kubectl.applied(DEPLOY / folder)
    with client(kube_server) as http:
        await_rights(http)

    def connected(process: str) -> OperatorRuntime:
        token = kubectl.said("create", "token", f"headrace-{process}", "-n", OURS).strip()
        file = tmp_path_factory.mktemp(process) / "kubeconfig"
        write_kubeconfig(file, kube_server.url, token, kube_server.ca_path)
        return connect(file, REQUEST_SECONDS)

    return connected


@pytest.fixture
def made(runtime_of: As, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A job's deployment, made by a worker."""
    worker, name = runtime_of("worker"), request.node.name.replace("_", "-")[-40:].strip("-")
    created = worker.create(manifest(name))
    assert created is not None
    yield created
    assert worker.delete(JOBS, name, created.metadata.uid)


def test_a_worker_carries_out_every_effect(runtime_of: As, made: Deployment) -> None:
    worker, name, uid = runtime_of("worker"), made.metadata.name, made.metadata.uid
    sequence = int((made.metadata.annotations or {})["headrace.io/sequence"])
    assert worker.patch(JOBS, name, Fence(uid, sequence), [Change(("spec", "job", "parallelism"), 2)]) is not None
    assert worker.get(JOBS, name) is not None
    assert worker.get_whole(JOBS, name) is not None
    for _ in range(2):  # the second writes it anew
        worker.put_files(made, f"{name}-files", {"a.py": "1"}, {})
        worker.put_secret(made, f"{name}-env", {"A": "1"}, {})
    snapshot = {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkStateSnapshot",
        "metadata": {"name": f"{name}-1", "namespace": JOBS, "labels": {JOB_LABEL: name}},
        "spec": {"jobReference": {"kind": "FlinkDeployment", "name": name}, "savepoint": {}},
    }
    assert worker.create_snapshot(snapshot)
    (kept,) = worker.snapshots_of(JOBS, name) or ()
    assert worker.delete_snapshot(JOBS, kept)
    assert worker.pods(JOBS, name, {}) == []
    assert worker.pod_events(JOBS, "none") == []
    assert worker.logs(JOBS, "none", "main") is None
    assert worker.ha_metadata(JOBS, name, "f" * 32) is None
    assert worker.flink_versions() == ()


def test_a_worker_neither_lists_nor_reads_what_it_does_not_need(runtime_of: As) -> None:
    worker = runtime_of("worker")
    with pytest.raises(Refused, match="forbidden"):
        list(worker.list_pages(JOBS))
    for path in (f"/api/v1/namespaces/{JOBS}/secrets", f"/api/v1/namespaces/{OURS}/secrets", "/api/v1/nodes"):
        assert worker._api.send("GET", path, doing="reading").status == 403


def test_the_sync_follows_and_looks_and_changes_nothing(runtime_of: As, made: Deployment) -> None:
    sync, name = runtime_of("sync"), made.metadata.name
    found = [each.metadata.name for page in sync.list_pages(JOBS) for each in page.deployments]
    assert name in found
    list(sync.watch(JOBS, made.metadata.resource_version, 1))
    assert sync.get(JOBS, name) is not None
    assert sync.pods(JOBS, name, {}) == []
    assert sync.logs(JOBS, "none", "main") is None
    with pytest.raises(Refused, match="forbidden"):
        sync.patch(JOBS, name, Fence(made.metadata.uid, 1), [Change(("spec", "job", "parallelism"), 3)])
    with pytest.raises(Refused, match="forbidden"):
        sync.delete(JOBS, name, made.metadata.uid)


def test_the_api_reads_what_people_ask_for_and_changes_nothing(runtime_of: As, made: Deployment) -> None:
    api, name = runtime_of("api"), made.metadata.name
    assert api.get(JOBS, name) is not None
    assert api.get_whole(JOBS, name) is not None
    assert api.list_anybodys(JOBS, 10).deployments
    assert api.pods(JOBS, name, {}) == []
    assert api.events(JOBS, name) == []
    assert api.logs(JOBS, "none", "main") is None
    assert api.ha_metadata(JOBS, name, "f" * 32) is None
    assert api.flink_versions() == ()
    with pytest.raises(Refused, match="forbidden"):
        api.create(manifest("by-the-api"))
    with pytest.raises(Refused, match="forbidden"):
        api.put_secret(made, f"{name}-env", {"A": "1"}, {})


def test_the_consumer_looks_at_one_deployment_and_no_more(runtime_of: As, made: Deployment) -> None:
    consumer, name = runtime_of("consumer"), made.metadata.name
    assert consumer.get_whole(JOBS, name) is not None
    assert consumer.flink_versions() == ()
    with pytest.raises(Refused, match="forbidden"):
        consumer.list_anybodys(JOBS, 10)
    with pytest.raises(Refused, match="forbidden"):
        consumer.pods(JOBS, name, {})
