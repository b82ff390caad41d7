"""Records to documents and back, by the records' own fields. Knows no server.

Enums become text and datetimes UTC; a record's field has the same name in its document, so that a reader with
nothing but a MongoDB shell finds what docs/glossary.md speaks of.
"""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

Record = TypeVar("Record")


def to_document(record: Any) -> dict[str, Any]:
    """The document of a frozen dataclass."""
    return {each.name: _plain(getattr(record, each.name)) for each in fields(record)}


def from_document(kind: type[Record], document: typing.Mapping[str, Any]) -> Record:
    """The record of a document; fields that the record does not know are skipped, absent ones take their default."""
    hints = _hints(typing.cast(Any, kind))
    known = {name: _typed(hints[name], document[name]) for name in hints if name in document}
    return kind(**known)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return to_document(value)
    if isinstance(value, typing.Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, list) and (of := _of_tuple(hint)) is not None:
        return tuple(_typed(of, each) for each in value)
    for kind in _members(hint):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(value)
        if is_dataclass(kind) and isinstance(kind, type):
            return from_document(kind, value)
    return value


def _of_tuple(hint: Any) -> Any:
    """What each part of a `tuple[X, ...]` is; None for another hint."""
    arguments = typing.get_args(hint)
    return arguments[0] if typing.get_origin(hint) is tuple and len(arguments) == 2 else None


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)
