"""Records to documents and back, by the records' own fields. Knows no server.

Enums become text and datetimes UTC; a record's field has the same name in its document, so that a reader with
nothing but a MongoDB shell finds what docs/glossary.md speaks of.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

Record = TypeVar("Record")

PLAIN = frozenset({str, int, float, bool, bytes, datetime, type(None)})
"""Types whose values, but not those of their subclasses, stand in a document as they are: most of all values."""


def to_document(record: Any) -> dict[str, Any]:
    """The document of a frozen dataclass."""
    return {each.name: _plain(getattr(record, each.name)) for each in fields(record)}


def changed_fields(before: Record, after: Record) -> dict[str, Any]:
    """The fields of `after`'s document that `before`'s has otherwise. What is equal is not made a document of."""
    names = [each.name for each in fields(typing.cast(Any, after)) if _differ(before, after, each.name)]
    return {name: _plain(getattr(after, name)) for name in names}


def _differ(before: Any, after: Any, name: str) -> bool:
    old, new = getattr(before, name), getattr(after, name)
    return old is not new and old != new


def from_document(kind: type[Record], document: Mapping[str, Any]) -> Record:
    """The record of a document; fields that the record does not know are skipped, absent ones take their default."""
    hints = _hints(typing.cast(Any, kind))
    known = {name: _typed(hints[name], document[name]) for name in hints if name in document}
    return kind(**known)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _plain(value: Any) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return to_document(value)
    if isinstance(value, Mapping):
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
