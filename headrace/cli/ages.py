"""Times as people compare them: how long ago, how long it took. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

SECOND, MINUTE, HOUR, DAY, YEAR = 1, 60, 3600, 86400, 365 * 86400
SHOWN = (
    (2 * MINUTE, SECOND, "s", 0, ""),
    (10 * MINUTE, MINUTE, "m", SECOND, "s"),
    (3 * HOUR, MINUTE, "m", 0, ""),
    (8 * HOUR, HOUR, "h", MINUTE, "m"),
    (2 * DAY, HOUR, "h", 0, ""),
    (8 * DAY, DAY, "d", HOUR, "h"),
    (2 * YEAR, DAY, "d", 0, ""),
    (8 * YEAR, YEAR, "y", DAY, "d"),
)
"""Below so many seconds: the unit, and the smaller one that still matters there. As kubectl shows ages."""


def duration(seconds: float) -> str:
    """`45s`, `5m`, `2d3h`: two units at most, and the second one only while it matters. What is negative is `0s`."""
    left = max(0, int(seconds))
    for below, unit, name, part, part_name in SHOWN:
        if left < below:
            rest = left % unit // part if part else 0
            return f"{left // unit}{name}" + (f"{rest}{part_name}" if rest else "")
    return f"{left // YEAR}y"


def moment(text: object) -> datetime | None:
    """The time that the API wrote; None for what is none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def age(text: object, now: datetime) -> str | None:
    """How long ago that was; the text itself where it is no time, None where there is none."""
    if text in (None, ""):
        return None
    at = moment(text)
    return str(text) if at is None else duration((now - at).total_seconds())


def between(begin: object, end: object) -> str | None:
    """How long it took; None where it has not begun or not ended."""
    first, last = moment(begin), moment(end)
    return duration((last - first).total_seconds()) if first and last else None


def to_the_second(text: object) -> str:
    """The time without its microseconds, in UTC."""
    at = moment(text)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else str(text)
