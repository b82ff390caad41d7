"""FlinkStateSnapshots of one deployment: each that nobody has taken up is taken of the job that runs, or given up."""

from __future__ import annotations

import time
from typing import Any

from local.flink_operator.cluster import Cluster
from local.flink_operator.deployment import LocalDeployment
from local.flink_operator.kube import Resource
from local.flink_operator.rest import SavepointFailed
from local.flink_operator.specs import SAVEPOINT_DIRECTORY

LOOK_SECONDS = 2.0
ENDED = ("COMPLETED", "FAILED", "ABANDONED")


class Snapshots:
    """Looks for them now and then."""

    def __init__(self, deployment: LocalDeployment) -> None:
        self._deployment = deployment
        self._looked_at = 0.0

    def take(self, cluster: Cluster, job: dict[str, Any], *, is_running: bool) -> None:
        """Those that have not ended, one after the other; of a job that does not run, none. Raises KubeError."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for resource in self._deployment.kube.snapshots_of(self._deployment.name):
            if (resource.get("status") or {}).get("state") in ENDED or "savepoint" not in resource["spec"]:
                continue
            if is_running:
                self._taken(resource, cluster, job["jid"])
            else:
                self._show(resource, "ABANDONED", error="the job is not RUNNING")

    def _taken(self, resource: Resource, cluster: Cluster, job_id: str) -> None:
        self._show(resource, "IN_PROGRESS", triggerTimestamp=_now())
        configuration, asked = self._deployment.spec.get("flinkConfiguration") or {}, resource["spec"]["savepoint"]
        folder = asked.get("path") or configuration.get(SAVEPOINT_DIRECTORY, "")
        try:
            path = cluster.rest.savepoint(job_id, folder, asked.get("formatType") or "CANONICAL")
        except SavepointFailed as failure:
            self._deployment.warn("Snapshot", "SavepointError", str(failure))
            self._show(resource, "FAILED", error=failure.root_cause, failures=1)
        else:
            self._show(resource, "COMPLETED", path=path, failures=0)

    def _show(self, resource: Resource, state: str, **facts: Any) -> None:
        ended = {"resultTimestamp": _now()} if state in ENDED else {}
        self._deployment.kube.set_snapshot_status(resource["metadata"]["name"], {"state": state, **ended, **facts})


def manual(name: str) -> Resource:
    """What the operator makes for a savepointTriggerNonce."""
    labels = {
        "job-reference.kind": "FlinkDeployment",
        "job-reference.name": name,
        "snapshot.trigger-type": "MANUAL",
        "snapshot.type": "SAVEPOINT",
    }
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkStateSnapshot",
        "metadata": {"name": f"{name}-savepoint-manual-{int(time.time() * 1000)}", "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "jobReference": {"kind": "FlinkDeployment", "name": name},
            "savepoint": {"disposeOnDelete": False, "formatType": "CANONICAL"},
        },
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
