"""A job moves to another cluster with its state, in two operations: docs/moving-a-job.md."""

from __future__ import annotations

import pytest

from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, State
from headrace.errors import Conflict
from headrace.settings import Settings
from headrace.testing import InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support.world import World

PATH = "s3://b/savepoints/savepoint-1a2b3c-9"


def installed_elsewhere(world: World, store: InMemoryStore) -> World:
    """Another installation, with a cluster of its own."""
    runtime, queue, manager = InMemoryRuntime(), InMemoryQueue(), InMemoryJobManager()
    services = wired(
        Settings(cluster="elsewhere", _env_file=None),
        store=store,
        queue=queue,
        runtime=runtime,
        job_manager=manager,
        clock=world.clock,
        sealer=None,
    )
    return World(services, store, runtime, queue, manager, world.clock)


def stopped(world: World) -> None:
    """STOP has kept the state, and nothing runs any more."""
    world.runs()
    stop = world.stop()
    world.execute()
    world.is_suspended(PATH)
    world.settle()
    world.execute()
    world.settle()
    assert (world.operation(stop).state, world.operation(stop).savepoint_path) == (State.SUCCEEDED, PATH)
    assert world.runtime.get("default", "orders") is None


@pytest.mark.parametrize("shares_records", [True, False], ids=["one database", "a database of its own"])
def test_it_goes_on_there_from_what_was_kept_here(world: World, shares_records: bool) -> None:
    there = installed_elsewhere(world, world.store if shares_records else InMemoryStore())
    stopped(world)
    name = "orders-moved" if shares_records else "orders"  # one database has a name once
    there.runs(name, start_from=PATH)
    manifest = there.whole(name)
    assert manifest["spec"]["job"]["initialSavepointPath"] == PATH
    assert there.job(name).phase is Phase.RUNNING
    assert world.runtime.get("default", "orders") is None
    assert (world.job().phase, world.job().savepoint_path) == (Phase.CANCELLED, PATH)


def test_what_it_goes_on_from_there_is_not_disposed_of_here(world: World) -> None:
    there = installed_elsewhere(world, world.store)
    stopped(world)
    there.runs("orders-moved", start_from=PATH)
    world.runs(start_from="last")
    with pytest.raises(Conflict, match="has started from it"):
        world.services.dispose.ask("default", PATH)


def test_another_clusters_job_of_that_name_is_not_begun_twice_in_one_database(world: World) -> None:
    there = installed_elsewhere(world, world.store)
    world.runs()
    with pytest.raises(Conflict):
        there.accept(KindName.SUBMIT, "orders", job_config={"script": {"name": "j.py", "content": ""}})
    assert world.store.document(JobKey("default", "orders")) is not None
    assert there.runtime.get("default", "orders") is None
