"""What every Store promises: the in-memory one and MongoDB's wire keep it by the same tests.

Durability and bounds can be shown on the server alone, at the end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.collection import Collection

from headrace.adapters.mongo import connect
from headrace.domain.api_keys import ApiKey, Role
from headrace.domain.diff import Change
from headrace.domain.document import JobDocument
from headrace.domain.jobs import Job, JobKey, Observation, Phase, Transition, Waiting
from headrace.domain.operations import KindName, Operation, Source, State, Step, hash_of, operation_id
from headrace.domain.parameters import Parameter, ParameterType
from headrace.domain.savepoints import Savepoint
from headrace.domain.stock import LeaseSeen
from headrace.domain.templates import Template
from headrace.domain.triggers import MOST_TRIGGERS, Trigger, parse_trigger
from headrace.errors import Conflict, LostRace, NameTaken, TooMany, Unavailable
from headrace.ports import JobFilter, Lease, Owner, Remains, Scope, SealedText, Steady, Store
from headrace.testing import InMemoryStore
from local.process import LocalProcess
from tests.support import servers
from tests.support.patience import PATIENCE, REQUEST_SECONDS, WAIT_SECONDS, wait_for

LONG_SECONDS = 3600.0
"""Of a lease that is not to run out, however long this machine stands still."""

NOW = datetime(2026, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
KEY = JobKey("default", "orders")
SCOPE = Scope("default", "c", "n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mongodb")
    command = servers.mongodb(folder)
    with servers.running(command, folder):
        yield command.address


@pytest.fixture(params=["memory", "mongodb"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield InMemoryStore()
        return
    made = connect(request.getfixturevalue("server"), f"test-{uuid.uuid4().hex[:8]}", REQUEST_SECONDS)
    made.migrate()
    yield made
    made.close()


def operation(key: str = "k", sequence: int = 1, job: JobKey = KEY, **facts: object) -> Operation:
    arguments = {"parallelism": 2}
    made = Operation(
        id=operation_id(job.tenant, key),
        tenant=job.tenant,
        job_id=job.job_id,
        sequence=sequence,
        kind=KindName.SCALE,
        arguments=arguments,
        arguments_hash=hash_of(KindName.SCALE, job.job_id, arguments),
        idempotency_key=key,
        source=Source(via="http"),
        accepted_at=NOW,
        updated_at=NOW,
        deadline_seconds=900.0,
        cluster="c",
        namespace="n",
    )
    return replace(made, **facts)


def job(job_id: str = "orders", tenant: str = "default", **facts: object) -> Job:
    made = Job(
        tenant=tenant,
        job_id=job_id,
        cluster="c",
        namespace="n",
        deployment_name=job_id,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(made, **facts)


def document(job_id: str = "orders", tenant: str = "default", **facts: object) -> JobDocument:
    own = {name: facts.pop(name) for name in list(facts) if name in {field.name for field in fields(JobDocument)}}
    return replace(JobDocument(job=job(job_id, tenant, **facts), revision=1), **own)


def stored_in(store: Store, made: JobDocument) -> JobDocument:
    """The document as it is once it was stored first."""
    return store.write(replace(made, revision=0), made)


def next_of(before: JobDocument, **facts: object) -> JobDocument:
    """The document's next revision, with these facts of its job."""
    return replace(before, job=replace(before.job, **facts), revision=before.revision + 1)


def transition(number: int = 1, to: Phase = Phase.RUNNING, **facts: object) -> Transition:
    made = Transition(
        tenant="default",
        job_id="orders",
        number=number,
        run=1,
        from_phase=Phase.SUBMITTING,
        to_phase=to,
        at=NOW,
        observed_at=NOW,
        deployment_uid="u",
        resource_version="7",
    )
    return replace(made, **facts)


def at_once(count: int, what: Callable[[int], object]) -> list[object]:
    """What this many threads got that began together; an exception counts as what was got."""
    barrier = threading.Barrier(count)

    def run(number: int) -> object:
        barrier.wait(30)
        try:
            return what(number)
        except LostRace as lost:
            return lost

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# operations


def test_an_operation_comes_back_as_it_was_stored(store: Store) -> None:
    source = Source(via="kafka", detail={"topic": "t", "partition": 3, "offset": 12})
    facts = {"flat.key": {"job.autoscaler.enabled": "true", "$dollar": 1}, "list": [1, {"a.b": None}]}
    made = operation(source=source, arguments=facts, not_before=NOW, step=Step.AWAIT_GONE, state=State.RUNNING)
    assert store.insert_operation(made).created
    assert store.operation("default", made.id) == made
    assert store.operation_by_key("default", "k") == made
    assert store.operations_of(KEY) == [made]


def test_absent_records_are_none_and_nothing(store: Store) -> None:
    assert store.operation("default", "no") is None
    assert store.operation_by_key("default", "no") is None
    assert store.job(KEY) is None
    assert store.document(KEY) is None
    assert store.documents([KEY]) == []
    assert store.versions(SCOPE) == {}
    assert store.jobs_of(SCOPE, {"u"}) == []
    assert store.due(SCOPE, NOW, 10, for_workers=True) == []
    assert store.template("default", "no") is None
    assert store.cursor(SCOPE) is None
    assert not [*store.operations_of(KEY), *store.unplaced(SCOPE, 10), *store.transitions_of(KEY)]


def test_one_tenants_records_are_not_anothers(store: Store) -> None:
    store.insert_operation(made := operation())
    stored_in(store, document())
    assert store.operation("other", made.id) is None
    assert store.operation_by_key("other", "k") is None
    assert store.list_jobs("other", JobFilter(), None, 10) == []
    assert store.insert_operation(operation(job=JobKey("other", "orders"))).created


def test_a_known_key_gives_back_what_is_stored(store: Store) -> None:
    first = store.insert_operation(operation()).operation
    again = store.insert_operation(operation(sequence=2, accepted_at=NOW + timedelta(hours=1)))
    assert (again.operation, again.created) == (first, False)
    assert len(store.operations_of(KEY)) == 1


def test_a_taken_sequence_is_a_lost_race(store: Store) -> None:
    store.insert_operation(operation("one"))
    with pytest.raises(LostRace):
        store.insert_operation(operation("two"))
    assert [o.idempotency_key for o in store.operations_of(KEY)] == ["one"]


def test_of_ten_inserts_of_one_key_one_is_stored(store: Store) -> None:
    found = at_once(10, lambda n: store.insert_operation(operation(sequence=n + 1)))
    stored = store.operations_of(KEY)
    assert len(stored) == 1
    assert [each.created for each in found].count(True) == 1  # type: ignore[attr-defined]
    assert all(each.operation == stored[0] for each in found)  # type: ignore[attr-defined]


def test_of_ten_inserts_of_one_sequence_one_is_stored(store: Store) -> None:
    found = at_once(10, lambda n: store.insert_operation(operation(f"key-{n}")))
    assert sum(isinstance(each, LostRace) for each in found) == 9
    assert len(store.operations_of(KEY)) == 1


def test_an_operation_is_unplaced_until_it_is_said_to_be_placed(store: Store) -> None:
    other = JobKey("default", "b")
    made = {n: operation(f"k{n}", n, accepted_at=NOW + timedelta(seconds=n)) for n in (3, 1, 2)}
    for each in (*made.values(), first := operation("other", 1, other, accepted_at=NOW)):
        store.insert_operation(each)
    assert list(store.unplaced(SCOPE, 10).items()) == [(other, [first.id]), (KEY, [made[n].id for n in (1, 2, 3)])]
    assert dict(store.unplaced(SCOPE, 1)) == {other: [first.id]}
    store.clear_unplaced([first.id, made[1].id, made[2].id])
    assert dict(store.unplaced(SCOPE, 10)) == {KEY: [made[3].id]}
    store.clear_unplaced([made[3].id])
    assert dict(store.unplaced(SCOPE, 10)) == {}
    assert [o.sequence for o in store.operations_of(KEY, after=1, limit=1)] == [2]


def test_an_outcome_is_written_once_and_keeps_what_was_asked(store: Store) -> None:
    made = store.insert_operation(operation(arguments={"request": {"a.b": 1}})).operation
    ended = replace(made, arguments={}, state=State.SUCCEEDED, reason="the job is RUNNING", ended_at=NOW)
    ended = replace(ended, holds=True, run=2)
    store.write_outcomes([ended])
    store.write_outcomes([replace(ended, state=State.FAILED, reason="later")])
    store.write_outcomes([])
    found = store.operation("default", made.id)
    assert found is not None
    assert (found.state, found.reason, found.arguments) == (State.SUCCEEDED, "the job is RUNNING", made.arguments)
    assert (found.holds, found.run) == (True, 2)


# documents


def test_a_document_comes_back_as_it_was_stored(store: Store) -> None:
    manifest = {"spec": {"flinkConfiguration": {"state.checkpoints.dir": "file:///s", "$x": "1"}}}
    changes = (Change(("spec", "job", "a.b"), {"c": [1]}), Change(("metadata",), removed=True))
    made = document(
        labels={"team.name/owner": "a"},
        observed_at=NOW,
        phase=Phase.RUNNING,
        manifests={"abc": manifest},
        applied="abc",
        submitted={"env": {"a.b": "1"}},
        open_operations=(operation(inverse=changes, state=State.RUNNING, step=Step.AWAIT_RUNNING),),
        ended=(operation("k2", 2, state=State.SUPERSEDED, reason="why"),),
        history=(transition(),),
        due_at=NOW,
        decisions=4,
    )
    assert stored_in(store, made) == made
    assert store.document(KEY) == made
    assert store.job(KEY) == made.job


def test_a_document_that_is_there_is_not_stored_first_again(store: Store) -> None:
    stored_in(store, document(reason="first"))
    with pytest.raises(LostRace):
        stored_in(store, document(reason="second"))
    assert store.job(KEY).reason == "first"  # type: ignore[union-attr]


def test_of_ten_writers_of_one_revision_one_wins_and_the_others_are_told(store: Store) -> None:
    first = stored_in(store, document())
    found = at_once(10, lambda n: store.write(first, next_of(first, reason=str(n))))
    assert sum(isinstance(each, LostRace) for each in found) == 9
    assert store.document(KEY) in found


def test_of_ten_first_documents_of_a_job_one_is_stored(store: Store) -> None:
    found = at_once(10, lambda n: stored_in(store, document(reason=str(n))))
    assert sum(isinstance(each, LostRace) for each in found) == 9
    assert store.document(KEY) in found


def test_a_document_that_is_gone_is_a_lost_race(store: Store) -> None:
    with pytest.raises(LostRace):
        store.write(document(), next_of(document()))
    assert store.document(KEY) is None


def test_a_bulk_says_which_jobs_lost_their_race(store: Store) -> None:
    assert store.write_all([]) == []
    one, two = stored_in(store, document("one")), stored_in(store, document("two"))
    store.write(two, next_of(two, reason="meanwhile"))
    lost = store.write_all([(one, next_of(one, reason="bulk")), (two, next_of(two, reason="bulk"))])
    assert list(lost) == [two.key]
    found = {each.job.job_id: each.job.reason for each in store.documents([one.key, two.key])}
    assert found == {"one": "bulk", "two": "meanwhile"}


def test_a_lean_reader_writes_nothing_over_what_it_did_not_read(store: Store) -> None:
    stored_in(store, document(kept_log="the end", manifests={"a": {"spec": {}}}, submitted={"script": "x"}))
    [lean] = store.documents([KEY])
    assert (lean.job.kept_log, lean.job.manifests, lean.job.submitted) == ("", {}, {})
    assert list(store.write_all([(lean, next_of(lean, reason="seen"))])) == []
    found = store.document(KEY)
    assert found is not None
    assert (found.job.reason, found.job.kept_log, found.job.submitted) == ("seen", "the end", {"script": "x"})
    [lean] = store.documents([KEY])
    store.write(lean, next_of(lean, kept_log="another"))
    assert store.job(KEY).kept_log == "another"  # type: ignore[union-attr]


def test_what_is_flushed_is_emptied_where_nobody_wrote_since(store: Store) -> None:
    first = stored_in(store, document(history=(transition(),), ended=(operation(state=State.FAILED),), due_at=NOW))
    later = NOW + timedelta(minutes=1)
    store.flushed([replace(first, history=(), ended=(), due_at=later)])
    found = store.document(KEY)
    assert found is not None
    assert (found.is_flushed, found.due_at, found.revision) == (True, later, first.revision)
    second = store.write(found, replace(next_of(found), history=(transition(2),)))
    store.flushed([replace(found, due_at=None)])
    assert store.document(KEY) == second


def test_what_is_due_is_found_the_longest_due_first_and_in_its_scope(store: Store) -> None:
    waiting = (operation(step=Step.AWAIT_RUNNING, state=State.RUNNING),)
    for n, name in enumerate(("one", "two", "three")):
        stored_in(store, document(name, open_operations=(operation(),), due_at=NOW - timedelta(seconds=n)))
    stored_in(store, document("later", open_operations=(operation(),), due_at=NOW + timedelta(seconds=1)))
    stored_in(store, document("never", open_operations=(operation(),)))
    stored_in(store, document("waits", open_operations=waiting, due_at=NOW))
    stored_in(store, document("far", cluster="other", open_operations=(operation(),), due_at=NOW))
    stored_in(
        store, document("one", tenant="other", deployment_name="theirs", open_operations=(operation(),), due_at=NOW)
    )
    found = store.due(SCOPE, NOW, 10, for_workers=True)
    assert [each.job.job_id for each in found] == ["three", "two", "one"]
    assert [each.job.job_id for each in store.due(SCOPE, NOW, 1, for_workers=True)] == ["three"]
    assert [each.job.job_id for each in store.due(SCOPE, NOW, 10, for_workers=False)] == ["waits"]


def test_jobs_are_listed_by_id_in_pages_and_by_filter(store: Store) -> None:
    for n in range(5):
        labels = {"team": "a" if n % 2 else "b", "app.kubernetes.io/name": "x"}
        stored_in(store, document(f"job-{n}", labels=labels, phase=Phase.RUNNING if n > 2 else Phase.REQUESTED))
    ids = [each.job.job_id for each in store.list_jobs("default", JobFilter(), "job-1", 2)]
    assert ids == ["job-2", "job-3"]
    running = store.list_jobs("default", JobFilter(phase=Phase.RUNNING), None, 10)
    assert [each.job.job_id for each in running] == ["job-3", "job-4"]
    labelled = store.list_jobs("default", JobFilter(labels={"team": "a"}), None, 1)
    assert [each.job.job_id for each in labelled] == ["job-1"]


def test_deleted_jobs_are_listed_where_they_are_asked_for_while_they_have_records(store: Store) -> None:
    stored_in(store, document("gone", phase=Phase.DELETED))
    stored_in(store, document("comes-back", phase=Phase.DELETED, open_operations=(operation(),)))
    stored_in(store, document("forgotten", phase=Phase.DELETED, is_forgotten=True))
    assert [each.job.job_id for each in store.list_jobs("default", JobFilter(), None, 10)] == ["comes-back"]
    deleted = store.list_jobs("default", JobFilter(phase=Phase.DELETED), None, 10)
    assert [each.job.job_id for each in deleted] == ["comes-back", "gone"]


def test_jobs_deleted_long_ago_are_found_the_longest_first_in_their_scope_alone(store: Store) -> None:
    for age, name in enumerate(("now", "day", "week")):
        stored_in(store, document(name, phase=Phase.DELETED, phase_since=NOW - timedelta(days=age)))
    stored_in(store, document("runs", phase=Phase.RUNNING, phase_since=NOW - timedelta(days=9)))
    old = NOW - timedelta(days=9)
    stored_in(store, document("all gone", phase=Phase.DELETED, phase_since=None, is_forgotten=True))
    stored_in(store, document("elsewhere", phase=Phase.DELETED, phase_since=old, cluster="other"))
    named = [key.job_id for key in store.deleted(SCOPE, NOW, 10)]
    assert named == ["week", "day"]
    assert [key.job_id for key in store.deleted(SCOPE, NOW, 1)] == ["week"]


def test_what_ended_runs_have_left_is_found_with_how_long_it_is_wanted(store: Store) -> None:
    ago = NOW - timedelta(days=2)
    kept = {"submitted": {"ended_run_kept_hours": 1.5}}
    stored_in(store, document("batch", phase=Phase.FINISHED, phase_since=NOW, is_gone=False))
    stored_in(store, document("short", phase=Phase.FAILED, phase_since=ago, is_gone=False, **kept))
    stored_in(store, document("cleared", phase=Phase.FINISHED, phase_since=ago, is_gone=True))
    stored_in(store, document("runs", phase=Phase.RUNNING, phase_since=ago, is_gone=False))
    asked = {"phase": Phase.FAILED, "phase_since": ago, "is_gone": False, "open_operations": (operation(),)}
    stored_in(store, document("asked", **asked))
    stored_in(store, document("elsewhere", phase=Phase.FAILED, phase_since=ago, is_gone=False, namespace="other"))
    found = store.remains(SCOPE)
    assert found == [Remains(JobKey("default", "short"), ago, 1.5), Remains(JobKey("default", "batch"), NOW, None)]


def test_jobs_that_run_and_of_which_nothing_is_asked_are_found_with_their_settings(store: Store) -> None:
    own = {"every_minutes": 60, "blackout": ["22:00-06:00"]}
    runs = {"phase": Phase.RUNNING, "phase_since": NOW, "run": 2}
    stored_in(store, document("b", **runs))
    stored_in(store, document("a", **runs, submitted={"savepoints": own}))
    stored_in(store, document("asked", **runs, open_operations=(operation(),)))
    stored_in(store, document("rests", phase=Phase.SUSPENDED, phase_since=NOW))
    stored_in(store, document("elsewhere", **runs, cluster="other"))
    a, b = JobKey("default", "a"), JobKey("default", "b")
    assert store.steady(SCOPE, of_all=True) == [Steady(a, 2, NOW, own), Steady(b, 2, NOW)]
    assert store.steady(SCOPE, of_all=False) == [Steady(a, 2, NOW, own)]
    assert store.savepoint_settings([a, b, JobKey("default", "none")]) == {a: own, b: {}}


def test_what_is_forgotten_is_what_a_job_was_asked_for_up_to_then(store: Store) -> None:
    other = JobKey("default", "payments")
    for made in (operation("a"), operation("b", sequence=2), operation("c", sequence=3)):
        store.insert_operation(made)
    store.insert_operation(operation("d", job=other))
    ended = [operation(key, n).ended(State.SUCCEEDED, "said of it", NOW) for n, key in ((1, "a"), (2, "b"))]
    store.write_outcomes(ended)
    store.add_transitions([transition(), transition(2), transition(job_id="payments")])
    for _ in range(2):
        store.forget(KEY, 1, 1)
    first, *rest = store.operations_of(KEY)
    assert (dict(first.arguments), first.reason, first.arguments_hash) == ({}, "", operation().arguments_hash)
    assert [dict(each.arguments) for each in rest] == [{"parallelism": 2}] * 2
    assert [each.number for each in store.transitions_of(KEY)] == [2]
    assert len(store.transitions_of(other)) == 1
    assert [dict(each.arguments) for each in store.operations_of(other)] == [{"parallelism": 2}]


def test_what_is_open_is_not_forgotten(store: Store) -> None:
    store.insert_operation(operation())
    store.forget(KEY, 5, 5)
    store.drop_forgotten(SCOPE, NOW + timedelta(days=99))
    assert [dict(each.arguments) for each in store.operations_of(KEY)] == [{"parallelism": 2}]


def test_what_is_left_of_the_forgotten_goes_by_its_age_in_its_scope_alone(store: Store) -> None:
    store.insert_operation(operation("a"))
    store.insert_operation(operation("b", sequence=2))
    store.write_outcomes(
        [operation("a").ended(State.SUCCEEDED, "", NOW), operation("b", 2).ended(State.FAILED, "", NOW)]
    )
    store.forget(KEY, 1, 1)
    store.drop_forgotten(SCOPE, NOW)
    store.drop_forgotten(replace(SCOPE, namespace="other"), NOW + timedelta(seconds=1))
    assert len(store.operations_of(KEY)) == 2
    store.drop_forgotten(SCOPE, NOW + timedelta(seconds=1))
    assert [each.sequence for each in store.operations_of(KEY)] == [2]
    assert store.operation_by_key("default", "a") is None


def test_a_lean_list_has_what_is_open_and_no_request(store: Store) -> None:
    told = {"submitted": {"parallelism": 2}, "kept_log": "boom", "restarts": 3}
    stored_in(store, document("orders", open_operations=(operation(),), **told))
    [whole] = store.list_jobs("default", JobFilter(), None, 10)
    [lean] = store.list_jobs("default", JobFilter(), None, 10, lean=True)
    assert (whole.job.submitted, lean.job.submitted, lean.job.kept_log) == ({"parallelism": 2}, {}, "")
    assert (lean.job.restarts, lean.open_operations) == (3, (operation(),))


def test_versions_are_of_a_scopes_deployments_that_were_not_seen_gone(store: Store) -> None:
    stored_in(store, document("one", deployment_uid="u", resource_version="7", is_gone=False, phase=Phase.RUNNING))
    stored_in(store, document("two", deployment_uid="v", is_gone=False, phase=Phase.FAILED))
    stored_in(store, document("three", deployment_uid="w", is_gone=True, phase=Phase.CANCELLED))
    stored_in(store, document("four", deployment_uid="x", is_gone=False, namespace="elsewhere"))
    stored_in(store, document("five", is_gone=False))
    assert store.versions(SCOPE) == {"u": "7", "v": None}
    assert store.jobs_of(SCOPE, {"v", "w", "x", "none"}) == [JobKey("default", "two")]
    assert store.jobs_of(SCOPE, {"v", *(f"none-{number}" for number in range(500))}) == [JobKey("default", "two")]


def test_a_mark_changes_how_fresh_the_going_jobs_of_a_scope_are_and_nothing_else(store: Store) -> None:
    one = stored_in(store, document("one", deployment_uid="u", phase=Phase.RUNNING, observation=Observation.FRESH))
    stored_in(store, document("two", deployment_uid="v", phase=Phase.FAILED, observation=Observation.FRESH))
    stored_in(store, document("three", deployment_uid="w", phase=Phase.RUNNING, cluster="other"))
    store.mark(SCOPE, Observation.UNREACHABLE, None)
    marked = store.document(one.key)
    assert marked == replace(one, job=replace(one.job, observation=Observation.UNREACHABLE))
    assert store.job(JobKey("default", "two")).observation is Observation.FRESH  # type: ignore[union-attr]
    assert store.job(JobKey("default", "three")).observation is Observation.STALE  # type: ignore[union-attr]
    store.mark(SCOPE, Observation.FRESH, NOW)
    assert store.job(one.key).observed_at == NOW  # type: ignore[union-attr]


def test_jobs_in_a_phase_come_by_how_long_nobody_looked_what_they_wait_for(store: Store) -> None:
    def looked(seconds: int) -> Waiting:
        return Waiting(at=NOW + timedelta(seconds=seconds), cause="slots")

    for name, waiting in (("late", looked(9)), ("early", looked(1)), ("never", None)):
        stored_in(store, document(name, phase=Phase.STARTING, waiting=waiting, phase_since=NOW))
    stored_in(store, document("again", phase=Phase.RESTARTING, waiting=looked(5)))
    stored_in(store, document("runs", phase=Phase.RUNNING))
    stored_in(store, document("elsewhere", phase=Phase.STARTING, namespace="elsewhere"))
    phases = {Phase.STARTING, Phase.RESTARTING}
    found = [key.job_id for key in store.jobs_in(SCOPE, phases, 10)]
    assert found == ["never", "early", "again", "late"]
    assert [key.job_id for key in store.jobs_in(SCOPE, phases, 2)] == ["never", "early"]
    assert store.jobs_in(SCOPE, {Phase.SCALING}, 10) == []
    stored = store.job(JobKey("default", "late"))
    assert stored is not None
    assert (stored.waiting, stored.phase_since) == (looked(9), NOW)


# history


def test_a_transition_is_stored_once_by_its_number(store: Store) -> None:
    store.add_transitions([transition(1), transition(2, Phase.FAILED)])
    store.add_transitions([transition(1, observed_at=NOW + timedelta(seconds=9)), transition(3)])
    store.add_transitions([])
    assert store.transitions_of(KEY) == [transition(1), transition(2, Phase.FAILED), transition(3)]


def test_a_long_history_is_read_from_its_newest_end(store: Store) -> None:
    store.add_transitions([transition(number) for number in range(1, 8)])
    assert [each.number for each in store.transitions_of(KEY, limit=3)] == [5, 6, 7]


def test_ten_sights_of_one_change_are_one_transition(store: Store) -> None:
    at_once(10, lambda _: store.add_transitions([transition()]))
    assert len(store.transitions_of(KEY)) == 1


def saved(path: str, minutes: int = 0, job_id: str = KEY.job_id, tenant: str = KEY.tenant, **facts: Any) -> Savepoint:
    at = NOW + timedelta(minutes=minutes)
    named = {"kind": "savepoint", "run": 1, **facts}
    return Savepoint(tenant=tenant, job_id=job_id, path=path, at=at, **named)


def test_remembering_a_savepoint_again_changes_nothing(store: Store) -> None:
    first = saved("file:///s/savepoint-1", format="CANONICAL", operation="o", size_bytes=7)
    store.add_savepoint(first)
    store.add_savepoint(saved("file:///s/savepoint-1", run=2))
    assert store.savepoints_of(KEY.tenant, KEY.job_id, None, 10) == [first]


def test_a_checkpoint_takes_the_place_of_the_earlier_ones_of_its_flink_job(store: Store) -> None:
    others = [saved("s3://b/a2/chk-1", 1, kind="checkpoint"), saved("s3://b/a/chk-3", 1, tenant="other")]
    for each in (*others, saved("s3://b/a/chk-9", 2, kind="checkpoint"), saved("s3://b/a/savepoint-1", 2)):
        store.add_savepoint(each)
    store.add_savepoint(saved("s3://b/a/chk-10", 3, kind="checkpoint"))
    found = store.savepoints_of(KEY.tenant, None, None, 10)
    assert [each.path for each in found] == ["s3://b/a/chk-10", "s3://b/a/savepoint-1", "s3://b/a2/chk-1"]
    assert len(store.savepoints_of("other", None, None, 10)) == 1
    store.add_savepoint(saved("s3://b/a/chk-10", 4, kind="checkpoint"))
    store.add_savepoint(saved("s3://b/a/chk-9", 5, kind="checkpoint"))  # who looked before, and writes after
    assert store.savepoints_of(KEY.tenant, None, None, 10) == found


def test_savepoints_are_listed_newest_first_page_by_page(store: Store) -> None:
    made = [saved("s3://b/1", 1), saved("s3://b/2", 3), saved("s3://b/3", 3), saved("s3://b/4", 2, "payments")]
    others = saved("s3://b/5", 9, tenant="other")
    for each in (*made, others):
        store.add_savepoint(each)
    newest = store.savepoints_of(KEY.tenant, None, None, 2)
    assert [each.path for each in newest] == ["s3://b/3", "s3://b/2"]
    rest = store.savepoints_of(KEY.tenant, None, (newest[-1].at, newest[-1].path), 10)
    assert [each.path for each in rest] == ["s3://b/4", "s3://b/1"]
    of_job = store.savepoints_of(KEY.tenant, KEY.job_id, None, 10)
    assert [each.path for each in of_job] == ["s3://b/3", "s3://b/2", "s3://b/1"]


def test_whose_a_savepoint_is_is_known_however_its_path_is_written(store: Store) -> None:
    store.add_savepoint(saved("s3://b/x/savepoint-1", tenant="other"))
    for path in ("s3://b/x/savepoint-1", "s3a://b/x//savepoint-1/", "S3://b/y/../x/savepoint-1/_metadata"):
        assert {each.tenant for each in store.savepoints_at(path)} == {"other"}
    assert not store.savepoints_at("s3://b/x/savepoint-2")
    store.add_savepoint(saved("s3://b/x/savepoint-1"))
    assert {each.tenant for each in store.savepoints_at("s3://b/x/savepoint-1")} == {"other", KEY.tenant}


def test_a_savepoint_that_goes_is_marked_once_and_is_listed_until_it_is_gone(store: Store) -> None:
    here, there = saved("s3://b/savepoint-1"), saved("s3://b/savepoint-2")
    for each in (here, there):
        store.add_savepoint(each)
    assert store.newest_savepoint(KEY) == there
    going = replace(here, disposing_since=NOW - timedelta(hours=1), goes_at=NOW, trouble="waits")
    assert store.mark_savepoint(here, going)
    assert not store.mark_savepoint(here, going)
    assert store.savepoints_at(here.path) == [going]
    later = replace(there, disposing_since=NOW, goes_at=NOW + timedelta(hours=1))
    assert store.mark_savepoint(there, later)
    assert store.newest_savepoint(KEY) is None
    assert store.mark_savepoint(later, there)
    assert store.newest_savepoint(KEY) == there
    assert store.disposing(KEY.tenant, NOW, 10) == [going]
    assert store.disposing(KEY.tenant, NOW - timedelta(seconds=1), 10) == store.disposing("other", NOW, 10) == []
    assert here.path in {each.path for each in store.savepoints_of(KEY.tenant, None, None, 10)}
    assert store.mark_savepoint(going, replace(going, disposed_at=NOW, trouble=""))
    assert store.disposing(KEY.tenant, NOW, 10) == []
    assert [each.path for each in store.savepoints_of(KEY.tenant, None, None, 10)] == [there.path]
    store.add_savepoint(here)  # seen again somewhere: it stays gone
    assert store.savepoints_at(here.path)[0].disposed_at == NOW
    store.add_savepoint(saved("s3://b/chk-9", minutes=10, kind="checkpoint"))
    assert store.newest_savepoint(KEY) == there


def test_states_in_use_are_those_of_every_job_and_of_what_is_asked(store: Store) -> None:
    stored_in(store, document("began", start_from="s3://b/1", state_path="s3://b/2"))
    stored_in(store, document("rests", savepoint_path="s3://b/3", tenant="other"))
    asked = operation("a", arguments={"start_from": "s3://b/4"})
    stored_in(store, document("asked", open_operations=(asked,)))
    store.insert_operation(operation("b", job=JobKey("default", "late"), arguments={"start_from": "s3://b/5"}))
    in_use = {path: key.job_id for path, key in store.states_in_use().items()}
    assert in_use == {
        "s3://b/1": "began",
        "s3://b/2": "began",
        "s3://b/3": "rests",
        "s3://b/4": "asked",
        "s3://b/5": "late",
    }


def test_a_state_that_an_operation_asks_for_is_in_use_while_that_is_placed(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two reads of one look: MongoDB has no look at both collections at once."""
    with closing(connect(server, f"test-{uuid.uuid4().hex[:8]}", REQUEST_SECONDS)) as store:
        store.migrate()
        asked = operation("a", arguments={"start_from": "s3://b/1"})
        store.insert_operation(asked)
        find, reads = Collection.find, list[str]()

        def placed_before_the_second_read(self: Collection[Any], *args: Any, **named: Any) -> list[Any]:
            reads.append(self.name)
            if len(reads) == 2:
                stored_in(store, document(open_operations=(asked,)))
                store.clear_unplaced([asked.id])
            return list(find(self, *args, **named))

        with monkeypatch.context() as patched:
            patched.setattr(Collection, "find", placed_before_the_second_read)
            assert "s3://b/1" in store.states_in_use()
        assert set(reads[:2]) == {"jobs", "operations"}


# templates


def test_templates_have_versions_and_equal_content_makes_none(store: Store) -> None:
    def template(parallelism: int) -> Template:
        parameters = {"rate": Parameter(default=1.5, type=ParameterType.NUMBER)}
        body = {"script": "https://x.y/job.py", "parallelism": parallelism, "flink_configuration": {"a.b": "${rate}"}}
        return Template(template_id="t", version=1, parameters=parameters, body=body)

    assert store.put_template(template(1), "default").version == 1
    assert store.put_template(template(1), "default").version == 1
    assert store.put_template(template(2), "default").version == 2
    first = store.template("default", "t", 1)
    assert first is not None
    assert first.body == template(1).body
    assert first.parameters == template(1).parameters
    assert [each.version for each in store.templates("default")] == [2]
    assert store.templates("other") == []
    at_once(5, lambda n: store.put_template(template(n + 10), "default"))
    assert [each.version for each in store.templates("default")] == [7]


# sealed texts


def sealed_request(text: str) -> dict[str, object]:
    return {"script": "https://x.y/job.py", "env": {"A": {"sealed": text}, "B": "plain"}}


def test_the_first_key_of_a_name_is_kept(store: Store) -> None:
    assert store.kept_key("default", "k") is None
    found = at_once(5, lambda number: store.keep_key("default", "k", f"key-{number}"))
    assert set(found) == {store.kept_key("default", "k")}
    assert store.kept_key("other", "k") is None


def test_every_sealed_text_of_a_scope_is_put_anew_and_open_operations_are_left_alone(store: Store) -> None:
    arguments = {"request": sealed_request("s"), "template_id": "t"}
    done = operation("done", 1, kind=KindName.SUBMIT, arguments=arguments)
    waits = operation("open", 2, kind=KindName.SUBMIT, arguments=arguments)
    elsewhere = operation(
        "else", 1, JobKey("default", "else"), kind=KindName.SUBMIT, arguments=arguments, namespace="x"
    )
    for each in (done, waits, elsewhere):
        store.insert_operation(each)
    store.write_outcomes([each.ended(State.SUCCEEDED, "", NOW) for each in (done, elsewhere)])
    stored_in(store, document(submitted=sealed_request("s"), submitted_by=done.id, template_id="t"))
    store.put_template(Template(template_id="t", body=sealed_request("s")), "default")
    store.put_template(Template(template_id="t", body=sealed_request("s")), "other")
    store.keep_key("default", "k", "s")

    seen: list[SealedText] = []

    def anew(text: SealedText) -> str:
        seen.append(text)
        return f"{text.text}-anew"

    store.reseal(SCOPE, anew)
    of_job, of_template = Owner.job("default", "orders"), Owner.template("default", "t")
    assert {each.place: list(each.owners) for each in seen} == {
        "key k": [Owner.installation("default")],
        "template t version 1, env.A": [of_template],
        f"operation {done.id}, env.A": [of_job, of_template],
        "job orders, env.A": [of_job, of_template],
    }

    def request_of(stored: Operation) -> object:
        found = store.operation("default", stored.id)
        assert found is not None
        return found.arguments["request"]

    assert [request_of(each) for each in (done, waits, elsewhere)] == [sealed_request(t) for t in ("s-anew", "s", "s")]
    written, template, other = store.document(KEY), store.template("default", "t"), store.template("other", "t")
    assert written is not None
    assert written.job.submitted == sealed_request("s-anew")
    assert written.revision == 1, "who decides meanwhile loses no race"
    assert template is not None
    assert other is not None
    assert (template.body, other.body) == (sealed_request("s-anew"), sealed_request("s"))
    assert store.kept_key("default", "k") == "s-anew"


# leases and cursors


def test_a_lease_has_one_holder_and_each_holder_a_higher_token(store: Store) -> None:
    found = at_once(10, lambda n: store.take_lease("sync", f"holder-{n}", LONG_SECONDS))
    [(holder, held)] = [(f"holder-{n}", each) for n, each in enumerate(found) if isinstance(each, Lease)]
    assert store.take_lease("sync", "late", LONG_SECONDS) is None
    assert store.take_lease("sync", holder, 0.5) == held
    taken: list[Lease] = []

    def is_taken() -> bool:
        taken.extend(filter(None, [store.take_lease("sync", "late", LONG_SECONDS)]))
        return bool(taken)

    wait_for("the lease to run out", is_taken)
    assert taken[0].token > held.token


def test_a_lease_is_renewed_by_its_holder_under_the_same_token(store: Store) -> None:
    first = store.take_lease("sync", "one", LONG_SECONDS)
    assert first is not None
    assert store.take_lease("sync", "one", LONG_SECONDS) == first
    assert store.take_lease("sync", "two", LONG_SECONDS) is None


def test_a_released_lease_is_free_and_a_lost_one_cannot_be_released(store: Store) -> None:
    first = store.take_lease("sync", "one", LONG_SECONDS)
    assert first is not None
    store.release_lease(first, "one")
    second = store.take_lease("sync", "two", LONG_SECONDS)
    assert second is not None
    store.release_lease(first, "one")
    assert store.take_lease("sync", "three", LONG_SECONDS) is None


def test_a_cursor_is_written_by_the_newest_holder_alone(store: Store) -> None:
    old = store.take_lease("sync", "one", LONG_SECONDS)
    assert old is not None
    assert store.set_cursor(SCOPE, "10", old)
    store.release_lease(old, "one")
    new = store.take_lease("sync", "two", LONG_SECONDS)
    assert new is not None
    assert not store.set_cursor(SCOPE, "11", old)
    assert store.cursor(SCOPE).resource_version == "10"  # type: ignore[union-attr]
    assert store.set_cursor(SCOPE, "12", new)
    assert not store.set_cursor(SCOPE, "13", old)
    stored = store.cursor(SCOPE)
    assert stored is not None
    assert stored.resource_version == "12"
    assert abs(datetime.now(UTC) - stored.at) < timedelta(minutes=1)
    assert store.cursor(replace(SCOPE, namespace="other")) is None


def test_a_deployments_name_is_one_jobs_in_its_cluster_and_namespace(store: Store) -> None:
    stored_in(store, document("orders"))
    for taken in (document("other", deployment_name="orders"), document("orders", tenant="second")):
        with pytest.raises(NameTaken):
            stored_in(store, taken)
        assert store.document(taken.key) is None
    with pytest.raises(LostRace):
        stored_in(store, document("orders"))
    for place in ({"cluster": "d"}, {"namespace": "m"}, {"deployment_name": "others"}):
        made = document(f"other-{min(place)}", **{"deployment_name": "orders", **place})
        assert stored_in(store, made) == made


# on the server alone


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LocalProcess]:
    with servers.running(servers.mongodb(tmp_path), tmp_path) as running:
        yield running


def test_what_was_acknowledged_survives_a_sigkill(process: LocalProcess) -> None:
    """Four writers, and a SIGKILL in their midst: a client that was told so finds its operation after the restart."""
    store = connect(process.command.address, "headrace", REQUEST_SECONDS)
    store.migrate()
    acknowledged: list[Operation] = []
    killed = threading.Event()

    def write(writer: int) -> None:
        for n in range(10_000):
            made = operation(f"{writer}-{n}", n + 1, JobKey("default", f"job-{writer}"))
            try:
                store.insert_operation(made)
            except (Unavailable, LostRace):
                return
            acknowledged.append(made)
            if killed.is_set():
                return

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, n) for n in range(4)]
        wait_for("some to be stored", lambda: len(acknowledged) > 100)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        killed.set()
        process.stop()
        process.start()
        for each in writers:
            each.result(WAIT_SECONDS * PATIENCE)
    wait_for("the server", process.is_ready)
    lost = [each.idempotency_key for each in acknowledged if store.operation("default", each.id) is None]
    store.close()
    assert lost == []


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_frozen_server_is_named_within_the_bound(process: LocalProcess, seconds: float) -> None:
    with closing(connect(process.command.address, "headrace", REQUEST_SECONDS)) as patient:
        patient.migrate()
        patient.insert_operation(operation())
    store = connect(process.command.address, "headrace", seconds)

    def answers() -> object:
        with suppress(Unavailable):
            return store.operation_by_key("default", "k")
        return None

    wait_for("the store to answer", answers)
    assert process.pid is not None
    with servers.frozen(process.pid):
        for call in (
            lambda: store.operation("default", "x"),
            lambda: store.insert_operation(operation("other", 2)),
            lambda: stored_in(store, document()),
            lambda: store.due(SCOPE, NOW, 10, for_workers=True),
            store.ping,
        ):
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="HEADRACE_MONGODB_URL"):
                call()
            assert time.monotonic() - begun < 2 * seconds
    wait_for("the store to answer again", answers)
    store.close()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = connect(f"mongodb://someone:secret@127.0.0.1:{servers.free_port()}", "headrace", 1.0)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as error:
        store.ping()
    assert "secret" not in str(error.value)
    store.close()


def trigger(name: str = "uploads", **fields: object) -> Trigger:
    config = {"flink_configuration": {"a.b": "${data.x}"}, "labels": {"x": None}}
    action = {"operation": "SUBMIT", "job_config": config, "parameters": {"n": [1, 1.5, True]}}
    since = "2026-05-01T12:00:00Z"
    body = {"name": name, "topic": "uploads", "when": "data.x", "key": "${data.x}", "since": since, "action": action}
    return replace(parse_trigger({**body, **fields}), updated_at=NOW)


def test_a_trigger_is_replaced_whole_and_counts_its_changes(store: Store) -> None:
    assert store.put_trigger(SCOPE, trigger()) == trigger()
    assert store.put_trigger(SCOPE, replace(trigger(), updated_at=NOW + timedelta(days=1))) == trigger()
    changed = trigger(when="", action={"operation": "STOP", "job_id": "a"})
    assert store.put_trigger(SCOPE, changed) == replace(changed, revision=2)
    assert store.trigger(SCOPE, "uploads") == replace(changed, revision=2)
    assert store.put_trigger(SCOPE, trigger()).revision == 3


def test_triggers_are_their_scopes_own(store: Store) -> None:
    others = [Scope("other", "c", "n"), Scope("default", "other", "n"), Scope("default", "c", "other")]
    for scope in (SCOPE, *others):
        store.put_trigger(scope, trigger("b"))
    store.put_trigger(SCOPE, trigger("a"))
    assert [each.name for each in store.triggers(SCOPE)] == ["a", "b"]
    assert [store.delete_trigger(SCOPE, "b") for _ in range(2)] == [True, False]
    assert store.trigger(SCOPE, "b") is None
    assert [[each.name for each in store.triggers(scope)] for scope in others] == [["b"]] * 3


def test_many_who_put_a_trigger_at_once_leave_one_of_theirs(store: Store) -> None:
    written = [trigger(when=f"data.x{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda each: store.put_trigger(SCOPE, each), written))
    assert sorted(each.revision for each in made) == list(range(1, 9))
    assert store.trigger(SCOPE, "uploads") == max(made, key=lambda each: each.revision)


def test_triggers_have_a_bound(store: Store) -> None:
    for number in range(MOST_TRIGGERS):
        store.put_trigger(SCOPE, trigger(f"t{number}"))
    with pytest.raises(TooMany):
        store.put_trigger(SCOPE, trigger("one-more"))
    assert len(store.triggers(SCOPE)) == MOST_TRIGGERS


def api_key(name: str, digest: str = "", **fields: object) -> ApiKey:
    key = ApiKey(
        tenant="default", name=name, role=Role.OPERATOR, digest=digest or name, created_at=NOW, created_by="root"
    )
    return replace(key, **fields)


def test_an_api_key_is_found_by_its_digest_in_its_tenant(store: Store) -> None:
    ci, night = api_key("ci", expires_at=NOW + timedelta(days=1)), api_key("a-night-shift", "other")
    theirs = api_key("ci", tenant="other", role=Role.ADMIN)
    for key in (ci, night, theirs):
        store.add_api_key(key)
    assert (store.api_key("default", "ci"), store.api_key("other", "ci")) == (ci, theirs)
    assert store.api_key("other", "other") is None
    assert list(store.api_keys("default")) == [night, ci]


def test_an_api_key_keeps_its_name_and_the_time_at_which_it_was_revoked_first(store: Store) -> None:
    store.add_api_key(api_key("ci"))
    with pytest.raises(Conflict, match="choose another name"):
        store.add_api_key(api_key("ci", "another"))
    revoked = api_key("ci", revoked_at=NOW)
    assert store.revoke_api_key("default", "ci", NOW) == revoked
    assert store.revoke_api_key("default", "ci", NOW + timedelta(days=1)) == revoked
    assert store.api_key("default", "ci") == revoked
    assert store.revoke_api_key("default", "none", NOW) is None
    with pytest.raises(Conflict):
        store.add_api_key(api_key("ci", "a third"))


def test_of_many_who_make_an_api_key_of_one_name_one_does(store: Store) -> None:
    def made(number: int) -> bool:
        try:
            store.add_api_key(api_key("ci", f"digest-{number}"))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(made, range(8))) == 1
    assert len(store.api_keys("default")) == 1


def test_of_many_operations_those_whose_key_and_sequence_are_free_are_stored(store: Store) -> None:
    jobs = [JobKey("default", name) for name in ("a", "b", "c")]
    store.insert_operation(operation("taken", 7, jobs[0]))
    store.insert_operation(operation("other", 1, jobs[1]))
    same_key, same_sequence, free = (
        operation("taken", 1, JobKey("default", "d")),
        operation("new", 1, jobs[1]),
        operation("free", 1, jobs[2]),
    )
    assert list(store.insert_operations([same_key, same_sequence, free])) == [free.id]
    assert [o.id for o in store.operations_of(jobs[1])] == [operation("other", 1, jobs[1]).id]
    assert dict(store.unplaced(SCOPE, 10))[jobs[2]] == [free.id]
    assert list(store.insert_operations([])) == []


def test_a_job_is_known_by_its_document_and_by_its_log(store: Store) -> None:
    logged, written, neither = (JobKey("default", name) for name in ("logged", "written", "neither"))
    store.insert_operation(operation("k", 5, logged))
    stored_in(store, document("written"))
    assert set(store.known_jobs([logged, written, neither])) == {logged, written}
    assert set(store.known_jobs([JobKey("other", "written")])) == set()


def test_of_many_new_documents_those_are_stored_that_nothing_stands_against(store: Store) -> None:
    before = stored_in(store, document("there", deployment_name="there"))
    mine = document("mine", deployment_name="mine")
    added = store.add_documents(
        [document("there", deployment_name="x"), document("named-alike", deployment_name="there"), mine]
    )
    assert list(added) == [mine.key]
    assert store.document(mine.key) == mine
    assert store.document(before.key) == before


def test_jobs_are_counted_by_their_phase_in_the_scope_alone(store: Store) -> None:
    for name, phase in (("a", Phase.RUNNING), ("b", Phase.RUNNING), ("c", Phase.FAILED)):
        stored_in(store, document(name, phase=phase))
    stored_in(store, document("d", phase=Phase.FAILED, namespace="elsewhere"))
    stored_in(store, document("e", tenant="another", phase=Phase.FAILED))
    assert dict(store.count_phases(SCOPE)) == {"RUNNING": 2, "FAILED": 1}


def test_what_is_open_is_found_in_documents_and_in_the_log(store: Store) -> None:
    looked_at = operation("looked-at", job=JobKey("default", "a"), looked_at=NOW)
    turn, behind = (operation(key, number, JobKey("default", "b")) for number, key in ((1, "turn"), (2, "behind")))
    stored_in(store, document("a", open_operations=(looked_at,), due_at=NOW))
    stored_in(store, document("b", open_operations=(turn, behind), due_at=NOW))
    stored_in(store, document("c"))
    logged, elsewhere = operation("logged"), operation("elsewhere", job=JobKey("default", "d"), namespace="elsewhere")
    store.insert_operation(logged)
    store.insert_operation(elsewhere)
    found = {each.id: each for each in store.open_operations(SCOPE)}
    assert {each.id: found[each.id].is_untouched for each in (looked_at, turn, behind, logged)} == {
        looked_at.id: False,
        turn.id: True,
        behind.id: False,
        logged.id: True,
    }
    assert len(found) == 4
    assert {(each.kind, each.accepted_at) for each in found.values()} == {("SCALE", NOW)}


def test_a_report_of_a_runtime_takes_the_place_of_the_one_before_in_its_scope_alone(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    store.put_runtime_report(SCOPE, "operator", "worker", ["the right to patch"])
    (first,) = store.runtime_reports(SCOPE)
    assert (first.runtime, first.process, first.lacks) == ("operator", "worker", ("the right to patch",))
    assert before < first.at < before + timedelta(minutes=2)
    store.put_runtime_report(SCOPE, "operator", "worker", [])
    store.put_runtime_report(SCOPE, "native", "worker", ["a"])
    store.put_runtime_report(SCOPE, "native", "of a later release", ["b"])
    store.put_runtime_report(replace(SCOPE, namespace="other"), "operator", "sync", ["c"])
    found = {(each.runtime, each.process): each for each in store.runtime_reports(SCOPE)}
    assert {place: each.lacks for place, each in found.items()} == {
        ("operator", "worker"): (),
        ("native", "worker"): ("a",),
        ("native", "of a later release"): ("b",),
    }
    assert found["operator", "worker"].at >= first.at
    assert [each.lacks for each in store.runtime_reports(replace(SCOPE, namespace="other"))] == [("c",)]
    assert store.runtime_reports(replace(SCOPE, tenant="other")) == []


def test_of_many_who_report_a_runtime_first_none_fails(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.put_runtime_report(SCOPE, "operator", "worker", []), range(8)))
    assert len(store.runtime_reports(SCOPE)) == 1


def test_leases_are_seen_as_they_stand(store: Store) -> None:
    lease = store.take_lease("held", "somebody", LONG_SECONDS)
    given_up = store.take_lease("given up", "somebody", LONG_SECONDS)
    assert lease is not None
    assert given_up is not None
    store.release_lease(given_up, "somebody")
    store.take_lease("run out", "somebody", 0.001)
    time.sleep(0.1)
    seen = store.leases(["held", "given up", "run out", "never taken"])
    assert dict(seen) == {
        "held": LeaseSeen(1, is_held=True),
        "given up": LeaseSeen(1, is_held=False),
        "run out": LeaseSeen(1, is_held=False),
    }
    store.take_lease("given up", "another", LONG_SECONDS)
    assert store.leases(["given up"])["given up"] == LeaseSeen(2, is_held=True)
