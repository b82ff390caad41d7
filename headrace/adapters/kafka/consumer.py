"""Reads records one by one and commits an offset only when told to. Knows no use case.

Auto-commit is off. Nothing that a poll returned is dropped: it is handed out, or its partition is sought back to it.
A partition can rest while the others go on. A topic that was deleted and made again has another id: it is read from its
beginning, whatever the group committed.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.records import Record, Topics, record_of
from headrace.errors import HeadraceError, Refused, Unavailable


class RecordConsumer:
    """One member of a consumer group, on one topic and whichever `follow` names beside it."""

    def __init__(self, bootstrap_servers: str, topic: str, group: str, timeout_seconds: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._topics = Topics(bootstrap_servers, timeout_seconds)
        self._followed: frozenset[str] = frozenset()
        self._is_subscribed = False
        self._topic_ids: dict[str, str] = {}
        self._from_beginning: set[str] = set()
        self._resting: dict[tuple[str, int], float] = {}
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

    def follow(self, topics: Collection[str]) -> None:
        """Reads these topics too from now on, and no others: those of them that exist. One that is made later is
        followed by the next call. Raises Unavailable."""
        wanted = frozenset(topics) & frozenset(self._topics.existing()) if topics else frozenset()
        if wanted != self._followed or not self._is_subscribed:
            self._followed = wanted
            self._subscribe()

    def poll(self, timeout_seconds: float) -> Record | None:
        """The next record of a partition that does not rest, or None. Nothing else polls.

        Raises Unavailable where the broker is not to be had, and Refused where it is no use to go on with this process;
        nothing is skipped then.
        """
        if not self._is_subscribed:
            self._subscribe()
        self._end_rests()
        message = self._polled(timeout_seconds)
        if message is None:
            return None
        record = record_of(message)
        if (record.topic, record.partition) in self._resting:  # it was on its way when the partition was paused
            self._seek(record)
            return None
        try:
            topic_id = self._topics.topic_id(record.topic)  # for each record: an offset means nothing without it
        except Unavailable:
            self._seek(record)
            raise
        known = self._topic_ids.get(record.topic, topic_id)
        self._topic_ids[record.topic] = topic_id
        if known != topic_id:
            self._read_anew(record.topic)
            return None
        return replace(record, topic_id=topic_id)

    def rest(self, record: Record, seconds: float) -> None:
        """Leaves the record's partition alone for so long, then begins with this record again, in whichever member has
        the partition then. Polling goes on meanwhile, so that the group keeps its member."""
        self._resting[record.topic, record.partition] = time.monotonic() + seconds
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
        for topic, partition in [each for each, until in self._resting.items() if until <= time.monotonic()]:
            del self._resting[topic, partition]
            with suppress(KafkaException):  # it may be another member's by now
                self._consumer.resume([TopicPartition(topic, partition)])

    def _read_anew(self, topic: str) -> None:
        """The topic is another than before: its records are new ones, whatever their offsets."""
        self._from_beginning.add(topic)
        self._resting = {place: until for place, until in self._resting.items() if place[0] != topic}
        self._subscribe_again()

    def _subscribe_again(self) -> None:
        self._consumer.unsubscribe()
        self._subscribe()

    def _subscribe(self) -> None:
        """The first time at the first look: a member that asks for other topics has its group rearranged once more."""
        self._is_subscribed = True
        self._consumer.subscribe([self._topic, *sorted(self._followed)], on_assign=self._assign)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            if partition.topic in self._from_beginning:
                partition.offset = OFFSET_BEGINNING
        self._from_beginning -= {partition.topic for partition in partitions}
        consumer.assign(partitions)
        resting = [each for each in partitions if (each.topic, each.partition) in self._resting]
        if resting:  # an assignment forgets what was paused
            consumer.pause(resting)

    def _translated(self, error: KafkaError) -> HeadraceError:
        if error.fatal():
            return Refused(f"Kafka at {self._servers} ended this consumer, which must be started again: {error}")
        return Unavailable(f"Kafka at {self._servers} did not answer (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}")
