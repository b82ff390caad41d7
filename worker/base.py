"""The base task: retries of what is transient, log context and metrics, once for all tasks."""

from __future__ import annotations

import time
from typing import Any

from celery import Task
from loguru import logger

from headrace import metrics
from headrace.errors import PermanentError, TransientError

LONGEST_COUNTDOWN_SECONDS = 60
"""Below the broker's visibility timeout: a task that waits for its next try is not delivered a second time."""

REDACTED = "…"
SHOWN = ("tenant", "job_id", "parallelism", "force", "template_id", "idempotency_key")
"""Arguments that may be shown in Flower and logs; others may carry what a user typed."""


class ServiceTask(Task):  # type: ignore[misc]  # celery has no types
    """A task that only calls a service.

    A TransientError is tried again with a growing pause, `max_retries` times (None: for as long as it takes), then
    left to redelivery; a PermanentError is the sender's mistake: one log line, no traceback, no retry.
    """

    abstract = True
    max_retries: int | None = 3
    typing = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ids = {"task_id": self.request.id or "-", "job_id": str(kwargs.get("job_id") or "-")}
        begun = time.monotonic()
        with logger.contextualize(**ids):
            try:
                result = super().__call__(*args, **kwargs)
            except PermanentError as error:
                logger.warning("{} was refused: {}", self.name, error)
                self._count("refused", begun)
                return None
            except TransientError as error:
                self._count("transient", begun)
                self._try_again(error)
                return None
            self._count("done", begun)
            return result

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends with arguments shown only where they are harmless."""
        return super().apply_async(args, kwargs, argsrepr="()", kwargsrepr=shown(kwargs or {}), **options)

    def _try_again(self, error: TransientError) -> None:
        tried = self.request.retries
        if self.max_retries is not None and tried >= self.max_retries:
            logger.warning("{} is left to redelivery: {}", self.name, error)
            return
        logger.info("{} is tried again: {}", self.name, error)
        countdown = min(2 ** min(tried, 10), LONGEST_COUNTDOWN_SECONDS)
        raise self.retry(exc=error, countdown=countdown)

    def _count(self, outcome: str, begun: float) -> None:
        metrics.TASKS.labels(self.name, outcome).inc()
        metrics.TASK_SECONDS.labels(self.name).observe(time.monotonic() - begun)


def shown(arguments: dict[str, Any]) -> str:
    """The arguments as Flower and logs may have them."""
    return repr({key: value if key in SHOWN else REDACTED for key, value in arguments.items()})
