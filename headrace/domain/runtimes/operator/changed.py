"""The same run, changed by one write whose own fields are asserted in the live spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from headrace.domain import diff
from headrace.domain.adoption import manifest_as_found, tells_a_secret
from headrace.domain.costs import Cost, field_changes, highest
from headrace.domain.deployments import OPERATION_ANNOTATION, Deployment, sequence_of
from headrace.domain.flink_options import options_in
from headrace.domain.goals import Changed, Restarted, Resumed, RolledBack, Scaled, Upgraded
from headrace.domain.job_requests import recorded_request
from headrace.domain.jobs import SETTLED
from headrace.domain.manifest import render, stamped, with_job, with_overrides, with_parallelism, with_spec
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import BY_A_REDEPLOY, SUPERSEDED, awaited, lost, raised, with_patience
from headrace.domain.runtimes.operator.in_place import (
    Impossible,
    InPlace,
    NotYet,
    Redeploy,
    arrived,
    wanted_parallelism,
    way,
)
from headrace.domain.runtimes.operator.rolled_back import (
    is_of_no_version,
    last_stable,
    spec_changes,
    stable_spec,
)
from headrace.domain.runtimes.operator.sights import (
    Effects,
    has_written,
    inverse_of,
    ours,
    spec_state,
    stamp_of,
    whole_of,
)
from headrace.domain.runtimes.plan import Case, Change, End, Note, Wait
from headrace.domain.status import (
    JOB_STATE,
    OVERRIDES,
    PARALLELISM,
    REDEPLOY_NONCE,
    REPLICAS,
    RESTART_NONCE,
    holds_what_it_asserts,
)
from headrace.domain.vertices import OVERRIDES_KEY

Redeployed = Restarted | Resumed | Upgraded | RolledBack
"""Goals that a redeploy alone gets to."""

LOOK_AGAIN_SECONDS = 2.0

OF_NO_REQUEST = ("initialSavepointPath", "savepointRedeployNonce", "savepointTriggerNonce")
"""Fields of spec.job that tell where a job began, and what was asked of it once: an upgrade leaves them."""


def to_changed(case: Case, goal: Changed) -> Effects:
    """The next effects of a SCALE, RESTART, RESUME, UPGRADE or ROLLBACK."""
    live = ours(case)
    if live is None:
        return [lost(case)]
    if sequence_of(live) > case.operation.sequence:
        return [SUPERSEDED]
    if has_written(case, live) and case.operation.asserts:
        if holds_what_it_asserts(live, case.operation):
            return arrived(case, live, awaited(case, live)) or with_patience(case, live)
        if whole_of(case) and diff.holds(whole_of(case), case.operation.asserts):
            return [Note({"generation": live.metadata.generation})]  # somebody has edited what it is not about
    problem = _cannot_be_changed(case, goal, live)
    if problem:
        return [*raised(case, live), End(State.FAILED, problem)]
    return _scaling(case, goal, live) if isinstance(goal, Scaled) else _redeploying(case, goal, live)


def _redeploying(case: Case, goal: Redeployed, live: Deployment) -> Effects:
    """What would be taken back later is on record before: of an adopted spec that must not be a secret."""
    change = _changing(case, goal)
    if not (case.job.is_as_found and tells_a_secret(change.inverse)):
        return [change]
    problem = (
        f"job {case.job.job_id}: its adopted spec has a secret in the clear where {case.operation.kind} would change "
        "it, and no record may keep that; STOP it, and SUBMIT it with start_from last"
    )
    return [*raised(case, live), End(State.FAILED, problem)]


def _cannot_be_changed(case: Case, goal: Changed, live: Deployment) -> str:
    name, kind, phase = f"job {case.job.job_id}", case.operation.kind, case.job.phase
    if phase in SETTLED:
        return f"{name} is {phase}: there is nothing to {kind}"
    if live.metadata.deletion_timestamp is not None:
        return f"{name} is being deleted: there is nothing to {kind}"
    rests = spec_state(live) == "suspended"
    if rests and not isinstance(goal, Resumed):
        return f"{name} is SUSPENDED: RESUME it first, or STOP and SUBMIT it anew"
    if not rests and isinstance(goal, Resumed) and goal.start_from and not has_written(case, live):
        return f"{name} does not rest any more: from another state it would lose the one that it has"
    if isinstance(goal, RolledBack) and whole_of(case) and not has_written(case, live):
        found = last_stable(whole_of(case), [_rendered(case, goal.request)])
        return f"{name}: {found}; ROLLBACK to one of its versions" if isinstance(found, str) else ""
    return ""


def _changing(case: Case, goal: Redeployed) -> Change:
    whole = whole_of(case)
    if not whole:
        return Change((), Step.AWAIT_RUNNING)  # whoever writes looks at the whole deployment first
    applied = _applied(case)
    wanted, live = _as_wanted(case, applied, goal), ours(case)
    writing = _writing(case, applied, wanted, _asserted(goal, applied, wanted))
    goes_back = isinstance(goal, RolledBack) and live is not None and not has_written(case, live)
    return _going_back(case, writing, wanted["spec"]) if goes_back else writing


def _applied(case: Case) -> Mapping[str, Any]:
    """The manifest last applied; where that is not on record, what is live."""
    kept = case.job.applied_manifest
    if kept is None and case.job.is_as_found:
        return manifest_as_found(case.job, whole_of(case), stamp_of(case))
    return kept or whole_of(case)


def _writing(
    case: Case, applied: Mapping[str, Any], wanted: Mapping[str, Any], asserts: tuple[diff.Change, ...], why: str = ""
) -> Change:
    """The write that makes the deployment as wanted, behind the fence; `why` it is done this way stands meanwhile."""
    intent = stamped(wanted, case.job, stamp_of(case))
    wished = diff.changes(_owned(applied), _owned(intent), whole_of(case))
    inverse = inverse_of(case, wished)
    facts = {"reason": why} if why else {}
    return Change(wished, Step.AWAIT_RUNNING, intent=intent, asserts=asserts, inverse=inverse, facts=facts)


def _going_back(case: Case, writing: Change, rendered: Mapping[str, Any]) -> Change:
    """The way back to a stable spec is that spec, with what others had added to it, and in places of no version what is
    rendered for the version that it is. Once that was written, a repeat is for what is rendered alone."""
    whole = whole_of(case)
    others = [each for each in writing.changes if each.path[0] != "spec" or is_of_no_version(each.path[1:])]
    wished = [*others, *spec_changes(whole, stable_spec(whole, rendered) or whole["spec"])]
    asserts = tuple(each for each in wished if each.path[0] == "spec")
    return replace(writing, changes=wished, asserts=asserts, inverse=inverse_of(case, wished))


def _scaling(case: Case, goal: Scaled, live: Deployment) -> Effects:
    """In place where the operator would do it so; else by a redeploy, with the parallelism where it is for good."""
    whole = whole_of(case)
    if not whole:
        return [Change((), Step.AWAIT_RUNNING)]  # whoever writes looks at the whole deployment, and asks its JobManager
    applied, chosen = _applied(case), way(case, goal, live)
    match chosen:
        case Impossible(why):
            return [*raised(case, live), End(State.FAILED, f"job {case.job.job_id} cannot be scaled so: {why}")]
        case NotYet(why):
            return [Wait(LOOK_AGAIN_SECONDS, f"waiting: {why}")]
        case InPlace(overrides):
            writing = _overriding(case, applied, overrides)
            if case.operation.asserts or not _changes_more(whole, writing):
                return [writing]
            return [_folding_in(case, goal, applied, "its deployment was changed outside Headrace, which is set right")]
        case Redeploy(why):
            return [_folding_in(case, goal, applied, why)]
        case _:
            assert_never(chosen)


def _overriding(case: Case, applied: Mapping[str, Any], overrides: str) -> Change:
    return _writing(case, applied, with_overrides(applied, overrides), (diff.Change(OVERRIDES, overrides),))


def _changes_more(whole: Mapping[str, Any], writing: Change) -> bool:
    """Whether the operator would redeploy for it, overrides or not: what somebody has changed is written back too."""
    changed = field_changes(whole, diff.applied_to(whole, writing.changes))
    return highest(each.cost for each in changed) not in (Cost.IGNORE, Cost.SCALE)


def _folding_in(case: Case, goal: Scaled, applied: Mapping[str, Any], why: str) -> Change:
    """The redeploy that writes the parallelism where it is for good. Overrides go, whoever wrote them: the job would
    run at those."""
    applied = with_overrides(applied, options_in(whole_of(case)["spec"]).get(OVERRIDES_KEY))
    wanted = with_parallelism(with_overrides(applied, None), wanted_parallelism(whole_of(case), goal))
    path = REPLICAS if diff.at(wanted, REPLICAS) is not None else PARALLELISM
    words = f"{BY_A_REDEPLOY}{why}" if why else ""
    return _writing(case, applied, wanted, (diff.Change(path, diff.at(wanted, path)),), words)


def _as_wanted(case: Case, applied: Mapping[str, Any], goal: Redeployed) -> Mapping[str, Any]:
    """The manifest last applied, with what the goal changes in it. A job that rests was `running` when it was applied
    last: to go on it needs no more than that."""
    match goal:
        case Restarted(nonce):
            return with_spec(applied, {"restartNonce": nonce})
        case Resumed(None, _):
            return with_job(applied, {"state": "running"})
        case Resumed(path, nonce):
            from_there = {"initialSavepointPath": path, "savepointRedeployNonce": nonce}
            return with_job(applied, {"state": "running", **from_there})
        case Upgraded(request) | RolledBack(request):
            return _with_what_no_request_says(_rendered(case, request), applied)
        case _:
            assert_never(goal)


def _rendered(case: Case, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rendered once an operation: what is on record as intended stands, though another release, or the same one with
    other settings, would render it otherwise by now. Else two of them would each write its own, one after the other."""
    intended = case.job.intended_manifest
    if intended is not None and intended["metadata"]["annotations"].get(OPERATION_ANNOTATION) == case.operation.id:
        return intended
    return render(case.job, recorded_request(request), case.platform, stamp_of(case))


def _with_what_no_request_says(anew: Mapping[str, Any], applied: Mapping[str, Any]) -> Mapping[str, Any]:
    job = {name: value for name, value in applied["spec"]["job"].items() if name in OF_NO_REQUEST}
    nonce = {name: value for name, value in applied["spec"].items() if name == RESTART_NONCE[-1]}
    return with_spec(with_job(anew, job), nonce)


def _asserted(goal: Redeployed, applied: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[diff.Change, ...]:
    """What the live spec has to show for the goal to be reached."""
    paths: list[tuple[str, ...]]
    match goal:
        case Restarted():
            paths = [RESTART_NONCE]
        case Resumed(None, _):
            paths = [JOB_STATE]
        case Resumed():
            paths = [JOB_STATE, REDEPLOY_NONCE]
        case Upgraded() | RolledBack():
            changed = diff.changes({"spec": applied["spec"]}, {"spec": wanted["spec"]}, {"spec": applied["spec"]})
            return tuple(changed) or (diff.Change(JOB_STATE, "running"),)
        case _:
            assert_never(goal)
    return tuple(diff.Change(path, diff.at(wanted, path)) for path in paths)


def _owned(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a manifest that a write may change."""
    metadata = {key: manifest["metadata"].get(key) or {} for key in ("labels", "annotations")}
    return {"metadata": metadata, "spec": manifest["spec"]}
