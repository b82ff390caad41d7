"""RESTART: the job runs on as it is, under a JobManager and TaskManagers that are made anew. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, Restarted
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Expected, Kind, NoArguments, at_rest, no_run
from headrace.domain.operations.operation import KindName, Operation


class Restart(Kind):
    """Sets the operator's restartNonce: it takes a savepoint of a running job and deploys it again from there."""

    name, phase, desired, leads_to = KindName.RESTART, Phase.RESTARTING, Desired.RUNNING, Phase.RUNNING
    Arguments = NoArguments
    can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        return no_run(self, expected) or at_rest(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Restarted(operation.sequence)
