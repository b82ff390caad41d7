"""A task of a kind that a later release has: an earlier worker leaves it to that one's, and goes on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Message, Queue  # type: ignore[attr-defined]

from headrace import task_names
from headrace.adapters.celery_queue import transport_options
from tests.support import servers
from tests.support.patience import wait_for
from worker import transport

QUEUE = Queue(task_names.OPERATIONS_QUEUE, routing_key=task_names.OPERATIONS_QUEUE)
LATER, OF_NOW = "flink.rescale_all", "flink.stop"
SOON = {**transport_options(1.0), "visibility_timeout": 1, "unacked_restore_interval": 1}


def test_what_an_earlier_worker_has_no_task_for_waits_for_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[str] = []

    def handle(_: Any, message: Message) -> None:
        came.append(message.headers["task"])
        message.ack()

    with servers.running(servers.redis(tmp_path), tmp_path) as server:
        url = server.command.address
        with Celery(broker=url, set_as_current=False) as producer:
            for name in (LATER, OF_NOW, "os.system"):
                producer.send_task(name, kwargs={"job_id": "orders"}, queue=QUEUE.name, ignore_result=True)
        with (
            Connection(url, transport=transport.Transport, transport_options=SOON) as connection,
            Consumer(connection, queues=[QUEUE], callbacks=[handle], prefetch_count=1, accept=["json"]),
        ):
            wait_for("the one of now", lambda: drained(connection) and came == [OF_NOW])
            monkeypatch.setattr(transport, "TASKS", transport.TASKS | {LATER})
            wait_for("the later one", lambda: drained(connection) and came == [OF_NOW, LATER])
        with redis.Redis.from_url(url) as left:
            assert left.llen(QUEUE.name) == left.hlen("unacked") == 0


def drained(connection: Connection) -> bool:
    """Handles what has come, for a moment."""
    with suppress(TimeoutError, redis.TimeoutError):
        connection.drain_events(timeout=0.5)
    return True
