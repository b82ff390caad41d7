"""Counts what servers did not do, where an adapter translates it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from headrace import metrics
from headrace.errors import Refused, Unavailable, class_of

Server = Literal["mongodb", "redis", "kafka", "kubernetes", "flink"]


@contextmanager
def counting_errors(server: Server) -> Iterator[None]:
    """Counts what is raised of this server's silence or refusal."""
    try:
        yield
    except (Unavailable, Refused) as error:
        count_error(server, error)
        raise


def count_error(server: Server, error: Exception) -> None:
    """Counts one that an adapter has translated."""
    metrics.SERVER_ERRORS.labels(server, class_of(error)).inc()
