"""Files for their owner alone: keys, tokens, logs and records of a laptop stack. Knows nothing of what is in them."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o077
"""The umask of everything that the commands of laptop mode and the processes that they start create."""


def write(file: Path, content: str | bytes) -> None:
    """Writes it so that nobody else can read it at any time, also where an earlier release left it open."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.truncate()
        stream.write(content.encode() if isinstance(content, str) else content)
