"""Handles records one by one: durable first, then its offset; poison aside; nothing skipped. Knows no Kafka client."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from loguru import logger

from headrace import health, metrics
from headrace.adapters.kafka import DeadLetters, Record, RecordConsumer
from headrace.errors import HeadraceError, PermanentError, TransientError, class_of, unforeseen
from headrace.health import Signs
from headrace.logs import say_unforeseen
from headrace.services.accept import Accepted
from headrace.services.handle_record import Handled, HandleRecord
from headrace.services.triggers import Triggers

POLL_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
FOLLOW_SECONDS = 3.0
"""How often the topics of the triggers are looked at."""


class Loop:
    """One consumer's life. An offset is committed only once its operation, or its dead letter, is durable, and with
    those of the records that were taken with it.

    What the record is at fault for makes a dead letter. Everything else is a server's trouble or ours: the record's
    partition rests, at most 30 s at a time, and the others go on.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        dead_letters: DeadLetters,
        handle_record: HandleRecord,
        triggers: Triggers,
        signs: Signs = Signs(None, "consumer"),  # noqa: B008 - without a folder it gives none
    ) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._handle_record = handle_record
        self._triggers = triggers
        self._signs = signs
        self._follow_at = 0.0
        self._is_following = True
        self._tries: dict[tuple[str, int], int] = {}
        self._ahead: dict[str, Accepted | None] = {}
        self._is_away = False

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Until told to stop. Raises PermanentError where the broker ended this consumer for good."""
        while not is_stopping():
            self._signs.give(health.LOOP)
            record = self._next()
            if record is not None:
                self._one(record)

    def _next(self) -> Record | None:
        try:
            self._follow()
            record = self._consumer.poll(POLL_SECONDS)
        except TransientError as error:
            if not self._is_away:
                logger.warning("waiting: {}", error)
            self._is_away = True
            time.sleep(POLL_SECONDS)
            return None
        self._is_away = self._is_away and record is None
        return record

    def _follow(self) -> None:
        """Reads the topics of the triggers that there are by now. Where that cannot be told, those of before: polling
        goes on meanwhile, so that the group keeps its member."""
        if time.monotonic() < self._follow_at:
            return
        self._follow_at = time.monotonic() + FOLLOW_SECONDS
        try:
            self._consumer.follow(self._triggers.topics())
            self._is_following = True
        except Exception as error:  # noqa: BLE001 - the records of the topics that are read are as good as before
            if self._is_following:
                why = str(error)[:500] if isinstance(error, HeadraceError) else type(error).__name__
                logger.warning("the triggers' topics stay as they are: {}", why)
            self._is_following = False

    def _one(self, record: Record) -> None:
        try:
            self._handle(record)
            self._consumer.commit(record)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the record's fault
            self._rest(record, error)
        else:
            self._tries.pop((record.topic, record.partition), None)

    def _look_ahead(self, record: Record) -> None:
        """Accepts at once what can be, of this record and those that were taken with it. Each is known by its place, so
        it may be handled again, by itself; where it was no use, all are."""
        if record.origin.key in self._ahead:
            return
        taken = [record, *self._consumer.ready()]
        self._ahead = dict.fromkeys(each.origin.key for each in taken)
        if len(taken) > 1:
            try:
                self._ahead |= self._handle_record.ahead([each.arrived for each in taken])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is met again by the record that it is about
                _say_if_unforeseen(error, f"{len(taken)} records taken together")

    def _handle(self, record: Record) -> None:
        self._look_ahead(record)
        known = self._ahead[record.origin.key]
        with metrics.ACCEPT_SECONDS.labels("kafka").time():
            handled = Handled([known]) if known is not None else self._handle_record.handle_any(record.arrived)
        for accepted in handled.accepted:
            operation, key = accepted.operation, record.origin.key
            with logger.contextualize(job_id=operation.job_id, operation_id=operation.id):
                logger.info("record {} is {} (new: {})", key, operation.kind, accepted.created)
        if handled.refused:
            self._put_aside(record, handled.refused)
        elif not handled.accepted:
            metrics.PASSED_BY.labels(record.topic).inc()
        metrics.RECORDS.labels(_outcome(handled)).inc()

    def _put_aside(self, record: Record, refused: Mapping[str, PermanentError]) -> None:
        """One letter a record, whichever of its triggers refused it: it goes out once all others are done."""
        about = f"record {record.origin.key}"
        for error in refused.values():
            _say_if_unforeseen(error, about)
            metrics.REFUSED.labels("kafka").inc()
            metrics.ERRORS.labels("kafka", class_of(error)).inc()
        words = "; ".join(f"trigger {name}: {error}" if name else str(error) for name, error in refused.items())
        self._dead_letters.put(record, words, [name for name in refused if name])
        metrics.DEAD_LETTERS.inc()
        logger.warning("{} is put aside, into the dead letters: {}", about, words[:500])

    def _rest(self, record: Record, error: Exception) -> None:
        place = record.topic, record.partition
        tries = self._tries[place] = self._tries.get(place, 0) + 1
        seconds = min(2.0 ** (tries - 1), LONGEST_REST_SECONDS)
        if tries == 1:
            _say_if_unforeseen(error, f"partition {record.partition} of {record.topic}")
        why = str(error)[:500] if isinstance(error, HeadraceError) else type(error).__name__
        where = f"partition {record.partition} of {record.topic}"
        logger.error("{} waits {:.0f} s at offset {}: {}", where, seconds, record.offset, why)
        metrics.WAITS.labels("kafka").inc()
        metrics.ERRORS.labels("kafka", class_of(error)).inc()
        self._consumer.rest(record, seconds)


def _outcome(handled: Handled) -> str:
    """What became of a record, in one word; one that a trigger refused and another took is a dead letter too."""
    if handled.refused:
        return "dead_letter"
    if not handled.accepted:
        return "passed_by"
    return "accepted" if any(each.created for each in handled.accepted) else "repeated"


def _say_if_unforeseen(error: Exception, about: str) -> None:
    cause = unforeseen(error)
    if cause is not None:
        metrics.UNFORESEEN.labels("kafka").inc()
        say_unforeseen(cause, about)
