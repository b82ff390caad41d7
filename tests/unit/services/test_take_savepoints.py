"""Savepoints that are taken by themselves: which operations stand in the log, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.savepoint_settings import slot_of
from headrace.errors import ConfigurationError, InvalidRequest
from headrace.services.take_savepoints import TakeSavepoints
from headrace.settings import Settings
from tests.support.world import World

KEY = JobKey("default", "orders")


def runs(world: World, **savepoints: Any) -> None:
    world.runs(job_config={"savepoints": {"every_minutes": 60, **savepoints}})
    world.settle()


def begins_a_slot(world: World, minutes_in: int = 0) -> None:
    """The clock is at so many minutes of the job's next slot."""
    minutes = slot_of(KEY, 60, world.clock.now())[1]
    world.clock.advance((60 - minutes + minutes_in) * 60)


def saved(world: World) -> list[Operation]:
    return [each for each in world.store.operations_of(KEY) if each.kind is KindName.SAVEPOINT]


def test_a_savepoint_is_asked_for_once_a_slot_however_often_it_is_looked(world: World) -> None:
    runs(world)
    begins_a_slot(world)
    for _ in range(3):
        world.services.take_savepoints.run()
        world.clock.advance(60)
    [operation] = saved(world)
    assert operation.source.via == "schedule"
    assert operation.source.detail["why"] == "its state is kept every 60 minutes"


def ends(world: World, operation: Operation) -> None:
    """The operator has taken it."""
    world.execute()
    path = f"s3://b/savepoint-{operation.sequence}"
    last = {"location": path, "triggerNonce": operation.sequence, "formatType": "CANONICAL"}
    world.becomes(job={"savepointInfo": {"lastSavepoint": last}})
    world.settle()


def test_the_next_slot_has_its_own_and_one_at_a_time_is_under_way(world: World) -> None:
    runs(world)
    begins_a_slot(world)
    world.services.take_savepoints.run()
    [first] = saved(world)
    begins_a_slot(world)
    world.services.take_savepoints.run()
    assert saved(world) == [first]  # it is open still: nothing piles up
    ends(world, first)
    assert world.operation(first).state is State.SUCCEEDED
    world.services.take_savepoints.run()
    assert [each.sequence for each in saved(world)] == [first.sequence, first.sequence + 1]


def test_one_that_has_ended_is_not_followed_by_another_in_its_slot(world: World) -> None:
    runs(world)
    begins_a_slot(world)
    world.services.take_savepoints.run()
    [first] = saved(world)
    ends(world, first)
    world.services.take_savepoints.run()
    assert saved(world) == [world.operation(first)]


def test_what_was_missed_is_not_made_up_for(world: World) -> None:
    runs(world)
    begins_a_slot(world, minutes_in=20)
    world.services.take_savepoints.run()
    assert saved(world) == []


def test_none_is_taken_in_a_blackout(world: World) -> None:
    runs(world, blackout=["00:00-23:59"])
    begins_a_slot(world)
    world.services.take_savepoints.run()
    assert saved(world) == []


def test_an_installations_setting_holds_for_a_job_that_says_nothing(world: World) -> None:
    world.runs()
    world.settle()
    services = every_hour(world)
    begins_a_slot(world)
    services.run()
    assert len(saved(world)) == 1


def every_hour(world: World, **settings: Any) -> TakeSavepoints:
    made = wired(
        Settings(savepoint_every_minutes=60, _env_file=None, **settings),
        store=world.store,
        queue=world.queue,
        runtime=world.runtime,
        job_manager=world.job_manager,
        clock=world.clock,
        sealer=None,
    )
    return made.take_savepoints


def test_a_job_that_wants_none_has_none_whatever_the_installation_says(world: World) -> None:
    world.runs(job_config={"savepoints": {"every_minutes": 0}})
    begins_a_slot(world)
    every_hour(world).run()
    assert saved(world) == []


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.RESTARTING, Phase.FAILED])
def test_only_a_job_that_runs_is_saved(world: World, phase: Phase) -> None:
    runs(world)
    document = world.store.document(KEY)
    assert document is not None
    world.store.write(document, document.entering(phase, world.clock.now()))
    begins_a_slot(world)
    world.services.take_savepoints.run()
    assert saved(world) == []


def test_a_crash_after_the_insert_leaves_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(world)
    begins_a_slot(world)
    insert = world.store.insert_operation

    def dies(operation: Operation) -> None:
        insert(operation)
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "insert_operation", dies)
        with pytest.raises(SystemExit):
            world.services.take_savepoints.run()
    world.clock.advance(61)  # its lease has run out
    world.services.take_savepoints.run()
    assert len(saved(world)) == 1


def test_a_blackout_that_is_no_time_is_named_at_the_start(world: World) -> None:
    with pytest.raises(ConfigurationError, match="HEADRACE_SAVEPOINT_BLACKOUT: '25:00-26:00' must be written as"):
        every_hour(world, savepoint_blackout="22:00-06:00 Europe/Berlin,25:00-26:00")


def test_a_request_with_no_such_time_is_refused_by_its_field(world: World) -> None:
    with pytest.raises(InvalidRequest) as refused:
        world.submit(job_config={"savepoints": {"every_minutes": 60, "blackout": ["at night"]}})
    assert any("blackout" in field for field in refused.value.problems)


def test_settings_that_only_a_later_release_reads_hold_up_no_other_job(world: World) -> None:
    world.runs("another", job_config={"savepoints": {"every_minutes": 60}})
    of_later = world.store.document(JobKey("default", "another"))
    assert of_later is not None
    submitted = {**of_later.job.submitted, "savepoints": {"every_minutes": "hourly"}}
    world.store.write(of_later, of_later.with_job(replace(of_later.job, submitted=submitted)))
    runs(world)
    begins_a_slot(world)
    troubles = world.services.take_savepoints.run().troubles
    assert [(key.job_id, "later release" in str(error)) for key, error in troubles] == [("another", True)]
    assert len(saved(world)) == 1
