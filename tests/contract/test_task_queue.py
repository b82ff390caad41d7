"""ports.TaskQueue: the queue in memory, and Celery's over a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis as Client

from headrace.adapters.celery_queue import CeleryQueue, redis
from headrace.domain.jobs import JobKey
from headrace.errors import Unavailable
from headrace.ports import TaskQueue
from headrace.task_names import EXECUTIONS_QUEUE, LAUNCHES_QUEUE
from headrace.testing import InMemoryQueue
from tests.support import servers
from tests.support.patience import REQUEST_SECONDS, wait_for


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskQueue]:
    if request.param == "memory":
        yield InMemoryQueue()
        return
    command = servers.redis(tmp_path)
    with servers.running(command, tmp_path):
        made = CeleryQueue(redis(command.address, REQUEST_SECONDS))
        yield made
        made.close()


def test_wake_ups_wait_until_a_worker_takes_them(queue: TaskQueue) -> None:
    assert queue.waiting() == 0
    for name in ("a", "b", "a"):
        queue.wake(JobKey("default", name))
    wait_for("each to be counted once", lambda: queue.waiting() == 3)


def test_each_queue_has_a_length(queue: TaskQueue) -> None:
    assert dict(queue.lengths()) == {"flink.operations": 0, "flink.executions": 0, "flink.launches": 0, "flink.sync": 0}
    queue.wake(JobKey("default", "a"))
    wait_for("it to be counted", lambda: queue.lengths()["flink.executions"] == 1)


def test_a_redis_that_does_not_answer_has_no_lengths() -> None:
    with pytest.raises(Unavailable, match="HEADRACE_REDIS_URL"):
        CeleryQueue(redis("redis://127.0.0.1:1/0", 0.5)).lengths()


def test_a_redis_that_does_not_answer_has_no_wake_ups() -> None:
    assert CeleryQueue(redis("redis://127.0.0.1:1/0", 0.5)).waiting() == 0


def test_a_launch_expires_beyond_any_skew_of_clocks_and_a_wake_up_never(tmp_path: Path) -> None:
    with servers.running(command := servers.redis(tmp_path), tmp_path), Client.from_url(command.address) as client:
        queue = CeleryQueue(redis(command.address, REQUEST_SECONDS))
        queue.wake(JobKey("default", "a"))
        queue.launch(JobKey("default", "a"))
        woken, launched = (
            json.loads(wait_for(f"what is sent to {name}", lambda name=name: client.lindex(name, 0)))
            for name in (EXECUTIONS_QUEUE, LAUNCHES_QUEUE)
        )
        queue.close()
    assert woken["headers"]["expires"] is None
    left = datetime.fromisoformat(launched["headers"]["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=10) < left < timedelta(minutes=15)
