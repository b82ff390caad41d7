"""A job's phases as a line of cells, each as long as it lasted, and a legend. Pure: knows no terminal and no API.

A phase is drawn as its letter and a line after it, so that it can be read without colours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

from headrace.cli import ages
from headrace.printable import printable

LETTERS = {
    "REQUESTED": "q",
    "SUBMITTING": "b",
    "STARTING": "s",
    "RUNNING": "R",
    "RESTARTING": "r",
    "UPGRADING": "u",
    "SCALING": "l",
    "SUSPENDING": "p",
    "SUSPENDED": "P",
    "CANCELLING": "c",
    "CANCELLED": "C",
    "ROLLING_BACK": "k",
    "DELETING": "d",
    "DELETED": "D",
    "FINISHED": "F",
    "FAILED": "X",
    "REJECTED": "J",
    "RELEASED": "L",
}
"""Small letters are on their way, capitals stay."""

UNKNOWN = "?"
"""The letter of a phase that this release does not know."""

SEVERAL = "*"
"""Stands for several phases, each of them shorter than a cell."""

LINE, ASCII_LINE = "━", "-"
GAP = "   "

Row = Mapping[str, Any]
Paint = Callable[[str, str], str]


@dataclass(frozen=True)
class Span:
    """One stay in a phase."""

    phase: str
    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True)
class Part:
    """So many cells of a line with one phase in them, or SEVERAL."""

    phase: str
    cells: int


def spans(job: Row, transitions: Sequence[Row], now: datetime) -> list[Span]:
    """A job's stays in its phases, oldest first, the present one until now: from its making, where its first change is
    known, to the next run that was accepted, where that has not begun."""
    changes = changes_of(transitions)
    if not changes:
        changes = [(str(job.get("status")), ages.moment(job.get("created_at")))]
    elif transitions[0].get("number") == 1:
        changes.insert(0, (str(transitions[0]["from"]), ages.moment(job.get("created_at"))))
    phase, at = changes[-1]
    accepted = ages.moment(job.get("phase_since"))
    if accepted and at and accepted > at and job.get("status") != phase:
        changes.append((str(job["status"]), accepted))
    return stays(changes, now)


def changes_of(transitions: Sequence[Row]) -> list[tuple[str, datetime | None]]:
    """What each entered, and when."""
    return [(str(each["to"]), ages.moment(each.get("at"))) for each in transitions]


def stays(changes: Sequence[tuple[str, datetime | None]], now: datetime) -> list[Span]:
    """A span for each change, until the next one, the last until now. They keep their order, also where clocks went
    backwards: a time that lies before the one above it counts as that one, none lies behind the last."""
    known = [at for _, at in changes if at is not None]
    last = max([now, *known[-1:]])
    begins = list(accumulate((min(at or known[0], last) if known else now for _, at in changes), max))
    return [Span(printable(phase), *both) for (phase, _), both in zip(changes, pairwise([*begins, last]), strict=True)]


def parts(found: Sequence[Span], width: int) -> list[Part]:
    """These spans in exactly `width` cells, in their order. Where there is a cell for each, each has one. Else those
    have that last for as long as a cell stands for, what is shorter shares cells, and the last span keeps one if it
    can."""
    if not found or width < 1:
        return []
    lasting = [(span.phase, round(span.seconds * 1_000_000)) for span in found]
    if not any(took for _, took in lasting):
        lasting = [(phase, 1) for phase, _ in lasting]
    if len(lasting) > width:
        lasting = _grouped(lasting, width)
    cells = _shared([took for _, took in lasting], width)
    return [Part(phase, count) for (phase, _), count in zip(lasting, cells, strict=True)]


def _grouped(lasting: Sequence[tuple[str, int]], width: int) -> list[tuple[str, int]]:
    """At most `width` groups: each lasts as long as a cell stands for, but the last, which is what is now."""
    total = sum(took for _, took in lasting)
    groups: list[tuple[str, int]] = []
    short: list[tuple[str, int]] = []
    for phase, took in lasting[:-1]:
        is_long = took * width >= total
        short = [("", sum(each for _, each in short) + took)] if is_long else [*short, (phase, took)]
        together = sum(each for _, each in short)
        if together * width >= total:
            groups.append((phase if is_long else SEVERAL, together))
            short = []
    phase, took = lasting[-1]
    took += sum(each for _, each in short)
    if len(groups) < width:
        return [*groups, (phase, took)]
    *before, (shown, lasted) = groups
    return [*before, (shown, lasted + took)]


def _shared(lasting: Sequence[int], width: int) -> list[int]:
    """Cells by how long each lasted, the largest remainders first, and one at least: the longest give those."""
    total = sum(lasting)
    cells = [max(1, took * width // total) for took in lasting]
    remainders = sorted(range(len(lasting)), key=lambda at: -(lasting[at] * width % total))
    for at in remainders[: max(0, width - sum(cells))]:
        cells[at] += 1
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    return cells


def drawn(found: Sequence[Span], width: int, now: datetime, *, line: str, paint: Paint) -> list[str]:
    """The line, when it begins and ends, and the legend, each in `width` columns at most. `line` is LINE or
    ASCII_LINE; `paint` gives a text the colour of a phase."""
    if not found:
        return []
    shown = parts(found, width)
    bar = "".join(paint(_cells(part, line), part.phase) for part in shown)
    return [bar, *_axis(found, width, now), *_legend(found, shown, width, paint)]


def _cells(part: Part, line: str) -> str:
    if part.phase == SEVERAL:
        return SEVERAL * part.cells
    return LETTERS.get(part.phase, UNKNOWN) + line * (part.cells - 1)


def _axis(found: Sequence[Span], width: int, now: datetime) -> list[str]:
    begin = f"{ages.duration((now - found[0].begin).total_seconds())} ago"
    return [begin + "now".rjust(width - len(begin))] if len(begin) + 4 <= width else []


def _legend(found: Sequence[Span], shown: Sequence[Part], width: int, paint: Paint) -> list[str]:
    """Each phase with how long it lasted in all and how often it came, in the order in which they came first."""
    entries = [_entry(phase, found) for phase in dict.fromkeys(span.phase for span in found)]
    if any(part.phase == SEVERAL for part in shown):
        entries.append((SEVERAL, f"{SEVERAL} several"))
    lines: list[list[tuple[str, str]]] = [[]]
    for entry in entries:
        taken = sum(len(words) + len(GAP) for _, words in lines[-1])
        if taken and taken + len(entry[1]) > width:
            lines.append([])
        lines[-1].append(entry)
    return [GAP.join(paint(words[:width], phase) for phase, words in line) for line in lines]


def _entry(phase: str, found: Sequence[Span]) -> tuple[str, str]:
    stays = [span.seconds for span in found if span.phase == phase]
    times = f" in {len(stays)}" if len(stays) > 1 else ""
    return phase, f"{LETTERS.get(phase, UNKNOWN)} {phase} {ages.duration(sum(stays))}{times}"


def notes(transitions: Sequence[Row]) -> list[str]:
    """What the line cannot show: changes that were missed or are not kept, and clocks that went backwards."""
    times = [at for each in transitions if (at := ages.moment(each.get("at"))) is not None]
    gaps = sum(1 for each in transitions if each.get("gap"))
    backwards = sum(1 for earlier, later in pairwise(times) if later < earlier)
    before = int(transitions[0].get("number") or 1) - 1 if transitions else 0
    told = (
        (before, "{} earlier changes are not shown"),
        (gaps, "before {} of these changes others may have been missed (gap)"),
        (backwards, "{} of these times lie before the one above them: clocks differ"),
    )
    return [words.format(count) for count, words in told if count]
