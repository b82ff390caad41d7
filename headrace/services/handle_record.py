"""A Kafka record that names an operation and its arguments becomes that operation. Knows no Kafka client.

The record is JSON: {"operation": "SUBMIT", "template_id": …, "parameters": {…}, "job_config": {…}, "job_id": …},
{"operation": "STOP", "job_id": …, "force": false} or {"operation": "SCALE", "job_id": …, "parallelism": 2};
`idempotency_key` may be set, else the topic's own id, the partition and the offset make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headrace.domain.inputs import blamed_on_input, json_object
from headrace.domain.operations import Kind, Source
from headrace.errors import MOST_PROBLEMS, InvalidRequest
from headrace.services.accept import LONGEST_KEY, Accept, Accepted

FIELDS: Mapping[Kind, frozenset[str]] = {
    Kind.SUBMIT: frozenset({"template_id", "template_version", "parameters", "job_config", "job_id", "start_from"}),
    Kind.STOP: frozenset({"job_id", "force"}),
    Kind.SCALE: frozenset({"job_id", "parallelism"}),
}


@dataclass(frozen=True)
class Origin:
    """Where a record stood. `topic_id` is the topic's own: one that was made anew starts at offset 0 again."""

    topic: str
    topic_id: str
    partition: int
    offset: int

    @property
    def key(self) -> str:
        """The idempotency key of a record that brings none."""
        return f"kafka/{self.topic_id}/{self.partition}/{self.offset}"


class HandleRecord:
    """Accepts the operation that a record names. Idempotent under the record's key."""

    def __init__(self, accept: Accept, tenant: str) -> None:
        self._accept = accept
        self._tenant = tenant

    def handle(self, value: bytes, origin: Origin) -> Accepted:
        """Returns once the operation is durable. Raises one of errors.INPUTS_FAULT for what can never be used; anything
        else is trouble of ours or a server's, and the record is as good as before."""
        with blamed_on_input("record"):
            record = json_object(value, "record")
            kind = _kind_of(record)
            key = _key(record) or origin.key
            _check_fields(kind, record)
        return self._accepted(kind, record, key, Source(via="kafka", detail=asdict(origin)))

    def _accepted(self, kind: Kind, record: Mapping[str, Any], key: str, source: Source) -> Accepted:
        if kind is Kind.SUBMIT:
            return self._accept.submit(
                tenant=self._tenant,
                job_id=_text(record, "job_id"),
                template_id=_text(record, "template_id"),
                job_config=record.get("job_config"),  # type: ignore[arg-type]  # checked there, with its message
                start_from=_text(record, "start_from"),
                parameters=record.get("parameters"),
                template_version=record.get("template_version"),
                idempotency_key=key,
                source=source,
            )
        job_id = _text(record, "job_id")
        if job_id is None:
            raise InvalidRequest({"job_id": "is required"})
        if kind is Kind.STOP:
            return self._accept.stop(
                tenant=self._tenant,
                job_id=job_id,
                force=record.get("force", False),
                idempotency_key=key,
                source=source,
            )
        return self._accept.scale(
            tenant=self._tenant,
            job_id=job_id,
            parallelism=record.get("parallelism"),  # type: ignore[arg-type]  # checked there, with its message
            idempotency_key=key,
            source=source,
        )


def _check_fields(kind: Kind, record: Mapping[str, Any]) -> None:
    unknown = sorted(set(record) - FIELDS[kind] - {"operation", "idempotency_key"})
    if unknown:
        allowed = ", ".join(sorted(FIELDS[kind] | {"idempotency_key"}))
        words = f"unknown field of a {kind} record; allowed: {allowed}"
        raise InvalidRequest(dict.fromkeys(unknown[: MOST_PROBLEMS + 1], words))


def _key(record: Mapping[str, Any]) -> str:
    key = record.get("idempotency_key") or ""
    if not isinstance(key, str) or len(key) > LONGEST_KEY:
        raise InvalidRequest({"idempotency_key": f"must be text of {LONGEST_KEY} characters at most"})
    return key


def _kind_of(record: Mapping[str, Any]) -> Kind:
    try:
        return Kind(str(record.get("operation")))
    except ValueError as error:
        raise InvalidRequest({"operation": f"must be one of {', '.join(FIELDS)}"}) from error


def _text(record: Mapping[str, Any], field: str) -> str | None:
    value = record.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest({field: "must be text"})
    return value
