"""A record as it was read, and the topics that it comes from. Knows no use case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from headrace.errors import Unavailable


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


class Topics:
    """Makes topics and tells their ids. Every call is bounded."""

    def __init__(self, bootstrap_servers: str, timeout_seconds: float) -> None:
        self._servers = bootstrap_servers
        self._timeout_seconds = timeout_seconds
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 2})

    def ensure(self, names: Sequence[str]) -> None:
        """Makes those that are missing, with one partition each. Raises Unavailable."""
        try:
            existing = self._admin.list_topics(timeout=self._timeout_seconds).topics
        except KafkaException as error:
            raise self._unavailable(error) from error
        missing = [NewTopic(name, num_partitions=1, replication_factor=1) for name in names if name not in existing]
        for future in self._admin.create_topics(missing).values() if missing else ():
            try:
                future.result(self._timeout_seconds)
            except (KafkaException, TimeoutError) as error:
                if "TOPIC_ALREADY_EXISTS" not in str(error):
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
        return Unavailable(f"Kafka at {self._servers} did not answer (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}")
