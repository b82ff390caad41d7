"""Looking: what a plan has to know of a job before it decides, from wherever that is said. It reads, and no more.

Framework-free; a JobManager that does not answer is one that was not asked, and the plan judges what that means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.domain.deployments import Deployment, Seen, deployment_of
from headrace.domain.document import JobDocument
from headrace.domain.jobs import Job
from headrace.domain.operations import DUE, KINDS, Operation
from headrace.domain.runtimes.plan import Case, Live, Look
from headrace.domain.snapshots import NotSeen, NotServed, SnapshotsSeen
from headrace.domain.state_on_hand import Checkpoints, HaMetadata, NotAsked, Said
from headrace.domain.vertices import Vertices
from headrace.errors import Refused, Unavailable
from headrace.ports import JobManager
from headrace.services.observe import Observe
from headrace.services.records import Records, merged
from headrace.services.runtimes import Runtimes


@dataclass(frozen=True)
class Looks:
    """Makes the case that a plan is asked about."""

    records: Records
    runtimes: Runtimes
    job_manager: JobManager
    observe: Observe

    def case(self, document: JobDocument, seen: Seen, whole: Mapping[str, Any] | None) -> Case:
        """What the plan is asked about the oldest open operation, with all that it has to know before it decides."""
        operation = self.with_arguments(document.oldest)
        case = self.observe.case(document.with_operation(operation), seen)
        if whole is not None:
            case = replace(case, sight=Live(deployment_of(whole), whole))
        looks = self.runtimes.plan_of(case.job).looks(case)
        if Look.VERTICES in looks:
            return replace(case, vertices=self._vertices(case))
        if Look.SNAPSHOTS in looks:
            case = replace(case, snapshots=self._snapshots(case))
        return replace(case, said=self._asked(case)) if Look.CHECKPOINT in looks else case

    def _snapshots(self, case: Case) -> SnapshotsSeen:
        try:
            found = self.runtimes.of(case.job).snapshots_of(case.job.namespace, case.job.deployment_name)
        except Refused as error:
            return NotSeen(str(error))
        return NotServed() if found is None else found

    def with_arguments(self, operation: Operation | None) -> Operation:
        """The operation with what the log keeps for it alone: a program is read by who renders it."""
        assert operation is not None  # noqa: S101 - it is asked of the operation whose turn it is
        kind = KINDS[operation.kind]
        if not kind.resolves or (kind.begins_a_run and operation.step not in DUE):
            return operation
        return self.as_logged(operation)

    def as_logged(self, operation: Operation) -> Operation:
        """The operation with all of its arguments."""
        logged = self.records.store.operation(operation.tenant, operation.id)
        return merged(operation, logged) if logged is not None else operation

    def _asked(self, case: Case) -> Said:
        if not isinstance(case.sight, Live):
            return NotAsked("its deployment is gone")
        return self.checkpoints(case.job, case.sight.deployment)

    def _vertices(self, case: Case) -> Vertices | NotAsked:
        job, live = case.job, case.sight.deployment if isinstance(case.sight, Live) else None
        status = live.status.job_status if live is not None and live.status else None
        if status is None or status.job_id is None:
            return NotAsked("Flink's id of the job is not known")
        try:
            return self.job_manager.vertices(job.namespace, job.deployment_name, status.job_id)
        except Unavailable as error:
            return NotAsked(str(error))

    def checkpoints(self, job: Job, live: Deployment) -> Said:
        """What its JobManager says; where that says nothing, what the HA metadata keep."""
        status = live.status.job_status if live.status else None
        flink_job_id = (status.job_id if status else None) or job.flink_job_id
        if flink_job_id is None:
            return NotAsked("Flink's id of the job is not known")
        said: Checkpoints | NotAsked
        try:
            said = self.job_manager.checkpoints(job.namespace, job.deployment_name, flink_job_id)
        except Unavailable as error:
            said = NotAsked(str(error))
        if isinstance(said, Checkpoints) and (said.has_graph or said.latest is not None):
            return said
        return self._ha_metadata(job, flink_job_id) or said

    def _ha_metadata(self, job: Job, flink_job_id: str) -> HaMetadata | None:
        try:
            return self.runtimes.of(job).ha_metadata(job.namespace, job.deployment_name, flink_job_id)
        except Refused:
            return None  # an account that may not read ConfigMaps knows what a JobManager says, and no more
