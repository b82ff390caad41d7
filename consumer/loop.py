"""Handles records one by one: durable first, then its offset; poison aside; nothing skipped. Knows no Kafka client."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

from headrace import metrics
from headrace.adapters.kafka import DeadLetters, Record, RecordConsumer
from headrace.errors import INPUTS_FAULT, HeadraceError, PermanentError, TransientError, unforeseen
from headrace.logs import say_unforeseen
from headrace.services.handle_record import HandleRecord, Origin

POLL_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0


class Loop:
    """One consumer's life. An offset is committed only once its operation, or its dead letter, is durable.

    What the record is at fault for makes a dead letter. Everything else is a server's trouble or ours: the record's
    partition rests, at most 30 s at a time, and the others go on.
    """

    def __init__(self, consumer: RecordConsumer, dead_letters: DeadLetters, handle_record: HandleRecord) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._handle_record = handle_record
        self._tries: dict[int, int] = {}
        self._is_away = False

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Until told to stop. Raises PermanentError where the broker ended this consumer for good."""
        while not is_stopping():
            record = self._next()
            if record is not None:
                self._one(record)

    def _next(self) -> Record | None:
        try:
            record = self._consumer.poll(POLL_SECONDS)
        except TransientError as error:
            if not self._is_away:
                logger.warning("waiting: {}", error)
            self._is_away = True
            time.sleep(POLL_SECONDS)
            return None
        self._is_away = self._is_away and record is None
        return record

    def _one(self, record: Record) -> None:
        try:
            self._handle(record)
            self._consumer.commit(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the record's fault
            self._rest(record, error)
        else:
            self._tries.pop(record.partition, None)

    def _handle(self, record: Record) -> None:
        origin = Origin(record.topic, record.topic_id, record.partition, record.offset)
        try:
            accepted = self._handle_record.handle(record.value, origin)
        except INPUTS_FAULT as error:
            self._put_aside(record, origin, error)
            return
        with logger.contextualize(job_id=accepted.operation.job_id, operation_id=accepted.operation.id):
            logger.info("record {} is {} (new: {})", origin.key, accepted.operation.kind, accepted.created)

    def _put_aside(self, record: Record, origin: Origin, error: PermanentError) -> None:
        _say_if_unforeseen(error, f"record {origin.key}")
        self._dead_letters.put(record, str(error))
        metrics.REFUSED.labels("kafka").inc()
        logger.warning("record {} is put aside, into the dead letters: {}", origin.key, str(error)[:500])

    def _rest(self, record: Record, error: Exception) -> None:
        tries = self._tries[record.partition] = self._tries.get(record.partition, 0) + 1
        seconds = min(2.0 ** (tries - 1), LONGEST_REST_SECONDS)
        if tries == 1:
            _say_if_unforeseen(error, f"partition {record.partition}")
        why = str(error)[:500] if isinstance(error, HeadraceError) else type(error).__name__
        logger.error("partition {} waits {:.0f} s at offset {}: {}", record.partition, seconds, record.offset, why)
        metrics.WAITS.labels("kafka").inc()
        self._consumer.rest(record, seconds)


def _say_if_unforeseen(error: Exception, about: str) -> None:
    cause = unforeseen(error)
    if cause is not None:
        metrics.UNFORESEEN.labels("kafka").inc()
        say_unforeseen(cause, about)
