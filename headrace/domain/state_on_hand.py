"""Which state a job has that could be started from again: one pure answer for all that takes something away.

"It has no state" is an answer that says so, never the absence of one. Knows no server and no operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from headrace.domain.deployments import Deployment, failed_before_it_ran, never_started
from headrace.domain.jobs import Job

LAST_STATE = "KUBERNETES_OPERATOR_LAST_STATE"
"""What upgradeSavepointPath reads after a restore from HA metadata: no path at all."""


@dataclass(frozen=True)
class Known:
    """The newest state, by its path; `kind` is savepoint or checkpoint, `number` Flink's own of it, where that was
    said, and so its size."""

    path: str
    kind: str
    number: int | None = None
    size_bytes: int | None = None


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
    `number` is Flink's number of `latest`, else of `restored`; `size_bytes` the size of `latest`.
    `has_graph` says that it has the job's execution graph (neither CREATED nor INITIALIZING): without it, it knows
    nothing and says so with the same words as where there is nothing. `has_run` is False where it says of a job that
    has ended that it was never RUNNING.
    """

    latest: str | None = None
    restored: str | None = None
    number: int | None = None
    has_graph: bool = True
    has_run: bool = True
    size_bytes: int | None = None


@dataclass(frozen=True)
class HaMetadata:
    """What Flink's HA metadata keep of a job: the number of its newest completed checkpoint, None where it has none.

    Flink adds a checkpoint there before it counts as completed, and keeps at least one: this is so whether a JobManager
    lives or not. The number is not a path; a job that was restored from a savepoint begins with the savepoint's.
    """

    flink_job_id: str
    newest: int | None


CHECKPOINT_KEY = "checkpointID-"
"""What the key of a completed checkpoint in the HA ConfigMap begins with (KubernetesCheckpointStoreUtil); its number
follows."""

LONGEST_NUMBER = 19
"""Digits of a Java long, to which Flink fills a checkpoint's number up."""


def ha_config_map(deployment_name: str, flink_job_id: str) -> str:
    """The name of the ConfigMap that has a job's HA metadata (KubernetesLeaderElectionHaServices)."""
    return f"{deployment_name}-{flink_job_id}-config-map"


def ha_metadata_in(flink_job_id: str, data: Mapping[str, str]) -> HaMetadata:
    """What the data of that ConfigMap say. A key of another form is nobody's checkpoint."""
    numbers = [key.removeprefix(CHECKPOINT_KEY) for key in data if key.startswith(CHECKPOINT_KEY)]
    return HaMetadata(flink_job_id, max((int(each) for each in numbers if _is_number(each)), default=None))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER


WITHOUT_GRAPH = ("CREATED", "INITIALIZING")
"""States of Flink's job in which its JobManager has no execution graph, and knows no checkpoint."""


@dataclass(frozen=True)
class NotAsked:
    """No JobManager was asked, or none answered; `why` says which."""

    why: str


Said = Checkpoints | HaMetadata | NotAsked
"""What was said of a job's state: by its JobManager, else by Flink's HA metadata, or by nobody."""


def kind_of(path: str) -> str:
    """`savepoint` or `checkpoint`, by how Flink names the folder."""
    return "savepoint" if "savepoint-" in path else "checkpoint"


def known(path: str, number: int | None = None) -> Known:
    """The state at this path."""
    return Known(path, kind_of(path), number)


def state_on_hand(job: Job, live: Deployment | None, said: Said) -> StateOnHand:
    """The newest state of the job's present run. `job` has been shown `live` already; None where it is gone.

    The JobManager's own word comes first, then what the HA metadata keep. Without either, the path on record is the
    newest only while the job has not run since it was learnt.
    """
    knows = isinstance(said, Checkpoints) and said.has_graph and _flink_state(live) not in WITHOUT_GRAPH
    if isinstance(said, Checkpoints) and (path := said.latest or (said.restored if knows else None)):
        return replace(known(path, said.number), size_bytes=said.size_bytes if path == said.latest else None)
    if isinstance(said, HaMetadata) and is_newest(job, said):
        return known(job.state_path or "", job.state_number)
    if isinstance(said, HaMetadata) and (newest := _newest_beside(job.state_path, said)) is not None:
        return known(newest)
    if job.state_path and not job.ran_since_state:
        return known(job.state_path)
    if isinstance(said, HaMetadata):
        return _by_metadata(job, said)
    if _never_ran(job, live, said):
        return known(job.state_path) if job.state_path else NeverHadAny()
    if knows and _has_led_unbroken(job, live):
        return known(job.state_path) if job.state_path else NeverHadAny()
    return Unknown(_why(said, knows))


def _flink_state(live: Deployment | None) -> str | None:
    status = live.status.job_status if live is not None and live.status else None
    return status.state if status else None


def is_newest(job: Job, kept: HaMetadata) -> bool:
    """Whether the state on record is the newest that there is: the HA metadata have none of a higher number."""
    return None not in (job.state_path, job.state_number) and job.state_number == kept.newest


def _newest_beside(path: str | None, kept: HaMetadata) -> str | None:
    """Checkpoints of one Flink job stand beside each other, each in a folder that has its number
    (CheckpointStorageAccess: `<dir>/<job id>/chk-<number>`): from the path of an earlier one follows the newest."""
    folder, _, number = (path or "").rpartition("/chk-")
    if kept.newest is None or not folder.endswith(f"/{kept.flink_job_id}"):
        return None
    return f"{folder}/chk-{kept.newest}" if _is_number(number) and int(number) <= kept.newest else None


def _by_metadata(job: Job, kept: HaMetadata) -> StateOnHand:
    if kept.newest is None:
        if job.state_path is not None:
            return known(job.state_path)
        return Unknown("there may have been runs that nobody saw") if job.is_gapped else NeverHadAny()
    words = f"the path of its newest checkpoint, number {kept.newest}, is not on record"
    return Unknown(f"no JobManager answers, and {words}")


def _never_ran(job: Job, live: Deployment | None, said: Said) -> bool:
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


def _why(said: Said, knows: bool) -> str:
    if isinstance(said, NotAsked):
        return said.why
    if not knows:
        return "its JobManager waits for resources and does not know the job's checkpoints"
    return "its JobManager has not led the job from its start, and knows of no checkpoint"
