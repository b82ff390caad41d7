"""Celery's Redis transport with a guard in front: what cannot be a message is rejected in one line, and the next one is
read. Knows no task.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from loguru import logger
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from headrace import metrics, task_names
from headrace.domain.operations import KINDS
from headrace.logs import say_unforeseen
from worker.messages import message_problem, of_a_later_release, task_problem

TASKS = task_names.WITHOUT_A_KIND | {task_names.accepting(kind) for kind in KINDS}

SERVER_ERRORS = tuple(
    each
    for each in (*redis.Transport.connection_errors, *redis.Transport.channel_errors, Empty)
    if each is not KeyError  # kombu counts it among them, and a message without its key would be a lost connection
)

logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)
"""Its warning about a control message that is no JSON repeats the message."""


def rejected(place: str, why: str) -> None:
    """Says so, and counts it."""
    metrics.REFUSED.labels("celery").inc()
    logger.warning("a message of {} is rejected: {}", place, why)


class QoS(redis.QoS):
    """What is delivered and not acknowledged yet. An entry that cannot be read does not keep the others back."""

    def append(self, message: Any, delivery_tag: Any) -> None:
        """See kombu. The message is off its queue by now: where Redis is full, or refuses for another reason to keep a
        note of it, it is handled all the same, since nothing else may know of it."""
        try:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            logger.warning("Redis keeps no note of a message that is being handled: {}", error)
            virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: Any) -> None:
        """See kombu. A message whose acknowledgement Redis did not take comes again, and is idempotent."""
        with self._place_freed(delivery_tag):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """See kombu. So does one that was to be given back: a task whose next try could not be sent."""
        with self._place_freed(delivery_tag):
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]

    @contextmanager
    def _place_freed(self, delivery_tag: Any) -> Iterator[None]:
        """Whatever Redis answers, of which kombu logs what is raised: else a worker that takes one message at a time
        would take no other any more."""
        try:
            yield
        except SERVER_ERRORS:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """See kombu."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except SERVER_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a reader of strange bytes raises
            rejected("the unacknowledged ones", type(error).__name__)
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """Reads messages one by one; each is looked at before Celery gets it."""

    QoS = QoS

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any) -> Any:
        """See kombu."""
        result = super().basic_consume(queue, no_ack, callback, consumer_tag, **options)  # type: ignore[no-untyped-call]
        callbacks = self.connection._callbacks
        callbacks[queue] = partial(self._guarded, queue, callbacks[queue])
        return result

    def _connparams(self, *args: Any, **options: Any) -> Any:
        """See kombu. A channel that outlives its connection knows no server any more: what is asked of it fails like
        what is asked of a server that is away. Kombu stumbles over the missing address, and the worker ends."""
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("its connection was given up")
        return super()._connparams(*args, **options)  # type: ignore[no-untyped-call]

    def _guarded(self, queue: str, deliver: Callable[[Any], Any], raw: Any) -> None:
        problem = task_problem(raw, TASKS) if queue in task_names.QUEUES else message_problem(raw)
        if problem is not None:
            if queue not in task_names.QUEUES or not self._left(queue, raw):
                rejected(queue, problem)
            return
        try:
            deliver(raw)
        except SERVER_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - Celery's own code over a message: that message's fault
            metrics.UNFORESEEN.labels("celery").inc()
            say_unforeseen(error, f"a message of {queue}")
            rejected(queue, type(error).__name__)
            with suppress(KeyError):  # it may not have come so far
                self.basic_reject(raw["properties"]["delivery_tag"], requeue=False)  # type: ignore[no-untyped-call]

    def _left(self, queue: str, raw: Any) -> bool:
        """Puts a task of a later release where unacknowledged ones are, without a place in this worker: after the
        visibility timeout whoever looks first brings it back to its queue. Whether it could be."""
        kept = of_a_later_release(raw, TASKS)
        if kept is None:
            return False
        tag, place = kept["properties"]["delivery_tag"], kept["properties"]["delivery_info"]
        entry = json.dumps([kept, place["exchange"], place["routing_key"]])
        try:
            with self.conn_or_acquire() as client:
                pipe = client.pipeline().zadd(self.unacked_index_key, {tag: time.time()})
                pipe.hset(self.unacked_key, tag, entry).execute()
        except ResponseError:
            return False
        logger.warning("{} is no task of this release: it is left to a worker of a later one", kept["headers"]["task"])
        return True

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except SERVER_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - it is read off the queue, and is no JSON
            rejected("a queue", f"it is no JSON ({type(error).__name__})")
            return True

    def _receive_one(self, connection: Any) -> Any:
        try:
            return super()._receive_one(connection)  # type: ignore[no-untyped-call]
        except SERVER_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            rejected("the control channel", f"it is no JSON ({type(error).__name__})")
            return True


class Poller(redis.MultiChannelPoller):
    """What is waited for on every connection."""

    def on_poll_init(self, poller: Any) -> None:
        """See kombu: first it looks for messages that were left unacknowledged, as it does every few seconds from then
        on. Where Redis refuses that, whoever connects would lose sight of two open connections, at each of several
        tries a second: after minutes a worker could open no more, and stayed away from a Redis that was well again."""
        try:
            super().on_poll_init(poller)  # type: ignore[no-untyped-call]
        except Transport.connection_errors as error:
            logger.warning("Redis does not say which messages were left: {}", error)


class Transport(redis.Transport):
    """What redis:// and rediss:// stand for in a worker."""

    Channel = Channel
    connection_errors = (*redis.Transport.connection_errors, ResponseError, InvalidResponse)
    """A Redis that refuses (it is full, was made a replica, cannot write its disk) is waited for, like one that is
    away, and so is whatever else answers at its address: kombu takes that for somebody's mistake, and the worker ends.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self.cycle = Poller()  # type: ignore[assignment, no-untyped-call]
