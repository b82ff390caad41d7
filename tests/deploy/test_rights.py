"""What each account may do, asked of a real API server for every verb and resource: what is listed here and no more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import httpx
import pytest

from headrace.adapters.kubernetes import runtime as operator_runtime
from headrace.adapters.native import runtime as native_runtime
from headrace.domain.runtime_reports import Process
from tests.support.kube_apiserver import KubeServer
from tests.support.kubectl import DEPLOY, Kubectl
from tests.support.patience import REQUEST_SECONDS
from tests.support.rights import await_rights

JOBS, OURS = "flink-jobs", "headrace"
ELSEWHERE = ("default", "kube-system", OURS, "flink-team-b")

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SUBRESOURCES = ("pods/log", "pods/exec", "pods/portforward", "services/proxy", "serviceaccounts/token")

MAY = {
    "headrace-api": {
        "flinkdeployments": {"get", "list"},
        "configmaps": {"get"},
        "pods": {"list"},
        "events": {"list"},
        "pods/log": {"get"},
    },
    "headrace-worker": {
        "flinkdeployments": {"get", "create", "patch", "delete"},
        "flinkstatesnapshots": {"list", "create", "delete"},
        "configmaps": {"get", "create", "update"},
        "secrets": {"create", "update"},
        "pods": {"list"},
        "events": {"list"},
        "pods/log": {"get"},
    },
    "headrace-sync": {
        "flinkdeployments": {"get", "list", "watch"},
        "pods": {"list"},
        "pods/log": {"get"},
    },
    "headrace-consumer": {"flinkdeployments": {"get"}},
    "headrace-tokenless": {},
}

_OBJECTS: dict[str, set[str]] = {
    "deployments": {"get", "create", "patch", "delete"},
    "services": {"get", "create", "update"},
    "configmaps": {"get", "list", "create", "update", "delete"},
    "pods": {"list", "delete"},
}
MAY_WITH_NATIVE = {
    **MAY,
    "headrace-api": {**MAY["headrace-api"], "deployments": {"get", "list"}},
    "headrace-worker": {**MAY["headrace-worker"], **_OBJECTS},
    "headrace-launcher": {
        **_OBJECTS,
        "flinkdeployments": {"get"},
        "secrets": {"create", "update"},
        "events": {"list"},
        "pods/log": {"get"},
    },
    "headrace-sync": {**MAY["headrace-sync"], "deployments": {"get", "list", "watch"}, "configmaps": {"get"}},
    "headrace-consumer": {**MAY["headrace-consumer"], "deployments": {"get"}},
}
"""In the namespace that has Flink's native mode."""


@pytest.fixture(scope="module")
def http(kube_server: KubeServer, kubectl: Kubectl) -> Iterator[httpx.Client]:
    """The administrator's, once everything is applied and the server judges by it."""
    for folder in ("flink/flink-jobs", "flink/flink-team-b", "overlays/production", "overlays/team-b"):
        kubectl.applied(DEPLOY / folder)
    headers = {"Authorization": f"Bearer {kube_server.token}"}
    with httpx.Client(
        base_url=kube_server.url, headers=headers, verify=False, timeout=REQUEST_SECONDS, trust_env=False
    ) as client:
        await_rights(client)
        yield client


def resources(http: httpx.Client) -> list[tuple[str, str]]:
    """Every resource that the server has, as (group, name), and what of others' pods and accounts could be used."""
    paths = [("", "/api/v1")]
    for group in http.get("/apis").json()["groups"]:
        paths.append((group["name"], f"/apis/{group['preferredVersion']['groupVersion']}"))
    found = [(group, each["name"]) for group, path in paths for each in http.get(path).json()["resources"]]
    return [each for each in found if "/" not in each[1] or each[1] in SUBRESOURCES]


def is_allowed(http: httpx.Client, user: str, namespace: str, group: str, resource: str, verb: str) -> bool:
    """What `kubectl auth can-i` asks."""
    name, _, subresource = resource.partition("/")
    asked = {"namespace": namespace, "group": group, "resource": name, "subresource": subresource, "verb": verb}
    body = {"spec": {"user": user, "groups": groups_of(user), "resourceAttributes": asked}}
    answer = http.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=body)
    return bool(answer.raise_for_status().json()["status"]["allowed"])


def groups_of(user: str) -> list[str]:
    return ["system:serviceaccounts", f"system:serviceaccounts:{user.split(':')[2]}", "system:authenticated"]


def allowed(http: httpx.Client, user: str, namespace: str) -> dict[str, set[str]]:
    """What this account may do in a namespace, but ask what it may."""
    found: dict[str, set[str]] = {}
    for (group, resource), verb in product(resources(http), VERBS):
        if not resource.startswith("self") and is_allowed(http, user, namespace, group, resource, verb):
            found.setdefault(resource, set()).add(verb)
    return found


def rules(http: httpx.Client, user: str, namespace: str) -> set[tuple[str, ...]]:
    """What `kubectl auth can-i --list` shows of it, the rights in the whole cluster included."""
    headers = [("Impersonate-User", user), *(("Impersonate-Group", each) for each in groups_of(user))]
    path, body = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": namespace}}
    status = http.post(path, json=body, headers=headers).raise_for_status().json()["status"]
    assert not status["incomplete"]
    found = [(each.get("resources") or [], each["verbs"]) for each in status["resourceRules"]]
    return {(resource, *sorted(verbs)) for resources_, verbs in found for resource in resources_}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("account", MAY)
def test_an_account_may_do_what_its_process_does_and_no_more(http: httpx.Client, account: str) -> None:
    assert allowed(http, f"system:serviceaccount:{OURS}:{account}", JOBS) == MAY[account]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("account", MAY_WITH_NATIVE)
def test_native_mode_gives_an_account_its_own_objects_and_no_more(http: httpx.Client, account: str) -> None:
    found = allowed(http, f"system:serviceaccount:headrace-team-b:{account}", "flink-team-b")
    assert found == MAY_WITH_NATIVE[account]


@pytest.mark.parametrize("process", Process)
def test_what_a_process_says_it_takes_is_what_its_account_is_given(process: Process) -> None:
    given = MAY_WITH_NATIVE[f"headrace-{process}"]
    for right in (*operator_runtime.RIGHTS.get(process, ()), *native_runtime.RIGHTS[process]):
        assert set(right.verbs) <= given.get(right.resource, set()), right


@pytest.mark.parametrize("account", MAY)
def test_elsewhere_an_account_may_do_what_anybody_may(http: httpx.Client, account: str) -> None:
    anybody = rules(http, "system:serviceaccount:nowhere:anybody", "default")
    for namespace in ELSEWHERE:
        assert rules(http, f"system:serviceaccount:{OURS}:{account}", namespace) == anybody, namespace


def test_the_second_installation_is_kept_to_its_own_namespace(http: httpx.Client) -> None:
    user = "system:serviceaccount:headrace-team-b:headrace-worker"
    anybody = rules(http, "system:serviceaccount:nowhere:anybody", "default")
    assert rules(http, user, "flink-team-b") - anybody
    assert rules(http, user, JOBS) == anybody


@pytest.mark.timeout(600)
def test_flinks_account_may_do_in_its_namespace_what_flink_does(http: httpx.Client) -> None:
    user = f"system:serviceaccount:{JOBS}:flink"
    found = allowed(http, user, JOBS)
    assert set(found) == {"pods", "configmaps", "deployments"}
    assert set(found["pods"]) == set(VERBS) - {"deletecollection"}
    anybody = rules(http, "system:serviceaccount:nowhere:anybody", "default")
    assert all(rules(http, user, namespace) == anybody for namespace in ELSEWHERE)


def test_kubectl_says_the_same(http: httpx.Client, kubectl: Kubectl) -> None:
    user = f"--as=system:serviceaccount:{OURS}:headrace-worker"
    said = kubectl.said("auth", "can-i", "create", "flinkdeployments.flink.apache.org", user, "-n", JOBS)
    assert said.strip() == "yes"
    assert kubectl.tried("auth", "can-i", "get", "secrets", user, "-n", JOBS).stdout.strip() == "no"
