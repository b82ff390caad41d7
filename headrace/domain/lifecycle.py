"""Which operation a job may take now, the sentence for one that it may not, and how another run begins. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from headrace.domain.jobs import SETTLED, Desired, Job, Observation, Phase
from headrace.domain.operations import Kind, Operation

LEAVES_A_DEPLOYMENT = frozenset({Phase.FAILED, Phase.REJECTED})
"""Settled phases whose deployment stays to be looked at: STOP removes it."""


def refusal(kind: Kind, job: Job | None, open_operations: Sequence[Operation]) -> str | None:
    """Why `kind` cannot be accepted now, with what to do; None where it can.

    An operation that only has to wait its turn is accepted: it is refused where its turn could never come.
    """
    if kind is Kind.SUBMIT:
        return _no_submit(job, open_operations)
    return _no_stop(job, open_operations) if kind is Kind.STOP else _no_scale(job, open_operations)


def of_new_run(job: Job, operation: Operation, at: datetime) -> Job:
    """The job's record where this SUBMIT begins another run of it: nothing is left of the run before but its state."""
    arguments = operation.arguments
    start_from = arguments.get("start_from")
    return replace(
        job,
        run=job.run + 1,
        applied_sequence=operation.sequence,
        request=arguments["request"],
        labels=arguments["request"].get("labels", {}),
        template_id=arguments.get("template_id"),
        template_version=arguments.get("template_version"),
        start_from=job.savepoint_path if start_from == "last" else start_from,
        desired=Desired.RUNNING,
        phase=Phase.REQUESTED,
        phase_since=at,
        waiting=None,
        observation=Observation.FRESH,
        observed_at=at,
        reason="",
        next_step="",
        deployment_uid=None,
        resource_version=None,
        flink_job_id=None,
        start_time=None,
        parallelism=None,
        was_running=False,
        not_found_count=0,
        trouble_since=None,
        error="",
        diagnosis=None,
        kept_log="",
        kept_exceptions="",
        applied_manifest=None,
        updated_at=at,
    )


def may_show_another_run(job: Job) -> bool:
    """Whether its record alone does not say what `as_accepted` shows: a request may be accepted that has not begun."""
    return job.phase in SETTLED and job.desired is Desired.RUNNING and job.last_sequence > job.applied_sequence


def as_accepted(job: Job, open_operations: Sequence[Operation]) -> Job:
    """The job as readers see it: an accepted SUBMIT shows its run, REQUESTED, and not the end of the one before."""
    kinds = {operation.kind for operation in open_operations}
    submit = next((each for each in open_operations if each.kind is Kind.SUBMIT), None)
    if submit is None or Kind.STOP in kinds or submit.sequence <= job.applied_sequence or job.phase not in SETTLED:
        return job
    return of_new_run(job, submit, submit.accepted_at)


def _no_submit(job: Job | None, open_operations: Sequence[Operation]) -> str | None:
    if open_operations:
        first = open_operations[0]
        return (
            f"job {first.job_id}: cannot SUBMIT while {first.kind} is open {_since(first)}; "
            "wait for it, or send STOP first"
        )
    if job is None or job.phase in SETTLED or job.phase is Phase.REQUESTED:
        return None
    if job.phase is Phase.SUSPENDED:
        return f"job {job.job_id}: cannot SUBMIT while SUSPENDED; send RESUME, or STOP and then SUBMIT"
    return f"job {job.job_id}: cannot SUBMIT while {job.phase}; send STOP first, or choose another job_id"


def _no_stop(job: Job | None, open_operations: Sequence[Operation]) -> str | None:
    stopping = next((operation for operation in open_operations if operation.kind is Kind.STOP), None)
    if stopping is not None:
        return f"job {stopping.job_id}: a STOP is open already {_since(stopping)}; wait for it"
    if job is None or open_operations or job.phase not in SETTLED or job.phase in LEAVES_A_DEPLOYMENT:
        return None
    return f"job {job.job_id}: nothing runs, it is {job.phase}"


def _no_scale(job: Job | None, open_operations: Sequence[Operation]) -> str | None:
    stopping = next((operation for operation in open_operations if operation.kind is Kind.STOP), None)
    if stopping is not None:
        return f"job {stopping.job_id}: cannot SCALE while a STOP is open {_since(stopping)}; SUBMIT it anew after it"
    if open_operations or job is None:
        return None
    if job.phase in SETTLED:
        return f"job {job.job_id}: cannot SCALE, it is {job.phase}; SUBMIT begins another run"
    return None


def _since(operation: Operation) -> str:
    return f"(operation {operation.id}, since {operation.accepted_at:%H:%M:%SZ})"
