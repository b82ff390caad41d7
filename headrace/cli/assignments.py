"""`--set`, `--env` and `--param`: names and values from a command line, taken as meant or refused. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.domain.inputs import yaml_value
from headrace.errors import InvalidRequest

NAMED_FREELY = (
    ("flink_configuration",),
    ("env",),
    ("labels",),
    ("pod", "annotations"),
    ("pod", "node_selector"),
    ("pod", "nodeSelector"),
)
"""Below these a name may have dots, and its value is text: the rest of a path is one name."""

ESCAPE = "a name with dots stands in quotes: --set 'resources.\"a.b\"=1'"


def pairs(flag: str, given: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE, each. Raises InvalidRequest that names the flag, never the value."""
    found: dict[str, str] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InvalidRequest({flag: "must be KEY=VALUE"})
        if key in found:
            raise InvalidRequest({flag: f"{key} is given twice: leave one"})
        found[key] = value
    return found


def set_in(config: dict[str, Any], assignment: str) -> None:
    """Sets `path=value` in a nested configuration, as in `resources.task_manager.slots=2`: the value as YAML has it.
    Raises InvalidRequest."""
    names, value = _split(assignment)
    free = next((len(path) for path in NAMED_FREELY if tuple(names[: len(path)]) == path and len(names) > len(path)), 0)
    if free:
        names = [*names[:free], ".".join(names[free:])]
    at = config
    for place, name in enumerate(names[:-1]):
        at = inside(at, name, ".".join(names[: place + 1]))
    at[names[-1]] = value if free else yaml_value(value, ".".join(names))


def inside(config: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    """The object of this name, made where there is none. Raises InvalidRequest where it is something else."""
    inner = config[name] = {} if config.get(name) is None else config[name]
    if not isinstance(inner, dict):
        raise InvalidRequest({path: "was set to a value of its own, so nothing can be set inside it"})
    return inner


def _split(assignment: str) -> tuple[list[str], str]:
    """The names of a path, and what follows its `=`. Dots, quotes and `=` of a name stand in quotes or after `\\`."""
    names: list[str] = []
    name, quote, was_quoted, at = "", "", False, 0
    while at < len(assignment):
        sign = assignment[at]
        at += 1
        if sign == "\\" and at < len(assignment):
            name, at = name + assignment[at], at + 1
        elif quote:
            name, quote = (name, "") if sign == quote else (name + sign, quote)
        elif sign in "\"'" and not name:
            quote, was_quoted = sign, True
        elif sign in ".=":
            if not name and not was_quoted:
                raise InvalidRequest({"--set": f"an empty name after {'.'.join(names)!r}; {ESCAPE}"})
            names, name, was_quoted = [*names, name], "", False
            if sign == "=":
                return names, assignment[at:]
        elif was_quoted:
            raise InvalidRequest({"--set": f"a quote ends in the middle of a name; {ESCAPE}"})
        else:
            name += sign
    raise InvalidRequest({"--set": f"a quote does not end; {ESCAPE}" if quote else f"must be path=value; {ESCAPE}"})


def typed(text: str, kind: str) -> Any:
    """Text from a command line in a parameter's declared type; the text itself where it is none, to be refused with
    the declaration's words."""
    if kind == "BOOLEAN":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind not in ("INTEGER", "NUMBER"):
        return text
    try:
        value = yaml_value(text, kind)
    except InvalidRequest:
        return text
    return value if isinstance(value, int if kind == "INTEGER" else int | float) and value is not True else text
