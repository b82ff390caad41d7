"""What a run that has ended left in the cluster goes after its time: what it said and its state are on record first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, State
from headrace.errors import Conflict, MissingRight, Refused, Unavailable
from tests.support.world import World

KEY = JobKey("default", "orders")
A_WEEK = timedelta(days=7).total_seconds()
LOG = "the batch is done"


def ended(world: World, state: str = "FINISHED", **fields: object) -> None:
    """A job whose run has ended, and whose JobManager is still there."""
    world.runs(**fields)
    world.becomes(job={"state": state})
    world.settle()
    world.shows_pod({"running": {"startedAt": "2026-05-01T12:00:00Z"}})
    world.runtime.print_line("orders-jm", "flink-main-container", LOG, at=world.clock.now())


def prunes(world: World) -> None:
    world.services.prune.run()
    world.settle()


def test_what_a_finished_run_left_goes_after_its_time_and_not_before(world: World) -> None:
    ended(world)
    world.clock.advance(A_WEEK - 60)
    prunes(world)
    assert world.runtime.get("default", "orders") is not None
    world.clock.advance(120)
    prunes(world)
    assert world.runtime.get("default", "orders") is None
    job = world.job()
    assert (job.phase, job.kept_log.strip()) == (Phase.FINISHED, LOG)


def test_a_job_says_how_long_what_it_leaves_is_kept(world: World) -> None:
    ended(world, job_config={"ended_run_kept_hours": 1.0})
    world.clock.advance(3700)
    prunes(world)
    assert world.runtime.get("default", "orders") is None


def test_one_that_wants_to_be_kept_longer_is(world: World) -> None:
    ended(world, job_config={"ended_run_kept_hours": 1000.0})
    world.clock.advance(A_WEEK + 60)
    prunes(world)
    assert world.runtime.get("default", "orders") is not None


def test_it_is_a_stop_in_the_log_that_says_why(world: World) -> None:
    ended(world)
    world.clock.advance(A_WEEK + 60)
    prunes(world)
    stop = world.store.operations_of(KEY)[-1]
    assert (stop.kind, stop.state, stop.source.via) == (KindName.STOP, State.SUCCEEDED, "schedule")
    assert stop.source.detail["why"] == "run 1 has ended, and was kept for its time"


def test_nothing_goes_while_its_log_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(world)
    world.clock.advance(A_WEEK + 60)

    def away(*_: object, **__: object) -> None:
        raise Unavailable("the kubelet does not answer")

    monkeypatch.setattr(world.runtime, "logs", away)
    pruned = world.services.prune.run()
    assert [key for key, _ in pruned.troubles] == [KEY]
    world.settle()
    assert world.runtime.get("default", "orders") is not None
    monkeypatch.undo()
    prunes(world)
    assert (world.runtime.get("default", "orders"), world.job().kept_log.strip()) == (None, LOG)


FORBIDDEN = 'pods "orders-1" is forbidden: User "a" cannot get resource "pods/log"'


@pytest.mark.parametrize(
    ("error", "goes"), [(Refused("container main is waiting to start"), True), (MissingRight(FORBIDDEN), False)]
)
def test_a_container_that_never_started_holds_nothing_up_and_a_right_that_is_missing_does(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Refused, goes: bool
) -> None:
    ended(world)
    world.clock.advance(A_WEEK + 60)

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(world.runtime, "logs", refuse)
    world.services.prune.run()
    world.settle()
    assert (world.runtime.get("default", "orders") is None) is goes


def test_a_failed_run_keeps_its_state_on_record(world: World) -> None:
    world.job_manager.checkpoint = "s3://b/chk-7"
    ended(world, "FAILED")
    assert world.job().phase is Phase.FAILED
    world.clock.advance(A_WEEK + 60)
    for _ in range(3):
        prunes(world)
        if world.runtime.get("default", "orders") is not None and world.whole()["spec"]["job"]["state"] == "suspended":
            world.is_suspended(None)
    assert world.runtime.get("default", "orders") is None
    assert (world.job().phase, world.job().savepoint_path) == (Phase.FAILED, "s3://b/chk-7")


def test_a_run_that_goes_on_by_the_time_it_would_be_cleared_is_left_alone(world: World) -> None:
    ended(world, "FAILED")
    world.clock.advance(A_WEEK + 60)
    world.services.prune.run()
    world.becomes()
    world.settle()
    assert world.job().phase is Phase.RUNNING
    assert world.whole()["spec"]["job"]["state"] == "running"
    stop = world.store.operations_of(KEY)[-1]
    assert (stop.state, stop.reason) == (State.FAILED, "job orders goes on: Flink says RUNNING")


def test_a_job_of_which_something_is_asked_is_left_alone(world: World) -> None:
    ended(world)
    world.clock.advance(A_WEEK + 60)
    world.submit()
    assert not world.services.prune.run().cleared
    world.settle()
    assert world.job().run == 2


def test_what_could_not_be_cleared_is_asked_for_once_a_run(world: World) -> None:
    ended(world, "FAILED")
    world.clock.advance(A_WEEK + 60)
    world.services.prune.run()
    world.becomes()
    world.settle()
    world.becomes(job={"state": "FAILED"})
    world.settle()
    world.clock.advance(A_WEEK + 60)
    assert not world.services.prune.run().cleared


def test_by_hand_it_is_refused_of_a_job_that_runs(world: World) -> None:
    world.runs()
    with pytest.raises(Conflict, match="no run has ended and left something, it is RUNNING"):
        world.stop(only_remains=True)


def test_one_whose_jobmanager_the_operator_does_not_reach_is_not_ended(world: World) -> None:
    ended(world, "FAILED")
    stop = world.stop(only_remains=True)
    world.becomes(job={"state": "RECONCILING"}, jobManagerDeploymentStatus="DEPLOYING")
    world.execute()
    assert "goes on: Flink says RECONCILING" in world.operation(stop).reason
    assert world.whole()["spec"]["job"]["state"] == "running"
