"""API keys, one a line in a file: required from the first day. Knows no route."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import ConfigurationError


def read_keys(file: Path | None) -> Sequence[bytes]:
    """The keys. Raises ConfigurationError where there are none: an open API is not a default."""
    if file is None:
        raise ConfigurationError("HEADRACE_API_KEYS_FILE is not set: name a file with one API key a line")
    try:
        keys = tuple(line.strip().encode() for line in file.read_text().splitlines() if line.strip())
    except OSError as error:
        raise ConfigurationError(f"HEADRACE_API_KEYS_FILE: {error}") from error
    if not keys:
        raise ConfigurationError(f"HEADRACE_API_KEYS_FILE: {file} has no key in it")
    return keys


def is_allowed(keys: Sequence[bytes], authorization: str | None, api_key: str | None) -> bool:
    """Whether a request brings a key, as a bearer token or in X-API-Key. Takes the same time for every wrong one."""
    scheme, _, token = (authorization or "").partition(" ")
    given = (token if scheme.lower() == "bearer" else api_key or "").strip().encode()
    return any([hmac.compare_digest(given, key) for key in keys])  # noqa: C419 - every key is compared
