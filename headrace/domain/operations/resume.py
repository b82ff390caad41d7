"""RESUME: a job that rests runs again, from the state that it was suspended with or from a chosen savepoint. Pure."""

from __future__ import annotations

from dataclasses import replace

from headrace.domain.goals import Goal, Resumed
from headrace.domain.jobs import Desired, Job, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, no_run
from headrace.domain.operations.operation import KindName, Operation
from headrace.domain.operations.submit import LAST, StartFrom


class ResumeArguments(Arguments):
    """`start_from` is a savepoint's path; without it, or with `last`, the state that the job was suspended with."""

    start_from: StartFrom = None


class Resume(Kind):
    """Sets a suspended job running; from a chosen savepoint the operator redeploys it without its own state."""

    name, phase, desired, leads_to = KindName.RESUME, Phase.STARTING, Desired.RUNNING, Phase.RUNNING
    Arguments = ResumeArguments
    can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        if expected.phase is Phase.SUSPENDED:
            return None
        words = f"job {expected.job_id}: cannot RESUME, it is {expected.phase}; SUSPEND lets a job rest"
        return no_run(self, expected) or words

    def result(self, job: Job, operation: Operation) -> Job:
        """The job runs from the chosen savepoint, if one was."""
        start_from = operation.arguments.get("start_from")
        return job if start_from in (None, LAST) else replace(job, start_from=start_from)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        start_from = operation.arguments.get("start_from")
        return Resumed(None if start_from == LAST else start_from, operation.sequence)
