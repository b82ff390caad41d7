"""What `up` says of a cluster that was swapped in, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import CrdMissing
from local import swapped


class WithoutOperator:
    def flink_versions(self) -> tuple[str, ...]:
        raise CrdMissing


@pytest.mark.parametrize(
    ("runtimes", "is_missed"), [(("operator",), True), (("native", "operator"), True), (("native",), False)]
)
def test_an_operator_is_missed_where_jobs_are_to_run_by_one(
    monkeypatch: pytest.MonkeyPatch, runtimes: tuple[str, ...], is_missed: bool
) -> None:
    monkeypatch.setattr(swapped, "connect", lambda *_: WithoutOperator())
    words = swapped.ask_kubernetes(Path("kubeconfig"), runtimes)
    assert (words is not None and "no FlinkDeployment CRD" in words) is is_missed
