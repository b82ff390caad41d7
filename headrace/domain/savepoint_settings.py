"""When a job's savepoints are taken by themselves, and for how long they are kept: a job's own settings, else the
installation's. Pure; knows no store and takes none.

The operator's own `kubernetes.operator.periodic.savepoint.interval` knows no blackout and leaves no operation behind.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StrictInt, ValidationError

from headrace.domain.jobs import JobKey
from headrace.domain.sources import Part
from headrace.errors import Unreadable

WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])(?: ([A-Za-z0-9_+/-]{1,60}))?")

LATEST_MINUTES = 10
"""How long after a slot has begun its savepoint is still asked for: what was missed for longer is not made up for."""


@dataclass(frozen=True)
class Window:
    """A time of each day in which no savepoint is taken by itself, in minutes of the zone's day; it may go over
    midnight."""

    begins: int
    ends: int
    zone: ZoneInfo

    def covers(self, at: datetime) -> bool:
        """Whether this moment is in it: its first minute is, the one at which it ends is not."""
        local = at.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        if self.begins < self.ends:
            return self.begins <= minute < self.ends
        return minute >= self.begins or minute < self.ends


def window_of(text: str) -> Window:
    """`22:00-06:00 Europe/Berlin`, in UTC without a zone. Raises ValueError in words."""
    found = WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be written as 22:00-06:00, or 22:00-06:00 Europe/Berlin")
    hours, minutes, end_hours, end_minutes, zone = found.groups()
    begins, ends = int(hours) * 60 + int(minutes), int(end_hours) * 60 + int(end_minutes)
    if begins == ends:
        raise ValueError("begins when it ends: give a time between the two")
    try:
        return Window(begins, ends, ZoneInfo(zone or "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must name a time zone of the IANA list: Europe/Berlin") from error


def _is_window(text: str) -> str:
    window_of(text)
    return text


Blackout = Annotated[str, AfterValidator(_is_window)]


class SavepointSettings(Part):
    """What is not set comes from the installation. `every_minutes` 0 takes none by itself; none begins in a `blackout`.
    Of a job's savepoints the newest `kept` stay, and none for longer than `kept_days`."""

    every_minutes: StrictInt | None = Field(None, ge=0, le=525_600)
    blackout: tuple[Blackout, ...] | None = Field(None, max_length=20)
    kept: StrictInt | None = Field(None, ge=1, le=10_000)
    kept_days: float | None = Field(None, gt=0, le=36_500)

    def under(self, own: Mapping[str, Any] | None) -> SavepointSettings:
        """These, with a job's own in their places. Raises Unreadable where those are of a later release."""
        given = {name: value for name, value in (own or {}).items() if name in type(self).model_fields}
        try:
            return SavepointSettings.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            raise Unreadable(f"savepoints: {error.errors()[0]['msg']}; a later release has written that") from error

    def expires_at(self, taken: datetime) -> datetime | None:
        """When a savepoint may go at the earliest for its age; None where age does not count."""
        return taken + timedelta(days=self.kept_days) if self.kept_days is not None else None


def slot_of(key: JobKey, every_minutes: int, at: datetime) -> tuple[int, int]:
    """The number of the slot that this moment is in, and the minutes since it began. Jobs begin theirs at different
    minutes, so that a fleet does not save its state all at once."""
    offset = zlib.crc32(f"{key.tenant}/{key.job_id}".encode()) % every_minutes
    return divmod(int(at.timestamp()) // 60 + offset, every_minutes)


def due_slot(key: JobKey, asked: SavepointSettings, since: datetime, at: datetime) -> int | None:
    """The slot for which a job that has been RUNNING `since` is to be saved now; None where it is not."""
    if not asked.every_minutes or any(window_of(each).covers(at) for each in asked.blackout or ()):
        return None
    slot, minutes = slot_of(key, asked.every_minutes, at)
    is_new = slot_of(key, asked.every_minutes, since)[0] == slot
    return None if is_new or minutes >= LATEST_MINUTES else slot


def listed_windows(texts: Sequence[str]) -> tuple[str, ...]:
    """An installation's windows. Raises ValueError that names the one that is none."""
    for text in texts:
        try:
            window_of(text)
        except ValueError as error:
            raise ValueError(f"{text!r} {error}") from error
    return tuple(texts)
