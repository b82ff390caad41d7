"""A part that a test needs and that is not there: skipped where somebody tries things, failed where none may be."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest
from find_libpython import find_libpython


def missing(reason: str) -> NoReturn:
    """Skips the test with the reason, which says what to install; fails it where HEADRACE_TESTS_NO_SKIP is 1."""
    if os.environ.get("HEADRACE_TESTS_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def needs_libpython() -> None:
    """For a test that loads Python into a JVM."""
    if not find_libpython():
        missing("this Python has no shared libpython; install one (Debian: libpython3.11), or build it --enable-shared")
