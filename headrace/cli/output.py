"""What goes to stdout: tables for people, JSON and YAML for programs. Messages go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

COLOURS = {
    "RUNNING": "green",
    "FINISHED": "blue",
    "FAILED": "red",
    "REJECTED": "red",
    "CANCELLED": "dark_orange",
    "RESTARTING": "magenta",
    "SUCCEEDED": "green",
    "SUPERSEDED": "dark_orange",
}
"""Flink's own colours of states; the text says the same."""


class Format(StrEnum):
    """-o."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def show(content: Any, form: Format, columns: Sequence[str]) -> None:
    """Prints a list of objects, or one. A table has these columns."""
    if form is Format.JSON:
        print(json.dumps(content, indent=2))
    elif form is Format.YAML:
        show_yaml(content)
    else:
        _table(content if isinstance(content, list) else [content], columns)


def show_yaml(content: Any) -> None:
    """Prints it as YAML."""
    import yaml

    print(yaml.safe_dump(content, sort_keys=False), end="")


def say(message: str) -> None:
    """A line for the person, never for the program."""
    print(message, file=sys.stderr)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    if not console.is_terminal:
        console = Console(width=240, color_system=None)
    console.print(table)


def _cell(value: Any) -> str:
    text = "-" if value in (None, "") else str(value)
    colour = COLOURS.get(text)
    return f"[{colour}]{text}[/{colour}]" if colour else text.replace("[", "\\[")
