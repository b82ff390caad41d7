"""The consumer on the laptop's Kafka-wire broker and on Apache Kafka: records, poison, crashes, a topic made anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from headrace.adapters.kafka import Broker, Record, RecordConsumer, Topics
from headrace.errors import Unavailable
from tests.support import servers
from tests.support.consuming import BOUND_SECONDS, TOPIC, Consuming, OutageStore
from tests.support.hostile import POISON as EVERY_POISON
from tests.support.metered import grows, here
from tests.support.patience import wait_for

pytestmark = pytest.mark.timeout(240)

SCRIPT = {"name": "job.py", "content": "print(1)\n"}
POISON = b'{"operation": "EXPLODE"}'


class FlickeringStore(OutageStore):
    """A store that does not answer every third read of a key."""

    reads = 0

    def operation_by_key(self, tenant: str, idempotency_key: str):  # type: ignore[no-untyped-def]
        self.reads += 1
        if self.reads % 3 == 0:
            raise Unavailable("MongoDB did not answer (HEADRACE_MONGODB_URL)")
        return super().operation_by_key(tenant, idempotency_key)


class Crash(BaseException):
    """The end of a process, as far as a thread can play it."""


class DiesBeforeItsCommit(RecordConsumer):
    """A consumer whose process ends between the handling of a record and its commit."""

    def commit(self, record: Record) -> None:
        raise Crash


@pytest.fixture(params=["laptop", "real"])
def consuming(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Consuming]:
    command = servers.real_kafka(tmp_path) if request.param == "real" else servers.laptop_kafka(tmp_path)
    with servers.running(command, tmp_path):
        yield Consuming(command.address)


def digest(letter: Message) -> str:
    """Which record a letter is about: it repeats none of its values."""
    return bytes(dict(letter.headers() or [])["headrace-sha256"] or b"").decode()


def submit(job_id: str) -> bytes:
    return json.dumps({"operation": "SUBMIT", "job_id": job_id, "job_config": {"script": SCRIPT}}).encode()


def test_good_records_are_done_once_and_poison_is_put_aside(consuming: Consuming) -> None:
    consuming.produce(submit("first"), POISON, b"[" * 200_000, submit("second"))
    consuming.store.outages = 2
    with consuming.running():
        consuming.await_job("second")
    assert [consuming.count(name) for name in ("first", "second")] == [1, 1]
    letters = consuming.letters(2)
    assert [digest(letter) for letter in letters] == [sha256(each).hexdigest() for each in (POISON, b"[" * 200_000)]
    headers = dict(letters[0].headers() or [])
    assert b"SUBMIT, STOP, SCALE" in headers["headrace-reason"]
    assert (headers["headrace-topic"], headers["headrace-offset"]) == (TOPIC.encode(), b"1")


def test_a_crash_between_handling_and_commit_changes_nothing(consuming: Consuming) -> None:
    consuming.produce(submit("first"), submit("second"))
    dying = DiesBeforeItsCommit(Broker(consuming.broker), TOPIC, "headrace", BOUND_SECONDS)
    try:
        with pytest.raises(Crash):
            consuming.loop(dying).run(lambda: False)
    finally:
        dying.close()
    assert consuming.count("first") == 1  # the other may be durable by then too: they were taken together
    consuming.produce(submit("third"))
    with consuming.running():
        consuming.await_job("third")
    assert [consuming.count(name) for name in ("first", "second")] == [1, 1]


@pytest.mark.parametrize("consuming", ["real"], indirect=True)
def test_a_topic_that_was_made_anew_is_read_from_its_beginning(consuming: Consuming) -> None:
    """Offsets begin at 0 again: by the topic's id the new record is told from the old one."""
    with consuming.running():
        consuming.produce(submit("before"))
        consuming.await_job("before")
        admin = AdminClient({"bootstrap.servers": consuming.broker})
        admin.delete_topics([TOPIC])[TOPIC].result(30)
        wait_for("it to be gone", lambda: TOPIC not in admin.list_topics(timeout=10).topics)
        Topics(Broker(consuming.broker), BOUND_SECONDS).ensure([TOPIC])
        consuming.produce(submit("after"), submit("and-after"))
        consuming.await_job("and-after")
        consuming.await_job("after")
    assert [consuming.count(name) for name in ("before", "after", "and-after")] == [1, 1, 1]


def test_no_record_stops_the_consumer_and_none_is_lost(consuming: Consuming, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison of every kind between good records, a store that flickers, a record as large as the broker takes."""
    monkeypatch.setattr("consumer.loop.LONGEST_REST_SECONDS", 0.05)
    monkeypatch.setattr("consumer.loop.POLL_SECONDS", 0.1)
    consuming.store = FlickeringStore()
    too_large_for_a_letter = b"x" * 1_048_400
    poison = [each for each in EVERY_POISON if len(each) < 1_000_000] + [too_large_for_a_letter]
    names = [f"job{number}" for number in range(len(poison))]
    consuming.produce(*(value for name, each in zip(names, poison, strict=True) for value in (submit(name), each)))
    consuming.produce_with_header(b"\xff\xfe", submit("unreadable-header"))
    consuming.produce(submit("last"))
    with consuming.running():
        consuming.await_job("last")
        letters = consuming.letters(len(poison))
    assert [consuming.count(name) for name in [*names, "unreadable-header", "last"]] == [1] * (len(poison) + 2)
    assert [digest(letter) for letter in letters] == [sha256(each).hexdigest() for each in poison]
    assert dict(letters[-1].headers() or [])["headrace-bytes"] == b"1048400"
    assert all(len(dict(each.headers() or [])["headrace-reason"]) < 9_000 for each in letters)


@pytest.mark.parametrize("consuming", ["real"], indirect=True)
def test_records_taken_together_come_in_their_order_again_where_one_of_them_rests(consuming: Consuming) -> None:
    """And what was done of them is committed, also by who is closed."""
    consuming.produce(b"first", b"second", b"third")
    reading = RecordConsumer(Broker(consuming.broker), TOPIC, "headrace", BOUND_SECONDS)

    def next_record() -> Record:
        found: Record = wait_for("a record", lambda: reading.poll(0.5))
        return found

    try:
        reading.commit(next_record())
        reading.rest(next_record(), 0.0)
        again = next_record()
        assert again.value == b"second"
        reading.commit(again)
    finally:
        reading.close()
    reading = RecordConsumer(Broker(consuming.broker), TOPIC, "headrace", BOUND_SECONDS)
    try:
        assert next_record().value == b"third"
    finally:
        reading.close()


@pytest.mark.parametrize("consuming", ["real"], indirect=True)
def test_a_partition_that_rests_goes_on_resting_when_the_group_is_rearranged(consuming: Consuming) -> None:
    admin = AdminClient({"bootstrap.servers": consuming.broker})
    admin.create_partitions([NewPartitions(TOPIC, 2)])[TOPIC].result(30)
    consuming.produce(b"first", b"second")
    resting = RecordConsumer(Broker(consuming.broker), TOPIC, "headrace", BOUND_SECONDS)
    seen: list[Record] = []

    def poll() -> Record | None:
        record = resting.poll(0.5)
        seen.extend([record] if record else [])
        return record

    try:
        wait_for("the first record", poll)
        resting.rest(seen[0], 3600)
        other = RecordConsumer(Broker(consuming.broker), TOPIC, "headrace", BOUND_SECONDS)
        for _ in range(40):  # both are in the group, and one of them has the resting partition
            other.poll(0.1)
            poll()
        other.close()
        consuming.produce(b"elsewhere", partition=1)
        wait_for("the other partition's record", lambda: poll() is not None)
        assert {each.value for each in seen[1:]} == {b"elsewhere"}
        resting._resting[TOPIC, 0] = 0.0
        wait_for("the first record again", lambda: poll() is not None and seen[-1].value == b"first")
    finally:
        resting.close()


class AwayStore(OutageStore):
    """A store that answers nothing that is asked before an accept, for as long as it is away."""

    is_away = True

    def operation_by_key(self, tenant: str, idempotency_key: str):  # type: ignore[no-untyped-def]
        if self.is_away:
            raise Unavailable("MongoDB did not answer (HEADRACE_MONGODB_URL)")
        return super().operation_by_key(tenant, idempotency_key)

    def known_jobs(self, keys):  # type: ignore[no-untyped-def]
        if self.is_away:
            raise Unavailable("MongoDB did not answer (HEADRACE_MONGODB_URL)")
        return super().known_jobs(keys)


def test_the_lag_of_a_partition_is_what_is_not_done_of_it(consuming: Consuming) -> None:
    consuming.store = store = AwayStore()

    def lag() -> float | None:
        return here().value("headrace_consumer_lag_records", topic=TOPIC, partition="0")

    consuming.produce(*(submit(name) for name in ("one", "two", "three")))
    with grows(3, "headrace_records_total", outcome="accepted"), consuming.running():
        wait_for("three records to wait", lambda: lag() == 3)
        store.is_away = False
        wait_for("none to wait", lambda: lag() == 0)
        consuming.await_job("three")
