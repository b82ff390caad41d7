"""Ages and durations as kubectl's users read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import ages

NOW = datetime(2026, 11, 27, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (659, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 61, "3h1m"),
        (8 * 3600 + 3599, "8h"),
        (2 * 86400 - 1, "47h"),
        (2 * 86400 + 3 * 3600, "2d3h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert ages.duration(seconds) == shown


@given(st.floats(min_value=-1e12, max_value=1e12))
def test_every_duration_is_short(seconds: float) -> None:
    assert 2 <= len(ages.duration(seconds)) <= 8


def test_an_age_is_of_the_time_that_the_api_writes() -> None:
    assert ages.age("2026-11-27T11:55:00.123456+00:00", NOW) == "5m"
    assert ages.age("2026-11-27T11:55:00Z", NOW) == "5m"
    assert ages.age("2026-11-27T13:55:00+02:00", NOW) == "5m"
    assert ages.age((NOW + timedelta(seconds=3)).isoformat(), NOW) == "0s", "a clock that is ahead"
    assert (ages.age(None, NOW), ages.age("", NOW), ages.age("soon", NOW)) == (None, None, "soon")
    assert ages.between("2026-11-27T11:55:00Z", "2026-11-27T11:57:05.9Z") == "2m5s"
    assert ages.between("2026-11-27T11:55:00Z", None) is None
