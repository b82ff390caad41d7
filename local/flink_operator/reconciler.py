"""One deployment's life: what its spec asks for is brought about, and what its processes show becomes its status.

Every status follows from processes and the JobManager's REST, never from a script of delays. The sequences are those
of a real operator (tests/data/recordings). Here is what a look begins with, and who goes on from there: deploying.py,
changing.py or observing.py.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from local.flink_operator import pods, specs, statuses
from local.flink_operator.changing import Changing
from local.flink_operator.deploying import deploy_first
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.distribution import end_what_is_left
from local.flink_operator.events import Events
from local.flink_operator.kube import Kube, Resource, look_again_and_again
from local.flink_operator.observing import Observing

FINALIZER = "flinkdeployments.flink.apache.org/finalizer"
LOOK_SECONDS = 0.5


class Reconciler(threading.Thread):
    """A thread for one deployment (its uid), from its first sight until it is gone."""

    def __init__(self, kube: Kube, events: Events, live: Resource, data: Path, is_stopping: threading.Event) -> None:
        self._deployment = LocalDeployment(kube, events, live, data)
        self.deployment_name = self._deployment.name
        super().__init__(name=f"deployment-{self.deployment_name}", daemon=True)
        self._changing = Changing(self._deployment)
        self._observing = Observing(self._deployment)
        self._is_stopping = is_stopping

    @property
    def rest_port(self) -> int | None:
        """Where its JobManager has its REST API, while there is one."""
        cluster = self._deployment.cluster
        return cluster.rest_port if cluster is not None else None

    def run(self) -> None:
        """Looks until the deployment is gone, or it is told to stop."""
        end_what_is_left(self._deployment.folder)
        try:
            look_again_and_again(self.deployment_name, self._look, self._is_stopping, LOOK_SECONDS)
        finally:
            self._deployment.stop_cluster()

    def _look(self) -> bool:
        """One look; False where the deployment is gone."""
        kube, name = self._deployment.kube, self._deployment.name
        live = kube.deployment(name)
        if live is None or live["metadata"]["uid"] != self._deployment.uid:
            self._clean_up()
            return False
        self._deployment.live = live
        finalizers = live["metadata"].get("finalizers") or []
        if live["metadata"].get("deletionTimestamp"):
            self._deployment.tell("Operator", "Cleanup", "Cleaning up FlinkDeployment")
            self._clean_up()
            kube.set_finalizers(name, [finalizer for finalizer in finalizers if finalizer != FINALIZER])
            return False
        if FINALIZER not in finalizers:
            kube.set_finalizers(name, [*finalizers, FINALIZER])
        self._reconcile()
        return True

    def _clean_up(self) -> None:
        self._deployment.stop_cluster()
        pods.hide(self._deployment.kube, self._deployment.name)
        self._deployment.kube.forget_high_availability(self._deployment.name)
        shutil.rmtree(self._deployment.folder / "tmp", ignore_errors=True)

    def _reconcile(self) -> None:
        deployment = self._deployment
        before = statuses.reconciled_spec(deployment.status)
        try:
            specs.validate(deployment.spec)
        except specs.Invalid as error:
            self._refuse(str(error), is_first=before is None)
            if before is not None:
                self._observing.observe()
            return
        if before is None:
            deploy_first(deployment)
        elif deployment.is_behind() and deployment.may_try():
            self._changing.change(before)
        elif statuses.is_half_way(deployment.status) and deployment.spec["job"].get("state") != "suspended":
            self._changing.go_on()
        else:
            self._observing.observe()

    def _refuse(self, message: str, *, is_first: bool) -> None:
        status = self._deployment.status or statuses.new_status()
        if is_first:
            status = {**status, "lifecycleState": "FAILED"}
        refused = statuses.error(f"{statuses.EXCEPTIONS}.ValidationException", message)
        if status.get("error") != refused:
            self._deployment.warn("Operator", "ValidationError", message)
        self._deployment.write(statuses.with_error(status, refused))
