"""Expressions over an event, in JMESPath, for a trigger's condition and its blanks. Pure; knows no trigger.

An expression cannot make its input larger or go over a part of it twice a step: of JMESPath what copies or joins values
is refused, so that its time and its result are bounded by its length and the event's size, whoever wrote either.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError, LexerError, ParseError

from headrace.domain.inputs import check
from headrace.errors import InvalidRequest

MOST_CHARACTERS = 500
MOST_PARTS = 64

FUNCTIONS = frozenset(
    {"abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max", "max_by", "min", "min_by"}
    | {"not_null", "reverse", "sort", "sort_by", "starts_with", "sum", "to_number", "to_string", "type", "values"}
)
_COPIES = {"multi_select_list": "[a, b]", "multi_select_dict": "{a: b}"}


class Expression:
    """One that may be evaluated on any event."""

    def __init__(self, text: str, parsed: Any) -> None:
        self.text = text
        self._parsed = parsed

    def of(self, event: Any) -> Any:
        """What it comes to; None for what the event does not have. Raises InvalidRequest, without a value of the event,
        where it cannot be evaluated on this one."""
        try:
            value = self._parsed.search(event)
        except JMESPathTypeError as error:
            wanted = " or ".join(error.expected_types)
            words = f"{error.function_name}() takes {wanted}, and the event has {_kind(error.actual_type)} there"
            raise InvalidRequest({self.text: words}) from None
        except (JMESPathError, RecursionError, TypeError, ArithmeticError) as error:
            raise InvalidRequest({self.text: f"cannot be evaluated on this event ({type(error).__name__})"}) from None
        check({"value": value})
        return value

    def is_true(self, event: Any) -> bool:
        """Whether it holds, as JMESPath has it: null, false and what is empty do not. Raises InvalidRequest."""
        value = self.of(event)
        return value is not None and value is not False and value not in ("", [], {})


@lru_cache(maxsize=1024)
def expression(text: str) -> Expression:
    """The expression that a text is. Raises InvalidRequest that says where it is wrong, or what is refused of it."""
    if len(text) > MOST_CHARACTERS:
        raise _refused(f"must have at most {MOST_CHARACTERS} characters")
    try:
        parsed = jmespath.compile(text)
    except (LexerError, ParseError) as error:
        place = getattr(error, "lexer_position", None) or getattr(error, "lex_position", None) or 0
        raise _refused(f"is not JMESPath, at character {place + 1}") from error
    except (JMESPathError, ValueError, RecursionError) as error:
        raise _refused("is not JMESPath; a text stands in single quotes, JSON in backquotes") from error
    for problem in _problems(parsed.parsed):
        raise _refused(problem)
    return Expression(text, parsed)


def _problems(parsed: Any) -> Iterator[str]:
    parts = list(_parts(parsed))
    if len(parts) > MOST_PARTS:
        yield f"must have at most {MOST_PARTS} parts"
    named = [part["value"] for part in parts if part["type"] == "function_expression"]
    if named.count("to_string") > 1:
        yield "may have to_string() once"
    for part in parts:
        if part["type"] in _COPIES:
            yield f"may not build {_COPIES[part['type']]}: what is asked is built by the action"
        if part["type"] == "literal":
            check({"literal": part["value"]})
    strangers = sorted({name for name in named if name not in FUNCTIONS})
    if strangers:
        yield f"has no {strangers[0][:40]}(); there are {', '.join(sorted(FUNCTIONS))}"


def _parts(parsed: Any) -> Iterator[Any]:
    waiting = [parsed]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):  # a slice's children are numbers
            yield part
            waiting += part["children"]


def _refused(words: str) -> InvalidRequest:
    return InvalidRequest({"expression": words})


def _kind(of: str) -> str:
    return "nothing" if of == "null" else f"another kind of value ({of})"
