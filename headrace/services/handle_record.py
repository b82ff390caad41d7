"""A Kafka record becomes operations: the one that it names, or those that triggers make of it. Knows no Kafka client.

A record of the operations' topic is JSON: {"operation": "SUBMIT", "template_id": …, "parameters": {…}, "job_config":
{…}, "job_id": …}, {"operation": "STOP", "job_id": …, "force": false} or {"operation": "SCALE", "job_id": …,
"parallelism": 2}; `idempotency_key` may be set, else the topic's own id, the partition and the offset make one. Records
of other topics are events: each trigger of the topic makes one operation of one at most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from headrace.domain.incoming_events import Arrived, IncomingEvent, Origin, read_event
from headrace.domain.inputs import blamed_on_input, json_object
from headrace.domain.operations import KINDS, KindName, Source
from headrace.domain.triggers import Asked, Trigger, idempotency_key, outcome
from headrace.errors import INPUTS_FAULT, IdempotencyConflict, InvalidRequest, PermanentError
from headrace.ports import Store
from headrace.services.accept import LONGEST_KEY, Accept, Accepted, Requested
from headrace.services.triggers import Triggers

__all__ = ["ENVELOPE", "HandleRecord", "Handled", "Origin"]

ENVELOPE = ("operation", "job_id", "idempotency_key")
"""The fields of a record that are no arguments of its operation."""


@dataclass(frozen=True)
class Handled:
    """What a record came to: the operations, new or known, and why it was refused, by trigger; one that was to be an
    operation itself is refused under no name."""

    accepted: Sequence[Accepted] = ()
    refused: Mapping[str, PermanentError] = field(default_factory=dict)


class HandleRecord:
    """Accepts what records ask for. Idempotent: under a record's key, and under a trigger and its event's name."""

    def __init__(self, accept: Accept, triggers: Triggers, store: Store, tenant: str, topic: str) -> None:
        self._accept = accept
        self._triggers = triggers
        self._store = store
        self._tenant = tenant
        self._topic = topic

    def handle_any(self, arrived: Arrived, only: Collection[str] | None = None) -> Handled:
        """Returns once all that the record asks for is durable; of an event by these triggers alone, where `only` names
        some. Raises what is trouble of ours or a server's: the record is as good as before."""
        if not self.takes_operations_from(arrived.origin.topic):
            return self._event(arrived, only)
        try:
            return Handled([self.handle(arrived.value, arrived.origin)])
        except INPUTS_FAULT as error:
            return Handled(refused={"": error})

    def takes_operations_from(self, topic: str) -> bool:
        """Whether the records of this topic name operations; those of others are events."""
        return topic == self._topic

    def handle(self, value: bytes, origin: Origin) -> Accepted:
        """Accepts the operation that a record names. Raises one of errors.INPUTS_FAULT for what can never be used;
        anything else is trouble of ours or a server's."""
        asked = _asked(value, origin)
        return self._accept.operation(
            asked.kind, asked.job_id, asked.arguments, tenant=self._tenant, key=asked.key, source=asked.source
        )

    def ahead(self, arrived: Sequence[Arrived]) -> Mapping[str, Accepted]:
        """Accepts at once those of these records that begin new jobs, by their origins' keys; the others are left to
        `handle_any`. Raises a server's trouble: then, too, `handle_any` of each record is right."""
        asked: dict[str, Requested] = {}
        for each in arrived:
            if self.takes_operations_from(each.origin.topic):
                with suppress(*INPUTS_FAULT):
                    asked[each.origin.key] = _asked(each.value, each.origin)
        accepted = self._accept.new_jobs(list(asked.values()), tenant=self._tenant)
        return {key: each for key, each in zip(asked, accepted, strict=True) if each is not None}

    def _event(self, arrived: Arrived, only: Collection[str] | None) -> Handled:
        triggers = [each for each in self._triggers.of_topic(arrived.origin.topic) if only is None or each.name in only]
        if not triggers:
            return Handled()
        try:
            with blamed_on_input("event"):
                event = read_event(arrived)
        except INPUTS_FAULT as error:
            return Handled(refused={trigger.name: error for trigger in triggers})
        accepted: list[Accepted] = []
        refused: dict[str, PermanentError] = {}
        for trigger in triggers:
            try:
                by_it = self._by(trigger, event, arrived.origin)
            except INPUTS_FAULT as error:
                refused[trigger.name] = error
            else:
                accepted += [by_it] if by_it is not None else []
        return Handled(accepted, refused)

    def _by(self, trigger: Trigger, event: IncomingEvent, origin: Origin) -> Accepted | None:
        """The one operation, or none. What was accepted once stays it, whatever rule and event say by now."""
        with blamed_on_input("event"):
            asked = outcome(trigger, event)
        if not isinstance(asked, Asked):
            return None
        key = idempotency_key(self._triggers.place, trigger.name, asked.identity)
        known = self._known(key)
        if known is None:
            source = Source(via="kafka", detail={**asdict(origin), "trigger": trigger.name})
            try:
                known = self._accept.operation(
                    asked.kind, asked.job_id, asked.arguments, tenant=self._tenant, key=key, source=source
                )
            except IdempotencyConflict:
                known = self._known(key)  # another consumer was first, with the rule as it knew it
                if known is None:
                    raise
        return known

    def _known(self, key: str) -> Accepted | None:
        found = self._store.operation_by_key(self._tenant, key)
        return Accepted(found, created=False) if found is not None else None


def _asked(value: bytes, origin: Origin) -> Requested:
    with blamed_on_input("record"):
        record = json_object(value, "record")
        kind, key, job_id = _kind_of(record), _key(record) or origin.key, _job_id(record)
    arguments = {field: each for field, each in record.items() if field not in ENVELOPE}
    return Requested(kind, job_id, arguments, key, Source(via="kafka", detail=asdict(origin)))


def _key(record: Mapping[str, Any]) -> str:
    key = record.get("idempotency_key") or ""
    if not isinstance(key, str) or len(key) > LONGEST_KEY:
        raise InvalidRequest({"idempotency_key": f"must be text of {LONGEST_KEY} characters at most"})
    return key


def _kind_of(record: Mapping[str, Any]) -> KindName:
    try:
        return KindName(str(record.get("operation")))
    except ValueError as error:
        raise InvalidRequest({"operation": f"must be one of {', '.join(KINDS)}"}) from error


def _job_id(record: Mapping[str, Any]) -> str | None:
    job_id = record.get("job_id")
    if job_id is not None and not isinstance(job_id, str):
        raise InvalidRequest({"job_id": "must be text"})
    return job_id
