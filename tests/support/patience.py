"""How long tests wait for what has to come. A condition that holds ends its wait at once, so only a failure takes
longer for it; a machine that does five other things must not be one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 4.0
"""What every wait and every test's own limit is multiplied by."""

REQUEST_SECONDS = 15.0 * PATIENCE
"""The bound of a request that a test makes itself: longer than what it asks is given for its own servers."""

WAIT_SECONDS = 60.0


def wait_for(what: str, is_there: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """The first true value; fails the test where it does not come in PATIENCE times as many seconds."""
    until = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < until:
        found = is_there()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds * PATIENCE:.0f} s for {what}")
