"""The one place where text from outside becomes data: a request's body, a template's file, a Kafka record.

Bounded before it is built: size, depth, number of values. What comes out can be hashed, stored and shown by everything
behind: objects with text as names, lists, text in UTF-8, finite numbers of 64 bits, true, false and null. No I/O here,
and no knowledge of the ways in. Raises InvalidRequest, never anything else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from headrace.domain.secrets import shown_name
from headrace.errors import HeadraceError, InvalidRequest, Unforeseen

MOST_BYTES = 2 * 1024 * 1024
MOST_DEPTH = 64
MOST_VALUES = 20_000
_MOST_DIGITS = 20

_OUTSIDE_OF_STRINGS = re.compile(rb'"[^"]*"?')
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))

_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*|(?=[eE])))([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


@contextmanager
def blamed_on_input(field: str) -> Iterator[None]:
    """For pure code over an input: what it raises that is no error of ours is that input's fault, as Unforeseen."""
    try:
        yield
    except HeadraceError:
        raise
    except Exception as error:
        words = f"cannot be used: {type(error).__name__}; send it in a simpler form, and report this"
        raise Unforeseen({field: words}) from error


def json_value(text: bytes, what: str) -> Any:
    """What stands in JSON text, of any kind."""
    value = _from_json(_decoded(text, what), what)
    check({what: value})
    return value


def json_object(text: bytes, what: str) -> dict[str, Any]:
    """The object that stands in JSON text. `what` names the whole in a refusal, as `body` or `record`."""
    return _object(_from_json(_decoded(text, what), what), what)


def json_or_yaml_object(text: bytes, what: str) -> dict[str, Any]:
    """The object that stands in JSON text, where that begins with `{`, else in YAML text.

    YAML is read by the rules of YAML 1.2 (no `on`, no dates, no octal or base-60 numbers: text as it was written),
    without aliases, tags or a name that is there twice.
    """
    decoded = _decoded(text, what)
    is_json = decoded.lstrip().startswith("{")
    try:
        return _object(_from_json(decoded, what) if is_json else _from_yaml(decoded, what), what)
    except _NotJson:
        return _object(_from_yaml(decoded, what), what)  # {a: 1} is YAML


def yaml_value(text: str, what: str) -> Any:
    """One value as YAML has it, of any kind: `2`, `true`, `[a, b]`."""
    value = _from_yaml(_decoded(text.encode(errors="surrogatepass"), what), what)
    check({what: value})
    return value


def check(data: Mapping[str, Any]) -> None:
    """Holds what others decoded to the same rules. Raises InvalidRequest that names the field."""
    waiting: list[tuple[_Path, Any, int]] = [(None, data, 0)]
    count = 0
    while waiting:
        path, value, depth = waiting.pop()
        count += 1
        problem = _problem_of(value, depth, count)
        if problem:
            raise InvalidRequest({_words(path): problem})
        if isinstance(value, dict) and not all(map(_is_text, value)):
            wrong = next(name for name in value if not _is_text(name))
            raise InvalidRequest({_words((path, wrong)): "must be a name that is text in UTF-8"})
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [((path, key), each, depth + 1) for key, each in inner]


_Path = tuple[Any, Any] | None
"""The path of the object that holds a value, and its name there. Made into words for a refusal alone."""


def _words(path: _Path) -> str:
    names = []
    while path is not None:
        path, name = path
        names.append(shown_name(str(name)[:100]))
    return ".".join(reversed(names)) or "body"


def _problem_of(value: Any, depth: int, count: int) -> str | None:
    if depth > MOST_DEPTH or count > MOST_VALUES:
        return _TOO_DEEP if depth > MOST_DEPTH else _TOO_MANY
    if isinstance(value, str):
        return None if _is_text(value) else "must be text in UTF-8: half of a surrogate pair is none"
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number, of 64 bits at most; text stands in quotes"
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else "must be a number of 64 bits at most; text stands in quotes"
    return None if isinstance(value, dict | list | None) else "must be an object, list, text, number, bool or null"


_TOO_DEEP = f"is nested more than {MOST_DEPTH} levels deep"
_TOO_MANY = f"holds more than {MOST_VALUES} values"


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(text: bytes, what: str) -> str:
    if len(text) > MOST_BYTES:
        raise InvalidRequest({what: f"is larger than {MOST_BYTES} bytes"})
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest({what: f"must be text in UTF-8: byte {error.start} is none"}) from error


def _object(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidRequest({what: "must be an object with named fields"})
    check(data)
    return data


# JSON


class _NotJson(InvalidRequest):
    """Text that is no JSON at all."""


def _from_json(text: str, what: str) -> Any:
    _check_outline(text.encode(), what)
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise _NotJson({what: f"is not JSON: {error}"}) from error


def _check_outline(text: bytes, what: str) -> None:
    """Depth and number of values, from the text without its strings: before anything is built of it."""
    outline = _OUTSIDE_OF_STRINGS.sub(b'"', _ESCAPED.sub(b"", text))
    if outline.count(b",") + outline.count(b"[") + outline.count(b"{") > MOST_VALUES:
        raise InvalidRequest({what: _TOO_MANY})
    brackets = outline.translate(None, _NOT_A_BRACKET)[: 2 * MOST_VALUES]
    if max(accumulate(1 if each in b"[{" else -1 for each in brackets), default=0) > MOST_DEPTH:
        raise InvalidRequest({what: _TOO_DEEP})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidRequest({shown_name(next(name for name in found if names.count(name) > 1)): _TWICE})
    return found


_TWICE = "is there twice: which of the two counts is a guess; leave one"


def _integer(digits: str) -> int | float:
    """The number; an infinite one, which is refused with its field's name, where no 64 bits hold it."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


# YAML


def _from_yaml(text: str, what: str) -> Any:
    import yaml

    building = _Building(what)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            building.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        words = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise InvalidRequest({what: f"is neither JSON nor YAML: {words}{place}"}) from error
    return building.whole


class _Building:
    """Builds data of a parser's events: nothing recurses, and each bound is looked at before what it bounds is made.
    (PyYAML's own composer recurses without a bound: 25 kB of `[` end the process.)"""

    def __init__(self, what: str) -> None:
        self.whole: Any = None
        self._what = what
        self._open: list[dict[str, Any] | list[Any]] = []
        self._names: list[str | None] = []
        self._values = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            self._refuse("may hold no anchors and aliases (&, *): write the value out", event)
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                self._refuse("must be one document", event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._begin({} if kind == "MappingStartEvent" else [], event)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._open.pop()
            self._names.pop()
        elif kind == "ScalarEvent":
            self._scalar(event)

    def _begin(self, value: dict[str, Any] | list[Any], event: Any) -> None:
        if event.tag is not None:
            self._refuse("may hold no tags (!…)", event)
        if len(self._open) >= MOST_DEPTH:
            self._refuse(_TOO_DEEP, event)
        if self._awaits_name():
            self._refuse("must have names that are text", event)
        self._put(value, event)
        self._open.append(value)
        self._names.append(None)

    def _scalar(self, event: Any) -> None:
        if event.tag not in (None, *_TEXT_TAGS):
            self._refuse("may hold no tags (!…); write text in quotes", event)
        if self._awaits_name():
            if event.value in self._open[-1]:
                raise InvalidRequest({self._place(event.value): f"{_TWICE} (line {event.start_mark.line + 1})"})
            self._names[-1] = event.value
        else:
            self._put(_scalar(event.value) if event.implicit[0] else event.value, event)

    def _awaits_name(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._names[-1] is None

    def _put(self, value: Any, event: Any) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            self._refuse(_TOO_MANY, event)
        if not self._open:
            self.whole = value
        elif isinstance(holder := self._open[-1], list):
            holder.append(value)
        else:
            holder[self._names[-1] or ""] = value
            self._names[-1] = None

    def _place(self, name: str) -> str:
        return ".".join(shown_name(each[:100]) for each in (*(n for n in self._names if n is not None), name))

    def _refuse(self, words: str, event: Any) -> None:
        raise InvalidRequest({self._what: f"{words} (line {event.start_mark.line + 1})"})


def _scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's rules, but that a number with zeros in front stays the text that it is."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _NOT_FINITE.fullmatch(text):
        return math.inf
    return float(text) if _FLOAT.fullmatch(text) else text
