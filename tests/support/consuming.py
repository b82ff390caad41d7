"""The consumer's use cases over a store in memory, on a real broker: records in, operations and letters out."""

from __future__ import annotations

import ctypes
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Message, Producer

from consumer.loop import Loop
from headrace.adapters.kafka import Broker, DeadLetters, KafkaLetterBox, RecordConsumer, Topics
from headrace.bootstrap import Services, SystemClock, wired
from headrace.domain.document import JobDocument
from headrace.domain.jobs import JobKey
from headrace.domain.operations import Operation, operation_id
from headrace.errors import LostRace, NameTaken, Unavailable
from headrace.ports import Inserted
from headrace.settings import Settings
from headrace.testing import InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support.patience import wait_for

TOPIC, LETTERS = "headrace.operations", "headrace.operations.dead-letters"
BOUND_SECONDS = 10.0


class OutageStore(InMemoryStore):
    """A store that does not answer its first reads, as often as `outages` says."""

    outages = 0

    def operation_by_key(self, tenant: str, idempotency_key: str):  # type: ignore[no-untyped-def]
        if self.outages:
            self.outages -= 1
            raise Unavailable("MongoDB did not answer (HEADRACE_MONGODB_URL)")
        return super().operation_by_key(tenant, idempotency_key)


class IndexedStore(OutageStore):
    """One that finds by key, job and name, for tests with thousands: the plain one reads all of them for each."""

    def __init__(self) -> None:
        super().__init__()
        self._of_job: defaultdict[JobKey, list[str]] = defaultdict(list)
        self._names: set[str] = set()

    def operation_by_key(self, tenant: str, idempotency_key: str):  # type: ignore[no-untyped-def]
        if self.outages:
            super().operation_by_key(tenant, idempotency_key)
        return self._operations.get(operation_id(tenant, idempotency_key))

    def operations_of(self, key: JobKey, after: int = 0, limit: int = 1000) -> Sequence[Operation]:
        found = [self._operations[name] for name in list(self._of_job[key])]
        return [operation for operation in found if operation.sequence > after][:limit]

    def insert_operation(self, operation: Operation) -> Inserted:
        with self._lock:
            stored = self._operations.get(operation.id)
            if stored is not None:
                return Inserted(stored, created=False)
            if any(each.sequence == operation.sequence for each in self.operations_of(operation.key)):
                raise LostRace(f"job {operation.job_id}: sequence {operation.sequence} is taken")
            self._operations[operation.id] = operation
            self._unplaced.add(operation.id)
            self._of_job[operation.key].append(operation.id)
            return Inserted(operation, created=True)

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        with self._lock:
            if before.key in self._documents or before.revision:
                return super().write(before, after)
            if after.job.deployment_name in self._names:
                raise NameTaken(f"the deployment's name {after.job.deployment_name} is another job's")
            self._names.add(after.job.deployment_name)
            self._documents[before.key] = after
            return after


Headers = Sequence[tuple[str, bytes]]


@dataclass
class Consuming:
    """A consumer's use case over a store in memory, on a broker."""

    broker: str
    store: OutageStore = field(default_factory=OutageStore)

    def __post_init__(self) -> None:
        Topics(Broker(self.broker), BOUND_SECONDS).ensure([TOPIC, LETTERS])

    @cached_property
    def services(self) -> Services:
        return wired(
            Settings(_env_file=None),
            store=self.store,
            queue=InMemoryQueue(),
            runtime=InMemoryRuntime(),
            job_manager=InMemoryJobManager(),
            clock=SystemClock(),
            sealer=None,
            letter_box=KafkaLetterBox(Broker(self.broker), LETTERS, BOUND_SECONDS),
        )

    def loop(self, consumer: RecordConsumer) -> Loop:
        letters, services = DeadLetters(Broker(self.broker), LETTERS, BOUND_SECONDS), self.services
        return Loop(consumer, letters, services.handle_record, services.triggers)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A consumer that reads, until the end."""
        consumer, stopping = RecordConsumer(Broker(self.broker), TOPIC, "headrace", BOUND_SECONDS), threading.Event()
        thread = threading.Thread(target=self.loop(consumer).run, args=[stopping.is_set])
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(60)
            consumer.close()

    def produce(self, *values: bytes, topic: str = TOPIC, partition: int = 0, headers: Headers = ()) -> None:
        producer = Producer({"bootstrap.servers": self.broker, "message.max.bytes": 10_000_000})
        for value in values:
            producer.produce(topic, value=value, partition=partition, headers=list(headers))
            assert producer.flush(30) == 0  # one by one: a batch that the broker finds too large comes in another order

    def produce_with_header(self, name: bytes, value: bytes) -> None:
        """A record whose header has this name, which no Python client would write: by librdkafka itself."""
        folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        library = ctypes.CDLL(str(next(folder.glob("librdkafka-*"))))
        for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
            getattr(library, function).restype = ctypes.c_void_p
        size, error = ctypes.c_size_t, ctypes.create_string_buffer(512)
        configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
        library.rd_kafka_conf_set(configuration, b"bootstrap.servers", self.broker.encode(), error, size(512))
        producer = ctypes.c_void_p(library.rd_kafka_new(0, configuration, error, size(512)))
        headers = ctypes.c_void_p(library.rd_kafka_headers_new(size(1)))
        library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), b"v", ctypes.c_ssize_t(1))
        topic, body, with_headers, copied, end = 1, 4, 10, 7, 0
        refused = library.rd_kafka_producev(
            producer, topic, TOPIC.encode(), body, value, size(len(value)), copied, 2, with_headers, headers, end
        )
        assert refused == 0
        assert library.rd_kafka_flush(producer, 30_000) == 0
        library.rd_kafka_destroy(producer)

    def await_job(self, name: str) -> None:
        wait_for(f"{name} to be accepted", lambda: self.store.job(JobKey("default", name)), 90)

    def count(self, name: str) -> int:
        return len(self.store.operations_of(JobKey("default", name)))

    def operations(self) -> Sequence[Operation]:
        """All that was accepted."""
        return list(self.store._operations.values())

    def letters(self, count: int) -> list[Message]:
        """The dead letters, once there are so many."""
        reader = Consumer({"bootstrap.servers": self.broker, "group.id": "reader", "auto.offset.reset": "earliest"})
        reader.subscribe([LETTERS])
        found: list[Message] = []

        def is_there() -> bool:
            message = reader.poll(1)
            if message is not None and not message.error():
                found.append(message)
            return len(found) >= count

        try:
            wait_for(f"{count} dead letters", is_there)
        finally:
            reader.close()
        return found
