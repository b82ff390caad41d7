"""Golden manifests are what the real CRD takes, under strict validation, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.kube_apiserver import KubeServer, running_kube_apiserver

GOLDEN = sorted((Path(__file__).parent.parent / "data" / "golden").glob("*.yaml"))
PATH = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with running_kube_apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_real_api_server_takes_it_strictly(server: KubeServer, file: Path) -> None:
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    headers = {"Authorization": f"Bearer {server.token}"}
    manifest = yaml.safe_load(file.read_text())
    answer = httpx.post(server.url + PATH, params=query, json=manifest, headers=headers, verify=False, timeout=30)
    assert answer.status_code == 201, answer.text


def test_golden_manifests_are_there() -> None:
    assert len(GOLDEN) >= 3
