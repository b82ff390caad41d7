"""Requests that begin new jobs are accepted many at once: what stands on record is what one after another gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, Operation, Source
from headrace.errors import IdempotencyConflict, LostRace
from headrace.services.accept import Accepted, Requested
from tests.support.world import SCRIPT, World

KAFKA = Source(via="kafka", detail={"topic": "t", "offset": 3})


def submit(job_id: str | None, key: str, **arguments: Any) -> Requested:
    return Requested(KindName.SUBMIT, job_id, {"job_config": {"script": SCRIPT}, **arguments}, key, KAFKA)


def at_once(world: World, *asked: Requested) -> list[Accepted | None]:
    return list(world.services.accept.new_jobs(asked, tenant="default"))


def alone(world: World, asked: Requested) -> Accepted:
    return world.services.accept.operation(
        asked.kind, asked.job_id, asked.arguments, tenant="default", key=asked.key, source=asked.source
    )


def recorded(world: World, job_id: str) -> tuple[Any, Operation]:
    (operation,) = world.store.operations_of(JobKey("default", job_id))
    return world.store.document(JobKey("default", job_id)), operation


def test_a_job_that_was_accepted_among_many_is_as_one_that_was_accepted_alone(world: World) -> None:
    asked = [submit("a", "1"), submit("b", "2", start_from="file:/state/s")]
    found = at_once(world, *asked)
    among = [recorded(world, name) for name in ("a", "b")]
    assert [each and each.document for each in found] == [document for document, _ in among]
    assert not world.store.unplaced(world.services.records.scope, 10)
    assert [key.job_id for key in world.queue.woken] == ["a", "b"]
    other = World(**{**vars(world)})
    other.store._documents.clear()
    other.store._operations.clear()
    for each in asked:
        alone(other, each)
    assert [recorded(other, name) for name in ("a", "b")] == among


def test_what_is_no_first_request_of_a_new_job_is_left_to_be_accepted_alone(world: World) -> None:
    world.submit("there")
    scale = Requested(KindName.SCALE, "there", {"parallelism": 2}, "s", KAFKA)
    wrong = submit("wrong", "w", nonsense=1)
    asked = [submit("there", "t"), scale, wrong, submit("new", "1"), submit("new", "2"), submit("new", "1")]
    assert [each is not None for each in at_once(world, *asked)] == [False, False, False, True, False, False]
    assert alone(world, asked[3]).created is False
    assert len(world.store.operations_of(JobKey("default", "there"))) == 1


def test_a_key_that_another_request_has_is_told_when_that_is_accepted_alone(world: World) -> None:
    world.submit("first", idempotency_key="k")
    taken = submit("second", "k")
    assert at_once(world, taken, submit("third", "3"))[0] is None
    assert world.store.document(JobKey("default", "second")) is None
    with pytest.raises(IdempotencyConflict):
        alone(world, taken)


def test_what_is_not_placed_at_once_is_placed_by_redelivery(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies, or its store goes away, between the two writes."""

    def away(_: object) -> None:
        raise LostRace("somebody was faster")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "add_documents", away)
        (found,) = at_once(world, submit("a", "1"))
    assert found is not None
    assert found.document is None
    assert world.store.document(JobKey("default", "a")) is None
    world.services.redeliver.run()
    document, operation = recorded(world, "a")
    assert [each.id for each in document.open_operations] == [operation.id]
    assert not world.store.unplaced(world.services.records.scope, 10)


def test_who_takes_the_name_of_a_deployment_meanwhile_keeps_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the way of one is met as if it had been accepted alone, and holds up no other."""
    added = world.store.add_documents

    def after_another(documents: Any) -> Any:
        named = world.services.records.new(JobKey("other", "x"))
        world.store.write(named, replace(named, job=replace(named.job, deployment_name="a"), revision=1))
        return added(documents)

    monkeypatch.setattr(world.store, "add_documents", after_another)
    found = at_once(world, submit("a", "1"), submit("b", "2"))
    assert [each and each.document is not None for each in found] == [True, True]
    document, _ = recorded(world, "a")
    assert document.job.deployment_name not in ("a", "x")


def test_a_job_whose_document_is_lost_goes_on_behind_its_log(world: World) -> None:
    """Of its log the oldest may be gone too: its first sequence is free then, and not the next one."""
    accepted = world.submit("lost")
    key = JobKey("default", "lost")
    world.store._documents.clear()
    world.store._operations[accepted.id] = replace(accepted, sequence=7)
    assert at_once(world, submit("lost", "1"), submit("new", "2"))[0] is None
    assert [each.sequence for each in world.store.operations_of(key)] == [7]
