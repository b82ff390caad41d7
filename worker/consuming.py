"""Celery's consumer of messages with a sign of life: its loop turns, and its threads get done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic, sleep
from typing import Any

from celery.worker import consumer
from redis.exceptions import ResponseError

from headrace import health

TURN_SECONDS = 5.0

LONGEST_TASK_SECONDS = 600.0
"""Every call of a task is bounded, and none has so many of them."""

REFUSED_SECONDS = 1.0
"""Before a Redis that answers, and refuses, is asked again."""


class Threads:
    """Which of a pool's threads are at a task, and since when."""

    def __init__(self) -> None:
        self._begun: dict[int, float] = {}

    @contextmanager
    def at_a_task(self) -> Iterator[None]:
        """While this thread is."""
        self._begun[get_ident()] = monotonic()
        try:
            yield
        finally:
            del self._begun[get_ident()]

    def are_stuck(self, count: int) -> bool:
        """Whether all of so many have been at one task for longer than any takes."""
        since = sorted(self._begun.copy().values())
        return len(since) >= max(count, 1) and monotonic() - since[-1] > LONGEST_TASK_SECONDS


threads = Threads()


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery has no types
    """See celery. Where Redis is away it waits in its own loop, for minutes; who judges by this sign has to know."""

    def register_with_event_loop(self, hub: Any) -> None:
        """See celery: what is called repeatedly from here on ends with the connection."""
        super().register_with_event_loop(hub)
        self._turned()
        hub.timer.call_repeatedly(TURN_SECONDS, self._turned)

    def on_connection_error_after_connected(self, error: Exception) -> None:
        """See celery. A Redis that is full or was made a replica takes connections and refuses what comes over them:
        whoever asks it again after a pause waits, and does not hang."""
        super().on_connection_error_after_connected(error)
        self._turned()
        if isinstance(error, ResponseError):
            sleep(REFUSED_SECONDS)

    def _turned(self) -> None:
        if not threads.are_stuck(self.pool.num_processes):
            self.app.signs.give(health.LOOP)
