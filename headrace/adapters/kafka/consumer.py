"""Reads records and hands them out one by one; commits the offsets of those that are done. Knows no use case.

Auto-commit is off. What the client has fetched is taken at once, and what is done of it is committed at once, before
more is taken: a broker is asked for a commit and a topic's id once for many records. Nothing that was taken is dropped:
it is handed out, or its partition is sought back to it.
A partition can rest while the others go on. A topic that was deleted and made again has another id: it is read from its
beginning, whatever the group committed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka.broker import Broker
from headrace.adapters.kafka.lag import STATISTICS_EVERY_MS, LagGauge
from headrace.adapters.kafka.records import Record, Topics, record_of
from headrace.errors import HeadraceError, Refused, Unavailable

MOST_AT_ONCE = 200
"""Records taken at once: what a crash has handled a second time at most."""


class RecordConsumer:
    """One member of a consumer group, on one topic and whichever `follow` names beside it."""

    def __init__(self, broker: Broker, topic: str, group: str, timeout_seconds: float) -> None:
        self._broker = broker
        self._topic = topic
        self._topics = Topics(broker, timeout_seconds)
        self._followed: frozenset[str] = frozenset()
        self._is_subscribed = False
        self._topic_ids: dict[str, str] = {}
        self._from_beginning: set[str] = set()
        self._resting: dict[tuple[str, int], float] = {}
        self._ready: deque[Record] = deque()
        self._done: dict[tuple[str, int], int] = {}
        self._consumer = Consumer(
            {
                **broker.client,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 30_000,
                "max.poll.interval.ms": 300_000,
                "log_level": 3,
                "statistics.interval.ms": STATISTICS_EVERY_MS,
                "stats_cb": LagGauge().hear,
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
        """The next record of a partition that does not rest, or None. Nothing else polls. It commits what is done where
        no record that was taken is left.

        Raises Unavailable where the broker is not to be had, and Refused where it is no use to go on with this process;
        nothing is skipped then.
        """
        if not self._is_subscribed:
            self._subscribe()
        self._end_rests()
        if not self._ready:
            self.commit_done()
            self._ready.extend(self._taken(timeout_seconds))
        return self._ready.popleft() if self._ready else None

    def ready(self) -> Sequence[Record]:
        """What was taken with the records that `poll` gave, and comes next."""
        return tuple(self._ready)

    def _taken(self, timeout_seconds: float) -> Sequence[Record]:
        """What has come of partitions that do not rest, each record with its topic's id."""
        records = self._fetched(timeout_seconds)
        late = [each for each in records if (each.topic, each.partition) in self._resting]
        self._seek_back(late)  # they were on their way when their partition was paused
        records = [each for each in records if (each.topic, each.partition) not in self._resting]
        try:  # each time: an offset means nothing without it
            found = {topic: self._topics.topic_id(topic) for topic in {each.topic for each in records}}
        except Unavailable:
            self._seek_back(records)
            raise
        made_anew = [topic for topic, topic_id in found.items() if self._topic_ids.get(topic, topic_id) != topic_id]
        self._topic_ids.update(found)
        if made_anew:
            self._read_anew(made_anew)
            return ()
        return [replace(each, topic_id=found[each.topic]) for each in records]

    def _fetched(self, timeout_seconds: float) -> Sequence[Record]:
        """Waits for the first one alone; with it comes what the client has at hand."""
        first = self._polled(timeout_seconds)
        if first is None:
            return ()
        messages = [first, *self._consumer.consume(MOST_AT_ONCE - 1, timeout=0)]
        records = [record_of(each) for each in messages if each.error() is None]
        refused = next((error for each in messages if (error := each.error()) is not None), None)
        if refused is not None:
            self._seek_back(records)
            raise self._translated(refused)
        return records

    def rest(self, record: Record, seconds: float) -> None:
        """Leaves the record's partition alone for so long, then begins with this record again, in whichever member has
        the partition then. Polling goes on meanwhile, so that the group keeps its member."""
        self._resting[record.topic, record.partition] = time.monotonic() + seconds
        with suppress(KafkaException):  # a partition that is no longer ours needs no pause
            self._consumer.pause([TopicPartition(record.topic, record.partition)])
        place = record.topic, record.partition
        self._ready = deque(each for each in self._ready if (each.topic, each.partition) != place)
        self._seek(record)

    def commit(self, record: Record) -> None:
        """Takes this record as done: its offset is committed with those that were taken with it, before more is."""
        self._done[record.topic, record.partition] = record.offset + 1

    def commit_done(self) -> None:
        """Commits the offsets behind what is done, synchronously. Raises Unavailable; what it could not commit is
        committed with what comes behind it, or handled again by whoever has the partition then."""
        behind = [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._done.items()]
        self._done.clear()
        if not behind:
            return
        try:
            self._consumer.commit(offsets=behind, asynchronous=False)
        except KafkaException as error:
            raise self._translated(error.args[0]) from error

    def close(self) -> None:
        """Commits what is done, where that can be, and leaves the group."""
        with suppress(HeadraceError):
            self.commit_done()
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

    def _seek_back(self, records: Sequence[Record]) -> None:
        """To the first one of each partition."""
        firsts = {(each.topic, each.partition): each for each in reversed(records)}
        for each in firsts.values():
            self._seek(each)

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

    def _read_anew(self, topics: Collection[str]) -> None:
        """The topics are others than before: their records are new ones, whatever their offsets."""
        self._from_beginning |= set(topics)
        self._resting = {place: until for place, until in self._resting.items() if place[0] not in topics}
        self._subscribe_again()

    def _subscribe_again(self) -> None:
        self._ready.clear()  # it is read again, from the offsets that are committed
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
            return Refused(f"Kafka at {self._broker.servers} ended this consumer, which must be started again: {error}")
        return self._broker.silent(error)
