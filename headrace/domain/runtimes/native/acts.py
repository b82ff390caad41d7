"""What is to be done next with a native job's cluster: by what is wanted, what was done, and what is seen of it. Pure.

This is the operator's part, as one table: each act is small, may be repeated, and leaves what the next is chosen by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.domain import diff
from headrace.domain.deployments import TRIGGER_NONCE
from headrace.domain.flink_options import options_in
from headrace.domain.manifest import DRAIN
from headrace.domain.runtimes.native.arguments import OF_THE_OPERATOR
from headrace.domain.runtimes.native.records import BY_LAST_STATE, Done, Left, Wanted
from headrace.domain.state_on_hand import Known, StateOnHand, Unknown
from headrace.domain.vertices import OVERRIDES_KEY, overrides_of


class Act(StrEnum):
    """One act. AWAIT_… look at what an earlier one has begun."""

    LAUNCH = "LAUNCH"  # Flink's command line is run, and what it would make is made
    STOP = "STOP"  # a stop with a savepoint is asked for
    AWAIT_STOP = "AWAIT_STOP"
    PUT_DOWN = "PUT_DOWN"  # the JobManager goes without a savepoint: its job does not run
    CLEAR = "CLEAR"  # pods that are left are waited for, TaskManagers removed
    LEAVE = "LEAVE"  # nothing runs any more: which state was left is written down
    RESCALE = "RESCALE"  # the JobManager is given other resource requirements
    SAVE = "SAVE"  # a savepoint is asked for, and the job runs on
    AWAIT_SAVE = "AWAIT_SAVE"
    NOTE = "NOTE"  # nothing has to be done for what is wanted
    REMOVE = "REMOVE"  # what was made is removed


NEEDS_STATE = frozenset({Act.PUT_DOWN, Act.LEAVE})
"""Acts that rest on which state the job has."""

ENDED = ("FINISHED", "FAILED", "CANCELED")


@dataclass(frozen=True)
class FlinkJob:
    """The job as its JobManager shows it; no state where the JobManager does not know the job (yet). `runs_at` is the
    parallelism of each vertex."""

    state: str = ""
    start_time: str | None = None
    name: str | None = None
    runs_at: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What is seen beside the Deployment. `flink` is None where no JobManager answers, `has_led` whether one has had
    the job, by its HA metadata. `has_pods` says that something runs still, `is_ready` that the JobManager's pod is."""

    flink: FlinkJob | None = None
    has_led: bool = False
    has_pods: bool = False
    is_ready: bool = False
    trouble: str = ""


class Meaning(StrEnum):
    """What a change of the wanted spec comes to for what runs."""

    NOTHING = "NOTHING"
    SAVE = "SAVE"
    IN_PLACE = "IN_PLACE"
    REDEPLOY = "REDEPLOY"


OF_NO_WEIGHT = frozenset({"upgradeMode", "allowNonRestoredState", "initialSavepointPath", "autoscalerResetNonce"})
"""Fields of spec.job that are for the next start alone."""


def meaning(before: Mapping[str, Any], after: Mapping[str, Any]) -> Meaning:
    """What is to be done so that what runs by `before` runs by `after`."""
    changed = diff.changes(before, after, before)
    weighty = {each.path for each in changed if not _is_of_no_weight(each.path)}
    if not weighty:
        return Meaning.NOTHING
    if weighty == {("job", TRIGGER_NONCE)}:
        return Meaning.SAVE
    overrides = ("flinkConfiguration", OVERRIDES_KEY)
    adds = diff.at(after, overrides) is not None
    return Meaning.IN_PLACE if weighty == {overrides} and adds and is_adaptive(before) else Meaning.REDEPLOY


def _is_of_no_weight(path: tuple[str, ...]) -> bool:
    if path[0] == "job":
        return len(path) > 1 and path[1] in OF_NO_WEIGHT
    return path[0] == "flinkConfiguration" and len(path) > 1 and path[1].startswith(OF_THE_OPERATOR)


def is_adaptive(spec: Mapping[str, Any]) -> bool:
    """Whether its scheduler takes another parallelism of what runs (Flink's AdaptiveScheduler)."""
    return str(options_in(spec).get("jobmanager.scheduler", "")).lower() == "adaptive"


def next_act(wanted: Wanted, done: Done, shown: Shown, *, is_removing: bool) -> Act | None:
    """The act that is due; None where what is wanted is so, or has to be waited for."""
    if is_removing:
        return Act.REMOVE
    runs = state_wanted(wanted.spec) == "running"
    if done.is_up:
        return _of_a_cluster(wanted, done, shown, runs)
    return _to_a_cluster(wanted, done, shown) if runs else _at_rest(wanted, done, shown)


def _of_a_cluster(wanted: Wanted, done: Done, shown: Shown, runs: bool) -> Act | None:
    if done.stop is not None:
        return Act.AWAIT_STOP if done.stop.trigger is not None else Act.CLEAR if shown.has_pods else Act.LEAVE
    if not runs:
        return _way_down(shown)
    change = meaning(done.spec or {}, wanted.spec)
    if change is Meaning.REDEPLOY:
        return _way_down(shown)
    if done.save is not None:
        return Act.AWAIT_SAVE
    if change is Meaning.NOTHING:
        return Act.NOTE if wanted.generation != done.generation else _again(wanted, done, shown)
    if change is Meaning.IN_PLACE and shown.flink is not None and shown.flink.state in ENDED:
        return Act.NOTE  # nothing is left to be rescaled: another start is by it
    if shown.flink is None or shown.flink.state != "RUNNING":
        return None
    return Act.SAVE if change is Meaning.SAVE else Act.RESCALE


def _again(wanted: Wanted, done: Done, shown: Shown) -> Act | None:
    """No fence keeps a JobManager from what a worker tells it late that was frozen before, nor does it forget what is
    taken back. So once it was told anything, a job that runs at something else than is wanted is looked into: it is
    short of slots, or its JobManager is told again."""
    if done.required is None or shown.flink is None or shown.flink.state != "RUNNING":
        return None
    runs_at, required = shown.flink.runs_at, required_by(wanted, done)
    return Act.RESCALE if any(required.get(vertex, count) != count for vertex, count in runs_at.items()) else None


def required_by(wanted: Wanted, done: Done) -> dict[str, int]:
    """At what the vertices of what runs are to run."""
    return {**(done.required or {}), **overrides_of(options_in(wanted.spec).get(OVERRIDES_KEY))}


def _way_down(shown: Shown) -> Act:
    """A job that runs keeps its state in a savepoint; of another one the last checkpoint is all that there is."""
    return Act.STOP if shown.flink is not None and shown.flink.state == "RUNNING" else Act.PUT_DOWN


def is_for_another_start(act: Act, wanted: Wanted) -> bool:
    """Whether the act ends what runs for it to be started anew: who does that has to be able to start it, so that a job
    which could not be started is not ended either."""
    return act in (Act.STOP, Act.PUT_DOWN) and state_wanted(wanted.spec) == "running"


def _to_a_cluster(wanted: Wanted, done: Done, shown: Shown) -> Act | None:
    if done.error is not None and done.error.is_final and done.generation == wanted.generation:
        return None
    if shown.has_pods:
        return Act.CLEAR
    if done.left is not None and not done.left.is_known and not begins_elsewhere(wanted, done):
        return Act.LEAVE
    return Act.LAUNCH


def _at_rest(wanted: Wanted, done: Done, shown: Shown) -> Act | None:
    if shown.has_pods:
        return Act.CLEAR
    return Act.NOTE if wanted.generation != done.generation else None


def state_wanted(spec: Mapping[str, Any]) -> str:
    """What a spec wants of its job: `running` where it does not say."""
    return str(diff.at(spec, ("job", "state")) or "running")


def begins_elsewhere(wanted: Wanted, done: Done) -> bool:
    """Whether the next start is from a state that was named, and not from the one that was left: the first one, and
    one with a new savepointRedeployNonce."""
    if done.left is None or done.spec is None:
        return True
    nonce = ("job", "savepointRedeployNonce")
    named = diff.at(wanted.spec, nonce)
    return named is not None and named != diff.at(done.spec, nonce)


def start_from(wanted: Wanted, done: Done) -> str | None:
    """The state from which the next start begins."""
    if begins_elsewhere(wanted, done):
        path: str | None = diff.at(wanted.spec, ("job", "initialSavepointPath"))
        return path
    return done.left.path if done.left is not None else None


def left_at_its_end(shown: Shown, state: StateOnHand | None) -> Left | None:
    """What a job leaves behind that had come to its end before it was put down: nothing newer comes of it. None where
    it might go on yet, or nobody knows."""
    if shown.flink is None or shown.flink.state not in ENDED or state is None or isinstance(state, Unknown):
        return None
    return Left(BY_LAST_STATE, state.path if isinstance(state, Known) else None)


def left_behind(done: Done, state: StateOnHand | None) -> Left:
    """What was left, once nothing runs any more: what is known by now, else what was known when it was put down."""
    if state is not None and not isinstance(state, Unknown):
        return Left(BY_LAST_STATE, state.path if isinstance(state, Known) else None)
    at_its_end = done.stop.left if done.stop is not None else None
    return at_its_end or Left(BY_LAST_STATE, is_known=False)


TOO_EARLY = re.compile(r"Not all required tasks are currently running|is not being executed at the moment")
"""What Flink says of a savepoint of a job of which some task does not run yet (CheckpointFailureReason)."""


def is_too_early(words: str) -> bool:
    """Whether a savepoint was only asked for too early."""
    return TOO_EARLY.search(words) is not None


def effective_state(state: str, tasks: Mapping[str, int]) -> str:
    """The job's state as the operator tells it: Flink says RUNNING from the first task on, and takes no savepoint until
    the last one runs."""
    waiting = any(count and name not in ("RUNNING", "FINISHED") for name, count in tasks.items())
    return "CREATED" if state == "RUNNING" and waiting else state


def drains(wanted: Wanted) -> bool:
    """Whether the stop tells the job that no more input comes."""
    return str(diff.at(wanted.spec, ("flinkConfiguration", DRAIN))).lower() == "true"
