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
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.adapters.mongo import connect
from headrace.domain.jobs import Job, JobKey, Observation, Phase, Transition, Waiting
from headrace.domain.operations import Kind, Operation, Source, State, Step, hash_of, operation_id
from headrace.domain.parameters import Parameter, ParameterType
from headrace.domain.templates import Template
from headrace.errors import LostRace, Unavailable
from headrace.ports import JobFilter, Store
from headrace.testing import InMemoryStore
from local.process import LocalProcess
from tests import servers

NOW = datetime(2026, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
KEY = JobKey("default", "orders")
TIMEOUT_SECONDS = 5.0


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
    made = connect(request.getfixturevalue("server"), f"test-{uuid.uuid4().hex[:8]}", TIMEOUT_SECONDS)
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
        kind=Kind.SCALE,
        arguments=arguments,
        arguments_hash=hash_of(Kind.SCALE, job.job_id, arguments),
        idempotency_key=key,
        source=Source(via="http"),
        accepted_at=NOW,
        updated_at=NOW,
        deadline=NOW + timedelta(minutes=15),
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


def transition(to: Phase = Phase.RUNNING, **facts: object) -> Transition:
    made = Transition(
        tenant="default",
        job_id="orders",
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
    assert store.jobs([KEY]) == []
    assert store.template("default", "no") is None
    assert store.cursor("c", "n") is None
    assert not [*store.operations_of(KEY), *store.open_operations(), *store.transitions_of(KEY)]


def test_one_tenants_records_are_not_anothers(store: Store) -> None:
    store.insert_operation(made := operation())
    store.insert_job(job())
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


def test_of_ten_writers_of_one_version_one_wins(store: Store) -> None:
    stored = store.insert_operation(operation()).operation
    found = at_once(10, lambda n: store.replace_operation(replace(stored, attempts=n + 1)))
    won = [each for each in found if isinstance(each, Operation)]
    assert len(won) == 1
    assert store.operation("default", stored.id) == won[0]
    assert won[0].version == stored.version + 1


def test_open_operations_are_those_that_have_not_ended_oldest_first(store: Store) -> None:
    for n in (3, 1, 2):
        store.insert_operation(operation(f"k{n}", n, accepted_at=NOW + timedelta(seconds=n)))
    ended = store.operations_of(KEY)[0]
    store.replace_operation(replace(ended, state=State.SUCCEEDED, ended_at=NOW))
    store.insert_operation(operation("other", 1, JobKey("default", "b"), accepted_at=NOW))
    assert [o.sequence for o in store.open_operations_of(KEY)] == [2, 3]
    assert [o.idempotency_key for o in store.open_operations()] == ["other", "k2", "k3"]
    assert [o.idempotency_key for o in store.open_operations(limit=1)] == ["other"]
    assert [o.sequence for o in store.operations_of(KEY, after=1, limit=1)] == [2]


# jobs


def test_a_job_comes_back_as_it_was_stored(store: Store) -> None:
    manifest = {"spec": {"flinkConfiguration": {"state.checkpoints.dir": "file:///s", "$x": "1"}}}
    made = job(applied_manifest=manifest, labels={"team.name/owner": "a"}, observed_at=NOW, phase=Phase.RUNNING)
    assert store.insert_job(made) == made
    assert store.job(KEY) == made


def test_inserting_a_job_again_gives_back_the_first(store: Store) -> None:
    store.insert_job(job(reason="first"))
    assert store.insert_job(job(reason="second")).reason == "first"


def test_of_ten_writers_of_a_job_one_wins_and_the_others_are_told(store: Store) -> None:
    stored = store.insert_job(job())
    found = at_once(10, lambda n: store.replace_job(replace(stored, reason=str(n))))
    assert sum(isinstance(each, LostRace) for each in found) == 9
    assert store.job(KEY) in found


def test_replacing_a_job_that_is_not_there_is_a_lost_race(store: Store) -> None:
    with pytest.raises(LostRace):
        store.replace_job(job())
    assert store.job(KEY) is None


def test_a_bulk_says_which_jobs_lost_their_race(store: Store) -> None:
    assert store.replace_jobs([]) == []
    one, two = store.insert_job(job("one")), store.insert_job(job("two"))
    store.replace_job(replace(two, reason="meanwhile"))
    lost = store.replace_jobs([replace(one, reason="bulk"), replace(two, reason="bulk")])
    assert lost == [two.key]
    assert [each.reason for each in sorted(store.jobs([one.key, two.key]), key=lambda j: j.job_id)] == [
        "bulk",
        "meanwhile",
    ]


def test_jobs_are_listed_by_id_in_pages_and_by_filter(store: Store) -> None:
    for n in range(5):
        labels = {"team": "a" if n % 2 else "b", "app.kubernetes.io/name": "x"}
        store.insert_job(job(f"job-{n}", labels=labels, phase=Phase.RUNNING if n > 2 else Phase.REQUESTED))
    ids = [each.job_id for each in store.list_jobs("default", JobFilter(), "job-1", 2)]
    assert ids == ["job-2", "job-3"]
    running = store.list_jobs("default", JobFilter(phase=Phase.RUNNING), None, 10)
    assert [each.job_id for each in running] == ["job-3", "job-4"]
    labelled = store.list_jobs("default", JobFilter(labels={"team": "a"}), None, 1)
    assert [each.job_id for each in labelled] == ["job-1"]


def test_unsettled_jobs_are_those_of_a_place_with_a_deployment(store: Store) -> None:
    store.insert_job(job("one", deployment_uid="u", phase=Phase.RUNNING))
    store.insert_job(job("two", phase=Phase.RUNNING))
    store.insert_job(job("three", deployment_uid="u", phase=Phase.CANCELLED))
    store.insert_job(job("four", deployment_uid="u", phase=Phase.RUNNING, namespace="elsewhere"))
    assert [each.job_id for each in store.unsettled_jobs("c", "n")] == ["one"]
    settled = store.replace_job(replace(store.jobs([JobKey("default", "one")])[0], phase=Phase.CANCELLED))
    assert store.unsettled_jobs("c", "n") == []
    store.replace_job(replace(settled, phase=Phase.RUNNING, observation=Observation.UNREACHABLE))
    assert [each.job_id for each in store.unsettled_jobs("c", "n")] == ["one"]


def test_jobs_in_a_phase_come_by_how_long_nobody_looked_what_they_wait_for(store: Store) -> None:
    def looked(seconds: int) -> Waiting:
        return Waiting(at=NOW + timedelta(seconds=seconds), cause="slots")

    for name, waiting in (("late", looked(9)), ("early", looked(1)), ("never", None)):
        store.insert_job(job(name, phase=Phase.STARTING, waiting=waiting, phase_since=NOW))
    store.insert_job(job("again", phase=Phase.RESTARTING, waiting=looked(5)))
    store.insert_job(job("runs", phase=Phase.RUNNING))
    store.insert_job(job("elsewhere", phase=Phase.STARTING, namespace="elsewhere"))
    phases = {Phase.STARTING, Phase.RESTARTING}
    found = [key.job_id for key in store.jobs_in("c", "n", phases, 10)]
    assert found == ["never", "early", "again", "late"]
    assert [key.job_id for key in store.jobs_in("c", "n", phases, 2)] == ["never", "early"]
    assert store.jobs_in("c", "n", {Phase.SCALING}, 10) == []
    stored = store.job(JobKey("default", "late"))
    assert stored is not None
    assert (stored.waiting, stored.phase_since) == (looked(9), NOW)


# history


def test_a_transition_is_stored_once(store: Store) -> None:
    store.add_transitions([transition(), transition(Phase.FAILED)])
    store.add_transitions([transition(observed_at=NOW + timedelta(seconds=9))])
    assert store.transitions_of(KEY) == [transition()]


def test_a_transition_without_a_version_is_known_by_its_time(store: Store) -> None:
    blank = {"deployment_uid": None, "resource_version": None}
    later = transition(**blank, at=NOW + timedelta(seconds=1), observed_at=NOW + timedelta(seconds=1))
    store.add_transitions([transition(**blank), later])
    store.add_transitions([transition(**blank)])
    assert store.transitions_of(KEY) == [transition(**blank), later]
    assert store.transitions_of(KEY, limit=1) == [transition(**blank)]


def test_ten_sights_of_one_change_are_one_transition(store: Store) -> None:
    at_once(10, lambda _: store.add_transitions([transition()]))
    assert len(store.transitions_of(KEY)) == 1


def test_remembering_a_savepoint_again_changes_nothing(store: Store) -> None:
    for run in (1, 2):
        store.add_savepoint("file:///s/savepoint-1", KEY, run, "savepoint", NOW)


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


# leases and cursors


def test_a_lease_has_one_holder_and_each_holder_a_higher_token(store: Store) -> None:
    found = at_once(10, lambda n: store.take_lease("sync", f"holder-{n}", 30, NOW))
    held = [each for each in found if each is not None and not isinstance(each, LostRace)]
    assert len(held) == 1
    assert store.take_lease("sync", "late", 30, NOW + timedelta(seconds=29)) is None
    later = store.take_lease("sync", "late", 30, NOW + timedelta(seconds=31))
    assert later is not None
    assert later.token > held[0].token  # type: ignore[attr-defined]


def test_a_released_lease_is_free_and_a_lost_one_cannot_be_released(store: Store) -> None:
    first = store.take_lease("sync", "one", 30, NOW)
    assert first is not None
    store.release_lease(first, "one")
    second = store.take_lease("sync", "two", 30, NOW)
    assert second is not None
    store.release_lease(first, "one")
    assert store.take_lease("sync", "three", 30, NOW) is None


def test_a_cursor_is_written_by_the_newest_holder_alone(store: Store) -> None:
    old = store.take_lease("sync", "one", 1, NOW)
    assert old is not None
    assert store.set_cursor("c", "n", "10", old)
    new = store.take_lease("sync", "two", 30, NOW + timedelta(seconds=2))
    assert new is not None
    assert not store.set_cursor("c", "n", "11", old)
    assert store.cursor("c", "n") == "10"
    assert store.set_cursor("c", "n", "12", new)
    assert not store.set_cursor("c", "n", "13", old)
    assert store.cursor("c", "n") == "12"


# on the server alone


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LocalProcess]:
    with servers.running(servers.mongodb(tmp_path), tmp_path) as running:
        yield running


def test_what_was_acknowledged_survives_a_sigkill(process: LocalProcess) -> None:
    """Four writers, and a SIGKILL in their midst: a client that was told so finds its operation after the restart."""
    store = connect(process.command.address, "headrace", TIMEOUT_SECONDS)
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
        servers.wait_for("some to be stored", lambda: len(acknowledged) > 100)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        killed.set()
        process.stop()
        process.start()
        for each in writers:
            each.result(60)
    servers.wait_for("the server", process.command.is_ready)
    lost = [each.idempotency_key for each in acknowledged if store.operation("default", each.id) is None]
    store.close()
    assert lost == []


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_frozen_server_is_named_within_the_bound(process: LocalProcess, seconds: float) -> None:
    store = connect(process.command.address, "headrace", seconds)
    store.migrate()
    store.insert_operation(operation())
    assert process.pid is not None
    with servers.frozen(process.pid):
        for call in (
            lambda: store.operation("default", "x"),
            lambda: store.insert_operation(operation("other", 2)),
            lambda: store.replace_job(job()),
            lambda: store.open_operations(),
            store.ping,
        ):
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="HEADRACE_MONGODB_URL"):
                call()
            assert time.monotonic() - begun < 2 * seconds
    servers.wait_for("the store to answer again", lambda: store.operation_by_key("default", "k"))
    store.close()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = connect(f"mongodb://someone:secret@127.0.0.1:{servers.free_port()}", "headrace", 1.0)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as error:
        store.ping()
    assert "secret" not in str(error.value)
    store.close()
