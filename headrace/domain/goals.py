"""What is wanted of a deployment, in no runtime's words. Pure: a kind of operation names a goal, a runtime plans it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NewRun:
    """A new run of the job that `request` (a JobRequest as JSON) describes. `start_from` is None for nothing, `last`
    for the state on hand of the run before, or a path."""

    request: Mapping[str, Any]
    start_from: str | None


@dataclass(frozen=True)
class Scaled:
    """The job runs at another parallelism, or in all slots of so many TaskManagers, and otherwise as it is."""

    count: int
    of_task_managers: bool = False


@dataclass(frozen=True)
class Restarted:
    """The job runs as it is, from a JobManager and TaskManagers made anew. `nonce` is one that none before had."""

    nonce: int


@dataclass(frozen=True)
class Resumed:
    """A job that rests runs again: from the state that it was suspended with, or from the path `start_from`. `nonce` is
    one that none before had."""

    start_from: str | None
    nonce: int


@dataclass(frozen=True)
class Upgraded:
    """The job runs as `request` (a JobRequest as JSON) describes it, from the state that it has."""

    request: Mapping[str, Any]


@dataclass(frozen=True)
class RolledBack:
    """The job runs by the spec that the runtime last saw stable, from the state that it has. `request` is the one that
    this spec was rendered from."""

    request: Mapping[str, Any]


Changed = Scaled | Restarted | Resumed | Upgraded | RolledBack
"""Goals of a run that goes on, changed by one write."""


@dataclass(frozen=True)
class Suspended:
    """The run rests and its state is kept; the deployment stays."""


@dataclass(frozen=True)
class Gone:
    """Nothing of the run is left but its state; with `force` also where that cannot be known. With `drain` a job that
    runs is told first that no more input comes: its windows close and its sinks commit. With `only_remains` a run that
    goes on after all is left alone."""

    force: bool = False
    drain: bool = False
    only_remains: bool = False


@dataclass(frozen=True)
class Restored:
    """A job that was deleted is one that was stopped again. Nothing in the cluster changes."""


@dataclass(frozen=True)
class Saved:
    """The state of the job that runs is kept under a path of its own, and it runs on. `nonce` is one that none before
    had."""

    nonce: int


@dataclass(frozen=True)
class Adopted:
    """The deployment of this name and uid, which somebody else made, is the job's; it goes on as it was found."""

    deployment: str
    uid: str


@dataclass(frozen=True)
class Released:
    """The deployment goes on as it is, and is not the job's any more."""


Goal = NewRun | Changed | Suspended | Gone | Restored | Saved | Adopted | Released
