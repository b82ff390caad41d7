"""A pod's status as a kubelet writes it, from what its containers have come to. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Resource = dict[str, Any]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ContainerSeen:
    """One container: `state` and `last_state` as its status has them."""

    name: str
    image: str
    state: Resource
    last_state: Resource = field(default_factory=dict)
    restarts: int = 0

    @property
    def is_ready(self) -> bool:
        """Running, or an init container that has done its work."""
        return "running" in self.state or self.has_succeeded

    @property
    def has_succeeded(self) -> bool:
        """Whether it has ended well."""
        return bool(self.state.get("terminated", {}).get("exitCode") == 0)

    @property
    def has_run(self) -> bool:
        """Whether it was ever started."""
        return "waiting" not in self.state or bool(self.last_state)

    def waits(self, reason: str, message: str = "") -> ContainerSeen:
        """It cannot be started now; what it came to before is its last state."""
        last = {"terminated": ended} if (ended := self.state.get("terminated")) else self.last_state
        waiting = {"reason": reason, **({"message": message} if message else {})}
        return replace(self, state={"waiting": waiting}, last_state=last)

    def runs(self) -> ContainerSeen:
        """It is started, once more where it has run before."""
        last = {"terminated": ended} if (ended := self.state.get("terminated")) else self.last_state
        restarts = self.restarts + 1 if self.has_run else 0
        return replace(self, state={"running": {"startedAt": now()}}, last_state=last, restarts=restarts)

    def ends(self, exit_code: int, message: str = "") -> ContainerSeen:
        """It has ended, and left this as its termination message."""
        begun = self.state.get("running", {}).get("startedAt") or now()
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error"}
        said = {"message": message} if message else {}
        return replace(self, state={"terminated": {**ended, "startedAt": begun, "finishedAt": now(), **said}})


@dataclass(frozen=True)
class PodSeen:
    """A pod with its containers. `has_volumes` says that they can be started; `ended` is its phase once it is over."""

    inits: Sequence[ContainerSeen]
    main: ContainerSeen
    begun_at: str
    has_volumes: bool = False
    ended: str | None = None

    def with_init(self, container: ContainerSeen) -> PodSeen:
        """The same with this init container."""
        return replace(self, inits=[container if each.name == container.name else each for each in self.inits])


def seen_first(spec: Mapping[str, Any]) -> PodSeen:
    """A pod of which nothing was started yet."""
    inits = spec.get("initContainers") or []
    reason = "PodInitializing" if inits else "ContainerCreating"
    waiting = {"waiting": {"reason": reason}}
    (main, *_) = (ContainerSeen(each["name"], each.get("image", ""), waiting) for each in spec["containers"])
    return PodSeen([ContainerSeen(each["name"], each.get("image", ""), waiting) for each in inits], main, now())


def seen_before(spec: Mapping[str, Any], status: Mapping[str, Any]) -> PodSeen:
    """A pod that a kubelet before this one has left: what ran then was killed with it."""
    fresh = seen_first(spec)
    parts = ("initContainerStatuses", "containerStatuses")
    known = {each["name"]: each for part in parts for each in status.get(part) or ()}
    return replace(
        fresh,
        inits=[_left(each, known.get(each.name)) for each in fresh.inits],
        main=_left(fresh.main, known.get(fresh.main.name)),
        begun_at=status.get("startTime") or fresh.begun_at,
    )


def _left(container: ContainerSeen, status: Mapping[str, Any] | None) -> ContainerSeen:
    if status is None:
        return container
    known = replace(
        container,
        state=status["state"],
        last_state=status.get("lastState") or {},
        restarts=status.get("restartCount", 0),
    )
    return known.ends(137) if "running" in known.state else known


def status_of(pod: PodSeen) -> Resource:
    """The whole status."""
    is_initialized = all(each.has_succeeded for each in pod.inits)
    is_ready = is_initialized and "running" in pod.main.state and pod.ended is None
    conditions = {
        "PodScheduled": True,
        "PodReadyToStartContainers": pod.has_volumes,
        "Initialized": is_initialized,
        "ContainersReady": is_ready,
        "Ready": is_ready,
    }
    return {
        "phase": pod.ended or ("Running" if is_initialized and pod.main.has_run else "Pending"),
        "conditions": [{"type": name, "status": "True" if holds else "False"} for name, holds in conditions.items()],
        "hostIP": LOOPBACK,
        "podIP": LOOPBACK,
        "podIPs": [{"ip": LOOPBACK}],
        "startTime": pod.begun_at,
        "initContainerStatuses": [_status_of(each) for each in pod.inits],
        "containerStatuses": [_status_of(pod.main)],
    }


def _status_of(container: ContainerSeen) -> Resource:
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": container.is_ready,
        "started": "running" in container.state,
        "restartCount": container.restarts,
        "state": container.state,
        "lastState": container.last_state,
    }


def now() -> str:
    """The time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
