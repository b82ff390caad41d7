"""Somebody with kubectl, and a watch that sees every version of every deployment. Both go straight to the API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from headrace.domain.deployments import JOB_LABEL
from headrace.domain.runtimes.native.cluster import as_flink_deployment
from tests.processes.history import Touch, Version
from tests.processes.schedule import MAKES
from tests.support.patience import REQUEST_SECONDS
from tests.support.watched import Told, WatchedCollection

NATIVE_DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
OF_THE_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "deletionTimestamp")
GONE_SECONDS = 20.0


OF_NATIVE = ("hand relabels", "hand deletes")
"""What is done to a Deployment too: what is wanted of it stands in a text that nobody edits."""


class Hands:
    """What people do to deployments by hand. `saw` is handed each version that there was; `theirs` is the deployment
    that they make under a name."""

    def __init__(
        self, kubeconfig: Path, saw: Callable[[Version], None], theirs: Callable[[str, int], Mapping[str, Any]]
    ) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False)
        self._saw = saw
        self._theirs = theirs
        folders = (DEPLOYMENTS, NATIVE_DEPLOYMENTS)
        self._watched = [WatchedCollection(self._http, folder, self._sees) for folder in folders]

    def close(self) -> None:
        """It sees nothing any more."""
        for collection in self._watched:
            collection.close()
        self._http.close()

    def have_seen_all(self) -> None:
        """Waits until each version that there was up to now was handed over."""
        for collection in self._watched:
            collection.versions()

    def live(self, name: str) -> dict[str, Any] | None:
        """A deployment as it is, by whichever runtime."""
        for folder in (DEPLOYMENTS, NATIVE_DEPLOYMENTS):
            answer = self._http.get(f"{folder}/{name}")
            if answer.status_code == 200:
                return _shown(answer.json())
        return None

    def touches(self, what: str, name: str, value: int) -> Touch | None:
        """Lays hands on a deployment, and says what was done; None where there was nothing to do it to, be it that
        another one stood in its place by then."""
        begun, live = time.time(), self.live(name)
        if what == MAKES:
            made = self._made(self._theirs(name, value)) if live is None else ""
            return Touch(begun, time.time(), what, name, made=made) if made else None
        if live is None or "deletionTimestamp" in live["metadata"]:
            return None
        if is_native(live) and what not in OF_NATIVE:
            return None
        touch = Touch(begun, begun, what, name, live["metadata"]["uid"])
        done: Touch | None = touch
        match what:
            case "hand edits":
                done = self._edits(touch, value, live["metadata"]["generation"])
            case "hand relabels":
                self._patched(name, {"metadata": {"labels": {JOB_LABEL: None}}}, _folder_of(live))
            case "hand deletes":
                done = touch if self._deleted(live) else None
            case "hand restores":
                done = self._restores(touch, live)
        return replace(done, until=time.time()) if done is not None else None

    def deletes(self, name: str) -> None:
        """It goes once the operator lets it; a native one at once."""
        for folder in (DEPLOYMENTS, NATIVE_DEPLOYMENTS):
            self._http.delete(f"{folder}/{name}")

    def _edits(self, touch: Touch, value: int, before: int) -> Touch:
        """Another parallelism; the one that it has is no generation of its own."""
        told = self._patched(touch.job_id, {"spec": {"job": {"parallelism": value % 5 + 1}}}).get("metadata") or {}
        after = told.get("generation", before)
        return replace(touch, uid=told.get("uid", ""), generation=after if after != before else 0)

    def _deleted(self, live: Mapping[str, Any]) -> bool:
        """Whether it was this very one that was there to be deleted."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": live["metadata"]["uid"]}}
        path = f"{_folder_of(live)}/{live['metadata']['name']}"
        return self._http.request("DELETE", path, json=body).is_success

    def _restores(self, touch: Touch, live: Mapping[str, Any]) -> Touch | None:
        """It is deleted, and made again from what a backup has: another uid, and no status."""
        name = touch.job_id
        if not self._deleted(live):
            return None
        until = time.monotonic() + GONE_SECONDS
        while self.live(name) is not None and time.monotonic() < until:
            time.sleep(0.1)
        kept = {k: v for k, v in live["metadata"].items() if k not in (*OF_THE_SERVER, "finalizers")}
        return replace(touch, made=self._made({**live, "metadata": kept, "status": None}))

    def _made(self, whole: Mapping[str, Any]) -> str:
        """The uid of the one that was made; empty where the name is taken."""
        answer = self._http.post(DEPLOYMENTS, json=whole)
        return str(answer.json()["metadata"]["uid"]) if answer.status_code == 201 else ""

    def _patched(self, name: str, body: Mapping[str, Any], folder: str = DEPLOYMENTS) -> Mapping[str, Any]:
        answer = self._http.patch(f"{folder}/{name}", content=json.dumps(body), headers=MERGE_PATCH)
        return dict(answer.json())

    def _sees(self, told: Told) -> None:
        self._saw(Version(time.time(), told.was_deleted, _shown(told.object)))


def is_native(whole: Mapping[str, Any]) -> bool:
    """Whether it is a Deployment, shown as a FlinkDeployment."""
    return "native" in whole


def _folder_of(whole: Mapping[str, Any]) -> str:
    return NATIVE_DEPLOYMENTS if is_native(whole) else DEPLOYMENTS


def _shown(whole: Mapping[str, Any]) -> dict[str, Any]:
    """A FlinkDeployment as it is, and a Deployment as one, marked as such."""
    if not str(whole.get("apiVersion", "")).startswith("apps/") and whole.get("kind") != "Deployment":
        return dict(whole)
    return {**as_flink_deployment(whole, None), "native": True}
