"""STOP: the run ends and its state is kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.domain.goals import Goal, Gone
from headrace.domain.jobs import SETTLED, Desired, Phase
from headrace.domain.operations.kind import ENDS_THE_RUN, Arguments, Expected, Kind, since
from headrace.domain.operations.operation import KindName, Operation


class StopArguments(Arguments):
    """With `force` the run ends whether its state can be kept or not. With `drain` a running job closes its windows
    and commits before its last savepoint: it has read all that it will read. With `only_remains` it removes what a
    settled run has left in the cluster, and never ends one that runs."""

    force: bool = False
    drain: bool | None = None
    only_remains: bool | None = None


class Stop(Kind):
    """Ends whatever is open, suspends with a savepoint, and deletes once the state's path is on record."""

    name, phase, desired, leads_to = KindName.STOP, Phase.CANCELLING, Desired.CANCELLED, Phase.CANCELLED
    Arguments, shown = StopArguments, ("force", "drain", "only_remains")
    rules_the_phase = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind. A settled job is stopped for what it left: only one whose deployment was seen gone is refused."""
        last = expected.last
        if last is not None and last.kind in ENDS_THE_RUN:
            return f"job {expected.job_id}: a {last.kind} is open already {since(last)}; wait for it"
        job = expected.job
        if expected.open_operations or job is None or job.phase not in SETTLED or not job.is_gone:
            return None
        return f"job {expected.job_id}: nothing runs, it is {job.phase}"

    def refusal_of(self, expected: Expected, arguments: Mapping[str, Any]) -> str | None:
        """See Kind. What a run has left is removed while nothing else is asked of the job."""
        if arguments.get("only_remains") and (expected.open_operations or not expected.is_settled):
            return f"job {expected.job_id}: no run has ended and left something, it is {expected.phase}"
        return self.refusal(expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Gone(*(bool(operation.arguments.get(name)) for name in ("force", "drain", "only_remains")))

    def supersedes(self, earlier: Operation) -> bool:
        """Any open operation before it, begun or not."""
        return True
