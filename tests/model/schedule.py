"""Schedules: drawn from a seed, shrunk where one breaks a promise, and written down to be played again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from tests.model.faults import RACES, READS, WRITES, Fault, Kind
from tests.model.promises import Violation
from tests.model.world import JOBS, SKEWS, Step, World

LEAST_STEPS, LEAST_OPERATIONS, LEAST_FAULTS = 40, 8, 3

HAPPENS = {
    "execute": 22,
    "sync": 16,
    "operator": 26,
    "flink": 8,
    "time": 9,
    "redeliver": 4,
    "waits": 1,
    "hand": 4,
    "again": 2,
    "forget": 1,
    "snapshots": 1,
    "restart": 1,
}
"""How often what happens, beside what is asked for."""

REGIMES = (
    {},
    {"sync": 0.15},  # nobody looks for long
    {"execute": 0.3, "redeliver": 0.3},  # workers are few
    {"flink": 3.0, "operator": 1.5},  # a bad day for Flink
    {"hand": 3.0, "restart": 3.0},
)
"""By how much a schedule's own times differ from that."""

RUNNING = (Step("ask", value=17), Step("execute"), *[Step("operator", value=1)] * 4, Step("sync"), Step("flink"))
SECOND_RUN = (
    *RUNNING,
    *(Step("ask", value=3), Step("execute"), Step("operator", value=1), Step("sync"), Step("execute")),
    *(Step("operator", value=1), Step("sync"), Step("ask", value=17), Step("execute")),
)
RELEASED = (*RUNNING, Step("ask", value=9), Step("execute"), Step("sync"), Step("ask", value=1))
UPGRADED = (
    *RUNNING,
    *(Step("ask", value=12), Step("execute"), *[Step("operator", value=1)] * 4, Step("sync"), Step("ask", value=111)),
)
BEGINNINGS = ((), (), SECOND_RUN, SECOND_RUN, RELEASED, UPGRADED)
"""Where schedules begin: a job that ran, was stopped with its state and submitted again from it; one that was released
and is to be adopted; one that was upgraded and is to be rolled back; or nothing yet."""

OF_A_WORKER = (
    *("create", "patch", "patch", "patch", "delete", "delete", "put_files", "add_savepoint", "add_savepoint"),
    *("create_snapshot", "delete_snapshot"),
)
CAN_STRIKE = ("ask", "again", "execute", "sync", "redeliver", "waits")


@dataclass(frozen=True)
class Broken:
    """A schedule that breaks a promise, and how."""

    seed: int
    steps: tuple[Step, ...]
    why: str


def drawn(seed: int) -> tuple[Step, ...]:
    """The schedule of this seed: at least so many steps, requests and faults as it says above."""
    rng = random.Random(seed)
    regime = rng.choice(REGIMES)
    weights = [often * regime.get(act, 1.0) for act, often in HAPPENS.items()]
    acts = rng.choices(list(HAPPENS), weights, k=LEAST_STEPS + rng.randrange(20))
    for place in sorted(rng.sample(range(len(acts)), LEAST_OPERATIONS + 2)):
        acts.insert(place, "ask")
    steps = [_step(rng, act) for act in ["ask", "execute", *acts]]
    struck = [number for number, step in enumerate(steps) if step.act in CAN_STRIKE]
    for number in rng.sample(struck, min(len(struck), LEAST_FAULTS + rng.randrange(4))):
        steps[number] = replace(steps[number], fault=_fault(rng, steps[number].act))
    return (*rng.choice(BEGINNINGS), *steps)


def _step(rng: random.Random, act: str) -> Step:
    jobs = [0, 0, 0, 0, 1, 1, 2, len(JOBS) - 1]
    return Step(act, rng.choice(jobs), rng.randrange(len(SKEWS)), rng.randrange(420))


def _fault(rng: random.Random, act: str) -> Fault:
    calls = WRITES if rng.random() < 0.8 else READS
    method = rng.choice([name for names in calls.values() for name in names])
    nth = rng.choice([0, 0, 0, 1, 2])
    if act == "execute" and rng.random() < 0.6:
        method, nth = rng.choice(OF_A_WORKER), 0  # what a worker alone does, and only now and then
    kinds = [kind for kind in Kind if kind is not Kind.LOSES or method in RACES]
    return Fault(method, rng.choice(kinds), nth, rng.randrange(1, 9))


def broken_by(steps: Sequence[Step], struck: Counter[tuple[str, Kind]] | None = None) -> str | None:
    """What promise the schedule breaks; None where it keeps them all."""
    try:
        World(struck).play(steps)
    except Violation as violation:
        return str(violation)
    return None


def shrunk(broken: Broken, is_broken: Callable[[Sequence[Step]], str | None] = broken_by) -> Broken:
    """A schedule that still breaks a promise, with no step or fault that it could do without."""
    steps, why = list(broken.steps), broken.why
    size = max(len(steps) // 2, 1)
    while size:
        start, found = 0, False
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            said = is_broken(fewer)
            if said is None:
                start += size
            else:
                steps, why, found = fewer, said, True
        size = size if found and size == 1 else size // 2
    for number, step in enumerate(steps):
        calm = [*steps[:number], replace(step, fault=None), *steps[number + 1 :]]
        if step.fault is not None and (said := is_broken(calm)) is not None:
            steps, why = calm, said
    return Broken(broken.seed, tuple(steps), why)


def written(steps: Sequence[Step]) -> str:
    """The schedule as JSON, a step a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(asdict(step))}" for step in steps) + "\n]"


def read(text: str) -> tuple[Step, ...]:
    """The schedule that `written` wrote."""

    def fault(fields: dict[str, object] | None) -> Fault | None:
        return Fault(**{**fields, "kind": Kind(fields["kind"])}) if fields else None  # type: ignore[arg-type]

    return tuple(Step(**{**fields, "fault": fault(fields["fault"])}) for fields in json.loads(text))
