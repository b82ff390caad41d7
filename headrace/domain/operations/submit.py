"""SUBMIT: run 1 of a new job, or run n+1 of one that has settled. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from headrace.domain.goals import Goal, NewRun
from headrace.domain.job_requests import without_programs
from headrace.domain.jobs import Desired, Job, Observation, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, since
from headrace.domain.operations.operation import KindName, Operation

LAST = "last"
SAVEPOINT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^/\s]\S{0,2000}")


OUTLIVES_RUNS = (
    "tenant",
    "job_id",
    "cluster",
    "namespace",
    "deployment_name",
    "created_at",
    "last_sequence",
    "transition_count",
    "manifests",
    "applied",
    "intended",
    "savepoint_path",
    "is_gone",
)
"""What of a job's record is not of one run: whatever is not named here begins anew with each."""


def _a_place(given: str | None) -> str | None:
    if given not in (None, LAST) and not SAVEPOINT.fullmatch(given or ""):
        raise ValueError("must be `last`, or a savepoint's path as a URI: s3://bucket/…, file:///…")
    return given


StartFrom = Annotated[str | None, AfterValidator(_a_place)]
"""`last`, or a savepoint's path; None where it is not said."""

Fields = Annotated[Mapping[str, Any], BeforeValidator(lambda given: {} if given is None else given)]
"""Fields by their names; null is none of them."""


class SubmitArguments(Arguments):
    """A template, its version (the newest if none) and its parameters' values; overrides of it, or a whole request, in
    `job_config`; `start_from` is `last`, or a savepoint's path."""

    template_id: str | None = None
    template_version: int | None = Field(None, ge=1)
    parameters: Fields = Field(default_factory=dict)
    job_config: Fields = Field(default_factory=dict)
    start_from: StartFrom = None


class Submit(Kind):
    """Makes a deployment from a request. What is left of the run before is kept and cleared first."""

    name, phase, desired, leads_to = KindName.SUBMIT, Phase.STARTING, Desired.RUNNING, Phase.RUNNING
    Arguments, shown = SubmitArguments, ("template_id", "template_version")
    begins_a_run = makes_a_job = resolves = can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        if expected.is_settled or expected.phase is Phase.REQUESTED:
            return None
        if expected.last is not None:
            return (
                f"job {expected.job_id}: cannot SUBMIT while {expected.last.kind} is open {since(expected.last)}; "
                "wait for it, or send STOP first"
            )
        if expected.phase is Phase.SUSPENDED:
            return f"job {expected.job_id}: cannot SUBMIT while SUSPENDED; send RESUME, or STOP and then SUBMIT"
        return f"job {expected.job_id}: cannot SUBMIT while {expected.phase}; send STOP first, or choose another job_id"

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return NewRun(operation.arguments.get("request") or {}, operation.arguments.get("start_from"))


def of_new_run(job: Job, operation: Operation, *, run: int, start_from: str | None, at: datetime) -> Job:
    """The job's record where this SUBMIT begins a run of it: nothing is left of the run before but what outlives runs,
    its newest state among it."""
    request = operation.arguments["request"]
    return begun(
        job,
        run,
        at,
        submitted_by=operation.id,
        submitted=without_programs(request),
        labels=request.get("labels", {}),
        template_id=operation.arguments.get("template_id"),
        template_version=operation.arguments.get("template_version"),
        start_from=start_from,
        state_path=start_from,
        upgrade_path=start_from,
    )


def begun(job: Job, run: int, at: datetime, **facts: Any) -> Job:
    """The record of a run that begins, with these facts of it: nothing else is left of the run before but what outlives
    runs."""
    kept = {name: getattr(job, name) for name in OUTLIVES_RUNS}
    seen = {"observation": Observation.FRESH, "observed_at": at, "updated_at": at, "phase_since": at}
    return Job(**{**kept, **seen, **facts}, run=run)


def as_accepted(job: Job, operation: Operation) -> Job:
    """The job as readers see it once its next run is accepted and has not begun: that run, REQUESTED."""
    start_from = operation.arguments.get("start_from")
    path = job.savepoint_path if start_from == "last" else start_from
    return of_new_run(job, operation, run=job.run + 1, start_from=path, at=operation.accepted_at)
