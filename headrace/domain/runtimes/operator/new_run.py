"""A new run: what is left of the run before is kept and cleared, then the deployment is created. Pure."""

from __future__ import annotations

from headrace.domain import diff
from headrace.domain.deployments import Deployment, operation_of, run_of, sequence_of
from headrace.domain.failures import Explanation
from headrace.domain.goals import NewRun
from headrace.domain.job_requests import recorded_request
from headrace.domain.jobs import SETTLED
from headrace.domain.manifest import render
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, awaited, raised, rejected, with_patience
from headrace.domain.runtimes.operator.sights import (
    SOON_SECONDS,
    UNKNOWN_STATE_SECONDS,
    Effects,
    kept,
    name_is_taken,
    ours,
    stamp_of,
    state_seen,
    whole_of,
)
from headrace.domain.runtimes.plan import Absent, Adopt, Begin, Case, Create, Delete, End, Move, Wait
from headrace.domain.state_on_hand import Unknown, state_on_hand


def to_new_run(case: Case, goal: NewRun) -> Effects:
    """Before a run is created, what is left of the run before it is kept and cleared."""
    if isinstance(case.sight, Absent):
        return _created(case, goal)
    live = case.sight.deployment
    if operation_of(live) == case.operation.id:
        return [Adopt(live)] if case.operation.step is Step.CREATE else [_taken_over(case, live), Adopt(live)]
    if ours(case) is None:
        return rejected(case, Explanation(name_is_taken(live, case.job.runtime), "choose another job_id, or remove it"))
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        return [Move(Step.CLEAR), Wait(SOON_SECONDS, "the deployment of the run before is being removed")]
    if case.job.phase not in SETTLED:
        still = f"job {case.job.job_id}: a run of it is still there, {case.job.phase}; send STOP first"
        return [*raised(case, live), End(State.FAILED, still)]
    return _cleared(case, live)


def _created(case: Case, goal: NewRun) -> Effects:
    if case.operation.step is Step.CREATE and case.job.intended_manifest is not None:
        return [Create(case.job.intended_manifest)]
    begun = _begun(case, goal)
    return [*begun, Create(begun[0].manifest)] if isinstance(begun[0], Begin) else begun


def _begun(case: Case, goal: NewRun) -> Effects:
    path, problem = _start(case, goal)
    if problem:
        return rejected(case, Explanation(problem, ""))
    request = recorded_request(goal.request)
    run = case.job.run + 1
    manifest = render(case.job, request, case.platform, stamp_of(case, run), start_from=path)
    return [Begin(run, path, manifest)]


def _taken_over(case: Case, live: Deployment) -> Begin:
    """A run that this operation made, and whose record was lost since: its number and start are the live ones."""
    whole = whole_of(case)
    path = diff.at(whole, ("spec", "job", "initialSavepointPath"))
    return Begin(run_of(live), path, whole)


def _start(case: Case, goal: NewRun) -> tuple[str | None, str]:
    """The path to start from, and why there is none where one was asked for."""
    job = case.job
    if goal.start_from != "last":
        return goal.start_from, ""
    if job.run == 0 or (job.savepoint_path is None and not job.ran_since_state):
        return None, f"job {job.job_id} has no last state on record; submit it without start_from"
    state = state_on_hand(job, None, case.said)
    if isinstance(state, Unknown) or job.savepoint_path is None:
        newest = f"the newest on record is {job.savepoint_path}" if job.savepoint_path else "none is on record"
        return None, (
            f"job {job.job_id}: its last state is not known, since its deployment is gone ({newest}); "
            "name a path as start_from, or submit it without"
        )
    return job.savepoint_path, ""


def _cleared(case: Case, live: Deployment) -> Effects:
    state = state_seen(case)
    if isinstance(state, Unknown):
        why = f"the last state of run {case.job.run} cannot be read ({state.why})"
        return [Move(Step.CLEAR), Wait(UNKNOWN_STATE_SECONDS, f"waiting: {why}")]
    return [*kept(state), Delete(live.metadata.uid, Step.CLEAR, SOON_SECONDS)]


def until_running(case: Case) -> Effects:
    """The deployment was created: RUNNING is awaited."""
    live = ours(case)
    if live is None:
        return [End(State.FAILED, f"the deployment is gone: {case.job.reason or 'deleted outside Headrace'}")]
    return awaited(case, live) or with_patience(case, live)
