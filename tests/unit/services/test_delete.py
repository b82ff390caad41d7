"""DELETE, UNDELETE and what is pruned: what stands in the records and on the cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from headrace.domain.document import JobDocument
from headrace.domain.jobs import Desired, JobKey, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound, Unavailable
from headrace.ports import JobFilter
from tests.support.world import World

SAVEPOINT = "s3://b/savepoint-1"
KEY = JobKey("default", "orders")


def delete(world: World, **fields: object) -> Operation:
    return world.accept(KindName.DELETE, "orders", **fields)  # type: ignore[arg-type]


def undelete(world: World, **fields: object) -> Operation:
    return world.accept(KindName.UNDELETE, "orders", **fields)  # type: ignore[arg-type]


def deleted(world: World, **fields: object) -> Operation:
    """A job that ran and was deleted."""
    world.runs(idempotency_key="submit")
    operation = delete(world, **fields)
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    assert world.job().phase is Phase.DELETED
    return operation


def long_after(world: World) -> None:
    world.clock.advance(timedelta(days=31).total_seconds())


def listed(world: World, phase: Phase | None = None) -> list[str]:
    return [each.key.job_id for each in world.store.list_jobs("default", JobFilter(phase), None, 10)]


def test_the_run_ends_with_its_state_kept_and_the_job_is_deleted(world: World) -> None:
    operation = world.operation(deleted(world))
    assert (operation.state, operation.reason) == (State.SUCCEEDED, f"state kept in {SAVEPOINT}")
    job = world.job()
    assert (job.desired, job.savepoint_path, job.reason) == (Desired.DELETED, SAVEPOINT, "deleted")
    assert world.runtime.get("default", "orders") is None
    assert world.phases()[-3:] == ["RUNNING", "DELETING", "DELETED"]


def test_lists_leave_a_deleted_job_out_unless_they_are_asked_for_it(world: World) -> None:
    deleted(world)
    assert listed(world) == []
    assert listed(world, Phase.DELETED) == ["orders"]


def test_a_state_that_cannot_be_known_is_not_deleted_without_force(world: World) -> None:
    world.runs()
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes(job={"state": "RESTARTING"})
    operation = delete(world)
    for _ in range(100):
        world.clock.advance(20)
        world.settle()
        world.execute()
    assert world.operation(operation).state is State.FAILED
    assert "force" in world.operation(operation).reason
    assert world.runtime.get("default", "orders") is not None
    delete(world, force=True)
    world.settle()
    assert world.job().phase is Phase.DELETED


def test_a_stopped_job_is_deleted_at_once_and_keeps_its_path(world: World) -> None:
    world.runs()
    world.stop()
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    operation = delete(world)
    world.execute()
    assert world.operation(operation).state is State.SUCCEEDED
    assert (world.job().phase, world.job().savepoint_path) == (Phase.DELETED, SAVEPOINT)


def test_a_failed_job_is_deleted_with_what_it_left(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "FAILED"})
    world.settle()
    delete(world)
    world.settle()
    for _ in range(5):
        world.execute()
        if world.runtime.get("default", "orders") is not None and world.whole()["spec"]["job"]["state"] == "suspended":
            world.is_suspended(None)
        world.settle()
    assert world.job().phase is Phase.DELETED
    assert world.runtime.get("default", "orders") is None


def test_it_ends_a_stop_that_is_open_and_keeps_the_state_of_its_suspend(world: World) -> None:
    world.runs()
    stopping = world.stop()
    world.execute()
    operation = delete(world)
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    assert world.operation(stopping).state is State.SUPERSEDED
    assert world.operation(operation).reason == f"state kept in {SAVEPOINT}"
    assert SAVEPOINT in world.saved()


@pytest.mark.parametrize("kind", [KindName.SCALE, KindName.SUSPEND, KindName.RESTART, KindName.STOP, KindName.DELETE])
def test_what_needs_a_run_is_refused_behind_it(world: World, kind: KindName) -> None:
    world.runs()
    delete(world)
    with pytest.raises(Conflict, match="DELETE"):
        world.accept(kind, "orders", **({"parallelism": 2} if kind is KindName.SCALE else {}))


def test_a_deleted_job_is_not_deleted_twice(world: World) -> None:
    deleted(world)
    with pytest.raises(Conflict, match="DELETED already"):
        delete(world)


def test_undelete_brings_its_records_back_and_nothing_to_run(world: World) -> None:
    deleted(world)
    operation = undelete(world)
    world.execute()
    assert world.operation(operation).state is State.SUCCEEDED
    job = world.job()
    assert (job.phase, job.desired, job.savepoint_path) == (Phase.CANCELLED, Desired.CANCELLED, SAVEPOINT)
    assert listed(world) == ["orders"]
    assert world.runtime.get("default", "orders") is None
    long_after(world)
    assert world.services.prune.run().forgotten == []


def test_undelete_of_what_is_not_deleted_is_refused(world: World) -> None:
    world.runs()
    with pytest.raises(Conflict, match="it is RUNNING and not DELETED"):
        undelete(world)


def test_a_submit_begins_another_run_of_a_deleted_job_from_its_last_state(world: World) -> None:
    deleted(world)
    world.submit(start_from="last")
    assert listed(world) == ["orders"]
    world.execute()
    world.becomes()
    world.settle()
    job = world.job()
    assert (job.phase, job.run, job.desired) == (Phase.RUNNING, 2, Desired.RUNNING)
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == SAVEPOINT


def test_its_records_go_after_the_installations_time_and_not_before(world: World) -> None:
    deleted(world)
    world.clock.advance(timedelta(days=29).total_seconds())
    assert world.services.prune.run().forgotten == []
    assert world.job().submitted
    world.clock.advance(timedelta(days=2).total_seconds())
    assert world.services.prune.run().forgotten == [KEY]
    assert world.services.records.job(KEY) is None
    assert world.store.transitions_of(KEY) == []
    assert listed(world, Phase.DELETED) == []
    assert all(not each.arguments for each in world.store.operations_of(KEY))
    assert SAVEPOINT in world.saved()


@pytest.mark.parametrize("kind", [KindName.UNDELETE, KindName.STOP, KindName.DELETE])
def test_of_a_job_whose_records_are_gone_there_is_none(world: World, kind: KindName) -> None:
    deleted(world)
    long_after(world)
    world.services.prune.run()
    with pytest.raises(NotFound, match="there is none of this name"):
        world.accept(kind, "orders")


def test_an_idempotency_key_outlives_the_records(world: World) -> None:
    world.runs(idempotency_key="submit")
    long_after(world)
    deleting = delete(world, idempotency_key="delete")
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    prune = world.services.prune
    assert [*prune.run().forgotten] == []
    long_after(world)
    assert [*prune.run().forgotten] == [KEY]
    assert delete(world, idempotency_key="delete").id == deleting.id
    with pytest.raises(IdempotencyConflict):
        delete(world, idempotency_key="delete", force=True)
    world.clock.advance(1)
    prune.run()
    assert world.store.operation_by_key("default", "delete") is None


def test_the_next_run_of_a_forgotten_job_goes_on_from_its_numbers(world: World) -> None:
    deleted(world)
    sequence = world.store.operations_of(KEY)[-1].sequence
    long_after(world)
    world.services.prune.run()
    with pytest.raises(InvalidRequest, match="no last state"):
        world.submit(start_from="last")
    submitted = world.submit()
    assert submitted.sequence > sequence
    world.settle()
    world.execute()
    world.becomes()
    world.settle()
    assert (world.job().run, world.job().phase) == (2, Phase.RUNNING)


def test_what_is_asked_for_meanwhile_keeps_the_records(world: World) -> None:
    deleted(world)
    long_after(world)
    undelete(world)
    assert world.services.prune.run().forgotten == []
    world.execute()
    assert world.job().phase is Phase.CANCELLED


def test_what_is_brought_back_while_its_records_go_is_whole_or_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An UNDELETE comes in when a prune has looked and written nothing: the prune leaves the job alone. When it has
    written, the UNDELETE is refused."""
    deleted(world)
    long_after(world)
    write, asked = world.store.write, []

    def after_an_undelete(before: JobDocument, after: JobDocument) -> JobDocument:
        if after.job.is_forgotten and not asked:
            asked.append(undelete(world))
        return write(before, after)

    monkeypatch.setattr(world.store, "write", after_an_undelete)
    assert world.services.prune.run().forgotten == []
    monkeypatch.undo()
    world.execute()
    assert world.operation(asked[0]).state is State.SUCCEEDED
    assert world.job().submitted
    assert world.phases()[-2:] == ["DELETED", "CANCELLED"]
    assert all(each.arguments for each in world.store.operations_of(KEY) if each.kind is KindName.SUBMIT)


def test_the_history_of_the_next_run_is_not_taken_with_the_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted(world)
    long_after(world)
    forget = world.store.forget

    def after_another_run_has_begun(*arguments: Any) -> None:
        world.submit()
        world.execute()
        forget(*arguments)

    monkeypatch.setattr(world.store, "forget", after_another_run_has_begun)
    world.services.prune.run()
    monkeypatch.undo()
    world.becomes()
    world.settle()
    assert (world.job().run, world.job().phase) == (2, Phase.RUNNING)
    assert world.phases()[0] == "REQUESTED"


@pytest.mark.parametrize("write", ["forget", "write"])
def test_a_prune_that_dies_in_the_middle_is_finished_by_the_next(
    world: World, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted(world)
    long_after(world)
    done: Callable[..., object] = getattr(world.store, write)

    def and_dies(*arguments: object) -> None:
        done(*arguments)
        raise Unavailable("the process is gone")

    monkeypatch.setattr(world.store, write, and_dies)
    with pytest.raises(Unavailable):
        world.services.prune.run()
    monkeypatch.undo()
    world.services.prune.run()
    assert world.services.records.job(KEY) is None
    assert world.store.transitions_of(KEY) == []


def test_a_forgotten_job_whose_next_submit_was_stopped_is_seen_by_its_name_too(world: World) -> None:
    deleted(world)
    long_after(world)
    world.services.prune.run()
    world.submit()
    world.stop()
    world.settle()
    world.execute()
    assert listed(world) == ["orders"]
    assert world.job().phase is Phase.CANCELLED
