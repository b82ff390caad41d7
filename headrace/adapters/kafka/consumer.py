"""Reads records one by one and commits an offset only when told to. Knows no use case.

Auto-commit is off. Nothing that a poll returned is dropped: it is handed out, or its partition is sought back to it.
A partition can rest while the others go on. A topic that was deleted and made again has another id: it is read from its
beginning, whatever the group committed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from operator import methodcaller

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.records import Record, Topics
from headrace.errors import HeadraceError, Refused, Unavailable


class RecordConsumer:
    """One member of a consumer group on one topic."""

    def __init__(self, bootstrap_servers: str, topic: str, group: str, timeout_seconds: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._topics = Topics(bootstrap_servers, timeout_seconds)
        self._topic_id: str | None = None
        self._from_beginning = False
        self._resting: dict[int, float] = {}
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
        """The next record of a partition that does not rest, or None. Nothing else polls.

        Raises Unavailable where the broker is not to be had, and Refused where it is no use to go on with this process;
        nothing is skipped then.
        """
        self._end_rests()
        message = self._polled(timeout_seconds)
        if message is None:
            return None
        record = _record(message, self._topic)
        if record.partition in self._resting:  # it was on its way when the partition was paused
            self._seek(record)
            return None
        try:
            topic_id = self._topics.topic_id(self._topic)  # for each record: an offset means nothing without it
        except Unavailable:
            self._seek(record)
            raise
        known, self._topic_id = self._topic_id, topic_id
        if known not in (None, topic_id):
            self._read_anew()
            return None
        return replace(record, topic_id=topic_id)

    def rest(self, record: Record, seconds: float) -> None:
        """Leaves the record's partition alone for so long, then begins with this record again, in whichever member has
        the partition then. Polling goes on meanwhile, so that the group keeps its member."""
        self._resting[record.partition] = time.monotonic() + seconds
        with suppress(KafkaException):  # a partition that is no longer ours needs no pause
            self._consumer.pause([TopicPartition(record.topic, record.partition)])
        self._seek(record)

    def commit(self, record: Record) -> None:
        """Commits the offset behind this record, synchronously. Raises Unavailable."""
        behind = TopicPartition(record.topic, record.partition, record.offset + 1)
        try:
            self._consumer.commit(offsets=[behind], asynchronous=False)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _polled(self, timeout_seconds: float) -> Message | None:
        try:
            message = self._consumer.poll(timeout_seconds)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error
        refused = message.error() if message is not None else None
        if refused is not None:
            raise self._translated(refused)
        return message

    def _seek(self, record: Record) -> None:
        try:
            self._consumer.seek(TopicPartition(record.topic, record.partition, record.offset))
        except KafkaException:
            # The partition is no longer ours, or cannot be sought now: the group's committed offset is read again.
            self._subscribe_again()

    def _end_rests(self) -> None:
        for partition in [each for each, until in self._resting.items() if until <= time.monotonic()]:
            del self._resting[partition]
            with suppress(KafkaException):  # it may be another member's by now
                self._consumer.resume([TopicPartition(self._topic, partition)])

    def _read_anew(self) -> None:
        """The topic is another than before: its records are new ones, whatever their offsets."""
        self._from_beginning = True
        self._resting.clear()
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
        resting = [each for each in partitions if each.partition in self._resting]
        if resting:  # an assignment forgets what was paused
            consumer.pause(resting)

    def _translated(self, error: KafkaError) -> HeadraceError:
        if error.fatal():
            return Refused(f"Kafka at {self._servers} ended this consumer, which must be started again: {error}")
        return Unavailable(f"Kafka at {self._servers} did not answer (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}")


_READ_HEADERS = methodcaller("headers")
"""For a name that is no UTF-8 the client returns a broken list and sets an exception. Called by an interpreter that has
warmed up, `message.headers()` would hand that list out, and reading it ends the process; called so, it raises."""


def _record(message: Message, topic: str) -> Record:
    return Record(
        topic=message.topic() or topic,
        topic_id="",
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=_bytes(message.key()),
        value=_bytes(message.value()) or b"",
        headers=_headers(message),
    )


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """The headers in their order; a name may come more than once. None where a name is no UTF-8: the client cannot read
    the others either then."""
    try:
        headers = _READ_HEADERS(message)
    except (SystemError, UnicodeDecodeError):
        return ()
    pairs = headers.items() if isinstance(headers, dict) else headers if isinstance(headers, list) else ()
    return tuple((name, _bytes(value)) for name, value in pairs)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
