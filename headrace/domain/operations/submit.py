"""SUBMIT: run 1 of a new job, or run n+1 of one that has settled. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, NewRun
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Expected, Kind, since
from headrace.domain.operations.operation import KindName, Operation


class Submit(Kind):
    """Makes a deployment from a request. What is left of the run before is kept and cleared first."""

    name, phase, desired, leads_to = KindName.SUBMIT, Phase.STARTING, Desired.RUNNING, Phase.RUNNING
    begins_a_run = True

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
