"""The run rests and its deployment stays. Pure."""

from __future__ import annotations

from headrace.domain.deployments import Deployment, is_running, is_suspended, sequence_of
from headrace.domain.jobs import SETTLED
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, lost, raised
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
from headrace.domain.runtimes.plan import Case, Change, End
from headrace.domain.state_on_hand import Known, Unknown


def to_suspended(case: Case) -> Effects:
    """The next effects of a SUSPEND."""
    live = ours(case)
    if live is None:
        return [lost(case)]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        return [End(State.FAILED, f"job {case.job.job_id} is being deleted: there is nothing to SUSPEND")]
    if is_suspended(live):
        return _rests(case, live)
    if has_written(case, live) and spec_state(live) == "suspended":
        return until_suspended(case, live)
    return _to_rest(case, live)


def _to_rest(case: Case, live: Deployment) -> Effects:
    """Before anything is suspended, its state is on record, or it is known to have none."""
    if case.job.phase in SETTLED:
        problem = f"job {case.job.job_id} is {case.job.phase}: there is nothing to SUSPEND"
        return [*raised(case, live), End(State.FAILED, problem)]
    state = state_seen(case)
    if isinstance(state, Unknown) and not is_running(live):
        return unreadable(state)
    return [*kept(state), suspending_write(case, live)]


def _rests(case: Case, live: Deployment) -> Effects:
    """The job is suspended. The deployment keeps what it goes on from, whether its path can be read or not."""
    state = left_behind(case, live)
    if state is None:
        return [Change((), Step.AWAIT_SUSPENDED)]  # whoever writes asks for its state too
    match state:
        case Known(path):
            words = f"state kept in {path}"
        case Unknown(why):
            words = f"its state is where Flink's HA metadata say; its path cannot be read ({why})"
        case _:
            words = "the job had no state"
    return [*kept(state), *raised(case, live), End(State.SUCCEEDED, words)]
