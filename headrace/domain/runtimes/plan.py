"""What a runtime's plan is asked, and what it answers: a case in, effects out. Pure; carries nothing out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from headrace.domain.costs import Cost, CostlyChange
from headrace.domain.deployments import Deployment
from headrace.domain.diff import Change as FieldChange
from headrace.domain.failures import Explanation
from headrace.domain.goals import Goal
from headrace.domain.jobs import Job, Phase
from headrace.domain.manifest import Platform
from headrace.domain.operations import Operation, State, Step
from headrace.domain.snapshots import NotSeen, Snapshot, SnapshotsSeen
from headrace.domain.state_on_hand import NotAsked, Said, StateOnHand
from headrace.domain.vertices import Vertices


@dataclass(frozen=True)
class Live:
    """A deployment as it was just seen: typed, and whole where something is to be written."""

    deployment: Deployment
    whole: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A GET of the deployment's name just answered 404."""


class Look(StrEnum):
    """What a step has to know before it decides."""

    LIVE = "LIVE"
    CHECKPOINT = "CHECKPOINT"
    VERTICES = "VERTICES"
    SNAPSHOTS = "SNAPSHOTS"


NOT_ASKED = NotAsked("no JobManager was asked")
NOT_LOOKED_AT = NotSeen("nobody looked")


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a plan looks at. `job` has been shown the sight already; `refused` is what the operator's validation
    said of this operation's write (rule d)."""

    job: Job
    operation: Operation
    goal: Goal
    platform: Platform
    at: datetime
    grace_seconds: float
    sight: Live | Absent
    said: Said = NOT_ASKED
    vertices: Vertices | NotAsked = NOT_ASKED
    snapshots: SnapshotsSeen = NOT_LOOKED_AT
    refused: str | None = None


@dataclass(frozen=True)
class Begin:
    """A new run is on record, from `start_from`, with the manifest that will be created: the intent before the act."""

    run: int
    start_from: str | None
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Create:
    """The deployment is created, with what its pods wait for; it is deleted again where nobody wants it any more."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Adopt:
    """A deployment that this operation made before, or whose record was lost, is taken over as it is."""

    deployment: Deployment


@dataclass(frozen=True)
class Change:
    """`changes` are written behind the fence of the sight, then `then` is awaited. `intent` and `inverse` are on record
    before."""

    changes: Sequence[FieldChange]
    then: Step
    intent: Mapping[str, Any] | None = None
    asserts: tuple[FieldChange, ...] = ()
    inverse: tuple[FieldChange, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """The run is on record as it was found, with the manifest that is kept of it; then `changes`, labels and
    annotations alone, are written on the very version in sight."""

    run: int
    manifest: Mapping[str, Any]
    changes: Sequence[FieldChange]


@dataclass(frozen=True)
class Raise:
    """The live sequence is raised to this operation's, metadata alone: a worker that wakes late is stale too."""


@dataclass(frozen=True)
class Delete:
    """The deployment of this uid is deleted, then `then` is due."""

    uid: str
    then: Step
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class TakeSnapshot:
    """A FlinkStateSnapshot is created, unless there is one of its name."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class DropSnapshot:
    """A FlinkStateSnapshot is deleted, where it is as it was seen. The state that it names stays."""

    snapshot: Snapshot


@dataclass(frozen=True)
class Drive:
    """What the runtime has to do next for what is wanted already: `act` in its own words. `state` is the one on hand,
    where the act rests on that."""

    act: str
    state: StateOnHand | None = None


@dataclass(frozen=True)
class Keep:
    """A state's path is on record, with what else is known of it: Flink's number, its format, its size. `ran_since`
    says that the job ran on from there, whatever is seen of it now."""

    path: str
    number: int | None = None
    ran_since: bool = False
    format: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `seconds` are over; `why` stands as the operation's reason."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Move:
    """The operation is at this step, with these facts."""

    step: Step
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """The operation stays where it is, with these facts."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """The operation ends. `phase` is one that no sight can show, with its `explanation`; None leaves it to what is
    seen. `holds` says that what was asked is live, and so is what was applied last, whatever the end; `is_a_workers`
    that only who asked a JobManager can say it."""

    state: State
    reason: str
    phase: Phase | None = None
    explanation: Explanation | None = None
    holds: bool = False
    is_a_workers: bool = False


@dataclass(frozen=True)
class Renew:
    """The request of this operation is the job's from now on, then `end` is carried out. A worker's: the log has it."""

    end: End


Effect = (
    Begin
    | Create
    | Adopt
    | Change
    | Claim
    | Raise
    | Delete
    | TakeSnapshot
    | DropSnapshot
    | Drive
    | Keep
    | Wait
    | Move
    | Note
    | End
    | Renew
)
ON_RECORD = (Keep, Wait, Move, Note, End)
"""Effects that change records alone: whoever has the sight carries them out."""


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What would come of an operation: the places of the deployment that change, none of them a secret; what that costs
    (None of a run that is made), and causes in words; whether the job's state is kept (None where there is none, or
    nobody can know), and why; the manifest of a run that is made."""

    changes: Sequence[CostlyChange]
    cost: Cost | None
    causes: str
    keeps_state: bool | None
    state: str
    manifest: Mapping[str, Any] | None = None


class Plan(Protocol):
    """One pure module a runtime."""

    def looks(self, case: Case) -> frozenset[Look]:
        """What has to be known before `next` is asked: a sight of the deployment always is."""
        ...

    def next(self, case: Case) -> Sequence[Effect]:
        """What is to be done next, in this order; empty where the operation waits for another sight. Never raises."""
        ...

    def alone(self, job: Job, live: Deployment, said: Said) -> Drive | None:
        """What the runtime has to do next of a job of which nothing is asked, by what was `said` of its state: what an
        operation that has ended left begun. None where there is nothing, or where it has to be waited for."""
        ...

    def foreseen(self, case: Case) -> Foreseen | str:
        """What would come of an operation that has not begun, were it carried out now; else, in words, why that cannot
        be said."""
        ...

    @property
    def no_last_stable(self) -> str:
        """In words, why no deployment of this runtime has one to go back to; empty where one may."""
        ...

    def last_stable(self, whole: Mapping[str, Any], rendered: Sequence[Mapping[str, Any]]) -> int | str:
        """Which of the `rendered` manifests was what a deployment last ran by without trouble, by its place; else, in
        words, why there is no way back to that."""
        ...
