"""SUSPEND, RESUME, RESTART, and what SCALE and STOP may say: what stands in the records and on the deployment."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations import KindName, Operation, State, hash_of
from headrace.domain.state_on_hand import CHECKPOINT_KEY, Checkpoints, ha_config_map
from headrace.errors import Conflict, InvalidRequest, Unavailable
from tests.support.world import UPGRADE_FAILURE, World

SAVEPOINT = "s3://b/savepoint-1"
OTHER = "s3://b/savepoint-of-last-week"
NEXT_START = {"startTime": "1795448899999"}


def suspend(world: World) -> Operation:
    return world.accept(KindName.SUSPEND, "orders")


def resume(world: World, **arguments: Any) -> Operation:
    return world.accept(KindName.RESUME, "orders", **arguments)


def restart(world: World) -> Operation:
    return world.accept(KindName.RESTART, "orders")


def rests(world: World) -> Operation:
    """A job that ran and was suspended."""
    world.runs()
    operation = suspend(world)
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    assert world.job().phase is Phase.SUSPENDED
    return operation


def passes(world: World, seconds: int) -> None:
    for _ in range(seconds // 10):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()


def job_spec(world: World) -> dict[str, Any]:
    return world.whole()["spec"]["job"]


def test_a_suspended_job_rests_with_its_state_and_its_deployment(world: World) -> None:
    operation = world.operation(rests(world))
    assert operation.state is State.SUCCEEDED
    assert operation.reason == f"state kept in {SAVEPOINT}"
    assert (world.job().savepoint_path, world.job().desired) == (SAVEPOINT, Desired.SUSPENDED)
    assert SAVEPOINT in world.saved()
    assert job_spec(world)["state"] == "suspended"
    assert world.phases()[-2:] == ["SUSPENDING", "SUSPENDED"]


def test_a_suspend_has_not_succeeded_before_the_job_rests(world: World) -> None:
    world.runs()
    operation = suspend(world)
    world.execute()
    world.becomes(observedGeneration=1)
    world.settle()
    assert world.operation(operation).state is State.RUNNING
    assert world.job().phase is Phase.SUSPENDING
    world.becomes()  # it is observed, and goes on running still
    world.settle()
    assert world.job().phase is Phase.SUSPENDING


def test_a_job_that_does_not_run_is_not_suspended_before_its_state_is_known(world: World) -> None:
    world.runs()
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes(job={"state": "RESTARTING"})
    operation = suspend(world)
    world.execute()
    assert job_spec(world)["state"] == "running"
    assert "cannot be read" in world.operation(operation).reason
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert job_spec(world)["state"] == "running"
    assert world.job().desired is Desired.RUNNING


def test_a_job_that_does_not_run_rests_with_its_last_checkpoint(world: World) -> None:
    world.runs()
    world.job_manager.checkpoint = Checkpoints(latest="s3://b/chk-7")
    world.becomes(job={"state": "RESTARTING"})
    operation = suspend(world)
    world.execute()
    world.job_manager.checkpoint = Unavailable("connection refused")
    handles = {f"{CHECKPOINT_KEY}{7:019d}": "handle"}
    world.runtime.put_config_map("default", ha_config_map("orders", "f" * 32), handles)
    world.is_suspended(None)
    passes(world, 30)
    assert world.operation(operation).reason == "state kept in s3://b/chk-7"


def test_a_suspend_whose_savepoint_fails_is_taken_back(world: World) -> None:
    world.runs()
    operation = suspend(world)
    world.execute()
    world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert job_spec(world)["state"] == "running"
    assert world.job().desired is Desired.RUNNING


def test_what_somebody_else_suspended_is_suspended(world: World) -> None:
    world.runs()
    world.edit(lambda whole: whole["spec"]["job"].update(state="suspended"))
    world.is_suspended(SAVEPOINT)
    operation = suspend(world)  # before the sync has seen it
    world.execute()
    world.settle()
    assert world.operation(operation).reason == f"state kept in {SAVEPOINT}"
    assert world.sequence() == operation.sequence


def test_a_resumed_job_runs_from_the_state_that_it_rested_with(world: World) -> None:
    rests(world)
    operation = resume(world)
    world.execute()
    assert job_spec(world)["state"] == "running"
    assert "savepointRedeployNonce" not in job_spec(world)
    assert world.operation(operation).state is State.RUNNING
    world.becomes(lifecycleState="UPGRADING", job={"state": "FINISHED", "upgradeSavepointPath": SAVEPOINT})
    world.settle()
    assert world.job().phase is Phase.STARTING
    world.becomes(job={**NEXT_START, "upgradeSavepointPath": SAVEPOINT})
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert (world.job().phase, world.job().desired, world.job().run) == (Phase.RUNNING, Desired.RUNNING, 1)


def test_a_job_is_resumed_from_a_chosen_savepoint(world: World) -> None:
    rests(world)
    operation = resume(world, start_from=OTHER)
    world.execute()
    assert job_spec(world)["initialSavepointPath"] == OTHER
    assert job_spec(world)["savepointRedeployNonce"] == operation.sequence
    world.becomes(job={"state": "RECONCILING", "upgradeSavepointPath": OTHER})  # STABLE long before it runs
    world.settle()
    assert world.operation(operation).state is State.RUNNING
    world.becomes(job={**NEXT_START, "upgradeSavepointPath": OTHER})
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().savepoint_path == OTHER


def test_a_job_that_runs_again_is_not_taken_to_another_state(world: World) -> None:
    rests(world)
    operation = resume(world, start_from=OTHER)
    world.edit(lambda whole: whole["spec"]["job"].update(state="running"))
    world.becomes(job=NEXT_START)
    world.execute()
    assert world.operation(operation).state is State.FAILED
    assert "does not rest any more" in world.operation(operation).reason
    assert "initialSavepointPath" not in job_spec(world)


def test_a_resume_that_the_operator_refuses_leaves_the_job_at_rest(world: World) -> None:
    rests(world)
    operation = resume(world, start_from=OTHER)
    world.execute()
    refused = "org.apache.flink.kubernetes.operator.exception.ValidationException"
    world.becomes(
        observedGeneration=2,
        lifecycleState="SUSPENDED",
        error=refused,
        job={"state": "FINISHED", "upgradeSavepointPath": SAVEPOINT},
    )
    passes(world, 60)
    assert world.operation(operation).state is State.FAILED
    assert job_spec(world)["state"] == "suspended"
    assert "savepointRedeployNonce" not in job_spec(world)
    assert world.job().desired is Desired.SUSPENDED


def test_each_restart_has_a_nonce_of_its_own(world: World) -> None:
    world.runs()
    nonces = []
    for start in ("1795448899998", "1795448899999"):
        operation = restart(world)
        world.execute()
        nonces.append(world.whole()["spec"]["restartNonce"])
        world.becomes(lifecycleState="UPGRADING", job={"state": "FINISHED"})
        world.settle()
        assert world.job().phase is Phase.RESTARTING
        world.becomes(job={"startTime": start})
        world.settle()
        assert world.operation(operation).state is State.SUCCEEDED
    assert nonces == [2, 3]


def test_a_scale_after_a_restart_keeps_its_nonce(world: World) -> None:
    world.runs()
    restart(world)
    world.execute()
    world.becomes(job=NEXT_START)
    world.settle()
    world.scale(3)
    world.execute()
    assert world.whole()["spec"]["restartNonce"] == 2
    assert job_spec(world)["parallelism"] == 3


def test_a_suspended_job_is_stopped_with_the_state_that_it_rests_with(world: World) -> None:
    rests(world)
    operation = world.stop()
    world.execute()
    world.settle()
    assert world.operation(operation).reason == f"state kept in {SAVEPOINT}"
    assert world.runtime.get("default", "orders") is None


def test_what_is_asked_of_a_job_is_judged_by_what_its_open_operations_leave(world: World) -> None:
    world.runs()
    suspend(world)
    with pytest.raises(Conflict, match="SUSPENDED already"):
        suspend(world)
    with pytest.raises(Conflict, match="cannot RESTART while SUSPENDED"):
        restart(world)
    resume(world)
    with pytest.raises(Conflict, match="cannot RESUME, it is RUNNING"):
        resume(world)
    suspend(world)


def test_a_stop_ends_what_is_open_before_it(world: World) -> None:
    world.runs()
    operations = [suspend(world), resume(world), restart(world)]
    world.stop()
    assert {world.operation(each).state for each in operations} == {State.SUPERSEDED}


@pytest.mark.parametrize("kind", [KindName.SUSPEND, KindName.RESUME, KindName.RESTART])
def test_a_job_that_has_settled_is_told_to_submit(world: World, kind: KindName) -> None:
    world.runs()
    world.becomes(job={"state": "FINISHED"})
    world.settle()
    with pytest.raises(Conflict, match=f"cannot {kind}, it is FINISHED; SUBMIT begins another run"):
        world.accept(kind, "orders")


@pytest.mark.parametrize("path", ["no-uri", "", 5, "s3://u:hunter2hunter2@b/savepoint-1"])
def test_a_path_to_resume_from_is_one(world: World, path: Any) -> None:
    rests(world)
    with pytest.raises(InvalidRequest, match="start_from") as refused:
        resume(world, start_from=path)
    assert "hunter2" not in str(refused.value)


DRAIN = "kubernetes.operator.job.drain-on-savepoint-deletion"


def test_a_drained_stop_asks_the_operator_for_this_savepoint_alone(world: World) -> None:
    world.runs()
    operation = world.stop(drain=True)
    world.execute()
    assert world.whole()["spec"]["flinkConfiguration"][DRAIN] == "true"
    world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert DRAIN not in world.whole()["spec"]["flinkConfiguration"]


@pytest.mark.parametrize("asked", [{}, {"drain": False}])
def test_a_stop_drains_nothing_unasked(world: World, asked: dict[str, Any]) -> None:
    world.runs()
    world.stop(**asked)
    world.execute()
    assert DRAIN not in world.whole()["spec"]["flinkConfiguration"]


@pytest.mark.parametrize(
    ("task_manager", "job", "manifest"),
    [
        ({"slots": 2}, {"parallelism": 6}, {"parallelism": 6}),
        ({"slots": 2, "replicas": 1}, {}, {"replicas": 3}),
        ({}, {"parallelism": 3}, {"parallelism": 3}),
    ],
)
def test_a_job_is_scaled_to_task_managers(
    world: World, task_manager: dict[str, Any], job: dict[str, Any], manifest: dict[str, Any]
) -> None:
    world.runs(job_config={"resources": {"task_manager": task_manager}})
    operation = world.accept(KindName.SCALE, "orders", task_managers=3)
    world.execute()
    spec = world.whole()["spec"]
    assert {**job_spec(world), **spec["taskManager"]} | job | manifest == {**job_spec(world), **spec["taskManager"]}
    world.becomes(job=NEXT_START)
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().request["parallelism"] == 3 * int(task_manager.get("slots", 1))


@pytest.mark.parametrize("asked", [{}, {"parallelism": 2, "task_managers": 2}, {"task_managers": 0}])
def test_a_scale_says_one_thing(world: World, asked: dict[str, Any]) -> None:
    world.runs()
    with pytest.raises(InvalidRequest, match=r"either parallelism or task_managers|task_managers: must be"):
        world.accept(KindName.SCALE, "orders", **asked)


def test_a_request_of_the_release_before_is_the_same_request(world: World) -> None:
    world.runs()
    for kind, arguments in ((KindName.SCALE, {"parallelism": 2}), (KindName.STOP, {"force": False})):
        accepted = world.accept(kind, "orders", idempotency_key=kind, **arguments)
        assert accepted.arguments == arguments
        assert accepted.arguments_hash == hash_of(kind, "orders", arguments)
