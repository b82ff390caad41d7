"""Every Deployment of a JobManager in a namespace, looked after by a thread of its own; and what is left of those that
went while nobody looked."""

from __future__ import annotations

import threading
from pathlib import Path

from loguru import logger

from local.flink_operator.events import Events
from local.flink_operator.kube import KubeError
from local.kubelet.deployment import DeploymentController
from local.kubelet.objects import Objects

SWEEP_EVERY = 10
"""Looks."""


class Kubelet:
    """Asked to look now and then; its threads go on meanwhile, until `is_stopping`."""

    def __init__(self, objects: Objects, events: Events, data: Path, is_stopping: threading.Event) -> None:
        self._objects = objects
        self._events = events
        self._data = data
        self._is_stopping = is_stopping
        self._running: dict[str, DeploymentController] = {}
        self._looks = 0

    def look(self) -> None:
        """Starts a thread for each Deployment that has none."""
        try:
            if self._looks % SWEEP_EVERY == 0:
                self._sweep()
            self._looks += 1
            for live in self._objects.native_deployments():
                uid = live["metadata"]["uid"]
                if uid not in self._running or not self._running[uid].is_alive():
                    controller = DeploymentController(self._objects, self._events, live, self._data, self._is_stopping)
                    self._running[uid] = controller
                    controller.start()
        except KubeError as error:
            logger.warning("{}", error)
        for uid in [uid for uid, thread in self._running.items() if not thread.is_alive()]:
            del self._running[uid]

    def wait(self, seconds: float) -> None:
        """Until every process is stopped: to be asked once `is_stopping`."""
        for thread in self._running.values():
            thread.join(seconds)

    def rest_port(self, name: str) -> int | None:
        """Where the JobManager of this Deployment has its REST API, while it is looked after."""
        found = (thread.rest_port for thread in list(self._running.values()) if thread.deployment_name == name)
        return next(found, None)

    def _sweep(self) -> None:
        """What belongs to a Deployment that is gone. It is listed before the Deployments are: an owner is there before
        what it owns."""
        dependents = list(self._objects.dependents())
        there = self._objects.uids_of_deployments() if dependents else set()
        for kind, each, uid in dependents:
            if uid not in there:
                self._objects.remove(kind, each)
