"""A message that was handled, and whose acknowledgement Redis did not take: its place in the worker is free for the
next one. Where it is kept, a worker that takes one message at a time takes no other, until somebody restarts it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from kombu import Connection, Consumer, Message, Producer, Queue  # type: ignore[attr-defined]

from headrace.adapters.celery_queue import transport_options
from tests.support import servers
from tests.support.patience import wait_for
from worker.transport import Transport

QUEUE = Queue("headrace.test-acknowledgements")
LOG = logging.getLogger(__name__)


@contextmanager
def full(url: str, _pid: int):
    with redis.Redis.from_url(url, socket_timeout=5) as server:
        server.config_set("maxmemory", 1)
        yield
        server.config_set("maxmemory", 0)


@contextmanager
def frozen(_url: str, pid: int):
    with servers.frozen(pid):
        yield


@pytest.mark.parametrize("struck", [full, frozen])
def test_an_acknowledgement_that_redis_does_not_take_holds_no_place(
    tmp_path: Path, struck: Callable[[str, int], AbstractContextManager[None]]
) -> None:
    with servers.running(servers.redis(tmp_path), tmp_path) as server:
        url, came = server.command.address, []
        options = transport_options(1.0)
        with Connection(url, transport=Transport, transport_options=options) as connection:
            Producer(connection.channel()).publish("first", routing_key=QUEUE.name, declare=[QUEUE], serializer="json")
            Producer(connection.channel()).publish("second", routing_key=QUEUE.name, serializer="json")

            def handle(body: str, message: Message) -> None:
                came.append(body)
                with struck(url, server.pid):
                    message.ack_log_error(LOG, connection.connection_errors)

            with Consumer(connection, queues=[QUEUE], callbacks=[handle], prefetch_count=1, accept=["json"]):
                wait_for("both to be handled", lambda: drained(connection) and came == ["first", "second"], 10)


def drained(connection: Connection) -> bool:
    """Handles what has come, for a moment."""
    with suppress(TimeoutError, redis.TimeoutError):
        connection.drain_events(timeout=0.5)
    return True
