"""scripts/install_flink_operator.sh on a real API server: without CRDs, with older ones, and once all is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.controllers import client, controllers
from tests.support.kube_apiserver import KubeServer, running_kube_apiserver
from tests.support.kubectl import ROOT, Kubectl, kubectl_path
from tests.support.rights import await_rights

SCRIPT = ROOT / "scripts" / "install_flink_operator.sh"
NO_HELM = ("--manifests", "--without-webhook")
KINDS = "namespaces,configmaps,serviceaccounts,deployments,roles,rolebindings,crds"


def run(kubectl: Kubectl, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [str(SCRIPT), *arguments]
    environment = {**kubectl.env, **env}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False, cwd="/")


def everything(kubectl: Kubectl) -> dict[str, str]:
    return kubectl.versions(KINDS)


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of the operator's chart as the script reads; its CRDs are those of today's release."""
    folder = tmp_path_factory.mktemp("chart") / "flink-kubernetes-operator"
    shutil.copytree(ROOT / "local" / "crds", folder / "crds")
    (folder / "Chart.yaml").write_text("name: flink-kubernetes-operator\nversion: 1.15.0\n")
    (folder / "conf").mkdir()
    for name in ("flink-conf.yaml", "log4j-operator.properties", "log4j-console.properties"):
        (folder / "conf" / name).write_text("# the chart's own\n")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kubectl, KubeServer]]:
    with running_kube_apiserver(tmp_path_factory.mktemp("bare"), crds=None) as server:
        yield Kubectl(server.kubeconfig_path, tmp_path_factory.mktemp("home")), server


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--operator-version", "1.9.0"), "1.9.0 has no FlinkStateSnapshots"),
        (("--operator-version", "latest"), "is like 1.15.0, not latest"),
        (("--cert-manager-version", "1"), "is like v1.19.1, not 1"),
        (("--watch", "a,B!"), "B! is no name of a namespace"),
        (("--timeout", "0"), "is a number of seconds"),
        (("--manifests",), "the webhook is installed by Helm alone"),
        (("--nope",), "there is no option --nope"),
        (("--chart",), "--chart needs a value"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_touched(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = run(Kubectl(tmp_path / "none", tmp_path), *words)
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--chart", "/nope", *NO_HELM), "/nope is no chart of the Flink operator"),
        (("--downloads", "file:///nope", *NO_HELM), "cannot be fetched; behind a mirror say --downloads URL"),
    ],
)
def test_what_cannot_be_fetched_is_said_before_anything_is_touched(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    kubectl_path()
    done = run(Kubectl(tmp_path / "none", tmp_path), *words)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_chart_of_another_version_and_somebody_who_may_not(
    bare: tuple[Kubectl, KubeServer], chart: Path, tmp_path: Path
) -> None:
    kubectl, server = bare
    done = run(kubectl, "--chart", str(chart), "--operator-version", "1.14.0", *NO_HELM)
    assert "the chart is of version 1.15.0, and --operator-version is 1.14.0" in done.stderr
    powerless = Kubectl(server.powerless_kubeconfig_path, tmp_path)
    done = run(powerless, "--chart", str(chart), *NO_HELM)
    assert "you may not make CustomResourceDefinitions" in done.stderr
    assert done.returncode == 1


def test_it_installs_what_is_missing_renews_what_is_old_and_changes_nothing_a_second_time(
    bare: tuple[Kubectl, KubeServer], chart: Path
) -> None:
    kubectl, server = bare
    older = ROOT / "tests" / "data" / "crds-1.10.0"
    kubectl.said("apply", "--server-side", "-f", str(older))
    words = ("--chart", str(chart), "--watch", "flink-jobs,flink-elsewhere", *NO_HELM)
    with controllers(server):
        done = run(kubectl, *words)
        assert done.returncode == 0, done.stderr
        before = everything(kubectl)
        again = run(kubectl, *words)
    assert again.returncode == 0, again.stderr
    assert everything(kubectl) == before
    first, second = (line.partition("  ")[2] for line in done.stderr.splitlines()[-2:])
    for line in (first, second):
        assert kubectl.tried(*line.split()[1:]).returncode == 0, line
    for file in sorted((chart / "crds").glob("*.yml")):
        wanted = yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]
        name = yaml.safe_load(file.read_text())["metadata"]["name"]
        live = yaml.safe_load(kubectl.said("get", "crd", name, "-o", "yaml"))["spec"]["versions"][0]["schema"]
        assert live == wanted
    deployment = yaml.safe_load(
        kubectl.said("get", "deployment", "flink-kubernetes-operator", "-n", "flink-operator-system", "-o", "yaml")
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ghcr.io/apache/flink-kubernetes-operator:1.15.0"
    conf = kubectl.said("get", "configmap", "flink-operator-config", "-n", "flink-operator-system", "-o", "yaml")
    assert "kubernetes.operator.watched.namespaces: flink-jobs,flink-elsewhere" in conf
    with client(server) as http:
        await_rights(http)
    for namespace, may in (("flink-jobs", "yes"), ("flink-elsewhere", "yes"), ("default", "no")):
        user = "--as=system:serviceaccount:flink-operator-system:flink-operator"
        said = kubectl.tried("auth", "can-i", "create", "deployments", user, "-n", namespace).stdout.strip()
        assert said == may
    labels = kubectl.said("get", "namespace", "flink-jobs", "-o", "jsonpath={.metadata.labels}")
    assert "headrace.io/jobs" in labels  # as k8s-deploy/flink has it


def test_told_to_watch_everything_it_gets_its_rights_everywhere(bare: tuple[Kubectl, KubeServer], chart: Path) -> None:
    kubectl, server = bare
    with controllers(server):
        done = run(kubectl, "--chart", str(chart), "--watch", "ALL", "--namespace", "operators", *NO_HELM)
    assert done.returncode == 0, done.stderr
    with client(server) as http:
        await_rights(http)
    user = "--as=system:serviceaccount:operators:flink-operator"
    assert kubectl.said("auth", "can-i", "list", "flinkdeployments", user, "--all-namespaces").strip() == "yes"
    conf = kubectl.said("get", "configmap", "flink-operator-config", "-n", "operators", "-o", "yaml")
    assert "watched" not in conf


HELM = """#!/bin/sh
echo "$@" >> "$HELM_SAID"
while [ $# -gt 0 ]; do [ "$1" != --values ] || cat "$2" >> "$HELM_SAID"; shift; done
"""


CERTIFICATES = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  names: {kind: Certificate, plural: certificates}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
---
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE}
"""
"""The beginning of cert-manager's manifests."""

CERTIFICATES_PART = """
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAMED
  namespace: NAMESPACE
  labels: {app.kubernetes.io/name: NAMED, app.kubernetes.io/component: PART, app.kubernetes.io/version: VERSION}
spec:
  selector: {matchLabels: {app: NAMED}}
  template:
    metadata: {labels: {app: NAMED}}
    spec: {containers: [{name: it, image: "quay.io/jetstack/NAMED:VERSION"}]}
"""


def helm(kubectl: Kubectl, folder: Path) -> dict[str, str]:
    """What finds a Helm that does nothing, and writes down what it is told."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "helm").write_text(HELM)
    (programs / "helm").chmod(0o755)
    (programs / "kubectl").symlink_to(kubectl_path())
    return {"PATH": f"{programs}:{os.environ['PATH']}", "HELM_SAID": str(folder / "said")}


def certificates(version: str, namespace: str = "cert-manager") -> str:
    """Its manifests, as much as the script looks at."""
    parts = {"cert-manager-cainjector": "cainjector", "cert-manager": "controller", "cert-manager-webhook": "webhook"}
    text = CERTIFICATES + "".join(
        CERTIFICATES_PART.replace("NAMED", name).replace("PART", part) for name, part in parts.items()
    )
    return text.replace("VERSION", version).replace("NAMESPACE", namespace)


def test_certificates_are_completed_renewed_where_they_are_ours_and_left_where_they_are_not(
    bare: tuple[Kubectl, KubeServer], chart: Path, tmp_path: Path
) -> None:
    kubectl, server = bare
    env = helm(kubectl, tmp_path)
    for version in ("v1.18.0", "v1.19.1"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "cert-manager.yaml").write_text(certificates(version))
    words = ("--chart", str(chart), "--watch", "flink-jobs", "--cert-manager-from", f"file://{tmp_path}")

    def live() -> str:
        asked = ("get", "deployments", "-A", "-l", "app.kubernetes.io/name=cert-manager", "-o")
        return kubectl.said(*asked, "jsonpath={..metadata.labels.app\\.kubernetes\\.io/version}")

    kubectl.said("apply", "-f", "-", given=CERTIFICATES.replace("NAMESPACE", "cert-manager"))  # where a run stopped
    with controllers(server):
        for version in ("v1.18.0", "v1.19.1"):
            done = run(kubectl, *words, "--cert-manager-version", version, **env)
            assert done.returncode == 0, done.stderr
            assert live() == version
        kubectl.said("delete", "deployments", "--all", "-n", "cert-manager")
        kubectl.said("create", "namespace", "theirs")
        kubectl.said("apply", "-f", "-", given=certificates("v1.18.0", "theirs"))
        done = run(kubectl, *words, **env)
    assert done.returncode == 0, done.stderr
    assert "cert-manager v1.18.0 is in namespace theirs, and this did not install it: it stays" in done.stderr
    assert live() == "v1.18.0"


def test_by_helm_its_values_say_what_was_asked_for(
    bare: tuple[Kubectl, KubeServer], chart: Path, tmp_path: Path
) -> None:
    """What Helm is told; Helm itself is not at hand. After the operator was installed by manifests."""
    kubectl, server = bare
    env = helm(kubectl, tmp_path)
    words = ("--chart", str(chart), "--without-webhook", "--watch", "flink-jobs", "--image", "mirror.example.com/op")
    with controllers(server):
        done = run(kubectl, *words, **env)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0].startswith(f"upgrade --install flink-kubernetes-operator {chart} --namespace flink-operator-system")
    values = yaml.safe_load("\n".join(said[1:]))
    assert values["watchNamespaces"] == ["flink-jobs"]
    assert values["image"] == {"repository": "mirror.example.com/op", "tag": "1.15.0"}
    assert values["webhook"] == {"create": False}
    assert values["jobServiceAccount"] == {"create": False}  # it is k8s-deploy/flink's
