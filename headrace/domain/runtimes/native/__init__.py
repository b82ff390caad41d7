"""How Flink's own native mode gets to a goal: by the operator's plan, with the operator's part played by acts. Pure.

A native job's Deployment is shown as the FlinkDeployment that the operator would have of it, so that goals, their
writes and what they wait for are planned once. What no operator does here is one more effect: the act that is due.
"""

from __future__ import annotations

from headrace.domain.deployments import Deployment
from headrace.domain.jobs import Job
from headrace.domain.operations import Step
from headrace.domain.runtimes.native.acts import NEEDS_STATE, Act
from headrace.domain.runtimes.operator import OperatorPlan
from headrace.domain.runtimes.operator.sights import Effects, kept, ours, spec_state, state_seen, unreadable, whole_of
from headrace.domain.runtimes.plan import (
    Adopt,
    Begin,
    Case,
    Change,
    Claim,
    Create,
    Delete,
    Drive,
    Effect,
    End,
    Keep,
    Look,
    Raise,
    Renew,
)
from headrace.domain.state_on_hand import Said, Unknown, state_on_hand

WRITES_FIRST = (Adopt, Begin, Claim, Create, Delete, End, Raise, Renew)
"""Effects after which all rests on another sight."""


class NativePlan(OperatorPlan):
    """See plan.Plan."""

    def looks(self, case: Case) -> frozenset[Look]:
        """See plan.Plan. What an act rests on is asked too."""
        found = super().looks(case)
        act = act_due(ours(case))
        return found | {Look.CHECKPOINT} if act in NEEDS_STATE and Look.VERTICES not in found else found

    def next(self, case: Case) -> Effects:
        """See plan.Plan. The goal's own effects come first; where they change nothing, the act that is due."""
        effects, act = super().next(case), act_due(ours(case))
        if act is None or case.operation.step is Step.WITHDRAW or any(map(_writes, effects)):
            return effects
        return [*effects, *_driving(case, act)]

    def alone(self, job: Job, live: Deployment, said: Said) -> Drive | None:
        """See plan.Plan."""
        act = act_due(live)
        if act not in NEEDS_STATE:
            return Drive(act) if act is not None else None
        state = state_on_hand(job, live, said)
        return None if isinstance(state, Unknown) and act is Act.PUT_DOWN else Drive(act, state)

    @property
    def no_last_stable(self) -> str:
        """See plan.Plan."""
        return "the native runtime keeps no last stable spec"


def act_due(live: Deployment | None) -> Act | None:
    """The act that a sight shows to be due."""
    name = live.status.act if live is not None and live.status is not None else None
    return Act(name) if name is not None else None


def _writes(effect: Effect) -> bool:
    return isinstance(effect, WRITES_FIRST) or (isinstance(effect, Change) and bool(effect.changes))


def _driving(case: Case, act: Act) -> Effects:
    """Nothing is put down before its state is on record, or it is known to have none."""
    if act not in NEEDS_STATE or not whole_of(case):
        return [Drive(act)]
    state = state_seen(case)
    if isinstance(state, Unknown) and act is Act.PUT_DOWN:
        return unreadable(state)
    is_new = [each for each in kept(state) if isinstance(each, Keep) and each.path != case.job.state_path]
    live = ours(case)
    goes_on = live is not None and spec_state(live) == "running"
    return [*is_new, Drive(act, state), *(unreadable(state) if isinstance(state, Unknown) and goes_on else ())]
