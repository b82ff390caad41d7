"""What a kubelet and the controllers beside it ask of the API: Deployments, pods, and what belongs to a Deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from local.flink_operator.kube import Kube, Resource

DEPLOYMENTS = "/apis/apps/v1"
NATIVE = "type=flink-native-kubernetes"
_TYPES: Mapping[str, Resource] = {
    "pods": {"apiVersion": "v1", "kind": "Pod"},
    "services": {"apiVersion": "v1", "kind": "Service"},
    "configmaps": {"apiVersion": "v1", "kind": "ConfigMap"},
    "secrets": {"apiVersion": "v1", "kind": "Secret"},
}
"""A real API's lists do not say it of each object."""

COLLECTED = tuple(_TYPES)
"""Kinds of what may belong to a Deployment here."""

RUNS = "local.headrace.io/runs"
"""The finalizer of a pod that has processes here: an API without nodes would forget it at once."""


class Objects(Kube):
    """One namespace of one cluster. Every call may raise KubeError. Safe to use from many threads."""

    def native_deployments(self) -> list[Resource]:
        """The Deployments of JobManagers."""
        query = f"deployments?labelSelector={NATIVE.replace('=', '%3D')}%2Ccomponent%3Djobmanager"
        items: list[Resource] = self._send("GET", f"{DEPLOYMENTS}/namespaces/{self.namespace}/{query}")["items"]
        return items

    def uids_of_deployments(self) -> set[str]:
        """Of every Deployment, native mode's and others."""
        items = self._send("GET", f"{DEPLOYMENTS}/namespaces/{self.namespace}/deployments")["items"]
        return {str(each["metadata"]["uid"]) for each in items}

    def native_deployment(self, name: str) -> Resource | None:
        """One Deployment, or None."""
        found: Resource | None = self._send("GET", self._apps(name), absent=True)
        return found

    def set_deployment_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Merges this into the status of a Deployment that may be gone by now."""
        self._merge(f"{self._apps(name)}/status", {"status": status})

    def release_deployment(self, name: str, finalizers: list[str]) -> None:
        """Leaves these alone to hold a Deployment that is being deleted and may be gone by now."""
        self._merge(self._apps(name), {"metadata": {"finalizers": finalizers}})

    def owned(self, kind: str, app: str, uid: str) -> list[Resource]:
        """The objects of a kind that carry this app's label, and belong to the Deployment of this uid."""
        items = self._send("GET", self._selecting(kind, f"app={app},{NATIVE}"))["items"]
        return [{**_TYPES[kind], **each} for each in items if owner_of(each) == uid]

    def dependents(self) -> Iterator[tuple[str, Resource, str]]:
        """Whatever belongs to a Deployment, with its kind and the Deployment's uid."""
        for kind in COLLECTED:
            for each in self._send("GET", f"/api/v1/namespaces/{self.namespace}/{kind}")["items"]:
                if (uid := owner_of(each)) is not None:
                    yield kind, {**_TYPES[kind], **each}, uid

    def create_pod(self, body: Resource) -> Resource:
        """Makes a pod. Raises Forbidden where the API takes none."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        created: Resource = self._checked(self._request("POST", path, body))
        return created

    def hold(self, pod: Resource) -> None:
        """From now on this very pod is there until it is removed, whoever deletes it: as long as it runs."""
        others = [each for each in pod["metadata"].get("finalizers") or [] if each != RUNS]
        self._merge(self._core("pods", pod), {"metadata": {**_identity(pod), "finalizers": [*others, RUNS]}})

    def remove(self, kind: str, resource: Resource) -> None:
        """Deletes this very object, which may be gone by now, and lets it go."""
        self.delete_core(kind, resource["metadata"]["name"])
        finalizers = resource["metadata"].get("finalizers") or []
        if RUNS in finalizers:
            left = [each for each in finalizers if each != RUNS]
            self._merge(self._core(kind, resource), {"metadata": {**_identity(resource), "finalizers": left}})

    def annotate(self, kind: str, resource: Resource, annotations: Mapping[str, str]) -> None:
        """Merges these into the annotations of this very pod or service, which may be gone by now."""
        self._merge(self._core(kind, resource), {"metadata": {**_identity(resource), "annotations": annotations}})

    def show_pod(self, pod: Resource, status: Mapping[str, Any]) -> None:
        """Merges this into the status of this very pod, which may be gone by now."""
        self._merge(f"{self._core('pods', pod)}/status", {"metadata": _identity(pod), "status": status})

    def _core(self, kind: str, resource: Resource) -> str:
        return f"/api/v1/namespaces/{self.namespace}/{kind}/{resource['metadata']['name']}"

    def _apps(self, name: str) -> str:
        return f"{DEPLOYMENTS}/namespaces/{self.namespace}/deployments/{name}"


def owner_of(resource: Resource) -> str | None:
    """The uid of the Deployment that it belongs to, or None."""
    owners = resource["metadata"].get("ownerReferences") or []
    return next((str(each["uid"]) for each in owners if each["kind"] == "Deployment"), None)


def _identity(resource: Resource) -> Resource:
    """What makes a patch fail where another object has the name by now."""
    return {"uid": resource["metadata"]["uid"]}
