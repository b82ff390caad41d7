"""Puts what cannot be used aside: what it was, why, and where it stood. Knows no use case.

A letter repeats no value that could be a secret: a record's fields stand in it with the values of harmless ones alone,
and what is no JSON object does not stand in it at all. Size, hash and place tell the record, which its topic still has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.adapters.kafka.broker import Broker
from headrace.adapters.kafka.records import Record
from headrace.domain.inputs import json_object
from headrace.domain.secrets import outlined_data, why_refused
from headrace.errors import InvalidRequest, Unavailable

PREFIX = "headrace-"
"""Of the headers that are ours: a record that brings one of such a name loses it in its letter."""

REASON, TRIGGERS = "headrace-reason", "headrace-triggers"
TOPIC, TOPIC_ID, PARTITION, OFFSET = "headrace-topic", "headrace-topic-id", "headrace-partition", "headrace-offset"
BYTES, SHA256 = "headrace-bytes", "headrace-sha256"

LONGEST_REASON = 2_000
LONGEST_OUTLINE = 64_000
LONGEST_SHOWN_HEADER = 1_000
MOST_BYTES_TRIED = 64 * 1024 * 1024
"""The broker says what is too large, not the producer's own, smaller default."""


@dataclass(frozen=True)
class Letter:
    """What is written to the topic of dead letters."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def letters_of(record: Record, reason: str, triggers: Collection[str] = ()) -> Iterator[Letter]:
    """The letter about a record, then a smaller one, without its outline, for a broker that finds it too large; both
    say the body's size and hash, and where the record stands."""
    own = _own_headers(record, reason, triggers)
    theirs = tuple(
        (name, value) for name, value in record.headers if _is_shown(name, value) and not name.startswith(PREFIX)
    )
    yield Letter(record.key if _is_shown("key", record.key) else None, _outline(record.value), (*theirs, *own))
    yield Letter(None, None, own)


def _outline(value: bytes) -> bytes | None:
    try:
        outline = json.dumps(outlined_data(json_object(value, "record")), ensure_ascii=False).encode()
    except InvalidRequest:
        return None
    return outline if len(outline) <= LONGEST_OUTLINE else None


def _is_shown(name: str, value: bytes | None) -> bool:
    """Whether a header, or a record's key, may be repeated: short text that looks like no secret."""
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return len(text) <= LONGEST_SHOWN_HEADER and text.isprintable() and why_refused(name, text) is None


def _own_headers(record: Record, reason: str, triggers: Collection[str]) -> Sequence[tuple[str, bytes | None]]:
    origin = {
        TOPIC: record.topic,
        TOPIC_ID: record.topic_id,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        BYTES: str(len(record.value)),
        SHA256: hashlib.sha256(record.value).hexdigest(),
    }
    shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
    named = {TRIGGERS: ",".join(sorted(triggers))} if triggers else {}
    return _encoded({REASON: shown, **named, **origin})


def _encoded(headers: dict[str, str]) -> Sequence[tuple[str, bytes | None]]:
    return tuple((name, value.encode(errors="backslashreplace")) for name, value in headers.items())


class DeadLetters:
    """Writes to `<topic>.dead-letters`; a letter is there when `put` returns."""

    def __init__(self, broker: Broker, topic: str, timeout_seconds: float) -> None:
        self._broker = broker
        self._topic = topic
        self._timeout_seconds = timeout_seconds
        self._producer = Producer(
            {
                **broker.client,
                "acks": "all",
                "message.timeout.ms": int(timeout_seconds * 1000),
                "message.max.bytes": MOST_BYTES_TRIED,
                "log_level": 3,
            }
        )

    def put(self, record: Record, reason: str, triggers: Collection[str] = ()) -> None:
        """Writes the letter, as whole as the broker takes it, and waits for the broker's word. Raises Unavailable where
        that does not come."""
        for letter in letters_of(record, reason, triggers):
            error = self._refusal_of(letter)
            if error is None:
                return
            if not isinstance(error, KafkaError) or error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                break
        raise Unavailable(
            f"Kafka at {self._broker.servers} did not take a dead letter (HEADRACE_KAFKA_BOOTSTRAP_SERVERS): {error}"
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
