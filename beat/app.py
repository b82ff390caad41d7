"""The Beat application and its schedule. Every entry expires, so that an outage leaves no heap of old messages."""

from __future__ import annotations

from celery import Celery
from celery.signals import after_task_publish

from headrace import bootstrap, metrics, task_names
from headrace.domain.operations.operation import LONGEST_SKEW_SECONDS
from headrace.settings import Settings

WAITS_PERIOD_SECONDS = 10.0
SAVEPOINTS_PERIOD_SECONDS = 60.0


@after_task_publish.connect  # type: ignore[untyped-decorator]  # celery has no types
def count_sent(sender: str, **_: object) -> None:
    """What the broker has taken is counted: a Beat that cannot send is as silent as none."""
    metrics.BEAT_SENT.labels(sender).inc()


def make_app(settings: Settings) -> Celery:
    """An application that sends each task of the schedule in its period."""
    redis = bootstrap.redis_of(settings)
    app = Celery("headrace-beat", broker=redis.url)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        **redis.configuration,
        beat_schedule={
            "sync": _entry(task_names.SYNC_STATUS, task_names.SYNC_QUEUE, settings.sync_period_seconds),
            "redeliver": _entry(task_names.REDELIVER, task_names.OPERATIONS_QUEUE, settings.redeliver_period_seconds),
            "prune": _entry(task_names.PRUNE, task_names.OPERATIONS_QUEUE, settings.prune_period_seconds),
            "savepoints": _entry(task_names.TAKE_SAVEPOINTS, task_names.OPERATIONS_QUEUE, SAVEPOINTS_PERIOD_SECONDS),
            "waits": _entry(task_names.EXPLAIN_WAITS, task_names.OPERATIONS_QUEUE, WAITS_PERIOD_SECONDS),
        },
        beat_max_loop_interval=5,
        beat_sync_every=0,
        timezone="UTC",
    )
    return app


def _entry(name: str, queue: str, period_seconds: float) -> dict[str, object]:
    # by the sender's clock, and a worker compares it with its own
    options = {"queue": queue, "expires": LONGEST_SKEW_SECONDS + 2 * period_seconds, "ignore_result": True}
    return {"task": name, "schedule": period_seconds, "options": options}
