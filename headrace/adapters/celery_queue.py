"""ports.TaskQueue over Celery: wakes workers by task name. Never imports worker.

Publishing is off the caller's path: a frozen Redis must not hold an accept. What cannot be sent is dropped, since
Beat wakes again what is open.
"""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery
from loguru import logger
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace import key_files, task_names
from headrace.adapters.prometheus.errors import count_error
from headrace.domain.jobs import JobKey
from headrace.domain.operations.operation import LONGEST_SKEW_SECONDS
from headrace.errors import ConfigurationError, Unavailable

WAITING_LIMIT = 10_000


def transport_options(timeout_seconds: float) -> dict[str, Any]:
    """What every connection to Redis is bounded by."""
    return {
        "visibility_timeout": 120,
        "unacked_restore_interval": 5,
        "socket_connect_timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "socket_keepalive": True,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    }


@dataclass(frozen=True)
class Redis:
    """Where Redis is, and how every application of ours connects to it. Its URL may hold a password: never shown."""

    url: str = field(repr=False)
    timeout_seconds: float
    tls: Mapping[str, Any] | None = None

    @property
    def configuration(self) -> dict[str, Any]:
        """What each Celery application's configuration has of it."""
        options = transport_options(self.timeout_seconds)
        return {"broker_transport_options": options, **({"broker_use_ssl": dict(self.tls)} if self.tls else {})}

    def ping(self) -> None:
        """Returns where Redis answers within the time, and raises what its client raises where it does not."""
        once, bound = Retry(NoBackoff(), 0), self.timeout_seconds
        options = {"socket_timeout": bound, "socket_connect_timeout": bound, "retry": once, **(self.tls or {})}
        with Client.from_url(self.url, **options) as client:
            client.ping()


def redis(url: str, timeout_seconds: float, ca_file: Path | None = None) -> Redis:
    """The Redis that the settings name. By rediss:// it must show a certificate that its authorities, or the system's,
    have signed. Raises ConfigurationError."""
    if not url.startswith("rediss://"):
        if ca_file is not None:
            words = "HEADRACE_REDIS_CA_FILE is set, and HEADRACE_REDIS_URL does not begin with rediss://"
            raise ConfigurationError(f"{words}: Redis would be spoken to in the clear")
        return Redis(url, timeout_seconds)
    key_files.check_is_there(ca_file, "HEADRACE_REDIS_CA_FILE")
    authorities = {"ssl_ca_certs": str(ca_file)} if ca_file is not None else {}
    return Redis(url, timeout_seconds, {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **authorities})


QUEUE_OF = {
    task_names.EXECUTE: task_names.EXECUTIONS_QUEUE,
    task_names.LAUNCH: task_names.LAUNCHES_QUEUE,
}

EXPIRES_SECONDS = {task_names.LAUNCH: LONGEST_SKEW_SECONDS + 60.0}
"""After how long, by the sender's clock, a worker throws one away unseen. What is to be launched is sent again at each
look, of which many pass while no launcher is there; a wake-up comes seldom enough."""


class CeleryQueue:
    """One daemon thread publishes; it is started at the first wake-up, so after any fork."""

    def __init__(self, at: Redis) -> None:
        self._redis = at
        self._waiting: queue.Queue[tuple[str, JobKey] | None] = queue.Queue(WAITING_LIMIT)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_down = False

    def wake(self, key: JobKey) -> None:
        """See ports.TaskQueue."""
        self._send(task_names.EXECUTE, key)

    def launch(self, key: JobKey) -> None:
        """See ports.TaskQueue."""
        self._send(task_names.LAUNCH, key)

    def _send(self, task: str, key: JobKey) -> None:
        self._start()
        try:
            self._waiting.put_nowait((task, key))
        except queue.Full:
            self._say_down("its backlog is full")

    def waiting(self) -> int:
        """See ports.TaskQueue. Those that this process has not sent yet count too."""
        app = producer(self._redis)
        connection = app.connection_for_read()
        try:
            with connection, connection.channel() as channel:
                sent = channel.client.llen(task_names.EXECUTIONS_QUEUE)
        except connection.connection_errors + connection.channel_errors + (OSError,) as error:
            self._say_down(str(error))
            return 0
        return int(sent) + self._waiting.qsize()

    def lengths(self) -> Mapping[str, int]:
        """See ports.TaskQueue."""
        connection = producer(self._redis).connection_for_read()
        try:
            with connection, connection.channel() as channel:
                return {name: int(channel.client.llen(name)) for name in task_names.QUEUES}
        except connection.connection_errors + connection.channel_errors + (OSError,) as error:
            raise Unavailable(f"Redis did not answer (HEADRACE_REDIS_URL): {error}"[:500]) from error

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Sends what waits, for at most so long."""
        if self._thread is not None:
            with suppress(queue.Full):
                self._waiting.put(None, timeout=timeout_seconds)
            self._thread.join(timeout_seconds)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._publish_all, name="celery-queue", daemon=True)
                self._thread.start()

    def _publish_all(self) -> None:
        app = producer(self._redis)
        while (waiting := self._waiting.get()) is not None:
            self._publish(app, *waiting)

    def _publish(self, app: Celery, task: str, key: JobKey) -> None:
        arguments = {"tenant": key.tenant, "job_id": key.job_id}
        try:
            app.send_task(
                task,
                kwargs=arguments,
                queue=QUEUE_OF[task],
                ignore_result=True,
                retry=False,
                expires=EXPIRES_SECONDS.get(task),
                argsrepr="()",
                kwargsrepr=repr(arguments),
            )
        except app.connection().connection_errors + app.connection().channel_errors + (OSError,) as error:
            self._say_down(str(error))
            return
        if self._is_down:
            self._is_down = False
            logger.info("Redis takes wake-ups again")

    def _say_down(self, why: str) -> None:
        count_error("redis", Unavailable(why))
        if not self._is_down:
            self._is_down = True
            logger.warning("Redis takes no wake-ups (HEADRACE_REDIS_URL): {}; Beat sends them again later", why)


def producer(at: Redis) -> Celery:
    """A Celery application that only sends, with every connection bounded."""
    app = Celery("headrace-producer", broker=at.url, set_as_current=False)
    app.conf.update(
        **at.configuration,
        broker_connection_retry_on_startup=False,
        broker_connection_timeout=at.timeout_seconds,
        task_ignore_result=True,
        task_send_sent_event=True,
        redis_socket_timeout=at.timeout_seconds,
        broker_pool_limit=1,
    )
    return app
