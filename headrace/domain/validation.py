"""A validation error as field path -> what is wrong, with the value and what is allowed. No I/O here.

Values are repeated only where they cannot be secrets: of the fields that secrets.HARMLESS_FIELDS names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError

from headrace.domain.secrets import NAMED_BY_USERS, may_be_shown, shown_name
from headrace.errors import MOST_PROBLEMS


def matching(pattern: str, words: str) -> AfterValidator:
    """A check of text against a pattern whose message is a sentence for people, and not the pattern."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def naming(most: int) -> AfterValidator:
    """A check of a name that somebody gives to what is kept here, in paths and on the command line."""
    words = f"must be 1 to {most} letters, digits, '-', '_' and '.', no sign of them first"
    return matching(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{most - 1}}}", words)


_TAGS = frozenset({"env-text", "env-reference", "env-sealed", "script-url", "script-file"})
"""What pydantic adds to a path to say which member of a union it tried."""


def problems_of(error: ValidationError, model: type[BaseModel], more: Iterable[str] = ()) -> dict[str, str]:
    """Field path -> words, of the first ones. `more` are fields that the model itself does not have."""
    problems: dict[str, str] = {}
    for found in error.errors(include_url=False):
        if len(problems) > MOST_PROBLEMS:
            break
        path = [part for part in found["loc"] if part not in _TAGS]
        name = ".".join(shown_name(part) for part in path if part != "[key]") or "body"
        problems.setdefault(name, _words(dict(found), path, model, more))
    return problems


def _words(found: Mapping[str, Any], path: Sequence[Any], model: type[BaseModel], more: Iterable[str]) -> str:
    if found["type"] == "extra_forbidden":
        return unknown(str(path[-1]), {*fields_at(model, path[:-1]), *(more if len(path) == 1 else ())})
    words = str(found["msg"]).removeprefix("Value error, ")
    shown = _shown(found.get("input"), path)
    return f"{words}; got {shown}" if shown else words


def unknown(key: str, known: Iterable[str]) -> str:
    """The sentence for a field that there is not: the nearest known name, else all."""
    near = difflib.get_close_matches(key, list(known), 1)
    return f"unknown field; {f'did you mean {near[0]}?' if near else 'allowed: ' + ', '.join(sorted(known))}"


def _shown(value: Any, path: Sequence[Any]) -> str:
    names = [str(part) for part in path if not isinstance(part, int)]
    if value is None or not names or NAMED_BY_USERS & set(names[:-1]) or not may_be_shown(names[-1], value):
        return ""
    return repr(value)


def fields_at(model: type[BaseModel], path: Sequence[Any]) -> set[str]:
    """The names of the fields of the model that stands at this path below `model`; empty where none does."""
    if not path:
        return set(model.model_fields)
    field = next((f for name, f in model.model_fields.items() if str(path[0]) in (name, f.alias)), None)
    inner = next(_models_in(field.annotation), None) if field is not None else None
    rest = [part for part in path[1:] if not isinstance(part, int)]
    return fields_at(inner, rest) if inner is not None else set()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, tuple, list):
        for part in get_args(annotation):
            yield from _models_in(part)
