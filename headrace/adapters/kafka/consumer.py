"""Reads records one by one and commits an offset only when told to. Knows no use case.

Auto-commit is off, and a record that cannot be handled now is read again: the partition is sought back to it.
A topic that was deleted and made again has another id: it is read from its beginning, whatever the group committed.
"""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from headrace.adapters.kafka.records import Record, Topics
from headrace.errors import Unavailable


class RecordConsumer:
    """One member of a consumer group on one topic."""

    def __init__(self, bootstrap_servers: str, topic: str, group: str, timeout_seconds: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._topics = Topics(bootstrap_servers, timeout_seconds)
        self._topic_id: str | None = None
        self._from_beginning = False
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 30_000,
                "max.poll.interval.ms": 300_000,
                "log_level": 3,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assign)

    def poll(self, timeout_seconds: float) -> Record | None:
        """The next record, or None. Raises Unavailable where the broker is not to be had; nothing is skipped then."""
        message = self._consumer.poll(timeout_seconds)
        if message is None:
            return None
        if message.error():
            raise self._unavailable(message.error())
        record = Record(
            topic=message.topic() or self._topic,
            topic_id="",
            partition=int(message.partition() or 0),
            offset=int(message.offset() or 0),
            key=_bytes(message.key()),
            value=_bytes(message.value()) or b"",
            headers=_headers(message.headers()),
        )
        try:
            topic_id = self._topics.topic_id(self._topic)  # for each record: an offset means nothing without it
        except Unavailable:
            self.seek_back(record)
            raise
        known, self._topic_id = self._topic_id, topic_id
        if known not in (None, topic_id):
            self._read_anew()
            return None
        return replace(record, topic_id=topic_id)

    def rest(self, seconds: float) -> None:
        """Waits without reading on, and goes on polling, so that the group keeps its member."""
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        try:
            self._consumer.poll(seconds)
        finally:
            self._consumer.resume(self._consumer.assignment())

    def commit(self, record: Record) -> None:
        """Commits the offset behind this record, synchronously. Raises Unavailable."""
        behind = TopicPartition(record.topic, record.partition, record.offset + 1)
        try:
            self._consumer.commit(offsets=[behind], asynchronous=False)
        except KafkaException as error:
            raise self._unavailable(error) from error

    def seek_back(self, record: Record) -> None:
        """Makes this record the next one that is read, by whichever member the partition has then."""
        try:
            self._consumer.seek(TopicPartition(record.topic, record.partition, record.offset))
        except KafkaException:
            # The partition is no longer ours, or cannot be sought now: the group's committed offset is read again.
            self._subscribe_again()

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _read_anew(self) -> None:
        """The topic is another than before: its records are new ones, whatever their offsets."""
        self._from_beginning = True
        self._subscribe_again()

    def _subscribe_again(self) -> None:
        self._consumer.unsubscribe()
        self._consumer.subscribe([self._topic], on_assign=self._assign)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._from_beginning:
            for partition in partitions:
                partition.offset = OFFSET_BEGINNING
            self._from_beginning = False
        consumer.assign(partitions)

    def _unavailable(self, error: object) -> Unavailable:
        return Unavailable(f"Kafka at {self._servers} did not answer (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}")


def _headers(headers: object) -> tuple[tuple[str, bytes | None], ...]:
    """The headers in their order; a name may come more than once."""
    pairs = headers.items() if isinstance(headers, dict) else headers if isinstance(headers, list) else ()
    return tuple((name, _bytes(value)) for name, value in pairs)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
