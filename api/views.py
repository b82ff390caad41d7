"""Records as JSON for readers. Secrets never leave: values of variables that look secret are redacted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from headrace.domain.job_requests import without_programs
from headrace.domain.jobs import Job, Observation, Transition
from headrace.domain.operations import Operation
from headrace.domain.parameters import PLACEHOLDER
from headrace.domain.runtime_reports import RuntimeState
from headrace.domain.said import plain_of
from headrace.domain.savepoints import Savepoint
from headrace.domain.secrets import is_secret
from headrace.domain.templates import Template, template_body
from headrace.domain.versions import Difference, Version
from headrace.services.foresee import Foresight
from headrace.services.inspect import EventsAnswer, ExceptionsAnswer

REDACTED = "…"


def job_view(
    job: Job, *, is_stale: bool, open_operations: Iterable[Operation] = (), kept_until: datetime | None = None
) -> dict[str, Any]:
    """A job as `GET jobs/{job_id}` shows it; `is_stale` where nobody has observed for a while, `kept_until` when the
    records of a deleted one go."""
    brief = job_in_brief(job, is_stale=is_stale, open_operations=open_operations)
    return {**brief, "records_kept_until": kept_until, "request": redacted_request(job.request)}


def job_in_list(job: Job, *, is_stale: bool, open_operations: Iterable[Operation] = ()) -> dict[str, Any]:
    """A job among others: of its files the names, sizes and hashes. GET jobs/{job_id} has their text."""
    brief = job_in_brief(job, is_stale=is_stale, open_operations=open_operations)
    return {**brief, "request": outlined(job.request)}


def job_in_brief(job: Job, *, is_stale: bool, open_operations: Iterable[Operation] = ()) -> dict[str, Any]:
    """A job among many that are watched: all but its request."""
    is_outdated = is_stale and job.observation is Observation.FRESH
    return {
        "job_id": job.job_id,
        "status": job.phase,
        "phase_since": job.phase_since,
        "desired": job.desired,
        "observation": Observation.STALE if is_outdated else job.observation,
        "observed_at": job.observed_at,
        "reason": job.reason,
        "next_step": job.next_step,
        "error": job.error,
        "run": job.run,
        "runtime": job.runtime,
        "restarts": job.restarts,
        "open_operations": [open_operation_view(operation) for operation in open_operations],
        "flink_job_id": job.flink_job_id,
        "parallelism": job.parallelism,
        "namespace": job.namespace,
        "cluster": job.cluster,
        "deployment_name": job.deployment_name,
        "template_id": job.template_id,
        "template_version": job.template_version,
        "is_as_found": job.is_as_found,
        "savepoint_path": job.savepoint_path,
        "start_time": job.start_time,
        "labels": dict(job.labels),
        "logs": f"kubectl logs -n {job.namespace} -l app={job.deployment_name} --all-containers",
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def open_operation_view(operation: Operation) -> dict[str, Any]:
    """An open operation as its job shows it. GET operations/{operation_id} has the rest."""
    return {
        "id": operation.id,
        "kind": operation.kind,
        "sequence": operation.sequence,
        "state": operation.state,
        "step": operation.step,
        "accepted_at": operation.accepted_at,
    }


def operation_view(operation: Operation) -> dict[str, Any]:
    """An operation as readers see it, without the text of files: the job and the template have that."""
    arguments = dict(operation.arguments)
    if "request" in arguments:
        arguments["request"] = outlined(arguments["request"])
    return {
        "id": operation.id,
        "job_id": operation.job_id,
        "kind": operation.kind,
        "sequence": operation.sequence,
        "state": operation.state,
        "step": operation.step,
        "reason": operation.reason,
        "arguments": arguments,
        "source": {"via": operation.source.via, **operation.source.detail},
        "savepoint_path": operation.savepoint_path,
        "accepted_at": operation.accepted_at,
        "deadline_seconds": operation.deadline_seconds,
        "spent_seconds": round(operation.spent_seconds, 1),
        "ended_at": operation.ended_at,
    }


def answer_view(operation: Operation, job: Job | None) -> dict[str, Any]:
    """The answer to a request about a job: the job's id, its phase, Flink's id of it, and the operation."""
    return {
        "job_id": operation.job_id,
        "status": job.phase if job else None,
        "flink_job_id": job.flink_job_id if job else None,
        "operation": operation_view(operation),
    }


def transition_view(transition: Transition) -> dict[str, Any]:
    """One change of phase."""
    return {
        "number": transition.number,
        "run": transition.run,
        "from": transition.from_phase,
        "to": transition.to_phase,
        "at": transition.at,
        "reason": transition.reason,
        "gap": transition.gap,
    }


def savepoint_view(savepoint: Savepoint) -> dict[str, Any]:
    """State that a job could be started from."""
    return {name: value for name, value in asdict(savepoint).items() if name != "tenant"}


def version_in_list(version: Version) -> dict[str, Any]:
    """A version among others: who made it, when and why, and what it changed."""
    return {
        "version": version.number,
        "run": version.run,
        "kind": version.kind,
        "why": version.why,
        "state": version.state,
        "source": {"via": version.source.via, **version.source.detail},
        "operation": version.operation_id,
        "accepted_at": version.accepted_at,
        "at": version.at,
        "changes": [_difference(each) for each in version.differences],
    }


def version_view(version: Version) -> dict[str, Any]:
    """A version with its request; of programs the names, sizes and hashes."""
    return {**version_in_list(version), "request": outlined(version.request)}


def _difference(difference: Difference) -> dict[str, Any]:
    """What one place held and holds. That a secret is another is shown, and neither value."""
    path = difference.path
    values = (difference.before, difference.after)
    if path[0] == "env":
        values = tuple(each if each is None else _shown(path[-1], each) for each in values)  # type: ignore[assignment]
    return {"field": ".".join(path), "path": list(path), "before": values[0], "after": values[1]}


def foresight_view(foresight: Foresight) -> dict[str, Any]:
    """What would come of an operation: what was asked for, what that changes, costs and causes, and where state is."""
    found = foresight.foreseen
    return {
        "dry_run": True,
        "job_id": foresight.job_id,
        "kind": foresight.kind,
        "asked_for": [{**_difference(each.difference), "cost": each.cost} for each in foresight.asked_for],
        "changes": [{"field": ".".join(each.path), **asdict(each), "path": list(each.path)} for each in found.changes],
        "cost": found.cost,
        "causes": found.causes,
        "keeps_state": found.keeps_state,
        "state": found.state,
        "manifest": found.manifest,
    }


def runtime_view(state: RuntimeState) -> dict[str, Any]:
    """Whether a runtime works, and what it lacks by whose word."""
    lacks = [{"what": each.what, "said_by": list(each.said_by)} for each in state.lacks]
    return {
        "name": state.name,
        "is_default": state.is_default,
        "works": state.works,
        "lacks": lacks,
        "silent": list(state.silent),
        "reported_at": state.reported_at,
    }


def events_view(answer: EventsAnswer) -> dict[str, Any]:
    """A job's events."""
    return {"events": [asdict(event) for event in answer.events], "note": answer.note}


def exceptions_view(answer: ExceptionsAnswer) -> dict[str, Any]:
    """A job's exceptions, or what was kept of them."""
    found = [asdict(exception) for exception in answer.exceptions]
    return {"exceptions": found, "kept": answer.kept, "note": answer.note}


def template_view(template: Template) -> dict[str, Any]:
    """A template's version."""
    return redacted_request(template_body(template))


def template_in_list(template: Template) -> dict[str, Any]:
    """A template among others: of its files the names, sizes and hashes. GET templates/{template_id} has their text."""
    return outlined(template_body(template))


def outlined(request: Mapping[str, Any]) -> dict[str, Any]:
    """The redacted request with the name, size and hash of each file in place of its text."""
    return without_programs(redacted_request(request))


def redacted_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without the values of variables that look secret."""
    env = request.get("env")
    shown = dict(request)
    if isinstance(env, Mapping):
        shown["env"] = {name: _shown(name, value) for name, value in env.items()}
    return shown


def _shown(name: str, value: Any) -> Any:
    """A reference to a Secret says where the value is, and not the value."""
    if isinstance(value, Mapping) and "sealed" in value:
        return REDACTED
    text = PLACEHOLDER.sub("", plain_of(value) or "")
    return REDACTED if is_secret(name, text) else value
