"""What the controllers of a whole cluster would come to say, for an API server that has none: a Deployment is rolled
out and a Job is done as soon as it is there. It starts no pod; a test that makes some itself holds their Deployment
back."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.support.kube_apiserver import KubeServer
from tests.support.patience import REQUEST_SECONDS

KINDS = {"apps/v1": ("deployments", "statefulsets"), "batch/v1": ("jobs",)}


@contextmanager
def controllers(server: KubeServer, held: Collection[str] = ()) -> Iterator[None]:
    """For as long as the block lasts. The Deployments in `held` are seen, and not rolled out while they are in it."""
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(server, over, held), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def client(server: KubeServer) -> httpx.Client:
    """The administrator's."""
    headers = {"Authorization": f"Bearer {server.token}"}
    return httpx.Client(base_url=server.url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False)


def _run(server: KubeServer, over: threading.Event, held: Collection[str]) -> None:
    with client(server) as http:
        while not over.wait(0.5):
            with suppress(httpx.HTTPError):
                _say_all(http, held)


def _say_all(http: httpx.Client, held: Collection[str]) -> None:
    for group, names in KINDS.items():
        for name in names:
            for each in http.get(f"/apis/{group}/{name}").raise_for_status().json()["items"]:
                place = f"/apis/{group}/namespaces/{each['metadata']['namespace']}/{name}/{each['metadata']['name']}"
                said = _done() if name == "jobs" else _rolled_out(each, each["metadata"]["name"] in held)
                if not each["status"].items() >= said.items() and not each["status"].get("completionTime"):
                    http.put(f"{place}/status", json={**each, "status": said})


def _done() -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = [{"type": kind, "status": "True"} for kind in ("SuccessCriteriaMet", "Complete")]
    return {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": told}


def _rolled_out(each: dict[str, Any], held: bool) -> dict[str, Any]:
    names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    counts = dict.fromkeys(names[:1] if held else names, each["spec"]["replicas"])
    return {"observedGeneration": each["metadata"]["generation"], **counts}
