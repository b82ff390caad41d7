"""What a Kubernetes API lets accounts do, once it goes by all that it was told."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from tests.support.patience import wait_for

GROUP = "rbac.authorization.k8s.io"
PLACES = {"": f"/apis/{GROUP}/v1/namespaces/default/", "Cluster": f"/apis/{GROUP}/v1/cluster"}


def await_rights(http: httpx.Client) -> None:
    """Returns once the server judges by every Role and binding that there is now, those of the whole cluster included.

    It hears of them as its clients do, by a watch of each kind, and may be asked before it has. What is written last is
    heard last: so a right of nobody's is given, awaited, and taken away again.
    """
    name = f"seen-{uuid.uuid4().hex[:10]}"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}
    for kind, place in PLACES.items():
        ref = {"apiGroup": GROUP, "kind": f"{kind}Role", "name": name}
        subject = {"apiGroup": GROUP, "kind": "User", "name": f"{kind}{name}"}
        metadata = {"metadata": {"name": name}}
        http.post(f"{place}roles", json={**metadata, "rules": [rule]}).raise_for_status()
        http.post(f"{place}rolebindings", json={**metadata, "roleRef": ref, "subjects": [subject]}).raise_for_status()
    for kind, place in PLACES.items():
        wait_for("rights to be known", lambda kind=kind: _may(http, f"{kind}{name}", name))
        for what in ("rolebindings", "roles"):
            http.delete(f"{place}{what}/{name}").raise_for_status()


def _may(http: httpx.Client, user: str, name: str) -> bool:
    asked: dict[str, Any] = {"namespace": "default", "resource": "configmaps", "name": name, "verb": "get"}
    body = {"spec": {"user": user, "resourceAttributes": asked}}
    answer = http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=body).raise_for_status()
    return bool(answer.json()["status"]["allowed"])
