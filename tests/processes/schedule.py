"""What is drawn from a seed: when what is asked of which job, and what is struck meanwhile. Pure.

The same seed gives the same schedule. Processes are real, so what comes of it differs from time to time.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

OURS = ("worker-1", "worker-2", "sync", "beat", "consumer", "api")
LAUNCHER = "launcher"
WITH_CLOCKS = ("worker-1", "worker-2", "sync", "beat")
ASK, AGAIN, MAKES = "ask", "ask again", "hand makes"
SECONDS_AN_OPERATION = 0.6
FAULTS_AN_OPERATION = 0.6
AGAINS_AN_OPERATION = 0.2

SIGNALS = tuple(f"{what} {name}" for name in (*OURS, "operator") for what in ("kill", "freeze"))
SERVERS = (
    *("kill redis", "freeze redis", "flush redis", "fill redis"),
    *("kill mongodb", "freeze mongodb", "cut mongodb", "restart kafka"),
)
KUBERNETES = tuple(
    f"kubernetes {what}"
    for what in ("409", "422", "429", "500", "503", "hang", "late", "reset", "cut", "410", "watches")
)
FLINK = ("lose jobmanager",)
LONGER = {"lose": 3.0}
"""How much longer some faults last than others."""

HANDS = ("hand edits", "hand relabels", "hand deletes", "hand restores")
CLOCKS = tuple(f"skew {name}" for name in WITH_CLOCKS)
FAULTS = (*SIGNALS, *SERVERS, *KUBERNETES, *HANDS, *CLOCKS, *FLINK, f"kill {LAUNCHER}", f"freeze {LAUNCHER}")
"""Each is drawn as often as any other."""


@dataclass(frozen=True)
class Event:
    """One thing that happens: at `at` seconds from the beginning, for `seconds`; `value` decides where there is a
    choice, and `number` names it for a replay. The last `job` is the one whose deployment others make."""

    number: int
    at: float
    what: str
    job: int
    value: int
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.number:3} {self.at:6.2f} s  {self.what}{lasts}  (job {self.job}, {self.value})"


def drawn(seed: int, operations: int, jobs: int, faults: Sequence[str] = FAULTS) -> list[Event]:
    """The schedule of a seed, in the order of its moments, on so many jobs and one of somebody's: its deployment is
    made at the beginning, and again later, where it is gone by then."""
    chance = random.Random(f"{seed} {operations} {jobs}")
    length = operations * SECONDS_AN_OPERATION
    found = [(chance.uniform(0, length), ASK) for _ in range(operations)]
    found += [(chance.uniform(0.2, 1.1) * length, AGAIN) for _ in range(int(operations * AGAINS_AN_OPERATION))]
    found += [
        (chance.uniform(0, length), _turn(chance, seed, n, faults))
        for n in range(int(operations * FAULTS_AN_OPERATION))
    ]
    found += [(at * length, MAKES) for at in (0.0, chance.uniform(0.3, 0.6), chance.uniform(0.6, 0.9))]
    return [
        Event(n, round(at, 2), what, _job(chance, what, jobs), chance.randrange(10_000), _lasts(chance, what))
        for n, (at, what) in enumerate(sorted(found))
    ]


def slower(events: Sequence[Event], times: float) -> list[Event]:
    """The same, so many times as slow; a fault lasts as long as before."""
    return [replace(each, at=round(each.at * times, 2)) for each in events]


def chosen(events: Sequence[Event], only: Collection[int] | None) -> list[Event]:
    """These events alone, by their numbers; all of them where none are named."""
    return [each for each in events if only is None or each.number in only]


def _turn(chance: random.Random, seed: int, nth: int, faults: Sequence[str]) -> str:
    """Half of them go round by the seed, so that a hundred seeds strike each often; the others are drawn."""
    return faults[(seed * 7 + nth * 5) % len(faults)] if nth % 2 else chance.choice(faults)


def _job(chance: random.Random, what: str, jobs: int) -> int:
    return jobs if what == MAKES else chance.randrange(jobs + 1)


def _lasts(chance: random.Random, what: str) -> float:
    if what in (ASK, AGAIN, MAKES):
        return 0.0
    return round(chance.uniform(0.5, 4.0) * LONGER.get(what.split()[0], 1.0), 1)
