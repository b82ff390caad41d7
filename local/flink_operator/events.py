"""Events as the real operator and a kubelet write them: one for each object, reason and message, counted.

They are written by a thread of their own: an API server that is slow or down neither holds up nor breaks a reconcile.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from typing import Any

from loguru import logger

from local.flink_operator.kube import Kube, KubeError

WAITING_AT_MOST = 1000
LONGEST_MESSAGE = 1024
"""What the API server takes."""

FLUSH_SECONDS = 3.0

Resource = dict[str, Any]


class Events:
    """Takes events at once and writes them in their order. What cannot be written is logged and dropped."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._waiting: queue.Queue[Resource | None] = queue.Queue(WAITING_AT_MOST)
        self._thread = threading.Thread(target=self._write_all, name="events", daemon=True)
        self._thread.start()

    def normal(self, about: Resource, component: str, reason: str, message: str) -> None:
        """An event of type Normal about an object that was read from the API."""
        self._take(_event(about, component, "Normal", reason, message))

    def warning(self, about: Resource, component: str, reason: str, message: str) -> None:
        """An event of type Warning."""
        self._take(_event(about, component, "Warning", reason, message))

    def close(self) -> None:
        """Writes what waits, for a few seconds at most."""
        self._take(None)
        self._thread.join(FLUSH_SECONDS)

    def _take(self, event: Resource | None) -> None:
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            logger.warning("events come faster than they can be written: one is dropped")

    def _write_all(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._kube.count_event(event)
            except KubeError as error:
                logger.warning("the event {} was not written: {}", event["reason"], error)


def _event(about: Resource, component: str, kind: str, reason: str, message: str) -> Resource:
    metadata, now = about["metadata"], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    identity = "\n".join((metadata["uid"], component, kind, reason, message))
    name = f"{metadata['name'][:200]}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:LONGEST_MESSAGE],
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": component},
    }
