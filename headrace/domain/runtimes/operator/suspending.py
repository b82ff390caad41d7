"""The write that suspends a job, and the state that it leaves behind: of a SUSPEND and of a STOP alike. Pure."""

from __future__ import annotations

from headrace.domain import diff
from headrace.domain.deployments import Deployment, is_running, left_by
from headrace.domain.goals import Gone
from headrace.domain.manifest import to_suspend
from headrace.domain.operations import Step
from headrace.domain.runtimes.operator.ends import with_patience
from headrace.domain.runtimes.operator.sights import (
    Effects,
    has_written,
    inverse_of,
    kept,
    stamp_of,
    state_seen,
    whole_of,
)
from headrace.domain.runtimes.plan import Case, Change
from headrace.domain.state_on_hand import LAST_STATE, HaMetadata, Known, StateOnHand, Unknown, known


def suspending_write(case: Case, live: Deployment) -> Change:
    """`job.state: suspended`, a savepoint before it where the job runs; the path that was there before is on record."""
    whole = whole_of(case)
    if not whole:
        return Change((), Step.AWAIT_SUSPENDED)
    drain = isinstance(case.goal, Gone) and case.goal.drain and is_running(live)
    wished = list(diff.fitted(whole, to_suspend(case.job, stamp_of(case), drain=drain)))
    status = live.status.job_status if live.status else None
    before = {"savepoint_before": status.upgrade_savepoint_path if status else None}
    facts = {} if case.operation.step is Step.AWAIT_SUSPENDED else before
    return Change(wished, Step.AWAIT_SUSPENDED, inverse=inverse_of(case, wished), facts=facts)


def until_suspended(case: Case, live: Deployment) -> Effects:
    """The operator is at it. A job that still runs makes newer checkpoints, and Flink prunes those on record."""
    state = state_seen(case)
    newer = kept(state) if isinstance(state, Known) and state.path != case.operation.savepoint_path else []
    return [*newer, *with_patience(case, live)]


def left_behind(case: Case, live: Deployment) -> StateOnHand | None:
    """The state that the suspend left; None where it took no savepoint and nobody was asked: the sync asks no one."""
    path = _new_path(case, live)
    if path is not None:
        return Known(path, "savepoint")
    return _state_of_suspended(case) if whole_of(case) else None


def _state_of_suspended(case: Case) -> StateOnHand:
    """The state that this operation recorded just before, where the suspend left none of its own and the HA metadata
    name no newer one. Where nobody speaks of it, it may be an older one: the job ran on until the write."""
    state, job = state_seen(case), case.job
    recorded = case.operation.savepoint_path
    if not isinstance(state, Unknown) or recorded is None or recorded != job.state_path:
        return state
    if not isinstance(case.said, HaMetadata) or None not in (case.said.newest, job.state_number):
        return state
    return known(recorded, job.state_number)


def _new_path(case: Case, live: Deployment) -> str | None:
    """The savepoint of the suspend: of one that took a savepoint, and only a path that has changed counts; without a
    suspend of ours, any. An older path stays in the status after a suspend that took none."""
    status = live.status.job_status if live.status else None
    path = status.upgrade_savepoint_path if status else None
    if not path or path == LAST_STATE or left_by(live) not in ("savepoint", None):
        return None
    return path if path != case.operation.savepoint_before or not has_written(case, live) else None
