"""What goes to stdout: tables for people, JSON and YAML for programs. Messages go to stderr.

Whatever users' code or a server said, no control character of it reaches a terminal.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from headrace.cli import ages
from headrace.printable import UNPRINTABLE, printable

GREEN, RED, MAGENTA, BLUE, ORANGE = "32", "31", "35", "34", "38;5;208"
COLOURS = {
    "RUNNING": GREEN,
    "FINISHED": BLUE,
    "FAILED": RED,
    "REJECTED": RED,
    "CANCELLED": ORANGE,
    "RESTARTING": MAGENTA,
    "SUCCEEDED": GREEN,
    "SUPERSEDED": ORANGE,
}
"""Flink's own colours of states; the text says the same."""

GAP = "   "
NARROWEST = 6
COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")

Row = Mapping[str, Any]


class Format(StrEnum):
    """-o."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_table(self) -> bool:
        """Whether a person reads it."""
        return self in (Format.TABLE, Format.WIDE)


@dataclass(frozen=True)
class Column:
    """A heading, and what a row has under it; `is_wide` is shown by `-o wide` alone, `is_age` changes by itself."""

    heading: str
    of: Callable[[Row, datetime], Any]
    is_wide: bool = False
    is_age: bool = False


def field(name: str, *, heading: str | None = None, is_wide: bool = False) -> Column:
    """A field as it is."""
    return Column(heading or name.upper().replace("_", " "), lambda row, _: row.get(name), is_wide)


def age(name: str, heading: str = "AGE", *, is_wide: bool = False) -> Column:
    """How long ago a field's time was."""
    return Column(heading, lambda row, now: ages.age(row.get(name), now), is_wide, is_age=True)


def took(begin: str, end: str, heading: str = "TOOK") -> Column:
    """The time between two fields."""
    return Column(heading, lambda row, _: ages.between(row.get(begin), row.get(end)))


def prepare() -> None:
    """What a terminal's encoding does not have, and half characters, are written out and end no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def forget_stdout() -> None:
    """Its reader has left: what is still to be written goes nowhere, and Python's end says nothing of it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    """A line for the person, never for the program."""
    print(printable(message), file=sys.stderr)


def show(content: Any, form: Format, columns: Sequence[Column], name: str = "") -> None:
    """Prints a list of objects, or one. Tables have these columns, `-o name` the field `name`."""
    if form is Format.JSON:
        print(as_json(content))
    elif form is Format.YAML:
        print(as_yaml(content), end="")
    else:
        rows = content if isinstance(content, list) else [content]
        if form is Format.NAME:
            print(*(printable(str(row[name])) for row in rows), sep="\n", end="\n" if rows else "")
        else:
            Table(columns, form).show(rows)


def as_json(content: Any) -> str:
    """JSON that is readable in every language, and has no control character but its line feeds."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def as_yaml(content: Any) -> str:
    """YAML likewise; text of several lines stands as it is."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Text in the style that keeps it readable."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        is_odd = UNPRINTABLE.search(value.replace("\n", "")) is not None
        style = '"' if is_odd else "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", dumped)


def show_text(text: str) -> None:
    """Text of several lines, as a stack trace."""
    print("\n".join(map(_line, text.split("\n"))))


def show_log_line(line: str, *, flush: bool) -> None:
    """A line that a user's program printed: as it is to a file or a pipe; a terminal gets its colours, and of other
    control characters their names."""
    if sys.stdout.isatty():
        line = "".join(
            part if COLOUR.fullmatch(part) else _line(part) for part in COLOUR.split(line.removesuffix("\r"))
        )
    print(line, flush=flush)


def show_fields(row: Row, names: Sequence[str], times: Sequence[str]) -> None:
    """A line a field, with `-` for what is not known; those of `times` as ages, with the time."""
    now = datetime.now(UTC)
    for name in names:
        value = row.get(name)
        if name in times and value:
            value = f"{ages.age(value, now)} ago ({ages.to_the_second(value)})"
        lines = "-" if value in (None, "") else str(value)
        print(f"{name.replace('_', ' ') + ':':<18}" + f"\n{'':<18}".join(map(_line, lines.split("\n"))))


def _line(text: str) -> str:
    return "\t".join(map(printable, text.split("\t")))


class Table:
    """A table that fits the terminal: what is too long is cut with `…`, but in `-o wide`, a file and a pipe. Rows that
    come later stand under the same headings."""

    def __init__(self, columns: Sequence[Column], form: Format) -> None:
        is_wide = form is Format.WIDE
        self._columns = [column for column in columns if is_wide or not column.is_wide]
        self._is_terminal = sys.stdout.isatty()
        self._room = shutil.get_terminal_size().columns if self._is_terminal and not is_wide else None
        self._has_colours = self._is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._widths: list[int] = []

    def show(self, rows: Sequence[Row]) -> None:
        """Prints the headings, the first time, and the rows."""
        now = datetime.now(UTC)
        cells = [[_cell(column.of(row, now)) for column in self._columns] for row in rows]
        if not self._widths:
            headings = [column.heading for column in self._columns]
            self._widths = [max(map(width, column)) for column in zip(headings, *cells, strict=True)]
            if self._room is not None:
                self._widths = fitted(self._widths, self._room - len(GAP) * (len(headings) - 1))
            self._print(headings)
        for row_cells in cells:
            self._print(row_cells)

    def settled(self, row: Row) -> tuple[Any, ...]:
        """What of a row changes only when something happens."""
        now = datetime.now(UTC)
        return tuple(_cell(column.of(row, now)) for column in self._columns if not column.is_age)

    def _print(self, cells: Sequence[str]) -> None:
        parts = []
        for cell, most in zip(cells, self._widths, strict=True):
            shown = cell if self._room is None else cut(cell, most)
            colour = COLOURS.get(cell) if self._has_colours else None
            padding = " " * (most - width(shown))
            parts.append((f"\x1b[{colour}m{shown}\x1b[0m" if colour else shown) + padding)
        line = GAP.join(parts).rstrip()
        print(line if self._room is None or self._has_colours else cut(line, self._room))


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """The widths, with the widest ones narrowed until they have room together. The first names a row: it keeps half of
    the room before the others do."""
    found = list(widths)
    floors = [min(each, NARROWEST) for each in widths]
    floors[0] = min(widths[0], max(room // 2, NARROWEST))
    while sum(found) > room:
        spare = [width - floor for width, floor in zip(found, floors, strict=True)]
        if not any(spare):
            break
        widest = max((at for at, left in enumerate(spare) if left), key=lambda at: found[at])
        found[widest] -= 1
    return found


def width(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, most: int) -> str:
    """The text in so many columns, its end replaced by `…` where it has more."""
    if width(text) <= most:
        return text
    taken, kept = 1, ""
    for character in text:
        taken += _columns_of(character)
        if taken > most:
            break
        kept += character
    return f"{kept}…"


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else printable(" ".join(str(value).split()))
