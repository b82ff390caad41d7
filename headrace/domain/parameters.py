"""Declared parameters of a template, and their values put in place of `${name}` without injection. No I/O here.

Every text of a template is a place for them, or refused when it is registered. A value is data wherever it lands: an
argument stays one argument, a SQL string stays one string and reads no variable of the pod that its template does not
read, a URL keeps its host and its folders. `$${name}` is the text `${name}` itself. A template that declares no
parameters is taken as it is.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, StrEnum
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.domain.flink_sql import FROM_ENVIRONMENT, OUTPUT, PLACEHOLDER, ScriptError, scan
from headrace.domain.said import plain_of
from headrace.errors import MOST_PROBLEMS, InvalidRequest

__all__ = [
    "PLACEHOLDER",
    "Parameter",
    "ParameterType",
    "checked_values",
    "declaration_problems",
    "examples_in",
    "substituted",
]

Value = str | int | float | bool

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
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            return f"must be {_article(self.type)}"
        if isinstance(value, str) and (_CONTROL.search(value) or len(value) > 10_000):
            return "must be text of 10000 characters at most, without control characters"
        if self.allowed_values is not None and value not in self.allowed_values:
            return f"must be one of {', '.join(map(_text, self.allowed_values))}"
        return None


def _article(kind: ParameterType) -> str:
    return {"INTEGER": "a whole number", "NUMBER": "a finite number", "BOOLEAN": "true or false"}.get(kind, "text")


class _Place(Enum):
    """What a text of a template is to a value that is put into it."""

    TEXT = "any value"
    NUMBER = "any value, as what it is where it is the whole"
    ADDRESS = "a name in it, or the whole of it"
    SQL = "a token"
    PROGRAM = "none: it is read by a program of the user's own"
    FIXED = "none: the template is checked by it"


_Path = tuple[str | int, ...]

_SAID = ("args", "env", "flink_configuration")
"""Fields whose values may come with their user's word: `{value, secret}`."""

_ADDRESSES = ("script", "script_path", "jar", "jar_files", "image")
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.~+-]*")


def _place_of(path: _Path, is_sql: bool) -> _Place:
    if path == ("type",):
        return _Place.FIXED
    if path == ("sql",) or (is_sql and path == ("script", "content")):
        return _Place.SQL
    if path[-1] == "content" and path[0] in ("script", "files"):
        return _Place.PROGRAM
    if path[0] in ("parallelism", "resources"):
        return _Place.NUMBER
    is_address = path == ("state", "location") or (path[0] in _ADDRESSES and path[-1] != "sha256")
    return _Place.ADDRESS if is_address else _Place.TEXT


def _texts(request: Mapping[str, Any]) -> Iterator[tuple[_Path, str, _Place]]:
    """Every text of a template that holds a placeholder, with its path and what that is."""
    is_sql = request.get("type") == "SQL"
    waiting: list[tuple[_Path, Any]] = [((str(name),), value) for name, value in reversed(list(request.items()))]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            if "${" in value:
                yield path, value, _place_of(path, is_sql)
            continue
        inner: list[tuple[Any, Any]] = []
        if isinstance(value, Mapping):
            inner = [(str(name), each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            inner = list(enumerate(value))
        waiting += [((*path, name), each) for name, each in reversed(inner)]


def _field_of(path: _Path) -> str:
    """The path as refusals have it: a value that comes with its user's word is named as one that comes alone."""
    return ".".join(map(str, path[:2] if path[0] in _SAID and path[2:] == ("value",) else path))


def declaration_problems(parameters: Mapping[str, Parameter], request: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the use of parameters in a template's body, by field."""
    if not parameters:
        return {}
    found = ((_field_of(path), words) for path, words in _declaration_problems(parameters, request))
    return dict(islice(found, MOST_PROBLEMS + 1))


def _declaration_problems(
    parameters: Mapping[str, Parameter], request: Mapping[str, Any]
) -> Iterator[tuple[_Path, str]]:
    for path, text, place in _texts(request):
        if place is _Place.SQL:
            yield from ((path, words) for words in _sql_problems(parameters, text))
            continue
        for name in _names_in(text):
            words = _problem_at(parameters, name, place)
            if words is None and name in parameters and parameters[name].secret and not _is_sealed(request, path):
                words = _secret(name)
            if words:
                yield path, words


def _is_sealed(request: Mapping[str, Any], path: _Path) -> bool:
    """Whether what is filled in there goes into a Secret: it is a variable's value, and nobody says that it is none."""
    if path[0] != "env" or path[2:] not in ((), ("value",)):
        return False
    env = request["env"] if isinstance(request["env"], Mapping) else {}
    return all(plain_of(value) is not None for name, value in env.items() if str(name) == path[1])


def _problem_at(parameters: Mapping[str, Parameter], name: str, place: _Place) -> str | None:
    if place is _Place.PROGRAM:
        hint = "give it by args or env, or give the parameter another name"
        return f"${{{name}}} is not filled in here, in a program's own text: {hint}" if name in parameters else None
    if place is _Place.FIXED:
        return "may hold no parameter: what a template may say depends on it"
    return None if name in parameters else _undeclared(parameters, name)


def _undeclared(parameters: Mapping[str, Parameter], name: str) -> str:
    near = difflib.get_close_matches(name, parameters, 1)
    hint = f"did you mean ${{{near[0]}}}?" if near else f"write $${{{name}}} for the text itself"
    return f"${{{name}}} is no declared parameter; {hint}"


def _secret(name: str) -> str:
    return f"${{{name}}} is secret: it may stand in env alone, where the value goes into a Secret"


def _sql_problems(parameters: Mapping[str, Parameter], sql: str) -> Iterator[str]:
    """What is wrong with the parameters of a script. Where the script itself is wrong, its own check says it."""
    try:
        for found in scan(sql):
            if "${" in found.group():
                yield from _token_problems(parameters, found)
    except ScriptError:
        return


def _token_problems(parameters: Mapping[str, Parameter], found: re.Match[str]) -> Iterator[str]:
    kind = found.lastgroup
    for name in _names_in(found.group()):
        if kind == "comment":
            if name in parameters:
                yield f"${{{name}}} stands in a comment, which holds no parameter: take it out, or write $${{{name}}}"
        elif name == OUTPUT:
            if kind != "string":
                yield f"${{{name}}} stands in a plain string alone: '${{{name}}}/…'"
        elif name not in parameters:
            yield _undeclared(parameters, name)
        elif parameters[name].secret:
            yield _secret(name)
        elif kind == "prefixed":
            yield f"${{{name}}} stands in a string with a prefix, where \\ is a sign of its own: write '${{{name}}}'"
        elif kind == "placeholder":
            yield from _bare_problems(parameters[name], name, found)


def _bare_problems(parameter: Parameter, name: str, found: re.Match[str]) -> Iterator[str]:
    before, after = found.string[found.start() - 1 : found.start()], found.string[found.end() : found.end() + 1]
    if parameter.type is ParameterType.STRING:
        yield f"${{{name}}} is text: put it into quotes, '${{{name}}}' for a value or `${{{name}}}` for a name"
    elif _JOINED.match(before) or _JOINED.match(after):
        yield f"${{{name}}} is a part of something here: put blanks around it, or quotes around the whole"


_JOINED = re.compile(r"[\w$.'\"`&@{}]")
"""What makes one token, or none at all, of a value and what stands beside it."""


def examples_in(parameters: Mapping[str, Parameter], request: Mapping[str, Any]) -> dict[str, str]:
    """Words for the fields that only an example could be put into, since a parameter there has no value of its own."""
    unsaid = {name for name, each in parameters.items() if each.default is None and each.allowed_values is None}
    named = ((path, next((n for n in _names_in(text) if n in unsaid), None)) for path, text, _ in _texts(request))
    words = "; checked with an example for ${{{}}}: give it a default or allowed_values".format
    return {_field_of(path): words(name) for path, name in named if name is not None}


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
    """A template's body with every `${name}` of a declared parameter replaced, in each text that is a place for one.

    A field of another shape than it must have is left as it is, for the check of the whole. Raises InvalidRequest where
    the texts would become too large, or a value would be more than data where it lands.
    """
    if not parameters:
        return dict(request)
    filling = _Filling({name: values.get(name, "") for name in parameters})
    texts = [each for each in _texts(request) if each[2] not in (_Place.PROGRAM, _Place.FIXED)]
    filling.check_size(text for _, text, _ in texts)
    filled = {path: filling.at(place, path, text) for path, text, place in texts}
    body: dict[str, Any] = {name: _with(value, (str(name),), filled) for name, value in request.items()}
    return {**body, "script": _rehashed(request["script"], body["script"])} if "script" in body else body


def _with(value: Any, path: _Path, filled: Mapping[_Path, Value]) -> Any:
    """The value with its filled texts in place."""
    if isinstance(value, str):
        return filled.get(path, value)
    if isinstance(value, Mapping):
        return {name: _with(each, (*path, str(name)), filled) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with(each, (*path, place), filled) for place, each in enumerate(value)]
    return value


def _rehashed(before: Any, after: Any) -> Any:
    """A script without the hash of the text that it had before it was filled in."""
    if not isinstance(before, Mapping) or before == after or not isinstance(before.get("content"), str):
        return after
    is_right = before.get("sha256") == hashlib.sha256(before["content"].encode()).hexdigest()
    return {name: value for name, value in after.items() if name != "sha256" or not is_right}


class _Filling:
    """Puts values into texts, each as the place of the text has it."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values
        self._texts = {name: _text(value) for name, value in values.items()}

    def check_size(self, texts: Iterator[str]) -> None:
        """Raises InvalidRequest where the texts, filled in, come to more than is taken: before any of them is."""
        sizes = {name: 2 + len(value) + value.count("'") + value.count("`") for name, value in self._texts.items()}
        size = sum(len(text) + sum(sizes.get(found[1], 0) for found in PLACEHOLDER.finditer(text)) for text in texts)
        if size > MOST_FILLED_CHARACTERS:
            words = f"would make texts of {size} characters, and {MOST_FILLED_CHARACTERS} are taken at most"
            raise InvalidRequest({"parameters": words})

    def at(self, place: _Place, path: _Path, text: str) -> Value:
        """The text filled in. Raises InvalidRequest."""
        if place is _Place.SQL:
            return self._sql(text, _field_of(path))
        whole = PLACEHOLDER.fullmatch(text)
        if place is _Place.ADDRESS and not whole:
            return self._replaced(text, self._as_name)
        if place is _Place.NUMBER and whole and not text.startswith("$$"):
            return self._values.get(whole[1], text)
        return self._replaced(text, self._texts.__getitem__)

    def _replaced(self, text: str, value_of: Callable[[str], str]) -> str:
        def one(found: re.Match[str]) -> str:
            if found[0].startswith("$$"):
                return found[0][1:]
            return value_of(found[1]) if found[1] in self._values else found[0]

        return PLACEHOLDER.sub(one, text)

    def _as_name(self, name: str) -> str:
        if not _NAME.fullmatch(self._texts[name]):
            words = (
                "is a part of an address, and may be letters, digits, '_', '.', '~', '+' and '-' there, without '..'"
            )
            raise InvalidRequest({f"parameters.{name}": words})
        return self._texts[name]

    def _sql(self, sql: str, field: str) -> str:
        """A script filled in: its tokens are those of the template, each value one of them or in one of them."""
        try:
            pieces = [piece for found in scan(sql) for piece in self._pieces(str(found.lastgroup), found.group())]
        except ScriptError:
            return sql  # the check of the whole says what is wrong with the script itself
        filled = "".join(text for _, text in pieces)
        if [piece for piece in pieces if piece[0] != "space"] != _tokens(filled):
            raise InvalidRequest({field: "a parameter would not stay where it stands: put blanks around it"})
        return filled

    def _pieces(self, kind: str, text: str) -> list[tuple[str, str]]:
        """What a token of the template comes to."""
        if "${" not in text:
            return [(kind, text)]
        bare = PLACEHOLDER.fullmatch(text)
        if bare and not text.startswith("$$") and bare[1] in self._values:
            return self._bare(bare[1])
        if kind in ("string", "name"):
            return [(kind, self._quoted(kind, text))]
        return [(kind, text if kind == "comment" else self._replaced(text, "${{{}}}".format))]

    def _bare(self, name: str) -> list[tuple[str, str]]:
        """A number or a truth value. A negative number stands in parentheses: `-` before it would make a comment."""
        value, text = self._values[name], self._texts[name]
        if isinstance(value, str):
            raise InvalidRequest({f"parameters.{name}": "is text, and has to stand in quotes in the template's SQL"})
        if isinstance(value, bool):
            return [("word", text)]
        if not text.startswith("-"):
            return [("number", text)]
        return [("mark", "("), ("mark", "-"), ("number", text[1:]), ("mark", ")")]

    def _quoted(self, kind: str, text: str) -> str:
        """A string or a quoted name, filled in: the quotes of a value are doubled."""
        quote = text[0]
        filled = self._replaced(text, lambda name: self._texts[name].replace(quote, 2 * quote))
        words = None
        if kind == "name" and filled != text and (filled == "``" or "\n" in filled or "\r" in filled):
            words = "is a name in SQL: it may not be empty, nor hold a line break"
        elif kind == "string" and FROM_ENVIRONMENT.findall(filled) != FROM_ENVIRONMENT.findall(text):
            words = "is text in SQL: a variable of the pod, ${env:NAME}, is named by the template alone"
        if words:
            name = next(name for name in _names_in(text) if name in self._values)
            raise InvalidRequest({f"parameters.{name}": words})
        return filled


def _tokens(sql: str) -> list[tuple[str, str]] | None:
    try:
        return [(str(found.lastgroup), found.group()) for found in scan(sql) if found.lastgroup != "space"]
    except ScriptError:
        return None


def _names_in(text: str) -> Iterator[str]:
    return (found[1] for found in PLACEHOLDER.finditer(text) if not found[0].startswith("$$"))


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
