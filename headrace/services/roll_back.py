"""What a ROLLBACK comes to: the request of an earlier version, by its number or as the one that was stable last.

Reads records and the live deployment, accepts nothing and writes nothing. The plan looks at the deployment again before
anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headrace.domain.document import JobDocument
from headrace.domain.job_requests import recorded_request
from headrace.domain.jobs import Job
from headrace.domain.manifest import Platform, Stamp, render
from headrace.domain.operations import KINDS, KindName, Operation, RollbackArguments
from headrace.domain.templates import scale_of
from headrace.domain.versions import Version
from headrace.errors import Conflict, InvalidRequest
from headrace.services.resolve import Resolve
from headrace.services.runtimes import Runtimes
from headrace.services.versions import Versions, Whole

MOST_RENDERED = 20
"""Versions, from the newest, among which the last stable one is looked for."""


@dataclass(frozen=True)
class RollBack:
    """Finds the version to go back to. Each call raises NotFound, Conflict or InvalidRequest where there is none."""

    versions: Versions
    resolve: Resolve
    runtimes: Runtimes
    platform: Platform

    def arguments(self, document: JobDocument, *, asked: RollbackArguments) -> dict[str, Any]:
        """What the log keeps of a ROLLBACK of this job: the version's request as the policy of today lets it pass, and
        what was said beside its template. Without a number Kubernetes is asked, and raises Unavailable."""
        found = self._named(document, asked.to) if asked.to is not None else self._last_stable(document)
        request = self.resolve.checked(recorded_request(found.request))
        self.resolve.check_stays(document.job, document.job.runtime, request)
        told = {name: found.made_by.arguments.get(name) for name in ("template_id", "template_version")}
        to = {"to": asked.to} if asked.to is not None else {}
        return {"request": request.as_json(), **told, "given": _given(found), "version": found.version.number, **to}

    def _named(self, document: JobDocument, number: int) -> Whole:
        key, known = document.key, self.versions.all(document.key)
        found = self.versions.among(known, key, number)
        if found is known[-1] and not any(map(_changes_the_spec, document.open_operations)):
            raise Conflict(f"job {key.job_id}: version {number} is the present one; ROLLBACK to one before it")
        return self.versions.whole(key, found)

    def _last_stable(self, document: JobDocument) -> Whole:
        """The newest version of which the runtime says that it was stable last."""
        job, plan = document.job, self.runtimes.plan_of(document.job)
        if plan.no_last_stable:
            raise Conflict(f"job {job.job_id}: {plan.no_last_stable}; ROLLBACK to one of its versions")
        live = self.runtimes.of(job).get_whole(job.namespace, job.deployment_name)
        if live is None:
            raise Conflict(f"job {job.job_id}: cannot ROLLBACK, its deployment is gone; SUBMIT begins another run")
        newest = islice(reversed(self.versions.all(job.key)), MOST_RENDERED)
        known = [(version, rendered) for version in newest if (rendered := self._rendered(job, version)) is not None]
        found = plan.last_stable(live, [rendered for _, rendered in known])
        if isinstance(found, str):
            raise Conflict(f"job {job.job_id}: {found}; ROLLBACK to one of its versions")
        return self.versions.whole(job.key, known[found][0])

    def _rendered(self, job: Job, version: Version) -> Mapping[str, Any] | None:
        """The manifest of a version as it would be today; None where today it would not be one."""
        try:
            request = recorded_request(self.versions.whole(job.key, version).request)
            return render(job, request, self.platform, Stamp(job.last_sequence, version.operation_id, job.run))
        except (Conflict, InvalidRequest):
            return None


def _changes_the_spec(operation: Operation) -> bool:
    return operation.kind is KindName.SCALE or (operation.kind in KINDS and KINDS[operation.kind].resolves)


def _given(found: Whole) -> Mapping[str, Any]:
    """What was said beside the template, its scale as one more place that an UPGRADE to another version leaves."""
    given = found.made_by.arguments.get("given") or {}
    if found.version.scale == (None, None):
        return given
    places: Sequence[Any] = [*(given.get("overridden") or ()), list(scale_of(found.request))]
    return {**given, "overridden": places}
