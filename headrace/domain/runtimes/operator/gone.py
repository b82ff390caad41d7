"""Nothing of the run is left but its state: it is suspended with it first, then its deployment is deleted. Pure."""

from __future__ import annotations

from headrace.domain.deployments import (
    Deployment,
    has_ended,
    is_behind,
    is_running,
    is_suspended,
    never_started,
    sequence_of,
)
from headrace.domain.failures import Explanation
from headrace.domain.goals import Gone
from headrace.domain.jobs import Phase
from headrace.domain.operations import KINDS, State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, raised
from headrace.domain.runtimes.operator.sights import (
    Effects,
    has_written,
    kept,
    ours,
    spec_state,
    state_seen,
    unreadable,
)
from headrace.domain.runtimes.operator.suspending import left_behind, suspending_write, until_suspended
from headrace.domain.runtimes.plan import Case, Change, Delete, End, Move
from headrace.domain.state_on_hand import Known, Unknown
from headrace.domain.status import ENDED_BY_US, NOT_WRITTEN

BACK = Explanation("it was deleted, and is back", "SUBMIT begins another run")


def to_gone(case: Case, goal: Gone) -> Effects:
    """The next effects of a STOP or a DELETE."""
    live = ours(case)
    if live is None:
        return _nothing_left(case)
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if goal.only_remains and not has_written(case, live) and (goes_on := _what_goes_on(case, live)):
        return [*raised(case, live), End(State.FAILED, f"job {case.job.job_id} goes on: {goes_on}")]
    if live.metadata.deletion_timestamp is not None:
        return [Move(Step.AWAIT_GONE)] if case.operation.step is not Step.AWAIT_GONE else []
    if is_suspended(live):
        return _suspended(case, goal, live)
    if has_written(case, live) and spec_state(live) == "suspended":
        return until_suspended(case, live)
    return _suspend(case, goal, live)


GOES_ON = ("RUNNING", "CREATED", "INITIALIZING", "RESTARTING", "FAILING")


def _what_goes_on(case: Case, live: Deployment) -> str:
    """Why a run that had ended may be one that goes on after all; empty where it has ended. The operator says
    RECONCILING of one that never came up, and of one whose JobManager it does not reach."""
    state = live.status.job_status.state if live.status and live.status.job_status else None
    may_be_back = state == "RECONCILING" and not never_started(live, case.job.was_running)
    if state in GOES_ON or may_be_back:
        return f"Flink says {state}"
    return "its deployment was changed" if is_behind(live, live.metadata.generation) else ""


def _nothing_left(case: Case) -> Effects:
    """Nothing runs under the name: a 404, or a resource that is not ours."""
    phase = KINDS[case.operation.kind].leads_to
    if case.operation.step in NOT_WRITTEN and case.job.deployment_uid is None:
        why = Explanation(f"{ENDED_BY_US[phase]} before it ran", "")
        return [End(State.SUCCEEDED, "nothing ran", phase, why)]
    return [End(State.SUCCEEDED, _stopped(case), phase, Explanation(ENDED_BY_US[phase], ""))]


def _stopped(case: Case) -> str:
    path = case.operation.savepoint_path
    if path:
        return f"state kept in {path}"
    if case.operation.step not in (Step.DELETE, Step.AWAIT_GONE):
        return "nothing ran"
    forced = isinstance(case.goal, Gone) and case.goal.force
    return "ended by force, without its state" if forced else "the job had no state"


def _suspend(case: Case, goal: Gone, live: Deployment) -> Effects:
    """A running job is suspended with a savepoint, its last checkpoint on record first; of another one the state is
    read first, and nothing is done before it is known."""
    state = state_seen(case)
    if is_running(live):
        return [*kept(state), suspending_write(case, live)]
    if isinstance(state, Unknown) and not goal.force:
        return unreadable(state)
    if isinstance(state, Known) and not (has_ended(live) or never_started(live, case.job.was_running)):
        return [*kept(state), suspending_write(case, live)]
    return [*kept(state), Move(Step.DELETE), Delete(live.metadata.uid, Step.AWAIT_GONE)]


def _suspended(case: Case, goal: Gone, live: Deployment) -> Effects:
    """Past the point of no return: the state's path is recorded, then the deployment deleted."""
    state = left_behind(case, live)
    if state is None:
        return [Change((), Step.AWAIT_SUSPENDED)]  # whoever writes asks for its state too
    if isinstance(state, Unknown) and not goal.force:
        words = "it was suspended without a savepoint; nothing was deleted; force ends the run without its state"
        return [End(State.FAILED, words)] if case.operation.is_late else unreadable(state)
    return [*kept(state), Move(Step.DELETE), Delete(live.metadata.uid, Step.AWAIT_GONE)]


def restored(case: Case) -> Effects:
    """The end of an UNDELETE: the records are all that it asks for."""
    name = f"job {case.job.job_id}"
    if case.job.is_forgotten:
        return [End(State.FAILED, f"{name}: its records are gone")]
    if case.job.phase is not Phase.DELETED:
        return [End(State.FAILED, f"{name} is {case.job.phase} and not DELETED")]
    return [End(State.SUCCEEDED, "its records are back; SUBMIT begins another run", Phase.CANCELLED, BACK)]
