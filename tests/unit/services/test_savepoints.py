"""SAVEPOINT: what stands in the records and on the deployment, by each way that the operator takes savepoints."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.savepoints import Savepoint
from headrace.domain.state_on_hand import Checkpoints
from headrace.errors import Conflict, NotFound
from tests.support.world import World

PATH = "s3://b/savepoints/savepoint-ffffff-7"
REFUSED = "org.apache.flink.kubernetes.operator.exception.ValidationException"


def savepoint(world: World, **arguments: Any) -> Operation:
    return world.accept(KindName.SAVEPOINT, "orders", **arguments)


def nonce(world: World) -> int | None:
    found: int | None = world.whole()["spec"]["job"].get("savepointTriggerNonce")
    return found


def taken(world: World, of: int | None, path: str = PATH, **job: Any) -> None:
    """The operator has taken the savepoint of this nonce, as it shows it without FlinkStateSnapshots."""
    last = {"location": path, "triggerNonce": of, "formatType": "CANONICAL"}
    world.becomes(job={"savepointInfo": {"lastSavepoint": last}, **job})


def passes(world: World, seconds: int) -> None:
    for _ in range(seconds // 10):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()


def asked(world: World) -> Operation:
    """A SAVEPOINT of a job that runs, which the operator has not looked at yet."""
    world.runs()
    operation = savepoint(world)
    world.execute()
    return operation


def test_a_savepoint_is_asked_for_by_the_operations_sequence_and_its_path_is_on_record(world: World) -> None:
    operation = asked(world)
    assert nonce(world) == operation.sequence == world.sequence()
    world.settle()
    assert world.operation(operation).state is State.RUNNING
    taken(world, operation.sequence)
    world.settle()
    ended = world.operation(operation)
    assert (ended.state, ended.savepoint_path, ended.reason) == (State.SUCCEEDED, PATH, f"state kept in {PATH}")
    assert world.job().savepoint_path == PATH
    assert PATH in world.saved()


def test_the_jobs_phase_stays_whatever_becomes_of_its_savepoint(world: World) -> None:
    operation = asked(world)
    before = world.phases()
    world.becomes(observedGeneration=1)  # the operator has not looked at it yet
    world.settle()
    world.becomes(lifecycleState="DEPLOYED", job={"savepointInfo": {"triggerId": "t"}})
    world.settle()
    taken(world, operation.sequence)
    world.settle()
    assert world.job().phase is Phase.RUNNING
    assert world.phases() == before


def test_a_path_of_an_earlier_nonce_is_not_this_savepoints(world: World) -> None:
    first = asked(world)
    taken(world, first.sequence)
    world.settle()
    second = savepoint(world)
    world.execute()
    world.becomes(
        job={"savepointInfo": {"triggerId": "t", "lastSavepoint": {"location": PATH, "triggerNonce": first.sequence}}}
    )
    world.settle()
    assert world.operation(second).state is State.RUNNING
    taken(world, second.sequence, f"{PATH}-second")
    world.settle()
    assert world.operation(second).savepoint_path == f"{PATH}-second"


def test_a_savepoint_that_fails_is_the_operations_trouble_alone(world: World) -> None:
    operation = asked(world)
    world.becomes()  # the nonce is reconciled, nothing is being taken, and there is no path
    passes(world, 20)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "the savepoint failed" in ended.reason
    assert (world.job().phase, world.job().reason, world.job().desired) == (Phase.RUNNING, "", Desired.RUNNING)


def test_a_savepoint_that_the_operator_refuses_is_taken_back(world: World) -> None:
    operation = asked(world)
    world.becomes(observedGeneration=1, error=REFUSED)
    passes(world, 20)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "the operator refused it" in ended.reason
    assert nonce(world) is None
    world.becomes()
    world.settle()
    assert world.job().phase is Phase.RUNNING


def test_a_job_that_restarts_is_waited_for(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RESTARTING"})
    operation = savepoint(world)
    world.execute()
    assert nonce(world) is None
    assert "while the job is RUNNING; it is RESTARTING" in world.operation(operation).reason
    world.becomes()
    passes(world, 10)
    assert nonce(world) == operation.sequence


def test_what_ran_on_since_its_savepoint_is_not_taken_for_kept_by_it(world: World) -> None:
    """A job that crashes right after its savepoint may have completed a checkpoint in between."""
    operation = asked(world)
    taken(world, operation.sequence, state="RESTARTING")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().ran_since_state


def test_a_job_that_fails_meanwhile_ends_it(world: World) -> None:
    operation = asked(world)
    world.becomes(job={"state": "FAILED"})
    world.settle()
    assert world.job().phase is Phase.FAILED
    assert world.operation(operation).state is State.FAILED
    assert "is FAILED: there is nothing to take a savepoint of" in world.operation(operation).reason


def test_it_is_refused_where_nothing_runs(world: World) -> None:
    world.runs()
    suspend = world.accept(KindName.SUSPEND, "orders")
    with pytest.raises(Conflict, match="cannot SAVEPOINT while SUSPENDED"):
        savepoint(world)
    world.execute()
    world.is_suspended(PATH)
    world.settle()
    assert world.operation(suspend).state is State.SUCCEEDED
    world.stop()
    with pytest.raises(Conflict, match="cannot SAVEPOINT while a STOP is open"):
        savepoint(world)


def test_a_stop_ends_it_and_a_scale_waits_for_it(world: World) -> None:
    operation = asked(world)
    scale = world.scale(2)
    world.execute()
    assert world.whole()["spec"]["job"]["parallelism"] == 1
    world.stop()
    assert [world.operation(each).state for each in (operation, scale)] == [State.SUPERSEDED] * 2


def test_a_nonce_that_somebody_overwrote_is_asked_for_again(world: World) -> None:
    operation = asked(world)
    world.edit(lambda whole: whole["spec"]["job"].update(savepointTriggerNonce=4711))
    taken(world, 4711)
    passes(world, 10)
    assert nonce(world) == operation.sequence
    assert world.operation(operation).state is State.RUNNING


def test_a_later_write_leaves_the_nonce_alone(world: World) -> None:
    operation = asked(world)
    taken(world, operation.sequence)
    world.settle()
    world.scale(2)
    world.execute()
    assert nonce(world) == operation.sequence
    assert world.whole()["spec"]["job"]["parallelism"] == 2


# savepoints as resources


def test_a_savepoint_is_listed_with_what_is_known_of_it(world: World) -> None:
    operation = asked(world)
    world.job_manager.checkpoint = Checkpoints(latest=PATH, size_bytes=4711)
    taken(world, operation.sequence)
    world.settle()
    (found,) = world.store.savepoints_of("default", "orders", None, 10)
    assert (found.path, found.kind, found.format, found.size_bytes) == (PATH, "savepoint", "CANONICAL", 4711)
    assert (found.run, found.operation, found.expires_at) == (1, operation.id, None)


def test_the_savepoint_of_an_upgrade_is_listed_and_what_a_job_started_from_is_not_its_own(world: World) -> None:
    world.runs(start_from="s3://b/of-somebody")
    world.becomes(job={"upgradeSavepointPath": "s3://b/of-somebody"})
    world.settle()
    assert world.saved() == []
    world.becomes(job={"upgradeSavepointPath": PATH})
    world.settle()
    assert world.saved() == [PATH]
    assert world.store.savepoints[PATH].job_id == "orders"


def kept_by(world: World, tenant: str, job_id: str = "payments") -> None:
    """A savepoint at PATH is on record as this tenant's."""
    savepoint = Savepoint(tenant=tenant, job_id=job_id, path=PATH, kind="savepoint", run=1, at=world.clock.now())
    world.store.add_savepoint(savepoint)


@pytest.mark.parametrize("path", [PATH, PATH.replace("s3:", "s3a:"), f"{PATH}/", f"{PATH}/_metadata"])
def test_another_tenants_savepoint_is_not_found(world: World, path: str) -> None:
    kept_by(world, "other")
    with pytest.raises(NotFound, match=r"there is no savepoint s3.* that is yours"):
        world.submit(start_from=path)
    world.runs()
    world.accept(KindName.SUSPEND, "orders")
    with pytest.raises(NotFound, match=r"there is no savepoint s3.* that is yours"):
        world.accept(KindName.RESUME, "orders", start_from=path)


def test_another_jobs_savepoint_is_taken_where_the_tenant_has_both(world: World) -> None:
    kept_by(world, "other")
    kept_by(world, "default")
    world.submit(start_from=PATH)
    world.execute()
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == PATH


def test_a_repeat_is_answered_whoever_has_the_savepoint_by_now(world: World) -> None:
    first = world.submit(start_from=PATH, idempotency_key="k")
    kept_by(world, "other")
    assert world.submit(start_from=PATH, idempotency_key="k").id == first.id
