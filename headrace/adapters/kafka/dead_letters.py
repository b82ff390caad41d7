"""Puts what cannot be used aside: the record's bytes, why, and where it stood. Knows no use case."""

from __future__ import annotations

from confluent_kafka import KafkaException, Producer

from headrace.adapters.kafka.records import Record
from headrace.errors import Unavailable


class DeadLetters:
    """Writes to `<topic>.dead-letters`; a letter is there when `put` returns."""

    def __init__(self, bootstrap_servers: str, topic: str, timeout_seconds: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._timeout_seconds = timeout_seconds
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "acks": "all",
                "message.timeout.ms": int(timeout_seconds * 1000),
                "log_level": 3,
            }
        )

    def put(self, record: Record, reason: str) -> None:
        """Writes the letter and waits for the broker's word. Raises Unavailable where that does not come."""
        refused: list[str] = []
        origin = {
            "headrace-reason": reason,
            "headrace-topic": record.topic,
            "headrace-topic-id": record.topic_id,
            "headrace-partition": str(record.partition),
            "headrace-offset": str(record.offset),
        }
        own = [(name, value.encode()) for name, value in origin.items()]
        headers: list[tuple[str, str | bytes | None]] = [*record.headers, *own]
        try:
            self._producer.produce(
                self._topic,
                key=record.key,
                value=record.value,
                headers=headers,
                on_delivery=lambda error, _message: refused.append(str(error)) if error else None,
            )
            left = self._producer.flush(self._timeout_seconds)
        except (KafkaException, BufferError) as error:
            raise self._unavailable(str(error)) from error
        if left or refused:
            raise self._unavailable(", ".join(refused) or "no answer")

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(
            f"Kafka at {self._servers} did not take a dead letter (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {why}"
        )
