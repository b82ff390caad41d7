"""Files that hold keys, one a line: readable by their owner alone, and none of them a word that one could guess.

Knows nothing of ours but errors, and repeats no key in them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import ConfigurationError

FEWEST_CHARACTERS = 20
FEWEST_DIFFERENT = 6
"""Characters: what is made of chance has more, what is typed to be short-lived often has not."""


def read_keys(file: Path | None, variable: str, each: str) -> Sequence[str]:
    """The keys in the file that this variable names; `each` says what a line is. Lines that begin with `#` are
    comments. Raises ConfigurationError where there is none, one is weak, or others than the owner may read them."""
    if file is None:
        raise ConfigurationError(f"{variable} is not set: name a file with {each} a line")
    try:
        _check_private(file, variable)
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}: {file} cannot be read: {error}") from error
    keys = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    keys = [(number, line) for number, line in keys if line and not line.startswith("#")]
    for number, key in keys:
        if trouble := weakness(key):
            raise ConfigurationError(f"{variable}: {file}, line {number}: it {trouble}")
    if not keys:
        raise ConfigurationError(f"{variable}: {file} has no key in it: it holds {each} a line")
    return tuple(key for _, key in keys)


def read_secret(file: Path | None, variable: str) -> str:
    """The one line in the file that this variable names: a password that somebody else's server has chosen. Raises
    ConfigurationError where there is none, or others than the owner may read it."""
    if file is None:
        raise ConfigurationError(f"{variable} is not set: name a file with the password")
    try:
        _check_private(file, variable)
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}: {file} cannot be read: {error}") from error
    if len(lines) != 1:
        raise ConfigurationError(f"{variable}: {file} has {len(lines)} lines: it holds the password, and nothing else")
    return lines[0].strip()


def check_is_there(file: Path | None, variable: str) -> None:
    """Raises ConfigurationError where the file that this variable names cannot be read."""
    try:
        if file is not None:
            file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{variable}: {file} cannot be read: {error}") from error


def weakness(key: str) -> str | None:
    """Why a key is none; None for one that will do."""
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "holds something else than letters, digits and signs of ASCII; comments have lines of their own"
    if len(key) < FEWEST_CHARACTERS:
        return f"has fewer than {FEWEST_CHARACTERS} characters: openssl rand -hex 32 makes a good one"
    if len(set(key)) < FEWEST_DIFFERENT:
        return f"has fewer than {FEWEST_DIFFERENT} different characters: openssl rand -hex 32 makes a good one"
    return None


def _check_private(file: Path, variable: str) -> None:
    """A file of our own is for us alone. One of somebody else's, as in a mounted Secret, our group may read."""
    status = file.stat()
    shared = 0o077 if status.st_uid == os.geteuid() else 0o027
    if stat.S_IMODE(status.st_mode) & shared:
        raise ConfigurationError(
            f"{variable}: {file} has mode {stat.S_IMODE(status.st_mode):04o}, so others may read or change it: "
            f"chmod 600 {file} (a Secret's volume: defaultMode 0400, or 0440 with an fsGroup)"
        )
