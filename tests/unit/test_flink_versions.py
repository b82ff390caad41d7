"""Which Flink versions the cluster takes is asked once in a while, and not by each accept."""

from __future__ import annotations

from typing import Any

from headrace.adapters.kubernetes.api_server import Answer
from headrace.adapters.kubernetes.runtime import OperatorRuntime


class Api:
    """An API server that lets nobody read a CRD."""

    asked = 0

    def send(self, *_: Any, **__: Any) -> Answer:
        self.asked += 1
        return Answer(403, b"")


def test_an_account_that_may_not_read_crds_is_refused_once_and_not_at_each_accept() -> None:
    api = Api()
    runtime = OperatorRuntime(api, 1.0)  # type: ignore[arg-type]
    assert [list(runtime.flink_versions()) for _ in range(3)] == [[], [], []]
    assert api.asked == 1
