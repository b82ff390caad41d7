"""The scripts of k8s-deploy on a real API server: what each refuses, in words that mend it, and that it changes nothing
then; and how it goes where all is there."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.process import free_port
from tests.support.controllers import client, controllers
from tests.support.kube_apiserver import KubeServer, running_kube_apiserver
from tests.support.kubectl import DEPLOY, ROOT, Kubectl, kubectl_path, kustomized
from tests.support.patience import wait_for

SERVICES = {
    "deploy-http-grpc-service.sh": ["api"],
    "deploy-worker-service.sh": ["worker", "sync"],
    "deploy-beat-service.sh": ["beat"],
    "deploy-consumer-service.sh": ["consumer"],
}
NAMESPACE, JOBS = "headrace-team-b", "flink-team-b"
REVISION = "deployment.kubernetes.io/revision"
OVERLAY = ("--overlay", "team-b", "--image", "registry.example.com/team/headrace:7")
URLS = {
    "HEADRACE_MONGODB_URL": "mongodb://user:pass%20word@mongodb:27017/?directConnection=true",
    "HEADRACE_REDIS_URL": "redis://:secret=word==@redis:6379/1",
}


def run(kubectl: Kubectl, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [str(DEPLOY / script), *arguments]
    environment = {**kubectl.env, **env}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False, cwd="/")


def refused(kubectl: Kubectl, *words: str, env: dict[str, str] | None = None, **given: Any) -> str:
    script, *arguments = words
    done = run(kubectl, script, *arguments, **(env or {}))
    assert done.returncode == 1, done.stdout
    assert done.stdout == "" or given
    return done.stderr


def everything(kubectl: Kubectl) -> dict[str, str]:
    """The version of each object that a script could have changed."""
    return kubectl.versions(
        "namespaces,configmaps,secrets,serviceaccounts,services,deployments,jobs,roles,rolebindings"
    )


@pytest.fixture(scope="module")
def kube_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One of its own: what has been applied elsewhere would not be missing here."""
    with running_kube_apiserver(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="module")
def kubectl(kube_server: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(kube_server.kubeconfig_path, tmp_path_factory.mktemp("home"))


@pytest.fixture
def nobody(tmp_path: Path) -> Kubectl:
    """A user of this machine who has no cluster."""
    kubectl_path()
    return Kubectl(tmp_path / "none", tmp_path)


def kubeconfig(folder: Path, of: KubeServer, **changed: str) -> Path:
    """The administrator's, with another server or another token."""
    config = yaml.safe_load(of.kubeconfig_path.read_text())
    config["clusters"][0]["cluster"]["server"] = changed.get("server", of.url)
    config["users"][0]["user"]["token"] = changed.get("token", of.token)
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize("script", [*SERVICES, "deploy-all.sh", "make-secrets.sh"])
def test_no_kubeconfig_is_said_with_the_places_where_one_is_looked_for(nobody: Kubectl, script: str) -> None:
    assert "KUBECONFIG names" in refused(nobody, script)
    words = refused(nobody, script, env={"KUBECONFIG": ""})
    assert "there is no kubeconfig: say --kubeconfig FILE, set KUBECONFIG" in words
    assert "/nope: there is no such file" in refused(nobody, script, "--kubeconfig", "/nope")


def test_a_kubeconfig_beside_the_scripts_is_found_and_a_kustomization_is_none(nobody: Kubectl, tmp_path: Path) -> None:
    """On a copy of the folder, since what lies in the checkout's is its owner's."""
    copy = tmp_path / "k8s-deploy"
    subprocess.run(["cp", "-r", str(DEPLOY), str(copy)], check=True)
    (copy / "kustomization.yaml").write_text("kind: Kustomization\nresources: [base]\n")
    found = ["bash", "-c", f". {copy}/lib.sh; kubeconfigs_here"]
    assert subprocess.run(found, capture_output=True, text=True, check=True).stdout == ""
    away = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "k", "cluster": {"server": "https://k"}}]}
    (copy / "team.yaml").write_text(yaml.safe_dump(away))
    assert subprocess.run(found, capture_output=True, text=True, check=True).stdout == f"{copy}/team.yaml\n"
    (copy / "other.yaml").write_text(yaml.safe_dump(away))
    argv = [str(copy / "deploy-beat-service.sh")]
    env = {**nobody.env, "KUBECONFIG": ""}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert "several kubeconfigs, so say --kubeconfig" in done.stderr
    ignored = subprocess.run(
        ["git", "check-ignore", "k8s-deploy/team.yaml"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode == 0
    kept = subprocess.run(["git", "check-ignore", "-q", "k8s-deploy/base/kustomization.yaml"], cwd=ROOT, check=False)
    assert kept.returncode == 1


def test_k3s_file_copied_as_it_is_is_refused_with_the_remedy(
    nobody: Kubectl, kube_server: KubeServer, tmp_path: Path
) -> None:
    port = free_port()
    for host in ("127.0.0.1", "localhost", "[::1]"):
        file = kubeconfig(tmp_path, kube_server, server=f"https://{host}:{port}")
        words = refused(nobody, "deploy-all.sh", "--kubeconfig", str(file))
        assert f"sed -i 's#{host}:{port}#ADDRESS:{port}#' {file}" in words
        assert "--tls-san ADDRESS" in words


def test_a_cluster_that_does_not_answer_and_one_that_does_not_know_us(
    nobody: Kubectl, kube_server: KubeServer, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, kube_server, token="of-somebody-else")
    assert "does not know who" in refused(nobody, "deploy-all.sh", "--kubeconfig", str(file))
    file = kubeconfig(tmp_path, kube_server, server="https://192.0.2.1:6443")
    assert "https://192.0.2.1:6443 does not answer" in refused(nobody, "deploy-all.sh", "--kubeconfig", str(file))
    file.write_text("kind: Config\nclusters: [\n")
    assert "cannot be used" in refused(nobody, "deploy-all.sh", "--kubeconfig", str(file))


def test_options_that_cannot_be_meant(nobody: Kubectl) -> None:
    for words, said in (
        (("--overlay", "nope"), "there is no overlay nope: there are dev k3s production team-b"),
        (("--flink", "nope"), "there is no Flink namespace nope: there are flink-jobs flink-team-b"),
        (("--image", "r/headrace"), "--image r/headrace has no tag"),
        (("--image", "r/headrace:1", "--tag", "2"), "has a tag already"),
        (("--timeout", "soon"), "--timeout is a number of seconds"),
        (("--wait",), "there is no option --wait"),
        (("--image",), "--image needs a value"),
    ):
        assert said in refused(nobody, "deploy-all.sh", *words)


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("newName: r.example.com:5000/team/headrace\n    newTag: 0.1.0", "r.example.com:5000/team/headrace:9"),
        (
            f"newName: r.example.com:5000/team/headrace\n    digest: sha256:{'a' * 64}",
            "r.example.com:5000/team/headrace:9",
        ),
        ("newName: r.example.com/team/control\n    newTag: 0.1.0", ""),
    ],
)
def test_another_tag_is_put_on_the_overlays_image_or_refused_with_the_remedy(
    nobody: Kubectl, tmp_path: Path, written: str, image: str
) -> None:
    """On a copy of the folder."""
    copy = tmp_path / "k8s-deploy"
    subprocess.run(["cp", "-r", str(DEPLOY), str(copy)], check=True)
    overlay = copy / "overlays/k3s/kustomization.yaml"
    as_it_is = "newName: registry.example.com/headrace\n    newTag: 0.1.0"
    assert as_it_is in overlay.read_text()
    overlay.write_text(overlay.read_text().replace(as_it_is, written))
    script = f'. {copy}/lib.sh; read_options about --overlay k3s --tag 9; echo "$image"'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=nobody.env, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == image
    assert done.returncode == (0 if image else 1)
    assert image or "overlay k3s has no image whose name ends in /headrace" in done.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A cluster without the operator's CRDs."""
    folder = tmp_path_factory.mktemp("bare")
    with running_kube_apiserver(folder, crds=None) as server:
        yield Kubectl(server.kubeconfig_path, tmp_path_factory.mktemp("home"))


def test_a_cluster_without_the_operator_or_with_an_old_one_is_refused_untouched(bare: Kubectl) -> None:
    before = everything(bare)
    words = refused(bare, "deploy-all.sh", *OVERLAY)
    assert f"no FlinkDeployment CRD, so no job could run: scripts/install_flink_operator.sh --watch {JOBS}" in words
    bare.said("apply", "--server-side", "-f", str(ROOT / "local/crds/flinkdeployments.flink.apache.org-v1.yml"))
    group = ("get", "--raw", "/apis/flink.apache.org/v1beta1")
    wait_for("it to be served", lambda: "flinkdeployments" in bare.tried(*group).stdout)
    assert "older than 1.10" in refused(bare, "deploy-worker-service.sh", *OVERLAY)
    assert everything(bare) == before


def test_native_mode_alone_asks_for_no_operator_and_its_parts_for_each_other(bare: Kubectl, tmp_path: Path) -> None:
    """On a copy of the folder. No FlinkStateSnapshot is served: with the operator among the runtimes it would stop."""
    copy = tmp_path / "k8s-deploy"
    subprocess.run(["cp", "-r", str(DEPLOY), str(copy)], check=True)
    overlay = copy / "overlays/team-b/kustomization.yaml"
    both = overlay.read_text()
    alone = both.replace("HEADRACE_RUNTIMES=operator,native", "HEADRACE_RUNTIMES=native")
    overlay.write_text(alone)
    script = str(copy / "deploy-all.sh")
    before = everything(bare)
    assert "say --make-secrets" in refused(bare, script, *OVERLAY), "it has come past the runtimes"
    assert f"namespace {JOBS} is not prepared" in refused(bare, str(copy / "deploy-worker-service.sh"), *OVERLAY)
    overlay.write_text(alone.replace("  - ../../components/native\n", ""))
    assert "native in HEADRACE_RUNTIMES and no launcher" in refused(bare, script, *OVERLAY)
    overlay.write_text(both.replace("      - HEADRACE_RUNTIMES=operator,native\n", ""))
    assert "a launcher and not native in HEADRACE_RUNTIMES" in refused(bare, script, *OVERLAY)
    assert everything(bare) == before


def test_a_flink_namespace_without_the_rights_of_native_mode_is_said(kubectl: Kubectl) -> None:
    kubectl.said("create", "namespace", JOBS)
    kubectl.said("create", "rolebinding", "headrace-worker", "-n", JOBS, "--clusterrole", "view")
    words = refused(kubectl, "deploy-worker-service.sh", *OVERLAY)
    assert f"namespace {JOBS} has no rights for native mode: put ../../components/native-jobs among" in words
    kubectl.said("delete", "rolebinding", "headrace-worker", "-n", JOBS)


def test_without_namespaces_and_secrets_nothing_is_changed(kubectl: Kubectl) -> None:
    before = everything(kubectl)
    assert "say --make-secrets" in refused(kubectl, "deploy-all.sh", *OVERLAY)
    words = refused(kubectl, "deploy-worker-service.sh", *OVERLAY)
    assert f"namespace {JOBS} is not prepared for jobs" in words
    assert "there is no namespace" in refused(kubectl, "deploy-beat-service.sh", *OVERLAY)
    assert "HEADRACE_MONGODB_URL is not set" in refused(kubectl, "make-secrets.sh", *OVERLAY)
    several = {"KUBECONFIG": f"{kubectl.kubeconfig}:{kubectl.home}/another"}
    words = refused(kubectl, "deploy-all.sh", *OVERLAY, "--make-secrets", env=several)
    assert "HEADRACE_MONGODB_URL is not set" in words, "it has come as far as make-secrets.sh alone does"
    assert everything(kubectl) == before


def test_secrets_are_made_once_and_say_what_they_were_given(kubectl: Kubectl) -> None:
    done = run(kubectl, "make-secrets.sh", *OVERLAY, **URLS)
    assert done.returncode == 0, done.stderr
    assert "secret=word" not in done.stdout + done.stderr

    def values(name: str) -> dict[str, str]:
        said = yaml.safe_load(kubectl.said("get", "secret", name, "-n", NAMESPACE, "-o", "yaml"))
        return {key: base64.b64decode(value).decode() for key, value in said["data"].items()}

    assert values("headrace-servers") == {
        "mongodb-url": URLS["HEADRACE_MONGODB_URL"],
        "redis-url": URLS["HEADRACE_REDIS_URL"],
    }
    assert len(values("headrace-api-keys")["keys"]) == 64
    assert len(base64.b64decode(values("headrace-sealing-keys")["keys"], validate=True)) == 64
    assert values("headrace-flower-login")["login"].startswith("headrace:")
    before = everything(kubectl)
    assert run(kubectl, "make-secrets.sh", *OVERLAY).returncode == 0
    assert everything(kubectl) == before
    kubectl.said("delete", "secret", "headrace-flower-login", "-n", NAMESPACE)
    words = refused(kubectl, "deploy-all.sh", *OVERLAY)
    assert "lacks the Secret and key headrace-flower-login/login" in words


def test_what_the_cluster_refuses_is_refused_before_anything_is_changed(kubectl: Kubectl, tmp_path: Path) -> None:
    """On a copy of the folder. After the test before, whose namespace and Secrets are there."""
    copy = tmp_path / "k8s-deploy"
    subprocess.run(["cp", "-r", str(DEPLOY), str(copy)], check=True)
    overlay = copy / "overlays/team-b/kustomization.yaml"
    overlay.write_text(overlay.read_text() + "replicas:\n  - name: beat\n    count: -1\n")
    kubectl.said("create", "secret", "generic", "headrace-flower-login", "-n", NAMESPACE, "--from-literal=login=a:b")
    before = everything(kubectl)
    for script in ("deploy-all.sh", "deploy-beat-service.sh"):
        words = refused(kubectl, str(copy / script), *OVERLAY)
        assert "the cluster refuses it, and nothing was changed: " in words
        assert "must be greater than or equal to 0" in words
        assert everything(kubectl) == before
    done = run(kubectl, str(copy / "deploy-all.sh"), *OVERLAY, "--make-secrets", **URLS)
    assert done.returncode == 1
    assert f"nothing was changed but namespace {NAMESPACE} and the Secrets that it lacked: " in done.stderr
    assert everything(kubectl) == before
    kubectl.said("delete", "secret", "headrace-flower-login", "-n", NAMESPACE)


def test_the_pull_secret_is_there_before_the_first_pod_by_the_commands_of_the_page(
    bare: Kubectl, tmp_path: Path
) -> None:
    """docs/operations.md's own lines, before the one of deploy-all.sh, with a Docker that builds nothing."""
    page = (ROOT / "docs" / "operations.md").read_text()
    block = page.partition("**A registry with a login**")[2].partition("```\n")[2].partition("```")[0]
    assert "deploy-all.sh" not in block
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n")
    docker.chmod(0o755)
    login = {"auths": {"registry.example.com": {"auth": "dXNlcjpwYXNz"}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    env = {**bare.env, **URLS, "DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{bare.env['PATH']}"}
    for line in block.replace("--overlay mine", "--overlay k3s").splitlines():
        done = subprocess.run(line.split(), cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    accounts = {"headrace": "headrace-tokenless", "flink-jobs": "flink"}
    for namespace, account in accounts.items():
        secret = yaml.safe_load(bare.said("get", "secret", "headrace-registry", "-n", namespace, "-o", "yaml"))
        assert json.loads(base64.b64decode(secret["data"][".dockerconfigjson"])) == login
        objects = kustomized(DEPLOY / ("overlays/k3s" if namespace == "headrace" else f"flink/{namespace}"))
        (pulls,) = [
            each["imagePullSecrets"]
            for each in objects
            if (each["kind"], each["metadata"]["name"]) == ("ServiceAccount", account)
        ]
        assert pulls == [{"name": "headrace-registry"}]


@pytest.mark.timeout(900)
def test_all_of_it_is_rolled_out_the_migration_first_and_each_by_itself_too(
    kubectl: Kubectl, kube_server: KubeServer
) -> None:
    left = set(DEPLOY.glob(".deploy-*"))  # by a run that was killed
    with controllers(kube_server):
        done = run(kubectl, "deploy-all.sh", *OVERLAY, "--make-secrets", **URLS)
        assert done.returncode == 0, done.stderr
        assert "flower is rolled out in headrace-team-b" in done.stderr
        for script, names in SERVICES.items():
            done = run(kubectl, script, *OVERLAY)
            assert done.returncode == 0, done.stderr
            lines = done.stdout.splitlines()
            (migrated,) = [number for number, line in enumerate(lines) if line.startswith("job.batch/migrate")]
            for name in names:
                (rolled,) = [number for number, line in enumerate(lines) if line.startswith(f"deployment.apps/{name} ")]
                assert migrated < rolled
    images = kubectl.said("get", "deployments,jobs", "-n", NAMESPACE, "-o", "jsonpath={..containers[*].image}").split()
    assert set(images) == {"registry.example.com/team/headrace:7", "registry.example.com/team/headrace-launcher:7"}
    launcher = kubectl.said("get", "deployment", "launcher", "-n", NAMESPACE, "-o", "jsonpath={..image}")
    assert launcher == "registry.example.com/team/headrace-launcher:7"
    assert set(DEPLOY.glob(".deploy-*")) <= left


def test_a_pod_that_cannot_start_is_said_in_its_own_words(kubectl: Kubectl, kube_server: KubeServer) -> None:
    """After the test before, whose namespaces and Secrets are there."""
    message = 'Back-off pulling image "registry.example.com/team/headrace:8": 403 Forbidden'
    with client(kube_server) as http:
        labels = {"app.kubernetes.io/component": "migrate"}
        container = {"name": "migrate", "image": "registry.example.com/team/headrace:8"}
        spec = {"containers": [container], "serviceAccountName": "headrace-tokenless"}
        kubectl.said("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-", "--overwrite")
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        pod = http.post(pods, json={"metadata": {"name": "migrate-x", "labels": labels}, "spec": spec})
        pod.raise_for_status()
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
        status = {**container, "ready": False, "restartCount": 0, "imageID": "", "state": waiting}
        said = {**pod.json(), "status": {"phase": "Pending", "containerStatuses": [status]}}
        http.put(f"{pods}/migrate-x/status", json=said).raise_for_status()
        done = run(kubectl, "deploy-beat-service.sh", "--overlay", "team-b", "--tag", "8")
        http.delete(f"{pods}/migrate-x", params={"gracePeriodSeconds": 0})
    assert done.returncode == 1
    assert "the migration cannot start" in done.stderr
    assert f"pod migrate-x: ImagePullBackOff: {message}" in done.stderr
    live = kubectl.said("get", "deployment", "beat", "-n", NAMESPACE, "-o", "jsonpath={..image}")
    assert live == "registry.example.com/team/headrace:7"


class Pods:
    """Pods of Beat's as its controllers would make them, by the ReplicaSet that they belong to."""

    def __init__(self, kubectl: Kubectl, http: httpx.Client) -> None:
        self._kubectl, self._http = kubectl, http

    def replica_set(self, name: str, revision: int) -> None:
        deployment = yaml.safe_load(self._kubectl.said("get", "deployment", "beat", "-n", NAMESPACE, "-o", "yaml"))
        template = deployment["spec"]["template"]
        labels = {**template["metadata"]["labels"], "pod-template-hash": name}
        metadata = {"name": f"beat-{name}", "labels": labels, "annotations": {REVISION: str(revision)}}
        spec = {"selector": {"matchLabels": labels}, "template": {**template, "metadata": {"labels": labels}}}
        self._post("apis/apps/v1", "replicasets", {"metadata": metadata, "spec": {**spec, "replicas": 1}})
        self._kubectl.said("annotate", "deployment", "beat", "-n", NAMESPACE, "--overwrite", f"{REVISION}={revision}")

    def waiting(self, replica_set: str, name: str, reason: str, message: str) -> None:
        """A pod whose only container waits, after ten tries."""
        made = yaml.safe_load(
            self._kubectl.said("get", "replicaset", f"beat-{replica_set}", "-n", NAMESPACE, "-o", "yaml")
        )["spec"]["template"]
        pod = self._post("api/v1", "pods", {"metadata": {**made["metadata"], "name": name}, "spec": made["spec"]})
        state = {"waiting": {"reason": reason, "message": message}}
        status = {"name": "beat", "image": "i", "imageID": "", "ready": False, "restartCount": 10, "state": state}
        said = {**pod, "status": {"phase": "Pending", "containerStatuses": [status]}}
        self._http.put(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/status", json=said).raise_for_status()

    def names(self) -> set[str]:
        return set(self._kubectl.said("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={..metadata.name}").split())

    def removed(self) -> None:
        for kind in ("replicasets", "pods"):
            self._kubectl.said("delete", kind, "--all", "-n", NAMESPACE, "--wait=false")
        self._kubectl.said("annotate", "deployment", "beat", "-n", NAMESPACE, f"{REVISION}-")

    def _post(self, group: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        made = self._http.post(f"/{group}/namespaces/{NAMESPACE}/{kind}", json=body)
        made.raise_for_status()
        return dict(made.json())


@pytest.fixture
def pods(kubectl: Kubectl, kube_server: KubeServer) -> Iterator[Pods]:
    with client(kube_server) as http:
        made = Pods(kubectl, http)
        yield made
        made.removed()


def test_a_release_is_judged_by_its_own_pods_and_these_after_one_more_try(
    kubectl: Kubectl, kube_server: KubeServer, pods: Pods
) -> None:
    """Pods of a release that failed stay until the next one is Ready; and what a pod lacked may be there now. After the
    tests before, whose namespaces and Secrets are there."""
    pods.replica_set("failed", 1)
    pods.replica_set("mended", 2)
    pods.waiting("failed", "beat-failed-1", "CrashLoopBackOff", "what the old release lacked")
    pods.waiting("mended", "beat-mended-1", "ImagePullBackOff", "what this one lacked a minute ago")
    held = {"beat"}

    def rolled_out_later() -> None:
        wait_for("a new try of what waited", lambda: pods.names() == {"beat-failed-1"})
        time.sleep(18)  # longer than three looks take
        held.clear()

    later = threading.Thread(target=rolled_out_later)
    later.start()
    with controllers(kube_server, held):
        done = run(kubectl, "deploy-beat-service.sh", *OVERLAY)
    later.join()
    assert done.returncode == 0, done.stderr
    assert pods.names() == {"beat-failed-1"}


def test_what_the_new_release_lacks_is_said_and_not_what_the_old_one_did(
    kubectl: Kubectl, kube_server: KubeServer, pods: Pods
) -> None:
    """After the tests before, whose namespaces and Secrets are there."""
    pods.replica_set("failed", 1)
    pods.replica_set("broken", 2)
    pods.waiting("failed", "beat-failed-1", "CrashLoopBackOff", "what the old release lacked")
    over = threading.Event()

    def replaced() -> None:
        while not over.wait(0.2):
            if not any(name.startswith("beat-broken") for name in pods.names()):
                pods.waiting("broken", f"beat-broken-{time.monotonic_ns()}", "CrashLoopBackOff", "what it lacks")

    replica_set = threading.Thread(target=replaced)
    replica_set.start()
    with controllers(kube_server, {"beat"}):
        done = run(kubectl, "deploy-beat-service.sh", *OVERLAY)
    over.set()
    replica_set.join()
    assert done.returncode == 1
    assert "beat cannot start" in done.stderr
    assert "CrashLoopBackOff: what it lacks" in done.stderr
    assert "the old release" not in done.stderr
