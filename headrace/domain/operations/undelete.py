"""UNDELETE: a DELETED job is one that was stopped again, while its records are there. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, Restored
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Expected, Kind, NoArguments
from headrace.domain.operations.operation import KindName, Operation


class Undelete(Kind):
    """Brings a DELETED job's records back, and nothing to run: SUBMIT does that, from its last state if it is told."""

    name, phase, desired, leads_to = KindName.UNDELETE, Phase.DELETED, Desired.CANCELLED, Phase.CANCELLED
    Arguments = NoArguments

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        if expected.phase is Phase.DELETED:
            return None
        return f"job {expected.job_id}: cannot UNDELETE, it is {expected.phase} and not DELETED"

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Restored()
