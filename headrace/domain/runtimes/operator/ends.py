"""How operations end whatever their goal: reached, given up with patience, taken back, or too late for that. Pure."""

from __future__ import annotations

from datetime import timedelta

from headrace.domain import diff
from headrace.domain.deployments import Deployment, is_behind, is_suspended, operation_of, sequence_of
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.goals import Adopted, Gone, NewRun, Released, Suspended
from headrace.domain.jobs import SETTLED, Phase
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.sights import Effects, has_written, is_reconciled, ours, whole_of, words_of
from headrace.domain.runtimes.plan import Case, Change, Effect, End, Move, Note, Raise
from headrace.domain.status import NOT_WRITTEN, UPGRADE_FAILURE_SUFFIX, error_of

ENDING = (Step.AWAIT_SUSPENDED, Step.DELETE, Step.AWAIT_GONE)
"""Steps of a STOP that has written."""

BY_A_REDEPLOY = "by a redeploy: "
"""How the reason of a SCALE begins that cannot be done in place; why not follows."""

SUPERSEDED = End(State.SUPERSEDED, "a newer operation has written the deployment")


def lost(case: Case) -> End:
    """The end of what acts on a deployment that somebody has deleted."""
    return End(State.FAILED, f"the deployment of job {case.job.job_id} was deleted outside Headrace")


def rejected(case: Case, why: Explanation) -> Effects:
    """The SUBMIT or the ADOPT fails before anything runs or is ours. A run that still is there keeps its phase."""
    phase = Phase.REJECTED if ours(case) is None or case.job.phase in SETTLED else None
    return [End(State.FAILED, str(why), phase, why)]


def awaited(case: Case, live: Deployment) -> Effects:
    """The end of an operation whose write is live, and that waits for RUNNING."""
    flink = live.status.job_status.state if live.status and live.status.job_status else None
    if is_reconciled(live) and flink in ("RUNNING", "FINISHED"):
        why = f", {case.operation.reason}" if case.operation.reason.startswith(BY_A_REDEPLOY) else ""
        return [End(State.SUCCEEDED, f"the job is {flink}{why}", holds=True)]
    behind = is_behind(live, case.operation.generation)
    if case.job.phase is Phase.FAILED and (not behind or isinstance(case.goal, NewRun)):
        return [End(State.FAILED, f"the job failed: {words_of(case.job) or 'see its logs'}", holds=True)]
    if case.job.phase is Phase.CANCELLED:
        return [End(State.FAILED, "the job was cancelled outside Headrace", holds=True)]
    return []


def with_patience(case: Case, live: Deployment) -> Effects:
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
        return given_up(case, operation.reason or "the operator could not do it")
    return []


def given_up(case: Case, reason: str) -> Effects:
    """Ends it FAILED. A change that the operator has not begun is taken back first; one that it has begun holds."""
    live, operation = ours(case), case.operation
    if isinstance(case.goal, Adopted):
        return rejected(case, Explanation(reason, ""))
    if isinstance(case.goal, NewRun):
        return rejected(case, Explanation(reason, "")) if operation.step in NOT_WRITTEN else [End(State.FAILED, reason)]
    if live is None:
        return [End(State.FAILED, reason)]
    if not has_written(case, live):
        return [*raised(case, live), End(State.FAILED, reason)]
    if is_behind(live, operation.generation or live.metadata.generation):
        return [Move(Step.WITHDRAW, {"failure": reason})]
    return [End(State.FAILED, reason, holds=not isinstance(case.goal, Gone))]


def raised(case: Case, live: Deployment) -> list[Effect]:
    """Makes the sequence of an operation that ends without having written known to workers that wake late."""
    return [Raise()] if sequence_of(live) < case.operation.sequence else []


def withdrawn(case: Case) -> Effects:
    """Takes a failed change back while the operator has not begun it; later that would be a redeploy of its own."""
    live, operation = ours(case), case.operation
    ended = End(State.FAILED, operation.failure or "withdrawn")
    if live is None or not has_written(case, live):
        return [ended]
    if not is_behind(live, operation.generation or live.metadata.generation):
        return [ended]
    whole = whole_of(case)
    if not whole:
        return [Change((), Step.WITHDRAW)]
    back = diff.fitted(whole, operation.inverse)
    return [Change(back, Step.WITHDRAW), ended] if back else [ended]


def is_past_return(case: Case) -> bool:
    """Whether a STOP or a SUSPEND has ended the run, or our marks are on or off, by what is live: its deadline ends
    nothing then. What was only meant to be deleted may have come up since, and is not past anything."""
    live = ours(case)
    if isinstance(case.goal, Adopted):
        return live is not None and operation_of(live) == case.operation.id
    if isinstance(case.goal, Released):
        return live is None
    if isinstance(case.goal, Suspended):
        return live is not None and is_suspended(live)
    if not isinstance(case.goal, Gone) or case.operation.step not in ENDING:
        return False
    return live is None or live.metadata.deletion_timestamp is not None or is_suspended(live)


def deadline_words(case: Case) -> str:
    """Why it ends at its deadline, by what it last waited for."""
    operation = case.operation
    if operation.reason.startswith("waiting: its last state cannot be read"):
        why = operation.reason.removeprefix("waiting: ")
        return f"{why}; nothing was deleted; force ends the run without it"
    if operation.reason.startswith("waiting: the last state of run"):
        why = operation.reason.removeprefix("waiting: ")
        return f"{why}; nothing was deleted; STOP with force ends the run without it"
    at = f" at step {operation.step}" if operation.step in NOT_WRITTEN else ""
    why = operation.reason or words_of(case.job) or ("" if at else "no progress")
    return f"its deadline passed{at}{f': {why}' if why else ''}"
