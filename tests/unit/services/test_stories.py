"""Interleavings, crashes and silences that once lost state or said what was not so, each by the promise that holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from headrace.bootstrap import wired
from headrace.domain.jobs import Desired, JobKey, Observation, Phase
from headrace.domain.operations import Operation, State, Step
from headrace.domain.state_on_hand import CHECKPOINT_KEY, Checkpoints, ha_config_map
from headrace.errors import Conflict, Refused, Unavailable, Unreadable
from headrace.ports import WatchEvent
from headrace.settings import Settings
from headrace.testing import InMemoryQueue, ReversingSealer
from tests.support.world import World

CHECKPOINT = "s3://b/chk-100000"
SPARSE = Checkpoints(has_graph=False)
"""What a JobManager's REST says of a job whose TaskManagers are awaited: nothing, in the words of "there is none"."""

KEY = JobKey("default", "orders")
DAY = 86_400


class Crash(BaseException):
    """The process is gone."""


@contextmanager
def crashing(target: Any, method: str, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """A process that dies as it is about to make this call."""
    real = getattr(target, method)

    def die(*arguments: Any, **named: Any) -> Any:
        if when():
            raise Crash
        return real(*arguments, **named)

    setattr(target, method, die)
    try:
        yield
    except Crash:
        pass
    finally:
        setattr(target, method, real)


@contextmanager
def silent(target: Any, method: str) -> Iterator[None]:
    """A server that does not answer this call."""
    real = getattr(target, method)

    def refuse(*_: Any, **__: Any) -> None:
        raise Unavailable("it does not answer")

    setattr(target, method, refuse)
    try:
        yield
    finally:
        setattr(target, method, real)


def passes(world: World, seconds: int, step: int = 6, job_id: str = "orders") -> None:
    """Time in which workers, redelivery and sync live."""
    for _ in range(seconds // step):
        world.clock.advance(step)
        world.services.redeliver.run()
        world.execute(job_id)
        world.settle()


def live(world: World) -> dict[str, Any] | None:
    return world.runtime.get_whole("default", "orders")


def parallelism(world: World) -> int:
    found = world.whole()["spec"]["job"]["parallelism"]
    assert isinstance(found, int)
    return found


def another_process(world: World, **settings: Any) -> World:
    """Another process of the same installation, on the same servers."""
    queue = InMemoryQueue()
    services = wired(
        Settings(flink_allowed_hosts="files.example.com", _env_file=None, **settings),
        store=world.store,
        queue=queue,
        runtime=world.runtime,
        job_manager=world.job_manager,
        clock=world.clock,
        sealer=ReversingSealer(),
    )
    return replace(world, services=services, queue=queue)


def ended(world: World, operation: Operation) -> State:
    return world.operation(operation).state


def test_a_stop_while_taskmanagers_are_awaited_deletes_nothing_whose_state_is_not_on_record(world: World) -> None:
    world.runs()
    world.clock.advance(14 * DAY)
    world.job_manager.checkpoint = CHECKPOINT
    world.becomes(job={"state": "CREATED"}, lifecycleState="DEPLOYED")
    world.settle()
    world.job_manager.checkpoint = SPARSE
    stop = world.stop()
    passes(world, 60)
    assert live(world) is not None or CHECKPOINT in world.saved()
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED
    assert "force" in world.operation(stop).reason


def test_a_stop_of_a_run_from_an_old_savepoint_does_not_fall_back_to_it(world: World) -> None:
    world.runs(start_from="s3://b/savepoint-OLD")
    world.clock.advance(14 * DAY)
    world.becomes(job={"state": "CREATED"}, lifecycleState="DEPLOYED")
    world.settle()
    world.job_manager.checkpoint = SPARSE
    stop = world.stop()
    passes(world, 1800)
    assert world.operation(stop).savepoint_path is None
    assert live(world) is not None


def test_a_stop_keeps_the_savepoint_of_an_upgrade_that_found_no_room(world: World) -> None:
    world.runs()
    world.scale(50)
    world.execute()
    upgraded = {"state": "CREATED", "upgradeSavepointPath": "s3://b/savepoint-upgrade"}
    world.becomes(lifecycleState="DEPLOYED", job=upgraded)
    world.sync()
    world.job_manager.checkpoint = SPARSE
    stop = world.stop()
    passes(world, 60)
    assert live(world) is not None or world.operation(stop).savepoint_path == "s3://b/savepoint-upgrade"


@pytest.mark.parametrize("away_seconds", [600, 1200])
def test_a_worker_that_died_after_its_create_and_an_hour_later_a_stop(world: World, away_seconds: int) -> None:
    submit = world.submit()
    with crashing(world.store, "write", when=lambda: live(world) is not None):
        world.execute()
    assert live(world) is not None
    world.becomes()
    world.sync()
    world.job_manager.checkpoint = "s3://b/chk-42"
    world.clock.advance(away_seconds)
    stop = world.stop()
    world.execute()
    world.settle()
    if live(world) is not None:
        world.is_suspended("s3://b/savepoint-1")
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert not world.operation(submit).is_open
    assert world.operation(stop).savepoint_path == "s3://b/savepoint-1"
    assert world.job().savepoint_path == "s3://b/savepoint-1"


def test_a_deployment_that_runs_is_not_replaced_by_another_submit(world: World) -> None:
    submit = world.submit()
    with crashing(world.store, "write", when=lambda: live(world) is not None):
        world.execute()
    uid = world.whole()["metadata"]["uid"]
    world.becomes()
    world.sync()
    world.clock.advance(1000)
    passes(world, 30)
    assert ended(world, submit) is State.SUCCEEDED
    with pytest.raises(Conflict):
        world.submit()
    assert world.whole()["metadata"]["uid"] == uid
    assert world.job().phase is Phase.RUNNING


def test_a_refusal_of_the_store_after_the_create_loses_no_deployment(world: World) -> None:
    submit = world.submit()
    real, refusals = world.store.write, [1]

    def write(*arguments: Any) -> Any:
        if live(world) is not None and refusals:
            refusals.pop()
            raise Unavailable("operation was interrupted")
        return real(*arguments)

    world.store.write = write  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        world.execute()
    world.becomes()
    passes(world, 30)
    assert ended(world, submit) is State.SUCCEEDED
    assert world.job().deployment_uid == world.whole()["metadata"]["uid"]


def test_a_third_run_does_not_fall_back_to_the_state_of_the_first(world: World) -> None:
    world.runs()
    world.stop()
    world.execute()
    world.is_suspended("s3://b/savepoint-OLD")
    world.settle()
    world.runs(start_from="last")
    world.clock.advance(30 * DAY)
    world.becomes(job={"state": "FAILED"})
    world.settle()
    world.job_manager.checkpoint = Unavailable("connection reset")
    third = world.submit(start_from="last")
    world.execute()
    world.clock.advance(2)
    world.job_manager.checkpoint = SPARSE
    passes(world, 1800)
    path = (live(world) or {"spec": {"job": {}}})["spec"]["job"].get("initialSavepointPath")
    assert world.job().run == 2 or path != "s3://b/savepoint-OLD"
    assert ended(world, third) is State.FAILED
    assert live(world) is not None, "what may be newer stays where it is"


def test_a_run_that_failed_before_its_first_checkpoint_gives_the_state_that_it_began_from(world: World) -> None:
    world.runs(start_from="s3://b/savepoint-NAMED")
    world.becomes(job={"state": "FAILED"})
    world.settle()
    world.job_manager.checkpoint = Checkpoints(restored="s3://b/savepoint-NAMED")
    again = world.submit(start_from="last")
    passes(world, 30)
    assert world.operation(again).is_open
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == "s3://b/savepoint-NAMED"


def test_a_scale_that_was_written_and_not_recorded_is_taken_back_by_the_next(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    first = world.scale(8)
    with crashing(world.store, "write", when=lambda: parallelism(world) == 8):
        world.execute()
    assert parallelism(world) == 8
    second = world.scale(2)
    for _ in range(3):
        world.execute()
        world.becomes()
        world.settle()
    assert parallelism(world) == 2
    assert not world.operation(first).is_open
    assert ended(world, second) is State.SUCCEEDED
    assert world.job().parallelism == 2


def test_a_scale_to_what_the_record_says_wins_over_an_edit_by_hand(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    world.edit(lambda whole: whole["spec"]["job"].update(parallelism=4))
    world.becomes()
    world.settle()
    scale = world.scale(2)
    world.execute()
    world.becomes()
    world.settle()
    assert (parallelism(world), ended(world, scale)) == (2, State.SUCCEEDED)


def test_a_scale_of_a_job_that_was_suspended_by_hand_ends_in_words(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    world.edit(lambda whole: whole["spec"]["job"].update(state="suspended"))
    world.is_suspended("s3://b/by-hand")
    world.settle()
    with pytest.raises(Conflict, match="SUSPENDED"):
        world.scale(3)


def test_no_phase_is_missing_in_the_history_where_the_store_was_away_once(world: World) -> None:
    world.submit()
    world.execute()
    world.sync()
    world.becomes()
    with silent(world.store, "add_transitions"), suppress(Unavailable):
        world.sync()
    world.settle()
    world.clock.advance(300)
    world.settle()
    assert world.job().phase is Phase.RUNNING
    assert world.phases() == ["SUBMITTING", "RUNNING"]


def test_the_phase_goes_on_where_a_given_up_stop_was_the_last_that_was_heard(world: World) -> None:
    world.runs()
    restarting = {"jobManagerDeploymentStatus": "DEPLOYED_NOT_READY", "job": {"state": "RECONCILING"}}
    world.becomes(**restarting)
    world.settle()
    world.job_manager.checkpoint = Unavailable("no JobManager")
    stop = world.stop()
    world.execute()
    world.sync()
    assert world.job().phase is Phase.CANCELLING
    passes(world, 1800)
    assert ended(world, stop) is State.FAILED
    assert world.job().phase is Phase.RESTARTING


def test_a_savepoint_is_on_record_however_late_the_stop_goes_on(world: World) -> None:
    world.runs()
    stop = world.stop()
    world.execute()
    world.is_suspended("s3://b/savepoint-NEW")
    world.sync()
    for _ in range(100):
        world.clock.advance(10)
        world.sync()
    world.execute()
    world.settle()
    assert ended(world, stop) is State.SUCCEEDED
    assert world.job().savepoint_path == "s3://b/savepoint-NEW"
    assert "s3://b/savepoint-NEW" in world.saved()


def test_after_a_stop_that_failed_the_job_is_wanted_as_before(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RESTARTING"})
    world.settle()
    world.job_manager.checkpoint = Unavailable("no JobManager")
    stop = world.stop()
    passes(world, 1800)
    world.becomes()
    world.settle()
    assert ended(world, stop) is State.FAILED
    assert (world.job().phase, world.job().desired) == (Phase.RUNNING, Desired.RUNNING)


def test_a_stop_keeps_the_newest_checkpoint_and_not_that_of_its_beginning(world: World) -> None:
    world.runs()
    world.job_manager.checkpoint = "s3://b/chk-100"
    stop = world.stop()
    world.execute()
    world.sync()
    for number in range(50):
        world.job_manager.checkpoint = f"s3://b/chk-{101 + number}"
        world.becomes(observedGeneration=2, job={"state": "RUNNING"})
        passes(world, 12)
    world.is_suspended(None)
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert world.job().savepoint_path == "s3://b/chk-150"


def test_an_object_that_left_the_selection_is_not_gone(world: World) -> None:
    world.runs()
    found = world.runtime.get("default", "orders")
    assert found is not None
    world.edit(lambda whole: whole["metadata"]["labels"].pop("headrace.io/job"))
    world.services.sync._observe_all([("operator", WatchEvent("DELETED", found))], gap=False)
    for _ in range(10):
        world.clock.advance(60)
        world.settle()
    assert world.job().phase is Phase.RUNNING
    stop = world.stop()
    world.execute()
    world.is_suspended("s3://b/savepoint-1")
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED


def test_a_stop_that_is_withdrawn_does_not_take_back_an_older_scale(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    scale = world.scale(8)
    world.execute()
    world.becomes(lifecycleState="DEPLOYED")
    passes(world, 1800)
    assert ended(world, scale) is State.FAILED or parallelism(world) == 8
    world.becomes()
    world.settle()
    runs_at = parallelism(world)
    stop = world.stop()
    world.execute()
    generation = world.whole()["metadata"]["generation"]
    world.becomes(observedGeneration=generation - 1, error="x.UpgradeFailureException")
    passes(world, 120)
    assert ended(world, stop) is State.FAILED
    assert world.whole()["spec"]["job"]["state"] == "running"
    assert parallelism(world) == runs_at


def test_a_withdrawal_that_was_not_recorded_and_a_second_scale(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    scale = world.scale(8)
    world.execute()
    world.becomes(observedGeneration=1, error="x.UpgradeFailureException")
    with crashing(world.store, "write", when=lambda: parallelism(world) == 2):
        passes(world, 120)
    world.becomes()
    passes(world, 60)
    assert ended(world, scale) is State.FAILED
    second = world.scale(8)
    world.execute()
    world.becomes()
    world.settle()
    assert (ended(world, second), parallelism(world)) == (State.SUCCEEDED, 8)


def test_workers_that_were_away_for_a_night_fail_nothing(world: World) -> None:
    world.runs("b")
    submit, stop = world.submit("a"), world.stop("b")
    for _ in range(100):
        world.clock.advance(10)
        world.sync()
    world.services.redeliver.run()
    for key in set(world.queue.woken):
        world.services.execute.oldest_open_operation(key)
    assert world.operation(submit).is_open
    assert world.operation(stop).is_open


def test_a_job_whose_wake_up_was_lost_is_woken_though_hundreds_wait(world: World) -> None:
    for number in range(300):
        name = f"j{number}"
        world.submit(name)
        world.execute(name)
        world.scale(2, name)
    world.clock.advance(1)
    lost = world.submit("lost")
    woken: set[JobKey] = set()
    for _ in range(10):
        world.queue.woken.clear()  # workers took them, and nothing came of it
        world.clock.advance(10)
        world.services.redeliver.run()
        woken |= set(world.queue.woken)
    assert lost.key in woken


def test_two_installations_on_one_database_do_not_see_each_other(world: World) -> None:
    east, west = world, another_process(world, cluster="west")
    submit = east.submit()
    east.execute()
    east.becomes(lifecycleState="DEPLOYED", job={"state": "CREATED"})
    east.sync()
    for _ in range(20):
        world.clock.advance(10)
        west.services.redeliver.run()
    assert west.queue.woken == []
    assert east.operation(submit).is_open
    with pytest.raises(Conflict):
        west.stop()


def test_a_job_that_cannot_be_observed_holds_no_other_back(world: World) -> None:
    for name in ("a", "m", "z"):
        world.runs(name)
    with_trouble = world.runtime._objects["default", "m"]
    with_trouble["spec"]["job"]["parallelism"] = "two"
    with_trouble["status"] = {"jobStatus": 7, "observedGeneration": []}
    for name in ("a", "z"):
        world.becomes(name, job={"state": "FAILED"})
    told = []
    for _ in range(3):
        world.clock.advance(130)
        world.sync()
        told.append({key.job_id: trouble.error for key, trouble in world.services.sync.troubles.items()})
        world.settle()
    assert all(list(each) == ["m"] and isinstance(each["m"], Unreadable) for each in told)
    assert [world.job(name).phase for name in ("a", "z")] == [Phase.FAILED, Phase.FAILED]
    assert (world.job("m").phase, world.job("m").observation) == (Phase.RUNNING, Observation.STALE)
    assert "its FlinkDeployment cannot be read" in world.job("m").reason
    with_trouble["spec"]["job"]["parallelism"] = 2
    world.becomes("m")
    passes(world, 600, 60, "m")
    assert (world.job("m").observation, world.job("m").reason) == (Observation.FRESH, "")


def test_the_newest_phases_are_those_that_readers_get(world: World) -> None:
    world.runs()
    for _ in range(700):
        world.clock.advance(10)
        world.becomes(job={"state": "RESTARTING"})
        world.sync()
        world.clock.advance(5)
        world.becomes()
        world.sync()
    newest = max(each.at for each in world.services.records.transitions_of(KEY))
    assert (world.clock.now() - newest).total_seconds() < 60


def test_a_sync_that_froze_with_an_old_event_changes_nothing(world: World) -> None:
    world.runs()
    old = world.runtime.get("default", "orders")
    assert old is not None
    other = another_process(world)
    world.clock.advance(40)
    world.becomes(job={"state": "FAILED"})
    other.sync()
    assert world.job().phase is Phase.FAILED
    world.services.sync._observe_all([("operator", WatchEvent("MODIFIED", old))], gap=False)
    assert world.job().phase is Phase.FAILED


def test_a_finished_jobs_pods_can_be_removed(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "FINISHED"})
    world.settle()
    stop = world.stop()
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert live(world) is None
    assert world.job().phase is Phase.FINISHED


@pytest.mark.parametrize("suspended_by_hand", [True, False])
def test_a_job_that_ran_and_failed_while_nobody_looked_is_not_taken_for_one_that_never_ran(
    world: World, suspended_by_hand: bool
) -> None:
    world.submit()
    world.execute()
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes(job={"state": "FAILED"}, lifecycleState="FAILED")
    if suspended_by_hand:
        world.edit(lambda whole: whole["spec"]["job"].update(state="suspended"))
        world.is_suspended(None)
    stop = world.stop()
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED


def test_a_job_that_failed_before_it_ran_is_stopped_without_force(world: World) -> None:
    world.submit()
    world.execute()
    world.job_manager.checkpoint = Checkpoints(has_run=False)
    world.becomes(job={"state": "FAILED"}, lifecycleState="FAILED")
    stop = world.stop()
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert live(world) is None


def test_a_stop_beside_a_writer_of_ten_statuses_a_second_lands_at_its_first_tries(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runs()
    stop = world.stop()
    tries = 0

    def five_seconds() -> None:
        for n in range(50):
            world.clock.advance(0.1)
            world.becomes(taskManager={"replicas": n})
            world.sync()

    def slowly(look: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(*arguments: Any) -> Any:
            seen = look(*arguments)
            monkeypatch.undo()
            five_seconds()
            slow()
            return seen

        return slowed

    def slow() -> None:
        monkeypatch.setattr(world.runtime, "get_whole", slowly(world.runtime.get_whole))

    while world.whole()["spec"]["job"]["state"] == "running":
        tries += 1
        assert tries <= 3
        slow()
        world.execute()
        monkeypatch.undo()
    world.is_suspended("s3://b/savepoint-1")
    passes(world, 30)
    assert ended(world, stop) is State.SUCCEEDED
    assert world.job().savepoint_path == "s3://b/savepoint-1"


def test_a_dump_that_is_restored_under_a_running_job_ends_well(world: World) -> None:
    world.runs()
    dump = world.dump()
    world.scale(3)
    world.execute()
    world.becomes()
    world.settle()
    world.restore(dump)
    passes(world, 150)
    assert world.job().phase is Phase.RUNNING
    assert (world.job().parallelism, parallelism(world)) == (3, 3)
    scale = world.scale(2)
    assert scale.sequence > 2, "what was accepted after the dump has its sequence on the deployment"
    passes(world, 12)
    world.becomes()
    passes(world, 30)
    assert (ended(world, scale), parallelism(world)) == (State.SUCCEEDED, 2)
    world.job_manager.checkpoint = CHECKPOINT
    stop = world.stop()
    passes(world, 12)
    world.is_suspended("s3://b/savepoint-1")
    passes(world, 30)
    assert (ended(world, stop), live(world)) == (State.SUCCEEDED, None)
    assert "s3://b/savepoint-1" in world.saved()


def test_a_dump_from_before_a_job_was_submitted_does_not_say_that_it_never_ran(world: World) -> None:
    dump = world.dump()
    world.runs()
    world.job_manager.checkpoint = SPARSE
    world.restore(dump)
    world.services.sync._listed_at = None
    passes(world, 30)
    again = world.submit()
    passes(world, 1800)
    assert ended(world, again) is State.FAILED
    assert live(world) is not None


def test_an_api_server_that_is_restored_to_an_older_state_is_believed(world: World) -> None:
    world.runs()
    older, version = copy.deepcopy(world.runtime._objects), world.runtime._version
    world.scale(3)
    world.execute()
    world.becomes()
    passes(world, 30)
    assert world.job().parallelism == 3
    world.runtime._objects, world.runtime._version = older, version
    world.runtime._events = [event for event in world.runtime._events if event[0] <= version]
    world.runtime.forget_history()
    passes(world, 150)
    assert world.job().phase is Phase.RUNNING
    assert (world.job().parallelism, parallelism(world)) == (1, 1)
    scale = world.scale(2)
    passes(world, 12)
    world.becomes()
    passes(world, 30)
    assert (ended(world, scale), parallelism(world)) == (State.SUCCEEDED, 2)


def second_run_from_a_savepoint(world: World) -> None:
    world.runs()
    world.stop()
    passes(world, 12)
    world.is_suspended("s3://b/savepoint-1")
    passes(world, 30)
    world.submit(start_from="last")
    passes(world, 6)
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == "s3://b/savepoint-1"


@pytest.mark.parametrize(
    ("state", "minutes"), [("RESTARTING", 0), ("FAILED", 0), ("RECONCILING", 10), ("CREATED", 10), ("CANCELED", 0)]
)
def test_a_run_that_nobody_saw_has_not_the_state_that_it_began_from(world: World, state: str, minutes: int) -> None:
    second_run_from_a_savepoint(world)
    world.clock.advance(60 * minutes)
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes(job={"state": state, "startTime": "1795448818999"}, lifecycleState="DEPLOYED")
    stop = world.stop()
    world.execute()
    if live(world) is not None and world.whole()["spec"]["job"]["state"] == "suspended":
        world.is_suspended(None)
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED
    assert world.operation(stop).savepoint_path != "s3://b/savepoint-1"


def test_a_jobmanager_that_another_one_has_replaced_may_have_run_the_job(world: World) -> None:
    second_run_from_a_savepoint(world)
    world.job_manager.checkpoint = SPARSE
    for started in ("1795448818999", "1795448819999"):
        world.becomes(job={"state": "CREATED", "startTime": started}, lifecycleState="DEPLOYED")
        passes(world, 12)
    stop = world.stop()
    world.execute()
    if world.whole()["spec"]["job"]["state"] == "suspended":
        world.is_suspended(None)
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED
    assert world.operation(stop).savepoint_path != "s3://b/savepoint-1"


@pytest.mark.parametrize("was_seen", [False, True], ids=["never seen", "seen before it ran"])
def test_a_jobmanager_that_led_and_is_gone_may_have_run_the_job(world: World, was_seen: bool) -> None:
    second_run_from_a_savepoint(world)
    if was_seen:
        world.becomes(job={"state": "CREATED", "startTime": "1795448818999"}, lifecycleState="DEPLOYED")
        world.sync()
    world.job_manager.checkpoint = Unavailable("connection refused")
    gone = {"lifecycleState": "DEPLOYED", "jobManagerDeploymentStatus": "DEPLOYING"}
    world.becomes(job={"state": "RECONCILING", "startTime": "1795448818999"}, **gone)
    world.sync()
    stop = world.stop()
    world.execute()
    if world.whole()["spec"]["job"]["state"] == "suspended":
        world.is_suspended(None)
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED
    assert world.operation(stop).savepoint_path != "s3://b/savepoint-1"


def test_a_run_that_failed_before_it_ran_gives_the_state_that_it_began_from(world: World) -> None:
    second_run_from_a_savepoint(world)
    world.job_manager.checkpoint = Checkpoints(has_run=False)
    for _ in range(3):
        world.becomes(job={"state": "FAILED"}, lifecycleState="FAILED")
        passes(world, 12)
    stop = world.stop()
    passes(world, 30)
    assert ended(world, stop) is State.SUCCEEDED
    world.submit(start_from="last")
    passes(world, 6)
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == "s3://b/savepoint-1"


def test_a_run_that_waits_for_its_taskmanagers_gives_the_state_that_it_began_from(world: World) -> None:
    second_run_from_a_savepoint(world)
    world.job_manager.checkpoint = SPARSE
    world.becomes(job={"state": "CREATED"}, lifecycleState="DEPLOYED")
    passes(world, 600)
    stop = world.stop()
    passes(world, 6)
    world.is_suspended(None)
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert world.operation(stop).savepoint_path == "s3://b/savepoint-1"


def test_a_program_that_failed_before_there_was_a_job_is_stopped_though_its_jobmanager_is_silent(world: World) -> None:
    second_run_from_a_savepoint(world)
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes(job={"state": "FAILED", "jobName": "(application driver)"}, lifecycleState="FAILED")
    passes(world, 30)
    stop = world.stop()
    passes(world, 30)
    assert ended(world, stop) is State.SUCCEEDED
    world.submit(start_from="last")
    passes(world, 6)
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == "s3://b/savepoint-1"


@pytest.mark.parametrize(
    ("before", "newest", "kept"),
    [
        (None, None, []),
        (f"s3://b/{'f' * 32}/chk-10", 10, [f"s3://b/{'f' * 32}/chk-10"]),
        (f"s3://b/{'f' * 32}/chk-10", 12, [f"s3://b/{'f' * 32}/chk-12"]),
    ],
    ids=["no checkpoint", "the one on record", "a newer one"],
)
def test_a_job_that_crashed_as_it_was_suspended_is_stopped_by_what_its_ha_metadata_keep(
    world: World, before: str | None, newest: int | None, kept: list[str]
) -> None:
    world.runs()
    world.job_manager.checkpoint = before
    stop = world.stop()
    world.execute()
    data = {f"checkpointID-{newest:019d}": "handle"} if newest is not None else {}
    world.runtime.put_config_map("default", f"orders-{'f' * 32}-config-map", data)
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.is_suspended(None)
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert live(world) is None
    assert world.saved() == kept
    assert world.job().savepoint_path == (kept[-1] if kept else None)


def test_an_account_that_may_not_read_ha_metadata_deletes_nothing_for_that(world: World) -> None:
    world.runs()
    stop = world.stop()
    world.execute()
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.is_suspended(None)

    def refuse(*_: Any) -> None:
        raise Refused("configmaps is forbidden")

    world.runtime.ha_metadata = refuse  # type: ignore[method-assign, assignment]
    passes(world, 1000)
    assert ended(world, stop) is State.FAILED
    assert live(world) is not None


def test_a_job_that_failed_for_good_between_a_stops_look_and_its_write_keeps_its_deployment(world: World) -> None:
    """The worker froze between both: the job made a newer checkpoint, and took its HA metadata with it as it failed.
    The path that was recorded at the look may be an older one."""
    world.runs()
    world.job_manager.checkpoint = Checkpoints(latest=f"s3://b/{'f' * 32}/chk-2", number=2)
    stop = world.stop()
    world.execute()
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.is_suspended(None)
    passes(world, 1800)
    assert ended(world, stop) is State.FAILED
    assert "force" in world.operation(stop).reason
    assert live(world) is not None
    forced = world.stop(force=True)
    world.execute()
    passes(world, 60)
    assert (ended(world, forced), live(world)) == (State.SUCCEEDED, None)


@pytest.mark.parametrize("is_suspended", [True, False])
def test_what_was_to_be_deleted_and_has_come_up_since_is_looked_at_again(world: World, is_suspended: bool) -> None:
    world.submit()
    world.execute()
    stop = world.stop()
    with crashing(world.runtime, "delete"):
        world.execute()
    assert world.operation(stop).step is Step.DELETE
    world.becomes()
    if is_suspended:
        world.edit(lambda whole: whole["spec"]["job"].update(state="suspended"))
        world.is_suspended("s3://b/savepoint-1")
    world.job_manager.checkpoint = CHECKPOINT
    passes(world, 6)
    if not is_suspended:
        assert live(world) is not None
        world.is_suspended("s3://b/savepoint-1")
    passes(world, 60)
    assert ended(world, stop) is State.SUCCEEDED
    assert world.operation(stop).savepoint_path == "s3://b/savepoint-1"
    assert "s3://b/savepoint-1" in world.saved()


def suspended_with_its_last_state(world: World, newest: int | None, **job: str) -> None:
    """The operator took no savepoint: what the status shows is an older path, and the HA metadata have the rest."""
    data = {f"{CHECKPOINT_KEY}{newest:019d}": "handle"} if newest is not None else {}
    world.runtime.put_config_map("default", ha_config_map("orders", "f" * 32), data)
    world.job_manager.checkpoint = Unavailable("connection refused")
    spec = world.whole()["spec"]
    left = {"spec": {**spec, "job": {**spec["job"], "upgradeMode": "last-state"}}}
    world.becomes(
        lifecycleState="SUSPENDED",
        jobManagerDeploymentStatus="MISSING",
        job={"state": "FINISHED", **job},
        reconciliationStatus={"state": "DEPLOYED", "lastReconciledSpec": json.dumps(left)},
    )


def test_the_path_of_a_savepoint_before_a_suspend_is_not_what_the_suspend_left(world: World) -> None:
    """Somebody's edit was carried out with a savepoint between the look of a STOP and its write, and the job ran on."""
    second_run_from_a_savepoint(world)
    world.becomes()
    passes(world, 6)
    world.job_manager.checkpoint = Checkpoints(restored="s3://b/savepoint-1", number=1)
    stop = world.stop()
    world.execute()
    suspended_with_its_last_state(world, 5, upgradeSavepointPath="s3://b/savepoint-4", startTime="1795448819999")
    passes(world, 1800)
    assert live(world) is not None
    assert ended(world, stop) is State.FAILED
    assert "nothing was deleted" in world.operation(stop).reason


@pytest.mark.parametrize(("newest", "end"), [(7, State.SUCCEEDED), (8, State.FAILED)])
def test_the_state_that_a_run_began_from_is_its_newest_by_its_number(world: World, newest: int, end: State) -> None:
    second_run_from_a_savepoint(world)
    world.becomes()
    passes(world, 6)
    world.job_manager.checkpoint = Checkpoints(restored="s3://b/savepoint-1", number=7)
    stop = world.stop()
    world.execute()
    suspended_with_its_last_state(world, newest)
    passes(world, 1800)
    assert ended(world, stop) is end
    assert (live(world) is None) == (end is State.SUCCEEDED)
