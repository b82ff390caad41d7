"""The base task, for all: whose fault an error is, retries of what is not the sender's, log context and metrics."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

from celery import Task
from celery.exceptions import Reject
from loguru import logger

from headrace import metrics
from headrace.domain.inputs import check
from headrace.errors import INPUTS_FAULT, HeadraceError, InvalidRequest, class_of, unforeseen
from headrace.logs import say_unforeseen
from worker.consuming import threads
from worker.requests import shown

LONGEST_COUNTDOWN_SECONDS = 60
"""Below the broker's visibility timeout: a task that waits for its next try is not delivered a second time."""


class ServiceTask(Task):  # type: ignore[misc]  # celery has no types
    """A task that only calls a service.

    What the message is at fault for is refused: one log line, no traceback, no retry. Everything else is a server's
    trouble or ours, and is tried again with a growing pause, `max_retries` times (None: for as long as it takes), then
    left to redelivery.
    """

    abstract = True
    Request = "worker.requests:ShownRequest"
    max_retries: int | None = 3
    typing = True

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        job_id = kwargs.get("job_id")
        ids = {"task_id": self.request.id or "-", "job_id": job_id if isinstance(job_id, str) else "-"}
        begun = time.monotonic()
        with logger.contextualize(**ids):
            try:
                self._check(args, kwargs)
                with threads.at_a_task():
                    result = super().__call__(*args, **kwargs)
            except INPUTS_FAULT as error:
                self._note(error)
                logger.warning("{} was refused: {}", self.name, error)
                metrics.REFUSED.labels("celery").inc()
                self._count("refused", begun)
                return None
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not the message's fault
                self._note(error)
                self._count("transient", begun)
                self._try_again(error)
                return None
            self._count("done", begun)
            return result

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Sends with arguments shown only where they are harmless."""
        return super().apply_async(args, kwargs, argsrepr="()", kwargsrepr=shown(kwargs or {}), **options)

    def _check(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """The arguments' form: by keyword, bounded, of this task's names. What they say, the services check."""
        if args:
            words = f"are given by their place; give them by name: send_task({self.name!r}, kwargs={{…}})"
            raise InvalidRequest({"args": words})
        check(kwargs)
        if "self" in kwargs:  # Python's own, which a signature of a method does not show
            raise InvalidRequest({"self": f"unknown argument of {self.name}"})
        try:
            inspect.signature(self.run).bind(**kwargs)
        except TypeError as error:
            raise InvalidRequest({"kwargs": str(error)}) from error

    def _note(self, error: Exception) -> None:
        metrics.ERRORS.labels("celery", class_of(error)).inc()
        cause = unforeseen(error)
        if cause is not None:
            metrics.UNFORESEEN.labels("celery").inc()
            say_unforeseen(cause, self.name)

    def _try_again(self, error: Exception) -> None:
        tried = self.request.retries or 0
        why = str(error)[:500] if isinstance(error, HeadraceError) else type(error).__name__
        if self.max_retries is not None and tried >= self.max_retries:
            logger.warning("{} is left to redelivery: {}", self.name, why)
            return
        metrics.WAITS.labels("celery").inc()
        logger.info("{} is tried again: {}", self.name, why)
        countdown = min(2 ** min(tried, 10), LONGEST_COUNTDOWN_SECONDS)
        try:
            raise self.retry(exc=error, countdown=countdown)
        except Reject as refused:  # its next try could not be sent: the message is all that there is of it
            raise Reject(refused.reason, requeue=True) from error

    def _count(self, outcome: str, begun: float) -> None:
        metrics.TASKS.labels(self.name, outcome).inc()
        metrics.TASK_SECONDS.labels(self.name).observe(time.monotonic() - begun)
