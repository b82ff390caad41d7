"""A savepoint of a job that runs on. Pure. Nothing here changes what runs: a failed one is its operation's trouble."""

from __future__ import annotations

from headrace.domain import diff
from headrace.domain.deployments import (
    Deployment,
    LastSavepoint,
    gave_up_savepoint,
    is_behind,
    is_running,
    savepoint_of,
    sequence_of,
)
from headrace.domain.goals import Saved
from headrace.domain.jobs import SETTLED
from headrace.domain.manifest import to_save
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import SUPERSEDED, raised
from headrace.domain.runtimes.operator.sights import (
    Effects,
    has_written,
    inverse_of,
    ours,
    spec_state,
    stamp_of,
    whole_of,
)
from headrace.domain.runtimes.plan import Case, Change, End, Keep, Move, Wait
from headrace.domain.state_on_hand import Checkpoints
from headrace.domain.status import READ, SAVEPOINT_NONCE

RUNS_AGAIN_SECONDS = 5.0
"""How long after a job was not seen RUNNING it is looked at again."""

FAILED = "the savepoint failed; the job runs on as before; the savepoint directory may not be writable"


def to_saved(case: Case, goal: Saved) -> Effects:
    """The next effects of a SAVEPOINT."""
    live = ours(case)
    if live is None:
        return [End(State.FAILED, f"the deployment of job {case.job.job_id} was deleted outside Headrace")]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    taken = savepoint_of(live, goal.nonce) if has_written(case, live) else None
    if taken is not None:
        return _taken(case, taken)
    problem = _cannot_be_saved(case, live)
    if problem:
        return [*raised(case, live), End(State.FAILED, problem)]
    if has_written(case, live) and READ[SAVEPOINT_NONCE](live.spec) == goal.nonce:
        return _awaited(case, goal, live)
    return _asked_for(case, goal, live)


def _taken(case: Case, last: LastSavepoint) -> Effects:
    """Its end is a worker's, who asks the JobManager what else is known of it."""
    if not whole_of(case):
        return [Change((), Step.AWAIT_SAVEPOINT)]
    path, said = last.location or "", case.said
    size = said.size_bytes if isinstance(said, Checkpoints) and said.latest == path else None
    keep = Keep(path, ran_since=True, format=last.format_type, size_bytes=size)
    return [keep, End(State.SUCCEEDED, f"state kept in {path}")]


def _awaited(case: Case, goal: Saved, live: Deployment) -> Effects:
    if gave_up_savepoint(live, goal.nonce) and not is_behind(live, case.operation.generation):
        return [End(State.FAILED, FAILED)]
    return [] if case.operation.step is Step.AWAIT_SAVEPOINT else [Move(Step.AWAIT_SAVEPOINT)]


def _cannot_be_saved(case: Case, live: Deployment) -> str:
    name, phase = f"job {case.job.job_id}", case.job.phase
    if phase in SETTLED:
        return f"{name} is {phase}: there is nothing to take a savepoint of"
    if live.metadata.deletion_timestamp is not None:
        return f"{name} is being deleted: there is nothing to take a savepoint of"
    if spec_state(live) == "suspended":
        return f"{name} is SUSPENDED: it rests with its state already"
    return ""


def _asked_for(case: Case, goal: Saved, live: Deployment) -> Effects:
    """The operator takes savepoints of a job that is RUNNING, and passes over what was asked for before."""
    if not is_running(live):
        why = f"a savepoint can be taken while the job is RUNNING; it is {case.job.phase}"
        return [Wait(RUNS_AGAIN_SECONDS, f"waiting: {why}")]
    whole = whole_of(case)
    if not whole:
        return [Change((), Step.AWAIT_SAVEPOINT)]  # whoever writes looks at the whole deployment first
    wished = list(diff.fitted(whole, to_save(case.job, stamp_of(case), goal.nonce)))
    asserts = (diff.Change(SAVEPOINT_NONCE, goal.nonce),)
    return [Change(wished, Step.AWAIT_SAVEPOINT, asserts=asserts, inverse=inverse_of(case, wished))]
