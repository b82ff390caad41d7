"""Which way a SCALE goes: in place, by Flink's adaptive scheduler, or by a redeploy; and whether it has arrived. Pure.

The operator scales in place where a change is one of the parallelism overrides alone, none of them removed, of a native
deployment with the adaptive scheduler (its documentation, "In-place rescaling"); it says STABLE before the job has
rescaled, so that the JobManager's own word ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.domain.deployments import Deployment, has_ended, is_running
from headrace.domain.flink_options import options_in
from headrace.domain.goals import Scaled
from headrace.domain.manifest import slots_of
from headrace.domain.operations import State, Step
from headrace.domain.runtimes.operator.ends import raised
from headrace.domain.runtimes.operator.sights import Effects, ours, whole_of
from headrace.domain.runtimes.plan import Case, Change, End, Note
from headrace.domain.status import is_in_place
from headrace.domain.vertices import OVERRIDES_KEY, Vertex, Vertices, as_overrides, overrides_of


@dataclass(frozen=True)
class InPlace:
    """The overrides that are to be written, and nothing else."""

    overrides: str


@dataclass(frozen=True)
class Redeploy:
    """Why it cannot be done in place."""

    why: str


@dataclass(frozen=True)
class NotYet:
    """Why it cannot be decided now: a look a moment later may."""

    why: str


@dataclass(frozen=True)
class Impossible:
    """Why the job cannot run at that parallelism, whichever way."""

    why: str


GRAPH_SECONDS = 15.0
"""How long a SCALE looks for the vertices of a job that runs. An adaptive scheduler that has just got its slots, or
lost them, shows none for a moment (Flink's AdaptiveScheduler: no execution graph but in its executing states)."""


def asks_for_vertices(case: Case) -> bool:
    """Whether the way, or the end, rests on the job's vertices."""
    live = ours(case)
    if live is None or not isinstance(case.goal, Scaled):
        return False
    return is_in_place(case.operation) if case.operation.asserts else not never_in_place(whole_of(case), live)


def way(case: Case, goal: Scaled, live: Deployment) -> InPlace | Redeploy | NotYet | Impossible:
    """How the job gets to its parallelism, by what is live and by what its JobManager says."""
    if is_in_place(case.operation):  # it was decided on before, and a repeat never takes another way
        return InPlace(str(case.operation.asserts[0].value))
    if case.operation.asserts:
        return Redeploy("")
    why = never_in_place(whole_of(case), live)
    if why:
        return Redeploy(why)
    if not isinstance(case.vertices, Vertices):
        return Redeploy(f"its vertices are not known ({case.vertices.why})")
    if not case.vertices.by_id:
        none = "its JobManager shows no vertices of it"
        return NotYet(none) if case.operation.spent_seconds < GRAPH_SECONDS else Redeploy(none)
    return _by_vertices(case, case.vertices.by_id, wanted_parallelism(whole_of(case), goal))


def wanted_parallelism(whole: Mapping[str, Any], goal: Scaled) -> int:
    """The parallelism that a SCALE comes to: of TaskManagers, that of all their slots."""
    return goal.count * slots_of(whole) if goal.of_task_managers else goal.count


def _by_vertices(case: Case, vertices: Mapping[str, Vertex], parallelism: int) -> InPlace | Redeploy | Impossible:
    whole = whole_of(case)
    before = overrides_of(options_in(whole["spec"]).get(OVERRIDES_KEY))
    has = {name: before.get(name, vertex.is_to_run_at) for name, vertex in vertices.items()}
    asked = int(whole["spec"]["job"].get("parallelism") or 1)
    job_has = _overridden_to(case, has.values()) if before else min(asked, max(has.values()))  # or short of slots
    follow = [name for name, vertex in vertices.items() if has[name] == job_has and vertex.max_parallelism > 1]
    if not follow:
        return Redeploy("each of its vertices has a parallelism of its own")
    most = min(vertices[name].max_parallelism for name in follow)
    if parallelism > most:
        return Impossible(f"its state can be spread over {most} at most (pipeline.max-parallelism)")
    return InPlace(as_overrides({**before, **has, **dict.fromkeys(follow, parallelism)}))


def _overridden_to(case: Case, parallelism: Collection[int]) -> int:
    """The job's own parallelism among those of its vertices: what a SCALE gave last; else the highest, as any can be a
    vertex's own."""
    of_all_slots = (case.job.scaled_to_task_managers or 0) * slots_of(whole_of(case))
    scaled_to = case.job.scaled_to or of_all_slots
    return scaled_to if scaled_to in parallelism else max(parallelism)


def never_in_place(whole: Mapping[str, Any], live: Deployment) -> str:
    """Why the operator would not do it in place, by the spec and by what runs; empty where it would."""
    spec, options = whole.get("spec") or {}, options_in(whole.get("spec") or {})
    enabled = str(options.get("kubernetes.operator.job.upgrade.inplace-scaling.enabled", "true")).lower()
    if str(options.get("jobmanager.scheduler", "")).lower() != "adaptive":
        return "its scheduler is not the adaptive one (jobmanager.scheduler)"
    if enabled != "true":
        return "scaling in place is switched off (kubernetes.operator.job.upgrade.inplace-scaling.enabled)"
    if spec.get("mode", "native") != "native":
        return "its deployment is a standalone one"
    if (spec.get("taskManager") or {}).get("replicas") is not None:
        return "its TaskManagers are counted (resources.task_manager.replicas)"
    return "" if is_running(live) else "it does not run now"


def arrived(case: Case, live: Deployment, effects: Effects) -> Effects:
    """The end of one whose write the operator has carried out: the JobManager says when the job has rescaled."""
    succeeded = any(isinstance(each, End) and each.state is State.SUCCEEDED for each in effects)
    if not isinstance(case.goal, Scaled) or not is_in_place(case.operation) or not succeeded or has_ended(live):
        return effects  # one that has finished rescales no more
    if not whole_of(case):
        return [Change((), Step.AWAIT_RUNNING)]  # whoever writes asks the JobManager too
    wanted = overrides_of(case.operation.asserts[0].value)
    if not isinstance(case.vertices, Vertices):
        return [Note({"reason": f"whether it has rescaled is not known yet ({case.vertices.why})"})]
    runs_at = {name: vertex.parallelism for name, vertex in case.vertices.by_id.items()}
    behind = [name for name, count in wanted.items() if name in runs_at and runs_at[name] != count]
    if behind or not runs_at:
        least = min((runs_at[name] for name in behind), default=0)
        return [Note({"reason": f"it runs at {least} still: more needs free slots (see `headrace describe`)"})]
    words = f"in place: the job runs at {wanted_parallelism(whole_of(case), case.goal)}"
    return [*raised(case, live), End(State.SUCCEEDED, words, holds=True, is_a_workers=True)]
