"""What a pod's states say about why a job cannot start. Pure; field names are the resource's own."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from headrace.domain.deployments import Metadata, PodTrouble

SOON_OVER = frozenset({"", "PodInitializing", "ContainerCreating"})
"""Reasons for waiting that every pod passes through."""


class Waiting(msgspec.Struct, frozen=True, rename="camel"):
    """state.waiting."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    """state.terminated."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0


class ContainerState(msgspec.Struct, frozen=True, rename="camel"):
    """A container's state or last state."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """status.containerStatuses[] and status.initContainerStatuses[]."""

    name: str = ""
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
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None


class Pod(msgspec.Struct, frozen=True, rename="camel"):
    """One pod as it was seen."""

    metadata: Metadata
    status: PodStatus = PodStatus()


def first_trouble(pods: Iterable[Pod]) -> PodTrouble | None:
    """The first pod that cannot start or be scheduled; a fetcher's own words where it left some."""
    return next((trouble for pod in pods if (trouble := _trouble(pod)) is not None), None)


def _trouble(pod: Pod) -> PodTrouble | None:
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return PodTrouble(pod.metadata.name, "Unschedulable", condition.message)
    for status in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason not in SOON_OVER:
            return PodTrouble(pod.metadata.name, waiting.reason, _words(status, waiting))
    return _failed_init(pod)


def _failed_init(pod: Pod) -> PodTrouble | None:
    for status in pod.status.init_container_statuses or ():
        ended = status.state.terminated
        if ended is not None and ended.exit_code != 0:
            return PodTrouble(pod.metadata.name, ended.reason or "Error", f"[{status.name}] {ended.message.strip()}")
    return None


def _words(status: ContainerStatus, waiting: Waiting) -> str:
    ended = status.last_state.terminated
    said = ended.message.strip() if ended else ""
    return f"[{status.name}] {said or waiting.message}".strip()
