"""A job that lasts on its way to RUNNING says what it waits for, however little of it can be seen, and costs little."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from headrace.domain.jobs import Phase
from headrace.domain.operations import KindName
from headrace.domain.state_on_hand import ha_config_map
from headrace.domain.waiting import Progress
from headrace.errors import LostRace, Refused, Unavailable
from headrace.ports import ExceptionSeen
from headrace.services.waits import MOST_AT_ONCE
from tests.support.world import World

SHORT_OF_SLOTS = Progress(task_managers=1, slots=1, needed_slots=2, state="CREATED", tasks={"SCHEDULED": 2})


def comes_up(world: World, job_id: str = "orders", **status: Any) -> None:
    """A job whose JobManager runs, and that does not."""
    world.submit(job_id)
    world.execute(job_id)
    world.becomes(job_id, lifecycleState="DEPLOYED", **{"job": {"state": "CREATED"}, **status})
    world.shows_pod({"running": {}}, job_id=job_id, phase="Running")
    world.sync()


def restarts(world: World, state: str) -> None:
    """A job that ran for an hour, and whose JobManager has it in this state now."""
    world.runs()
    world.clock.advance(3600)
    world.becomes(job={"state": state})
    world.shows_pod({"running": {}}, phase="Running")
    world.sync()


def lasts(world: World, seconds: float = 20) -> None:
    world.clock.advance(seconds)
    world.services.waits.run()


def test_a_job_that_lasts_on_its_way_says_what_for_and_since_when(world: World) -> None:
    comes_up(world)
    began = world.clock.now()
    world.job_manager.progressed = SHORT_OF_SLOTS
    lasts(world, 14)
    assert world.job().reason == ""
    lasts(world, 2)
    assert (
        world.job().reason
        == f"waiting since {began:%Y-%m-%dT%H:%M:%SZ}: the job needs 2 slots, and its TaskManagers have 1"
    )
    assert "set parallelism" in world.job().next_step
    world.job_manager.progressed = Progress(leads=False)
    lasts(world)
    assert "waits for leadership" in world.job().reason
    assert f"{began:%H:%M:%SZ}" in world.job().reason, "since when it is STARTING, and not since the last look"


def test_a_restart_says_what_it_waits_for_and_since_when(world: World) -> None:
    restarts(world, "CREATED")
    began = world.clock.now()
    world.job_manager.progressed = Progress(state="CREATED", needed_slots=1)
    lasts(world)
    assert world.job().phase is Phase.RESTARTING
    assert world.job().reason.startswith(f"waiting since {began:%Y-%m-%dT%H:%M:%SZ}: the job needs 1 slots")


def test_between_two_tries_it_says_why_the_last_one_ended(world: World) -> None:
    """The status does not change meanwhile, so no event comes for anybody to look into it."""
    restarts(world, "RECONCILING")
    trace = "java.lang.RuntimeException: java.lang.NoSuchFieldException: loadedLibraryNames\n\tat pemja.Main.run(Main)"
    world.job_manager.progressed = Progress(state="RESTARTING")
    world.job_manager.history = [ExceptionSeen(world.clock.now(), "java.lang.RuntimeException", trace)]
    lasts(world)
    assert world.job().phase is Phase.RESTARTING
    assert "before its next try; what failed: " in world.job().reason
    assert "could not load Python" in world.job().reason
    assert "submit it again as it is with start_from: last" in world.job().next_step
    world.clock.advance(3600)
    lasts(world)
    assert "could not load Python" not in world.job().reason, "what is old was survived"


def test_a_jobmanager_that_has_come_back_without_the_job_is_told_from_one_that_will_have_it(world: World) -> None:
    """Seen on a real cluster: its pod was lost after the job had ended, and before anybody saw that."""
    restarts(world, "RECONCILING")
    world.job_manager.progressed = Progress()
    metadata = ha_config_map("orders", world.job().flink_job_id or "")
    world.runtime.put_config_map("default", metadata, {"counter": "1"})
    lasts(world)
    assert world.job().reason.endswith("the JobManager is up, and the program has not given it the job yet")
    world.runtime.put_config_map("default", metadata, None)
    lasts(world)
    assert world.job().phase is Phase.RESTARTING
    assert world.job().reason.endswith("has come back without the job: it had ended before, and nobody saw how")
    assert "submit it again with start_from" in world.job().next_step


def test_a_job_that_is_started_anew_is_not_taken_for_one_that_has_ended(world: World) -> None:
    world.runs()
    world.accept(KindName.RESTART, "orders")
    world.execute()
    world.becomes(job={"state": "RECONCILING"})
    world.shows_pod({"running": {}}, phase="Running")
    world.sync()
    world.job_manager.progressed = Progress()
    lasts(world)
    assert world.job().reason.endswith("the JobManager is up, and the program has not given it the job yet")


def test_what_was_waited_for_is_over_with_the_phase(world: World) -> None:
    comes_up(world)
    world.job_manager.progressed = SHORT_OF_SLOTS
    lasts(world)
    assert world.job().waiting is not None
    world.becomes()
    world.sync()
    assert (world.job().phase, world.job().reason, world.job().waiting) == (Phase.RUNNING, "", None)
    world.becomes(job={"state": "RESTARTING"})
    world.sync()
    assert world.job().reason == ""


def test_a_sight_between_two_looks_keeps_the_reason(world: World) -> None:
    comes_up(world)
    world.job_manager.progressed = SHORT_OF_SLOTS
    lasts(world)
    world.becomes(lifecycleState="DEPLOYED", job={"state": "CREATED", "updateTime": "1"})
    world.sync()
    assert "2 slots" in world.job().reason


def test_a_reason_that_is_known_is_not_covered(world: World) -> None:
    comes_up(world)
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.shows_pod({}, "taskmanager", conditions=[unschedulable])
    world.job_manager.progressed = SHORT_OF_SLOTS
    lasts(world)
    assert world.job().reason == "no node takes the pod: 0/1 nodes"
    world.shows_pod({"running": {}}, "taskmanager")
    lasts(world)
    assert "2 slots" in world.job().reason, "what was true at the last event is looked at again"


def test_where_nothing_can_be_seen_that_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_up(world)

    def refuse(*_: object) -> None:
        raise Refused('pods is forbidden: User "a" cannot list')

    monkeypatch.setattr(world.runtime, "pods", refuse)
    lasts(world)
    assert "what for cannot be seen: pods is forbidden" in world.job().reason
    assert "connection refused" in world.job().reason
    world.job_manager.progressed = SHORT_OF_SLOTS
    lasts(world)
    assert "2 slots" in world.job().reason, "one channel is enough"


def test_an_api_server_that_is_away_is_said_of_every_job_and_asked_once_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"job-{n}" for n in range(5)]
    for name in names:
        comes_up(world, name)
    asked: list[str] = []

    def away(namespace: str, name: str) -> None:
        asked.append(name)
        raise Unavailable("the Kubernetes API did not answer")

    monkeypatch.setattr(world.runtime, "get", away)
    lasts(world)
    assert len(asked) == 1
    assert all("what for cannot be seen: the Kubernetes API" in world.job(name).reason for name in names)


def test_an_outage_takes_no_better_reason_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_up(world)
    world.shows_pod({"waiting": {"reason": "ErrImageNeverPull", "message": "Container image x is not present"}})
    lasts(world)
    assert "cannot be pulled" in world.job().reason
    world.runtime.outage = True
    lasts(world)
    assert "cannot be pulled" in world.job().reason


def test_a_job_is_asked_for_once_a_period_however_many_events_it_has(world: World) -> None:
    comes_up(world)
    asked: list[str] = []
    progress = world.job_manager.progress

    def counted(namespace: str, name: str, flink_job_id: str) -> Progress:
        asked.append(flink_job_id)
        return progress(namespace, name, flink_job_id)

    world.job_manager.progress = counted  # type: ignore[method-assign]
    world.clock.advance(20)
    for moment in range(50):
        world.becomes(lifecycleState="DEPLOYED", job={"state": "CREATED", "updateTime": str(moment)})
        world.sync()
        world.services.waits.run()
        world.clock.advance(0.1)
    assert asked == ["f" * 32]


def test_a_round_is_bounded_and_the_next_goes_on_with_those_that_were_not_looked_at(world: World) -> None:
    names = [f"job-{n}" for n in range(9)]
    for name in names:
        comes_up(world, name)

    def slow(namespace: str, name: str, flink_job_id: str) -> Progress:
        world.clock.advance(5)
        raise Unavailable(f"{name} did not answer")

    world.job_manager.progress = slow  # type: ignore[method-assign]
    world.clock.advance(20)
    rounds = [world.services.waits.run() for _ in range(5)]
    assert max(rounds) == 2
    assert all("did not answer" in world.job(name).reason for name in names)


def test_a_phase_is_not_withheld_by_a_jobmanager_that_does_not_answer(world: World) -> None:
    """Nothing of what waits asks for is asked by the sync."""
    comes_up(world)

    def never(*_: object) -> Progress:
        raise AssertionError("the sync asked a JobManager for its progress")

    world.job_manager.progress = never  # type: ignore[method-assign]
    world.clock.advance(60)
    world.becomes()
    world.sync()
    assert world.job().phase is Phase.RUNNING


def test_whoever_writes_the_job_meanwhile_knows_better(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_up(world)
    world.job_manager.progressed = SHORT_OF_SLOTS

    def loses(*_: object) -> None:
        raise LostRace("job orders was changed by somebody else")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "write", loses)
        lasts(world)
    assert world.job().reason == ""
    lasts(world)
    assert "2 slots" in world.job().reason


def test_a_change_that_the_sync_has_not_seen_is_left_to_it(world: World) -> None:
    comes_up(world)
    world.becomes()
    before = world.job()
    lasts(world)
    assert world.job() == before
    world.sync()
    assert world.job().phase is Phase.RUNNING


def test_what_the_kubelet_says_of_a_taskmanagers_pod_is_told(world: World) -> None:
    """The operator says nothing of a TaskManager's pod."""
    comes_up(world, taskManager={"replicas": 1})
    world.shows_pod({"waiting": {"reason": "ContainerCreating"}}, "taskmanager")
    world.job_manager.progressed = Progress(state="CREATED", needed_slots=1)
    for at, reason, message in (
        ("00:00:01", "FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "db" not found'),
        ("00:00:00", "Scheduled", "Successfully assigned"),
    ):
        event = {"involvedObject": {"kind": "Pod", "name": "orders-tm"}, "reason": reason, "message": message}
        world.runtime.put_event("default", {**event, "lastTimestamp": f"2026-01-01T{at}Z"})
    lasts(world)
    assert "0 of 1 TaskManagers have registered" in world.job().reason
    assert 'pod orders-tm does not start: secret "db" not found' in world.job().reason
    assert "create it in the job's namespace" in world.job().next_step


def test_what_makes_no_sense_is_said_of_that_job_and_holds_no_other_up(world: World) -> None:
    for name in ("bad", "good"):
        comes_up(world, name)

    def odd(namespace: str, name: str, flink_job_id: str) -> Progress:
        return Progress(state="CREATED", needed_slots="2" if name == "bad" else 2)  # type: ignore[arg-type]

    world.job_manager.progress = odd  # type: ignore[method-assign]
    lasts(world)
    assert "what was read makes no sense: TypeError" in world.job("bad").reason
    assert "needs 2 slots" in world.job("good").reason


def test_one_process_looks_at_a_time(world: World) -> None:
    comes_up(world)
    held = world.store.take_lease("waits/default/default/default", "somebody else", 60)
    assert held is not None
    world.clock.advance(20)
    assert world.services.waits.run() == 0
    world.clock.advance(60)
    assert world.services.waits.run() == 1


def test_a_round_takes_a_bounded_number_of_jobs(world: World) -> None:
    for n in range(MOST_AT_ONCE + 3):
        comes_up(world, f"job-{n}")
    world.job_manager.progressed = SHORT_OF_SLOTS
    world.clock.advance(timedelta(seconds=20).total_seconds())
    assert [world.services.waits.run(), world.services.waits.run()] == [MOST_AT_ONCE, 3]
