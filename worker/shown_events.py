"""What Flower keeps of events, without the arguments that a task's sender wrote into one. Imported by Flower alone."""

from __future__ import annotations

from typing import Any

from flower.events import EventsState

from headrace.domain.secrets import HIDDEN

SENT = "task-sent"
"""The event that a task's sender writes, with its arguments as they are; all others are our workers'."""


class ShownEvents(EventsState):  # type: ignore[misc]  # flower has no types
    """Flower's memory of tasks."""

    def event(self, event: dict[str, Any]) -> None:
        """See flower."""
        super().event({**event, "args": HIDDEN, "kwargs": HIDDEN} if event.get("type") == SENT else event)
