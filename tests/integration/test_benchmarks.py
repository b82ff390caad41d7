"""Each benchmark of two sides, small: it runs on real servers, both sides make the same calls, and none loses work."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks import accept, kafka, latency, operations
from benchmarks.installation import Installation, running
from tests.support.missing import missing

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def where() -> Iterator[Installation]:
    with running(api_seconds=0.002) as installation:
        yield installation


def test_operations_make_the_calls_of_the_bare_side_and_no_other(where: Installation) -> None:
    found = operations.measured(where, rounds=1, count=4, threads=2)
    assert set(found.sides) == {"headrace", "bare", "bare, on record"}
    calls = {side: {k: v for k, v in taken[0].items() if "calls" in k} for side, taken in found.sides.items()}
    assert (
        calls["headrace"]
        == calls["bare, on record"]
        == calls["bare"]
        == {"GET calls an operation": 1.0, "POST calls an operation": 1.0}
    )


def test_latency_ends_with_the_create(where: Installation) -> None:
    found = latency.measured(where, rounds=1, count=2)
    assert all(taken[0][latency.WHOLE] > 0 for taken in found.sides.values())


def test_accepting_is_timed_from_the_moment_that_a_request_had(where: Installation) -> None:
    found = accept.measured(where, rounds=1, seconds=1.0)
    assert all(taken[0][accept.P99] >= taken[0][accept.P50] > 0 for taken in found.sides.values())


@pytest.mark.slow
def test_every_record_becomes_an_operation_on_both_sides(where: Installation) -> None:
    """`consume` counts what is stored, and fails where that is not what was sent."""
    if not os.environ.get("KAFKA_HOME"):
        missing("KAFKA_HOME names no Apache Kafka: unpack one (kafka.apache.org) and set it; others take minutes here")
    found = kafka.measured(where, rounds=1, count=10)
    assert all(taken[0][kafka.RATE] > 0 for taken in found.sides.values())
