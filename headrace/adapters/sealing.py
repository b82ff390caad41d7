"""ports.Sealer by AES-SIV (RFC 5297): what is sealed says nothing but whether two secrets of one name are the same.

The only importer of `cryptography` in the core's adapters. Knows no use case.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from headrace import key_files
from headrace.domain.sealed import Owner
from headrace.errors import ConfigurationError, Unopenable

VARIABLE = "HEADRACE_SEALING_KEYS_FILE"
KEY_BYTES = 64

BOUND = "2:"
"""How a text begins that is bound to its owner. The texts of older releases are bound to their name alone."""


class AesSealer:
    """Seals with the first key, and opens with any: a new key is put on top of the file."""

    def __init__(self, keys: list[bytes], again: Callable[[], list[bytes]] | None = None) -> None:
        """`again` reads the keys anew: a key that is on its way to this process is found without a restart."""
        self._keys, self._again = keys, again

    def seal(self, owner: Owner, name: str, text: str) -> str:
        """See ports.Sealer."""
        sealed = AESSIV(self._keys[0]).encrypt(text.encode(), _bound_to(owner, name))
        return BOUND + base64.b64encode(sealed).decode()

    def open(self, owners: Sequence[Owner], name: str, sealed: str) -> str:
        """See ports.Sealer."""
        found = self._opened(owners, name, sealed)
        if found is None and self._again is not None:
            self._keys = self._again()
            found = self._opened(owners, name, sealed)
        if found is None:
            raise Unopenable(
                f"the secret {name} cannot be opened: it was sealed with a key that HEADRACE_SEALING_KEYS_FILE lacks, "
                "or for somebody else; put that key back into the file of this process"
            )
        return found

    def _opened(self, owners: Sequence[Owner], name: str, sealed: str) -> str | None:
        is_bound = sealed.startswith(BOUND)
        bindings = [_bound_to(owner, name) for owner in owners] if is_bound else [[name.encode()]]
        try:
            content = base64.b64decode(sealed.removeprefix(BOUND), validate=True)
        except (binascii.Error, ValueError):
            return None
        return next(
            (text for key in self._keys for binding in bindings for text in _tried(key, content, binding)), None
        )


def _tried(key: bytes, content: bytes, binding: list[bytes]) -> Iterator[str]:
    try:
        yield AESSIV(key).decrypt(content, binding).decode()
    except (InvalidTag, ValueError):
        return


def _bound_to(owner: Owner, name: str) -> list[bytes]:
    return [part.encode() for part in (owner.tenant, owner.kind, owner.name, name)]


def read_sealer(file: Path | None) -> AesSealer | None:
    """A sealer over the keys in a file, one a line in base64, the newest first; None where no file is set.

    Raises ConfigurationError.
    """
    if file is None:
        return None

    def again() -> list[bytes]:
        try:
            return _read(file)
        except ConfigurationError as error:
            raise Unopenable(f"a secret cannot be opened: {error}") from error

    return AesSealer(_read(file), again)


def _read(file: Path) -> list[bytes]:
    keys = [_decoded(line) for line in key_files.read_keys(file, VARIABLE, "one sealing key")]
    if any(len(key) != KEY_BYTES for key in keys):
        raise ConfigurationError(
            f"{VARIABLE}: {file} must hold keys of {KEY_BYTES} bytes in base64, one a line: "
            f"head -c {KEY_BYTES} /dev/urandom | base64 -w0 makes one"
        )
    return keys


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except ValueError:
        return b""


def new_key() -> str:
    """A line for the file of keys."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
