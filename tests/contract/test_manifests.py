"""Golden manifests are what the real CRDs take, under strict validation, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.kube_apiserver import CRDS_DIRECTORY, OLDEST_CRDS, KubeServer, running_kube_apiserver

DATA = Path(__file__).parent.parent / "data"
GOLDEN = sorted((DATA / "golden").glob("*.yaml"))
PATH = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"


def flink_version(file: Path) -> str:
    return str(yaml.safe_load(file.read_text())["spec"]["flinkVersion"])


def post(server: KubeServer, file: Path) -> httpx.Response:
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    headers = {"Authorization": f"Bearer {server.token}"}
    manifest = yaml.safe_load(file.read_text())
    return httpx.post(server.url + PATH, params=query, json=manifest, headers=headers, verify=False, timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with running_kube_apiserver(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with running_kube_apiserver(tmp_path_factory.mktemp("oldest"), OLDEST_CRDS) as running:
        yield running


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_crd_of_the_newest_operator_takes_it_strictly(server: KubeServer, file: Path) -> None:
    answer = post(server, file)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_the_crd_of_the_oldest_operator_takes_what_its_flink_versions_allow(oldest: KubeServer, file: Path) -> None:
    answer = post(oldest, file)
    if flink_version(file) == "v1_20":
        assert answer.status_code == 201, answer.text
    else:
        assert answer.status_code == 422
        assert 'Unsupported value: "v2_2"' in answer.json()["message"]


def test_golden_manifests_are_there() -> None:
    assert len(GOLDEN) >= 10
    assert CRDS_DIRECTORY != OLDEST_CRDS
    assert {"v1_20", "v2_2"} <= {flink_version(file) for file in GOLDEN}
