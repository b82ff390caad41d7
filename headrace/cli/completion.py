"""What a shell completes: its script, and ids that the API knows. It is quick or silent, and never says an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import click

from headrace.cli import connection

if TYPE_CHECKING:
    from headrace.client import Client

PROGRAM = "headrace"
VARIABLE = "_HEADRACE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
SECONDS = 1.0
"""For the API's answer: who presses Tab does not wait."""

MOST_IDS = 500


def script(app: click.Command, shell: str) -> str:
    """What the shell has to read once."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has the three
    made = found(app, {}, PROGRAM, VARIABLE)
    return made.source_template % made.source_vars()


def answered(app: click.Command) -> bool:
    """Whether a shell asked what could come next; then it has its answer."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return False
    from click.shell_completion import shell_complete

    shell_complete(app, {}, PROGRAM, VARIABLE, instruction)
    return True


def job_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of jobs that begin so."""
    return _ids(context, lambda client: (job["job_id"] for job in client.jobs()), incomplete)


def template_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of templates that begin so."""
    return _ids(context, lambda client: (each["template_id"] for each in client.templates()), incomplete)


def key_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of API keys that begin so."""
    return _ids(context, lambda client: (each["name"] for each in client.api_keys()), incomplete)


def trigger_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of triggers that begin so."""
    return _ids(context, lambda client: (each["name"] for each in client.triggers()), incomplete)


def _ids(context: click.Context, of: Callable[[Client], Iterable[str]], incomplete: str) -> list[str]:
    flags = context.find_root().params
    try:
        found = connection.find(flags.get("url"), flags.get("api_key_file"), flags.get("data"))
        with connection.client(found, timeout_seconds=SECONDS, tries=1) as client:
            return [each for each in islice(of(client), MOST_IDS) if each.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - nothing but candidates may come between the shell and the person
        return []
