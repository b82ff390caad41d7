"""RESUME: a job that rests runs again, from the state that it was suspended with or from a chosen savepoint. Pure."""

from __future__ import annotations

from pydantic import field_validator

from headrace.domain.goals import Goal, Resumed
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, no_run
from headrace.domain.operations.operation import KindName, Operation
from headrace.domain.operations.submit import LAST, SAVEPOINT


class ResumeArguments(Arguments):
    """`start_from` is a savepoint's path; without it, or with `last`, the state that the job was suspended with."""

    start_from: str | None = None

    @field_validator("start_from")
    @classmethod
    def _is_a_place(cls, given: str | None) -> str | None:
        if given not in (None, LAST) and not SAVEPOINT.fullmatch(given or ""):
            raise ValueError("must be `last`, or a savepoint's path as a URI: s3://bucket/…, file:///…")
        return given


class Resume(Kind):
    """Sets a suspended job running; from a chosen savepoint the operator redeploys it without its own state."""

    name, phase, desired, leads_to = KindName.RESUME, Phase.STARTING, Desired.RUNNING, Phase.RUNNING
    Arguments = ResumeArguments

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        if expected.phase is Phase.SUSPENDED:
            return None
        words = f"job {expected.job_id}: cannot RESUME, it is {expected.phase}; SUSPEND lets a job rest"
        return no_run(self, expected) or words

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        start_from = operation.arguments.get("start_from")
        return Resumed(None if start_from == LAST else start_from, operation.sequence)
