"""ports.Sealer by AES-SIV (RFC 5297): what is sealed says nothing but whether two secrets of one name are the same.

The only importer of `cryptography` in the core's adapters. Knows no use case.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from headrace.errors import ConfigurationError, Refused

KEY_BYTES = 64


class AesSealer:
    """Seals with the first key, and opens with any: a new key is put on top of the file."""

    def __init__(self, keys: list[bytes]) -> None:
        self._ciphers = [AESSIV(key) for key in keys]

    def seal(self, name: str, text: str) -> str:
        """See ports.Sealer."""
        return base64.b64encode(self._ciphers[0].encrypt(text.encode(), [name.encode()])).decode()

    def open(self, name: str, sealed: str) -> str:
        """See ports.Sealer."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(base64.b64decode(sealed, validate=True), [name.encode()]).decode()
            except (InvalidTag, binascii.Error, ValueError):
                continue
        raise Refused(
            f"the secret {name} cannot be opened: it was sealed with a key that HEADRACE_SEALING_KEYS_FILE lacks"
        )


def read_sealer(file: Path | None) -> AesSealer | None:
    """A sealer over the keys in a file, one a line in base64, the newest first; None where no file is set.

    Raises ConfigurationError.
    """
    if file is None:
        return None
    try:
        keys = [base64.b64decode(line, validate=True) for line in file.read_text().split()]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"HEADRACE_SEALING_KEYS_FILE: {file} cannot be read: {error}") from error
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigurationError(
            f"HEADRACE_SEALING_KEYS_FILE: {file} must hold keys of {KEY_BYTES} bytes in base64, one a line: "
            f"head -c {KEY_BYTES} /dev/urandom | base64 -w0 makes one"
        )
    return AesSealer(keys)


def new_key() -> str:
    """A line for the file of keys."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
