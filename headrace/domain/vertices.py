"""The vertices of a running job, each with its parallelism: what an in-place SCALE changes. Pure; knows no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OVERRIDES_KEY = "pipeline.jobvertex-parallelism-overrides"
"""Flink's option: `<vertex id>:<parallelism>` for each vertex, with commas."""

LONGEST_COUNT = 9
"""Digits of a count: what somebody else wrote there may be anything."""


@dataclass(frozen=True)
class Vertex:
    """At what parallelism a vertex runs now, and at which it can at most, without losing what its keys are kept by.
    `required` is at which it is to run, where that is said: one that is short of slots runs at less."""

    parallelism: int
    max_parallelism: int
    required: int | None = None

    @property
    def is_to_run_at(self) -> int:
        """What its parallelism is once there are slots for it."""
        return self.required or self.parallelism


@dataclass(frozen=True)
class Vertices:
    """What a JobManager says of a job's vertices, by their ids; none before it has an execution graph."""

    by_id: Mapping[str, Vertex]


def overrides_of(text: Any) -> dict[str, int]:
    """What the option says, by vertex; what is no such pair is left out."""
    pairs = (pair.rpartition(":") for pair in str(text or "").split(","))
    told = ((name.strip(), count.strip()) for name, _, count in pairs)
    return {name: int(count) for name, count in told if name and count.isdecimal() and len(count) <= LONGEST_COUNT}


def as_overrides(parallelism: Mapping[str, int]) -> str:
    """The option's text, the same for the same vertices."""
    return ",".join(f"{name}:{count}" for name, count in sorted(parallelism.items()))
