"""The consumer's use cases over a store in memory, on a real broker: records in, operations and letters out."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Message, Producer

from consumer.loop import Loop
from headrace.adapters.kafka import DeadLetters, KafkaLetterBox, RecordConsumer, Topics
from headrace.bootstrap import Services, SystemClock, wired
from headrace.domain.jobs import JobKey
from headrace.domain.operations import Operation
from headrace.errors import Unavailable
from headrace.settings import Settings
from headrace.testing import InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support import servers

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


Headers = Sequence[tuple[str, bytes]]


@dataclass
class Consuming:
    """A consumer's use case over a store in memory, on a broker."""

    broker: str
    store: OutageStore = field(default_factory=OutageStore)

    def __post_init__(self) -> None:
        Topics(self.broker, BOUND_SECONDS).ensure([TOPIC, LETTERS])

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
            letter_box=KafkaLetterBox(self.broker, LETTERS, BOUND_SECONDS),
        )

    def loop(self, consumer: RecordConsumer) -> Loop:
        letters, services = DeadLetters(self.broker, LETTERS, BOUND_SECONDS), self.services
        return Loop(consumer, letters, services.handle_record, services.triggers)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A consumer that reads, until the end."""
        consumer, stopping = RecordConsumer(self.broker, TOPIC, "headrace", BOUND_SECONDS), threading.Event()
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
        assert producer.flush(30) == 0

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
        servers.wait_for(f"{name} to be accepted", lambda: self.store.job(JobKey("default", name)), 90)

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
            servers.wait_for(f"{count} dead letters", is_there)
        finally:
            reader.close()
        return found
