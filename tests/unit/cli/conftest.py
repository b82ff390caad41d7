"""The command line in this process, against a scripted HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

import httpx
import pytest

from headrace.cli import connection, main
from headrace.client import Client

Answers = Callable[[httpx.Request], httpx.Response]

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class AtNoon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return NOON


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is printed at NOON."""
    for module in ("history", "output"):
        monkeypatch.setattr(f"headrace.cli.{module}.datetime", AtNoon)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `headrace` with these words: its exit code, stdout and stderr."""

    def run_with(answers: Answers, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("HEADRACE_URL", "http://api.test")
        monkeypatch.setenv("HEADRACE_API_KEY", "k")
        monkeypatch.setattr("headrace.client.PAUSE_SECONDS", 0.0)
        made = Client("http://api.test", "k", transport=httpx.MockTransport(answers))
        monkeypatch.setattr(connection, "client", lambda _, **__: made)
        monkeypatch.setattr("sys.argv", ["headrace", *words])
        code = main.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_with
