"""SAVEPOINT: what stands in the records and on the deployment, by each way that the operator takes savepoints."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.savepoints import Savepoint
from headrace.domain.state_on_hand import Checkpoints
from headrace.errors import Conflict, NotFound, Refused
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


# by a FlinkStateSnapshot


def by_snapshot(world: World) -> Operation:
    """A SAVEPOINT of a job that runs, in a cluster that has FlinkStateSnapshots."""
    world.runtime.has_snapshots = True
    return asked(world)


def the_snapshot(world: World) -> dict[str, Any]:
    (found,) = world.runtime.snapshots.values()
    return found


def manual(world: World, **status: Any) -> None:
    """The snapshot that an operator makes for a nonce."""
    name = f"orders-savepoint-manual-{len(world.runtime.snapshots)}"
    labels = {"job-reference.name": "orders", "snapshot.trigger-type": "MANUAL"}
    metadata = {"name": name, "namespace": "default", "labels": labels}
    spec = {"savepoint": {"formatType": "NATIVE"}}
    world.runtime.put_snapshot({"metadata": metadata, "spec": spec}, **status)


def test_a_savepoint_is_a_snapshot_where_the_cluster_has_the_kind(world: World) -> None:
    operation = by_snapshot(world)
    made = the_snapshot(world)
    assert made["metadata"]["name"] == f"orders-savepoint-{operation.sequence}"
    assert made["spec"]["savepoint"]["disposeOnDelete"] is False
    assert made["spec"]["backoffLimit"] >= 0
    world.runtime.put_snapshot(made, state="IN_PROGRESS")
    passes(world, 60)
    assert world.operation(operation).state is State.RUNNING
    world.runtime.put_snapshot(made, state="COMPLETED", path=PATH)
    passes(world, 20)
    assert (world.operation(operation).state, world.operation(operation).savepoint_path) == (State.SUCCEEDED, PATH)
    assert world.store.savepoints[PATH].format == "CANONICAL"
    assert nonce(world) is None


@pytest.mark.parametrize("state", ["FAILED", "ABANDONED"])
def test_a_snapshot_that_fails_says_why(world: World, state: str) -> None:
    operation = by_snapshot(world)
    world.runtime.put_snapshot(the_snapshot(world), state=state, error="no space left")
    passes(world, 20)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "the savepoint failed: no space left" in ended.reason
    assert world.job().phase is Phase.RUNNING
    assert world.sequence() == operation.sequence


def test_a_snapshot_that_nobody_looks_at_gives_way_to_the_nonce(world: World) -> None:
    operation = by_snapshot(world)
    passes(world, 20)
    assert nonce(world) is None
    passes(world, 30)
    assert nonce(world) == operation.sequence
    assert world.runtime.snapshots == {}
    taken(world, operation.sequence)
    passes(world, 20)
    assert world.operation(operation).savepoint_path == PATH


def test_a_snapshot_that_is_taken_up_in_the_last_moment_is_waited_for(world: World) -> None:
    operation = by_snapshot(world)
    world.runtime.put_snapshot(the_snapshot(world), state="TRIGGER_PENDING")
    passes(world, 120)
    assert nonce(world) is None
    world.runtime.put_snapshot(the_snapshot(world), state="COMPLETED", path=PATH)
    passes(world, 20)
    assert world.operation(operation).state is State.SUCCEEDED


def test_a_snapshot_that_was_left_by_a_job_of_the_same_name_is_not_this_ones(world: World) -> None:
    world.runtime.has_snapshots = True
    operation = world.runs()
    labels = {"job-reference.name": "orders"}
    metadata = {"name": f"orders-savepoint-{operation.sequence + 1}", "namespace": "default", "labels": labels}
    world.runtime.put_snapshot({"metadata": metadata, "spec": {}}, state="COMPLETED", path="s3://b/of-long-ago")
    later = savepoint(world)
    world.execute()
    assert nonce(world) == later.sequence
    assert world.operation(later).state is State.RUNNING


def test_a_nonce_whose_savepoint_is_the_operators_snapshot_is_found(world: World) -> None:
    world.runtime.has_snapshots = True
    world.runs()
    manual(world, state="COMPLETED", path="s3://b/an-older-one")
    operation = savepoint(world)
    world.execute()
    passes(world, 50)
    assert nonce(world) == operation.sequence
    manual(world, state="IN_PROGRESS")
    world.becomes()  # the nonce is reconciled, and savepointInfo stays empty
    passes(world, 20)
    assert world.operation(operation).state is State.RUNNING
    world.runtime.put_snapshot(list(world.runtime.snapshots.values())[-1], state="COMPLETED", path=PATH)
    passes(world, 20)
    assert world.operation(operation).savepoint_path == PATH
    assert world.store.savepoints[PATH].format == "NATIVE"


def test_where_snapshots_may_not_be_seen_a_nonce_that_shows_nothing_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise Refused("flinkstatesnapshots is forbidden")

    monkeypatch.setattr(world.runtime, "snapshots_of", refuses)
    operation = asked(world)
    assert nonce(world) == operation.sequence
    world.becomes()
    passes(world, 20)
    assert world.operation(operation).state is State.RUNNING
    assert "cannot be seen: flinkstatesnapshots is forbidden" in world.operation(operation).reason
    passes(world, 2400)
    assert world.operation(operation).state is State.FAILED


def test_at_its_deadline_no_wish_is_left(world: World) -> None:
    operation = by_snapshot(world)
    world.runtime.put_snapshot(the_snapshot(world), state="TRIGGER_PENDING")
    passes(world, 2400)
    assert world.operation(operation).state is State.FAILED
    assert world.runtime.snapshots == {}


def test_a_job_that_ends_right_after_its_savepoint_has_it_on_record(world: World) -> None:
    operation = by_snapshot(world)
    world.runtime.put_snapshot(the_snapshot(world), state="COMPLETED", path=PATH)
    world.becomes(job={"state": "FINISHED"})
    passes(world, 20)
    assert world.operation(operation).savepoint_path == PATH
