"""A worker that froze in the middle of a step, and goes on with what it had read, changes no newer record.

It is played by the step itself, called with a job and an operation as they were read long ago.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import Operation, State
from headrace.errors import LostRace
from tests.unit.conftest import World


def late(step: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(LostRace):
        step(*arguments)


def test_a_run_that_was_begun_is_not_begun_again(world: World) -> None:
    operation = world.submit()
    read = world.job(), world.operation(operation)
    world.execute()
    world.becomes()
    world.settle()
    before, phases = world.job(), world.phases()
    late(world.services.execute._clear, *read)
    after = world.job()
    assert after.applied_manifest is not None
    assert (after.deployment_uid, after.applied_manifest) == (before.deployment_uid, before.applied_manifest)
    assert (after.run, after.phase) == (1, Phase.RUNNING)
    assert world.phases() == phases


def test_a_late_create_does_not_take_a_scale_off_the_record(world: World) -> None:
    operation = world.submit()
    world.services.execute._clear(world.job(), world.operation(operation))
    read = world.job(), world.operation(operation)
    world.execute()
    world.becomes()
    world.settle()
    world.scale(3)
    world.settle()
    late(world.services.execute._create, *read)
    applied = world.job().applied_manifest
    assert applied is not None
    assert applied["spec"]["job"]["parallelism"] == 3
    assert world.whole()["spec"]["job"]["parallelism"] == 3


def test_a_late_scale_leaves_the_newer_ones_record(world: World) -> None:
    world.runs()
    first = world.scale(2)
    world.settle()
    world.becomes()
    world.settle()
    assert world.operation(first).state is State.SUCCEEDED
    world.scale(4)
    world.settle()
    remember = world.services.execute._remember  # what it would do first after its patch
    late(partial(remember, first, applied_manifest={}, applied_sequence=first.sequence))
    job = world.job()
    assert job.applied_manifest is not None
    assert job.applied_manifest["spec"]["job"]["parallelism"] == 4
    assert job.applied_sequence == 3


def test_a_late_stop_ends_no_run_that_came_after_it(world: World) -> None:
    world.runs()
    stop = world.stop()
    world.execute()
    world.is_suspended("s3://b/savepoint-1")
    world.sync()
    read: tuple[Any, Operation] = world.job(), world.operation(stop)
    world.settle()
    world.settle()
    assert world.job().phase is Phase.CANCELLED
    world.runs(start_from="last")
    late(world.services.execute._delete, *read)
    job = world.job()
    assert (job.run, job.phase) == (2, Phase.RUNNING)
    assert world.runtime.get("default", "orders") is not None
    assert world.store.open_operations_of(JobKey("default", "orders")) == []
