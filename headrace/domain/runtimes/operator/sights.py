"""What a sight of a deployment says to every part of the operator's plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.domain import diff
from headrace.domain.deployments import Deployment, is_behind, is_of, owner_of, sequence_of
from headrace.domain.failures import Explanation
from headrace.domain.jobs import NATIVE, Job
from headrace.domain.manifest import Stamp
from headrace.domain.runtimes.plan import Absent, Case, Effect, Keep, Live, Wait
from headrace.domain.state_on_hand import Known, StateOnHand, Unknown, state_on_hand

SOON_SECONDS = 1.0
"""How long after a delete its name is looked at again."""

UNKNOWN_STATE_SECONDS = 5.0
"""How long after a JobManager gave no answer it is asked again."""

Effects = Sequence[Effect]


def ours(case: Case) -> Deployment | None:
    """The deployment in sight where it is this job's; None also where the name is somebody else's."""
    if isinstance(case.sight, Absent) or not is_of(case.sight.deployment, case.job.tenant, case.job.job_id):
        return None
    return case.sight.deployment


def whole_of(case: Case) -> Mapping[str, Any]:
    """The deployment as it was just read, all of it; empty for who only has a typed sight: the sync."""
    return case.sight.whole if isinstance(case.sight, Live) else {}


def stamp_of(case: Case, run: int | None = None) -> Stamp:
    """What this operation stamps on what it writes; `run` is another than the job's where one begins."""
    return Stamp(case.operation.sequence, case.operation.id, case.job.run if run is None else run)


def is_reconciled(live: Deployment) -> bool:
    """Whether the operator has carried out the spec in sight, and says that it is STABLE."""
    status = live.status
    return status is not None and not is_behind(live, live.metadata.generation) and status.lifecycle_state == "STABLE"


def has_written(case: Case, live: Deployment) -> bool:
    """Whether the last write of the deployment is this operation's."""
    return sequence_of(live) == case.operation.sequence


def inverse_of(case: Case, wished: Sequence[diff.Change]) -> tuple[diff.Change, ...]:
    """What takes the write back: that of the first try, whatever a repeat sees."""
    own = [each for each in wished if each.path[0] == "spec"]
    return case.operation.inverse or diff.inverse(whole_of(case), own)


def unreadable(state: Unknown) -> Effects:
    """The state is asked for again later; nothing is done before it is known."""
    return [Wait(UNKNOWN_STATE_SECONDS, f"waiting: its last state cannot be read ({state.why})")]


def state_seen(case: Case) -> StateOnHand:
    """Which state is on hand, by the sight and by what a JobManager or the HA metadata said."""
    return state_on_hand(case.job, case.sight.deployment if isinstance(case.sight, Live) else None, case.said)


def kept(state: StateOnHand) -> list[Effect]:
    """The state on record, where its path is known."""
    return [Keep(state.path, state.number, size_bytes=state.size_bytes)] if isinstance(state, Known) else []


def words_of(job: Job) -> str:
    """Why the job is as it is, with what to do; empty where nothing was found."""
    return str(Explanation(job.reason, job.next_step)) if job.reason else ""


def spec_state(live: Deployment) -> str:
    """What the spec wants of the job: `running` where it does not say."""
    return (live.spec.job.state if live.spec.job else None) or "running"


def name_is_taken(live: Deployment, runtime: str) -> str:
    """The sentence for a name that somebody else's resource has."""
    place = f"{live.metadata.namespace}/{live.metadata.name}"
    kind = "Deployment" if runtime == NATIVE else "FlinkDeployment"
    return f"a {kind} {place} exists and is not this job's: it belongs to {owner_of(live)}"
