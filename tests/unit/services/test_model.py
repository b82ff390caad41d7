"""Some hundred drawn interleavings keep every promise, and code that is wrong on purpose is found out by them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.model.faults import Fault, Kind
from tests.model.mutants import MUTANTS, mutated
from tests.model.schedule import (
    LEAST_FAULTS,
    LEAST_OPERATIONS,
    LEAST_STEPS,
    Broken,
    broken_by,
    drawn,
    read,
    shrunk,
    written,
)
from tests.model.world import JOBS, Step, World

SCHEDULES, ENOUGH = 300, 2000
RARE = {"old-sight-written": 178, "unknown-state-taken-as-none": 42, "unseen-run-taken-as-none": 1159}
"""Seeds that catch what few do; where the drawing has changed since, the others are tried."""

KEPT = {
    "lease-by-own-clock": """[
      {"act": "ask", "job": 0, "who": 0, "value": 110, "fault": null},
      {"act": "execute", "job": 0, "who": 0, "value": 360, "fault": null},
      {"act": "sync", "job": 0, "who": 0, "value": 50,
       "fault": {"method": "add_transitions", "kind": "dies after", "nth": 0, "steps": 7}},
      {"act": "flink", "job": 1, "who": 0, "value": 68, "fault": null},
      {"act": "operator", "job": 0, "who": 1, "value": 119, "fault": null},
      {"act": "sync", "job": 0, "who": 1, "value": 130, "fault": null}
    ]""",
    "late-parallelism-stands": """[
      {"act": "ask", "job": 0, "who": 0, "value": 107, "fault": null},
      {"act": "execute", "job": 0, "who": 0, "value": 0, "fault": null},
      {"act": "execute", "job": 0, "who": 0, "value": 0, "fault": null},
      {"act": "operator", "job": 0, "who": 0, "value": 1, "fault": null},
      {"act": "operator", "job": 0, "who": 0, "value": 1, "fault": null},
      {"act": "operator", "job": 0, "who": 0, "value": 1, "fault": null},
      {"act": "sync", "job": 0, "who": 0, "value": 0, "fault": null},
      {"act": "ask", "job": 0, "who": 0, "value": 45, "fault": null},
      {"act": "execute", "job": 0, "who": 0, "value": 0, "fault": null},
      {"act": "execute", "job": 0, "who": 0, "value": 0,
       "fault": {"method": "PUT resource-requirements", "kind": "freezes before", "nth": 0, "steps": 13}},
      {"act": "execute", "job": 0, "who": 1, "value": 0, "fault": null},
      {"act": "operator", "job": 0, "who": 0, "value": 1, "fault": null},
      {"act": "ask", "job": 0, "who": 0, "value": 15, "fault": null},
      {"act": "execute", "job": 0, "who": 1, "value": 0, "fault": null},
      {"act": "execute", "job": 0, "who": 1, "value": 0, "fault": null}
    ]""",
}
"""Schedules that catch what hardly any drawn one does, as they were shrunk."""


def first_broken(mutant: str | None, most: int) -> Broken | None:
    with mutated(mutant):
        if mutant in KEPT and (why := broken_by(steps := read(KEPT[mutant]))) is not None:
            return Broken(-1, steps, why)
        for seed in [RARE.get(mutant or "", 0), *range(most)]:
            steps = drawn(seed)
            why = broken_by(steps)
            if why is not None:
                return Broken(seed, steps, why)
    return None


@pytest.mark.parametrize("start", range(0, SCHEDULES, 100))
def test_whatever_happens_every_promise_is_kept(start: int) -> None:
    for seed in range(start, start + 100):
        why = broken_by(drawn(seed))
        assert why is None, f"seed {seed}: {why}; ./run faults --model --seed {seed} --schedules 1 shrinks it"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_code_that_is_wrong_is_caught(mutant: str) -> None:
    assert first_broken(mutant, ENOUGH) is not None


def test_a_schedule_is_as_rich_as_it_says() -> None:
    for seed in range(50):
        steps = drawn(seed)
        assert len(steps) >= LEAST_STEPS
        assert sum(step.act == "ask" for step in steps) >= LEAST_OPERATIONS
        assert sum(step.fault is not None for step in steps) >= LEAST_FAULTS
        assert len({step.job for step in steps}) >= 3
    assert len(JOBS) >= 3


def test_a_seed_gives_the_same_world_twice() -> None:
    def ends(seed: int) -> list[tuple[str, str, str]]:
        world = World()
        world.play(drawn(seed))
        return [(o.id, o.state, o.reason) for o in world.store._operations.values()]

    assert [ends(seed) for seed in range(20)] == [ends(seed) for seed in range(20)]


def test_what_breaks_a_promise_is_shrunk_and_can_be_played_again() -> None:
    with mutated("old-sight-written"):
        broken = first_broken("old-sight-written", ENOUGH)
        assert broken is not None
        small = shrunk(broken)
        assert len(small.steps) < len(broken.steps) / 2
        assert broken_by(read(written(small.steps))) == small.why


def test_each_fault_strikes_where_it_is_aimed() -> None:
    struck: Counter[tuple[str, Kind]] = Counter()
    steps = [
        Step("ask"),
        Step("execute", fault=Fault("create", Kind.DIES_AFTER)),
        Step("execute", fault=Fault("write", Kind.LOSES)),
        Step("operator"),
        Step("sync", fault=Fault("write_all", Kind.FREEZES, steps=2)),
        Step("operator"),
        Step("operator"),
        Step("execute"),
    ]
    assert broken_by(steps, struck) is None
    assert struck == {("create", Kind.DIES_AFTER): 1, ("write", Kind.LOSES): 1, ("write_all", Kind.FREEZES): 1}
