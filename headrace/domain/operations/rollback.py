"""ROLLBACK: the job goes on from its state as an earlier version of it had it, or as the operator last saw it stable.
Pure.
"""

from __future__ import annotations

from pydantic import Field

from headrace.domain.goals import Goal, RolledBack, Upgraded
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, at_rest, no_run
from headrace.domain.operations.operation import KindName, Operation


class RollbackArguments(Arguments):
    """`to` is a version's number, as the job's versions have it; without it, the operator's last stable spec."""

    to: int | None = Field(None, ge=1)


class Rollback(Kind):
    """Renders the request of a version anew; the operator takes a savepoint of a running job and deploys it from
    there. Without a version the spec that was stable last is written, but for what it says of state."""

    name, phase, desired, leads_to = KindName.ROLLBACK, Phase.ROLLING_BACK, Desired.RUNNING, Phase.RUNNING
    Arguments, shown = RollbackArguments, ("to",)
    resolves = can_be_foreseen = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        return no_run(self, expected) or at_rest(self, expected)

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        request = operation.arguments.get("request") or {}
        return RolledBack(request) if operation.arguments.get("to") is None else Upgraded(request)
