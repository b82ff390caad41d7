"""One deployment as it runs on this machine: the resource as last read and written, its cluster, and its pods.

It writes, tells, shows and stops what it is asked to. When that is, and what follows from what is seen, others decide.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loguru import logger

from local.flink_operator import pods, statuses
from local.flink_operator.cluster import Cluster
from local.flink_operator.events import Events
from local.flink_operator.kube import Kube, KubeError, Resource
from local.flink_operator.pod_errors import PodError, error_of
from local.flink_operator.statuses import Status


class LocalDeployment:
    """What those who look after a deployment share, from one look to the next. Only `cluster` may be read from another
    thread.

    `live` is the resource as the look that is under way has read it, with the status that was written since; `cluster`
    is what runs for it; `inits` are the init containers of its last start; `refusal` is why the API takes no pod of it.
    """

    def __init__(self, kube: Kube, events: Events, live: Resource, data: Path) -> None:
        self.kube = kube
        self.events = events
        self.live = live
        self.name: str = live["metadata"]["name"]
        self.uid: str = live["metadata"]["uid"]
        self.folder = data / f"{self.name}-{self.uid[:8]}"
        self.cluster: Cluster | None = None
        self.inits = pods.Inits()
        self.refusal: str | None = None
        self._launches: dict[Path, pods.Launch] = {}
        self._pods_are_shown = True
        self._not_before = 0.0
        self._no_start_before = 0.0

    @property
    def spec(self) -> dict[str, Any]:
        """What is asked for."""
        spec: dict[str, Any] = self.live["spec"]
        return spec

    @property
    def generation(self) -> int:
        """The number of that spec."""
        return int(self.live["metadata"]["generation"])

    @property
    def status(self) -> Status:
        """As last written; empty before the first. It is for reading: a change is another one, that is written."""
        return self.live.get("status") or {}

    def is_behind(self) -> bool:
        """Whether its spec is another than the one that its status is about."""
        return bool(self.status.get("observedGeneration") != self.generation)

    def write(self, status: Status) -> None:
        """This is its status from now on. Raises KubeError."""
        if status != self.live.get("status"):
            self.kube.put_status(self.live, status)
            self.live["status"] = copy.deepcopy(status)

    def show_manager(self, state: str) -> None:
        """Writes that the JobManager's deployment is in this state, and that its job is not seen. Raises KubeError."""
        self.write(statuses.healthy(statuses.reconciling(self.status, state)))

    def show_start(self) -> None:
        """Writes how far a JobManager is that does not answer: on its way, or with an error of its pod, which is told
        once. Raises KubeError."""
        error = self._pod_error()
        if error is None:
            self.show_manager("DEPLOYING")
        elif self.status["jobManagerDeploymentStatus"] != "ERROR":
            self.warn("JobManagerDeployment", error.reason, error.message)
            failed = statuses.error(
                f"{statuses.EXCEPTIONS}.DeploymentFailedException", error.message, reason=error.reason
            )
            self.write(statuses.with_error(statuses.reconciling(self.status, "ERROR"), failed))

    def _pod_error(self) -> PodError | None:
        if self.refusal is not None:
            return PodError("FailedCreate", self.refusal)
        return error_of(self.kube.pods_of(self.name, "jobmanager"), self.kube.events_about)

    def tell(self, component: str, reason: str, message: str) -> None:
        """An event about it."""
        self.events.normal(self.live, component, reason, message)

    def warn(self, component: str, reason: str, message: str) -> None:
        """An event of type Warning about it."""
        self.events.warning(self.live, component, reason, message)

    def attempt(self, change: Callable[[], None]) -> None:
        """A change that nothing else waits for: where the API does not take it, that is logged."""
        try:
            change()
        except KubeError as error:
            logger.warning("{}: {}", self.name, error)

    def may_try(self) -> bool:
        """Whether the time is over that was to pass after a failure."""
        return time.monotonic() >= self._not_before

    def try_again_in(self, seconds: float) -> None:
        """After a failure: until then nothing is tried."""
        self._not_before = time.monotonic() + seconds

    def may_start(self) -> bool:
        """Whether the time is over that was to pass after a start that failed; a change does not wait for it."""
        return time.monotonic() >= self._no_start_before

    def start_again_in(self, seconds: float) -> None:
        """After a start that failed: until then none is tried."""
        self._no_start_before = time.monotonic() + seconds

    def printed(self, log: Path) -> str:
        """What the process that writes to this log has printed since it was started."""
        start = self._launches.get(log, pods.Launch()).log_start
        return log.read_bytes()[start:].decode(errors="replace") if log.exists() else ""

    def launch(self, log: Path, last_exit_code: int | None = None) -> None:
        """Asked before a process is started: where its output begins in its log, and how the one before it ended (None:
        as was said before), is what the pods show next."""
        known = self._launches.get(log, pods.Launch())
        self._launches[log] = pods.launch(log, known.last_exit_code if last_exit_code is None else last_exit_code)
        self._pods_are_shown = False

    def show_pods(self) -> None:
        """The pods are how a cluster is looked at: where the API does not take them now, the next look tries again."""
        if (cluster := self.cluster) is None or self._pods_are_shown:
            return

        def show() -> None:
            for pod, container in pods.show(self.kube, self.live, cluster, self.inits, self._launches):
                self.events.normal(pod, "kubelet", "Started", f"Started container {container}")
            self._pods_are_shown = True

        self.attempt(show)

    def have_task_managers(self, count: int) -> None:
        """So many of the cluster that runs, and their pods with them."""
        if self.cluster is None:
            return
        is_fewer = count < len(self.cluster.task_managers)
        self.cluster.have_task_managers(count)
        if is_fewer:
            self.attempt(lambda: pods.hide_task_managers(self.kube, self.name))
        self._pods_are_shown = False

    def stop_cluster(self) -> None:
        """Stops its processes, where there are any; its pods stay."""
        if self.cluster is not None:
            self.cluster.stop()
            self.cluster = None

    def end_cluster(self) -> None:
        """Stops it for good: its pods go with it."""
        self.stop_cluster()
        self._launches.clear()
        self._no_start_before = 0.0
        self.attempt(lambda: pods.hide_pods(self.kube, self.name))
