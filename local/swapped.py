"""Servers that are swapped in for the laptop's own: each asked once, before anything starts.

Ours would wait for them, as they do in production; who has mistyped an address should not.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import redis
from redis.exceptions import RedisError

from headrace.adapters.kafka import Broker, Topics
from headrace.adapters.kubernetes import connect
from headrace.domain.jobs import OPERATOR
from headrace.errors import ConfigurationError, Refused, Unavailable
from headrace.settings import without_credentials

SECONDS = 5.0


def ask_redis(url: str) -> None:
    """Raises Unavailable, or ConfigurationError where it is no address of a Redis."""
    try:
        with redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
            client.ping()
    except ValueError as error:
        raise ConfigurationError(f"--redis {without_credentials(url)}: {error}") from error
    except RedisError as error:
        raise Unavailable(f"Redis at {without_credentials(url)} did not answer (--redis): {error}") from error


def ask_kafka(bootstrap_servers: str) -> None:
    """Raises Unavailable."""
    Topics(Broker(bootstrap_servers), SECONDS).ensure([])


def ask_kubernetes(kubeconfig: Path, runtimes: Collection[str]) -> str | None:
    """What is missing there for jobs to run by these runtimes, in words. Raises Unavailable or ConfigurationError."""
    try:
        connect(kubeconfig, SECONDS).flink_versions()
    except Refused as error:
        return str(error) if OPERATOR in runtimes else None
    return None
