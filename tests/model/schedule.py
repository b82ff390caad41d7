"""Schedules: drawn from a seed, shrunk where one breaks a promise, and written down to be played again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from tests.model.faults import ANY_REQUEST, RACES, READS, WRITES, Fault, Kind
from tests.model.promises import Violation
from tests.model.world import JOBS, SKEWS, Step, World, as_scale, with_adaptive

LEAST_STEPS, LEAST_OPERATIONS, LEAST_FAULTS = 40, 8, 3

IN_ACTS = 6
"""Faults beside those, at the requests of native mode."""

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
    "launcher": 1,
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
NATIVE_RUN = (
    *(Step("ask", value=47), Step("execute"), Step("execute")),
    *[Step("operator", value=1)] * 3,
    Step("sync"),
    Step("flink"),
)
NATIVE_SECOND_RUN = (
    *NATIVE_RUN,
    *(Step("ask", value=3), Step("execute"), Step("operator", value=1), Step("execute"), Step("operator", value=1)),
    *(Step("execute"), Step("execute"), Step("execute"), Step("ask", value=47), Step("execute")),
)
SUBMITS = (Step("ask", value=17), Step("ask", value=47))

BEGINNINGS = ((), (), SECOND_RUN, SECOND_RUN, RELEASED, UPGRADED, NATIVE_RUN, NATIVE_RUN, NATIVE_SECOND_RUN)
"""Where schedules begin: a job that ran, was stopped with its state and submitted again from it; one that was released
and is to be adopted; one that was upgraded and is to be rolled back; a native one that runs,
or was stopped and submitted again; or nothing yet."""

SCALED_IN_PLACE = (
    *(Step("ask", value=77), Step("execute"), *[Step("operator", value=1)] * 4, Step("sync"), Step("flink")),
    *(Step("ask", value=45), Step("execute"), *[Step("operator", value=1)] * 3, Step("sync"), Step("execute")),
    Step("ask", value=15),
)
"""A job of the adaptive scheduler that was scaled in place, and is to be again."""

OFTEN_ADAPTIVE = 3
"""Of so many seeds one begins with what the adaptive scheduler runs, whatever it would begin with."""

TELLS = "PUT resource-requirements"
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
    beginning = rng.choice(BEGINNINGS)
    working = [number for number, step in enumerate(steps) if step.act == "execute" and step.fault is None]
    for number in rng.sample(working, min(len(working), IN_ACTS)):
        steps[number] = replace(steps[number], fault=_in_an_act(rng))
    return (*beginning, *steps) if seed % OFTEN_ADAPTIVE else _adaptive(seed, beginning, steps)


def _adaptive(seed: int, beginning: Sequence[Step], steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same with the adaptive scheduler in what is submitted at the beginning, and with more SCALEs later on. Half
    of them, and those that begin with nothing, begin with a SCALE in place."""
    begins = [replace(step, value=with_adaptive(step.value)) if step in SUBMITS else step for step in beginning]
    more = [_as_scaling(step) for step in steps]
    return (*(_native_scaled_in_place(seed) if seed % 2 else begins or SCALED_IN_PLACE), *more)


def _native_scaled_in_place(seed: int) -> Sequence[Step]:
    """The same of a native job, where the worker that tells the JobManager is struck, and another one is at work."""
    kinds = [Kind.FREEZES, *(kind for kind in Kind if kind is not Kind.LOSES)]
    struck = Fault(TELLS, kinds[seed // 6 % len(kinds)], 0, 2 + seed // 36 % 12)
    by_another = Step("execute", who=1)
    return (
        *(Step("ask", value=107), Step("execute"), Step("execute"), *[Step("operator", value=1)] * 3, Step("sync")),
        *(Step("flink"), Step("ask", value=45), Step("execute"), Step("execute", fault=struck), by_another, by_another),
        *(Step("operator", value=1), Step("sync"), by_another, Step("ask", value=15), by_another, by_another),
        *(Step("operator", value=1), Step("sync"), by_another),
    )


def _as_scaling(step: Step) -> Step:
    """Half of what is asked for is a SCALE, and half of what strikes an act strikes the one that tells a JobManager."""
    if step.value % 2 == 0:
        return step
    if step.act == "ask":
        return replace(step, value=as_scale(step.value))
    is_in_an_act = step.fault is not None and step.fault.method == ANY_REQUEST
    return replace(step, fault=replace(step.fault, method=TELLS, nth=0)) if step.fault and is_in_an_act else step


def _step(rng: random.Random, act: str) -> Step:
    jobs = [0, 0, 0, 0, 1, 1, 2, len(JOBS) - 1]
    return Step(act, rng.choice(jobs), rng.randrange(len(SKEWS)), rng.randrange(420))


def _fault(rng: random.Random, act: str) -> Fault:
    calls = WRITES if rng.random() < 0.8 else READS
    method = rng.choice([name for port, names in calls.items() if port != "native" for name in names])
    nth = rng.choice([0, 0, 0, 1, 2])
    if act == "execute" and rng.random() < 0.6:
        method, nth = rng.choice(OF_A_WORKER), 0  # what a worker alone does, and only now and then
    kinds = [kind for kind in Kind if kind is not Kind.LOSES or method in RACES]
    return Fault(method, rng.choice(kinds), nth, rng.randrange(1, 9))


def _in_an_act(rng: random.Random) -> Fault:
    """At any request of whatever a worker does with a native job; with another one's nothing is struck."""
    kinds = [kind for kind in Kind if kind is not Kind.LOSES]
    return Fault(ANY_REQUEST, rng.choice(kinds), rng.randrange(10), rng.randrange(1, 9))


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
