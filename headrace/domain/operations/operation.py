"""An operation: one durable request about a job, its steps and its end. Pure; knows no kind by what it means."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from headrace.domain.diff import Change
from headrace.domain.jobs import JobKey

_NAMESPACE = uuid.UUID("a3d0c9a6-3c1f-4f8e-9b57-6f1f0d7a1c55")


class KindName(StrEnum):
    """What an operation asks for: its name in records, routes and task names. `KINDS` says what each one means."""

    SUBMIT = "SUBMIT"
    STOP = "STOP"
    SCALE = "SCALE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    RESTART = "RESTART"
    UPGRADE = "UPGRADE"
    ROLLBACK = "ROLLBACK"
    DELETE = "DELETE"
    UNDELETE = "UNDELETE"
    SAVEPOINT = "SAVEPOINT"
    ADOPT = "ADOPT"
    RELEASE = "RELEASE"


class State(StrEnum):
    """Where an operation stands. The last four are terminal and carry a reason."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"


OPEN = frozenset({State.ACCEPTED, State.RUNNING})


class Step(StrEnum):
    """What an open operation does next (verbs) or waits for (AWAIT_…). Only Execute carries out verbs."""

    BEGIN = "BEGIN"
    CLEAR = "CLEAR"  # SUBMIT: what is left of the run before is being deleted
    CREATE = "CREATE"
    AWAIT_RUNNING = "AWAIT_RUNNING"
    AWAIT_SUSPENDED = "AWAIT_SUSPENDED"
    AWAIT_SNAPSHOT = "AWAIT_SNAPSHOT"  # SAVEPOINT: by a FlinkStateSnapshot
    AWAIT_SAVEPOINT = "AWAIT_SAVEPOINT"  # SAVEPOINT: by the deployment's nonce
    DELETE = "DELETE"
    AWAIT_GONE = "AWAIT_GONE"
    CLAIM = "CLAIM"  # ADOPT: the run is on record as it was found, and is being marked as ours
    LET_GO = "LET_GO"  # RELEASE: our marks are being taken off
    WITHDRAW = "WITHDRAW"  # the change is being taken back before the operation ends FAILED


DUE = frozenset({Step.BEGIN, Step.CLEAR, Step.CREATE, Step.DELETE, Step.CLAIM, Step.LET_GO, Step.WITHDRAW})
"""Steps that Execute has to act on; the others wait for an observation."""

LONGEST_LOOK_SECONDS = 60.0
"""What one look adds to the time that an operation has spent, at most: who looks seldom lets nothing run out."""

LONGEST_SKEW_SECONDS = 600.0
"""How far the clocks of two processes may be apart. A look from further ahead was by a clock that was wrong."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an operation came from: `via` is http, grpc, cli, celery, kafka or schedule; `detail` says which one
    exactly."""

    via: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation: what was asked, which the log keeps for good, and how far it is, which its job's document keeps.

    `arguments`: SUBMIT, UPGRADE, ROLLBACK: {"request": JobRequest as JSON, "template_id", "template_version", "given":
    what was said beside the template}, SUBMIT also "start_from", ROLLBACK "version", the one that it goes back to, and
    "to" where that was named;
    STOP: {"force": bool, "drain"}; DELETE: {"force": bool}; SCALE: {"parallelism": int}; RESUME: {"start_from"};
    SUSPEND, RESTART, SAVEPOINT, UNDELETE, RELEASE: {}; ADOPT: {"deployment": its name, "uid": that of the one that
    was there when it was accepted, "live_sequence" where it was this job's already, and its record lost}.
    `spent_seconds` of `deadline_seconds` are used up; `looked_at` is the last look that counted.
    `generation` is the deployment's metadata.generation at the first sight of what this operation wrote;
    `asserts` what the live spec has to hold for its success, and `inverse` the changes that take its write back, both
    on record before the write;
    `savepoint_before` the status' upgradeSavepointPath before it wrote; `savepoint_path` the state that it kept;
    `snapshot_before` the newest snapshot that there was before a nonce asked for one;
    `failure` the reason that a WITHDRAW step will end with;
    `holds` whether what it asked for was live at its end, and `run` the job's run then.
    """

    id: str
    tenant: str
    job_id: str
    sequence: int
    kind: KindName
    arguments: Mapping[str, Any]
    arguments_hash: str
    idempotency_key: str
    source: Source
    accepted_at: datetime
    updated_at: datetime
    deadline_seconds: float
    cluster: str = "default"
    namespace: str = "default"
    state: State = State.ACCEPTED
    step: Step = Step.BEGIN
    spent_seconds: float = 0.0
    looked_at: datetime | None = None
    not_before: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    generation: int | None = None
    deployment_uid: str | None = None
    asserts: tuple[Change, ...] = ()
    inverse: tuple[Change, ...] = ()
    savepoint_before: str | None = None
    savepoint_path: str | None = None
    snapshot_before: str | None = None
    trouble_since: datetime | None = None
    failure: str = ""
    holds: bool = False
    run: int | None = None

    @property
    def key(self) -> JobKey:
        """The job that it is about."""
        return JobKey(self.tenant, self.job_id)

    @property
    def place(self) -> tuple[str, str]:
        """The cluster and the namespace of the installation that accepted it."""
        return self.cluster, self.namespace

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    @property
    def has_written(self) -> bool:
        """Whether it may have changed the deployment already."""
        return self.step not in (Step.BEGIN, Step.CLEAR) or self.generation is not None

    @property
    def is_late(self) -> bool:
        """Whether its time is used up. It has been tried by then: the first look spends none."""
        return self.looked_at is not None and self.spent_seconds >= self.deadline_seconds

    def looked(self, at: datetime) -> Operation:
        """The operation after a look at it: the time since the last look is spent, a minute at most. Who looks by a
        clock that is behind spends none, and does not set the last look back: the next one, by another clock, would
        spend the difference between both again, and a deadline would pass in a moment."""
        last = self.looked_at or at
        since = (at - last).total_seconds()
        spent = self.spent_seconds + min(max(since, 0.0), LONGEST_LOOK_SECONDS)
        return replace(self, spent_seconds=spent, looked_at=last if -LONGEST_SKEW_SECONDS < since < 0 else at)

    def moved(self, step: Step, at: datetime, **facts: Any) -> Operation:
        """The operation at its next step."""
        return replace(self, step=step, state=State.RUNNING, updated_at=at, not_before=None, **facts)

    def ended(self, state: State, reason: str, at: datetime) -> Operation:
        """The operation at its end."""
        return replace(self, state=state, reason=reason, ended_at=at, updated_at=at)


def operation_id(tenant: str, idempotency_key: str) -> str:
    """The id that the same tenant and key always give (UUIDv5), so that two accepts of one request agree."""
    return str(uuid.uuid5(_NAMESPACE, f"{tenant}\n{idempotency_key}"))


def hash_of(kind: KindName, job_id: str, arguments: Mapping[str, Any]) -> str:
    """The SHA-256 of what was asked, independent of key order: tells a repeat from another body under one key."""
    text = json.dumps([kind, job_id, arguments], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
