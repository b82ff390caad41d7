"""Triggers: rules that turn an event into an operation, or say why into none. Pure.

An action is what a record of the operations' topic would say, with `${expression}` where the event's values go: a
kind of operation that there is can be one, and nothing here knows which there are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, ValidationError

from headrace.domain.environment import secret_variables
from headrace.domain.expressions import expression
from headrace.domain.incoming_events import IncomingEvent
from headrace.domain.operations import KINDS, KindName
from headrace.domain.said import plain_of
from headrace.domain.secrets import found_in, found_in_program, shown_name, why_refused
from headrace.domain.sources import Part
from headrace.domain.validation import matching, naming, problems_of
from headrace.errors import InvalidRequest, TooMany

MOST_TRIGGERS = 100
"""In one installation: each is looked at for each event of its topic."""

MOST_BYTES = 64 * 1024
"""A rule's size, as JSON."""

MOST_BLANKS = 50
MOST_FILLED_BYTES = 256 * 1024
"""What an action may come to with an event's values in it."""

LONGEST_IDENTITY = 2_000

_BLANK = re.compile(r"\$?\$\{([^{}]*)\}")
_PROGRAMS = ("sql", "script", "files")
"""Fields that hold programs: an event's value in one would be code. A template's parameters keep it data."""

_ENVELOPE = ("operation", "job_id")

Name = Annotated[str, naming(60)]
Topic = Annotated[
    str, matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "must be a topic's name: letters, digits, '.', '_' and '-'")
]


class _Rule(Part):
    """A trigger as it is written."""

    name: Name
    topic: Topic
    when: str = ""
    key: str = ""
    since: str = ""
    action: Mapping[str, Any] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One rule. `when` is a condition, empty for every event; `key` names what an event is about, where its own name
    is not that; events of before `since` are passed by. `revision` counts its changes; the store sets it."""

    name: str
    topic: str
    action: Mapping[str, Any]
    when: str = ""
    key: str = ""
    since: datetime | None = None
    revision: int = 1
    updated_at: datetime | None = None

    def is_like(self, other: Trigger) -> bool:
        """Whether both say the same, whatever their revisions."""
        return trigger_body(self) == trigger_body(other)


@dataclass(frozen=True)
class Asked:
    """The operation that an event asks for by a rule, and what it is known by: the rule's key, or the event's name."""

    kind: KindName
    job_id: str | None
    arguments: Mapping[str, Any] = field(repr=False)
    identity: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class PassedBy:
    """Why a rule asks for nothing on an event."""

    reason: str


def parse_trigger(body: Mapping[str, Any]) -> Trigger:
    """A trigger from its YAML or JSON form. Raises InvalidRequest that names each field."""
    try:
        rule = _Rule.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(problems_of(error, _Rule)) from error
    if len(json.dumps(body).encode()) > MOST_BYTES:
        raise InvalidRequest({"trigger": f"must have at most {MOST_BYTES} bytes"})
    problems: dict[str, str] = {}
    for path, words in _problems(rule):
        problems.setdefault(path, words)
    if problems:
        raise InvalidRequest(problems)
    since = datetime.fromisoformat(rule.since) if rule.since else None
    return Trigger(name=rule.name, topic=rule.topic, action=rule.action, when=rule.when, key=rule.key, since=since)


def trigger_body(trigger: Trigger) -> dict[str, Any]:
    """The form that parse_trigger takes."""
    said = {"when": trigger.when, "key": trigger.key, "since": trigger.since.isoformat() if trigger.since else ""}
    given = {name: text for name, text in said.items() if text}
    return {"name": trigger.name, "topic": trigger.topic, **given, "action": dict(trigger.action)}


def outcome(trigger: Trigger, event: IncomingEvent) -> Asked | PassedBy:
    """What the rule comes to on this event. Raises InvalidRequest, without a value of the event, where the rule cannot
    be evaluated on it."""
    if event.topic != trigger.topic:
        return PassedBy("it is of another topic")
    if trigger.since is not None and event.at is not None and event.at < trigger.since:
        return PassedBy(f"it is of before {trigger.since.isoformat()}, the rule's `since`")
    if trigger.when and not _evaluated("when", lambda: expression(trigger.when).is_true(event.content)):
        return PassedBy("the rule's `when` does not hold for it")
    if trigger.action["operation"] not in list(KINDS):
        raise InvalidRequest({"action.operation": "is a kind that this release does not know: upgrade the consumer"})
    action = {name: _filled(value, event, f"action.{shown_name(name)}") for name, value in trigger.action.items()}
    if len(json.dumps(action).encode()) > MOST_FILLED_BYTES:
        words = f"comes to more than {MOST_FILLED_BYTES} bytes with the event's values in it"
        raise InvalidRequest({"action": words})
    job_id = action.get("job_id")
    if job_id is not None and not isinstance(job_id, str):
        raise InvalidRequest({"action.job_id": "must come to text"})
    arguments = {name: value for name, value in action.items() if name not in _ENVELOPE}
    return Asked(KindName(action["operation"]), job_id, arguments, _identity(trigger, event))


def following(before: Trigger | None, trigger: Trigger, kept: int) -> Trigger:
    """What is kept in the place of `before`: the trigger, one revision on, or `before` itself where that says the same.
    `kept` is how many there are. Raises TooMany where a new one would be one too many."""
    if before is None:
        if kept >= MOST_TRIGGERS:
            raise TooMany(f"there are {MOST_TRIGGERS} triggers, and no more may be: delete one first")
        return replace(trigger, revision=1)
    return before if before.is_like(trigger) else replace(trigger, revision=before.revision + 1)


def idempotency_key(place: Sequence[str], trigger: str, identity: Sequence[str]) -> str:
    """The key of the one operation that a trigger makes of an event, at this place (cluster and namespace), whatever
    the rule says by now."""
    text = json.dumps([*place, trigger, *identity], separators=(",", ":"))
    return f"trigger/{trigger}/{hashlib.sha256(text.encode()).hexdigest()}"


def _identity(trigger: Trigger, event: IncomingEvent) -> tuple[str, ...]:
    if not trigger.key:
        return event.identity
    key = _as_text(_filled(trigger.key, event, "key"), "key")
    if not key or len(key) > LONGEST_IDENTITY:
        raise InvalidRequest({"key": f"must come to text of 1 to {LONGEST_IDENTITY} characters"})
    return ("key", key)


# Filling


def _filled(value: Any, event: IncomingEvent, path: str) -> Any:
    """The value with what the event has in its blanks. A text that is one blank becomes the value itself."""
    if isinstance(value, Mapping):
        return {name: _filled(each, event, f"{path}.{shown_name(name)}") for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, event, f"{path}.{place}") for place, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    whole = _BLANK.fullmatch(value)
    if whole and not value.startswith("$$"):
        return _value(whole[1], event, path)
    return _BLANK.sub(lambda found: _piece(found, event, path), value)


def _piece(found: re.Match[str], event: IncomingEvent, path: str) -> str:
    if found[0].startswith("$$"):
        return found[0][1:]
    return _as_text(_value(found[1], event, path), path)


def _value(text: str, event: IncomingEvent, path: str) -> Any:
    value = _evaluated(path, lambda: expression(text).of(event.content))
    if value is None:
        raise InvalidRequest({path: f"the event has no {text}"})
    return value


def _as_text(value: Any, path: str) -> str:
    if isinstance(value, list | dict):
        raise InvalidRequest({path: "must come to text, a number, true or false; a list or object stands alone"})
    return value if isinstance(value, str) else json.dumps(value)


def _evaluated(path: str, evaluate: Callable[[], Any]) -> Any:
    try:
        return evaluate()
    except InvalidRequest as error:
        raise InvalidRequest({path: str(error)}) from error


# Checking


def _problems(rule: _Rule) -> Iterator[tuple[str, str]]:
    yield from _problems_of_texts({"name": rule.name, "topic": rule.topic, "when": rule.when, "key": rule.key})
    if rule.when:
        yield from _problem_of_expression("when", rule.when)
    if rule.key:
        yield from _problems_of_blanks("key", rule.key)
        if not any(_blanks(rule.key)):
            yield "key", "must have a ${…}: with one key for all events, only the first makes an operation"
    if rule.since and not _is_moment(rule.since):
        yield "since", "must be a time with its zone, as 2026-05-01T12:00:00Z"
    yield from _problems_of_action(rule.action)


def _problems_of_texts(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in texts.items():
        found = found_in(text)
        if found:
            yield name, f"holds {found}, and it is kept and shown"


def _problems_of_action(action: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    leaves = list(_leaves(action, "action"))
    if sum(len(list(_blanks(text))) for _, text, _ in leaves) > MOST_BLANKS:
        yield "action", f"must have at most {MOST_BLANKS} ${{…}}"
    for path, text, is_program in leaves:
        if is_program and any(_blanks(text)):
            words = "is a program, and an event's value in it would be code: fill a template's parameter instead"
            yield path, f"{words}; $${{…}} is the text ${{…}} itself"
        elif not is_program:
            yield from _problems_of_blanks(path, text)
    yield from _secrets_in(action, "action")
    yield from _problems_of_operation(action)


def _problems_of_operation(action: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the kind itself says of the arguments, but for those whose values an event brings."""
    name = action.get("operation")
    if name not in list(KINDS):
        yield "action.operation", f"must be one of {', '.join(KINDS)}"
        return
    kind = KINDS[KindName(name)]
    job_id = action.get("job_id")
    if job_id is None and not kind.begins_a_run:
        yield "action.job_id", f"is missing: {kind.name} is about a job"
    if job_id is not None and not isinstance(job_id, str):
        yield "action.job_id", "must be text"
    if "idempotency_key" in action:
        yield "action.idempotency_key", "is made of the event: the trigger's `key` says by what"
    arguments = {each: value for each, value in action.items() if each not in (*_ENVELOPE, "idempotency_key")}
    filled = {each for each, value in arguments.items() if any(_blanks_below(value))}
    try:
        kind.asked(arguments)
    except InvalidRequest as error:
        for path, words in error.problems.items():
            if not filled or (path.partition(".")[0] not in {*filled, "body"}) or words.startswith("unknown field"):
                yield f"action.{path}", words


def _problems_of_blanks(path: str, text: str) -> Iterator[tuple[str, str]]:
    if "${" in _BLANK.sub("", text):
        yield path, "has a ${ without its }, or braces inside of it"
    for blank in _blanks(text):
        yield from _problem_of_expression(path, blank)


def _problem_of_expression(path: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        expression(text)
    except InvalidRequest as error:
        yield path, "; ".join(error.problems.values())


def _blanks(text: str) -> Iterator[str]:
    return (found[1] for found in _BLANK.finditer(text) if not found[0].startswith("$$"))


def _blanks_below(value: Any) -> Iterator[str]:
    for _, text, is_program in _leaves(value, ""):
        if not is_program:
            yield from _blanks(text)


def _leaves(value: Any, path: str, *, is_program: bool = False) -> Iterator[tuple[str, str, bool]]:
    """Each text below, with its path, and whether it is of a program."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{shown_name(name)}", is_program=is_program or name in _PROGRAMS)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _leaves(each, f"{path}.{place}", is_program=is_program)
    elif isinstance(value, str):
        yield path, value, is_program


def _secrets_in(value: Any, path: str, name: str = "", *, is_program: bool = False) -> Iterator[tuple[str, str]]:
    """What may not stand in a rule, which is kept and shown as it is."""
    if isinstance(value, Mapping):
        if any(each == "sealed" or each.startswith("$") for each in value):
            yield path, "may have no `sealed`, and no name that begins with $"
        if name == "env":
            for variable, each in value.items():
                if isinstance(each, Mapping) and "sealed" in each:
                    yield f"{path}.{shown_name(variable)}", "a sealed text is made here and taken from nobody"
            for variable in secret_variables(value):
                yield f"{path}.{shown_name(variable)}", _NO_SECRETS
            return
        for each_name, each in value.items():
            inner = f"{path}.{shown_name(each_name)}"
            yield from _secrets_in(each, inner, each_name, is_program=is_program or each_name in _PROGRAMS)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _secrets_in(each, f"{path}.{place}", name, is_program=is_program)
    else:
        text = plain_of(value) or ""
        if found_in_program(text) if is_program else why_refused(name, text):
            yield path, _NO_SECRETS


_NO_SECRETS = "looks like a secret, and a rule is kept and shown: use secret_key_ref, or the template's own"


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
