"""Foreseeing: what an operation would change, and cause, if it were asked for now. It reads, and writes nothing.

It goes the way of a request as far as the plan and no further: what accept would refuse it refuses in the same words,
and what is foreseen rests on a sight that is taken for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.domain.costs import Cost, Mode, mode_of
from headrace.domain.deployments import Gone, deployment_of
from headrace.domain.document import JobDocument
from headrace.domain.job_requests import cost_of_field, without_programs
from headrace.domain.operations import KINDS, KindName, Operation, Source
from headrace.domain.operations.kind import since
from headrace.domain.runtimes.plan import Foreseen
from headrace.domain.versions import Difference, differences
from headrace.errors import Conflict, InvalidRequest, NotFound
from headrace.ports import Clock
from headrace.services.accept import Accept
from headrace.services.looks import Looks
from headrace.services.observe import Observe
from headrace.services.runtimes import Runtimes


@dataclass(frozen=True)
class AskedFor:
    """One place of the job's request that would be another, and what that costs by itself."""

    difference: Difference
    cost: Cost


@dataclass(frozen=True)
class Foresight:
    """What would come of an operation of this kind."""

    job_id: str
    kind: KindName
    asked_for: Sequence[AskedFor]
    foreseen: Foreseen


@dataclass(frozen=True)
class Foresee:
    """Says what would be. Each call raises as accept does, and Unavailable where Kubernetes does not answer."""

    accept: Accept
    runtimes: Runtimes
    looks: Looks
    observe: Observe
    clock: Clock

    def operation(
        self, kind: KindName, job_id: str | None, arguments: Mapping[str, Any], *, tenant: str, source: Source
    ) -> Foresight:
        """What an operation would come to. Raises NotFound too where there is no deployment to compare with, and
        Conflict where it would not be done, or where another one is open whose end nobody knows yet."""
        if not KINDS[kind].can_be_foreseen:
            able = ", ".join(each.name for each in KINDS.values() if each.can_be_foreseen)
            raise InvalidRequest({"dry_run": f"{kind} has none: it changes no program and no scale; {able} have one"})
        document = self.accept.proposed(kind, job_id, arguments, tenant=tenant, source=source)
        operation = _of_turn(document, kind)
        foreseen, mode = self._foreseen(document)
        return Foresight(document.key.job_id, kind, _asked_for(document, operation, mode), foreseen)

    def _foreseen(self, document: JobDocument) -> tuple[Foreseen, Mode]:
        job = document.job
        whole = self.runtimes.of(job).get_whole(job.namespace, job.deployment_name)
        if whole is None and not any(KINDS[each.kind].begins_a_run for each in document.open_operations):
            place = f"FlinkDeployment {job.namespace}/{job.deployment_name}"
            raise NotFound(f"job {job.job_id}: its deployment is gone ({place}): there is nothing to compare with")
        live = deployment_of(whole) if whole is not None else Gone()
        seeing = self.observe.looked_at(document, live, self.clock.now())
        found = self.runtimes.plan_of(job).foreseen(self.looks.case(seeing.document, seeing.seen, whole))
        if isinstance(found, str):
            raise Conflict(found if found.startswith("job ") else f"job {job.job_id}: {found}")
        return found, mode_of((whole or {}).get("spec") or {})


def _of_turn(document: JobDocument, kind: KindName) -> Operation:
    """The operation that would be asked for, where nothing that is open comes before it."""
    last, oldest = document.open_operations[-1], document.open_operations[0]
    if oldest is not last:
        waits = f"{oldest.kind} is open {since(oldest)}, and {kind} would wait for it"
        raise Conflict(f"job {document.key.job_id}: {waits}; what it would change is known after that")
    return last


def _asked_for(document: JobDocument, operation: Operation, mode: Mode) -> list[AskedFor]:
    """Where the request that it renders differs from the job's own; a job without one has nothing to compare."""
    request = operation.arguments.get("request")
    if request is None or not document.job.submitted:
        return []
    found = differences(without_programs(document.job.request), without_programs(request))
    return [AskedFor(each, cost_of_field(each.path, mode)) for each in found]
