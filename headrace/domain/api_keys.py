"""API keys and roles: who may ask for what. Pure; a key itself is nowhere but with whom it was made for.

Of a key the records keep its digest alone. A key is 256 bits of chance, so a plain SHA-256 cannot be turned round.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from headrace.errors import Conflict, InvalidRequest, TooMany

BEGINNING = "hr_"
"""How each key begins, so that a scanner for leaked secrets can tell one."""

OF_THE_FILE = "file-"
"""How the names of the keys in the installation's file begin, each with the number of its place there."""

MOST_API_KEYS = 1000
LONGEST_EXPIRY_DAYS = 3650
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
FIELDS = ("name", "role", "expires_in_days")


class Role(StrEnum):
    """What a key may do. Each may all that the one before it may."""

    VIEWER = "viewer"
    """Reads: jobs, operations, templates, logs, what a submit would render."""
    OPERATOR = "operator"
    """Asks for operations, registers templates, disposes of savepoints."""
    ADMIN = "admin"
    """Makes and revokes keys, and decides which events ask for operations."""

    def may(self, needed: Role) -> bool:
        """Whether what needs that role may be done with this one."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key on record. Its name is never another key's, also when it is revoked: operations name it."""

    tenant: str
    name: str
    role: Role
    digest: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def refusal(self, at: datetime) -> str | None:
        """Why it opens nothing then; None where it does."""
        if self.revoked_at is not None:
            return f"the API key {self.name} was revoked at {self.revoked_at:%Y-%m-%dT%H:%M:%SZ}: ask for another"
        if self.expires_at is not None and at >= self.expires_at:
            return f"the API key {self.name} expired at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}: ask for another"
        return None


@dataclass(frozen=True)
class Asked:
    """A key that is to be made."""

    name: str
    role: Role
    expires_in: timedelta | None


def parse_key(body: Mapping[str, Any]) -> Asked:
    """What a body asks for: `name`, `role`, and `expires_in_days`, null for a key that never expires. Raises
    InvalidRequest that names each field."""
    problems = {str(each): "is no field of a key" for each in body if each not in FIELDS}
    if not isinstance(name := body.get("name"), str) or not NAME.fullmatch(name):
        problems["name"] = "must be 1 to 63 lower-case letters, digits, dots, dashes and underscores"
    elif name.startswith(OF_THE_FILE):
        problems["name"] = f"must not begin with {OF_THE_FILE}: so the keys of HEADRACE_API_KEYS_FILE are called"
    if body.get("role") not in list(Role):
        problems["role"] = f"must be one of {', '.join(Role)}"
    days = body.get("expires_in_days", 0)
    if days is not None and not _is_a_time(days):
        problems["expires_in_days"] = f"must be above 0 and at most {LONGEST_EXPIRY_DAYS}, or null: it never expires"
    if problems:
        raise InvalidRequest(problems)
    return Asked(str(name), Role(body["role"]), timedelta(days=days) if days is not None else None)


def _is_a_time(days: object) -> bool:
    return isinstance(days, int | float) and not isinstance(days, bool) and 0 < days <= LONGEST_EXPIRY_DAYS


def name_is_taken(key: ApiKey) -> Conflict:
    """That a key of this name is on record already."""
    return Conflict(f"API key {key.name}: there is one of this name, maybe a revoked one; choose another name")


def too_many_keys() -> TooMany:
    """That the tenant may have no more."""
    return TooMany(f"there are {MOST_API_KEYS} API keys already; one key for a team or a service is enough")


def new_key() -> str:
    """A key of 256 bits of chance."""
    return BEGINNING + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """What the records keep of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
