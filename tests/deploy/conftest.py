"""A real kube-apiserver for what is applied, without controllers: nothing starts, and all is checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kube_apiserver import KubeServer, running_kube_apiserver
from tests.support.kubectl import Kubectl


@pytest.fixture(scope="session")
def kube_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with running_kube_apiserver(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="session")
def kubectl(kube_server: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(kube_server.kubeconfig_path, tmp_path_factory.mktemp("home"))
