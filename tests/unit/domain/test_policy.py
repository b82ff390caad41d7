"""Nothing reaches a cluster that its installation's policy does not name: judged by whole manifests, whatever is asked.

The oracle below reads manifests alone, and knows nothing of how the policy reads requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from posixpath import normpath
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.domain.flink_options import covers, option_of
from headrace.domain.job_requests import parse_request
from headrace.domain.manifest import Stamp, render
from headrace.domain.policy import Policy, image_name
from headrace.domain.templates import parse_resolved
from headrace.errors import InvalidRequest
from tests.support.drawn import COUNT
from tests.support.given import FILE, HOST, ORDERS, PLATFORM, REQUESTS

Strategy = st.SearchStrategy[Any]


def mostly(good: tuple[Any, ...] | list[Any], *bad: Any) -> Strategy:
    """Now and then what the policy does not name, and else what it names."""
    return st.integers(0, 29).flatmap(lambda drawn: st.sampled_from(bad) if drawn == 0 else st.sampled_from(good))


SECRETS = mostly(("s3", "registry"), "s3-other", "victim-env-ebc201ed", "s", "admin")
CONFIG_MAPS = mostly(["common"], "other", "victim-files-ebc201ed")
CLAIMS = mostly(("models", "flink-state"), "other", "model")
PATHS = mostly(
    ("/srv/flink", "/srv/flink/a", "/srv/flink/"), "/srv/flinks", "/etc", "/srv/flink/../../etc", "/./etc", "/."
)
OPTIONS = mostly(
    (
        *("state.backend.type", "s3.endpoint", "kubernetes.operator.job.restart.failed", "metrics.reporter.prom.port"),
        *("restart-strategy", "env.java.opts", "job.autoscaler.enabled", "execution.checkpointing.interval"),
    ),
    *("kubernetes.hostnetwork.enabled", "kubernetes.secrets", "parallelism.default", "$internal.application.main"),
    *("user.artifacts.artifact-list", "my.key", "high-availability", "state.checkpoints.dir", "yarn.ship-files"),
    *("kubernetes.service-account", "kubernetes.pod-template-file", "containerized.master.env.A", "recovery.mode"),
    *("security.kerberos.login.keytab", "kubernetes.rest-service.exposed.type"),
)
KUBERNETES_ALLOWED = ("kubernetes.operator.job", "kubernetes.operator.savepoint")


def maybe(**fields: Strategy) -> Strategy:
    return st.fixed_dictionaries({}, optional=fields)


SOURCES = st.one_of(
    st.fixed_dictionaries({"secret": SECRETS}),
    st.fixed_dictionaries({"config_map": CONFIG_MAPS}),
    st.fixed_dictionaries({"persistentVolumeClaim": CLAIMS}),
    st.fixed_dictionaries({"host_path": PATHS}),
    st.just({"empty_dir": True}),
)
VOLUME = st.builds(
    lambda name, path, source: {"name": name, "mount_path": path, **source},
    mostly(["a", "b"], "headrace-state"),
    mostly(["/data/a", "/data/b"], "/opt/flink/lib", "/usr", "/opt", "/run/x", "/data/../etc"),
    SOURCES,
)
FLINK_TAINT = {"key": "flink", "value": "yes", "effect": "NoSchedule"}
POD = maybe(
    volumes=st.lists(VOLUME, max_size=2, unique_by=(lambda v: v["name"], lambda v: v["mount_path"])),
    tolerations=st.lists(
        mostly(
            [FLINK_TAINT],
            {"operator": "Exists"},
            {"key": "flink", "operator": "Exists"},
            {**FLINK_TAINT, "value": "no"},
        ),
        max_size=2,
    ),
    annotations=st.dictionaries(
        mostly(["example.com/team", "example.com/a"], "vault.hashicorp.com/agent-inject", "example.com"),
        st.just("true"),
        max_size=2,
    ),
    image_pull_secrets=st.lists(SECRETS, max_size=2),
    node_selector=st.just({"disk": "ssd"}),
)
ENV = st.dictionaries(
    mostly(["A", "B", "AWS_ROLE_ARN"], "PATH", "KUBERNETES_SERVICE_HOST"),
    st.text("$()Xab", max_size=8)
    | st.fixed_dictionaries({"secretKeyRef": st.fixed_dictionaries({"name": SECRETS, "key": st.just("k")})})
    | st.just({"sealed": "c2VhbGVk"}),
    max_size=2,
)
PROGRAM = mostly(
    [
        {"script": FILE},
        {"script": f"{HOST}/a.py"},
        {"type": "JAR", "jar": "local:///opt/flink/usrlib/a.jar", "jar_files": [f"{HOST}/b.jar"]},
        {"type": "SQL", "sql": "SELECT 1"},
    ],
    {"script": "https://evil.example.com/a.py"},
    {"script": "https://files.example.com.evil.io/a.py"},
    {"script": "http://files.example.com@evil.io/a.py"},
    {"type": "JAR", "jar": f"{HOST}/a.jar", "jar_files": ["http://evil.io/a.jar"]},
)
REQUEST = st.builds(
    lambda program, more: {**program, **more},
    PROGRAM,
    maybe(
        image=mostly(
            ["headrace/flink:2.2.1", "headrace/flink:9", "docker.io/headrace/flink:1"],
            *("headrace/flinky", "evil.io/headrace/flink:1", "headrace/flink:/../x"),
        ),
        service_account=mostly(["flink"], "admin", "default"),
        env=ENV,
        env_from=st.lists(
            st.builds(lambda name: {"secretRef": {"name": name}}, SECRETS)
            | st.builds(lambda name: {"config_map_ref": {"name": name}}, CONFIG_MAPS),
            max_size=2,
        ),
        pod=POD,
        state=mostly(
            [
                {"location": "s3://bucket/flink"},
                {"location": "file:///srv/flink", "volume": {"host_path": "/srv/flink"}},
                {"location": "file:///opt/headrace/state", "volume": {"persistent_volume_claim": "models"}},
            ],
            {"location": "file:///srv/flink", "volume": {"host_path": "/etc"}},
            {"location": "file:///etc/y", "volume": {"persistent_volume_claim": "models"}},
            {"location": "file:///opt/headrace", "volume": {"persistent_volume_claim": "models"}},
            {"location": "file:///opt/headrace/state", "volume": {"persistent_volume_claim": "other"}},
        ),
        flink_configuration=st.dictionaries(OPTIONS, st.just("LoadBalancer"), max_size=3),
        labels=st.dictionaries(mostly(["team"], "app", "headrace.io/job"), st.just("x"), max_size=1),
    ),
)


def pods_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = manifest["spec"]
    for part in (spec, spec["jobManager"], spec["taskManager"]):
        if "podTemplate" in part:
            yield part["podTemplate"]


def outside(manifest: dict[str, Any]) -> Iterator[str]:
    """Whatever of a manifest the policy of PLATFORM does not name."""
    spec = manifest["spec"]
    if spec["serviceAccount"] != "flink":
        yield f"account {spec['serviceAccount']}"
    if not image_name(spec["image"]).startswith("docker.io/headrace/flink:"):
        yield f"image {spec['image']}"
    for key in spec["flinkConfiguration"]:
        yield from outside_option(key)
    if set(manifest["metadata"]["annotations"]) - {
        f"headrace.io/{n}" for n in ("job-id", "tenant", "sequence", "operation-id", "run")
    }:
        yield "annotations"
    for pod in pods_of(manifest):
        yield from outside_pod(pod)


def outside_option(key: str) -> Iterator[str]:
    if key.startswith("kubernetes.") and not any(covers(entry, key) for entry in KUBERNETES_ALLOWED):
        yield key
    if option_of(key) != key and option_of(key).startswith(("high-availability", "execution.checkpointing.dir")):
        yield key
    if key.startswith(
        ("$internal", "user.artifacts", "containerized", "security.kerberos", "yarn", "my", "parallelism")
    ):
        yield key


def outside_pod(pod: dict[str, Any]) -> Iterator[str]:
    spec, metadata = pod["spec"], pod.get("metadata", {})
    known = {"containers", "volumes", "initContainers", "securityContext", "nodeSelector", "affinity", "tolerations"}
    yield from set(spec) - known - {"imagePullSecrets", "priorityClassName"}
    if spec.get("securityContext", {"fsGroup": 9999}) != {"fsGroup": 9999}:
        yield "securityContext"
    yield from (key for key in metadata.get("annotations") or () if not key.startswith("example.com/"))
    if metadata and metadata["labels"].get("headrace.io/job") != "orders":
        yield "labels"
    for toleration in spec.get("tolerations", ()):
        if toleration != {"key": "flink", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}:
            yield f"toleration {toleration}"
    yield from (each["name"] for each in spec.get("imagePullSecrets", ()) if each["name"] not in ("s3", "registry"))
    if "priorityClassName" in spec:
        yield "priority"
    for volume in spec.get("volumes", ()):
        yield from outside_volume(volume)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        yield from outside_container(container)


def outside_volume(volume: dict[str, Any]) -> Iterator[str]:
    path = normpath(volume.get("hostPath", {}).get("path", "/srv/flink"))
    if path != "/srv/flink" and not path.startswith("/srv/flink/"):
        yield f"host path {path}"
    if volume.get("persistentVolumeClaim", {}).get("claimName", "models") not in ("models", "flink-state"):
        yield "claim"
    if volume.get("secret", {}).get("secretName", "s3") not in ("s3", "registry"):
        yield "secret"
    config_map = volume.get("configMap", {}).get("name", "common")
    if config_map != "common" and not (volume["name"] == "headrace-files" and config_map.startswith("orders-files-")):
        yield "config map"


def outside_container(container: dict[str, Any]) -> Iterator[str]:
    yield from set(container) - {"name", "image", "command", "env", "envFrom", "volumeMounts", "imagePullPolicy"}
    if "image" in container and not image_name(container["image"]).startswith("docker.io/headrace/flink:"):
        yield container["image"]
    for variable in container.get("env", ()):
        if variable["name"] == "PATH":
            yield "PATH"
        secret = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name", "s3")
        if secret not in ("s3", "registry") and not secret.startswith("orders-env-"):
            yield "secret of env"
    for source in container.get("envFrom", ()):
        if source.get("secretRef", {}).get("name", "s3") not in ("s3", "registry"):
            yield "secret of envFrom"
        if source.get("configMapRef", {}).get("name", "common") != "common":
            yield "config map of envFrom"
    for word in container.get("command", ()):
        if "://" in word and not word.startswith("local://") and urlsplit(word).hostname != "files.example.com":
            yield word
    own = ("headrace-files", "headrace-artifacts", "headrace-jars", "headrace-state")
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in own and not mount["mountPath"].startswith(("/data", "/models")):
            yield mount["mountPath"]
        if mount["name"] == "headrace-state" and mount["mountPath"] not in (
            "/opt/headrace/state",
            "/srv/flink",
            "/data",
        ):
            yield mount["mountPath"]


def test_nothing_outside_of_the_policy_is_in_any_manifest() -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=COUNT,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(REQUEST)
    def holds(body: dict[str, Any]) -> None:
        try:
            manifest = render(ORDERS, parse_resolved(body), PLATFORM, Stamp(1, "o", 1))
        except InvalidRequest as error:
            seen["refused" if error.problems else "refused without a field"] += 1
            return
        seen["taken"] += 1
        assert list(outside(manifest)) == []

    holds()
    print(f"{sum(seen.values())} requests: {dict(seen)}")
    assert set(seen) == {"taken", "refused"}
    assert seen["taken"] > COUNT / 2
    assert seen["refused"] > COUNT / 10


@pytest.mark.parametrize("name", REQUESTS)
def test_the_oracle_takes_what_the_policy_names(name: str) -> None:
    if "1-20" not in name:
        assert list(outside(render(ORDERS, parse_request(REQUESTS[name]), PLATFORM, Stamp(1, "o", 1)))) == []


@pytest.mark.parametrize(
    ("listed", "asked", "is_allowed"),
    [
        ("flink:2.2", "flink:2.2", True),
        ("flink:2.2", "docker.io/library/flink:2.2", True),
        ("flink:2.2", "docker.io/flink:2.2", True),
        ("docker.io/library/flink:*", "flink:1.20", True),
        ("flink:*", "flink-evil:1", False),
        ("team/flink:*", "docker.io/team/flink:1", True),
        ("registry.example.com/team/*", "registry.example.com/team/flink@sha256:" + "a" * 64, True),
        ("registry.example.com/team/*", "registry.example.com/teams/flink", False),
        ("registry.example.com/team/*", "registry.example.com:5000/team/flink", False),
        ("registry.example.com*", "registry.example.com.evil.io/team/flink", False),
        ("localhost:5000/*", "localhost:5000/flink", True),
        ("*", "anything.io/at/all:1", True),
    ],
)
def test_an_image_is_the_one_that_a_container_runtime_would_pull(listed: str, asked: str, is_allowed: bool) -> None:
    request = parse_request({"script": {"name": "job.py", "content": ""}, "image": asked})
    assert (list(Policy(images=(listed,)).problems_of(request)) == []) is is_allowed


@pytest.mark.parametrize(
    ("listed", "asked", "is_allowed"),
    [
        ("flink", {"key": "flink", "operator": "Exists"}, True),
        ("flink", {"key": "flink", "value": "yes"}, True),
        ("flink=yes", {"key": "flink", "value": "yes", "effect": "NoSchedule"}, True),
        ("flink=yes", {"key": "flink", "operator": "Exists"}, False),
        ("flink=yes:NoSchedule", {"key": "flink", "value": "yes", "effect": "NoSchedule"}, True),
        ("flink=yes:NoSchedule", {"key": "flink", "value": "yes"}, False),
        ("flink:NoSchedule", {"key": "flink", "operator": "Exists", "effect": "NoExecute"}, False),
        ("example.com/*", {"key": "example.com/a", "operator": "Exists"}, True),
        ("flink", {"operator": "Exists"}, False),
        ("*", {"operator": "Exists"}, True),
    ],
)
def test_a_toleration_tolerates_no_more_than_the_taints_that_are_listed(
    listed: str, asked: dict[str, Any], is_allowed: bool
) -> None:
    request = parse_request({"script": {"name": "job.py", "content": ""}, "pod": {"tolerations": [asked]}})
    assert (list(Policy(tolerations=(listed,)).problems_of(request)) == []) is is_allowed


def test_a_secret_that_headrace_made_for_a_job_is_meant_by_its_name_alone() -> None:
    env = {"A": {"secretKeyRef": {"name": "victim-env-0123456789abcdef", "key": "PASSWORD"}}}
    request = parse_request({"script": {"name": "job.py", "content": ""}, "env": env})
    assert [field for field, _ in Policy(secrets=("*", "victim-*")).problems_of(request)] == [
        "env.A.secret_key_ref.name"
    ]
    assert list(Policy(secrets=("victim-env-0123456789abcdef",)).problems_of(request)) == []
