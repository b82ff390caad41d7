"""What is read of jobs, operations and templates, as every way in answers it: pages and views. Knows no HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api import views
from headrace.bootstrap import Services
from headrace.domain.document import JobDocument
from headrace.domain.jobs import Job, JobKey, Phase
from headrace.domain.operations import Operation
from headrace.errors import InvalidRequest, NotFound
from headrace.ports import JobFilter
from headrace.services.accept import Accepted

PAGE_LIMIT = 500
NO_CURSOR = "is not one that a list gave"


class Reads:
    """The reads of one tenant. Each raises NotFound, in words, where what was named is not there."""

    def __init__(self, services: Services, tenant: str) -> None:
        self._services = services
        self._tenant = tenant

    def job(self, job_id: str) -> dict[str, Any]:
        """A job with its request and the text of its programs."""
        document, freshness, records = self._existing(job_id), self._services.freshness, self._services.records
        found = records.with_programs(records.shown(document))
        return views.job_view(
            found,
            is_stale=freshness.is_stale(freshness.observed_at(), found),
            open_operations=document.open_operations,
            kept_until=self._services.prune.goes_at(found),
        )

    def jobs(self, phase: Phase | None, limit: int, cursor: str | None, *, brief: bool) -> dict[str, Any]:
        """A page of jobs, by their ids."""
        found = self._services.store.list_jobs(self._tenant, JobFilter(phase), after(cursor), limit + 1, lean=brief)
        page = found[:limit]
        further = cursor_of(page[-1].job.job_id) if len(found) > limit else None
        shown = [(self._services.records.shown(each), each.open_operations) for each in page]
        synced_at, is_stale = self._services.freshness.observed_at(), self._services.freshness.is_stale
        view = views.job_in_brief if brief else views.job_in_list
        jobs = [
            view(job, is_stale=is_stale(synced_at, job), open_operations=operations)
            for job, operations in shown
            if phase in (None, job.phase)
        ]
        return {"jobs": jobs, "next_cursor": further}

    def operation(self, operation_id: str) -> Operation:
        """An operation as it is on record."""
        found = self._services.records.operation(self._tenant, operation_id)
        if found is None:
            raise NotFound(f"operation {operation_id}: there is none of this id")
        return found

    def answer(self, operation: Operation, accepted: Accepted | None = None) -> dict[str, Any]:
        """The operation and its job; the job as the operation was accepted of, where nobody waited since."""
        records = self._services.records
        if accepted is not None and accepted.document is not None and operation is accepted.operation:
            job: Job | None = records.shown(accepted.document)
        else:
            job = records.job(operation.key)
        return views.answer_view(operation, job)

    def operations(self, job_id: str) -> dict[str, Any]:
        """All of a job's operations, in their order."""
        found = self._services.records.operations_of(self._existing(job_id).key)
        return {"operations": [views.operation_view(operation) for operation in found]}

    def transitions(self, job_id: str) -> dict[str, Any]:
        """A job's changes of phase."""
        found = self._services.records.transitions_of(self._existing(job_id).key)
        return {"transitions": [views.transition_view(transition) for transition in found]}

    def versions(self, job_id: str, limit: int, below: int | None) -> dict[str, Any]:
        """A page of a job's versions, newest first, of those below a number."""
        known = self._services.versions.all(self._existing(job_id).key)
        known = [each for each in known if below is None or each.number < below]
        page = known[::-1][:limit]
        further = page[-1].number if len(known) > limit else None
        return {"versions": [views.version_in_list(each) for each in page], "next_cursor": further}

    def version(self, job_id: str, number: int) -> dict[str, Any]:
        """A version with its request."""
        return views.version_view(self._services.versions.one(self._existing(job_id).key, number))

    def savepoints(self, job_id: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """A page of the savepoints on record, of one job or of all."""
        of = self._existing(job_id).key.job_id if job_id is not None else None
        found = self._services.store.savepoints_of(self._tenant, of, _place_after(cursor), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        further = cursor_of(f"{last.at.isoformat()} {last.path}") if last is not None else None
        shown = self._services.dispose.shown(found[:limit])
        return {"savepoints": [views.savepoint_view(each) for each in shown], "next_cursor": further}

    def register(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Registers a template, and shows its version. Raises InvalidRequest that names each field."""
        return views.template_view(self._services.register.template(body, self._tenant))

    def template(self, template_id: str, version: int | None) -> dict[str, Any]:
        """A template's version, the newest where none is named."""
        found = self._services.store.template(self._tenant, template_id, version)
        if found is None:
            of = f" and version {version}" if version else ""
            raise NotFound(f"template {template_id}: there is none of this id{of}")
        return views.template_view(found)

    def templates(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """A page of the templates' newest versions."""
        beyond = after(cursor) or ""
        found = [each for each in self._services.store.templates(self._tenant) if each.template_id > beyond]
        further = cursor_of(found[limit - 1].template_id) if len(found) > limit else None
        return {"templates": [views.template_in_list(each) for each in found[:limit]], "next_cursor": further}

    def runtimes(self) -> dict[str, Any]:
        """Each runtime of the installation, the default one first."""
        return {"runtimes": [views.runtime_view(each) for each in self._services.report_runtimes.states()]}

    def _existing(self, job_id: str) -> JobDocument:
        document = self._services.records.existing(JobKey(self._tenant, job_id))
        if document is None:
            raise NotFound(f"job {job_id}: there is none of this name")
        return document


def phase_of(word: str | None) -> Phase | None:
    """The phase of this name; None where none is named. Raises InvalidRequest."""
    if word is not None and word not in list(Phase):
        raise InvalidRequest({"phase": f"must be one of {', '.join(Phase)}"})
    return Phase(word) if word is not None else None


def cursor_of(place: str) -> str:
    """The last entry of a page, as its client gives it back."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def after(cursor: str | None) -> str | None:
    """Behind which entry a list goes on. Raises InvalidRequest."""
    try:
        return base64.b64decode(cursor.encode(), b"-_", validate=True).decode() if cursor else None
    except ValueError as error:
        raise InvalidRequest({"cursor": NO_CURSOR}) from error


def _place_after(cursor: str | None) -> tuple[datetime, str] | None:
    """Where a list of savepoints goes on: behind the one of this time and path."""
    at, _, path = (after(cursor) or "").partition(" ")
    try:
        found = datetime.fromisoformat(at) if at else None
    except ValueError:
        found = None
    if cursor and (found is None or found.tzinfo is None):
        raise InvalidRequest({"cursor": NO_CURSOR})
    return (found, path) if found is not None else None
