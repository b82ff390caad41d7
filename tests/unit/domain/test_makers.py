"""What is never asked of a person: the names that Flink, its operator and Headrace give to what they make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.failures import Evidence, explain
from headrace.domain.job_requests import parse_request
from headrace.domain.jobs import LEGAL_NAME
from headrace.domain.makers import Maker, maker_of
from headrace.domain.manifest.parts import secret_name
from headrace.domain.manifest.programs import files_name
from tests.support.given import JOB

NAMES = st.from_regex(LEGAL_NAME, fullmatch=True)
FLINKS = [
    ("configmap", "flink-config-{0}"),
    ("configmap", "pod-template-{0}"),
    ("configmap", "hadoop-config-{0}"),
    ("configmap", "kerberos-krb5conf-{0}"),
    ("configmap", "{0}-cluster-config-map"),
    ("configmap", "{0}-0123456789abcdef0123456789abcdef-config-map"),
    ("secret", "kerberos-keytab-{0}"),
    ("service", "{0}"),
    ("service", "{0}-rest"),
    ("deployment", "{0}"),
]
USERS = [("secret", "{0}"), ("configmap", "{0}"), ("secret", "flink-config-{0}"), ("configmap", "flink-config-{0}-2")]


@pytest.mark.parametrize(("kind", "name"), FLINKS)
@given(deployment=NAMES)
def test_what_flink_makes_is_flinks_for_this_deployment_alone(kind: str, name: str, deployment: str) -> None:
    assert maker_of(kind, name.format(deployment), deployment) is Maker.FLINK
    assert maker_of(kind, name.format(deployment), f"{deployment}-other") is Maker.USER


@pytest.mark.parametrize(("kind", "name"), USERS)
@given(deployment=NAMES)
def test_what_only_looks_like_it_is_the_users(kind: str, name: str, deployment: str) -> None:
    assert maker_of(kind, name.format(deployment), deployment) is Maker.USER


def test_what_headrace_makes_beside_a_deployment_is_known_as_its_own() -> None:
    job = replace(JOB, deployment_name="orders")
    sealed = {"env": {"PASSWORD": {"sealed": "x"}}, "script": {"name": "job.py", "content": "print(1)"}}
    request = parse_request({"type": "PYTHON_SCRIPT", **sealed})
    assert maker_of("configmap", files_name(job, request), "orders") is Maker.HEADRACE
    assert maker_of("secret", secret_name(job, request), "orders") is Maker.HEADRACE


@pytest.mark.parametrize(
    ("kind", "name"), [*FLINKS, ("configmap", "{0}-files-0123abcd"), ("secret", "{0}-env-0123abcd")]
)
@pytest.mark.parametrize(
    "said", ['MountVolume.SetUp failed for volume "v" : {0} "{1}" not found', '{0}s "{1}" not found']
)
def test_nobody_is_asked_to_make_what_is_made_by_itself(kind: str, name: str, said: str) -> None:
    found = explain(Evidence(error=said.format(kind, name.format("orders")), deployment="orders"))
    assert found is not None
    assert "makes itself" in found.cause
    assert found.next_step.startswith("it comes by itself")
    assert "create" not in found.next_step
    other = explain(Evidence(error=said.format(kind, name.format("orders")), deployment="clicks"))
    assert other is None or "makes itself" not in other.cause


@pytest.mark.parametrize(
    ("error", "cause", "step"),
    [
        ('secret "db" not found', 'secret "db" not found', "create it in the job's namespace"),
        ('configmaps "settings" not found', 'configmaps "settings" not found', "env_from or pod.volumes"),
        (
            '0/1 nodes are available: persistentvolumeclaim "headrace-state" not found.',
            'persistentvolumeclaim "headrace-state" not found',
            "HEADRACE_FLINK_STATE_VOLUME",
        ),
        ('namespaces "prod" not found', 'namespaces "prod" not found', "create it"),
        (
            'pods "orders-89cb76f8-" is forbidden: error looking up service account prod/flink: serviceaccount "flink" '
            "not found",
            "namespace prod has no ServiceAccount flink",
            "or set service_account",
        ),
    ],
)
def test_what_a_person_has_to_make_is_asked_of_him_by_its_kind(error: str, cause: str, step: str) -> None:
    found = explain(Evidence(error=error, deployment="orders"))
    assert found is not None
    assert cause in found.cause
    assert step in found.next_step
