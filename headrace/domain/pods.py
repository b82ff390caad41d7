"""What a pod's states say: what runs in it, and why a job cannot start. Pure; field names are the resource's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from headrace.domain.deployments import Metadata, PodTrouble

MAIN_CONTAINER = "flink-main-container"
COMPONENT_LABEL = "component"
JOB_MANAGER, TASK_MANAGER = "jobmanager", "taskmanager"
COMPONENTS = (JOB_MANAGER, TASK_MANAGER)

SOON_OVER = frozenset({"", "PodInitializing", "ContainerCreating"})
"""Reasons for waiting that every pod passes through."""

KILLED_FOR_MEMORY = "OOMKilled"


class Waiting(msgspec.Struct, frozen=True, rename="camel"):
    """state.waiting."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    """state.terminated."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0
    finished_at: datetime | None = None


class Running(msgspec.Struct, frozen=True, rename="camel"):
    """state.running."""


class ContainerState(msgspec.Struct, frozen=True, rename="camel"):
    """A container's state or last state."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """status.containerStatuses[] and status.initContainerStatuses[]."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """status.conditions[]."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """status."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class ContainerSpec(msgspec.Struct, frozen=True, rename="camel"):
    """spec.containers[] and spec.initContainers[]."""

    name: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """spec."""

    containers: list[ContainerSpec] = []
    init_containers: list[ContainerSpec] = []


class Pod(msgspec.Struct, frozen=True, rename="camel"):
    """One pod as it was seen."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


@dataclass(frozen=True)
class ContainerSeen:
    """A container of a pod: whether it is an init container, runs, and was ever started."""

    name: str
    is_init: bool = False
    is_running: bool = False
    was_started: bool = False
    restarts: int = 0


@dataclass(frozen=True)
class PodSeen:
    """A pod of a job: its containers, init ones last, and in `reason` why it does not run, in words.

    `trouble` is what keeps it from starting, or killed it; `waits_for` what it does on its way; `is_leaving` that it is
    being removed; `killed_at` when a container of it was last killed for its use of memory, also where it runs again.
    """

    name: str
    component: str
    phase: str
    ready: bool
    restarts: int
    started_at: datetime | None
    containers: Sequence[ContainerSeen]
    reason: str = ""
    killed_at: datetime | None = None
    trouble: PodTrouble | None = None
    waits_for: str = ""
    is_leaving: bool = False

    @property
    def is_running(self) -> bool:
        """Whether its main container runs."""
        return any(each.is_running and not each.is_init for each in self.containers)

    @property
    def has_ended(self) -> bool:
        """Whether nothing in it will run again."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_up(self) -> bool:
        """Whether it runs and is no crash loop that happens to run just now."""
        return self.is_running and not self.is_leaving and (self.ready or not self.restarts)


def pod_seen(pod: Pod) -> PodSeen:
    """What a person is told of a pod."""
    status = pod.status
    mains = [_container_seen(each, status.container_statuses, is_init=False) for each in pod.spec.containers]
    inits = [_container_seen(each, status.init_container_statuses, is_init=True) for each in pod.spec.init_containers]
    ready = any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())
    return PodSeen(
        name=pod.metadata.name,
        component=_component(pod),
        phase=status.phase,
        ready=ready,
        restarts=sum(each.restarts for each in mains),
        started_at=status.start_time,
        containers=(*mains, *inits),
        reason=_reason(pod),
        killed_at=max(_killings(pod), default=None),
        trouble=_trouble(pod),
        waits_for=_waits_for(pod),
        is_leaving=pod.metadata.deletion_timestamp is not None,
    )


def default_container(pod: PodSeen) -> str:
    """Flink's own container; where that never started, the init container that keeps it from starting."""
    mains = [each for each in pod.containers if not each.is_init]
    chosen = next((each for each in mains if each.name == MAIN_CONTAINER), mains[0] if mains else None)
    started = [each for each in pod.containers if each.is_init and each.was_started]
    if chosen is None or (not chosen.was_started and started):
        return started[-1].name if started else ""
    return chosen.name


def _component(pod: Pod) -> str:
    return (pod.metadata.labels or {}).get(COMPONENT_LABEL, "")


def _killings(pod: Pod) -> Iterator[datetime]:
    for status in pod.status.container_statuses or ():
        for ended in (status.state.terminated, status.last_state.terminated):
            if ended is not None and ended.reason == KILLED_FOR_MEMORY and ended.finished_at is not None:
                yield ended.finished_at


def _container_seen(spec: ContainerSpec, statuses: list[ContainerStatus] | None, *, is_init: bool) -> ContainerSeen:
    status = next((each for each in statuses or () if each.name == spec.name), ContainerStatus())
    running, ended = status.state.running is not None, status.state.terminated is not None
    was_started = running or ended or status.last_state.terminated is not None
    return ContainerSeen(spec.name, is_init, running, was_started, status.restart_count)


def _reason(pod: Pod) -> str:
    trouble = _trouble(pod)
    if trouble is not None:
        return f"{trouble.reason}: {trouble.message}" if trouble.message else trouble.reason
    if pod.status.reason:
        return f"{pod.status.reason}: {pod.status.message}".rstrip(": ")
    ended = [s.state.terminated for s in pod.status.container_statuses or () if s.state.terminated is not None]
    if not ended:
        return ""
    return f"{ended[0].reason or 'ended'} (exit code {ended[0].exit_code}) {ended[0].message.strip()}".strip()


def _waits_for(pod: Pod) -> str:
    """What a pod that nothing is wrong with still waits for. Mounting and pulling look alike in its status."""
    inits, mains = pod.status.init_container_statuses or [], pod.status.container_statuses or []
    if not inits and not mains:
        is_scheduled = any(
            each.type == "PodScheduled" and each.status == "True" for each in pod.status.conditions or ()
        )
        return "waits for its node to begin with it" if is_scheduled else "waits for a node"
    init = next((each for each in inits if each.state.terminated is None), None)
    if init is not None and init.state.running is not None:
        return f"runs its init container {init.name}"
    if any(each.state.running is not None for each in mains):
        return "runs, and is not ready yet"
    return "is being made: its volumes are mounted, its image is pulled"


def first_trouble(pods: Iterable[PodSeen]) -> PodTrouble | None:
    """What keeps a job's pods from running, the JobManager's first: without it there are no others."""
    troubles = [pod.trouble for pod in pods if pod.trouble is not None]
    return next((each for each in troubles if each.component == JOB_MANAGER), troubles[0] if troubles else None)


def manager_is_up(pods: Iterable[PodSeen]) -> bool:
    """Whether a JobManager was seen to run: what was said of its start before is over then."""
    return any(pod.is_up for pod in pods if pod.component == JOB_MANAGER)


def _trouble(pod: Pod) -> PodTrouble | None:
    """Why it cannot start or be scheduled, or was killed; a fetcher's own words where it left some."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return _of(pod, "Unschedulable", condition.message)
    for status in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting = status.state.waiting
        stands = waiting is None or waiting.reason not in SOON_OVER
        if stands and _was_killed(status):
            return _of(pod, KILLED_FOR_MEMORY, f"[{status.name}]")
        if waiting is not None and stands:
            return _of(pod, waiting.reason, _words(status, waiting))
    return _failed_init(pod)


def _of(pod: Pod, reason: str, message: str) -> PodTrouble:
    return PodTrouble(pod.metadata.name, reason, message, _component(pod))


def _was_killed(status: ContainerStatus) -> bool:
    """Whether it does not run because it was killed for its use of memory; one that runs again is no trouble."""
    ended = status.state.terminated or (status.last_state.terminated if status.state.waiting is not None else None)
    return ended is not None and ended.reason == KILLED_FOR_MEMORY


def _failed_init(pod: Pod) -> PodTrouble | None:
    for status in pod.status.init_container_statuses or ():
        ended = status.state.terminated
        if ended is not None and ended.exit_code != 0:
            return _of(pod, ended.reason or "Error", f"[{status.name}] {ended.message.strip()}")
    return None


def _words(status: ContainerStatus, waiting: Waiting) -> str:
    ended = status.last_state.terminated
    said = ended.message.strip() if ended else ""
    return f"[{status.name}] {said or waiting.message}".strip()
