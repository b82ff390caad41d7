"""What the operator needs of a Kubernetes API, small or real: bounded requests by a kubeconfig."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml
from loguru import logger

GROUP = "/apis/flink.apache.org/v1beta1"
TIMEOUT_SECONDS = 10.0
MERGE_PATCH = "application/merge-patch+json"

Resource = dict[str, Any]


class KubeError(Exception):
    """The API server did not answer, or answered with an error that is not a plain absence."""


def look_again_and_again(name: str, look: Callable[[], bool], is_stopping: threading.Event, seconds: float) -> None:
    """Until `look` says that there is nothing left to look at, or until told to stop; what the API server does not take
    now is tried at the next look."""
    while not is_stopping.is_set():
        try:
            if not look():
                return
        except KubeError as error:
            logger.warning("{}: {}", name, error)
        is_stopping.wait(seconds)


class Forbidden(KubeError):
    """The API server takes no such object: a quota is used up, or something else of the cluster's own forbids it. The
    words are its own."""


class Kube:
    """One namespace of one cluster. Safe to use from many threads."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"].get("token", "")
        authority = cluster.get("certificate-authority")
        self.namespace = namespace
        self.kubeconfig = kubeconfig.resolve()
        self._http = httpx.Client(
            base_url=cluster["server"],
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=authority) if authority else True,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_connections=200),
        )

    def close(self) -> None:
        """Ends its connections. Nothing may be asked after it."""
        self._http.close()

    def deployments(self) -> list[Resource]:
        """Every FlinkDeployment of the namespace."""
        items: list[Resource] = self._send("GET", f"{GROUP}/namespaces/{self.namespace}/flinkdeployments")["items"]
        return items

    def deployment(self, name: str) -> Resource | None:
        """One FlinkDeployment, or None."""
        found: Resource | None = self._send("GET", self._deployment(name), absent=True)
        return found

    def put_status(self, deployment: Resource, status: Mapping[str, Any]) -> None:
        """Replaces the status of this very object (its uid), whatever its version is by now."""
        name = deployment["metadata"]["name"]
        for _ in range(5):
            live = self.deployment(name)
            if live is None or live["metadata"]["uid"] != deployment["metadata"]["uid"]:
                return
            answer = self._request("PUT", f"{self._deployment(name)}/status", {**live, "status": status})
            if answer.status_code != 409:
                self._checked(answer)
                return
        raise KubeError(f"the status of {name} changes too often to be written")

    def set_finalizers(self, name: str, finalizers: list[str]) -> None:
        """Replaces the finalizers of a FlinkDeployment that may be gone by now."""
        self._merge(self._deployment(name), {"metadata": {"finalizers": finalizers}})

    def data_of(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        """A ConfigMap's or Secret's data, or None."""
        found = self._send("GET", f"/api/v1/namespaces/{self.namespace}/{kind}/{name}", absent=True)
        if found is None:
            return None
        plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
        coded = {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}
        return {**plain, **coded} if kind == "configmaps" else {k: base64.b64decode(text) for k, text in plain.items()}

    def pod(self, name: str) -> Resource | None:
        """One pod, or None."""
        found: Resource | None = self._send("GET", f"/api/v1/namespaces/{self.namespace}/pods/{name}", absent=True)
        return found

    def pods_of(self, app: str, component: str) -> list[Resource]:
        """The pods of an app's JobManagers or TaskManagers."""
        items: list[Resource] = self._send("GET", self._selecting("pods", f"app={app},component={component}"))["items"]
        return items

    def events_about(self, uid: str) -> list[Resource]:
        """The events about this very object."""
        query = f"events?fieldSelector={quote(f'involvedObject.uid={uid}', safe='')}"
        items: list[Resource] = self._send("GET", f"/api/v1/namespaces/{self.namespace}/{query}")["items"]
        return items

    def count_event(self, event: Resource) -> None:
        """Stores an event, or counts it once more where it is stored already."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        answer = self._request("POST", path, event)
        if answer.status_code != 409:
            self._checked(answer)
            return
        path = f"{path}/{event['metadata']['name']}"
        count = (self._send("GET", path, absent=True) or {}).get("count", 0) + 1
        self._merge(path, {"count": count, "lastTimestamp": event["lastTimestamp"]})

    def put_core(self, kind: str, body: Resource, status: Mapping[str, Any] | None = None) -> Resource:
        """Makes a pod or a service, or brings its metadata and status to this. The object as it was before the
        status."""
        path = f"/api/v1/namespaces/{self.namespace}/{kind}"
        name = body["metadata"]["name"]
        answer = self._request("POST", path, body)
        if answer.status_code == 409:
            answer = self._request("PATCH", f"{path}/{name}", {"metadata": body["metadata"]}, MERGE_PATCH)
        stored: Resource = self._checked(answer)
        if status is not None:
            self._merge(f"{path}/{name}/status", {"status": status})
        return stored

    def set_pod_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Merges this into the status of a pod that may be gone by now."""
        self._merge(f"/api/v1/namespaces/{self.namespace}/pods/{name}/status", {"status": status})

    def delete_core(self, kind: str, name: str) -> None:
        """Removes a pod, a service or a ConfigMap at once; absence is fine."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        answer = self._request("DELETE", f"/api/v1/namespaces/{self.namespace}/{kind}/{name}", body)
        if answer.status_code != 404:
            self._checked(answer)

    def pod_names(self, app: str) -> list[str]:
        """The names of the pods that carry this app's label."""
        return self._names("pods", f"app={app}")

    def forget_high_availability(self, app: str) -> None:
        """Removes what this app's JobManagers have left for the next one: it would go on with the job that is there."""
        for name in self._names("configmaps", f"app={app},type=flink-native-kubernetes"):
            self.delete_core("configmaps", name)

    def _names(self, kind: str, selector: str) -> list[str]:
        return [found["metadata"]["name"] for found in self._send("GET", self._selecting(kind, selector))["items"]]

    def _selecting(self, kind: str, selector: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}?labelSelector={quote(selector, safe='')}"

    def put_snapshot(self, body: Resource, status: Mapping[str, Any] | None = None) -> None:
        """Makes a FlinkStateSnapshot, with its status where one is given, unless there is one of its name."""
        answer = self._request("POST", self._snapshots(), body)
        if answer.status_code == 409:
            return
        created = self._checked(answer)
        if status is not None:
            path = f"{self._snapshots()}/{body['metadata']['name']}/status"
            self._checked(self._request("PUT", path, {**created, "status": status}))

    def snapshots_of(self, name: str) -> list[Resource]:
        """The FlinkStateSnapshots that are about this deployment."""
        items: list[Resource] = self._send("GET", self._snapshots())["items"]
        return [each for each in items if (each["spec"].get("jobReference") or {}).get("name") == name]

    def set_snapshot_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Merges this into the status of a FlinkStateSnapshot that may be gone by now."""
        self._merge(f"{self._snapshots()}/{name}/status", {"status": status})

    def _snapshots(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/flinkstatesnapshots"

    def _deployment(self, name: str) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/flinkdeployments/{name}"

    def _merge(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._request("PATCH", path, body, MERGE_PATCH)
        if answer.status_code != 404:
            self._checked(answer)

    def _send(self, method: str, path: str, absent: bool = False) -> Any:
        answer = self._request(method, path)
        return None if absent and answer.status_code == 404 else self._checked(answer)

    def _request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> httpx.Response:
        content = json.dumps(body).encode() if body is not None else None
        try:
            return self._http.request(method, path, content=content, headers={"Content-Type": content_type})
        except httpx.HTTPError as error:
            raise KubeError(f"{method} {path}: {error!r}") from error

    def _checked(self, answer: httpx.Response) -> Any:
        if answer.status_code == 403:
            raise Forbidden(answer.json().get("message", answer.text))
        if not answer.is_success:
            raise KubeError(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
            )
        return answer.json()
