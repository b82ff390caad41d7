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
from collections.abc import Callable, Collection, Mapping, Sequence
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

NO_JOBS = "no jobs yet: headrace submit ./job.py makes one"
GAP = "   "
NARROWEST = 6
CUT = "…"
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
    """A heading, and what a row has under it; `is_wide` is shown by `-o wide` alone, `is_age` changes by itself,
    `is_whole` is cut after all others."""

    heading: str
    of: Callable[[Row, datetime], Any]
    is_wide: bool = False
    is_age: bool = False
    is_whole: bool = False


def field(name: str, *, heading: str | None = None, is_wide: bool = False, is_whole: bool = False) -> Column:
    """A field as it is."""
    return Column(heading or name.upper().replace("_", " "), lambda row, _: row.get(name), is_wide, is_whole=is_whole)


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


class Grid:
    """Lines of a table in so much room: what is too long is cut. Without a bound they are whole. Rows that come later
    stand under the same headings."""

    def __init__(self, columns: Sequence[Column], room: int | None, *, has_colours: bool, gap: str = GAP) -> None:
        self._columns = columns
        self._gap = gap
        self._room = room
        self._has_colours = has_colours
        self._widths: list[int] = []

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """The headings, the first time, and the rows."""
        now = datetime.now(UTC)
        cells = [[_cell(column.of(row, now)) for column in self._columns] for row in rows]
        if self._widths:
            return list(map(self._line, cells))
        headings = [column.heading for column in self._columns]
        self._widths = [max(map(width, column)) for column in zip(headings, *cells, strict=True)]
        if self._room is not None:
            whole = [number for number, column in enumerate(self._columns) if column.is_whole]
            self._widths = fitted(self._widths, self._room - len(self._gap) * (len(headings) - 1), whole)
        return list(map(self._line, [headings, *cells]))

    def settled(self, row: Row) -> tuple[Any, ...]:
        """What of a row changes only when something happens."""
        now = datetime.now(UTC)
        return tuple(_cell(column.of(row, now)) for column in self._columns if not column.is_age)

    def _line(self, cells: Sequence[str]) -> str:
        """The cells beside each other. One that the room does not reach to is left out whole, its colour with it."""
        line, left = "", self._room
        for number, (cell, most) in enumerate(zip(cells, self._widths, strict=True)):
            gap = self._gap if number else ""
            if left is not None:
                most = min(most, left - len(gap))
                left -= len(gap) + most
                if most < 1:
                    break
            shown = cell if self._room is None else cut(cell, most)
            line += gap + coloured(shown, COLOURS.get(cell) if self._has_colours else None)
            line += " " * (most - width(shown))
        return line.rstrip()


class Table:
    """A table on stdout: it fits the terminal, but in `-o wide`, a file and a pipe."""

    def __init__(self, columns: Sequence[Column], form: Format) -> None:
        is_wide = form is Format.WIDE
        shown = [column for column in columns if is_wide or not column.is_wide]
        self._grid = Grid(shown, None if is_wide else room(), has_colours=has_colours())

    def show(self, rows: Sequence[Row]) -> None:
        """Prints the headings, the first time, and the rows."""
        for line in self._grid.lines(rows):
            print(line)

    def settled(self, row: Row) -> tuple[Any, ...]:
        """What of a row changes only when something happens."""
        return self._grid.settled(row)


def room() -> int | None:
    """The columns of the terminal that is stdout; None where it is none, and nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def can_be_drawn_on() -> bool:
    """Whether stdout is a terminal that does more than print."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def has_colours() -> bool:
    """Whether stdout is a terminal on which colours are wanted."""
    return can_be_drawn_on() and not os.environ.get("NO_COLOR")


def can_show(text: str) -> bool:
    """Whether stdout's encoding has these characters."""
    return encoded(text) == text


def encoded(text: str) -> str:
    """The text as stdout's encoding will show it: what it lacks is written out."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def coloured(text: str, colour: str | None) -> str:
    """The text in a colour, where there is one."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def fitted(widths: Sequence[int], room: int, whole: Collection[int] = ()) -> list[int]:
    """The widths, with the widest ones narrowed until they have room together. The first names a row: it keeps half of
    the room before the others do. Those at the places `whole` are left as they are."""
    found = list(widths)
    floors = [each if at in whole else min(each, NARROWEST) for at, each in enumerate(widths)]
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
    """The text in so many columns, its end replaced by `…` where it has more, or by `~` where stdout has no `…`."""
    if width(text) <= most:
        return text
    taken, kept = 1, ""
    for character in text:
        taken += _columns_of(character)
        if taken > most:
            break
        kept += character
    return kept + cut_mark()


def cut_mark() -> str:
    """What stands where something was left out."""
    return CUT if can_show(CUT) else "~"


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else encoded(printable(" ".join(str(value).split())))
