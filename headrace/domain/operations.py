"""An operation: one durable request about a job, its steps and its end. No I/O here."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from headrace.domain.jobs import Desired, JobKey, Phase

_NAMESPACE = uuid.UUID("a3d0c9a6-3c1f-4f8e-9b57-6f1f0d7a1c55")


class Kind(StrEnum):
    """What an operation asks for."""

    SUBMIT = "SUBMIT"
    STOP = "STOP"
    SCALE = "SCALE"


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
    DELETE = "DELETE"
    AWAIT_GONE = "AWAIT_GONE"
    WITHDRAW = "WITHDRAW"  # the change is being taken back before the operation ends FAILED


DUE = frozenset({Step.BEGIN, Step.CLEAR, Step.CREATE, Step.DELETE, Step.WITHDRAW})
"""Steps that Execute has to act on; the others wait for an observation."""

PHASE_WHILE_OPEN: Mapping[Kind, Phase] = {
    Kind.SUBMIT: Phase.STARTING,
    Kind.STOP: Phase.CANCELLING,
    Kind.SCALE: Phase.SCALING,
}

DESIRED_BY: Mapping[Kind, Desired] = {
    Kind.SUBMIT: Desired.RUNNING,
    Kind.STOP: Desired.CANCELLED,
    Kind.SCALE: Desired.RUNNING,
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an operation came from: `via` is http, cli, celery, kafka or schedule; `detail` says which one exactly."""

    via: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation's record. The first insert is the commit point of accepting; `version` counts writes.

    `arguments`: SUBMIT: {"request": JobRequest as JSON, "template_id", "template_version", "start_from"};
    STOP: {"force": bool}; SCALE: {"parallelism": int}.
    `generation` is the deployment's metadata.generation that this operation wrote; `savepoint_before` the
    status' upgradeSavepointPath before it wrote; `savepoint_path` the state that it kept;
    `failure` a reason that a WITHDRAW step will end with.
    """

    id: str
    tenant: str
    job_id: str
    sequence: int
    kind: Kind
    arguments: Mapping[str, Any]
    arguments_hash: str
    idempotency_key: str
    source: Source
    accepted_at: datetime
    updated_at: datetime
    deadline: datetime
    state: State = State.ACCEPTED
    step: Step = Step.BEGIN
    attempts: int = 0
    not_before: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    generation: int | None = None
    deployment_uid: str | None = None
    savepoint_before: str | None = None
    savepoint_path: str | None = None
    trouble_since: datetime | None = None
    failure: str = ""
    version: int = 0

    @property
    def key(self) -> JobKey:
        """The job that it is about."""
        return JobKey(self.tenant, self.job_id)

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN

    @property
    def has_written(self) -> bool:
        """Whether it may have changed the deployment already."""
        return self.step not in (Step.BEGIN, Step.CREATE) or self.generation is not None


def operation_id(tenant: str, idempotency_key: str) -> str:
    """The id that the same tenant and key always give (UUIDv5), so that two accepts of one request agree."""
    return str(uuid.uuid5(_NAMESPACE, f"{tenant}\n{idempotency_key}"))


def hash_of(kind: Kind, job_id: str, arguments: Mapping[str, Any]) -> str:
    """The SHA-256 of what was asked, independent of key order: tells a repeat from another body under one key."""
    text = json.dumps([kind, job_id, arguments], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def supersedes(later: Kind, earlier: Operation) -> bool:
    """Whether accepting `later` ends the open `earlier` (the closed table of docs/architecture.md).

    STOP ends any open operation before it, begun or not; a later SCALE ends a SCALE that has not written.
    """
    if later is Kind.STOP:
        return True
    return later is Kind.SCALE and earlier.kind is Kind.SCALE and not earlier.has_written
