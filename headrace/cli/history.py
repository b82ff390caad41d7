"""What happened to a job, as people read it: its time line, and one list of its changes of phase and its operations.

Whatever else has a time and belongs to a job's life becomes events here and stands in the same list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headrace.cli import ages, output, timeline
from headrace.cli.output import Column, age, field

PIPED_COLUMNS = 80
"""How wide a time line is where no terminal says."""

Row = Mapping[str, Any]

EVENTS = (
    age("at"),
    Column("AT", lambda row, _: ages.to_the_second(row["at"]), is_wide=True),
    field("run"),
    field("what"),
    field("took"),
    field("by", is_wide=True),
    field("id", is_wide=True),
    field("reason"),
)


def picture(job: Row, transitions: Sequence[Row]) -> list[str]:
    """The job's time line as stdout shows it, and in words what a line cannot show."""
    now = datetime.now(UTC)
    room = output.room() or PIPED_COLUMNS
    line = timeline.LINE if output.can_show(timeline.LINE) else timeline.ASCII_LINE
    found = timeline.spans(job, transitions, now)
    lines = timeline.drawn(found, room, now, line=line, paint=_painted)
    return lines + [output.cut(words, room) for words in timeline.notes(transitions)]


def _painted(text: str, phase: str) -> str:
    return output.coloured(text, output.COLOURS.get(phase) if output.has_colours() else None)


def events(transitions: Sequence[Row], operations: Iterable[Row]) -> list[Row]:
    """What happened, oldest first: a list for each sort, put into one by time; at one time, what was asked first."""
    return merged(map(of_operation, operations), of_phases(transitions))


def of_phases(transitions: Sequence[Row]) -> list[Row]:
    """A row a change of phase, with how long what began then lasted."""
    stays = timeline.stays(timeline.changes_of(transitions), datetime.now(UTC))
    return [
        {
            **{name: transition.get(name) for name in ("at", "run", "reason")},
            "what": f"{transition['from']} -> {transition['to']}" + (" (gap)" if transition.get("gap") else ""),
            "took": ages.duration(stay.seconds),
        }
        for transition, stay in zip(transitions, stays, strict=True)
    ]


def who(asked: Row) -> str | None:
    """Whose key asked for an operation or made a version; the way in where no key did."""
    source = asked.get("source") or {}
    return source.get("by") or source.get("via")


def of_operation(operation: Row) -> Row:
    """An operation as a row: when it was accepted, and how it ended."""
    return {
        "at": operation.get("accepted_at"),
        "what": f"{operation['kind']} {operation['state']}",
        "took": ages.between(operation.get("accepted_at"), operation.get("ended_at")),
        "by": who(operation),
        "id": operation["id"],
        "reason": operation.get("reason"),
    }


def merged(*sorts: Iterable[Row]) -> list[Row]:
    """Lists of rows as one by their times. Each keeps its own order: a row whose time lies before that of the row above
    it in its list counts as of that time."""
    timed = []
    for rows in sorts:
        latest = datetime.min.replace(tzinfo=UTC)
        for row in rows:
            latest = max(latest, ages.moment(row["at"]) or latest)
            timed.append((latest, row))
    return [row for _, row in sorted(timed, key=lambda each: each[0])]
