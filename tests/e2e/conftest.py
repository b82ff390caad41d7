"""What tests on real Flink share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.counting import EXAMPLES, JAR
from tests.support.serving import serving


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """Where the counting example's jar is; modules that need other files have their own."""
    with serving({f"/{JAR}": (EXAMPLES / "jar" / JAR).read_bytes()}) as address:
        yield address
