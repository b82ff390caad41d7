"""Which state a job has that could be started from again: one pure answer for all that takes something away.

"It has no state" is an answer that says so, never the absence of one. Knows no server and no operation.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.domain.deployments import Deployment, failed_before_it_ran, never_started
from headrace.domain.jobs import Job

LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"
"""What upgradeSavepointPath reads after a restore from HA metadata: no path at all."""


@dataclass(frozen=True)
class Known:
    """The newest state, by its path; `kind` is savepoint or checkpoint."""

    path: str
    kind: str


@dataclass(frozen=True)
class NeverHadAny:
    """The job certainly has no state: nothing is lost with it."""


@dataclass(frozen=True)
class Unknown:
    """Nobody can say. `why` is a sentence's part: what did not answer, or what it left open."""

    why: str


StateOnHand = Known | NeverHadAny | Unknown


@dataclass(frozen=True)
class Checkpoints:
    """What a JobManager says of a job's state.

    `latest` is the newest checkpoint or savepoint completed under this JobManager, `restored` what it started from.
    `has_graph` says that it has the job's execution graph (neither CREATED nor INITIALIZING): without it, it knows
    nothing and says so with the same words as where there is nothing. `has_run` is False where it says of a job that
    has ended that it was never RUNNING.
    """

    latest: str | None = None
    restored: str | None = None
    has_graph: bool = True
    has_run: bool = True


WITHOUT_GRAPH = ("CREATED", "INITIALIZING")
"""States of Flink's job in which its JobManager has no execution graph, and knows no checkpoint."""


@dataclass(frozen=True)
class NotAsked:
    """No JobManager was asked, or none answered; `why` says which."""

    why: str


def kind_of(path: str) -> str:
    """`savepoint` or `checkpoint`, by how Flink names the folder."""
    return "savepoint" if "savepoint-" in path else "checkpoint"


def known(path: str) -> Known:
    """The state at this path."""
    return Known(path, kind_of(path))


def state_on_hand(job: Job, live: Deployment | None, said: Checkpoints | NotAsked) -> StateOnHand:
    """The newest state of the job's present run. `job` has been shown `live` already; None where it is gone.

    The JobManager's own word comes first. Without one, the path on record is the newest only while the job has not run
    since it was learnt.
    """
    knows = isinstance(said, Checkpoints) and said.has_graph and _flink_state(live) not in WITHOUT_GRAPH
    if isinstance(said, Checkpoints) and (path := said.latest or (said.restored if knows else None)):
        return known(path)
    if job.state_path and not job.ran_since_state:
        return known(job.state_path)
    if _never_ran(job, live, said):
        return known(job.state_path) if job.state_path else NeverHadAny()
    if knows and _has_led_unbroken(job, live):
        return known(job.state_path) if job.state_path else NeverHadAny()
    return Unknown(_why(said, knows))


def _flink_state(live: Deployment | None) -> str | None:
    status = live.status.job_status if live is not None and live.status else None
    return status.state if status else None


def _never_ran(job: Job, live: Deployment | None, said: Checkpoints | NotAsked) -> bool:
    """Whether no JobManager of this run can have completed a checkpoint: none was ever READY, or under the first one
    its program failed before there was a job, or the job before it was RUNNING. That nobody saw it RUNNING says
    nothing: it may have run between two sights."""
    if job.is_gapped or job.was_running:
        return False
    if live is None:
        return not job.ran_since_state
    if never_started(live, job.was_running):
        return True
    failed = failed_before_it_ran(live) or (isinstance(said, Checkpoints) and not said.has_run)
    return failed and _has_led_unbroken(job, live)


def _has_led_unbroken(job: Job, live: Deployment | None) -> bool:
    """Whether the JobManager that answers has led this run from its start."""
    status = live.status.job_status if live is not None and live.status else None
    if job.is_gapped or status is None or not job.first_start_time:
        return False
    return status.start_time == job.first_start_time


def _why(said: Checkpoints | NotAsked, knows: bool) -> str:
    if isinstance(said, NotAsked):
        return said.why
    if not knows:
        return "its JobManager waits for resources and does not know the job's checkpoints"
    return "its JobManager has not led the job from its start, and knows of no checkpoint"
