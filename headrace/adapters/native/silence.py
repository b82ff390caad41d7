"""How long the JobManagers that ought to answer have not: one request without an answer says nothing of a job. Asks no
server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

HOLDS_ON_SECONDS = 25.0
"""So long a JobManager that does not answer is asked again before that counts. The operator holds on as long
(docs/runtimes.md)."""

STARTS_SECONDS = 60.0
"""A pod that is ready only since then may have a JobManager that is about to start: nothing is to be expected of it."""

FORGOTTEN_SECONDS = 3600.0
"""Two silences with so much between them are two: far more than passes between two looks, where many are silent."""


class Silence:
    """Since when each cluster is silent, by its Deployment's uid, as this process has met it. Used by many threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def ends(self, uid: str) -> None:
        """It has answered."""
        with self._lock:
            self._since.pop(uid, None)

    def is_new(self, uid: str, status: Mapping[str, Any]) -> bool:
        """Told of a request that had no answer, with the Deployment's status: whether one is to be expected still."""
        now = self._clock()
        if not _has_been_ready(status, now - STARTS_SECONDS):
            self.ends(uid)
            return False
        with self._lock:
            self._since = {each: at for each, at in self._since.items() if now - at[1] < FORGOTTEN_SECONDS}
            since, _ = self._since.get(uid, (now, now))
            self._since[uid] = (since, now)
            return now - since < HOLDS_ON_SECONDS


def _has_been_ready(status: Mapping[str, Any], since: float) -> bool:
    """Whether its pod has been ready from then on, by the condition that Kubernetes keeps of it (Available)."""
    found = [each for each in status.get("conditions") or () if each.get("type") == "Available"]
    if not status.get("readyReplicas") or not found or found[0].get("status") != "True":
        return False
    try:
        return datetime.fromisoformat(str(found[0].get("lastTransitionTime"))).timestamp() <= since
    except ValueError:
        return False
