"""Where a request would show a secret to everybody: in arguments, configuration, SQL, programs, labels, URLs. Pure.

A variable in `env` is no such place: what looks secret there is sealed (services.sealing). Knows no way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from headrace.domain.said import NotSecret, is_said, plain_of
from headrace.domain.secret_names import looks_secret
from headrace.domain.secrets import found_in, found_in_program, is_none, secret_in_sql, why_refused
from headrace.errors import MOST_PROBLEMS

_READ = "are there for everybody to read: give it by env and secret_key_ref"
_NONE = "where it is none, write {value: …, secret: false}"


def disclosures(request: Mapping[str, Any]) -> dict[str, str]:
    """Field path -> what is wrong, of the first ones, in a request's JSON form as JobRequest gives it."""
    return dict(islice(_all(request), MOST_PROBLEMS + 1))


def _all(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    own: Mapping[str, Callable[[Any], Iterator[tuple[str, str]]]]
    own = {"args": _of_args, "flink_configuration": _of_configuration, "sql": _of_sql}
    yield from _of_names(request)
    for field, value in request.items():
        if field in own:
            yield from own[field](value)
        elif field != "env":
            yield from _of_any(field, value)


def _of_names(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pod = request.get("pod") or {}
    named = {field: request.get(field) or {} for field in ("env", "flink_configuration", "labels")}
    named |= {f"pod.{field}": pod.get(field) or {} for field in ("annotations", "node_selector")}
    for field, values in named.items():
        found = next(filter(None, map(found_in, values)), None)
        if found:
            yield field, f"has a name that holds {found}"


def _of_args(args: Any) -> Iterator[tuple[str, str]]:
    said = [NotSecret(each["value"]) if is_said(each) else each for each in args]
    found = secret_argument(said)
    if found is not None:
        place, why = found
        yield "args", f"args.{place} {why}, and arguments {_READ}, and read it from the environment; {_NONE}"


def secret_argument(args: Sequence[str]) -> tuple[int, str] | None:
    """The place of the first argument that is a secret, and why: `--password X`, `db.token=X`, a URL with a password.
    What its user says is none (NotSecret) is none."""
    for place, argument in enumerate(args):
        if isinstance(argument, NotSecret):
            continue
        if _is_named_secret(argument) or (place and _follows_its_name(args[place - 1], argument)):
            return place, "looks like a secret"
        found = found_in(argument)
        if found:
            return place, f"holds {found}"
    return None


def _is_named_secret(argument: str) -> bool:
    name, separator, value = argument.partition("=")
    return bool(separator) and " " not in name and looks_secret(name) and not is_none(value)


def _follows_its_name(before: str, argument: str) -> bool:
    is_option = before.startswith("-") and "=" not in before and looks_secret(before)
    return is_option and not argument.startswith("-") and not is_none(argument)


def _of_configuration(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in configuration.items():
        text = plain_of(value)
        why = why_refused(key, text) if text is not None else None
        if why:
            words = f"{key} {why}, and Flink's options {_READ} (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3)"
            yield "flink_configuration", f"{words}; {_NONE}"
            return


def _of_sql(sql: str) -> Iterator[tuple[str, str]]:
    why = secret_in_sql(sql)
    if why:
        yield "sql", f"{why}, and statements {_READ}, and write '${{env:NAME}}' in the statement's string"


def _of_any(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and "content" in value:
        yield from _of_file(path, value)
        return
    if isinstance(value, Mapping):
        named = path in ("labels", "pod.annotations", "pod.node_selector")
        for key, each in value.items():
            at = f"{path}.{key}"
            why = why_refused(str(key), each) if named and isinstance(each, str) else None
            yield from [(at, f"{why}, and labels and annotations {_READ}")] if why else _of_any(at, each)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _of_any(f"{path}.{place}", each)
    elif isinstance(value, str) and (found := found_in(value)):
        yield path, f"holds {found}: give credentials by env and secret_key_ref"


def _of_file(path: str, file: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if file.get("secret") is False:
        return
    content, name = str(file["content"]), str(file.get("name"))
    if name.endswith(".sql"):
        found = secret_in_sql(content)
    else:
        words = found_in_program(content) if name.endswith(".py") else found_in(content)
        found = words and f"holds {words}"
    if found:
        yield (
            f"{path}.content",
            f"{found}, and programs {_READ}; where it is none, say secret: false beside the content",
        )
