"""A whole stack without an operator: deployments stand in the small API as they were created."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.kubernetes_api.server import LocalKubernetesApi
from tests.e2e.stack import RunningStack, running_stack

TOKEN = "token-of-a-test"
DEADLINES = {"HEADRACE_SUBMIT_DEADLINE_SECONDS": "36000", "HEADRACE_REDELIVER_PERIOD_SECONDS": "5"}


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[LocalKubernetesApi]:
    with LocalKubernetesApi(tmp_path / "kubernetes", token=TOKEN) as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        yield server


@pytest.fixture
def stack(tmp_path: Path, kubernetes: LocalKubernetesApi) -> Iterator[RunningStack]:
    with running_stack(tmp_path / "data", DEADLINES, "--kubeconfig", str(tmp_path / "kubeconfig")) as running:
        yield running
