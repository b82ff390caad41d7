"""Savepoints and retained checkpoints as resources: which state there is on record, whose, and where. Pure.

A path is Flink's own; what stands there is never read.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from datetime import datetime

from headrace.domain.jobs import JobKey

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/*")
SAME_STORE = {"s3a": "s3", "s3n": "s3", "s3p": "s3"}
"""Schemes of file systems that read the same store."""

METADATA_FILE = "/_metadata"
"""Flink takes the path of a savepoint's own file for the savepoint's."""


@dataclass(frozen=True, kw_only=True)
class Savepoint:
    """State that a job could be started from. `kind` is savepoint or checkpoint, `run` the run of the job that made it,
    `operation` the id of the operation that kept it; `format` and `size_bytes` where they were said. `expires_at` is
    None for state that stays until somebody removes it."""

    tenant: str
    job_id: str
    path: str
    kind: str
    run: int
    at: datetime
    format: str | None = None
    operation: str | None = None
    size_bytes: int | None = None
    expires_at: datetime | None = None

    @property
    def key(self) -> JobKey:
        """The job that made it."""
        return JobKey(self.tenant, self.job_id)


def place_of(path: str) -> str:
    """One text for all the ways to write a path that lead Flink to the same state."""
    found = SCHEME.match(path)
    scheme, rest = (found.group(1).lower(), path[found.end() :]) if found else ("", path)
    folder = posixpath.normpath(f"/{rest}").removesuffix(METADATA_FILE)
    return f"{SAME_STORE.get(scheme, scheme)}:{folder}"
