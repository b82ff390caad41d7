"""A place for deployments, and a hand to play the operator's part there: in memory, small API, real API server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from headrace.adapters.kubernetes import connect
from headrace.ports import FlinkRuntime
from headrace.testing import InMemoryRuntime
from local.kubernetes_api import LocalKubernetesApi
from tests.kube_apiserver import running_kube_apiserver

DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
TOKEN = "a-token-for-tests"
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Cluster:
    """A runtime, and what stands behind it: an API server's client, or nothing but the runtime itself."""

    runtime: FlinkRuntime
    http: httpx.Client | None = None
    kubeconfig: Path | None = None
    local: LocalKubernetesApi | None = None

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Writes a deployment's whole status, as the operator does."""
        if self.http is None:
            assert isinstance(self.runtime, InMemoryRuntime)
            self.runtime.set_status("default", name, status)
            return
        content = {"status": dict(status)}
        headers = {"Content-Type": "application/merge-patch+json"}
        self.http.patch(f"{DEPLOYMENTS}/{name}/status", json=content, headers=headers).raise_for_status()

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
    """`memory`, `local` or `real`."""
    if kind == "memory":
        yield Cluster(InMemoryRuntime())
    elif kind == "real":
        with running_kube_apiserver(folder) as server, _client(server.url, server.token) as http:
            yield Cluster(connect(server.kubeconfig_path, TIMEOUT_SECONDS), http, server.kubeconfig_path)
    else:
        with LocalKubernetesApi(folder, token=TOKEN) as local, _client(local.url, TOKEN) as http:
            path = folder / "kubeconfig"
            local.write_kubeconfig(path)
            yield Cluster(connect(path, TIMEOUT_SECONDS), http, path, local)


def _client(url: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, verify=False, timeout=15, trust_env=False)
