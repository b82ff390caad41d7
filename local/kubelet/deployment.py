"""One Deployment of a JobManager: its pod is there or not, as is asked for, its processes run, and its status says so.

It is a Deployment's controller and a kubelet in one. Here is which pods there are; one pod's life is pod.py's.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from local.flink_operator import pods
from local.flink_operator.events import Events
from local.flink_operator.kube import Forbidden, Resource, look_again_and_again
from local.kubelet import deployment_statuses
from local.kubelet.configuration import Ports
from local.kubelet.objects import Objects
from local.kubelet.pod import PodRunner
from local.kubelet.programs import Machine
from local.process import free_port

LOOK_SECONDS = 0.5
STOP_SECONDS = 30.0
FOREGROUND = "foregroundDeletion"


class DeploymentController(threading.Thread):
    """A thread for one Deployment (its uid), from its first sight until it is gone."""

    def __init__(
        self, objects: Objects, events: Events, live: Resource, data: Path, is_stopping: threading.Event
    ) -> None:
        self.deployment_name: str = live["metadata"]["name"]
        super().__init__(name=f"native-{self.deployment_name}", daemon=True)
        self.ports = Ports(free_port(), free_port())
        self._objects = objects
        self._events = events
        self._uid: str = live["metadata"]["uid"]
        self._data = data
        self._is_stopping = is_stopping
        self._runners: dict[str, PodRunner] = {}
        self._refusal: str | None = None

    @property
    def rest_port(self) -> int | None:
        """Where its JobManager has its REST API."""
        return self.ports.rest

    def run(self) -> None:
        """Looks until the Deployment is gone, or it is told to stop."""
        try:
            look_again_and_again(self.deployment_name, self._look, self._is_stopping, LOOK_SECONDS)
        finally:
            self._end(self._runners.keys())

    def _look(self) -> bool:
        """One look; False where the Deployment is gone."""
        live = self._objects.native_deployment(self.deployment_name)
        if live is None or live["metadata"]["uid"] != self._uid:
            self._clean_up()
            return False
        if live["metadata"].get("deletionTimestamp"):
            return self._is_deleted(live)
        there = self._staying(self._objects.owned("pods", self.deployment_name, self._uid))
        there = self._as_asked(live, there)
        self._run(there)
        managers = [pod for pod in there if _is_manager(pod)]
        if managers:
            self._show_address()
        self._show_status(live, managers)
        return True

    def _staying(self, there: list[Resource]) -> list[Resource]:
        """Of one that is being deleted the processes are stopped first: whoever comes next has its ports."""
        going = [pod for pod in there if pod["metadata"].get("deletionTimestamp")]
        staying = [pod for pod in there if pod not in going]
        self._end(self._runners.keys() - {pod["metadata"]["uid"] for pod in staying})
        for pod in going:
            self._objects.remove("pods", pod)
        return staying

    def _as_asked(self, live: Resource, there: list[Resource]) -> list[Resource]:
        """Its JobManager's pod is created or removed: one at most, and of the template that is there."""
        wanted = min(1, live["spec"].get("replicas", 1))
        managers = [pod for pod in there if _is_manager(pod)]
        wrong = [pod for pod in managers if not wanted or deployment_statuses.is_outdated(pod, live)]
        surplus = [pod for pod in managers if pod not in wrong][wanted:]
        kept = self._without(there, [*wrong, *surplus])
        if wanted and not any(_is_manager(pod) for pod in kept):
            kept += self._created(live)
        return kept

    def _without(self, there: list[Resource], removed: list[Resource]) -> list[Resource]:
        """A pod that is not there any more runs nothing any more."""
        self._end({pod["metadata"]["uid"] for pod in removed} & self._runners.keys())
        for pod in removed:
            self._objects.remove("pods", pod)
        return [pod for pod in there if pod not in removed]

    def _created(self, live: Resource) -> list[Resource]:
        """The pod; none where the API takes none now, which stands in the status."""
        try:
            pod = self._objects.create_pod(deployment_statuses.pod_of(live))
        except Forbidden as refusal:
            if self._refusal != str(refusal):
                self._events.warning(live, "replicaset-controller", "FailedCreate", f"Error creating: {refusal}")
            self._refusal = str(refusal)
            return []
        self._refusal = None
        return [pod]

    def _run(self, there: list[Resource]) -> None:
        """A thread a pod that has not ended: one that broke is followed by another."""
        for pod in there:
            uid = pod["metadata"]["uid"]
            runs = uid in self._runners and self._runners[uid].is_alive()
            if not runs and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                machine = Machine(self.ports, self._objects.kubeconfig)
                self._runners[uid] = PodRunner(self._objects, self._events, pod, self._data, machine)
                self._runners[uid].start()

    def _end(self, uids: Iterable[str]) -> None:
        """All are told before any is waited for."""
        ended = [self._runners.pop(uid) for uid in list(uids)]
        for runner in ended:
            runner.end()
        for runner in ended:
            runner.join(STOP_SECONDS)
            shutil.rmtree(runner.place.tmp, ignore_errors=True)

    def _show_address(self) -> None:
        """On the service, for whoever looks for its JobManager there."""
        url = f"http://127.0.0.1:{self.ports.rest}"
        for service in self._objects.owned("services", self.deployment_name, self._uid):
            is_rest = service["metadata"]["name"] == f"{self.deployment_name}-rest"
            if is_rest and (service["metadata"].get("annotations") or {}).get(pods.REST_ANNOTATION) != url:
                self._objects.annotate("services", service, {pods.REST_ANNOTATION: url})

    def _show_status(self, live: Resource, managers: list[Resource]) -> None:
        status = deployment_statuses.status_of(live, managers, self._refusal)
        if status != live.get("status"):
            self._objects.set_deployment_status(self.deployment_name, status)

    def _is_deleted(self, live: Resource) -> bool:
        """Whether somebody's finalizer still holds it."""
        self._clean_up()
        finalizers = live["metadata"].get("finalizers") or []
        if FOREGROUND in finalizers:
            self._objects.release_deployment(self.deployment_name, [each for each in finalizers if each != FOREGROUND])
        return finalizers not in ([], [FOREGROUND])

    def _clean_up(self) -> None:
        """Its processes are stopped, and what belongs to it goes."""
        self._end(self._runners.keys())
        for kind, each, uid in self._objects.dependents():
            if uid == self._uid:
                self._objects.remove(kind, each)


def _is_manager(pod: Resource) -> bool:
    return bool(pod["metadata"]["labels"].get("component") == "jobmanager")
