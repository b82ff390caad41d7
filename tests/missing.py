"""A part that a test needs and that is not there: skipped where somebody tries things, failed where none may be."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips the test with the reason, which says what to install; fails it where HEADRACE_TESTS_NO_SKIP is 1."""
    if os.environ.get("HEADRACE_TESTS_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
