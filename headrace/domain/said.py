"""A value whose user says what it is: `{value: x, secret: false}` is taken whatever it looks like. No I/O here.

The word stays with the value, in records too: what is stored is never judged a second time by a guess. Knows no field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

LONGEST_TEXT = 30_000


class NotSecret(str):
    """Text that its user says is no secret."""

    __slots__ = ()


def is_said(value: Any) -> bool:
    """Whether a value comes with its user's word, or could: an object with a `value`."""
    return isinstance(value, Mapping) and "value" in value


def text_of(value: Any) -> Any:
    """A number or boolean as the text that it stands for; anything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def plain_of(value: Any) -> str | None:
    """The text that stands there for everybody to read and to judge; None where there is none, or its user has said
    that it is no secret."""
    if is_said(value):
        return plain_of(value["value"]) if value.get("secret") is not False else None
    text = text_of(value)
    return text if isinstance(text, str) and not isinstance(text, NotSecret) else None


def _taken(value: Any) -> str:
    if is_said(value) and value.get("secret") is True:
        raise ValueError("cannot be kept secret here: give it by env, and read it from the environment")
    return _taken_in_env(value)


def _taken_in_env(value: Any) -> str:
    given = value["value"] if is_said(value) else value
    text = text_of(given) if is_said(value) else given
    if not isinstance(text, str):
        raise ValueError("must be text, or {value: text, secret: false}")  # noqa: TRY004 - pydantic's own kind
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} characters")
    return _as_said(text, value) if is_said(value) else text


def _as_said(text: str, said: Mapping[str, Any]) -> str:
    if set(said) - {"value", "secret"} or said.get("secret", False) not in (True, False):
        raise ValueError("must have value, and secret: true or false, and nothing else")
    return NotSecret(text) if said.get("secret") is False else text


def _written(text: str) -> Any:
    return {"value": str(text), "secret": False} if isinstance(text, NotSecret) else text


Text = Annotated[str, PlainValidator(_taken), PlainSerializer(_written)]
"""Text, or what its user says is no secret. Numbers are text only beside such a word."""

EnvText = Annotated[str, PlainValidator(_taken_in_env), PlainSerializer(_written)]
"""The same of a variable, which may be said to be secret: it is sealed before it gets here, its blanks filled in."""
