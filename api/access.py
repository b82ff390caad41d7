"""Who asks, and whether he may: API keys, the role that a request needs, and how many of them a key may send.

Closed by default: what is not named here needs a key, and what writes needs an operator's at least. Knows no route's
meaning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from headrace import key_files
from headrace.bootstrap import Services
from headrace.domain.api_keys import Role
from headrace.errors import Forbidden, TooMany
from headrace.services.api_keys import Caller, Callers

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
READING = frozenset({"GET", "HEAD"})


def read_keys(file: Path | None) -> Sequence[bytes]:
    """The keys. Raises ConfigurationError where there are none, or weak ones: an open API is not a default."""
    return tuple(key.encode() for key in key_files.read_keys(file, "HEADRACE_API_KEYS_FILE", "one API key"))


def given_by(headers: Mapping[str, str]) -> str:
    """The key that a request brings, as a bearer token or in X-API-Key; empty where there is none."""
    scheme, _, token = (headers.get("authorization") or "").partition(" ")
    return (token if scheme.lower() == "bearer" else headers.get("x-api-key") or "").strip()


def caller_of(request: Request) -> Caller:
    """Who sent a request that the guard has let pass."""
    caller: Caller = request.state.caller
    return caller


def needed(method: str, path: str, base: str) -> Role:
    """The role that a request needs. A dry run needs what the operation would: who may not ask for it has no use for
    what it would do."""
    below = path.removeprefix(base)
    if below == "/keys" or below.startswith("/keys/"):
        return Role.ADMIN
    if method in READING or (method == "POST" and below == "/jobs/render"):
        return Role.VIEWER
    return Role.ADMIN if below == "/triggers" or below.startswith("/triggers/") else Role.OPERATOR


def check_role(caller: Caller, role: Role) -> None:
    """Raises Forbidden that names the role which is missing."""
    if not caller.role.may(role):
        words = f"the API key {caller.name} has the role {caller.role}, and this needs {role}"
        raise Forbidden(f"{words}: ask who runs Headrace for a key with it (headrace keys create)")


class RateLimit:
    """How many requests a key may send within a minute. Each process of the API counts for itself: a count that they
    shared would make Redis a part of each request."""

    def __init__(self, requests_per_minute: int) -> None:
        """0: as many as come."""
        self._bound = RateLimitItemPerMinute(requests_per_minute) if requests_per_minute else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def check(self, caller: Caller) -> None:
        """Counts a request. Raises TooMany, with when the next one is taken."""
        if self._bound is None or self._limiter.hit(self._bound, caller.name):
            return
        resets = self._limiter.get_window_stats(self._bound, caller.name).reset_time
        seconds = max(1, round(resets - time.time()))
        raise TooMany(
            f"the API key {caller.name} has sent {self._bound.amount} requests within a minute "
            f"(HEADRACE_API_REQUESTS_PER_MINUTE): send the next in {seconds} s"
        )


@dataclass(frozen=True)
class Gate:
    """What lets callers in, the same by HTTP and by gRPC: a key counts all that it sends together."""

    callers: Callers
    rate_limit: RateLimit


def gate(services: Services, keys: Sequence[bytes], requests_per_minute: int = 0) -> Gate:
    """`keys` are an admin's each, beside those on record; no key sends more than `requests_per_minute`, where that is
    not 0."""
    return Gate(Callers(services.api_keys, keys, services.clock), RateLimit(requests_per_minute))
