"""Which moment is in a blackout, and in which slot of which job; drawn, since clocks go wrong at their edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.jobs import JobKey
from headrace.domain.savepoint_settings import (
    LATEST_MINUTES,
    SavepointSettings,
    due_slot,
    listed_windows,
    slot_of,
    window_of,
)

KEY = JobKey("default", "orders")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(1_700_000_000, 1_900_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
MINUTES = st.integers(0, 24 * 60 - 1)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(MINUTES, MINUTES, MOMENTS)
def test_a_moment_is_in_a_window_or_in_what_the_window_leaves(begins: int, ends: int, at: datetime) -> None:
    if begins == ends:
        return
    inside = window_of(f"{clock(begins)}-{clock(ends)}")
    rest = window_of(f"{clock(ends)}-{clock(begins)}")
    assert inside.covers(at) != rest.covers(at)


@pytest.mark.parametrize(
    ("text", "at", "is_in"),
    [
        ("22:00-06:00", "2026-05-01T23:30:00+00:00", True),
        ("22:00-06:00", "2026-05-01T05:59:59+00:00", True),
        ("22:00-06:00", "2026-05-01T06:00:00+00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-05-01T20:00:00+00:00", True),  # summer there
        ("22:00-06:00 Europe/Berlin", "2026-12-01T20:30:00+00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-12-01T21:00:00+00:00", True),
    ],
)
def test_a_window_is_of_its_zones_day(text: str, at: str, is_in: bool) -> None:
    assert window_of(text).covers(datetime.fromisoformat(at)) is is_in


@pytest.mark.parametrize(
    "text", ["22-06", "24:00-06:00", "22:00-22:00", "22:00-06:00 Mars/Base", "", "22:00-06:00 ../x"]
)
def test_what_is_no_window_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|begins"):
        listed_windows([text])


@given(st.integers(1, 10_000), MOMENTS, st.text(min_size=1, max_size=20))
def test_each_moment_is_in_one_slot_and_slots_follow_each_other(every: int, at: datetime, name: str) -> None:
    key = JobKey("default", name)
    slot, minutes = slot_of(key, every, at)
    assert 0 <= minutes < every
    assert slot_of(key, every, at + timedelta(minutes=every)) == (slot + 1, minutes)
    assert slot_of(key, every, at - timedelta(minutes=minutes + 1))[0] == slot - 1


@given(st.integers(1, 2000), MOMENTS)
def test_a_job_is_due_in_the_beginning_of_its_slot_alone(every: int, at: datetime) -> None:
    settings = SavepointSettings(every_minutes=every)
    slot, minutes = slot_of(KEY, every, at)
    assert due_slot(KEY, settings, LONG_AGO, at) == (slot if minutes < LATEST_MINUTES else None)
    assert due_slot(KEY, settings, at, at) is None  # it runs for no time yet


def test_a_fleet_is_not_saved_all_at_once() -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    begin = {slot_of(JobKey("default", f"job-{number}"), 60, at)[1] for number in range(500)}
    assert len(begin) > 50


def test_a_jobs_own_settings_stand_over_the_installations() -> None:
    defaults = SavepointSettings(every_minutes=60, blackout=("22:00-06:00",), kept=10, kept_days=30)
    own = defaults.under({"every_minutes": 0, "kept": 3, "of_a_later_release": 1})
    assert (own.every_minutes, own.blackout, own.kept, own.kept_days) == (0, ("22:00-06:00",), 3, 30)
    assert defaults.under(None) == defaults
