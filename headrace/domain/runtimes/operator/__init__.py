"""How the Flink Kubernetes Operator gets to a goal: from a fresh sight of a FlinkDeployment to the next effects.

Pure; follows what the operator does (docs/architecture.md#operations). Every effect that takes something away rests on
the sight that the case carries, never on the record alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from headrace.domain.deployments import Deployment, never_started, operation_of
from headrace.domain.failures import Explanation
from headrace.domain.goals import (
    Adopted,
    Changed,
    Gone,
    NewRun,
    Released,
    Restarted,
    Restored,
    Resumed,
    RolledBack,
    Saved,
    Scaled,
    Suspended,
    Upgraded,
)
from headrace.domain.jobs import Job
from headrace.domain.operations import Step
from headrace.domain.runtimes.operator.adopted import to_adopted
from headrace.domain.runtimes.operator.changed import to_changed
from headrace.domain.runtimes.operator.ends import deadline_words, given_up, is_past_return, withdrawn
from headrace.domain.runtimes.operator.foreseen import foreseen
from headrace.domain.runtimes.operator.gone import restored, to_gone
from headrace.domain.runtimes.operator.in_place import asks_for_vertices
from headrace.domain.runtimes.operator.new_run import to_new_run, until_running
from headrace.domain.runtimes.operator.released import to_released
from headrace.domain.runtimes.operator.rolled_back import last_stable
from headrace.domain.runtimes.operator.saved import dropped, to_saved
from headrace.domain.runtimes.operator.sights import Effects, ours
from headrace.domain.runtimes.operator.suspended import to_suspended
from headrace.domain.runtimes.plan import Case, Drive, End, Foreseen, Look, Renew
from headrace.domain.state_on_hand import Said
from headrace.domain.status import NOT_WRITTEN


class OperatorPlan:
    """See plan.Plan."""

    def looks(self, case: Case) -> frozenset[Look]:
        """See plan.Plan. A JobManager is asked where state is about to be left behind, and there may be one."""
        live = ours(case)
        if asks_for_vertices(case):
            return frozenset({Look.LIVE, Look.VERTICES})
        if live is None or isinstance(case.goal, (Changed, Adopted, Released)) or case.operation.step is Step.WITHDRAW:
            return frozenset({Look.LIVE})
        if isinstance(case.goal, Saved):
            return frozenset({Look.LIVE, Look.SNAPSHOTS, Look.CHECKPOINT})
        takes_away = isinstance(case.goal, (Gone, Suspended)) or operation_of(live) != case.operation.id
        may_answer = not never_started(live, case.job.was_running)
        return frozenset({Look.LIVE, Look.CHECKPOINT} if takes_away and may_answer else {Look.LIVE})

    def next(self, case: Case) -> Effects:
        """See plan.Plan."""
        if case.operation.step is Step.WITHDRAW:
            return withdrawn(case)
        if case.refused is not None:
            words = Explanation(f"the operator refused it: {case.refused}", "correct it, and send the request again")
            return _renewing(case, given_up(case, str(words)))
        if case.operation.is_late and not is_past_return(case):
            left_over = dropped(case) if isinstance(case.goal, Saved) else []
            return [*left_over, *_renewing(case, given_up(case, deadline_words(case)))]
        return _renewing(case, _steps(case))

    def alone(self, job: Job, live: Deployment, said: Said) -> Drive | None:
        """See plan.Plan. The operator is at it by itself."""
        return None

    def foreseen(self, case: Case) -> Foreseen | str:
        """See plan.Plan."""
        return foreseen(case, self.next(case))

    @property
    def no_last_stable(self) -> str:
        """See plan.Plan."""
        return ""

    def last_stable(self, whole: Mapping[str, Any], rendered: Sequence[Mapping[str, Any]]) -> int | str:
        """See plan.Plan."""
        return last_stable(whole, rendered)


def _renewing(case: Case, effects: Effects) -> Effects:
    """Where a request rendered anew holds, whatever its operation's end, it is the job's."""
    if not isinstance(case.goal, Upgraded | RolledBack):
        return effects
    return [Renew(each) if isinstance(each, End) and each.holds else each for each in effects]


def _steps(case: Case) -> Effects:
    match case.goal:
        case NewRun():
            return to_new_run(case, case.goal) if case.operation.step in NOT_WRITTEN else until_running(case)
        case Scaled() | Restarted() | Resumed() | Upgraded() | RolledBack():
            return to_changed(case, case.goal)
        case Suspended():
            return to_suspended(case)
        case Gone():
            return to_gone(case, case.goal)
        case Restored():
            return restored(case)
        case Saved():
            return to_saved(case, case.goal)
        case Adopted():
            return to_adopted(case, case.goal)
        case Released():
            return to_released(case)
        case _:
            assert_never(case.goal)
