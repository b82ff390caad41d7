"""How the Flink Kubernetes Operator gets to a goal: from a fresh sight of a FlinkDeployment to the next effects.

Pure; follows what the operator does (docs/architecture.md#operations). Every effect that takes something away rests on
the sight that the case carries, never on the record alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never

from headrace.domain import diff
from headrace.domain.deployments import (
    Deployment,
    has_ended,
    is_behind,
    is_of,
    is_running,
    is_suspended,
    left_by,
    never_started,
    operation_of,
    owner_of,
    run_of,
    sequence_of,
)
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.goals import Changed, Gone, NewRun, Restarted, Resumed, Scaled, Suspended, Upgraded
from headrace.domain.job_requests import recorded_request
from headrace.domain.jobs import SETTLED, Job, Phase
from headrace.domain.manifest import (
    Stamp,
    render,
    stamped,
    to_suspend,
    with_job,
    with_parallelism,
    with_spec,
    with_task_managers,
)
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.plan import (
    Absent,
    Adopt,
    Begin,
    Case,
    Change,
    Create,
    Delete,
    Effect,
    End,
    Keep,
    Live,
    Look,
    Move,
    Note,
    Raise,
    Renew,
    Wait,
)
from headrace.domain.state_on_hand import LAST_STATE, HaMetadata, Known, StateOnHand, Unknown, known, state_on_hand
from headrace.domain.status import (
    JOB_STATE,
    NOT_WRITTEN,
    PARALLELISM,
    REDEPLOY_NONCE,
    REPLICAS,
    RESTART_NONCE,
    UPGRADE_FAILURE_SUFFIX,
    error_of,
    holds_what_it_asserts,
)

SOON_SECONDS = 1.0
"""How long after a delete its name is looked at again."""

UNKNOWN_STATE_SECONDS = 5.0
"""How long after a JobManager gave no answer it is asked again."""

ENDING = (Step.AWAIT_SUSPENDED, Step.DELETE, Step.AWAIT_GONE)
"""Steps of a STOP that has written."""

Effects = Sequence[Effect]
SUPERSEDED = End(State.SUPERSEDED, "a newer operation has written the deployment")


class OperatorPlan:
    """See plan.Plan."""

    def looks(self, case: Case) -> frozenset[Look]:
        """See plan.Plan. A JobManager is asked where state is about to be left behind, and there may be one."""
        live = _ours(case)
        if live is None or isinstance(case.goal, Changed) or case.operation.step is Step.WITHDRAW:
            return frozenset({Look.LIVE})
        takes_away = isinstance(case.goal, (Gone, Suspended)) or operation_of(live) != case.operation.id
        may_answer = not never_started(live, case.job.was_running)
        return frozenset({Look.LIVE, Look.CHECKPOINT} if takes_away and may_answer else {Look.LIVE})

    def next(self, case: Case) -> Effects:
        """See plan.Plan."""
        if case.operation.step is Step.WITHDRAW:
            return _withdrawn(case)
        if case.refused is not None:
            words = Explanation(f"the operator refused it: {case.refused}", "correct it, and send the request again")
            return _renewing(case, _given_up(case, str(words)))
        if case.operation.is_late and not _is_past_return(case):
            return _renewing(case, _given_up(case, _deadline_words(case)))
        return _renewing(case, _steps(case))


def _renewing(case: Case, effects: Effects) -> Effects:
    """Where an upgrade holds, whatever its end, its request is the job's."""
    if not isinstance(case.goal, Upgraded):
        return effects
    return [Renew(each) if isinstance(each, End) and each.holds else each for each in effects]


def _steps(case: Case) -> Effects:
    match case.goal:
        case NewRun():
            return _new_run(case, case.goal) if case.operation.step in NOT_WRITTEN else _started(case)
        case Scaled() | Restarted() | Resumed() | Upgraded():
            return _changed(case, case.goal)
        case Suspended():
            return _rested(case)
        case Gone():
            return _gone(case, case.goal)
        case _:
            assert_never(case.goal)


def _ours(case: Case) -> Deployment | None:
    """The deployment in sight where it is this job's; None also where the name is somebody else's."""
    if isinstance(case.sight, Absent) or not is_of(case.sight.deployment, case.job.tenant, case.job.job_id):
        return None
    return case.sight.deployment


def _whole(case: Case) -> Mapping[str, Any]:
    return case.sight.whole if isinstance(case.sight, Live) else {}


def _stamp(case: Case, run: int | None = None) -> Stamp:
    return Stamp(case.operation.sequence, case.operation.id, case.job.run if run is None else run)


# Running: a new run.


def _new_run(case: Case, goal: NewRun) -> Effects:
    """Before a run is created, what is left of the run before it is kept and cleared."""
    if isinstance(case.sight, Absent):
        return _created(case, goal)
    live = case.sight.deployment
    if operation_of(live) == case.operation.id:
        return [Adopt(live)] if case.operation.step is Step.CREATE else [_taken_over(case, live), Adopt(live)]
    if _ours(case) is None:
        return _rejected(case, Explanation(name_is_taken(live), "choose another job_id, or remove it"))
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        return [Move(Step.CLEAR), Wait(SOON_SECONDS, "the deployment of the run before is being removed")]
    if case.job.phase not in SETTLED:
        still = f"job {case.job.job_id}: a run of it is still there, {case.job.phase}; send STOP first"
        return [*_raised(case, live), End(State.FAILED, still)]
    return _cleared(case, live)


def _created(case: Case, goal: NewRun) -> Effects:
    if case.operation.step is Step.CREATE and case.job.intended_manifest is not None:
        return [Create(case.job.intended_manifest)]
    begun = _begun(case, goal)
    return [*begun, Create(begun[0].manifest)] if isinstance(begun[0], Begin) else begun


def _begun(case: Case, goal: NewRun) -> Effects:
    path, problem = _start(case, goal)
    if problem:
        return _rejected(case, Explanation(problem, ""))
    request = recorded_request(goal.request)
    run = case.job.run + 1
    manifest = render(case.job, request, case.platform, _stamp(case, run), start_from=path)
    return [Begin(run, path, manifest)]


def _taken_over(case: Case, live: Deployment) -> Begin:
    """A run that this operation made, and whose record was lost since: its number and start are the live ones."""
    whole = _whole(case)
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
    state = _state(case)
    if isinstance(state, Unknown):
        why = f"the last state of run {case.job.run} cannot be read ({state.why})"
        return [Move(Step.CLEAR), Wait(UNKNOWN_STATE_SECONDS, f"waiting: {why}")]
    return [*_kept(state), Delete(live.metadata.uid, Step.CLEAR, SOON_SECONDS)]


def _rejected(case: Case, why: Explanation) -> Effects:
    """The SUBMIT fails before anything runs. A run that still is there keeps its phase."""
    phase = Phase.REJECTED if _ours(case) is None or case.job.phase in SETTLED else None
    return [End(State.FAILED, str(why), phase, why)]


def _started(case: Case) -> Effects:
    live = _ours(case)
    if live is None:
        return [End(State.FAILED, f"the deployment is gone: {case.job.reason or 'deleted outside Headrace'}")]
    return _awaited(case, live) or _with_patience(case, live)


def _awaited(case: Case, live: Deployment) -> Effects:
    """The end of an operation whose write is live, and that waits for RUNNING."""
    flink = live.status.job_status.state if live.status and live.status.job_status else None
    if _is_reconciled(live) and flink in ("RUNNING", "FINISHED"):
        return [End(State.SUCCEEDED, f"the job is {flink}", holds=True)]
    behind = is_behind(live, case.operation.generation)
    if case.job.phase is Phase.FAILED and (not behind or isinstance(case.goal, NewRun)):
        return [End(State.FAILED, f"the job failed: {_words_of(case.job) or 'see its logs'}", holds=True)]
    if case.job.phase is Phase.CANCELLED:
        return [End(State.FAILED, "the job was cancelled outside Headrace", holds=True)]
    return []


def _is_reconciled(live: Deployment) -> bool:
    status = live.status
    return status is not None and not is_behind(live, live.metadata.generation) and status.lifecycle_state == "STABLE"


# Running: the same run, changed.


def _changed(case: Case, goal: Changed) -> Effects:
    live = _ours(case)
    if live is None:
        return [End(State.FAILED, f"the deployment of job {case.job.job_id} was deleted outside Headrace")]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if _has_written(case, live) and case.operation.asserts:
        if holds_what_it_asserts(live, case.operation):
            return _awaited(case, live) or _with_patience(case, live)
        if _whole(case) and diff.holds(_whole(case), case.operation.asserts):
            return [Note({"generation": live.metadata.generation})]  # somebody has edited what it is not about
    problem = _cannot_be_changed(case, goal, live)
    if problem:
        return [*_raised(case, live), End(State.FAILED, problem)]
    return [_changing(case, goal)]


def _cannot_be_changed(case: Case, goal: Changed, live: Deployment) -> str:
    name, kind, phase = f"job {case.job.job_id}", case.operation.kind, case.job.phase
    if phase in SETTLED:
        return f"{name} is {phase}: there is nothing to {kind}"
    if live.metadata.deletion_timestamp is not None:
        return f"{name} is being deleted: there is nothing to {kind}"
    rests = _spec_state(live) == "suspended"
    if rests and not isinstance(goal, Resumed):
        return f"{name} is SUSPENDED: RESUME it first, or STOP and SUBMIT it anew"
    if not rests and isinstance(goal, Resumed) and goal.start_from and not _has_written(case, live):
        return f"{name} does not rest any more: from another state it would lose the one that it has"
    return ""


def _has_written(case: Case, live: Deployment) -> bool:
    """Whether the last write of the deployment is this operation's."""
    return sequence_of(live) == case.operation.sequence


def _changing(case: Case, goal: Changed) -> Change:
    whole = _whole(case)
    if not whole:
        return Change((), Step.AWAIT_RUNNING)  # whoever writes looks at the whole deployment first
    applied = case.job.applied_manifest or whole
    wanted = stamped(_as_wanted(case, applied, goal), case.job, _stamp(case))
    wished = diff.changes(_owned(applied), _owned(wanted), whole)
    asserted = _asserted(goal, applied, wanted)
    return Change(wished, Step.AWAIT_RUNNING, intent=wanted, asserts=asserted, inverse=_inverse(case, wished))


def _as_wanted(case: Case, applied: Mapping[str, Any], goal: Changed) -> Mapping[str, Any]:
    """The manifest last applied, with what the goal changes in it. A job that rests was `running` when it was applied
    last: to go on it needs no more than that."""
    match goal:
        case Scaled(count, of_task_managers):
            return with_task_managers(applied, count) if of_task_managers else with_parallelism(applied, count)
        case Restarted(nonce):
            return with_spec(applied, {"restartNonce": nonce})
        case Resumed(None, _):
            return with_job(applied, {"state": "running"})
        case Resumed(path, nonce):
            from_there = {"initialSavepointPath": path, "savepointRedeployNonce": nonce}
            return with_job(applied, {"state": "running", **from_there})
        case Upgraded(request):
            anew = render(case.job, recorded_request(request), case.platform, _stamp(case))
            return _with_what_no_request_says(anew, applied)
        case _:
            assert_never(goal)


OF_NO_REQUEST = ("initialSavepointPath", "savepointRedeployNonce", "savepointTriggerNonce")
"""Fields of spec.job that tell where a job began, and what was asked of it once: an upgrade leaves them."""


def _with_what_no_request_says(anew: Mapping[str, Any], applied: Mapping[str, Any]) -> Mapping[str, Any]:
    job = {name: value for name, value in applied["spec"]["job"].items() if name in OF_NO_REQUEST}
    nonce = {name: value for name, value in applied["spec"].items() if name == RESTART_NONCE[-1]}
    return with_spec(with_job(anew, job), nonce)


def _asserted(goal: Changed, applied: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[diff.Change, ...]:
    """What the live spec has to show for the goal to be reached."""
    paths: list[tuple[str, ...]]
    match goal:
        case Scaled():
            paths = [REPLICAS if diff.at(wanted, REPLICAS) is not None else PARALLELISM]
        case Restarted():
            paths = [RESTART_NONCE]
        case Resumed(None, _):
            paths = [JOB_STATE]
        case Resumed():
            paths = [JOB_STATE, REDEPLOY_NONCE]
        case Upgraded():
            changed = diff.changes({"spec": applied["spec"]}, {"spec": wanted["spec"]}, {"spec": applied["spec"]})
            return tuple(changed) or (diff.Change(JOB_STATE, "running"),)
        case _:
            assert_never(goal)
    return tuple(diff.Change(path, diff.at(wanted, path)) for path in paths)


def _inverse(case: Case, wished: Sequence[diff.Change]) -> tuple[diff.Change, ...]:
    """What takes the write back: that of the first try, whatever a repeat sees."""
    own = [each for each in wished if each.path[0] == "spec"]
    return case.operation.inverse or diff.inverse(_whole(case), own)


def _owned(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that a write may change."""
    metadata = {key: manifest["metadata"].get(key) or {} for key in ("labels", "annotations")}
    return {"metadata": metadata, "spec": manifest["spec"]}


# Suspended.


def _rested(case: Case) -> Effects:
    live = _ours(case)
    if live is None:
        return [End(State.FAILED, f"the deployment of job {case.job.job_id} was deleted outside Headrace")]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        return [End(State.FAILED, f"job {case.job.job_id} is being deleted: there is nothing to SUSPEND")]
    if is_suspended(live):
        return _rests(case, live)
    if _has_written(case, live) and _spec_state(live) == "suspended":
        return _suspending(case, live)
    return _to_rest(case, live)


def _to_rest(case: Case, live: Deployment) -> Effects:
    """Before anything is suspended, its state is on record, or it is known to have none."""
    if case.job.phase in SETTLED:
        problem = f"job {case.job.job_id} is {case.job.phase}: there is nothing to SUSPEND"
        return [*_raised(case, live), End(State.FAILED, problem)]
    state = _state(case)
    if isinstance(state, Unknown) and not is_running(live):
        return _unreadable(state)
    return [*_kept(state), _suspending_write(case, live)]


def _rests(case: Case, live: Deployment) -> Effects:
    """The job is suspended. The deployment keeps what it goes on from, whether its path can be read or not."""
    state = _left_behind(case, live)
    if state is None:
        return [Change((), Step.AWAIT_SUSPENDED)]  # whoever writes asks for its state too
    match state:
        case Known(kept):
            words = f"state kept in {kept}"
        case Unknown(why):
            words = f"its state is where Flink's HA metadata say; its path cannot be read ({why})"
        case _:
            words = "the job had no state"
    return [*_kept(state), *_raised(case, live), End(State.SUCCEEDED, words)]


# Gone.


def _gone(case: Case, goal: Gone) -> Effects:
    live = _ours(case)
    if live is None:
        return _nothing_left(case)
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if live.metadata.deletion_timestamp is not None:
        return [Move(Step.AWAIT_GONE)] if case.operation.step is not Step.AWAIT_GONE else []
    if is_suspended(live):
        return _suspended(case, goal, live)
    if sequence_of(live) == case.operation.sequence and _spec_state(live) == "suspended":
        return _suspending(case, live)
    return _suspend(case, goal, live)


def _nothing_left(case: Case) -> Effects:
    """Nothing runs under the name: a 404, or a resource that is not ours."""
    if case.operation.step in NOT_WRITTEN and case.job.deployment_uid is None:
        return [End(State.SUCCEEDED, "nothing ran", Phase.CANCELLED, Explanation("stopped before it ran", ""))]
    return [End(State.SUCCEEDED, _stopped(case), Phase.CANCELLED, Explanation("stopped", ""))]


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
    state = _state(case)
    if is_running(live):
        return [*_kept(state), _suspending_write(case, live)]
    if isinstance(state, Unknown) and not goal.force:
        return _unreadable(state)
    if isinstance(state, Known) and not (has_ended(live) or never_started(live, case.job.was_running)):
        return [*_kept(state), _suspending_write(case, live)]
    return [*_kept(state), Move(Step.DELETE), Delete(live.metadata.uid, Step.AWAIT_GONE)]


def _suspending_write(case: Case, live: Deployment) -> Change:
    whole = _whole(case)
    if not whole:
        return Change((), Step.AWAIT_SUSPENDED)
    drain = isinstance(case.goal, Gone) and case.goal.drain and is_running(live)
    wished = list(diff.fitted(whole, to_suspend(case.job, _stamp(case), drain=drain)))
    status = live.status.job_status if live.status else None
    before = {"savepoint_before": status.upgrade_savepoint_path if status else None}
    facts = {} if case.operation.step is Step.AWAIT_SUSPENDED else before
    return Change(wished, Step.AWAIT_SUSPENDED, inverse=_inverse(case, wished), facts=facts)


def _suspending(case: Case, live: Deployment) -> Effects:
    """The operator is at it. A job that still runs makes newer checkpoints, and Flink prunes those on record."""
    state = _state(case)
    newer = _kept(state) if isinstance(state, Known) and state.path != case.operation.savepoint_path else []
    return [*newer, *_with_patience(case, live)]


def _suspended(case: Case, goal: Gone, live: Deployment) -> Effects:
    """Past the point of no return: the state's path is recorded, then the deployment deleted."""
    state = _left_behind(case, live)
    if state is None:
        return [Change((), Step.AWAIT_SUSPENDED)]  # whoever writes asks for its state too
    if isinstance(state, Unknown) and not goal.force:
        words = "it was suspended without a savepoint; nothing was deleted; force ends the run without its state"
        return [End(State.FAILED, words)] if case.operation.is_late else _unreadable(state)
    return [*_kept(state), Move(Step.DELETE), Delete(live.metadata.uid, Step.AWAIT_GONE)]


def _left_behind(case: Case, live: Deployment) -> StateOnHand | None:
    """The state that the suspend left; None where it took no savepoint and nobody was asked: the sync asks no one."""
    path = _new_path(case, live)
    if path is not None:
        return Known(path, "savepoint")
    return _state_of_suspended(case) if _whole(case) else None


def _state_of_suspended(case: Case) -> StateOnHand:
    """The state that this operation recorded just before, where the suspend left none of its own and the HA metadata
    name no newer one. Where nobody speaks of it, it may be an older one: the job ran on until the write."""
    state, job = _state(case), case.job
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
    is_ours = sequence_of(live) == case.operation.sequence
    return path if path != case.operation.savepoint_before or not is_ours else None


def _unreadable(state: Unknown) -> Effects:
    return [Wait(UNKNOWN_STATE_SECONDS, f"waiting: its last state cannot be read ({state.why})")]


def _state(case: Case) -> StateOnHand:
    return state_on_hand(case.job, case.sight.deployment if isinstance(case.sight, Live) else None, case.said)


def _kept(state: StateOnHand) -> list[Effect]:
    return [Keep(state.path, state.number)] if isinstance(state, Known) else []


# Every goal.


def _with_patience(case: Case, live: Deployment) -> Effects:
    """A failing upgrade is retried by the operator for ever: it is given a grace period."""
    operation, error = case.operation, error_of(live.status)
    failing = error is not None and error.type.endswith(UPGRADE_FAILURE_SUFFIX)
    if operation.trouble_since is None:
        if not failing or error is None:
            return []
        reason = str(explain(Evidence(error=error.message)) or error.message)
        return [Note({"trouble_since": case.at, "reason": reason})]
    if not failing and not is_behind(live, operation.generation):
        return [Note({"trouble_since": None})]
    if case.at - operation.trouble_since >= timedelta(seconds=case.grace_seconds):
        return _given_up(case, operation.reason or "the operator could not do it")
    return []


def _given_up(case: Case, reason: str) -> Effects:
    """Ends it FAILED. A change that the operator has not begun is taken back first; one that it has begun holds."""
    live, operation = _ours(case), case.operation
    if isinstance(case.goal, NewRun):
        return (
            _rejected(case, Explanation(reason, "")) if operation.step in NOT_WRITTEN else [End(State.FAILED, reason)]
        )
    written = live is not None and sequence_of(live) == operation.sequence
    if live is None or not written:
        return [*(_raised(case, live) if live is not None else []), End(State.FAILED, reason)]
    if is_behind(live, operation.generation or live.metadata.generation):
        return [Move(Step.WITHDRAW, {"failure": reason})]
    return [End(State.FAILED, reason, holds=not isinstance(case.goal, Gone))]


def _raised(case: Case, live: Deployment) -> list[Effect]:
    """Makes the sequence of an operation that ends without having written known to workers that wake late."""
    return [Raise()] if sequence_of(live) < case.operation.sequence else []


def _withdrawn(case: Case) -> Effects:
    """Takes a failed change back while the operator has not begun it; later that would be a redeploy of its own."""
    live, operation = _ours(case), case.operation
    ended = End(State.FAILED, operation.failure or "withdrawn")
    if live is None or sequence_of(live) != operation.sequence:
        return [ended]
    if not is_behind(live, operation.generation or live.metadata.generation):
        return [ended]
    whole = _whole(case)
    if not whole:
        return [Change((), Step.WITHDRAW)]
    back = diff.fitted(whole, operation.inverse)
    return [Change(back, Step.WITHDRAW), ended] if back else [ended]


def _is_past_return(case: Case) -> bool:
    """Whether a STOP or a SUSPEND has ended the run, by what is live: its deadline ends nothing then. What was only
    meant to be deleted may have come up since, and is not past anything."""
    live = _ours(case)
    if isinstance(case.goal, Suspended):
        return live is not None and is_suspended(live)
    if not isinstance(case.goal, Gone) or case.operation.step not in ENDING:
        return False
    return live is None or live.metadata.deletion_timestamp is not None or is_suspended(live)


def _deadline_words(case: Case) -> str:
    operation = case.operation
    if operation.reason.startswith("waiting: its last state cannot be read"):
        why = operation.reason.removeprefix("waiting: ")
        return f"{why}; nothing was deleted; force ends the run without it"
    if operation.reason.startswith("waiting: the last state of run"):
        why = operation.reason.removeprefix("waiting: ")
        return f"{why}; nothing was deleted; STOP with force ends the run without it"
    at = f" at step {operation.step}" if operation.step in NOT_WRITTEN else ""
    why = operation.reason or _words_of(case.job) or ("" if at else "no progress")
    return f"its deadline passed{at}{f': {why}' if why else ''}"


def _words_of(job: Job) -> str:
    return str(Explanation(job.reason, job.next_step)) if job.reason else ""


def _spec_state(live: Deployment) -> str:
    return (live.spec.job.state if live.spec.job else None) or "running"


def name_is_taken(live: Deployment) -> str:
    """The sentence for a name that somebody else's resource has."""
    place = f"{live.metadata.namespace}/{live.metadata.name}"
    return f"a FlinkDeployment {place} exists and is not this job's: it belongs to {owner_of(live)}"
