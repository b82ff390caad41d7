"""SAVEPOINT: the state of a job that runs is kept under a path of its own, and the job runs on. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, Saved
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Expected, Kind, NoArguments, at_rest, no_run
from headrace.domain.operations.operation import KindName, Operation


class Savepoint(Kind):
    """Has a savepoint taken. Whether it can be taken or not, the job and its phase stay as they are."""

    name, phase, desired, leads_to = KindName.SAVEPOINT, None, Desired.RUNNING, Phase.RUNNING
    Arguments = NoArguments

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        return no_run(self, expected) or at_rest(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Saved(operation.sequence)
