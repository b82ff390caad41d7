"""What Beat sends, as Celery writes it: when it expires, and by whose clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from beat.app import make_app
from headrace.settings import Settings

NAMES = ("sync", "redeliver", "prune", "savepoints", "waits")


def expires_at(name: str) -> datetime:
    """The moment in the message's header, which a worker compares with its own clock (Request.maybe_expire)."""
    app = make_app(Settings())
    entry = app.conf.beat_schedule[name]
    message = app.amqp.as_task_v2("id", entry["task"], expires=entry["options"]["expires"])
    return datetime.fromisoformat(message.headers["expires"])


def test_every_entry_is_looked_at_here() -> None:
    assert tuple(make_app(Settings()).conf.beat_schedule) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_whose_clock_is_minutes_ahead_takes_what_beat_sends(name: str) -> None:
    assert expires_at(name) > datetime.now(UTC) + timedelta(minutes=9)


@pytest.mark.parametrize("name", NAMES)
def test_an_outage_of_an_hour_leaves_no_hour_of_messages(name: str) -> None:
    assert expires_at(name) < datetime.now(UTC) + timedelta(minutes=15)
