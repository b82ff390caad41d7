"""What a job that turned bad is blamed on: what happened now, and nothing that it survived."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.domain.jobs import Observation, Phase
from headrace.domain.operations import State
from headrace.errors import Refused
from headrace.ports import ExceptionSeen
from tests.support.world import World

MAIN = "flink-main-container"
OLD = "Caused by: java.lang.IllegalStateException: long ago\n"
NEW = "Caused by: java.lang.IllegalStateException: just now\n"


def shows_manager(world: World, restarts: int = 0, killed: datetime | None = None) -> None:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": killed}} if killed else {}
    world.shows_pod({"running": {}}, restarts=restarts, last=last, phase="Running")


def loops(world: World) -> None:
    """The JobManager's container dies again and again."""
    world.shows_pod({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})


def raised(world: World, *found: tuple[timedelta, str]) -> None:
    """The JobManager's history: how long ago, and the stack trace; oldest first."""
    now = world.clock.now()
    world.job_manager.history = [ExceptionSeen(now - ago, "x", text) for ago, text in found]


def restarts(world: World, **status: Any) -> None:
    world.becomes(job={"state": "RESTARTING"}, **status)
    world.sync()


def test_a_restart_is_blamed_on_what_was_just_raised(world: World) -> None:
    world.runs()
    raised(world, (timedelta(days=20), OLD), (timedelta(seconds=5), NEW))
    restarts(world)
    assert world.job().phase is Phase.RESTARTING
    assert "just now" in world.job().reason
    assert "long ago" in world.job().kept_exceptions


def test_a_restart_is_not_blamed_on_what_a_job_of_weeks_has_survived(world: World) -> None:
    world.runs()
    raised(world, (timedelta(days=20), OLD))
    shows_manager(world, restarts=1, killed=world.clock.now() - timedelta(days=15))
    world.runtime.print_line("orders-jm", MAIN, OLD)
    weeks = datetime.now(UTC) - timedelta(days=15)
    world.runtime.print_line("orders-jm", MAIN, OLD, at=weeks, previous=True)
    restarts(world, error="a.b.UpgradeFailureException")
    assert world.job().phase is Phase.RESTARTING
    assert (world.job().reason, world.job().next_step) == ("", "")
    assert "long ago" in world.job().kept_log


def test_a_restart_is_blamed_on_how_the_jobmanager_ended_before_it(world: World) -> None:
    world.runs()
    shows_manager(world, restarts=1)
    world.runtime.print_line("orders-jm", MAIN, NEW, previous=True)
    restarts(world)
    assert "just now" in world.job().reason


FAILED = "2026-11-25 14:00:00,000 INFO  o.a.f.r.e.ExecutionGraph [] - count (1/1) switched from RUNNING to FAILED on x."
LATER = "2026-11-25 14:00:00,001 INFO  o.a.f.r.jobmaster.JobMaster [] - Caused by: java.lang.Error: innocent"


def test_a_restart_is_blamed_on_the_failure_that_the_history_does_not_have_yet(world: World) -> None:
    """The history has it only when Flink tries again; until then its newest entry is of an earlier one."""
    world.runs()
    raised(world, (timedelta(minutes=2), OLD))
    shows_manager(world)
    for line in (FAILED, NEW.rstrip(), "\tat io.example.Count.processElement(Count.java:42)", LATER):
        world.runtime.print_line("orders-jm", MAIN, line)
    restarts(world)
    assert world.job().reason == "java.lang.IllegalStateException: just now (Count.java, line 42)"


def test_a_restart_is_not_blamed_on_a_failure_that_its_log_tells_of_weeks_ago(world: World) -> None:
    world.runs()
    shows_manager(world)
    for line in (FAILED, OLD.rstrip()):
        world.runtime.print_line("orders-jm", MAIN, line, at=datetime.now(UTC) - timedelta(days=15))
    restarts(world)
    assert world.job().reason == ""


def test_a_loop_of_which_nothing_was_found_is_soon_looked_into_again(world: World) -> None:
    world.runs()
    restarts(world)
    world.becomes()
    world.sync()
    raised(world, (timedelta(seconds=5), NEW))
    world.clock.advance(11)
    restarts(world)
    assert "just now" in world.job().reason


def test_a_jobmanager_that_was_killed_and_runs_again_is_told(world: World) -> None:
    world.runs()
    shows_manager(world, restarts=1, killed=world.clock.now() - timedelta(seconds=20))
    restarts(world)
    assert "jobmanager pod orders-jm was killed for its use of memory" in world.job().reason
    assert "resources.job_manager.memory" in world.job().next_step


def test_what_was_raised_since_counts_more_than_a_kill_before_it(world: World) -> None:
    world.runs()
    shows_manager(world, restarts=1, killed=world.clock.now() - timedelta(minutes=8))
    raised(world, (timedelta(seconds=5), NEW))
    restarts(world)
    assert "just now" in world.job().reason


def test_a_job_that_fails_at_once_each_time_says_why_though_nobody_saw_it_run(world: World) -> None:
    submit = world.submit()
    world.execute()
    raised(world, (timedelta(seconds=5), NEW))
    for state in ("CREATED", "RESTARTING"):
        world.becomes(lifecycleState="DEPLOYED", job={"state": state})
        world.sync()
    assert world.job().phase is Phase.STARTING
    assert "just now" in world.job().reason
    for _ in range(100):
        world.clock.advance(10)
        world.sync()
    ended = world.operation(submit)
    assert ended.state is State.FAILED
    assert "just now" in ended.reason


def test_what_explained_a_restart_long_ago_does_not_explain_the_next(world: World) -> None:
    world.runs()
    raised(world, (timedelta(seconds=5), NEW))
    restarts(world)
    world.becomes()
    world.sync()
    world.clock.advance(14 * 86400)
    restarts(world)
    assert world.job().reason == ""


def test_what_cannot_start_is_told_as_it_is_now(world: World) -> None:
    world.submit()
    world.execute()
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    world.shows_pod({}, conditions=[{**unschedulable, "message": "0/1 nodes are available"}])
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job={"state": "RECONCILING"})
    world.sync()
    assert "0/1 nodes" in world.job().reason
    loops(world)
    world.runtime.print_line("orders-jm", MAIN, NEW)
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job={"state": "RECONCILING"})
    world.sync()
    assert "just now" in world.job().reason


def test_a_crash_loop_that_nothing_explains_says_where_to_look(world: World) -> None:
    world.submit()
    world.execute()
    loops(world)
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job={"state": "RECONCILING"})
    world.sync()
    assert "back-off 10s" in world.job().reason
    assert "headrace logs" in world.job().next_step


def test_a_job_that_no_operator_takes_says_so_after_half_a_minute(world: World) -> None:
    submit = world.submit()
    world.execute()
    world.clock.advance(29)
    world.sync()
    assert (world.job().phase, world.job().reason) == (Phase.SUBMITTING, "")
    world.clock.advance(10)
    world.sync()
    assert "no operator has taken it within 30 s" in world.job().reason
    assert "namespace default (watchNamespaces)" in world.job().next_step
    for _ in range(100):
        world.clock.advance(10)
        world.sync()
    ended = world.operation(submit)
    assert ended.state is State.FAILED
    assert "no operator has taken it" in ended.reason
    assert "no operator has taken it" in world.job().reason


def test_an_account_that_may_not_look_leaves_the_phase_and_says_unreachable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runs()

    def refuse(*_: object) -> None:
        raise Refused('flinkdeployments is forbidden: User "a" cannot list')

    monkeypatch.setattr(world.runtime, "watch", refuse)
    with pytest.raises(Refused):
        world.sync()
    assert (world.job().phase, world.job().observation) == (Phase.RUNNING, Observation.UNREACHABLE)


def test_an_account_that_may_not_see_pods_still_sees_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.runs()

    def refuse(*_: object) -> None:
        raise Refused('pods is forbidden: User "a" cannot list')

    monkeypatch.setattr(world.runtime, "pods", refuse)
    restarts(world)
    assert world.job().phase is Phase.RESTARTING


FLINKS_OWN = 'MountVolume.SetUp failed for volume "flink-config-volume" : configmap "flink-config-orders" not found'
USERS_OWN = '[flink-main-container] secret "db" not found'


def starts(world: World, manager: str, said: str) -> None:
    """The JobManager has not come up yet for the operator, which says why it did not at first."""
    error = {"type": "a.b.DeploymentFailedException", "message": said, "throwableList": []}
    job = {"state": "RECONCILING", "startTime": None}
    world.becomes(
        lifecycleState="DEPLOYED", jobManagerDeploymentStatus=manager, job=job, status_error=json.dumps(error)
    )
    world.sync()


@pytest.mark.parametrize("said", [FLINKS_OWN, USERS_OWN])
def test_a_jobmanager_that_runs_is_believed_before_what_was_said_of_its_start(world: World, said: str) -> None:
    world.submit()
    world.execute()
    starts(world, "ERROR", said)
    assert "not found" in world.job().reason or "makes itself" in world.job().reason
    world.shows_pod({"running": {}}, phase="Running")
    for manager in ("ERROR", "ERROR", "DEPLOYED_NOT_READY", "READY"):
        world.clock.advance(50)  # longer than the grace period, together
        starts(world, manager, said)
        assert (world.job().phase, world.job().reason, world.job().error) == (Phase.STARTING, "", "")


def test_a_jobmanager_whose_pod_may_not_be_seen_is_believed_by_the_operators_word(world: World) -> None:
    world.submit()
    world.execute()
    starts(world, "DEPLOYED_NOT_READY", USERS_OWN)
    assert (world.job().phase, world.job().reason) == (Phase.STARTING, "")


def test_a_crash_loop_is_told_while_it_runs_for_a_moment(world: World) -> None:
    world.submit()
    world.execute()
    said = "[flink-main-container] back-off 10s restarting failed container"
    starts(world, "ERROR", said)
    world.shows_pod({"running": {}}, restarts=2, phase="Running")
    starts(world, "DEPLOYING", said)
    assert "back-off 10s" in world.job().reason


def test_what_flink_makes_itself_is_not_asked_of_the_user(world: World) -> None:
    world.submit()
    world.execute()
    starts(world, "ERROR", FLINKS_OWN)
    assert world.job().reason == "waiting for configmap 'flink-config-orders', which Flink makes itself"
    assert "create" not in world.job().next_step
