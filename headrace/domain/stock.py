"""What an installation has on record, in numbers: how many jobs in which phase, what is open, who takes turns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from headrace.domain.jobs import Phase
from headrace.domain.operations import KINDS


@dataclass(frozen=True)
class OpenOperation:
    """An operation that has not ended. It is untouched while it is its turn and no worker has looked at it yet."""

    id: str
    kind: str
    accepted_at: datetime
    is_untouched: bool


@dataclass(frozen=True)
class LeaseSeen:
    """A lease as it stands: how often it was taken, and whether a process has it now."""

    turns: int
    is_held: bool


@dataclass(frozen=True)
class Stock:
    """The numbers. Every phase and every kind stands there, those of which there is none with 0. `synced_at` is when
    the sync last knew every job to be as it is stored."""

    jobs: Mapping[str, int]
    open_operations: Mapping[str, int]
    oldest_seconds: Mapping[str, float]
    untouched: int
    synced_at: datetime | None
    leases: Mapping[str, LeaseSeen]


def stock(
    jobs: Mapping[str, int],
    opened: Iterable[OpenOperation],
    synced_at: datetime | None,
    leases: Mapping[str, LeaseSeen],
    now: datetime,
) -> Stock:
    """The numbers of what was read. What only a later release knows stands under its own name."""
    each_once = {each.id: each for each in opened}.values()
    oldest: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for each in each_once:
        age = (now - each.accepted_at).total_seconds()
        oldest[each.kind] = max(oldest.get(each.kind, 0.0), age)
    return Stock(
        jobs={**dict.fromkeys(Phase, 0), **jobs},
        open_operations={**dict.fromkeys(KINDS, 0), **Counter(each.kind for each in each_once)},
        oldest_seconds=oldest,
        untouched=sum(each.is_untouched for each in each_once),
        synced_at=synced_at,
        leases=leases,
    )
