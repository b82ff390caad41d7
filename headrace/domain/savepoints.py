"""Savepoints and retained checkpoints as resources: which state there is on record, whose, and where. Pure.

A path is Flink's own; what stands there is never read.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from headrace.domain.jobs import JobKey
from headrace.domain.savepoint_settings import SavepointSettings

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/*")
SAME_STORE = {"s3a": "s3", "s3n": "s3", "s3p": "s3", "abfss": "abfs", "wasbs": "wasb"}
"""Schemes of file systems that read the same store."""

METADATA_FILE = "/_metadata"
"""Flink takes the path of a savepoint's own file for the savepoint's."""


@dataclass(frozen=True, kw_only=True)
class Savepoint:
    """State that a job could be started from. `kind` is savepoint or checkpoint, `run` the run of the job that made it,
    `operation` the id of the operation that kept it; `format` and `size_bytes` where they were said. `expires_at` and
    `kept_because` are filled in for readers: when it may go for its age, None where it stays, and why it has to.
    `disposing_since` says that it is to go, and no job may be started from it any more; `goes_at` when it is tried
    next; `trouble` what keeps it from going; `disposed_at` that Flink has removed it."""

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
    disposing_since: datetime | None = None
    goes_at: datetime | None = None
    disposed_at: datetime | None = None
    trouble: str = ""
    kept_because: str = ""

    @property
    def key(self) -> JobKey:
        """The job that made it."""
        return JobKey(self.tenant, self.job_id)


def surplus(newest_first: Sequence[Savepoint], kept: SavepointSettings, at: datetime) -> list[Savepoint]:
    """Which of a job's savepoints are beyond what it keeps, by count or by age: never the last, and no checkpoint. What
    is to go already counts for none, and what is on record by two paths for one."""
    staying = [(place_of(each.path), each) for each in newest_first if _stays(each)]
    places = list(dict.fromkeys(place for place, _ in staying))
    beyond = set(places[kept.kept :]) if kept.kept is not None else set()
    return [each for place, each in staying if place != places[0] and (place in beyond or _is_old(each, kept, at))]


def _stays(savepoint: Savepoint) -> bool:
    return savepoint.kind == "savepoint" and savepoint.disposing_since is None


def _is_old(savepoint: Savepoint, kept: SavepointSettings, at: datetime) -> bool:
    until = kept.expires_at(savepoint.at)
    return until is not None and until <= at


CHECKPOINT = re.compile(r"(.*/chk-)([0-9]{1,18})/?")


def checkpoints_beside(path: str) -> str | None:
    """What the paths of all checkpoints of the same Flink job begin with (FsCheckpointStorageAccess: `<Flink's job
    id>/chk-<number>`). None of what is no such path."""
    found = CHECKPOINT.fullmatch(path)
    return found.group(1) if found else None


def subsumed(paths: Iterable[str]) -> list[str]:
    """Of the checkpoints of one Flink job those that a later one, by its number, has taken the place of: Flink removes
    them."""
    numbers = {path: int(found.group(2)) for path in paths if (found := CHECKPOINT.fullmatch(path))}
    return [path for path, number in numbers.items() if number < max(numbers.values())]


def place_of(path: str) -> str:
    """One text for all the ways to write a path that lead Flink to the same state."""
    found = SCHEME.match(path)
    scheme, rest = (found.group(1).lower(), path[found.end() :]) if found else ("", path)
    folder = posixpath.normpath(f"/{rest}").removesuffix(METADATA_FILE)
    return f"{SAME_STORE.get(scheme, scheme)}:{folder}"
