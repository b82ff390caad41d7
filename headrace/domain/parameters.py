"""Declared parameters of a template, and their values put in place of `${name}` without injection. No I/O here.

A value is data wherever it lands: an argument stays one argument, a SQL string stays one string. `$${name}` is the text
`${name}` itself. A template that declares no parameters is taken as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.domain.said import is_said
from headrace.errors import MOST_PROBLEMS, InvalidRequest

Value = str | int | float | bool

PLACEHOLDER = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
BUILT_IN = frozenset({"HEADRACE_OUTPUT"})
"""Placeholders that sql_runner fills in inside the pod."""

_SQL_PARTS = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|`(?:[^`]|``)*`|[^-/'`]+|.", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

MOST_FILLED_CHARACTERS = 2 * 1024 * 1024
"""What a template's texts may come to with their parameters filled in: summed up before anything is filled in."""


class ParameterType(StrEnum):
    """What values a parameter takes."""

    STRING = "STRING"
    INTEGER = "INTEGER"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"


_TYPES: Mapping[ParameterType, tuple[type, ...]] = {
    ParameterType.STRING: (str,),
    ParameterType.INTEGER: (int,),
    ParameterType.NUMBER: (int, float),
    ParameterType.BOOLEAN: (bool,),
}


class Parameter(BaseModel):
    """One declared parameter. A secret one may stand in env values alone, and has no default: that would be stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: ParameterType = ParameterType.STRING
    description: str = Field("", max_length=500)
    default: Value | None = None
    required: bool = False
    allowed_values: tuple[Value, ...] | None = Field(None, min_length=1, max_length=200)
    secret: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Parameter:
        if self.secret and (self.default is not None or self.allowed_values is not None):
            raise ValueError("a secret parameter has no default and no allowed_values: they would be stored")
        if self.required and self.default is not None:
            raise ValueError("a required parameter has no default")
        if not self.required and self.default is None and not self.secret:
            raise ValueError("needs a default, or required: true")
        for value in (*(self.allowed_values or ()), *(() if self.default is None else (self.default,))):
            problem = self.problem_of(value)
            if problem:
                raise ValueError(problem)
        return self

    def problem_of(self, value: Any) -> str | None:
        """What is wrong with a value; None where it may be given."""
        fits = isinstance(value, _TYPES[self.type]) and isinstance(value, bool) == (self.type is ParameterType.BOOLEAN)
        if not fits:
            return f"must be {_article(self.type)}"
        if isinstance(value, str) and (_CONTROL.search(value) or len(value) > 10_000):
            return "must be text of 10000 characters at most, without control characters"
        if self.allowed_values is not None and value not in self.allowed_values:
            return f"must be one of {', '.join(map(_text, self.allowed_values))}"
        return None


def _article(kind: ParameterType) -> str:
    return {"INTEGER": "a whole number", "NUMBER": "a number", "BOOLEAN": "true or false"}.get(kind, "text")


def declaration_problems(parameters: Mapping[str, Parameter], request: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the use of parameters in a template's body, by field."""
    if not parameters:
        return {}
    return dict(islice(_declaration_problems(parameters, request), MOST_PROBLEMS + 1))


def _declaration_problems(parameters: Mapping[str, Parameter], request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, text in _texts(request):
        for name in _names_in(text):
            if name not in parameters and not (path == "sql" and name in BUILT_IN):
                near = difflib.get_close_matches(name, parameters, 1)
                hint = f"did you mean ${{{near[0]}}}?" if near else f"write $${{{name}}} for the text itself"
                yield path, f"${{{name}}} is no declared parameter; {hint}"
            elif name in parameters and parameters[name].secret and not path.startswith("env."):
                yield path, f"${{{name}}} is secret: it may stand in env alone, where the value goes into a Secret"
    sql = request.get("sql")
    for name in _bare_names(sql if isinstance(sql, str) else ""):
        if name in parameters and parameters[name].type is ParameterType.STRING:
            yield (
                "sql",
                f"${{{name}}} is text: put it into quotes, '${{{name}}}' for a value or `${{{name}}}` for a name",
            )


def checked_values(
    parameters: Mapping[str, Parameter], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The value of each parameter that has one, and what is wrong by parameter."""
    problems: dict[str, str] = {}
    for name in given:
        if len(problems) > MOST_PROBLEMS:
            break
        if name not in parameters:
            near = difflib.get_close_matches(str(name), parameters, 1)
            known = ", ".join(parameters) or "none: the template declares no parameters"
            problems[str(name)] = f"unknown parameter; {f'did you mean {near[0]}?' if near else f'declared: {known}'}"
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if value is None:
            if parameter.required:
                problems[name] = "is required"
            continue
        problem = parameter.problem_of(value)
        if problem:
            problems[name] = problem
        values[name] = value
    return values, problems


def substituted(
    request: Mapping[str, Any], parameters: Mapping[str, Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """A template's body with every `${name}` of a declared parameter replaced, in args, env, SQL and configuration.

    A field of another shape than it must have is left as it is, for the check of the whole. Raises InvalidRequest where
    the texts would become too large.
    """
    if not parameters:
        return dict(request)
    known = {name: _text(values[name]) if name in values else "" for name in parameters}
    _check_size(request, known)
    body = dict(request)
    if isinstance(body.get("args"), list | tuple):
        body["args"] = [_filled(argument, known) for argument in body["args"]]
    for field in ("env", "flink_configuration"):
        if isinstance(body.get(field), Mapping):
            body[field] = {key: _filled(value, known) for key, value in body[field].items()}
    if isinstance(body.get("sql"), str):
        body["sql"] = _filled_sql(body["sql"], known)
    return body


def _check_size(request: Mapping[str, Any], known: Mapping[str, str]) -> None:
    sizes = {name: len(value) + value.count("'") + value.count("`") for name, value in known.items()}
    texts = (text for _, text in _texts(request))
    size = sum(len(text) + sum(sizes.get(found[1], 0) for found in PLACEHOLDER.finditer(text)) for text in texts)
    if size > MOST_FILLED_CHARACTERS:
        words = f"would make texts of {size} characters, and {MOST_FILLED_CHARACTERS} are taken at most"
        raise InvalidRequest({"parameters": words})


def _filled(text: Any, known: Mapping[str, str]) -> Any:
    if is_said(text):
        return {**text, "value": _filled(text["value"], known)}
    return PLACEHOLDER.sub(lambda found: _one(found, known), text) if isinstance(text, str) else text


def _one(found: re.Match[str], known: Mapping[str, str]) -> str:
    if found[0].startswith("$$"):
        return found[0][1:]
    return known.get(found[1], found[0])


def _filled_sql(sql: str, known: Mapping[str, str]) -> str:
    """Inside quotes a value's own quotes are doubled; comments stay as they are."""
    quoted = {quote: {name: value.replace(quote, 2 * quote) for name, value in known.items()} for quote in "'`"}
    parts = []
    for part in _SQL_PARTS.findall(sql):
        if part.startswith(("--", "/*")):
            parts.append(part)
            continue
        parts.append(_filled(part, quoted[part[0]] if part[0] in quoted and len(part) > 1 else known))
    return "".join(parts)


def _texts(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in which parameters are looked for, with its field's path."""
    args = request.get("args")
    for index, argument in enumerate(args if isinstance(args, list | tuple) else ()):
        argument = argument["value"] if is_said(argument) else argument
        if isinstance(argument, str):
            yield f"args.{index}", argument
    for field in ("env", "flink_configuration"):
        named = request.get(field)
        for key, value in (named if isinstance(named, Mapping) else {}).items():
            value = value["value"] if is_said(value) else value
            if isinstance(value, str):
                yield f"{field}.{key}", value
    if isinstance(request.get("sql"), str):
        yield "sql", "".join(part for part in _SQL_PARTS.findall(request["sql"]) if not part.startswith(("--", "/*")))


def _names_in(text: str) -> Iterator[str]:
    return (found[1] for found in PLACEHOLDER.finditer(text) if not found[0].startswith("$$"))


def _bare_names(sql: str) -> Iterator[str]:
    for part in _SQL_PARTS.findall(sql):
        if not part.startswith(("--", "/*", "'", "`")):
            yield from _names_in(part)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
