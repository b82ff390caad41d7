"""The page of all settings, made of the settings themselves: `python -m headrace.settings_page > docs/settings.md`.

Knows nothing of ours but settings.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from headrace.settings import Settings

OPENING = """# Settings

Every process reads the same variables, once, when it starts; what it does not use it leaves alone. A value that cannot
be used ends the start with one line that names the variable. This page is made of the settings themselves
(`python -m headrace.settings_page > docs/settings.md`), and a test holds it to them.
"""

HEADINGS: Mapping[str, Sequence[str]] = {
    "The installation": ("tenant", "cluster", "namespace", "runtimes"),
    "Kubernetes and JobManagers": ("kubeconfig", "kubernetes_", "flink_rest_"),
    "MongoDB": ("mongodb_",),
    "Redis": ("redis_",),
    "Kafka": ("kafka_",),
    "The API": ("api_", "grpc_", "wait_", "follow_"),
    "Flower": ("flower_",),
    "Flink's command line, for native jobs": ("flink_home", "java_home", "launch_"),
    "What jobs get": ("flink_", "resource_profiles_", "sealing_keys_"),
    "What jobs may name": ("allowed_",),
    "Work and its periods": ("worker_", "operation_", "failure_", "sync_", "relist_", "redeliver_", "prune_", "stale_"),
    "Savepoints and what runs out": ("savepoint", "ended_", "deleted_"),
    "Logs, metrics and health": ("log_", "metrics_", "health_"),
}
"""By how their names begin, the first that fits."""


def page() -> str:
    """The whole page, as Markdown. Raises KeyError for a setting that no heading is for."""
    grouped: dict[str, list[tuple[str, FieldInfo]]] = {heading: [] for heading in HEADINGS}
    for name, field in Settings.model_fields.items():
        grouped[heading_of(name)].append((name, field))
    return "\n".join([OPENING, *(line for heading, fields in grouped.items() for line in _section(heading, fields))])


def heading_of(name: str) -> str:
    """Where a setting stands. Raises KeyError where no heading is for it."""
    found = next((heading for heading, names in HEADINGS.items() if name.startswith(tuple(names))), None)
    if found is None:
        raise KeyError(f"{name}: HEADINGS has no heading for it")
    return found


def _section(heading: str, fields: Sequence[tuple[str, FieldInfo]]) -> Iterator[str]:
    yield f"## {heading}\n"
    yield "| variable | unless set | what it is |"
    yield "|---|---|---|"
    for name, field in fields:
        yield f"| `{variable_of(name)}` | {_default(field)} | {_words(field)} |"
    yield ""


def variable_of(name: str) -> str:
    """The variable of a setting: Flink's and Java's homes have the names that the world gives them."""
    return name.upper() if Settings.model_fields[name].validation_alias is not None else f"HEADRACE_{name.upper()}"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _words(field: FieldInfo) -> str:
    """What it is, and what it may be where that is a file or one of a few words."""
    words = (field.description or "").replace("|", "\\|")
    choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    if len(choices) > 1:
        words += f" One of {', '.join(f'`{each}`' for each in choices)}."
    return f"A file. {words}" if Path in typing.get_args(field.annotation) else words


if __name__ == "__main__":
    sys.stdout.write(page())
