"""The consumer on a Kafka-wire broker: what it makes of records, good and poisonous, and what it never skips."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from consumer.loop import Loop
from headrace.adapters.kafka import DeadLetters, RecordConsumer, Topics
from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey
from headrace.errors import Unavailable
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from local import servers
from local.process import LocalProcess, free_port

pytestmark = pytest.mark.timeout(240)

TOPIC, LETTERS = "headrace.operations", "headrace.operations.dead-letters"
SCRIPT = {"name": "job.py", "content": "print(1)\n", "sha256": "0" * 64}
POISON = b'{"operation": "EXPLODE"}'


class OutageStore(InMemoryStore):
    """A store that does not answer its first reads."""

    outages = 2

    def operation_by_key(self, tenant: str, idempotency_key: str):  # type: ignore[no-untyped-def]
        if self.outages:
            self.outages -= 1
            raise Unavailable("MongoDB did not answer (HEADRACE_MONGODB_URL)")
        return super().operation_by_key(tenant, idempotency_key)


def wait_for(is_there: Callable[[], bool], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    command = servers.kafka(free_port())
    process = LocalProcess(command, tmp_path / "kafka.log", tmp_path)
    process.start()
    try:
        wait_for(command.is_ready, 30)
        yield command.address
    finally:
        process.stop()


def test_good_records_are_done_once_and_poison_is_put_aside(broker: str) -> None:
    Topics(broker, 10).ensure([TOPIC, LETTERS])
    produce(broker, [submit("first"), POISON, b"[" * 200_000, submit("second")])
    store = OutageStore()
    services = wired(
        Settings(_env_file=None),
        store=store,
        queue=InMemoryQueue(),
        runtime=InMemoryRuntime(),
        job_manager=InMemoryJobManager(),
        clock=FixedClock(),
    )
    consumer, stopping = RecordConsumer(broker, TOPIC, "headrace", 10), threading.Event()
    loop = Loop(consumer, DeadLetters(broker, LETTERS, 10), services.handle_event)
    thread = threading.Thread(target=loop.run, args=[stopping.is_set])
    thread.start()
    try:
        wait_for(lambda: store.job(JobKey("default", "second")) is not None)
    finally:
        stopping.set()
        thread.join(60)
        consumer.close()
    for name in ("first", "second"):
        assert len(store.operations_of(JobKey("default", name))) == 1
    letters = read(broker, LETTERS, 2)
    assert [letter.value() for letter in letters] == [POISON, b"[" * 200_000]
    headers = dict(letters[0].headers())
    assert b"SUBMIT, STOP, SCALE" in headers["headrace-reason"]
    assert (headers["headrace-topic"], headers["headrace-offset"]) == (TOPIC.encode(), b"1")


def submit(job_id: str) -> bytes:
    return json.dumps({"operation": "SUBMIT", "job_id": job_id, "job_config": {"script": SCRIPT}}).encode()


def produce(broker: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker})
    for value in values:
        producer.produce(TOPIC, value=value)
    assert producer.flush(30) == 0


def read(broker: str, topic: str, count: int):  # type: ignore[no-untyped-def]
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list = []
    try:
        until = time.monotonic() + 60
        while len(found) < count and time.monotonic() < until:
            message = consumer.poll(1)
            if message is not None and not message.error():
                found.append(message)
    finally:
        consumer.close()
    return found
