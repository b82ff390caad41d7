"""A place for deployments, and a hand to play the operator's part there: in memory, small API, real API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.adapters.kubernetes import connect
from headrace.adapters.native import NativeRuntime
from headrace.adapters.native import connect as connect_native
from headrace.domain.deployments import JOB_LABEL
from headrace.ports import FlinkRuntime, WatchEvent
from headrace.testing import InMemoryNativeRuntime, InMemoryRuntime
from local.kubernetes_api import LocalKubernetesApi
from local.kubernetes_api.pod_logs import LOGS_ANNOTATION
from tests.support.given import pod_labels
from tests.support.kube_apiserver import CRDS_DIRECTORY, OLDEST_CRDS, KubeServer, running_kube_apiserver
from tests.support.native import PlayedJobManager
from tests.support.patience import REQUEST_SECONDS
from tests.support.watched import told_since

CORE = "/api/v1/namespaces/default"
MAIN = "flink-main-container"
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
NATIVE = "/apis/apps/v1/namespaces/default/deployments"
TOKEN = "a-token-for-tests"
REAL = {"real": CRDS_DIRECTORY, "oldest": OLDEST_CRDS, "bare": None, "native-real": None}


@dataclass(frozen=True)
class Cluster:
    """A runtime, and what stands behind it: an API server's client, or nothing but the runtime itself.

    `powerless` is the kubeconfig of a user without any right, where the server knows of rights.
    """

    runtime: FlinkRuntime
    http: httpx.Client | None = None
    kubeconfig: Path | None = None
    local: LocalKubernetesApi | None = None
    folder: Path | None = None
    powerless: Path | None = None
    server: KubeServer | None = None

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Writes a deployment's whole status, as the operator does."""
        if self.http is None:
            assert isinstance(self.runtime, InMemoryRuntime)
            self.runtime.set_status("default", name, status)
            return
        content = {"status": dict(status)}
        headers = {"Content-Type": "application/merge-patch+json"}
        if isinstance(self.runtime, NativeRuntime):  # of a Deployment it is Kubernetes' controller that writes one
            told = {"status": {"observedGeneration": status.get("observedGeneration", 1)}}
            self.http.patch(f"{NATIVE}/{name}/status", json=told, headers=headers).raise_for_status()
            return
        self.http.patch(f"{DEPLOYMENTS}/{name}/status", json=content, headers=headers).raise_for_status()

    def put_pod(self, name: str, app: str, component: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Makes a pod, as the operator and the kubelet do."""
        labels = pod_labels(app, component)
        logs = {each: self._log_place(name, each) for part in spec.values() for each in (c["name"] for c in part)}
        metadata = {"name": name, "labels": labels, "annotations": {LOGS_ANNOTATION: json.dumps(logs)}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(spec), "status": dict(status)}
        if isinstance(self.runtime, InMemoryRuntime):
            self.runtime.put_pod("default", pod)
            return
        assert self.http is not None
        self.http.post(f"{CORE}/pods", json=pod).raise_for_status()
        self.set_pod_status(name, status)

    def set_pod_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Writes a pod's status, as the kubelet does."""
        assert self.http is not None
        headers = {"Content-Type": "application/merge-patch+json"}
        content = {"status": dict(status)}
        self.http.patch(f"{CORE}/pods/{name}/status", json=content, headers=headers).raise_for_status()

    def run_pod(self, name: str, app: str, component: str = "jobmanager", printed: Sequence[str] = ()) -> None:
        """Makes a pod that runs, after its container has printed these lines."""
        for text in printed:
            self.prints(name, text)
        running = {"name": MAIN, "ready": True, "restartCount": 0, "image": "flink", "imageID": ""}
        running |= {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        status = {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [running],
        }
        self.put_pod(name, app, component, {"containers": [{"name": MAIN, "image": "flink"}]}, status)

    def prints(self, pod: str, text: str, ago: timedelta = timedelta()) -> None:
        """Lets a pod's main container print a line, with the time that it is from."""
        at = datetime.now(UTC) - ago
        line = f"{at.astimezone():%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} {text}"
        if isinstance(self.runtime, InMemoryRuntime):
            self.runtime.print_line(pod, MAIN, line, at=at)
            return
        assert self.folder is not None
        with (self.folder / f"{pod}-{MAIN}.log").open("a") as file:
            file.write(f"{line}\n")

    def delete_pod(self, name: str) -> None:
        """Removes a pod at once."""
        if isinstance(self.runtime, InMemoryRuntime):
            self.runtime.delete_pod("default", name)
            return
        assert self.http is not None
        self.http.delete(f"{CORE}/pods/{name}", params={"gracePeriodSeconds": "0"}).raise_for_status()

    def put_config_map(self, name: str, data: Mapping[str, str] | None) -> None:
        """Makes a ConfigMap with these data, or without any."""
        if isinstance(self.runtime, InMemoryRuntime):
            self.runtime.put_config_map("default", name, data or {})
            return
        assert self.http is not None
        whole = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        self.http.post(f"{CORE}/configmaps", json=whole | ({"data": data} if data else {})).raise_for_status()

    def put_event(self, kind: str, name: str, reason: str, ago: timedelta = timedelta(), count: int = 1) -> None:
        """Stores an event about an object of this kind and name."""
        at = f"{datetime.now(UTC) - ago:%Y-%m-%dT%H:%M:%SZ}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{reason.lower()}", "namespace": "default"},
            "involvedObject": {"kind": kind, "name": name, "namespace": "default"},
            **{"type": "Warning", "reason": reason, "message": f"{reason} of {name}", "count": count},
            **{"firstTimestamp": at, "lastTimestamp": at, "source": {"component": "test"}},
        }
        if isinstance(self.runtime, InMemoryRuntime):
            stored = {**event, "metadata": {**event["metadata"], "creationTimestamp": at}}  # type: ignore[dict-item]
            self.runtime.put_event("default", stored)
            return
        assert self.http is not None
        self.http.post(f"{CORE}/events", json=event).raise_for_status()

    def told_since(self, version: str) -> list[WatchEvent]:
        """All that was done to deployments of ours after this version."""
        assert self.http is not None
        http = self.http

        def make(name: str) -> None:
            kind = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment"}
            whole = {**kind, "metadata": {"name": name, "labels": {JOB_LABEL: name}}, "spec": {"flinkVersion": "v2_2"}}
            http.post(DEPLOYMENTS, json=whole).raise_for_status()
            http.delete(f"{DEPLOYMENTS}/{name}").raise_for_status()

        return told_since(version, self.runtime, make)

    def _log_place(self, pod: str, container: str) -> dict[str, Any]:
        return {"path": f"{self.folder}/{pod}-{container}.log", "start": 0, "previous": None}

    @contextmanager
    def status_writer(self, name: str, writes_a_second: float = 20.0) -> Iterator[Callable[[], int]]:
        """Writes the deployment's status as often as this, until the end; gives how often that was."""
        stopping, written = threading.Event(), [0]

        def write() -> None:
            while not stopping.wait(1 / writes_a_second):
                self.set_status(name, {"lifecycleState": "STABLE", "observedGeneration": written[0] + 1})
                written[0] += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield lambda: written[0]
        finally:
            stopping.set()
            thread.join(30)


@contextmanager
def cluster(kind: str, folder: Path) -> Iterator[Cluster]:
    """`memory`, `local`, or a real one: `real`, `oldest` with the oldest CRDs, `bare` without any. `native-` before one
    is the native runtime's; no JobManager answers there."""
    if kind == "memory":
        yield Cluster(InMemoryRuntime())
    elif kind == "native-memory":
        yield Cluster(InMemoryNativeRuntime())
    elif kind in REAL:
        with running_kube_apiserver(folder, REAL[kind]) as server, _client(server.url, server.token) as http:
            path, powerless = server.kubeconfig_path, server.powerless_kubeconfig_path
            runtime = _native(path) if kind.startswith("native-") else connect(path, REQUEST_SECONDS)
            yield Cluster(runtime, http, path, None, folder, powerless, server)
    else:
        with LocalKubernetesApi(folder, token=TOKEN) as local, _client(local.url, TOKEN) as http:
            path = folder / "kubeconfig"
            local.write_kubeconfig(path)
            runtime = _native(path) if kind.startswith("native-") else connect(path, REQUEST_SECONDS)
            yield Cluster(runtime, http, path, local, folder)


def _native(kubeconfig: Path) -> NativeRuntime:
    return connect_native(kubeconfig, REQUEST_SECONDS, ClusterRest(PlayedJobManager(is_up=False).send), None)


def _client(url: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False)
