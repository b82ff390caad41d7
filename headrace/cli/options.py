"""Arguments and options that several commands take, and how their values are read. Knows no command."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import completion, connection
from headrace.cli.output import Format

if TYPE_CHECKING:
    from headrace.client import Client

SECONDS_OF = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)")


class Duration(click.ParamType[float]):
    """`90`, `90s`, `5m`, `2h` or `1d`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(str(value))
        if not found:
            self.fail(f"{str(value)!r} is no duration: give 90s, 5m, 2h or 1d", param, ctx)
        return float(found[1]) * SECONDS_OF[found[2]]


class PhaseName(click.ParamType[Any]):
    """A phase of a job, in capitals or not. One that there is not is refused with the one that was meant."""

    name = "phase"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        from headrace.domain.jobs import Phase

        names = [phase.value for phase in Phase]
        if str(value).upper() in names:
            return Phase(str(value).upper())
        near = difflib.get_close_matches(str(value).upper(), names, 1)
        meant = f"did you mean {near[0]}? The phases are" if near else "the phases are"
        return self.fail(f"{str(value)!r} is no phase: {meant} {', '.join(names)}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """See click."""
        from click.shell_completion import CompletionItem

        from headrace.domain.jobs import Phase

        return [CompletionItem(phase.value) for phase in Phase if phase.startswith(incomplete.upper())]


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def output_as(*forms: Format, default: Format = Format.TABLE) -> Decorator:
    """-o, of these forms."""
    choice = click.Choice([form.value for form in forms])
    return click.option(
        "-o",
        "--output",
        "form",
        type=choice,
        default=default.value,
        show_default=True,
        callback=lambda _context, _parameter, value: Format(value),
        help="How to print.",
    )


every_output = output_as(*Format)
job_id = click.argument("job_id", shell_complete=completion.job_ids)
wait = click.option("--wait", is_flag=True, help="Wait for the operation's end; its outcome is the exit code.")
timeout = click.option(
    "--timeout", type=Duration(), default="300s", show_default=True, help="How long to wait: 90s, 5m, 2h."
)
idempotency_key = click.option("--idempotency-key", metavar="KEY", help="Makes a repeated command one request.")
watch = click.option("-w", "--watch", is_flag=True, help="Go on with what changes, until Ctrl-C.")


def combined(*options: Decorator) -> Decorator:
    """Several of them as one decorator, in the order in which the help shows them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


dry_run = click.option("--dry-run", is_flag=True, help="Only say what it would change and cause; nothing is done.")

asks = combined(wait, timeout, idempotency_key, every_output)
"""What every command that asks for an operation takes."""


def client(**bounds: Any) -> Client:
    """A client of the API that the global options, or what is found, name, within these bounds. Raises
    ConfigurationError."""
    return connection.client(found(), **bounds)


def found() -> connection.Connection:
    """Where the API is. Raises ConfigurationError."""
    flags = click.get_current_context().find_root().params
    return connection.find(flags["url"], flags["api_key_file"], flags["data"])
