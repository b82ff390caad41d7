"""A fleet as people watch it: trouble first, and no more lines than there is room for. Knows no screen and no API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.cli import ages, output
from headrace.cli.output import Column, Grid, age, field
from headrace.printable import printable

FAILED, RESTING = ("FAILED", "REJECTED"), ("SUSPENDED", "FINISHED", "CANCELLED", "DELETED", "RELEASED")
ORDER = (*FAILED, "RESTARTING")
"""Phases of trouble, the worst first."""

GAP = "  "
"""Narrower than elsewhere: there is much to show in a line."""

Row = Mapping[str, Any]


def asked(job: Row) -> str:
    """A job's open operations: the one whose turn it is with its step, and how many wait behind it."""
    operations = job.get("open_operations") or []
    if not operations:
        return ""
    first, waiting = operations[0], len(operations) - 1
    return f"{first['kind']} {first['step']}" + (f" +{waiting}" if waiting else "")


COLUMNS = (
    *(field("job_id"), field("status", is_whole=True)),
    age("phase_since", "FOR"),
    field("observation"),
    Column("OPERATION", lambda row, _: asked(row)),
    field("parallelism", heading="PAR"),
    *(field("restarts"), field("reason")),
)


def grid(room: int | None, *, has_colours: bool) -> Grid:
    """The table of a fleet, in so many columns of a terminal."""
    return Grid(COLUMNS, room, has_colours=has_colours, gap=GAP)


def trouble_first(jobs: Sequence[Row]) -> list[Row]:
    """Failed jobs, those that restart though nobody asked for it, those that are not seen, those on their way, those
    that run, those that rest; among their like those first that have changed last."""
    return sorted(sorted(jobs, key=lambda job: str(job["job_id"])), key=_rank)


def _rank(job: Row) -> tuple[int, int, int, float]:
    status = str(job["status"])
    since = ages.moment(job.get("phase_since"))
    return (
        ORDER.index(status) if status in ORDER and not _is_asked_to_restart(job) else len(ORDER),
        job.get("observation") == "FRESH" or status in RESTING,
        2 if status in RESTING else 1 if status == "RUNNING" and not job.get("open_operations") else 0,
        -since.timestamp() if since else 0.0,
    )


def _is_asked_to_restart(job: Row) -> bool:
    open_ones = job.get("open_operations") or []
    return str(job["status"]) == "RESTARTING" and any(each.get("kind") == "RESTART" for each in open_ones)


def counted(jobs: Sequence[Row]) -> str:
    """How many there are, and how many in each phase, in the order in which those come."""
    many = f"{len(jobs)} job" + ("" if len(jobs) == 1 else "s")
    phases = Counter(str(job["status"]) for job in jobs)
    return f"{many}: " + ", ".join(f"{count} {phase}" for phase, count in phases.items()) if jobs else "no jobs yet"


@dataclass(frozen=True)
class Looked:
    """What was last seen of the fleet, when, and why nothing newer was."""

    jobs: Sequence[Row]
    at: datetime
    trouble: str = ""


def frame(seen: Looked, now: datetime, size: tuple[int, int], hint: str, *, has_colours: bool) -> list[str]:
    """The fleet on a screen of so many columns and lines: counts, trouble with the API in one line, and as many jobs as
    there is room for."""
    columns, lines = size
    jobs = trouble_first(seen.jobs)
    counts = output.cut(output.encoded(printable(f"headrace top   {counted(jobs)}")), columns)
    if output.width(counts) + len(hint) + 3 <= columns:
        counts += hint.rjust(columns - output.width(counts))
    above = [counts]
    if seen.trouble:
        ago = ages.duration((now - seen.at).total_seconds())
        told = f"as of {ago} ago, trying again: {printable(seen.trouble)}"
        above.append(output.cut(output.encoded(told), columns))
    room = lines - len(above) - 1
    shown = jobs if len(jobs) <= room else jobs[: max(0, room - 1)]
    table = grid(columns, has_colours=has_colours).lines(shown) if shown else []
    left = len(jobs) - len(shown)
    more = [output.cut(f"{output.cut_mark()} and {left} more", columns)] if left else []
    return [*above, *table, *more][:lines]
