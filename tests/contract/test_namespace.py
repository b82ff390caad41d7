"""The namespace that docs/security.md asks for, on a real API server: jobs' pods fit into it and no others, and
Headrace's account may do there what Headrace does, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headrace.adapters.kubernetes import connect
from headrace.domain.diff import Change
from headrace.errors import Refused
from headrace.ports import Fence
from local.kube_apiserver import write_kubeconfig
from tests.support.kube_apiserver import KubeServer, running_kube_apiserver
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.rights import await_rights

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "data" / "golden").glob("*.yaml"))
NAMESPACE = "flink-jobs"
QUOTA_UNKNOWN = "status unknown for quota"
SIZES = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
MAIN = {"name": "c", "image": "i", "resources": SIZES}
A_POD = {"metadata": {"name": "p"}, "spec": {"serviceAccountName": "flink", "containers": [MAIN]}}
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "ResourceQuota": f"/api/v1/namespaces/{NAMESPACE}/resourcequotas",
    "LimitRange": f"/api/v1/namespaces/{NAMESPACE}/limitranges",
    "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles",
}


@dataclass(frozen=True)
class Prepared:
    """The cluster with that namespace in it, and the kubeconfig of Headrace's account."""

    http: httpx.Client
    kubeconfig: Path
    token: str

    def asked(self, what: str, body: dict[str, Any], namespace: str = NAMESPACE) -> httpx.Response:
        """The server's word on making this there; it is not made."""
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        return self.http.post(f"{PATHS['Namespace']}/{namespace}/{what}", params=query, json=body)


def described() -> list[dict[str, Any]]:
    """What the page has in YAML of a namespace."""
    blocks = (ROOT / "docs" / "security.md").read_text().split("```yaml\n")[1:]
    (of_namespace,) = [each.partition("```")[0] for each in blocks if "kind: Namespace\n" in each.partition("```")[0]]
    return list(yaml.safe_load_all(of_namespace))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("namespace")
    with running_kube_apiserver(folder) as server, admin(server) as http:
        for each in described():
            http.post(PATHS[each["kind"]], params={"fieldValidation": "Strict"}, json=each).raise_for_status()
        for account in ("flink", "headrace"):
            http.post(f"{PATHS['Namespace']}/{NAMESPACE}/serviceaccounts", json={"metadata": {"name": account}})
        counted(http)
        bound(http)
        await_rights(http)
        asked: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"{PATHS['Namespace']}/{NAMESPACE}/serviceaccounts/headrace/token"
        token = http.post(path, json=asked).raise_for_status().json()["status"]["token"]
        write_kubeconfig(folder / "of-headrace", server.url, token, server.ca_path)
        made = Prepared(http, folder / "of-headrace", token)
        wait_for("the quota to be known as counted", lambda: QUOTA_UNKNOWN not in made.asked("pods", A_POD).text)
        yield made


def admin(server: KubeServer) -> httpx.Client:
    headers = {"Authorization": f"Bearer {server.token}"}
    return httpx.Client(base_url=server.url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False)


def counted(http: httpx.Client) -> None:
    """What a controller does on a whole cluster: without it the quota refuses everything, as it does until the server
    that admits pods has heard of it."""
    quota = http.get(f"{PATHS['ResourceQuota']}/jobs").json()
    hard = quota["spec"]["hard"]
    whole = {**quota, "status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}
    http.put(f"{PATHS['ResourceQuota']}/jobs/status", json=whole).raise_for_status()


def bound(http: httpx.Client) -> None:
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    subject = {"kind": "ServiceAccount", "name": "headrace", "namespace": NAMESPACE}
    role = {**group, "kind": "Role", "name": "headrace"}
    body = {"metadata": {"name": "headrace"}, "roleRef": role, "subjects": [subject]}
    http.post(PATHS["Role"].replace("/roles", "/rolebindings"), json=body).raise_for_status()


def pods_of(file: Path) -> Iterator[dict[str, Any]]:
    """The JobManager's pod and a TaskManager's, as Flink makes them of a manifest, but for their commands."""
    spec = yaml.safe_load(file.read_text())["spec"]
    for part in ("jobManager", "taskManager"):
        own = spec[part].get("podTemplate", {"spec": {}})["spec"]
        pod = {**spec["podTemplate"]["spec"], **own, "serviceAccountName": "flink"}
        size = {"cpu": str(spec[part]["resource"]["cpu"]), "memory": "1Gi"}
        main = {**spec["podTemplate"]["spec"]["containers"][0], **own.get("containers", [{}])[0]}
        main |= {"image": spec["image"], "resources": {"requests": size, "limits": size}}
        yield {"metadata": {"name": f"{file.stem}-{part.lower()}"}, "spec": {**pod, "containers": [main]}}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_namespace_takes_every_pod_but_one_with_a_folder_of_its_node(prepared: Prepared, file: Path) -> None:
    is_on_a_node = "hostPath" in file.read_text()
    for pod in pods_of(file):
        answer = prepared.asked("pods", pod)
        assert answer.status_code == (403 if is_on_a_node else 201), answer.text
        assert not is_on_a_node or 'violates PodSecurity "baseline' in answer.json()["message"]


def test_a_stricter_level_would_refuse_flinks_pods(prepared: Prepared) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    prepared.http.post(PATHS["Namespace"], json={"metadata": {"name": "strict", "labels": labels}}).raise_for_status()
    account = {"metadata": {"name": "flink"}}
    prepared.http.post(f"{PATHS['Namespace']}/strict/serviceaccounts", json=account).raise_for_status()
    answers = [prepared.asked("pods", pod, "strict") for pod in pods_of(GOLDEN[0])]
    assert {each.status_code for each in answers} == {403}
    assert all("capabilities" in each.json()["message"] for each in answers)


MIGHTY = {"capabilities": {"add": ["SYS_ADMIN"]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hostNetwork": True}, "violates PodSecurity"),
        ({"hostPID": True}, "violates PodSecurity"),
        (
            {"containers": [{**MAIN, "securityContext": MIGHTY}]},
            "violates PodSecurity",
        ),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "violates PodSecurity"),
        ({"containers": [{**MAIN, "resources": {"requests": {"cpu": "41"}}}]}, "exceeded quota"),
    ],
)
def test_what_a_program_would_make_there_with_flinks_account_is_bounded_too(
    prepared: Prepared, change: dict[str, Any], words: str
) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"serviceAccountName": "flink", "containers": [MAIN], **change}}
    answer = prepared.asked("pods", pod)
    assert answer.status_code == 403
    assert words in answer.json()["message"]


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_no_service_of_the_namespace_leads_in_from_outside(prepared: Prepared, kind: str) -> None:
    service = {"metadata": {"name": "rest"}, "spec": {"type": kind, "ports": [{"port": 8081}]}}
    answer = prepared.asked("services", service)
    assert answer.status_code == 403
    assert "exceeded quota" in answer.json()["message"]


def test_headraces_account_may_do_what_headrace_does(prepared: Prepared) -> None:
    runtime = connect(prepared.kubeconfig, REQUEST_SECONDS)
    manifest = yaml.safe_load((ROOT / "tests" / "data" / "golden" / "file.yaml").read_text())
    manifest["metadata"]["namespace"] = NAMESPACE
    name = manifest["metadata"]["name"]
    made = runtime.create(manifest)
    assert made is not None
    fence = Fence(made.metadata.uid, int(manifest["metadata"]["annotations"]["headrace.io/sequence"]))
    assert runtime.patch(NAMESPACE, name, fence, [Change(("spec", "job", "parallelism"), 2)]) is not None
    for _ in range(2):  # the second writes it anew
        runtime.put_files(made, f"{name}-files", {"a.py": "1"}, {})
        runtime.put_secret(made, f"{name}-env", {"A": "1"}, {})
    assert [page.deployments[0].metadata.name for page in runtime.list_pages(NAMESPACE)] == [name]
    list(runtime.watch(NAMESPACE, made.metadata.resource_version, 1))
    assert runtime.pods(NAMESPACE, name, {}) == []
    assert runtime.events(NAMESPACE, name) == runtime.pod_events(NAMESPACE, "none") == []
    assert runtime.logs(NAMESPACE, "none", "main") is None
    assert runtime.ha_metadata(NAMESPACE, name, "f" * 32) is None
    assert runtime.flink_versions() == ()
    assert runtime.delete(NAMESPACE, name, made.metadata.uid)


def test_headraces_account_may_do_no_more(prepared: Prepared) -> None:
    runtime = connect(prepared.kubeconfig, REQUEST_SECONDS)
    with pytest.raises(Refused, match="forbidden"):
        runtime.pods("default", "orders", {})
    headers, url = {"Authorization": f"Bearer {prepared.token}"}, str(prepared.http.base_url)
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [MAIN]}}
    with httpx.Client(base_url=url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False) as http:
        here = f"/api/v1/namespaces/{NAMESPACE}"
        asked = [http.get(f"{here}/{what}") for what in ("secrets", "secrets/orders-env", "configmaps", "services")]
        asked += [http.post(f"{here}/pods", json=pod), http.get("/api/v1/nodes"), http.get("/api/v1/secrets")]
    assert {each.status_code for each in asked} == {403}
