"""A message that came too late: what the worker makes of it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.worker.test_shown_requests import request_of


@pytest.mark.parametrize(("seconds", "is_thrown_away"), [(-1, True), (60, False)])
def test_what_has_expired_is_thrown_away_and_is_no_error(
    seconds: float, is_thrown_away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    import worker.tasks  # noqa: F401 - registers them

    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    request = request_of([], {"tenant": "default", "job_id": "orders"}, id=str(seconds), expires=expires.isoformat())
    assert (request.revoked(), request.acknowledged) == (is_thrown_away, is_thrown_away)
    assert not [each for each in caplog.records if each.levelno > logging.INFO]
