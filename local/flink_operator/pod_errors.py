"""What the operator says of a JobManager's pod that does not come up: from what Kubernetes shows of the pod, as the
operator reads it (1.15, `AbstractFlinkDeploymentObserver`). Pure; whose pods these are and where they stand, others
know.

Most of what may keep a pod from running never happens on a laptop. But what does is shown in the pod, and read there
again: so the operator's rule is the same one for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Resource = Mapping[str, Any]

FATAL = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "RunContainerError",
    "CreateContainerConfigError",
    "OOMKilled",
)
"""Why a container waits, where that is an error. ErrImageNeverPull is none: it is waited for, without a word."""


class PodError(NamedTuple):
    """What the status has: in additionalMetadata the reason, and the message."""

    reason: str
    message: str


def error_of(pods: Iterable[Resource], events_about: Callable[[str], Iterable[Resource]]) -> PodError | None:
    """The first error of these pods; None where they are just not up yet. Events are asked for by a pod's uid: one
    of the same name before it is another."""
    return next((error for pod in pods for error in _errors(pod, events_about)), None)


def _errors(pod: Resource, events_about: Callable[[str], Iterable[Resource]]) -> Iterator[PodError]:
    status = pod.get("status") or {}
    for container in (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in FATAL:
            yield PodError(waiting["reason"], f"[{container['name']}] {_said(container, waiting)}")
    if _has_no_volumes(status):
        for event in events_about(pod["metadata"]["uid"]):
            if event["reason"] == "FailedMount":
                yield PodError(event["reason"], event["message"])


def _said(container: Resource, waiting: Resource) -> str:
    """A container that fails again and again has the last word, where it left one."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    if waiting["reason"] == "CrashLoopBackOff" and ended.get("message"):
        return f"CrashLoop - {ended['message']}"
    said: str = waiting.get("message", "")
    return said


def _has_no_volumes(status: Resource) -> bool:
    """Whether its containers cannot be started yet: an event of a mount that failed is an old one, where they can."""
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    can_start = conditions.get("PodReadyToStartContainers", conditions.get("Initialized"))
    return can_start == "False" and conditions.get("Ready") == "False"
