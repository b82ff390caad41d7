"""A Kafka record as the event that it is: a CloudEvent, binary or structured, or plain JSON. Pure; knows no trigger.

What an event is called by does not depend on who reads it: a CloudEvent's source and id, else the record's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.domain.inputs import json_object, json_value
from headrace.domain.secrets import shown_name
from headrace.errors import InvalidRequest

REQUIRED = ("specversion", "id", "source", "type")
"""What each CloudEvent has."""

_PREFIX = "ce_"
_STRUCTURED = "application/cloudevents"
MOST_ATTRIBUTES = 100
LONGEST_ATTRIBUTE = 4_000


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


@dataclass(frozen=True)
class Arrived:
    """A record as it arrived. `at` is the time that Kafka has of it; None where it has none."""

    value: bytes
    origin: Origin
    headers: Sequence[tuple[str, bytes | None]] = ()
    at: datetime | None = None


@dataclass(frozen=True)
class IncomingEvent:
    """What expressions see of a record, and by what it is known however often it comes."""

    topic: str
    content: Mapping[str, Any]
    """The attributes of a CloudEvent by their names, and `data`; of plain JSON `data` alone."""
    identity: tuple[str, ...]
    at: datetime | None = None


def read_event(arrived: Arrived) -> IncomingEvent:
    """The event that a record is. Raises InvalidRequest where it is none that can be read."""
    headers = {name.lower(): value for name, value in arrived.headers if value is not None}
    content_type = _text("content-type", headers.get("content-type", b"")).lower()
    if content_type.startswith(_STRUCTURED):
        if not content_type.partition(";")[0].strip().endswith("cloudevents+json"):
            raise InvalidRequest({"content-type": "must be application/cloudevents+json: one event a record, in JSON"})
        return _cloud_event(_structured(json_object(arrived.value, "event")), arrived)
    if f"{_PREFIX}specversion" in headers:
        return _cloud_event(_binary(headers, content_type, arrived.value), arrived)
    data = json_value(arrived.value, "event")
    if isinstance(data, dict) and all(isinstance(data.get(name), str) for name in REQUIRED):
        return _cloud_event(_structured(data), arrived)  # its producer has set no content type
    origin = arrived.origin
    place = ("record", origin.topic_id, str(origin.partition), str(origin.offset))
    return IncomingEvent(origin.topic, {"data": data}, place, arrived.at)


def _cloud_event(content: Mapping[str, Any], arrived: Arrived) -> IncomingEvent:
    for name in REQUIRED:
        if not isinstance(content.get(name), str) or not content[name]:
            raise InvalidRequest({name: "is missing: each CloudEvent has specversion, id, source and type"})
    if not content["specversion"].startswith("1."):
        raise InvalidRequest({"specversion": "must be 1.0"})
    identity = ("event", content["source"], content["id"])
    return IncomingEvent(arrived.origin.topic, content, identity, arrived.at)


def _structured(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes (`data_base64`) are no data that an expression could read."""
    return {name: value for name, value in content.items() if name != "data_base64"}


def _binary(headers: Mapping[str, bytes], content_type: str, value: bytes) -> dict[str, Any]:
    """Data of another content type than JSON is left out: the attributes can be read all the same."""
    named = {name.removeprefix(_PREFIX): text for name, text in headers.items() if name.startswith(_PREFIX)}
    if len(named) > MOST_ATTRIBUTES:
        raise InvalidRequest({"headers": f"must have at most {MOST_ATTRIBUTES} attributes"})
    attributes: dict[str, Any] = {name: _text(name, text) for name, text in named.items() if name != "data"}
    if content_type:
        attributes["datacontenttype"] = content_type
    media_type = content_type.partition(";")[0].strip()
    is_json = not media_type or media_type.endswith(("/json", "+json"))
    return attributes | ({"data": json_value(value, "event")} if is_json and value else {})


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest({shown_name(name[:100]): "must be text in UTF-8"}) from None
    if len(text) > LONGEST_ATTRIBUTE:
        raise InvalidRequest({shown_name(name[:100]): f"must have at most {LONGEST_ATTRIBUTE} characters"})
    return text
