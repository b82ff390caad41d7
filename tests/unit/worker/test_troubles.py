"""What the sync could not observe is in the logs: in words, or with the place in our code where nobody foresaw it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from headrace import metrics
from headrace.domain.jobs import JobKey
from headrace.errors import Unreadable
from headrace.services.sync import FIRST_PAUSE, Trouble
from headrace.testing import FixedClock
from worker.tasks import say_troubles


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda line: found.append(str(line)), format="{extra[job_id]} {message}")
    yield found
    logger.remove(sink)


def test_each_trouble_is_a_line_and_is_counted(lines: list[str]) -> None:
    def counted() -> float:
        return float(metrics.UNOBSERVED._value.get())

    try:
        {}["a secret"]  # type: ignore[index]
    except KeyError as error:
        mistake = error
    until, before = FixedClock().now(), counted()
    troubles = {
        JobKey("t", "edited"): Trouble(Unreadable("it cannot be read"), "it cannot be read", until, FIRST_PAUSE),
        JobKey("t", "ours"): Trouble(mistake, "KeyError while it was observed", until, FIRST_PAUSE),
    }
    say_troubles(troubles)
    edited, ours = lines
    assert edited.strip() == "edited it cannot be observed: it cannot be read"
    assert "test_troubles.py" in ours
    assert "KeyError" in ours
    assert "a secret" not in ours
    assert counted() == before + 2
