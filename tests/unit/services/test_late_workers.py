"""A worker that froze in the middle of a step, and goes on with what it had read, changes nothing that is newer.

It is played through Execute, with a port that holds one call back while others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.manifest import render
from headrace.domain.operations import KindName, State
from headrace.domain.runtimes.operator import changed
from tests.support.world import World

SAVEPOINT = "s3://b/savepoint-1"
Meanwhile = Callable[[], None]


def frozen(port: Any, call: str, meanwhile: Meanwhile) -> None:
    """Makes the next `call` of this port wait until all that happens `meanwhile` is done."""
    real = getattr(port, call)

    def held_back(*args: Any, **kwargs: Any) -> Any:
        setattr(port, call, real)
        meanwhile()
        return real(*args, **kwargs)

    setattr(port, call, held_back)


def comes_to_run(world: World) -> None:
    world.execute()
    world.becomes()
    world.settle()


@pytest.mark.parametrize("call", ["create", "put_files"])
def test_a_run_that_was_begun_is_not_begun_again(world: World, call: str) -> None:
    operation = world.submit()
    frozen(world.runtime, call, lambda: comes_to_run(world))
    world.execute()
    world.settle()
    job = world.job()
    assert (job.run, job.phase) == (1, Phase.RUNNING)
    assert world.runtime.created == 1
    assert job.applied_manifest is not None
    assert world.operation(operation).state is State.SUCCEEDED


def test_a_late_create_does_not_take_a_scale_off_the_record(world: World) -> None:
    world.submit()

    def meanwhile() -> None:
        comes_to_run(world)
        world.scale(3)
        comes_to_run(world)

    frozen(world.runtime, "create", meanwhile)
    world.execute()
    world.settle()
    applied = world.job().applied_manifest
    assert applied is not None
    assert applied["spec"]["job"]["parallelism"] == 3
    assert world.whole()["spec"]["job"]["parallelism"] == 3


def test_a_late_scale_changes_nothing_of_a_newer_one(world: World) -> None:
    world.runs()
    first = world.scale(2)

    def meanwhile() -> None:
        comes_to_run(world)
        world.scale(4)
        comes_to_run(world)

    frozen(world.runtime, "patch", meanwhile)
    world.execute()
    world.becomes()
    world.settle()
    assert world.operation(first).state is State.SUCCEEDED
    assert world.whole()["spec"]["job"]["parallelism"] == 4
    assert world.sequence() == 3
    assert world.job().request["parallelism"] == 4


def test_a_late_stop_ends_no_run_that_came_after_it(world: World) -> None:
    world.runs()
    world.stop()
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.sync()

    def meanwhile() -> None:
        world.settle()
        world.settle()
        world.runs(start_from="last")

    frozen(world.runtime, "delete", meanwhile)
    world.execute()
    world.settle()
    job = world.job()
    assert (job.run, job.phase) == (2, Phase.RUNNING)
    assert world.runtime.get("default", "orders") is not None
    operations = world.services.records.operations_of(JobKey("default", "orders"))
    assert [each.state for each in operations] == [State.SUCCEEDED] * 3


def test_a_scale_that_was_superseded_while_its_worker_froze_is_never_written(world: World) -> None:
    world.runs()
    scale = world.scale(7)

    def meanwhile() -> None:
        world.stop()
        world.execute()
        world.is_suspended(SAVEPOINT)
        world.settle()
        world.runs(start_from="last")

    frozen(world.runtime, "patch", meanwhile)
    world.execute()
    world.settle()
    assert world.operation(scale).state is State.SUPERSEDED
    assert world.whole()["spec"]["job"]["parallelism"] == 1
    assert world.job().phase is Phase.RUNNING


def test_two_releases_that_render_otherwise_write_an_upgrade_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first of them has recorded is what both write."""
    world.runs()
    before = world.whole()["metadata"]["generation"]
    operation = world.accept(KindName.UPGRADE, "orders", job_config={"parallelism": 3})

    real = world.runtime.patch

    def of_the_former(*its: Any) -> Any:
        """Held back until the later one is about to write too, and then the first of them."""

        def of_the_later(*late: Any) -> Any:
            real(*its)
            return real(*late)

        monkeypatch.setattr(world.runtime, "patch", of_the_later)
        with monkeypatch.context() as patched:
            patched.setattr(changed, "render", of_a_later_release)
            world.execute()
        monkeypatch.setattr(world.runtime, "patch", real)
        return real(*its)

    monkeypatch.setattr(world.runtime, "patch", of_the_former)
    world.execute()
    world.becomes(job={"startTime": "1795448899999"})
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.whole()["metadata"]["generation"] == before + 1
    assert world.whole()["spec"]["job"]["parallelism"] == 3


def of_a_later_release(*arguments: Any) -> dict[str, Any]:
    """What a release renders that has one more default."""
    manifest = render(*arguments)
    configuration = {**manifest["spec"]["flinkConfiguration"], "a.default": "of later"}
    return {**manifest, "spec": {**manifest["spec"], "flinkConfiguration": configuration}}
