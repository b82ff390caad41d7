"""How tests ask the API: as its client does, so that a server which does not answer in its bound, on a machine that is
busy with other tests, is asked again and fails none of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import httpx

from tests.support.patience import wait_for


def answered(ask: Callable[[str], httpx.Response]) -> httpx.Response:
    """The first answer that is no 503. Each try is given the same Idempotency-Key: what was accepted, though its answer
    was lost, is not asked for twice."""
    key = uuid.uuid4().hex

    def answer() -> httpx.Response | None:
        found = ask(key)
        return None if found.status_code == 503 else found

    found: httpx.Response = wait_for("an answer but 503", answer)
    return found
