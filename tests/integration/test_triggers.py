"""Events through triggers on the laptop's Kafka-wire broker and on Apache Kafka: exactly the distinct operations.

HEADRACE_TESTS_EVENTS says how many distinct events there are.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName
from headrace.ports import JobFilter
from headrace.services.replay import Outcome
from tests.support import servers
from tests.support.consuming import BOUND_SECONDS, Consuming, IndexedStore
from tests.support.patience import wait_for

COUNT = int(os.environ.get("HEADRACE_TESTS_EVENTS", "500"))
SEED = 11
PARTITIONS = 4
STRUCTURED = [("content-type", b"application/cloudevents+json")]
TEMPLATE = {
    "template_id": "count",
    "type": "PYTHON_SCRIPT",
    "script": {"name": "job.py", "content": "print(1)\n"},
    "parameters": {"rows": {"type": "INTEGER", "required": True}},
    "args": ["--rows", "${rows}"],
}
RULE = {
    "name": "uploads",
    "topic": "uploads",
    "when": "type == 'finished'",
    "action": {
        "operation": "SUBMIT",
        "job_id": "job-${data.number}",
        "template_id": "count",
        "parameters": {"rows": "${data.rows}"},
    },
}

pytestmark = pytest.mark.timeout(240 + COUNT // 5)


@pytest.fixture(params=["laptop", "real"])
def consuming(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Consuming]:
    command = servers.real_kafka(tmp_path) if request.param == "real" else servers.laptop_kafka(tmp_path)
    with servers.running(command, tmp_path):
        yield Consuming(command.address)


def make_topic(consuming: Consuming, name: str, partitions: int = PARTITIONS) -> int:
    """The partitions that the topic has: the laptop's broker may give it one."""
    admin = AdminClient({"bootstrap.servers": consuming.broker})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)

    def count() -> int:
        return len(admin.list_topics(name, timeout=BOUND_SECONDS).topics[name].partitions)

    wait_for("the topic's partitions", count)
    return count()


def cloud_event(number: int, **fields: Any) -> dict[str, Any]:
    data = {"number": number, "rows": number * 10}
    return {"specversion": "1.0", "id": f"e{number}", "source": "/uploads", "type": "finished", "data": data, **fields}


def sent(number: int, draw: random.Random) -> tuple[bytes, list[tuple[str, bytes]]]:
    """An event's record, in one of the forms that it may have."""
    event = cloud_event(number)
    if draw.random() < 0.5:
        return json.dumps(event).encode(), STRUCTURED
    data = event.pop("data")
    return json.dumps(data).encode(), [(f"ce_{name}", text.encode()) for name, text in event.items()]


def poison(number: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A record that is no event, that has no such field, or that Accept refuses: each another text."""
    kinds = [
        f"{{ {number}".encode(),
        json.dumps(cloud_event(number, id=f"bad{number}", data={"number": number})).encode(),
        json.dumps(cloud_event(number, id=f"bad{number}", data={"number": f"/{number}", "rows": 1})).encode(),
    ]
    return kinds[number % 3], STRUCTURED


def lag(consuming: Consuming, topic: str, partitions: int) -> int:
    """How many records the group has not committed yet; many, while the broker is still busy with the group."""
    reader = Consumer({"bootstrap.servers": consuming.broker, "group.id": "headrace"})
    try:
        committed = reader.committed([TopicPartition(topic, each) for each in range(partitions)], timeout=30)
        ends = {each.partition: reader.get_watermark_offsets(each, timeout=30)[1] for each in committed}
    except KafkaException:
        return 1_000_000
    finally:
        reader.close()
    return sum(ends[each.partition] - max(each.offset, 0) for each in committed)


def the_records(draw: random.Random, count: int) -> tuple[list[Any], list[bytes]]:
    """Each event up to three times among others that no trigger asks for; and the poison among them."""
    records = [sent(number, draw) for number in range(count) for _ in range(draw.randint(1, 3))]
    records += [(json.dumps(cloud_event(number, type="begun")).encode(), STRUCTURED) for number in range(count // 10)]
    bad = [poison(number) for number in range(max(3, count // 50))]
    records += bad
    draw.shuffle(records)
    return records, [value for value, _ in bad]


def produced(consuming: Consuming, records: list[Any], draw: random.Random, partitions: int) -> None:
    producer = Producer({"bootstrap.servers": consuming.broker})
    for value, headers in records:
        producer.produce("uploads", value, headers=headers, partition=draw.randrange(partitions))
        producer.poll(0)
    assert producer.flush(60) == 0


def assert_exactly(consuming: Consuming, count: int, bad: list[bytes]) -> None:
    """One operation an event, with what it said; one letter at least a record of poison, and none about another."""
    for number in range(count):
        (operation,) = consuming.store.operations_of(JobKey("default", f"job-{number}"))
        assert operation.kind is KindName.SUBMIT
        assert operation.arguments["request"]["args"] == ["--rows", str(number * 10)]
    jobs = consuming.store.list_jobs("default", JobFilter(), None, count + 1)
    assert len(jobs) == count
    assert letters_of(consuming) == digests(bad)
    assert {letter.triggers for letter in consuming.services.replay.letters(500)} == {("uploads",)}


def letters_of(consuming: Consuming) -> set[str]:
    """What there are letters about: a record that is read twice may have two."""
    return {letter.sha256 for letter in consuming.services.replay.letters(500)}


def digests(values: list[bytes]) -> set[str]:
    return {sha256(value).hexdigest() for value in values}


@pytest.mark.parametrize("consuming", ["real"], indirect=True)
def test_events_with_duplicates_poison_and_rebalances_are_the_distinct_operations(consuming: Consuming) -> None:
    """On any partition; members join and leave the group all the while, and the store does not answer at first."""
    draw, consuming.store = random.Random(SEED), IndexedStore()
    consuming.store.outages = 3
    partitions = make_topic(consuming, "uploads")
    consuming.services.register.template(TEMPLATE, "default")
    consuming.services.triggers.apply(RULE)
    records, bad = the_records(draw, COUNT)
    produced(consuming, records, draw, partitions)
    began = time.monotonic()
    with consuming.running():
        while (left := lag(consuming, "uploads", partitions)) > len(records) // 10:
            with ExitStack() as members:
                for _ in range(draw.randint(1, 2)):
                    members.enter_context(consuming.running())
                least = max(min(left, len(records)) - len(records) // 6, len(records) // 10)
                await_lag(consuming, partitions, least)
        await_lag(consuming, partitions, 0)
    seconds = time.monotonic() - began
    assert_exactly(consuming, COUNT, bad)
    print(f"{len(records)} records, {COUNT} operations, {len(bad)} refused, {seconds:.0f} s")


def await_lag(consuming: Consuming, partitions: int, most: int) -> None:
    def is_there() -> bool:
        time.sleep(0.5)
        return lag(consuming, "uploads", partitions) <= most

    wait_for(f"no more than {most} records to be left", is_there, 120 + COUNT / 10)


@pytest.mark.parametrize("consuming", ["laptop"], indirect=True)
def test_events_on_the_laptops_broker_are_the_distinct_operations(consuming: Consuming) -> None:
    """That broker has one member at a time, here one after the other, and a store that does not answer at first."""
    draw, count, consuming.store.outages = random.Random(SEED), 200, 3
    make_topic(consuming, "uploads", 1)
    consuming.services.register.template(TEMPLATE, "default")
    consuming.services.triggers.apply(RULE)
    records, bad = the_records(draw, count)
    produced(consuming, records, draw, 1)
    for least in (count // 3, count):
        with consuming.running():
            wait_for(f"{least} operations", lambda least=least: len(consuming.operations()) >= least)
            if least == count:
                wait_for("the letters", lambda: letters_of(consuming) >= digests(bad))
    assert_exactly(consuming, count, bad)


def test_a_trigger_is_followed_and_let_go_without_a_restart(
    consuming: Consuming, request: pytest.FixtureRequest
) -> None:
    """Also on a topic that is made after its trigger. The laptop's broker takes its time to rearrange a group."""
    is_real = request.node.callspec.params["consuming"] == "real"
    consuming.services.register.template(TEMPLATE, "default")
    consuming.services.triggers.apply(RULE)
    with consuming.running():
        time.sleep(2)
        make_topic(consuming, "uploads", 1)
        consuming.produce(json.dumps(cloud_event(1)).encode(), topic="uploads", headers=STRUCTURED)
        wait_for("the event's job", lambda: consuming.count("job-1"), 60)
        make_topic(consuming, "others", 1)
        consuming.services.triggers.apply({**RULE, "topic": "others"})
        applied = time.monotonic()
        consuming.produce(json.dumps(cloud_event(2)).encode(), topic="others", headers=STRUCTURED)
        wait_for("the other topic's event's job", lambda: consuming.count("job-2"), 60)
        assert time.monotonic() - applied < (15 if is_real else 60)
        consuming.produce(json.dumps(cloud_event(3)).encode(), topic="uploads", headers=STRUCTURED)
        time.sleep(5)
    assert consuming.count("job-3") == 0


def test_a_letter_is_listed_and_replayed_from_where_its_record_stands(consuming: Consuming) -> None:
    make_topic(consuming, "uploads", 1)
    services, replay = consuming.services, consuming.services.replay
    assert replay.letters(10) == []
    services.triggers.apply(RULE)  # its template is not there yet
    event = json.dumps(cloud_event(7)).encode()
    stop = b'{"operation": "STOP", "job_id": "job-7"}'
    with consuming.running():
        consuming.produce(event, topic="uploads", headers=STRUCTURED)
        wait_for("the event's letter", lambda: len(replay.letters(10)) == 1)
        consuming.produce(stop)
        wait_for("the record's letter", lambda: len(replay.letters(10)) == 2)
    of_event, of_stop = replay.letters(10)
    assert (of_event.triggers, of_event.origin.topic, of_event.origin.offset) == (("uploads",), "uploads", 0)
    assert "there is no template 'count'" in of_event.reason
    assert replay.replay(of_stop.id).outcome is Outcome.REFUSED
    services.register.template(TEMPLATE, "default")
    assert [replay.replay(of_event.id).outcome for _ in range(2)] == [Outcome.ACCEPTED, Outcome.KNOWN]
    assert [replay.replay(of_stop.id).outcome for _ in range(2)] == [Outcome.ACCEPTED, Outcome.KNOWN]
    assert consuming.count("job-7") == 2
    assert len(replay.letters(10)) == 2
    assert [replay.letters(1)[0].id, len(replay.letters(1))] == [of_stop.id, 1]
    for unknown in ("0-99", "7-0", "nonsense"):
        assert services.replay._letter_box.letter(unknown) is None


@pytest.mark.parametrize("consuming", ["real"], indirect=True)
def test_what_its_topic_does_not_keep_cannot_be_replayed(consuming: Consuming) -> None:
    make_topic(consuming, "uploads", 1)
    replay = consuming.services.replay
    consuming.services.triggers.apply(RULE)
    with consuming.running():
        consuming.produce(b"{ 1", b"{ 2", topic="uploads", headers=STRUCTURED)
        wait_for("the letters", lambda: len(replay.letters(10)) == 2)
    first, second = replay.letters(10)
    admin = AdminClient({"bootstrap.servers": consuming.broker})
    admin.delete_records([TopicPartition("uploads", 0, 1)])[TopicPartition("uploads", 0)].result(30)
    gone = replay.replay(first.id)
    assert (gone.outcome, "does not keep offset 0" in gone.reason) == (Outcome.NOT_REPLAYABLE, True)
    assert replay.replay(second.id).outcome is Outcome.REFUSED
    admin.delete_topics(["uploads"])["uploads"].result(30)
    wait_for("it to be gone", lambda: "uploads" not in admin.list_topics(timeout=10).topics)
    assert "is gone" in replay.replay(second.id).reason
    make_topic(consuming, "uploads", 1)
    assert "was made anew" in replay.replay(second.id).reason
