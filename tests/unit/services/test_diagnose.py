"""A job that turns bad is looked into once, and what was found stays with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from headrace.domain.jobs import LOOKED_INTO_AGAIN_AFTER, JobKey, Phase
from headrace.domain.operations import State
from headrace.errors import Unavailable
from headrace.ports import ExceptionSeen
from tests.support.world import World

PYTHON = 'Traceback (most recent call last):\n  File "/opt/headrace/files/job.py", line 7, in map\nValueError: boom\n'


def raises(world: World, stacktrace: str = PYTHON) -> None:
    world.job_manager.history = [ExceptionSeen(world.clock.now(), "java.lang.RuntimeException", stacktrace)]


def reads(world: World, monkeypatch: Any) -> list[str]:
    """The names of the jobs whose JobManagers were asked for exceptions."""
    asked: list[str] = []
    exceptions = world.job_manager.exceptions

    def counted(namespace: str, name: str, flink_job_id: str) -> Any:
        asked.append(name)
        return exceptions(namespace, name, flink_job_id)

    monkeypatch.setattr(world.job_manager, "exceptions", counted)
    return asked


def test_a_job_that_fails_says_why_and_what_to_do(world: World) -> None:
    operation = world.submit()
    world.execute()
    raises(world)
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.settle()
    job = world.job()
    assert (job.phase, job.reason) == (Phase.FAILED, "ValueError: boom (job.py, line 7)")
    assert "start_from: last" in job.next_step
    assert "ValueError: boom" in job.kept_exceptions
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "ValueError: boom (job.py, line 7); mend it" in ended.reason
    assert world.store.transitions_of(JobKey("default", "orders"))[-1].reason == job.reason


def test_it_is_read_once_however_often_it_is_seen(world: World, monkeypatch: Any) -> None:
    world.runs()
    asked = reads(world, monkeypatch)
    for moment in range(5):
        world.becomes(lifecycleState="FAILED", job={"state": "FAILED", "updateTime": str(moment)})
        world.sync()
    assert asked == ["orders"]


def test_the_pods_of_a_sight_are_asked_for_once(world: World, monkeypatch: Any) -> None:
    world.runs()
    asked, pods = [], world.runtime.pods

    def counted(namespace: str, name: str, labels: Any) -> Any:
        asked.append(name)
        return pods(namespace, name, labels)

    monkeypatch.setattr(world.runtime, "pods", counted)
    world.becomes(job={"state": "RESTARTING"})
    world.sync()
    assert world.job().phase is Phase.RESTARTING
    assert asked == ["orders"]


def test_a_restart_loop_is_read_once_a_minute(world: World, monkeypatch: Any) -> None:
    world.runs()
    raises(world)
    asked = reads(world, monkeypatch)
    for _ in range(4):
        world.becomes(job={"state": "RESTARTING"})
        world.sync()
        assert world.job().reason == "ValueError: boom (job.py, line 7)"
        world.becomes()
        world.sync()
        assert world.job().reason == ""
        world.clock.advance(LOOKED_INTO_AGAIN_AFTER / timedelta(seconds=2))
    assert asked == ["orders", "orders"]


def test_a_channel_that_does_not_answer_says_nothing_and_holds_nobody_up(world: World) -> None:
    world.runs()
    world.job_manager.checkpoint = Unavailable("gone")
    world.job_manager.history = Unavailable("gone")
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"}, error="a.b.SomeException")
    world.sync()
    assert world.job().phase is Phase.FAILED
    assert "Savepoint Error" in world.job().reason


def test_jobs_whose_jobmanagers_are_slow_to_answer_do_not_hold_up_the_others(world: World, monkeypatch: Any) -> None:
    names = [f"bad-{n}" for n in range(4)]
    for name in (*names, "well"):
        world.runs(name)
    history = world.job_manager.exceptions

    def slow(*named: str) -> Any:
        world.clock.advance(2)
        return history(*named)

    monkeypatch.setattr(world.job_manager, "exceptions", slow)
    for name in names:
        world.becomes(name, lifecycleState="FAILED", job={"state": "FAILED"})
    world.becomes("well", job={"state": "FINISHED"})
    world.sync()
    assert world.job("well").phase is Phase.FINISHED
    assert {world.job(name).phase for name in names} == {Phase.FAILED}, "a phase waits for no diagnosis"
    assert [world.job(name).diagnosis is None for name in names].count(False) == 2
    world.sync()
    assert [world.job(name).diagnosis is None for name in names].count(False) == 4


def test_another_run_begins_with_nothing_of_the_one_before(world: World) -> None:
    world.runs()
    raises(world)
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.settle()
    world.job_manager.history = []
    world.submit()
    world.execute()
    world.clock.advance(2)
    world.execute()
    job = world.job()
    assert job.run == 2
    assert (job.reason, job.next_step, job.diagnosis, job.kept_exceptions) == ("", "", None, "")


def test_pods_that_cannot_start_are_told_before_the_job_has_failed(world: World) -> None:
    world.submit()
    world.execute()
    world.shows_pod({"waiting": {"reason": "ErrImageNeverPull", "message": "Container image x is not present"}})
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job={"state": "RECONCILING"})
    world.sync()
    assert world.job().phase is Phase.STARTING
    assert "the image cannot be pulled (ErrImageNeverPull)" in world.job().reason
    assert "image_pull_policy" in world.job().next_step


def test_a_server_that_is_away_is_the_operations_reason_while_it_waits(world: World) -> None:
    operation = world.submit()
    world.runtime.outage = True
    for _ in range(2):
        try:
            world.execute()
        except Unavailable:
            continue
    assert world.operation(operation).reason.startswith("waiting: ")
    world.runtime.outage = False
    world.execute()
    assert world.operation(operation).step.value == "AWAIT_RUNNING"
