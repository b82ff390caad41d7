"""Handles records one by one: durable first, then its offset; poison aside; nothing skipped. Knows no Kafka client."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

from headrace.adapters.kafka import DeadLetters, Record, RecordConsumer
from headrace.errors import PermanentError, TransientError
from headrace.services.handle_event import HandleEvent, Origin

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Loop:
    """One consumer's life. An offset is committed only once its operation, or its dead letter, is durable."""

    def __init__(self, consumer: RecordConsumer, dead_letters: DeadLetters, handle_event: HandleEvent) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._handle_event = handle_event
        self._pause_seconds = 0.0

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Until told to stop. What is transient is waited out, with a growing pause."""
        while not is_stopping():
            try:
                self._one()
                self._pause_seconds = 0.0
            except TransientError as error:
                self._wait(str(error), is_stopping)

    def _one(self) -> None:
        record = self._consumer.poll(POLL_SECONDS)
        if record is None:
            return
        try:
            self._handle(record)
            self._consumer.commit(record)
        except TransientError:
            self._consumer.seek_back(record)
            raise

    def _handle(self, record: Record) -> None:
        origin = Origin(record.topic, record.topic_id, record.partition, record.offset)
        try:
            accepted = self._handle_event.handle(record.value, origin)
        except PermanentError as error:
            logger.warning("record {} goes to the dead letters: {}", origin.key, error)
            self._dead_letters.put(record, str(error))
            return
        with logger.contextualize(job_id=accepted.operation.job_id, operation_id=accepted.operation.id):
            logger.info("record {} is {} (new: {})", origin.key, accepted.operation.kind, accepted.created)

    def _wait(self, why: str, is_stopping: Callable[[], bool]) -> None:
        if self._pause_seconds == 0.0:
            logger.warning("waiting: {}", why)
        self._pause_seconds = min(max(1.0, 2 * self._pause_seconds), LONGEST_PAUSE_SECONDS)
        until = time.monotonic() + self._pause_seconds
        while time.monotonic() < until and not is_stopping():
            self._consumer.rest(0.2)
