"""API keys: made, listed, revoked, and told whose one is. Knows no HTTP; a key is returned once, where it is made."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.api_keys import OF_THE_FILE, ApiKey, Role, digest_of, new_key, parse_key
from headrace.domain.secrets import shown_name
from headrace.errors import NotFound, Unauthorized
from headrace.ports import Clock, Store

SEEN_FOR = timedelta(seconds=10)
"""How long what was read of a key counts: a revoked one opens nothing after that."""

MOST_SEEN = 1024
"""Of how many keys that is remembered, those that are none of ours among them."""


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's name and its role."""

    name: str
    role: Role
    expires_at: datetime | None = None


class ApiKeys:
    """The keys of one tenant's records."""

    def __init__(self, store: Store, tenant: str, clock: Clock) -> None:
        self._store = store
        self._tenant = tenant
        self._clock = clock

    def create(self, body: Mapping[str, Any], by: str) -> tuple[ApiKey, str]:
        """Makes a key: the record, and the key itself, which nothing keeps. Raises InvalidRequest, Conflict where the
        name is another's, TooMany."""
        asked, key, now = parse_key(body), new_key(), self._clock.now()
        record = ApiKey(
            tenant=self._tenant,
            name=asked.name,
            role=asked.role,
            digest=digest_of(key),
            created_at=now,
            created_by=by,
            expires_at=now + asked.expires_in if asked.expires_in is not None else None,
        )
        self._store.add_api_key(record)
        return record, key

    def all(self) -> Sequence[ApiKey]:
        """By name, the revoked and the expired ones among them."""
        return self._store.api_keys(self._tenant)

    def revoke(self, name: str) -> ApiKey:
        """The key opens nothing any more, within SEEN_FOR everywhere. Idempotent. Raises NotFound."""
        revoked = self._store.revoke_api_key(self._tenant, name, self._clock.now())
        if revoked is None:
            raise NotFound(f"API key {shown_name(name)}: there is none of this name; GET keys lists those that are")
        return revoked

    def of(self, digest: str) -> ApiKey | None:
        """The key of this digest. Raises Unavailable."""
        return self._store.api_key(self._tenant, digest)


class Callers:
    """Tells whose key one is. The keys of the installation's file come first, and each is an admin's."""

    def __init__(self, api_keys: ApiKeys, of_the_file: Sequence[bytes], clock: Clock) -> None:
        self._api_keys = api_keys
        self._of_the_file = of_the_file
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[datetime, ApiKey | None]] = OrderedDict()

    def at_hand(self, key: str) -> Caller | None:
        """Whose key it is where no server has to be asked; None where one has to, or where it is none."""
        if caller := self._in_the_file(key):
            return caller
        seen = self._remembered(digest_of(key)) if key else None
        return _caller(seen[1]) if seen and seen[1] and seen[1].refusal(self._clock.now()) is None else None

    def of(self, key: str) -> Caller:
        """Whose key it is. Raises Unauthorized where it opens nothing, Unavailable where that cannot be known."""
        if caller := self.at_hand(key):
            return caller
        found = self._looked_up(digest_of(key)) if key else None
        if found is None:
            raise Unauthorized("send an API key: Authorization: Bearer <key>, or X-API-Key")
        if refusal := found.refusal(self._clock.now()):
            raise Unauthorized(refusal)
        return _caller(found)

    def _in_the_file(self, key: str) -> Caller | None:
        """Takes the same time for every wrong one: each key is compared."""
        given = key.encode()
        matches = [number for number, each in enumerate(self._of_the_file, 1) if hmac.compare_digest(given, each)]
        return Caller(f"{OF_THE_FILE}{matches[0]}", Role.ADMIN) if matches else None

    def _remembered(self, digest: str) -> tuple[datetime, ApiKey | None] | None:
        with self._lock:
            seen = self._seen.get(digest)
        return seen if seen is not None and abs(self._clock.now() - seen[0]) <= SEEN_FOR else None

    def _looked_up(self, digest: str) -> ApiKey | None:
        seen = self._remembered(digest)
        if seen is not None:
            return seen[1]
        found = self._api_keys.of(digest)
        with self._lock:
            self._seen[digest] = (self._clock.now(), found)
            self._seen.move_to_end(digest)
            while len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
        return found


def _caller(key: ApiKey) -> Caller:
    return Caller(key.name, key.role, key.expires_at)
