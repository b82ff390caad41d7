"""Messages as the services' words, and views as messages. Knows no rpc and no service.

What comes in is held to the rules of headrace.domain.inputs, as a body of HTTP is. What goes out is what api.views
says, field by field: a view's field that its message has not is an error of ours, which a test finds first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from fastapi.encoders import jsonable_encoder
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

from api.rpc import headrace_pb2
from headrace.domain.inputs import MOST_VALUES, check
from headrace.errors import InvalidRequest

SERVICE: ServiceDescriptor = headrace_pb2.DESCRIPTOR.services_by_name["Headrace"]

MOST_EXACT = 2**53
"""Below it a Struct's number, which is a double, is the whole number that was meant."""


def parsed(raw: bytes, wanted: Descriptor) -> Message:
    """The message in these bytes. Raises InvalidRequest, also where it holds a field that we do not know: somebody
    means something by it, as by the `dry_run` of a kind that has none here."""
    message = GetMessageClass(wanted)()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise InvalidRequest({"message": f"is no {wanted.full_name}: it cannot be read"}) from error
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        words = "holds a field that this server does not know: use the headrace.proto of its release"
        raise InvalidRequest({"message": words})
    return message


def given(message: Message) -> dict[str, Any]:
    """The fields that are set, by their names, also those that are set to nothing. Raises InvalidRequest."""
    counted = count(1)
    found = {field.name: _plain(value, field.name, counted) for field, value in message.ListFields()}
    check(found)
    return found


def _plain(value: Any, field: str, counted: Iterator[int]) -> Any:
    """A Struct as the object that it stands for; counted, since a few bytes of it can be many values."""
    if isinstance(value, Struct):
        return {name: _plain(each, field, counted) for name, each in value.fields.items()}
    if not isinstance(value, Value):
        return value
    if next(counted) > MOST_VALUES:
        raise InvalidRequest({field: f"holds more than {MOST_VALUES} values"})
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_plain(each, field, counted) for each in value.list_value.values]
    if kind == "struct_value":
        return _plain(value.struct_value, field, counted)
    if kind == "number_value":
        return _number(value.number_value)
    if kind is None:
        raise InvalidRequest({field: "holds a value that is of no kind"})
    return None if kind == "null_value" else getattr(value, kind)


def _number(number: float) -> int | float:
    """A Struct has no whole numbers: those that are whole are taken as such, as JSON's would be."""
    return int(number) if number.is_integer() and abs(number) < MOST_EXACT else number


def as_message(view: Mapping[str, Any], wanted: Descriptor) -> Message:
    """What a view says, as this message."""
    message = GetMessageClass(wanted)()
    json_format.ParseDict(jsonable_encoder(view), message)
    return message
