"""What would come of an operation: which places change, what the operator does for that, and where state stays. Pure.

It rests on the effects that the plan itself gives, so that nothing is foreseen that would not be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headrace.domain import diff
from headrace.domain.adoption import OURS, tells_a_secret
from headrace.domain.costs import OPTIONS, Cost, CostlyChange, Mode, field_changes, highest, mode_of
from headrace.domain.deployments import Deployment, is_behind, is_running
from headrace.domain.goals import NewRun
from headrace.domain.jobs import Job
from headrace.domain.operations import State
from headrace.domain.runtimes.operator.ends import BY_A_REDEPLOY
from headrace.domain.runtimes.operator.in_place import never_in_place
from headrace.domain.runtimes.operator.new_run import to_new_run
from headrace.domain.runtimes.operator.sights import Effects, ours, spec_state, whole_of
from headrace.domain.runtimes.plan import Absent, Begin, Case, Change, Delete, End, Foreseen, Keep, Wait
from headrace.domain.secrets import HIDDEN
from headrace.domain.state_on_hand import NotAsked
from headrace.domain.status import OVERRIDES
from headrace.domain.vertices import overrides_of

FALLBACK = "kubernetes.operator.job.upgrade.last-state-fallback.enabled"
"""The operator's option by which a job that does not run is upgraded from its last checkpoint; on unless it is off."""

IN_PLACE = "in place"

Outcome = tuple[str, bool | None, str]
"""What it causes, whether state is kept, and why."""


def foreseen(case: Case, effects: Effects) -> Foreseen | str:
    """What would come of these effects, the first of an operation; else why that cannot be said."""
    problem = _why_not(effects)
    if problem:
        return problem
    live = ours(case)
    if isinstance(case.goal, NewRun):
        return _of_a_run(case, case.goal, effects)
    change = next((each for each in effects if isinstance(each, Change)), None)
    if change is None or live is None:
        return f"job {case.job.job_id}: what {case.operation.kind} would change cannot be said"
    return _of_a_change(case, live, change)


def _why_not(effects: Effects) -> str:
    """Why it would not be done, or not now."""
    ends = [each.reason for each in effects if isinstance(each, End) and each.state is not State.SUCCEEDED]
    waits = [each.why for each in effects if isinstance(each, Wait)]
    return next((words.removeprefix("waiting: ") for words in (*ends, *waits)), "")


def _of_a_change(case: Case, live: Deployment, change: Change) -> Foreseen:
    whole = whole_of(case)
    after = diff.applied_to(whole, change.changes)
    found = _changes(whole, after)
    cost = highest(each.cost for each in found)
    causes, kept, why = _outcome(live, whole, after, cost)
    return Foreseen(
        changes=_without_secrets(found),
        cost=cost,
        causes=f"{causes}{_not_in_place(change) if causes != IN_PLACE else ''}{_not_begun(live)}",
        keeps_state=kept,
        state=why,
    )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[CostlyChange]:
    """Without the marks that each write of ours leaves."""
    found = field_changes(before, after)
    return [each for each in found if each.path[:2] != ("metadata", "annotations") or not each.path[2].startswith(OURS)]


def _not_in_place(change: Change) -> str:
    """Why a SCALE is a redeploy."""
    reason = str(change.facts.get("reason", ""))
    return f"; not in place: {reason.removeprefix(BY_A_REDEPLOY)}" if reason.startswith(BY_A_REDEPLOY) else ""


def _not_begun(live: Deployment) -> str:
    """The operator compares with what it has carried out last, and not with what stands in the spec."""
    if not is_behind(live, live.metadata.generation):
        return ""
    return "; the operator has not begun the spec that stands there now, and will do both at once"


def _outcome(live: Deployment, before: Mapping[str, Any], after: Mapping[str, Any], cost: Cost) -> Outcome:
    if cost is Cost.IGNORE:
        return "nothing restarts", True, "the job goes on as it is"
    job = after["spec"]["job"]
    if cost is Cost.SAVEPOINT_REDEPLOY:
        path = job.get("initialSavepointPath")
        return f"a redeploy from {path}", False, "the state that it has now is left for the one that was named"
    if cost is Cost.SCALE and _is_in_place(live, before, after):
        return IN_PLACE, True, "the job goes on while it is scaled"
    if spec_state(live) == "suspended":
        return _starts_again(str(job.get("upgradeMode") or "stateless"))
    return _redeploys(live, after, str(job.get("upgradeMode") or "stateless"))


def _is_in_place(live: Deployment, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if mode_of(after["spec"]) is Mode.STANDALONE:
        options = after["spec"].get(OPTIONS) or {}
        return str(options.get("scheduler-mode", "")).lower() == "reactive"
    were, are = (overrides_of(diff.at(each, OVERRIDES)) for each in (before, after))
    return were.keys() <= are.keys() and not never_in_place(after, live)


def _starts_again(mode: str) -> Outcome:
    if mode == "stateless":
        return "the job starts again without its state", False, "its upgradeMode is stateless"
    return "the job starts again", True, "from the state that it rests with"


def _redeploys(live: Deployment, after: Mapping[str, Any], mode: str) -> Outcome:
    if mode == "stateless":
        return "a redeploy without state", False, "its upgradeMode is stateless"
    if mode == "last-state":
        words = "it goes on from its newest checkpoint, and reads again what came after that"
        return "a redeploy from its last checkpoint", True, words
    if is_running(live):
        return "a redeploy with a savepoint", True, "a savepoint is taken first, and the job goes on from there"
    options = after["spec"].get(OPTIONS) or {}
    if str(options.get(FALLBACK, "true")).lower() != "true":
        return "a redeploy with a savepoint, once the job runs", True, f"it does not run now, and {FALLBACK} is off"
    return (
        "a redeploy from its last checkpoint",
        None,
        "the job does not run now: it goes on from its newest checkpoint, where Flink's HA metadata have one",
    )


def _of_a_run(case: Case, goal: NewRun, effects: Effects) -> Foreseen | str:
    remains = any(isinstance(each, Delete) for each in effects)
    if remains:
        gone = replace(case, job=_keeping(case.job, effects), sight=Absent(), said=NotAsked("its deployment is gone"))
        return _made(case, gone, goal, to_new_run(gone, goal))
    return _made(case, case, goal, effects)


def _keeping(job: Job, effects: Effects) -> Job:
    """The job once what its last run has left is removed."""
    kept = next((each for each in effects if isinstance(each, Keep)), None)
    if kept is None:
        return job
    paths = {"savepoint_path": kept.path, "state_path": kept.path, "state_number": kept.number}
    return replace(job, **paths, ran_since_state=False, state_start_time=None)  # type: ignore[arg-type]


def _made(case: Case, then: Case, goal: NewRun, effects: Sequence[Any]) -> Foreseen | str:
    problem = _why_not(effects)
    begun = next((each for each in effects if isinstance(each, Begin)), None)
    if problem or begun is None:
        return problem or f"job {case.job.job_id}: which run would be made cannot be said"
    live = ours(case)
    first = f"what run {case.job.run} has left is removed, its state kept, and " if live is not None else ""
    kept, why = _of_its_start(then.job, begun)
    return Foreseen(
        changes=_without_secrets(_changes(whole_of(case), begun.manifest) if live is not None else []),
        cost=None,
        causes=f"{first}run {begun.run} is made",
        keeps_state=kept,
        state=why,
        manifest=begun.manifest,
    )


def _of_its_start(job: Job, begun: Begin) -> tuple[bool | None, str]:
    if begun.start_from is not None:
        is_newest = job.savepoint_path in (None, begun.start_from)
        left = "" if is_newest else f"; the job's newest state, {job.savepoint_path}, is left and stays on record"
        return is_newest, f"it starts from {begun.start_from}{left}"
    if job.savepoint_path is not None:
        return False, f"it starts from nothing; the job's newest state, {job.savepoint_path}, stays on record"
    return None, "it starts from nothing: no state of the job is on record"


def _without_secrets(found: Sequence[CostlyChange]) -> list[CostlyChange]:
    return [replace(each, before=_shown(each.path, each.before), after=_shown(each.path, each.after)) for each in found]


def _shown(path: tuple[str, ...], value: Any) -> Any:
    """Doubt hides a value, by its variable's name too; that it is another one is shown."""
    name = path[-2] if path[-1] == "value" and len(path) > 1 else path[-1]
    return HIDDEN if value is not None and tells_a_secret([diff.Change((name,), value)]) else value
