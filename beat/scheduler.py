"""Celery's scheduler with signs of life: its loop turns, and Redis takes what it sends."""

from __future__ import annotations

from typing import Any

from celery import beat
from loguru import logger

from headrace import health

LONGEST_PAUSE_SECONDS = 5


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # celery has no types
    """See celery. The schedule is in memory: two Beats are harmless."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """See celery: once a loop, which sleeps five seconds at most."""
        self.app.signs.give(health.LOOP)
        return super().tick(*args, **kwargs)

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """See celery, which says and forgets what is raised here: the next period sends it again."""
        try:
            sent = super().apply_async(*args, **kwargs)
        except Exception:
            self.app.signs.miss(health.REDIS)
            raise
        self.app.signs.give(health.REDIS)
        return sent

    def _ensure_connected(self) -> Any:
        """See celery, which gives up after a hundred times and pauses half a minute in between."""

        def say(error: Exception, pause: float) -> None:
            self.app.signs.give(health.LOOP)
            logger.warning("waiting for Redis, trying again in {:.0f} s: {}", pause, error)

        return self.connection.ensure_connection(say, interval_max=LONGEST_PAUSE_SECONDS)
