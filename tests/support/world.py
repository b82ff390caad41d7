"""The services over in-memory ports, and a hand that plays the operator, for tests without a server."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.bootstrap import Services
from headrace.domain.jobs import Job, JobKey
from headrace.domain.operations import KindName, Operation, Source
from headrace.domain.pods import MAIN_CONTAINER
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support.given import pod_labels

SCRIPT = {"name": "job.py", "content": "print(1)\n"}
HTTP = Source(via="http")
UPGRADE_FAILURE = "org.apache.flink.kubernetes.operator.exception.UpgradeFailureException"


@dataclass
class World:
    """The services over in-memory ports, and a hand to play the operator's part."""

    services: Services
    store: InMemoryStore
    runtime: InMemoryRuntime
    queue: InMemoryQueue
    job_manager: InMemoryJobManager
    clock: FixedClock

    def submit(self, job_id: str = "orders", **fields: Any) -> Operation:
        config = {"script": SCRIPT, **fields.pop("job_config", {})}
        return self.accept(KindName.SUBMIT, job_id, job_config=config, **fields)

    def stop(self, job_id: str = "orders", **fields: Any) -> Operation:
        return self.accept(KindName.STOP, job_id, **fields)

    def scale(self, parallelism: int, job_id: str = "orders", key: str | None = None) -> Operation:
        return self.accept(KindName.SCALE, job_id, parallelism=parallelism, idempotency_key=key)

    def accept(
        self,
        kind: KindName,
        job_id: str | None,
        *,
        tenant: str = "default",
        idempotency_key: str | None = None,
        source: Source = HTTP,
        **arguments: Any,
    ) -> Operation:
        accept = self.services.accept.operation
        return accept(kind, job_id, arguments, tenant=tenant, key=idempotency_key, source=source).operation

    def execute(self, job_id: str = "orders") -> None:
        self.services.execute.oldest_open_operation(JobKey("default", job_id))

    def sync(self) -> None:
        self.services.sync.run(0.1)

    def settle(self) -> None:
        """Observes, and executes what that woke, until nothing moves."""
        for _ in range(6):
            self.sync()
            woken, self.queue.woken = set(self.queue.woken), []
            for key in woken:
                self.services.execute.oldest_open_operation(key)

    def edit(self, change: Callable[[dict[str, Any]], object], job_id: str = "orders") -> None:
        """Somebody edits the deployment with kubectl."""
        whole = self.runtime._objects["default", job_id]
        before = copy.deepcopy(whole["spec"])
        change(whole)
        whole["metadata"]["generation"] += whole["spec"] != before

    def saved(self) -> list[str]:
        """The paths of savepoints and checkpoints that are on record."""
        return list(self.store.savepoints)

    def dump(self) -> dict[str, Any]:
        """A dump of the database."""
        kept = {name: value for name, value in vars(self.store).items() if name not in ("_lock", "clock")}
        return copy.deepcopy(kept)

    def restore(self, dump: dict[str, Any]) -> None:
        """The database as it was when this was dumped."""
        vars(self.store).update(copy.deepcopy(dump))

    def job(self, job_id: str = "orders") -> Job:
        found = self.services.records.job(JobKey("default", job_id))
        assert found is not None
        return found

    def operation(self, operation: Operation) -> Operation:
        found = self.services.records.operation(operation.tenant, operation.id)
        assert found is not None
        return found

    def whole(self, job_id: str = "orders") -> dict[str, Any]:
        found = self.runtime.get_whole("default", job_id)
        assert found is not None
        return found

    def sequence(self, job_id: str = "orders") -> int:
        return int(self.whole(job_id)["metadata"]["annotations"]["headrace.io/sequence"])

    def becomes(self, job_id: str = "orders", **changes: Any) -> None:
        """The operator's status: RUNNING and STABLE at the present generation, unless told otherwise."""
        whole = self.whole(job_id)
        generation = changes.pop("observedGeneration", whole["metadata"]["generation"])
        job = {"jobId": "f" * 32, "state": "RUNNING", "startTime": "1795448818262", **changes.pop("job", {})}
        error = changes.pop("error", None)
        whole_error = changes.pop("status_error", None)
        reconciled = json.dumps({"spec": whole["spec"]})
        before = whole.get("status", {}).get("reconciliationStatus", {}).get("lastStableSpec")
        last_stable = reconciled if changes.get("lifecycleState", "STABLE") == "STABLE" else before
        stable = {"lastStableSpec": last_stable} if last_stable else {}
        status = {
            "observedGeneration": generation,
            "lifecycleState": "STABLE",
            "jobManagerDeploymentStatus": "READY",
            "jobStatus": job,
            "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": reconciled, **stable},
            **changes,
        }
        if error:
            status["error"] = json.dumps({"type": error, "message": "Savepoint Error", "throwableList": []})
        if whole_error:
            status["error"] = whole_error
        self.runtime.set_status("default", job_id, status)

    def runs(self, job_id: str = "orders", **fields: Any) -> Operation:
        """A job that was submitted and is RUNNING."""
        operation = self.submit(job_id, **fields)
        self.execute(job_id)
        self.becomes(job_id)
        self.settle()
        return operation

    def is_suspended(self, path: str | None, job_id: str = "orders") -> None:
        """The operator has done a suspend."""
        job = {"state": "FINISHED", **({"upgradeSavepointPath": path} if path else {})}
        self.becomes(job_id, lifecycleState="SUSPENDED", job=job)

    def shows_pod(
        self, state: dict[str, Any], component: str = "jobmanager", job_id: str = "orders", **status: Any
    ) -> None:
        """A pod whose main container is in this state, as Kubernetes has it; `status` is the rest of the pod's."""
        container = {"name": MAIN_CONTAINER, "restartCount": status.pop("restarts", 0), "state": state}
        container["lastState"] = status.pop("last", {})
        name = {"jobmanager": "jm", "taskmanager": "tm"}[component]
        self.runtime.put_pod(
            "default",
            {
                "metadata": {"name": f"{job_id}-{name}", "labels": pod_labels(job_id, component)},
                "spec": {"containers": [{"name": MAIN_CONTAINER}]},
                "status": {"containerStatuses": [container], **status},
            },
        )

    def phases(self, job_id: str = "orders") -> list[str]:
        return [str(t.to_phase) for t in self.services.records.transitions_of(JobKey("default", job_id))]
