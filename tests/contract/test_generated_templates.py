"""Whatever a template says, it is refused with its field named, or renders to what a real API server takes strictly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.domain.job_requests import JobRequest
from headrace.domain.manifest import Stamp, render
from headrace.domain.templates import parse_resolved, parse_template, resolve
from headrace.errors import InvalidRequest
from tests.contract.test_manifests import PATH
from tests.support.given import OPEN, ORDERS, PLATFORM
from tests.support.kube_apiserver import KubeServer, running_kube_apiserver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COUNT = 2000
HOST = "https://files.example.com"
words = st.text("abcXYZ019-_./:$ '\"`\\{}\n\x00é", max_size=12)
names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
text = (
    words | names | st.sampled_from(["true", "1", "1g", "2Gi", "2048", "v2_2", "v1_20", "Exists", "NoSchedule", "In"])
)
odd = text | st.integers(-5, 200_000) | st.floats() | st.booleans() | st.none() | st.lists(text, max_size=2)


def one_of(good: Any) -> st.SearchStrategy[Any]:
    """Mostly what is meant, and now and then anything."""
    meant = good if isinstance(good, st.SearchStrategy) else st.sampled_from(good)
    return st.integers(0, 39).flatmap(lambda drawn: odd if drawn == 0 else meant)


def part(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: one_of(good) for name, good in fields.items()})


labels = st.dictionaries(names | st.just("example.com/team"), names, max_size=2)
requirement = part(key=names, operator=["In", "NotIn", "Exists", "DoesNotExist"], values=st.lists(names, max_size=2))
node_term = part(matchExpressions=st.lists(requirement, min_size=1, max_size=2))
pod_term = part(labelSelector=part(matchLabels=labels), topologyKey=["kubernetes.io/hostname"])
affinity = part(
    nodeAffinity=part(
        requiredDuringSchedulingIgnoredDuringExecution=part(
            nodeSelectorTerms=st.lists(node_term, min_size=1, max_size=2)
        ),
        preferred_during_scheduling_ignored_during_execution=st.lists(
            part(weight=st.integers(1, 100), preference=node_term), max_size=2
        ),
    ),
    pod_anti_affinity=part(required_during_scheduling_ignored_during_execution=st.lists(pod_term, max_size=2)),
)
source = st.sampled_from(
    [{"secret": "s"}, {"config_map": "c.d"}, {"persistentVolumeClaim": "p"}, {"host_path": "/h/x"}, {"empty_dir": True}]
)
volume = st.builds(
    lambda own, of: {**own, **of},
    part(name=names, mount_path=st.builds("/data/{}".format, names), sub_path=names, readOnly=st.booleans()),
    source,
)
pod = part(
    volumes=st.lists(volume, max_size=2),
    nodeSelector=labels,
    tolerations=st.lists(
        part(key=names, operator=["Exists", "Equal"], value=names, effect=["NoSchedule", "NoExecute"]), max_size=2
    ),
    affinity=affinity,
    annotations=labels,
    image_pull_policy=["Always", "IfNotPresent", "Never"],
    imagePullSecrets=st.lists(names, max_size=2),
    priorityClassName=names,
)
env = st.dictionaries(
    st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True),
    text | st.integers() | st.fixed_dictionaries({"secretKeyRef": part(name=names, key=names)}),
    max_size=3,
)
memory = st.sampled_from(["1g", "2048m", "2Gi", "1600mb", "4G"])
file = st.fixed_dictionaries({"name": st.builds("{}/{}.py".format, names, names), "content": words})
script = st.sampled_from([f"{HOST}/a.py", "local:///opt/jobs/a.py", {"name": "job.py", "content": "print(1)\n"}])
common = {
    "args": st.lists(text | st.integers(), max_size=3),
    "env": env,
    "env_from": st.lists(part(secret_ref=part(name=names), prefix=["APP_"]), max_size=2),
    "image": st.sampled_from(["headrace/flink:2.2.1", "registry.example.com:5000/flink@sha256:" + "a" * 64]),
    "flink_version": st.sampled_from(["v2_2", "v1_20"]),
    "resources": part(
        job_manager=part(memory=memory, cpu=st.floats(0.1, 8)),
        task_manager=part(memory=memory, cpu=st.integers(1, 8), slots=st.integers(1, 8), replicas=st.integers(1, 9)),
    ),
    "parallelism": st.integers(1, 500),
    "flink_configuration": st.dictionaries(
        st.sampled_from(
            ["pipeline.name", "state.backend.type", "job.autoscaler.enabled", "kubernetes.cluster-id", "x y"]
        ),
        text | st.integers() | st.booleans(),
        max_size=2,
    ),
    "labels": labels,
    "pod": pod,
    "state": st.sampled_from(
        [
            {"location": "s3://bucket/flink"},
            {"location": "file:///srv/flink", "volume": {"host_path": "/srv/flink"}},
            {"location": "file:///srv/flink"},
            {"location": "hdfs://nn:8020/flink"},
        ]
    ),
    "jar_files": st.sampled_from([f"{HOST}/a.jar,local:///opt/b.jar", [f"{HOST}/a.jar", {"url": f"{HOST}/a.jar"}]]),
    "service_account": names,
}
program = st.one_of(
    st.fixed_dictionaries({"script": one_of(script)}, optional={"files": st.lists(file, max_size=2)}),
    st.fixed_dictionaries(
        {"type": st.just("JAR"), "jar": one_of([f"{HOST}/a.jar", "local:///opt/flink/usrlib/a.jar"])}
    ),
    st.fixed_dictionaries({"type": st.just("SQL"), "sql": one_of(["INSERT INTO t SELECT '${p}'", "SELECT 1"])}),
)
template = st.builds(lambda own, more: {"template_id": "t", **more, **own}, program, part(**common))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with running_kube_apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


def request_of(body: dict[str, Any]) -> JobRequest | None:
    """The request, or None where it is refused with fields named."""
    try:
        return parse_resolved(resolve(parse_template(body), {}))
    except InvalidRequest as error:
        problems = error.problems
    assert problems
    assert all(field and said for field, said in problems.items())
    assert set(problems) != {"body"}, f"no field is named: {problems}"
    return None


def test_every_template_is_refused_by_field_or_taken_strictly(server: KubeServer) -> None:
    seen: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {server.token}"}
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    with httpx.Client(base_url=server.url, headers=headers, verify=False, timeout=30, trust_env=False) as api:

        @settings(
            max_examples=COUNT,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(template)
        def holds(body: dict[str, Any]) -> None:
            request = request_of(body)
            seen["refused" if request is None else request.type] += 1
            if request is not None:
                manifest = render(ORDERS, request, replace(PLATFORM, policy=OPEN), Stamp(1, "operation-1", 1))
                answer = api.post(PATH, params=query, json=manifest)
                assert answer.status_code == 201, answer.text

        holds()
    print(f"{sum(seen.values())} templates: {dict(seen)}")
    assert sum(seen.values()) >= COUNT
    assert min(seen[kind] for kind in ("refused", "PYTHON_SCRIPT", "JAR", "SQL")) >= COUNT / 50
