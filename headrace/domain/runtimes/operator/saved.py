"""A savepoint of a job that runs on. Pure. Nothing here changes what runs: a failed one is its operation's trouble.

By a FlinkStateSnapshot of ours where the cluster has the kind and an operator looks at it; else by the deployment's
nonce, for which an operator makes a snapshot of its own, or shows the savepoint in the deployment's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from headrace.domain import diff
from headrace.domain.deployments import (
    Deployment,
    gave_up_savepoint,
    is_behind,
    is_running,
    savepoint_of,
    sequence_of,
)
from headrace.domain.goals import Saved
from headrace.domain.jobs import SETTLED
from headrace.domain.manifest import annotations_of, to_save
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, lost, raised
from headrace.domain.runtimes.operator.sights import (
    Effects,
    has_written,
    inverse_of,
    ours,
    spec_state,
    stamp_of,
    whole_of,
)
from headrace.domain.runtimes.plan import Case, Change, DropSnapshot, Effect, End, Keep, Move, TakeSnapshot, Wait
from headrace.domain.snapshots import GIVEN_UP, NotSeen, NotServed, Snapshot, snapshot_manifest, snapshot_name
from headrace.domain.state_on_hand import Checkpoints
from headrace.domain.status import READ, SAVEPOINT_NONCE

LOOK_AGAIN_SECONDS = 5.0
"""How long after a job was not seen RUNNING it is looked at again."""

NOBODY_TAKES_IT = timedelta(seconds=30)
"""An operator gives a snapshot a status at once: after so long without one, none looks at snapshots here."""

HINT = "the job runs on as before; `headrace events` may say more"


def to_saved(case: Case, goal: Saved) -> Effects:
    """The next effects of a SAVEPOINT."""
    live = ours(case)
    if live is None:
        return [lost(case)]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    problem, shown = _cannot_be_saved(case, live), savepoint_of(live, goal.nonce) is not None
    if not whole_of(case):  # a worker looks at the snapshots too
        return [Change((), case.operation.step)] if problem or shown else []
    found = _ended(case, goal, live)
    if found:
        return found
    if problem:
        return [*dropped(case), *raised(case, live), End(State.FAILED, problem)]
    return _by_snapshot(case, live) if _is_by_snapshot(case) else _by_nonce(case, goal, live)


def dropped(case: Case) -> list[Effect]:
    """What is left of a savepoint that nobody waits for any more."""
    mine = _mine(case)
    return [DropSnapshot(mine)] if mine is not None and not mine.is_taken else []


def _cannot_be_saved(case: Case, live: Deployment) -> str:
    name, phase = f"job {case.job.job_id}", case.job.phase
    if phase in SETTLED:
        return f"{name} is {phase}: there is nothing to take a savepoint of"
    if live.metadata.deletion_timestamp is not None:
        return f"{name} is being deleted: there is nothing to take a savepoint of"
    if spec_state(live) == "suspended":
        return f"{name} is SUSPENDED: it rests with its state already"
    return ""


# What has become of it


def _ended(case: Case, goal: Saved, live: Deployment) -> Effects:
    last = savepoint_of(live, goal.nonce) if has_written(case, live) else None
    if last is not None and last.location:
        return _taken(case, last.location, last.format_type)
    for snapshot in (_mine(case), _the_operators(case, live)):
        if snapshot is not None and snapshot.is_taken:
            return _taken(case, snapshot.path, snapshot.format)
        if snapshot is not None and snapshot.state in GIVEN_UP:
            why = snapshot.error or f"the operator gave it up ({snapshot.state})"
            return [*raised(case, live), End(State.FAILED, f"the savepoint failed: {why}; {HINT}")]
    return []


def _taken(case: Case, path: str, made_as: str | None) -> Effects:
    said = case.said
    size = said.size_bytes if isinstance(said, Checkpoints) and said.latest == path else None
    keep = Keep(path, ran_since=True, format=made_as, size_bytes=size)
    return [keep, End(State.SUCCEEDED, f"state kept in {path}")]


def _seen(case: Case) -> Sequence[Snapshot]:
    return () if isinstance(case.snapshots, NotServed | NotSeen) else case.snapshots


def _mine(case: Case) -> Snapshot | None:
    """The snapshot of this operation. Snapshots outlive their deployment: another's may have the name."""
    return next((each for each in _seen(case) if each.operation == case.operation.id), None)


def _the_operators(case: Case, live: Deployment) -> Snapshot | None:
    """The snapshot that the operator has made for the nonce: the first one that was not there before it."""
    if not has_written(case, live) or case.operation.snapshot_before is None:
        return None
    before = case.operation.snapshot_before
    return next((each for each in _seen(case) if each.is_manual and each.order > before), None)


# By a snapshot


def _is_by_snapshot(case: Case) -> bool:
    """Whether a snapshot can bring it about: until it was found that nobody looks at them."""
    if case.operation.step is Step.AWAIT_SAVEPOINT or isinstance(case.snapshots, NotServed | NotSeen):
        return False
    name = snapshot_name(case.job.deployment_name, case.operation.sequence)
    return all(each.name != name or each.operation == case.operation.id for each in case.snapshots)


def _by_snapshot(case: Case, live: Deployment) -> Effects:
    mine, operation = _mine(case), case.operation
    if mine is None:
        return _not_running(case, live) or [*_moved(case, Step.AWAIT_SNAPSHOT), _snapshot(case)]
    if operation.step is not Step.AWAIT_SNAPSHOT:
        return [Move(Step.AWAIT_SNAPSHOT)]
    is_overdue = case.at - operation.updated_at >= NOBODY_TAKES_IT
    return [Move(Step.AWAIT_SAVEPOINT)] if not mine.state and is_overdue else []


def _snapshot(case: Case) -> TakeSnapshot:
    annotations = annotations_of(case.job, stamp_of(case))
    return TakeSnapshot(snapshot_manifest(case.job, case.operation.sequence, annotations))


def _moved(case: Case, step: Step) -> list[Effect]:
    return [] if case.operation.step is step else [Move(step)]


def _not_running(case: Case, live: Deployment) -> Effects:
    """Flink takes savepoints of a job that is RUNNING, and the operator gives up, or passes over, what is asked for
    before."""
    if is_running(live):
        return []
    why = f"a savepoint can be taken while the job is RUNNING; it is {case.job.phase}"
    return [Wait(LOOK_AGAIN_SECONDS, f"waiting: {why}")]


# By the nonce


def _by_nonce(case: Case, goal: Saved, live: Deployment) -> Effects:
    mine = _mine(case)
    if mine is not None:
        return [] if mine.state else [DropSnapshot(mine), *_asked_for(case, goal, live)]
    if has_written(case, live) and READ[SAVEPOINT_NONCE](live.spec) == goal.nonce:
        return _awaited(case, goal, live)
    return _asked_for(case, goal, live)


def _awaited(case: Case, goal: Saved, live: Deployment) -> Effects:
    moved = _moved(case, Step.AWAIT_SAVEPOINT)
    over = gave_up_savepoint(live, goal.nonce) and not is_behind(live, case.operation.generation)
    if not over or _the_operators(case, live) is not None:
        return moved
    if isinstance(case.snapshots, NotSeen):
        words = f"waiting: whether it was taken cannot be seen: {case.snapshots.why}"
        return [*moved, Wait(LOOK_AGAIN_SECONDS, words)]
    return [End(State.FAILED, f"the savepoint failed; {HINT}")]


def _asked_for(case: Case, goal: Saved, live: Deployment) -> Effects:
    waiting = _not_running(case, live)
    if waiting:
        return waiting
    whole = whole_of(case)
    wished = list(diff.fitted(whole, to_save(case.job, stamp_of(case), goal.nonce)))
    asserts = (diff.Change(SAVEPOINT_NONCE, goal.nonce),)
    before = [each.order for each in _seen(case) if each.is_manual]
    known = case.operation.snapshot_before
    facts = {"snapshot_before": known if known is not None else max(before, default="")}
    inverse = inverse_of(case, wished)
    return [Change(wished, Step.AWAIT_SAVEPOINT, asserts=asserts, inverse=inverse, facts=facts)]
