"""Every overlay and every Flink namespace on a real API server, and what is promised of each pod of ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import task_names
from headrace.bootstrap import platform_of
from headrace.health import LOOP_SECONDS, PROCESSES
from headrace.settings import Settings
from tests.support.kubectl import DEPLOY, ROOT, Kubectl, flink_namespaces, kustomized, overlays

WITHIN_SECONDS = 60
OURS = {"api", "worker", "sync", "beat", "consumer", "flower"}
TOKENS = {"api", "worker", "sync", "consumer", "launcher"}
NATIVE = "team-b"
"""The overlay that has Flink's native mode."""


def named(path: Path) -> str:
    return path.name


def ours(folder: Path) -> set[str]:
    """The processes that an overlay has."""
    return OURS | ({"launcher"} if folder.name == NATIVE else set())


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of our own processes, by the process."""
    for each in objects:
        component = each["metadata"].get("labels", {}).get("app.kubernetes.io/component")
        if each["kind"] in ("Deployment", "Job") and component in OURS | {"launcher", "migrate"}:
            yield component, each["spec"]["template"]["spec"]


@pytest.mark.parametrize("folder", [*overlays(), *flink_namespaces()], ids=named)
def test_the_api_server_takes_all_of_it_and_a_second_time_changes_nothing(kubectl: Kubectl, folder: Path) -> None:
    kubectl.applied(folder)
    tried = kubectl.tried("apply", "--validate=strict", "--dry-run=server", "-k", str(folder))
    assert tried.returncode == 0, tried.stderr
    assert "Warning" not in tried.stderr  # a deprecated version, or a pod that the namespace's level would refuse
    assert kubectl.tried("diff", "-k", str(folder)).stdout == ""


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_its_namespace_takes_each_pod_at_the_strictest_level(kubectl: Kubectl, folder: Path) -> None:
    objects = kustomized(folder)
    (namespace,) = [each for each in objects if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    accounts = [each for each in objects if each["kind"] in ("Namespace", "ServiceAccount")]
    kubectl.said("apply", "-f", "-", given=yaml.safe_dump_all(accounts))
    name = namespace["metadata"]["name"]
    templates = [each for each in objects if each["kind"] in ("Deployment", "StatefulSet", "Job")]
    default = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
    kubectl.said("apply", "-f", "-", given=yaml.safe_dump(default))
    for each in templates:
        metadata = {"name": each["metadata"]["name"], "namespace": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": each["spec"]["template"]["spec"]}
        kubectl.said("create", "--dry-run=server", "--validate=strict", "-f", "-", given=yaml.safe_dump(pod))


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_each_process_is_there_with_the_least_that_it_needs(folder: Path) -> None:
    found = dict(pods(kustomized(folder)))
    assert set(found) == ours(folder) | {"migrate"}
    for name, pod in found.items():
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is (name in TOKENS)
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert "command" not in container  # the image's entry point: no shell stands between it and SIGTERM


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_every_object_is_somebodys_so_that_no_deploy_script_leaves_it_out(folder: Path) -> None:
    labels = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in kustomized(folder)}
    assert labels - {"servers"} == ours(folder) | {"migrate", "shared"}


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_every_variable_is_a_setting_and_every_file_of_one_is_mounted(folder: Path) -> None:
    objects = kustomized(folder)
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}
    (settings,) = [each for each in objects if each["kind"] == "ConfigMap"]
    Settings(**{name.removeprefix("HEADRACE_").lower(): value for name, value in settings["data"].items()})
    assert set(settings["data"]) <= known
    assert settings["data"].get("HEADRACE_RUNTIMES") == ("operator,native" if folder.name == NATIVE else None)
    for name, pod in pods(objects):
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
        assert {each["name"] for each in container["env"]} <= known, name
        mounts = [each["mountPath"] for each in container["volumeMounts"]]
        files = [each["value"] for each in container["env"] if each["name"].endswith("_FILE")]
        assert all(str(Path(file).parent) in mounts for file in files), name


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_state_is_on_the_claim_of_the_flink_namespace_and_in_a_bucket_by_one_setting(folder: Path) -> None:
    (told,) = [each["data"] for each in kustomized(folder) if each["kind"] == "ConfigMap"]
    bucket = {**told, "HEADRACE_FLINK_STATE_LOCATION": "s3://bucket/flink"}
    on_a_claim, in_a_bucket = (
        platform_of(Settings(**{name.removeprefix("HEADRACE_").lower(): value for name, value in each.items()})).state()
        for each in (told, bucket)
    )
    assert on_a_claim.volume is not None
    objects = kustomized(DEPLOY / "flink" / told["HEADRACE_NAMESPACE"])
    claims = {each["metadata"]["name"] for each in objects if each["kind"] == "PersistentVolumeClaim"}
    assert on_a_claim.volume.persistent_volume_claim in claims
    assert (in_a_bucket.location, in_a_bucket.volume) == ("s3://bucket/flink", None)


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_a_process_that_is_stopped_fails_its_probe_within_a_minute(folder: Path) -> None:
    for name, pod in pods(kustomized(folder)):
        if name == "migrate":
            continue
        container = pod["containers"][0]
        probe = container["livenessProbe"]
        asked = (probe["failureThreshold"]) * probe["periodSeconds"] + probe["timeoutSeconds"]
        assert asked + (LOOP_SECONDS if name in PROCESSES else 0) <= WITHIN_SECONDS, name
        assert {"startupProbe", "readinessProbe"} <= set(container), name
        if name in PROCESSES:
            assert probe["exec"]["command"] == ["python", "-m", "headrace.health", name]
            ready = container["readinessProbe"]["exec"]["command"]
            assert ready == ["python", "-m", "headrace.health", "--ready", name]


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_a_drain_of_a_node_takes_one_of_each_at_a_time(folder: Path) -> None:
    objects = kustomized(folder)
    budgets = [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    assert {each["metadata"]["name"] for each in budgets} == ours(folder) - {"flower"}
    assert all(each["spec"]["maxUnavailable"] == 1 for each in budgets)
    # MongoDB that is away makes all of them not ready: nothing of theirs is disrupted by a drain then.
    assert all(each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for each in budgets)


def test_tls_as_the_page_has_it_mounts_each_file_and_opens_the_ports(kubectl: Kubectl, tmp_path: Path) -> None:
    """The component of docs/security.md, in a copy of an overlay."""
    copy = tmp_path / "k8s-deploy"
    shutil.copytree(DEPLOY, copy)
    overlay = copy / "overlays" / "k3s"
    page = (ROOT / "docs" / "security.md").read_text()
    (component,) = [each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: Component" in each]
    (overlay / "tls").mkdir()
    (overlay / "tls" / "kustomization.yaml").write_text(component)
    last = "  - ../../components/external-servers\n"
    text = (overlay / "kustomization.yaml").read_text()
    assert last in text
    (overlay / "kustomization.yaml").write_text(text.replace(last, f"{last}  - tls\n"))
    objects = kustomized(overlay)
    (told,) = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    settings = Settings(**{name.removeprefix("HEADRACE_").lower(): value for name, value in told.items()})
    ca, password = settings.redis_ca_file, settings.kafka_password_file
    assert ca is not None
    assert password is not None
    assert settings.kafka_ca_file == ca
    for name, pod in pods(objects):
        mounted = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
        for file, used_by in ((ca, {*OURS, "migrate"}), (password, OURS - {"beat", "flower"})):
            assert (str(file.parent) in mounted) is (name in used_by), name
            assert name not in used_by or secrets[mounted[str(file.parent)]]["defaultMode"] == 0o440
    ports = {
        each["metadata"]["name"]: each["spec"].get("egress") for each in objects if each["kind"] == "NetworkPolicy"
    }
    assert ports["kafka"] == [{"ports": [{"port": int(settings.kafka_bootstrap_servers.rpartition(":")[2])}]}]
    assert ports["redis"] == [{"ports": [{"port": 6380}]}]
    kubectl.applied(overlay)


def test_no_manifest_has_a_secrets_value() -> None:
    for folder in (*overlays(), *flink_namespaces()):
        assert [each for each in kustomized(folder) if each["kind"] == "Secret"] == []
    text = "\n".join(file.read_text() for file in DEPLOY.rglob("*.yaml"))
    assert not re.search(r"://[^\s/@]+:[^\s/@]+@", text)


def test_what_is_read_at_the_start_is_renewed_by_a_restart_that_the_page_names() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"kubectl [^\n]* -n (\S+) deployment/(\S+)$", page, re.MULTILINE))
    assert ("headrace", "api") in named
    for folder in overlays():
        objects = kustomized(folder)
        (namespace,) = [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]
        there = {(namespace, each["metadata"]["name"]) for each in objects if each["kind"] == "Deployment"}
        assert {each for each in named if each[0] == namespace} <= there


def test_each_flink_namespace_is_of_one_installation() -> None:
    """One set of processes a namespace: what would be shared would be taken from each other."""
    told = []
    for folder in overlays():
        objects = kustomized(folder)
        (settings,) = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
        (ours,) = [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]
        own = ("NAMESPACE", "MONGODB_DATABASE", "KAFKA_TOPIC", "KAFKA_GROUP")
        told.append((settings["HEADRACE_NAMESPACE"], ours, *(settings[f"HEADRACE_{name}"] for name in own)))
    one, other = set(told)  # three ways to have the one, and a second beside it
    assert set(one) & set(other) == set()
    for folder in flink_namespaces():
        objects = kustomized(folder)
        (namespace,) = [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]
        bindings = [each for each in objects if each["kind"] == "RoleBinding" and each["metadata"]["name"] != "flink"]
        (ours,) = {subject["namespace"] for each in bindings for subject in each["subjects"]}
        assert (namespace, ours) in {(each[0], each[1]) for each in told}


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_prometheus_is_told_where_metrics_are_and_let_in(folder: Path) -> None:
    objects = kustomized(folder)
    (settings,) = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    (policy,) = [each for each in objects if each["metadata"]["name"] == "metrics"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": int(settings["HEADRACE_METRICS_PORT"])}]
    (chosen,) = policy["spec"]["podSelector"]["matchExpressions"]
    scraped = {}
    for each in objects:
        if each["kind"] == "Deployment" and (told := each["spec"]["template"]["metadata"].get("annotations")):
            assert told["prometheus.io/scrape"] == "true"
            ports = [port["containerPort"] for port in each["spec"]["template"]["spec"]["containers"][0]["ports"]]
            assert int(told["prometheus.io/port"]) in ports
            scraped[each["metadata"]["name"]] = told["prometheus.io/port"]
    assert scraped.pop("api") == str(Settings.model_fields["api_port"].default)
    assert scraped == dict.fromkeys(chosen["values"], settings["HEADRACE_METRICS_PORT"])


@pytest.mark.parametrize("folder", overlays(), ids=named)
def test_the_api_is_served_by_http_and_by_grpc(folder: Path) -> None:
    objects = kustomized(folder)
    (settings,) = [each["data"] for each in objects if each["kind"] == "ConfigMap"]
    served = {"http": Settings.model_fields["api_port"].default, "grpc": int(settings["HEADRACE_GRPC_PORT"])}
    ((_, pod),) = [each for each in pods(objects) if each[0] == "api"]
    assert {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]} == served
    (service,) = [each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == "api"]
    assert {each["targetPort"] for each in service["spec"]["ports"]} == set(served)
    (policy,) = [each for each in objects if each["metadata"]["name"] == "to-the-api"]
    assert {each["port"] for each in policy["spec"]["ingress"][0]["ports"]} == set(served.values())


def test_the_launcher_takes_launches_alone_and_reaches_what_a_worker_does() -> None:
    objects = kustomized(DEPLOY / "overlays" / NATIVE)
    ((_, pod),) = [each for each in pods(objects) if each[0] == "launcher"]
    (container,) = pod["containers"]
    assert container["args"] == ["worker", "--queues", task_names.LAUNCHES_QUEUE, "--threads", "2"]
    assert container["image"] == "registry.example.com/headrace-launcher:0.1.0"
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    chosen = {
        each["metadata"]["name"]: each["spec"]["podSelector"]["matchExpressions"][0]["values"]
        for each in policies
        if "matchExpressions" in each["spec"]["podSelector"]
    }
    reached = {
        process: {name for name, values in chosen.items() if process in values} for process in ("worker", "launcher")
    }
    assert reached["launcher"] == reached["worker"] == {"metrics", "redis", "mongodb", "kubernetes", "job-managers"}


def test_the_script_that_says_why_a_server_does_not_start_asks_for_its_pods() -> None:
    script = (DEPLOY / "deploy-all.sh").read_text()
    names = re.search(r"for name in (.*); do\n.*statefulset/\$name", script)
    (label,) = re.findall(r'fail_with_pods "(\S+)=\$name"', script)
    servers = [each for each in kustomized(DEPLOY / "overlays" / "dev") if each["kind"] == "StatefulSet"]
    asked = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"].get(label) for each in servers}
    assert names is not None
    assert asked == {name: name for name in names[1].split()}


def test_nothing_of_native_mode_is_where_it_was_not_asked_for() -> None:
    for folder in (*overlays(), *flink_namespaces()):
        text = yaml.safe_dump_all(kustomized(folder))
        assert ("launcher" in text) is (folder.name in (NATIVE, f"flink-{NATIVE}")), folder
