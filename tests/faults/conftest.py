"""A whole stack without an operator: deployments stand in the small API as they were created."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from local.kubernetes_api.server import LocalKubernetesApi
from tests.support.stack import RunningStack, running_stack

TOKEN = "token-of-a-test"
DEADLINES = {"HEADRACE_OPERATION_DEADLINE_SECONDS": "36000", "HEADRACE_REDELIVER_PERIOD_SECONDS": "5"}


SCRIPT = {"name": "job.py", "content": "print(1)\n"}
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"


class Event(msgspec.Struct):
    """A line of a watch."""

    type: str
    object: dict


def created(kubernetes: LocalKubernetesApi) -> Counter[str]:
    """How often a deployment of each name was ever created, from the API's own history."""
    query = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "1"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.get(kubernetes.url + DEPLOYMENTS, params=query, headers=headers, timeout=30, trust_env=False)
    events = [msgspec.json.decode(line, type=Event) for line in answer.content.splitlines() if line]
    return Counter(event.object["metadata"]["name"] for event in events if event.type == "ADDED")


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[LocalKubernetesApi]:
    with LocalKubernetesApi(tmp_path / "kubernetes", token=TOKEN) as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        yield server


@pytest.fixture
def stack(tmp_path: Path, kubernetes: LocalKubernetesApi) -> Iterator[RunningStack]:
    with running_stack(tmp_path / "data", DEADLINES, "--kubeconfig", str(tmp_path / "kubeconfig")) as running:
        yield running
