"""The installation's facts as a part of /metrics: read when somebody scrapes, one look for all who do within seconds.

A scrape always answers: where the store or Redis does not, a metric says so, and their facts are left out. What was
true before an outage is no fact of now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from loguru import logger
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headrace import metrics
from headrace.domain.stock import Stock
from headrace.errors import HeadraceError

KEPT_SECONDS = 10.0
"""How long a look is good for: however many scrape, the store is asked once."""

PATIENCE_SECONDS = 2.0
"""How long a scrape waits for a look; Prometheus gives up after ten as a rule."""

Result = TypeVar("Result")


class FactsPage(Collector):
    """The part of /metrics that is the same whichever process tells it."""

    def __init__(self, of_records: Callable[[], Stock], of_queues: Callable[[], Mapping[str, int]]) -> None:
        self._records = _Look(of_records, "facts-of-records")
        self._queues = _Look(of_queues, "facts-of-queues")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """It as Prometheus reads it. Never raises."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What the last looks found."""
        self._records.begin()
        self._queues.begin()
        until = time.monotonic() + PATIENCE_SECONDS
        stock, lengths = self._records.found(until), self._queues.found(until)
        yield metrics.STORE_UP.family({"": stock is not None})
        yield metrics.REDIS_UP.family({"": lengths is not None})
        if stock is not None:
            yield from _of_records(stock)
        if lengths is not None:
            yield metrics.QUEUE_LENGTH.family(lengths)


def _of_records(stock: Stock) -> Iterator[Metric]:
    yield metrics.JOBS.family(stock.jobs)
    yield metrics.OPEN_OPERATIONS.family(stock.open_operations)
    yield metrics.OLDEST_OPEN.family(stock.oldest_seconds)
    yield metrics.UNTOUCHED.family({"": stock.untouched})
    yield metrics.SYNCED.family({"": stock.synced_at.timestamp() if stock.synced_at is not None else 0})
    yield metrics.LEASE_HELD.family({name: each.is_held for name, each in stock.leases.items()})
    yield metrics.LEASE_TURNS.family({name: each.turns for name, each in stock.leases.items()})


class _Look(Generic[Result]):
    """One look at a time, in a thread of its own: a server that hangs holds that thread alone."""

    def __init__(self, look: Callable[[], Result], name: str) -> None:
        self._look = look
        self._threads = ThreadPoolExecutor(1, name)
        self._lock = threading.Lock()
        self._latest: Future[Result] | None = None
        self._begun = 0.0

    def begin(self) -> None:
        """Looks again, where the last look is over and too old."""
        with self._lock:
            is_old = time.monotonic() - self._begun > KEPT_SECONDS
            if self._latest is None or (self._latest.done() and is_old):
                self._latest = self._threads.submit(self._look)
                self._begun = time.monotonic()

    def found(self, until: float) -> Result | None:
        """What the look found, once it is over; None where it is not by then, or found nothing out."""
        assert self._latest is not None  # noqa: S101 - it was begun
        try:
            return self._latest.result(max(until - time.monotonic(), 0.0))
        except (HeadraceError, TimeoutError):
            return None
        except Exception as error:  # noqa: BLE001 - a mistake of ours in one fact keeps no scrape from the others
            logger.error("the facts of /metrics cannot be read: {}", type(error).__name__)
            return None
