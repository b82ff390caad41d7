"""What keeps a pod from running, from its states as Kubernetes has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from headrace.domain.deployments import PodTrouble
from headrace.domain.pods import Pod, first_trouble, manager_is_up, pod_seen

MAIN = "flink-main-container"
AT = "2026-01-01T00:00:00Z"
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": AT}}
ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": AT}}
LOOPS = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
RUNS = {"running": {"startedAt": AT}}
CREATED = {"waiting": {"reason": "ContainerCreating"}}


def pod(state: dict[str, Any], last: dict[str, Any] | None = None) -> Pod:
    container = {"name": MAIN, "restartCount": 1, "state": state, "lastState": last or {}}
    metadata = {"name": "orders-1", "labels": {"component": "jobmanager"}}
    return msgspec.convert({"metadata": metadata, "status": {"containerStatuses": [container]}}, Pod)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (pod(LOOPS, KILLED), "OOMKilled"),
        (pod(KILLED), "OOMKilled"),
        (pod(KILLED, ENDED), "OOMKilled"),
        (pod(LOOPS, ENDED), "CrashLoopBackOff"),
        (pod(ENDED, KILLED), None),
        (pod(RUNS, KILLED), None),
        (pod(CREATED, KILLED), None),
    ],
)
def test_a_container_that_was_killed_is_trouble_until_it_runs_again(seen: Pod, reason: str | None) -> None:
    found = first_trouble([pod_seen(pod(RUNS)), pod_seen(seen)])
    assert (found.reason if found else None) == reason
    assert found is None or (found.pod, found.component) == ("orders-1", "jobmanager")


def test_a_crash_loop_that_memory_has_no_part_in_is_told_as_before() -> None:
    words = f"[{MAIN}] back-off 10s restarting failed container"
    assert first_trouble([pod_seen(pod(LOOPS, ENDED))]) == PodTrouble(
        "orders-1", "CrashLoopBackOff", words, "jobmanager"
    )


def test_it_is_known_when_a_container_was_killed_though_it_runs_again() -> None:
    assert pod_seen(pod(RUNS, KILLED)).killed_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert pod_seen(pod(RUNS, ENDED)).killed_at is None


@pytest.mark.parametrize(
    ("seen", "is_up"),
    [
        ({}, True),
        ({"restartCount": 3}, False),
        ({"restartCount": 3, "Ready": "True"}, True),
        ({"state": LOOPS}, False),
        ({"state": CREATED}, False),
        ({"component": "taskmanager"}, False),
        ({"deletionTimestamp": AT}, False),
    ],
)
def test_a_jobmanager_is_up_where_it_runs_and_is_no_crash_loop(seen: dict[str, Any], is_up: bool) -> None:
    container = {"name": MAIN, "restartCount": seen.get("restartCount", 0), "state": seen.get("state", RUNS)}
    metadata = {"name": "orders-1", "labels": {"component": seen.get("component", "jobmanager")}}
    metadata |= {"deletionTimestamp": seen["deletionTimestamp"]} if "deletionTimestamp" in seen else {}
    status = {"containerStatuses": [container], "conditions": [{"type": "Ready", "status": seen.get("Ready", "False")}]}
    whole = {"metadata": metadata, "spec": {"containers": [{"name": MAIN}]}, "status": status}
    assert manager_is_up([pod_seen(msgspec.convert(whole, Pod))]) is is_up


def test_the_jobmanagers_trouble_is_told_before_a_taskmanagers() -> None:
    worker = msgspec.convert(
        {
            "metadata": {"name": "orders-taskmanager-1-1", "labels": {"component": "taskmanager"}},
            "status": {"containerStatuses": [{"name": MAIN, "state": LOOPS}]},
        },
        Pod,
    )
    found = first_trouble([pod_seen(worker), pod_seen(pod(LOOPS))])
    assert found is not None
    assert found.pod == "orders-1"
