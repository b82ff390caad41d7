"""What processes say of the runtimes that they run jobs by, and what that comes to: whether each works here. Pure.

An account and a machine are known to their own process alone, so who does the work says what it lacks. Knows no runtime
by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

GOOD_FOR = timedelta(minutes=3)
"""An older report says nothing any more: three that should have come have not."""


class Process(StrEnum):
    """A part in running jobs, by the name of the process that has it. One process may have several."""

    WORKER = "worker"
    SYNC = "sync"
    LAUNCHER = "launcher"


@dataclass(frozen=True)
class RuntimeReport:
    """What a process lacks for its part in a runtime, each in words; nothing where that works. `process` is text: a
    later release may know further ones."""

    runtime: str
    process: str
    lacks: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class Lack:
    """Something that is lacking, and the processes that say so."""

    what: str
    said_by: tuple[str, ...]


@dataclass(frozen=True)
class RuntimeState:
    """Whether a runtime works here: None where no process says that it does not, and not all that it takes have
    reported of late. Those that have not are `silent`; `reported_at` is of the oldest report that this rests on."""

    name: str
    is_default: bool
    works: bool | None
    lacks: tuple[Lack, ...]
    silent: tuple[str, ...]
    reported_at: datetime | None


def runtime_state(
    name: str, takes: Sequence[Process], reports: Iterable[RuntimeReport], now: datetime, *, is_default: bool
) -> RuntimeState:
    """What the reports say of this runtime, which takes these processes."""
    found = {
        each.process: each
        for each in reports
        if each.runtime == name and each.process in takes and now - each.at <= GOOD_FOR
    }
    heard = [found[process] for process in takes if process in found]
    lacks, silent = _lacks(heard), tuple(process for process in takes if process not in found)
    return RuntimeState(
        name=name,
        is_default=is_default,
        works=False if lacks else None if silent else True,
        lacks=lacks,
        silent=silent,
        reported_at=min((each.at for each in heard), default=None),
    )


def _lacks(reports: Iterable[RuntimeReport]) -> tuple[Lack, ...]:
    """Each once, whoever says it."""
    said: dict[str, list[str]] = {}
    for report in reports:
        for what in report.lacks:
            said.setdefault(what, []).append(report.process)
    return tuple(Lack(what, tuple(processes)) for what, processes in said.items())
