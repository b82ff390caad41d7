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
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue  # type: ignore[attr-defined]
from kombu.common import ignore_errors

from headrace.adapters.celery_queue import transport_options
from tests.support import servers
from tests.support.patience import wait_for
from worker.transport import Transport

QUEUE = Queue("headrace.test-acknowledgements")
OF_CONTROL = Queue("headrace.test-control", Exchange("headrace.test-control", type="fanout"), auto_delete=True)
LOG = logging.getLogger(__name__)


@contextmanager
def full(url: str, _pid: int):
    with redis.Redis.from_url(url, socket_timeout=5) as server:
        server.config_set("maxmemory", 1)
        yield
        server.config_set("maxmemory", 0)


@contextmanager
def replica(url: str, _pid: int):
    with redis.Redis.from_url(url, socket_timeout=5) as server:
        server.replicaof("127.0.0.1", 1)
        yield
        server.replicaof("NO", "ONE")


@contextmanager
def frozen(_url: str, pid: int):
    with servers.frozen(pid):
        yield


def acknowledged(message: Message, connection: Connection) -> None:
    message.ack_log_error(LOG, connection.connection_errors)


def rejected(message: Message, connection: Connection) -> None:
    """As a task that is to be tried again and cannot be sent does it."""
    message.reject_log_error(LOG, connection.connection_errors)


@pytest.mark.parametrize("struck", [full, frozen, replica])
@pytest.mark.parametrize("answered", [acknowledged, rejected])
def test_an_acknowledgement_that_redis_does_not_take_holds_no_place(
    tmp_path: Path,
    struck: Callable[[str, int], AbstractContextManager[None]],
    answered: Callable[[Message, Connection], None],
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
                    answered(message, connection)

            with Consumer(connection, queues=[QUEUE], callbacks=[handle], prefetch_count=1, accept=["json"]):
                wait_for("both to be handled", lambda: drained(connection) and came == ["first", "second"], 10)


def test_what_is_acknowledged_after_redis_was_lost_ends_nobody(tmp_path: Path) -> None:
    """As Celery gives a connection up, with one message under way, the next one waited for, and a queue for control
    messages beside. Kombu leaves the channel half closed there: neither its poll can be read nor that queue be deleted.
    Whatever is asked of it then finds no server's address, and a worker ended for that."""
    with servers.running(servers.redis(tmp_path), tmp_path) as server:
        came: list[Message] = []
        with Connection(server.command.address, transport=Transport, transport_options=transport_options(1.0)) as lost:
            Producer(lost.channel()).publish("first", routing_key=QUEUE.name, declare=[QUEUE], serializer="json")
            consumer = Consumer(lost, queues=[QUEUE], prefetch_count=2, accept=["json"])
            consumer.register_callback(lambda _, message: came.append(message))
            consumer.consume()
            Consumer(lost.channel(), queues=[OF_CONTROL], accept=["json"], callbacks=[handled]).consume()
            wait_for("the message", lambda: drained(lost) and came)
            wait_for("the next one to be waited for", lambda: drained(lost) and lost.default_channel._in_poll)
            server.stop()
            with suppress(Exception):
                lost.collect(socket_timeout=1)
            ignore_errors(lost, lost.close)
            came[0].ack_log_error(LOG, lost.connection_errors)


def handled(_: str, message: Message) -> None:
    message.ack()


def drained(connection: Connection) -> bool:
    """Handles what has come, for a moment."""
    with suppress(TimeoutError, redis.TimeoutError):
        connection.drain_events(timeout=0.5)
    return True
