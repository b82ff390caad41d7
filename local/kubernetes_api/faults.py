"""Faults on order, for tests: which request fails, how, and how many times. It knows nothing of HTTP."""

import threading
from dataclasses import dataclass
from enum import Enum


class FaultKind(str, Enum):
    """How a request fails. RESET_AFTER_WRITE does its work first; the client cannot know."""

    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    GONE = "gone"
    HANG = "hang"
    RESET = "reset"
    RESET_AFTER_WRITE = "reset_after_write"


@dataclass(frozen=True)
class Fault:
    """Applies to the next `count` requests that match; `*` matches all. Verbs are the API's (get, list, watch …)."""

    kind: FaultKind
    verb: str = "*"
    resource: str = "*"
    count: int = 1
    hang_seconds: float = 60.0
    retry_after_seconds: int = 1

    def matches(self, verb: str, resource: str) -> bool:
        return self.verb in ("*", verb) and self.resource in ("*", resource)


class Faults:
    """The faults that are still to happen, oldest first. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._pending.append((fault, fault.count))

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def take(self, verb: str, resource: str) -> Fault | None:
        """The fault for this request, counted as used."""
        if not self._pending:
            return None
        with self._lock:
            for index, (fault, left) in enumerate(self._pending):
                if fault.matches(verb, resource):
                    self._pending[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault
        return None
