"""Which messages can be a task of ours: their shape, told before Celery meets them. Pure; knows no Celery.

Celery and its Redis transport trust what they read: a message of another shape ends the worker, and comes again when it
starts. What is said of such a message never repeats what is in it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from headrace.domain.inputs import json_value
from headrace.errors import InvalidRequest

OURS = re.compile(r"flink\.[a-z]+(_[a-z]+){0,5}")
"""What a task of Headrace's is called, of whatever release."""

PASSES, MOST_PASSES = "headrace-passes", 30
"""How often a message has been put aside, and may be: for an hour, as each time lasts a visibility timeout."""


def _name(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time as ISO 8601 writes it") from None  # its own words repeat the text
    if not 2000 <= moment.year < 2200:
        raise ValueError("must be a time of this century or the next")
    return text


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_name)]
Text = Annotated[str, Field(max_length=10_000)]
Moment = Annotated[str, AfterValidator(_moment)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)


class _Place(_Shape):
    exchange: str
    routing_key: str


class _Properties(_Shape):
    delivery_tag: Name
    delivery_info: _Place
    body_encoding: Literal["base64", "utf-8", None] = None
    correlation_id: Text | None = None
    reply_to: Text | None = None
    priority: int | None = None


class _Message(_Shape):
    """What any message has, control messages too."""

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8", "UTF-8"] = Field(alias="content-encoding")
    headers: Mapping[str, Any] | None = None
    properties: _Properties


class _TaskHeaders(_Shape):
    """Celery's second protocol."""

    task: Name
    id: Name
    root_id: Name | None = None
    parent_id: Name | None = None
    retries: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    eta: Moment | None = None
    expires: Moment | None = None
    timelimit: Annotated[list[Seconds | None], Field(min_length=2, max_length=2)] | None = None
    group: Text | None = None
    group_index: int | None = None
    shadow: Name | Literal[""] | None = None
    argsrepr: Text | None = None
    kwargsrepr: Text | None = None
    origin: Text | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int | None = None
    stamped_headers: list[Name] | None = None
    stamps: Mapping[str, Any] | None = None


class _Linked(BaseModel):
    """Tasks that are linked to this one. Ours have no result to hand on."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    callbacks: Annotated[list[Any], Field(max_length=0)] | None = None
    errbacks: Annotated[list[Any], Field(max_length=0)] | None = None
    chain: Annotated[list[Any], Field(max_length=0)] | None = None
    chord: None = None


def message_problem(raw: Any) -> str | None:
    """Why this cannot be a message; None where it can. `raw` is what Redis held, decoded from JSON."""
    try:
        _content_of(raw)
    except (ValidationError, InvalidRequest) as error:
        return _words(error)
    return None


def task_problem(raw: Any, known: Collection[str]) -> str | None:
    """Why this cannot be a message of one of the `known` tasks; None where it can."""
    try:
        content = _content_of(raw)
        headers = _TaskHeaders.model_validate(raw["headers"])
        if headers.task not in known:
            return "headers.task: is no task of these workers"
        if not isinstance(content, list) or len(content) != 3:
            return "body: must be [args, kwargs, embed]"
        args, kwargs, linked = content
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            return "body: must be [args, kwargs, embed], a list and two objects"
        _Linked.model_validate(linked if linked is not None else {})
    except (ValidationError, InvalidRequest) as error:
        return _words(error)
    return None


def of_a_later_release(raw: Any, known: Collection[str]) -> dict[str, Any] | None:
    """The message as it is put aside, where it is a task of Headrace's that is none of the `known` ones: there may be
    workers of a later release for it. None where it is no such message, or has been put aside often enough."""
    name = raw["headers"].get("task") if isinstance(raw, dict) and isinstance(raw.get("headers"), dict) else None
    if not isinstance(name, str) or name in known or OURS.fullmatch(name) is None:
        return None
    passes = raw["headers"].get(PASSES, 0)
    if task_problem(raw, {name}) is not None or not isinstance(passes, int) or not 0 <= passes < MOST_PASSES:
        return None
    return {**raw, "headers": {**raw["headers"], PASSES: passes + 1}}


def _content_of(raw: Any) -> Any:
    message = _Message.model_validate(raw)
    if (message.headers or {}).get("compression") is not None:
        raise InvalidRequest({"headers.compression": "is not taken: a small message may hold a huge one"})
    return json_value(_body_of(message), "body")


def _body_of(message: _Message) -> bytes:
    if message.properties.body_encoding != "base64":
        return message.body.encode(errors="surrogatepass")
    try:
        return base64.b64decode(message.body, validate=True)
    except ValueError as error:
        raise InvalidRequest({"body": "is no base64"}) from error


def _words(error: ValidationError | InvalidRequest) -> str:
    """The first problem, without a value."""
    if isinstance(error, InvalidRequest):
        return str(error)[:200]
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in found["loc"])[:100]
    return f"{place or 'message'}: {found['msg']}"[:200]
