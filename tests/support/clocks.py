"""A clock that a test holds, in place of the one that a module of ours reads: what a test says of seconds is true of a
machine that stands still for ten of them."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest


class HeldClock:
    """In place of the module `time`: it goes on by `advance` alone. All else is the real one's. It is not for a module
    that sleeps until a time, which never comes."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def held_clock(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> HeldClock:
    """The clock of these modules."""
    clock = HeldClock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
