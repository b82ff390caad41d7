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
from headrace.domain.operations import KINDS, KindName, Source
from headrace.errors import InvalidRequest
from headrace.services.accept import LONGEST_KEY, Accept, Accepted

ENVELOPE = ("operation", "job_id", "idempotency_key")
"""The fields of a record that are no arguments of its operation."""


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
            kind, key, job_id = _kind_of(record), _key(record) or origin.key, _job_id(record)
            arguments = {field: each for field, each in record.items() if field not in ENVELOPE}
        source = Source(via="kafka", detail=asdict(origin))
        return self._accept.operation(kind, job_id, arguments, tenant=self._tenant, key=key, source=source)


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
