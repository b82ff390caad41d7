"""What a kind of operation is: every kind is one module beside this one. Pure; knows no runtime and no record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.domain.goals import Goal
from headrace.domain.jobs import SETTLED, Desired, Job, Phase
from headrace.domain.operations.operation import KindName, Operation
from headrace.domain.validation import problems_of
from headrace.errors import InvalidRequest


class Arguments(BaseModel):
    """What may be sent for a kind, the same by HTTP, gRPC, Celery and Kafka; a field that there is not is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NoArguments(Arguments):
    """What is sent for a kind that needs nothing but its job."""


@dataclass(frozen=True)
class Expected:
    """A job as its open operations will leave it: what a request is judged by.

    `phase` is the one that the last of them leads to, or the job's own where none is open; `job` is None before its
    first SUBMIT is placed.
    """

    job_id: str
    job: Job | None
    phase: Phase
    open_operations: Sequence[Operation] = ()

    @property
    def is_settled(self) -> bool:
        """Whether no run of the job is left to go on."""
        return self.phase in SETTLED

    @property
    def last(self) -> Operation | None:
        """The open operation behind which the request will wait."""
        return self.open_operations[-1] if self.open_operations else None

    def open_of(self, name: KindName) -> Operation | None:
        """The open operation of a kind, where there is one."""
        return next((operation for operation in self.open_operations if operation.kind is name), None)


class Kind(ABC):
    """What one kind of operation asks for, and when it may. Stateless, one instance a kind."""

    name: ClassVar[KindName]
    """As records have it; `word` in tasks, routes and commands."""
    Arguments: ClassVar[type[Arguments]]
    shown: ClassVar[tuple[str, ...]] = ()
    """The arguments that logs and Flower may show; others may hold what a user typed."""
    phase: ClassVar[Phase | None]
    """What its job shows while it is open and has written; None where it changes nothing of what is seen."""
    desired: ClassVar[Desired]
    leads_to: ClassVar[Phase]
    """The phase that its success leaves, for those who are accepted behind it."""
    rules_the_phase: ClassVar[bool] = False
    """Whether its phase shows whatever is seen (rule e)."""
    resolves: ClassVar[bool] = False
    """Whether it renders a request anew, which the log keeps with it."""
    begins_a_run: ClassVar[bool] = False
    """Whether it makes a run from a template and its overrides, and a job where there is none of the name."""
    can_be_foreseen: ClassVar[bool] = False
    """Whether what it would change can be said before it is asked for."""
    makes_a_job: ClassVar[bool] = False
    """Whether there need be no job of the name before it."""

    @property
    def word(self) -> str:
        """Its name in a route, and behind `flink.` in a task's."""
        return self.name.lower()

    def asked(self, given: Mapping[str, Any]) -> BaseModel:
        """What was sent, checked. Raises InvalidRequest that names each field."""
        try:
            return self.Arguments.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest(problems_of(error, self.Arguments)) from error

    @abstractmethod
    def refusal(self, expected: Expected) -> str | None:
        """Why it cannot be accepted now, with what to do; None where it can, be it only to wait its turn."""

    def refusal_of(self, expected: Expected, arguments: Mapping[str, Any]) -> str | None:
        """The same, of what is asked with these arguments."""
        return self.refusal(expected)

    @abstractmethod
    def goal(self, operation: Operation) -> Goal:
        """What it comes to."""

    def supersedes(self, earlier: Operation) -> bool:
        """Whether accepting it ends the open `earlier` (the closed table of docs/architecture.md)."""
        return False

    def result(self, job: Job, operation: Operation) -> Job:
        """The job's record once what was asked holds."""
        return job


ENDS_THE_RUN = (KindName.STOP, KindName.DELETE)
"""Kinds behind which there is no run to act on."""


def no_run(kind: Kind, expected: Expected) -> str | None:
    """Why a kind that acts on a run cannot be accepted: there is none, or it is about to end."""
    last = expected.last
    if last is not None and last.kind in ENDS_THE_RUN:
        words = f"while a {last.kind} is open {since(last)}; SUBMIT it anew after it"
        return f"job {expected.job_id}: cannot {kind.name} {words}"
    if expected.is_settled:
        return f"job {expected.job_id}: cannot {kind.name}, it is {expected.phase}; SUBMIT begins another run"
    return None


def at_rest(kind: Kind, expected: Expected) -> str | None:
    """Why a kind that needs a job that runs cannot be accepted: it rests."""
    if expected.phase is not Phase.SUSPENDED:
        return None
    return f"job {expected.job_id}: cannot {kind.name} while SUSPENDED; RESUME it first, or STOP and SUBMIT it anew"


def since(operation: Operation) -> str:
    """Which operation is in the way, for a refusal."""
    return f"(operation {operation.id}, since {operation.accepted_at:%H:%M:%SZ})"
