"""Reads dead letters, and the records that they are about from where those stand. Knows no use case.

No letter has its record's values, so that no secret is kept in one: while its topic has the record, that is read again,
and known by its hash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.adapters.kafka import dead_letters
from headrace.adapters.kafka.broker import Broker
from headrace.adapters.kafka.records import Record, Topics, record_of
from headrace.domain.incoming_events import Arrived, Origin
from headrace.errors import Unavailable
from headrace.ports import DeadLetter, NotThere

LETTER_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")
NUMBER = re.compile(r"[0-9]{1,18}")


class KafkaLetterBox:
    """ports.LetterBox on one topic of dead letters. It joins no group and commits nothing; each call is bounded."""

    def __init__(self, broker: Broker, topic: str, timeout_seconds: float) -> None:
        self._broker = broker
        self._topic = topic
        self._timeout_seconds = timeout_seconds

    def newest(self, limit: int) -> Sequence[DeadLetter]:
        """See ports.LetterBox."""
        topics = Topics(self._broker, self._timeout_seconds)
        if self._topic not in topics.existing():
            return ()
        with self._reading() as consumer:
            found = consumer.list_topics(self._topic, timeout=self._timeout_seconds).topics[self._topic]
            starts = [start for partition in found.partitions if (start := self._start(consumer, partition, limit))]
            letters = [letter for each in self._read(consumer, starts) if (letter := letter_of(record_of(each)))]
        letters.sort(key=lambda letter: (letter.at.timestamp() if letter.at else 0.0, letter.id))
        return letters[-limit:]

    def letter(self, letter_id: str) -> DeadLetter | None:
        """See ports.LetterBox."""
        named = LETTER_ID.fullmatch(letter_id)
        record = self._record(self._topic, int(named[1]), int(named[2])) if named else None
        return letter_of(record) if isinstance(record, Record) else None

    def record_of(self, letter: DeadLetter) -> Arrived | NotThere:
        """See ports.LetterBox."""
        origin = letter.origin
        topics = Topics(self._broker, self._timeout_seconds)
        if origin.topic not in topics.existing():
            return NotThere(f"topic {origin.topic} is gone")
        if topics.topic_id(origin.topic) != origin.topic_id:
            return NotThere(f"topic {origin.topic} was made anew since: what it has at this offset is another record")
        record = self._record(origin.topic, origin.partition, origin.offset)
        if record is None:
            where = f"offset {origin.offset} of partition {origin.partition}"
            return NotThere(f"topic {origin.topic} does not keep {where} any more; its producer may send it again")
        if sha256(record.value).hexdigest() != letter.sha256:
            return NotThere(f"topic {origin.topic} has another record there than the letter's, by its hash")
        return Arrived(record.value, origin, record.headers, record.at)

    def _record(self, topic: str, partition: int, offset: int) -> Record | None:
        """What stands at this offset; None where nothing does."""
        with self._reading() as consumer:
            known = consumer.list_topics(topic, timeout=self._timeout_seconds).topics[topic].partitions
            if partition not in known:
                return None
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=self._timeout_seconds)
            if not low <= offset < high:
                return None
            found = next(self._read(consumer, [TopicPartition(topic, partition, offset)]), None)
        record = record_of(found) if found is not None else None
        return record if record is not None and record.offset == offset else None

    def _start(self, consumer: Consumer, partition: int, limit: int) -> TopicPartition | None:
        place = TopicPartition(self._topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=self._timeout_seconds)
        return TopicPartition(self._topic, partition, max(low, high - limit)) if high > low else None

    def _read(self, consumer: Consumer, starts: Sequence[TopicPartition]) -> Iterator[Message]:
        """From these places to the ends of their partitions."""
        if not starts:
            return
        consumer.assign(list(starts))
        left = {start.partition for start in starts}
        until = time.monotonic() + self._timeout_seconds
        while left:
            message = consumer.poll(max(0.0, until - time.monotonic()))
            if message is None:
                raise self._unavailable("it has not sent all in time")
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise self._unavailable(error)

    @contextmanager
    def _reading(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **self._broker.client,
                "group.id": "headrace-dead-letters",  # the client needs one; nothing joins it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "log_level": 2,
            }
        )
        try:
            yield consumer
        except KafkaException as error:
            raise self._unavailable(error) from error
        finally:
            consumer.close()

    def _unavailable(self, error: object) -> Unavailable:
        return self._broker.silent(error)


def letter_of(record: Record) -> DeadLetter | None:
    """The letter that a record of the dead letters' topic is; None where somebody else wrote it."""
    headers = dict(record.headers)  # ours are the last ones, whatever the record itself had
    texts = {name: (headers.get(name) or b"").decode(errors="replace") for name in _OURS}
    if not all(NUMBER.fullmatch(texts[name]) for name in _NUMBERS) or not texts[dead_letters.TOPIC]:
        return None
    partition, offset = int(texts[dead_letters.PARTITION]), int(texts[dead_letters.OFFSET])
    return DeadLetter(
        id=f"{record.partition}-{record.offset}",
        at=record.at,
        reason=texts[dead_letters.REASON],
        triggers=tuple(name for name in texts[dead_letters.TRIGGERS].split(",") if name),
        origin=Origin(texts[dead_letters.TOPIC], texts[dead_letters.TOPIC_ID], partition, offset),
        size_bytes=int(texts[dead_letters.BYTES]),
        sha256=texts[dead_letters.SHA256],
    )


_NUMBERS = (dead_letters.PARTITION, dead_letters.OFFSET, dead_letters.BYTES)
_OURS = (
    *_NUMBERS,
    *(dead_letters.REASON, dead_letters.TRIGGERS, dead_letters.TOPIC, dead_letters.TOPIC_ID, dead_letters.SHA256),
)
