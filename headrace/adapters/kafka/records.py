"""A record as it was read, and the topics that it comes from. Knows no use case."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import methodcaller

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException, Message, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from headrace.adapters.kafka.broker import Broker
from headrace.domain.incoming_events import Arrived, Origin
from headrace.errors import Unavailable

LATEST_MILLISECONDS = 253_402_300_799_000
"""The end of the year 9999: a producer may say any number."""


@dataclass(frozen=True)
class Record:
    """One record, with where it stood. `topic_id` is the topic's own id, or its name where the broker has none."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes | None]]
    at: datetime | None = None

    @property
    def origin(self) -> Origin:
        """Where it stood."""
        return Origin(self.topic, self.topic_id, self.partition, self.offset)

    @property
    def arrived(self) -> Arrived:
        """The record as the use cases take it."""
        return Arrived(self.value, self.origin, self.headers, self.at)


_READ_HEADERS = methodcaller("headers")
"""For a name that is no UTF-8 the client returns a broken list and sets an exception. Called by an interpreter that has
warmed up, `message.headers()` would hand that list out, and reading it ends the process; called so, it raises."""


def record_of(message: Message) -> Record:
    """The record that a message is, without its topic's id: who needs that asks the broker."""
    return Record(
        topic=message.topic() or "",
        topic_id="",
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=_bytes(message.key()),
        value=_bytes(message.value()) or b"",
        headers=_headers(message),
        at=_at(message),
    )


def _at(message: Message) -> datetime | None:
    kind, milliseconds = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE or not 0 <= milliseconds <= LATEST_MILLISECONDS:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


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


class Topics:
    """Makes topics and tells their ids. Every call is bounded."""

    def __init__(self, broker: Broker, timeout_seconds: float) -> None:
        self._broker = broker
        self._timeout_seconds = timeout_seconds
        self._admin = AdminClient({**broker.client, "log_level": 2})

    def ensure(self, names: Sequence[str]) -> None:
        """Makes those that are missing, with one partition each, as often replicated as the broker has it by default
        (KIP-464, Kafka 2.4). Raises Unavailable."""
        existing = self.existing()
        missing = [NewTopic(name, num_partitions=1, replication_factor=-1) for name in names if name not in existing]
        for future in self._admin.create_topics(missing).values() if missing else ():
            try:
                future.result(self._timeout_seconds)
            except (KafkaException, TimeoutError) as error:
                if "TOPIC_ALREADY_EXISTS" not in str(error):
                    raise self._unavailable(error) from error

    def existing(self) -> Collection[str]:
        """The names of the topics that there are. Raises Unavailable."""
        try:
            return set(self._admin.list_topics(timeout=self._timeout_seconds).topics)
        except KafkaException as error:
            raise self._unavailable(error) from error

    def topic_id(self, name: str) -> str:
        """The topic's own id, so that a topic that was made anew is told from the one before; its name where the
        broker has no ids. Raises Unavailable where it cannot be asked: a guess could apply an event twice."""
        try:
            described = self._admin.describe_topics(TopicCollection([name]), request_timeout=self._timeout_seconds)
            return str(described[name].result(self._timeout_seconds).topic_id or name)
        except (KafkaException, TimeoutError) as error:
            if "UNSUPPORTED" in str(error):
                return name
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        return self._broker.silent(error)
