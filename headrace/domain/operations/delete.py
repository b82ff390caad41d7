"""DELETE: the run ends as by a STOP, and the job's records go once they have been kept for long enough. Pure."""

from __future__ import annotations

from headrace.domain.goals import Goal, Gone
from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations.kind import Arguments, Expected, Kind, since
from headrace.domain.operations.operation import KindName, Operation


class DeleteArguments(Arguments):
    """With `force` the run ends whether its state can be kept or not."""

    force: bool = False


class Delete(Kind):
    """Ends whatever is open and the run, its state kept. Until its records go, UNDELETE brings the job back, and SUBMIT
    begins another run of it."""

    name, phase, desired, leads_to = KindName.DELETE, Phase.DELETING, Desired.DELETED, Phase.DELETED
    Arguments, shown = DeleteArguments, ("force",)
    rules_the_phase = True

    def refusal(self, expected: Expected) -> str | None:
        """See Kind."""
        name, last = f"job {expected.job_id}", expected.last
        if last is not None and last.kind is self.name:
            return f"{name}: a DELETE is open already {since(last)}; wait for it"
        if expected.phase is Phase.DELETED and last is None:
            return f"{name}: it is DELETED already; UNDELETE brings its records back, SUBMIT begins another run"
        return None

    def goal(self, operation: Operation) -> Goal:
        """See Kind."""
        return Gone(bool(operation.arguments.get("force")))

    def supersedes(self, earlier: Operation) -> bool:
        """Any open operation before it, begun or not."""
        return True
