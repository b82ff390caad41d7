"""The Celery application and its configuration. Services are made in the worker's process, at its start."""

from __future__ import annotations

from functools import cache

from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]
from kombu.transport import TRANSPORT_ALIASES

from headrace import bootstrap, task_names
from headrace import settings as settings_module
from headrace.health import Signs
from headrace.settings import Settings


@cache
def settings() -> Settings:
    """This process' settings, read once. Raises ConfigurationError."""
    return settings_module.load()


@cache
def services() -> bootstrap.Services:
    """This process' services, connected lazily."""
    return bootstrap.services(settings())


def make_app(settings: Settings) -> Celery:
    """The application: threads pool, late acks, JSON alone, no results, events for Flower.

    With the threads pool Celery's time limits, soft shutdown and reject-on-worker-lost do nothing: every call is
    bounded by itself, and redelivery covers the rest.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "worker.transport:Transport"))  # guarded: see there
    redis = bootstrap.redis_of(settings)
    app = Celery("headrace", broker=redis.url, include=["worker.tasks"])
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=task_names.OPERATIONS_QUEUE,
        task_queues=[Queue(n, routing_key=n) for n in task_names.QUEUES],  # type: ignore[no-untyped-call]
        task_routes={task_names.SYNC_STATUS: {"queue": task_names.SYNC_QUEUE}},
        task_send_sent_event=True,
        task_track_started=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_consumer="worker.consuming:Consumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        **redis.configuration,
        enable_utc=True,
        timezone="UTC",
    )
    app.signs = Signs(None, "")
    return app


app = make_app(settings())
