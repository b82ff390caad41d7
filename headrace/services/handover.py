"""What threads read for another one, bounded; they end once that one has left. Knows nothing of what they read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

ROOM_SECONDS = 0.5
"""How long a thread waits for room before it asks whether anybody still takes."""


@dataclass(frozen=True)
class Over:
    """The end of what one thread read, and what ended it."""

    error: Exception | None = None


class Handover(Generic[Item]):
    """From threads that read to the one that takes. A thread that waits for its server ends with what that says next,
    or with the server's bound."""

    def __init__(self, most: int) -> None:
        self._given: queue.Queue[Item | Over] = queue.Queue(most)
        self._is_left = threading.Event()

    def read(self, items: Iterator[Item], thread_name: str) -> None:
        """Starts a thread that hands over what comes, then its end, and closes it."""
        threading.Thread(target=self._read, args=(items,), name=thread_name, daemon=True).start()

    def take(self, most: int, timeout_seconds: float) -> list[Item | Over]:
        """What has been given, at least one and at most so many. Raises queue.Empty where nothing comes in time."""
        taken = [self._given.get(timeout=timeout_seconds)]
        while len(taken) < most and not self._given.empty():
            taken.append(self._given.get_nowait())
        return taken

    def leave(self) -> None:
        """Nothing is taken any more."""
        self._is_left.set()

    def _read(self, items: Iterator[Item]) -> None:
        over = Over()
        try:
            while not self._is_left.is_set() and (item := next(items, None)) is not None:
                self._give(item)
            if (close := getattr(items, "close", None)) is not None:
                close()
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever takes
            over = Over(error)
        self._give(over)

    def _give(self, item: Item | Over) -> None:
        while not self._is_left.is_set():
            with suppress(queue.Full):
                self._given.put(item, timeout=ROOM_SECONDS)
                return
