"""What happened while a schedule was played, as whoever looks from outside could see it: what the checker judges.

Must not know how it was brought about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headrace.domain.deployments import JOB_ID_ANNOTATION, OPERATION_ANNOTATION, SEQUENCE_ANNOTATION
from tests.processes.proxies import Write

Whole = Mapping[str, Any]


@dataclass
class Ask:
    """A request for an operation, by one way, under one key; `answers` are the HTTP status and the operation's id of
    each try that was answered. `is_sure`: a Kafka broker has it, so that it may not be lost."""

    at: float
    key: str
    via: str
    kind: str
    job_id: str
    arguments: Mapping[str, Any]
    is_sure: bool = False
    answers: list[tuple[int, str]] = field(default_factory=list)
    sequence: int | None = None
    answered_at: float | None = None
    longest_seconds: float = 0.0

    @property
    def acknowledged(self) -> set[str]:
        """The operations that it was told it has become."""
        return {operation for status, operation in self.answers if status in (200, 202)}


@dataclass(frozen=True)
class Struck:
    """A fault, as it was played: when, what, and for how long."""

    at: float
    what: str
    seconds: float
    job_id: str = ""


@dataclass(frozen=True)
class Version:
    """A deployment as the API had it; `was_deleted`: this was its last."""

    at: float
    was_deleted: bool
    whole: Whole

    @property
    def name(self) -> str:
        return str(self.whole["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.whole["metadata"]["uid"])

    @property
    def job_id(self) -> str:
        return str(self.annotations.get(JOB_ID_ANNOTATION, ""))

    @property
    def made_by(self) -> str:
        return str(self.annotations.get(OPERATION_ANNOTATION, ""))

    @property
    def sequence(self) -> int:
        return int(self.annotations.get(SEQUENCE_ANNOTATION, 0))

    @property
    def annotations(self) -> Mapping[str, Any]:
        return self.whole["metadata"].get("annotations") or {}


@dataclass(frozen=True)
class AtRest:
    """What the readers' API and the cluster say of a job once nothing strikes any more."""

    job: Whole
    operations: Sequence[Whole]
    transitions: Sequence[Whole]
    savepoints: Sequence[str]
    live: Whole | None
    truth: Whole | None


@dataclass
class History:
    """Everything of one schedule. `by_key` is the operation that each key has become; `letters` the keys of records
    that were put aside; `gone` what the operator let go of, and the state that it had."""

    seed: int
    asks: list[Ask] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    jobs: dict[str, AtRest] = field(default_factory=dict)
    by_key: dict[str, Whole] = field(default_factory=dict)
    letters: set[str] = field(default_factory=set)
    gone: list[Whole] = field(default_factory=list)
    restless: str = ""

    def touched(self, job_id: str) -> bool:
        """Whether somebody's hand was at its deployment."""
        return any(each.what.startswith("hand ") and each.job_id == job_id for each in self.struck)

    def versions_of(self, job_id: str) -> list[Version]:
        """Every version of the deployments of a job, in the API's order; one whose annotations are gone by its name."""
        return [each for each in self.versions if each.name == job_id]

    def written(self) -> str:
        """As text, for who looks into it."""
        return json.dumps(asdict(self), indent=1, default=lambda each: sorted(each) if isinstance(each, set) else "?")
