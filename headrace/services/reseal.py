"""Sealing everything that is on record anew with the newest key, so that an older one can be taken away.

Framework-free; reads no secret but to seal it again. What cannot be opened stays as it is, and is told by its place.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from headrace.domain.sealed import Owner, SealedText
from headrace.errors import Unopenable
from headrace.ports import Scope, Sealer, Store
from headrace.services.sealing import HASH_KEY


@dataclass
class Resealed:
    """What came of it: texts that were sealed anew, that had the newest key already, and the places of those that no
    key opened."""

    sealed: int = 0
    kept: int = 0
    unopenable: list[str] = field(default_factory=list)


class Reseal:
    """Rewrites the sealed texts of a scope. Idempotent; safe beside running processes that have both keys."""

    def __init__(self, store: Store, sealer: Sealer, scope: Scope) -> None:
        self._store = store
        self._sealer = sealer
        self._scope = scope

    def run(self) -> Resealed:
        """Every template, key, job and ended operation of the scope."""
        done = Resealed()
        self._store.reseal(self._scope, lambda text: self._anew(text, done))
        return done

    def _anew(self, found: SealedText, done: Resealed) -> str:
        for owner in found.owners:
            try:
                plain = self._sealer.open([owner], found.name, found.text)
            except Unopenable:
                continue
            return self._counted(found, self._sealer.seal(owner, found.name, plain), done)
        done.unopenable.append(found.place)
        if found.name == HASH_KEY:  # it is no user's: without it, a repeat of an old request with secrets is a 409
            return self._sealer.seal(Owner.installation(self._scope.tenant), HASH_KEY, secrets.token_hex(32))
        return found.text

    def _counted(self, found: SealedText, text: str, done: Resealed) -> str:
        done.kept += text == found.text
        done.sealed += text != found.text
        return text
