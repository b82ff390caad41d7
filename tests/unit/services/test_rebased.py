"""What becomes of a decision whose write lost to sights alone: it is put on the newer document."""

from __future__ import annotations

from dataclasses import replace

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import State, Step
from headrace.services.records import rebased
from tests.support.world import World

PATH = "s3://b/chk-9"


def test_a_sight_from_before_makes_nothing_newer_of_the_state_that_was_left(world: World) -> None:
    """A job that crash-loops is seen RESTARTING, and that is written once its suspend was seen to have ended it: the
    next run begins from what it left."""
    world.runs()
    world.stop()
    world.execute()
    before = world.services.records.read(JobKey("default", "orders"))
    assert before is not None
    operation = before.oldest
    assert operation is not None
    known = replace(before.job, state_path=PATH, savepoint_path=PATH, ran_since_state=False)
    before = before.with_job(known)
    newer = before.with_job(replace(known, ran_since_state=True))
    deleting = before.with_operation(operation.moved(Step.DELETE, world.clock.now()))
    assert not rebased(before, deleting, newer).job.ran_since_state
    waiting = before.with_operation(replace(operation, reason="waiting"))
    assert rebased(before, waiting, newer).job.ran_since_state


def test_an_end_takes_the_phase_of_its_operation_away_that_a_sight_has_entered_meanwhile(world: World) -> None:
    """No event may come after it: a SCALE in place ends by its JobManager's word."""
    world.runs()
    scale = world.scale(2)
    world.execute()
    written = world.store.document(JobKey("default", "orders"))
    assert written is not None
    before = replace(written, job=replace(written.job, phase=Phase.RUNNING))
    open_one = before.operation(scale.id)
    assert open_one is not None
    ended = open_one.ended(State.SUCCEEDED, "in place: the job runs at 2", world.clock.now())
    after = before.with_operation(ended)
    newer = replace(before, job=replace(before.job, phase=Phase.SCALING))
    assert rebased(before, after, newer).job.phase is Phase.RUNNING
