"""A Kubernetes API and the local operator, and nothing of Headrace beside them: all that shows is the operator's.

The API is watched from before the first write, so every version of every deployment and snapshot is kept.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from local.kubernetes_api import LocalKubernetesApi
from tests.support import servers
from tests.support.kube_apiserver import running_kube_apiserver
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import DEPLOYMENTS, ROOT
from tests.support.watched import WatchedCollection, by_object

SNAPSHOTS = DEPLOYMENTS.replace("flinkdeployments", "flinkstatesnapshots")
CORE = "/api/v1/namespaces/default"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
STOP_SECONDS = 60.0

Resource = dict[str, Any]


class Api:
    """A Kubernetes API, small or real, with every version of what the operator looks after since it was started."""

    def __init__(self, url: str, token: str, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False)
        self._deployments, self._snapshots = (WatchedCollection(self._http, path) for path in (DEPLOYMENTS, SNAPSHOTS))

    def close(self) -> None:
        self._deployments.close()
        self._snapshots.close()
        self._http.close()

    def get(self, path: str) -> Resource:
        answer = self._http.get(path)
        answer.raise_for_status()
        return dict(answer.json())

    def create(self, path: str, body: Resource, *, may_exist: bool = False) -> None:
        answer = self._http.post(f"{path}?fieldValidation=Strict", json=body)
        assert answer.status_code == 201 or (may_exist and answer.status_code == 409), answer.text

    def patch_job(self, name: str, **changes: Any) -> None:
        self.patch_spec(name, job=changes)

    def patch_spec(self, name: str, **changes: Any) -> None:
        body = json.dumps({"spec": changes})
        answer = self._http.patch(f"{DEPLOYMENTS}/{name}", content=body, headers=MERGE_PATCH)
        assert answer.is_success, answer.text

    def delete(self, name: str) -> None:
        answer = self._http.delete(f"{DEPLOYMENTS}/{name}")
        assert answer.is_success, answer.text

    def patch_at(self, path: str, body: Resource) -> None:
        """A merge patch of any object."""
        answer = self._http.patch(path, content=json.dumps(body), headers=MERGE_PATCH)
        assert answer.is_success, answer.text

    def delete_at(self, path: str) -> None:
        """Deletes any object."""
        answer = self._http.delete(path)
        assert answer.is_success, answer.text

    def exists(self, name: str) -> bool:
        return self._http.get(f"{DEPLOYMENTS}/{name}").status_code != 404

    def pods(self, name: str) -> list[Resource]:
        return list(self.get(f"{CORE}/pods?labelSelector=app%3D{name}")["items"])

    def events(self, name: str) -> list[Resource]:
        """The events about objects of this name."""
        return list(self.get(f"{CORE}/events?fieldSelector=involvedObject.name%3D{name}")["items"])

    def log(self, pod: str, **query: str) -> str | None:
        """What a pod printed; None where no kubelet is there to say it."""
        answer = self._http.get(f"{CORE}/pods/{pod}/log", params=query)
        assert answer.status_code in (200, 204), answer.text
        return answer.text if answer.status_code == 200 else None

    def versions(self, name: str, run: int = 0) -> list[Resource]:
        """Every version of the run-th deployment of this name that there was up to now."""
        return _of(self._deployments.versions(), name, run)

    def versions_so_far(self, name: str, run: int = 0) -> list[Resource]:
        """Those that were told by now: for who waits for one that has to come."""
        return _of(self._deployments.so_far(), name, run)

    def snapshots(self, name: str) -> list[Resource]:
        """The newest version of each snapshot of this deployment, oldest snapshot first."""
        of_it = [s for s in self._snapshots.versions() if s["spec"]["jobReference"]["name"] == name]
        return list({each["metadata"]["name"]: each for each in of_it}.values())


def _of(versions: Iterable[Resource], name: str, run: int) -> list[Resource]:
    return [*by_object(versions, name), *([[]] * (run + 1))][run]


@contextmanager
def running_api(kind: str, folder: Path) -> Iterator[Api]:
    """The `small` API in this process, or the `real` one with its etcd."""
    folder.mkdir()
    if kind == "real":
        with running_kube_apiserver(folder) as server:
            yield from _watched(Api(server.url, server.token, server.kubeconfig_path))
        return
    with LocalKubernetesApi(folder, token="token") as local:
        local.write_kubeconfig(folder / "kubeconfig")
        yield from _watched(Api(local.url, "token", folder / "kubeconfig"))


def _watched(api: Api) -> Iterator[Api]:
    try:
        yield api
    finally:
        api.close()


@contextmanager
def running_operator(api: Api, data: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The operator's process. At the end it is told to stop and has to, with all that it started."""
    argv = [sys.executable, "-m", "local.flink_operator", "--kubeconfig", str(api.kubeconfig)]
    argv += ["--namespace", "default", "--data-dir", str(data)]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


@contextmanager
def frozen_now_and_then(pid: int, chance: random.Random) -> Iterator[None]:
    """SIGSTOP and SIGCONT for a process at moments drawn by chance, until the end of the block."""
    is_over = threading.Event()

    def freeze() -> None:
        while not is_over.wait(chance.uniform(1, 12)):
            with servers.frozen(pid):
                is_over.wait(chance.uniform(0.2, 3))

    thread = threading.Thread(target=freeze, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()  # or it would strike whoever has this pid then; what it waits for ends


def await_status(api: Api, name: str, is_there: Callable[[Resource], Any], what: str, run: int = 0) -> Resource:
    """The first version of a deployment whose status is like that; fails where none comes."""

    def found() -> Resource | None:
        return next((v for v in api.versions_so_far(name, run) if is_there(v.get("status") or {})), None)

    version: Resource = wait_for(f"{name} to be {what}", found, 120)
    return version
