"""API keys, one a line in a file: required from the first day. Knows no route."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace import key_files


def read_keys(file: Path | None) -> Sequence[bytes]:
    """The keys. Raises ConfigurationError where there are none, or weak ones: an open API is not a default."""
    return tuple(key.encode() for key in key_files.read_keys(file, "HEADRACE_API_KEYS_FILE", "one API key"))


def given_by(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """What a request brings: its Authorization, and its X-API-Key."""
    return headers.get("authorization"), headers.get("x-api-key")


def is_allowed(keys: Sequence[bytes], authorization: str | None, api_key: str | None) -> bool:
    """Whether a request brings a key, as a bearer token or in X-API-Key. Takes the same time for every wrong one."""
    scheme, _, token = (authorization or "").partition(" ")
    given = (token if scheme.lower() == "bearer" else api_key or "").strip().encode()
    return any([hmac.compare_digest(given, key) for key in keys])  # noqa: C419 - every key is compared
