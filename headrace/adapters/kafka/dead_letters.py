"""Puts what cannot be used aside: the record's bytes, why, and where it stood. Knows no use case."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.adapters.kafka.records import Record
from headrace.errors import Unavailable

LONGEST_REASON = 2_000
LONGEST_CUT_BODY = 64_000
MOST_BYTES_TRIED = 64 * 1024 * 1024
"""The broker says what is too large, not the producer's own, smaller default."""


@dataclass(frozen=True)
class Letter:
    """What is written to the topic of dead letters."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def letters_of(record: Record, reason: str) -> Iterator[Letter]:
    """The letter about a record, then smaller ones for a broker that finds it too large: first with the beginning of
    the body, then without one; both say the body's size and hash, and where the record stands."""
    own = _own_headers(record, reason)
    yield Letter(record.key, record.value, (*record.headers, *own))
    digest = hashlib.sha256(record.value).hexdigest()
    own = (*own, *_encoded({"headrace-bytes": str(len(record.value)), "headrace-sha256": digest}))
    yield Letter(None, record.value[:LONGEST_CUT_BODY], own)
    yield Letter(None, None, own)


def _own_headers(record: Record, reason: str) -> Sequence[tuple[str, bytes | None]]:
    origin = {
        "headrace-topic": record.topic,
        "headrace-topic-id": record.topic_id,
        "headrace-partition": str(record.partition),
        "headrace-offset": str(record.offset),
    }
    shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
    return _encoded({"headrace-reason": shown, **origin})


def _encoded(headers: dict[str, str]) -> Sequence[tuple[str, bytes | None]]:
    return tuple((name, value.encode(errors="backslashreplace")) for name, value in headers.items())


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
                "message.max.bytes": MOST_BYTES_TRIED,
                "log_level": 3,
            }
        )

    def put(self, record: Record, reason: str) -> None:
        """Writes the letter, as whole as the broker takes it, and waits for the broker's word. Raises Unavailable where
        that does not come."""
        for letter in letters_of(record, reason):
            error = self._refusal_of(letter)
            if error is None:
                return
            if not isinstance(error, KafkaError) or error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                break
        raise Unavailable(
            f"Kafka at {self._servers} did not take a dead letter (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}"
        )

    def _refusal_of(self, letter: Letter) -> KafkaError | str | None:
        refused: list[KafkaError] = []
        try:
            self._producer.produce(
                self._topic,
                key=letter.key,
                value=letter.value,
                headers=list(letter.headers),
                on_delivery=lambda error, _message: refused.append(error) if error else None,
            )
            left = self._producer.flush(self._timeout_seconds)
        except KafkaException as error:
            return error.args[0]  # type: ignore[no-any-return]
        except BufferError as error:
            return str(error)
        return refused[0] if refused else "no answer" if left else None
