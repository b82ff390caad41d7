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
    """The job runs at another parallelism, and otherwise as it is."""

    parallelism: int


@dataclass(frozen=True)
class Gone:
    """Nothing of the run is left but its state; with `force` also where that cannot be known."""

    force: bool = False


Goal = NewRun | Scaled | Gone
