"""A right that our account lacks is nobody's request's fault: every kind of operation waits for it, says so, does
nothing by half, and ends as it would have once the right is there; or by its deadline, in words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from headrace.domain.jobs import JobKey
from headrace.domain.operations import Operation, State
from headrace.errors import MissingRight, TransientError
from tests.support.world import World
from tests.unit.services.test_crash_windows import CASES, again_and_again, operator_runs, outcome_of, world_behind

CALLS = ("get_whole", "create", "patch", "delete", "put_files", "create_snapshot")
"""What a worker alone asks of the cluster, but for what an operation can do without."""

KEY = JobKey("default", "orders")


class Account:
    """A port whose calls go through, but for those that the account may not make; it counts them all."""

    def __init__(self, port: Any, lacks: set[str], asked: list[str]) -> None:
        self._port = port
        self._lacks = lacks
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._guarded(name, found) if name in CALLS else found

    def _guarded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self._asked.append(name)
            if name in self._lacks:
                raise MissingRight(f'x is forbidden: User "headrace-worker" cannot {name}')
            return call(*args, **kwargs)

        return guarded


def world_before(case: str, lacks: set[str], asked: list[str]) -> World:
    """As it is when the last operation of the case is asked for."""
    world = world_behind(lambda port: Account(port, lacks, asked))
    for request in CASES[case][0]:
        request(world)
        again_and_again(world, operator_runs(world))
    return world


def calls_of(case: str) -> tuple[set[str], dict[str, Any]]:
    """What the cluster is asked by its last operation, and how it ends."""
    asked: list[str] = []
    world = world_before(case, set(), asked)
    CASES[case][1](world)
    asked.clear()
    again_and_again(world, operator_runs(world))
    return set(asked), outcome_of(world)


def executes(world: World, rounds: int, every_seconds: float = 11) -> None:
    """Looks as redelivery makes workers do."""
    for _ in range(rounds):
        with suppress(TransientError):
            world.execute()
        world.sync()
        operator_runs(world)()
        world.sync()
        world.clock.advance(every_seconds)


def last(world: World) -> Operation:
    world.services.records.place(KEY)
    return world.operation(world.store.operations_of(KEY)[-1])


@pytest.mark.parametrize("case", CASES)
def test_it_is_waited_for_and_the_operation_ends_as_it_would_have(case: str) -> None:
    calls, expected = calls_of(case)
    for call in calls:
        lacks: set[str] = set()
        world = world_before(case, lacks, [])
        CASES[case][1](world)
        lacks.add(call)
        executes(world, 6)
        waiting = last(world)
        assert waiting.is_open, (call, waiting)
        assert f"cannot {call}" in waiting.reason, (call, waiting)
        assert "a Role and a RoleBinding" in waiting.reason
        lacks.clear()
        executes(world, 2)
        again_and_again(world, operator_runs(world))
        assert outcome_of(world) == expected, call


@pytest.mark.parametrize("case", CASES)
def test_one_that_does_not_come_ends_the_operation_by_its_deadline(case: str) -> None:
    """But for one without which nothing is seen: then no time is spent, as with a cluster that is away."""
    for call in calls_of(case)[0] - {"get_whole"}:
        lacks: set[str] = set()
        world = world_before(case, lacks, [])
        CASES[case][1](world)
        lacks.add(call)
        executes(world, 20, every_seconds=61)
        ended = last(world)
        assert ended.state is State.FAILED, (call, ended)
        assert f"cannot {call}" in ended.reason, (call, ended)
