"""SUSPEND: the job rests, its state kept, until a RESUME. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, Suspended
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Expected, Kind, NoArguments, no_run
from headrace.domain.operations.operation import KindName, Operation


class Suspend(Kind):
    """Suspends a running job with a savepoint; one that does not run keeps its last checkpoint."""

    name, phase, desired, leads_to = KindName.SUSPEND, Phase.SUSPENDING, Desired.SUSPENDED, Phase.SUSPENDED
    Arguments = NoArguments

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        if expected.phase is Phase.SUSPENDED:
            return f"job {expected.job_id}: cannot SUSPEND, it is SUSPENDED already; RESUME lets it run again"
        return no_run(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Suspended()
