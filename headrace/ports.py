"""What the use cases need from outside, as Protocols. No framework and no driver is known here.

Every call is bounded in time by its adapter. Every adapter raises `headrace.errors` alone: Unavailable where a
server did not answer, Refused where it said no. Expected absence is a return value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from headrace.domain.api_keys import ApiKey
from headrace.domain.deployments import Deployment
from headrace.domain.diff import Change
from headrace.domain.document import JobDocument
from headrace.domain.events import EventSeen
from headrace.domain.incoming_events import Arrived, Origin
from headrace.domain.jobs import Job, JobKey, Observation, Phase, Transition
from headrace.domain.operations import Operation
from headrace.domain.pods import PodSeen
from headrace.domain.runtime_reports import Process, RuntimeReport
from headrace.domain.runtimes.plan import Drive
from headrace.domain.savepoints import Savepoint
from headrace.domain.sealed import Anew, Owner, SealedText
from headrace.domain.snapshots import Snapshot
from headrace.domain.state_on_hand import Checkpoints, HaMetadata
from headrace.domain.stock import LeaseSeen, OpenOperation
from headrace.domain.templates import Template
from headrace.domain.triggers import Trigger
from headrace.domain.vertices import Vertices
from headrace.domain.waiting import Progress

__all__ = [
    "WHOLE_LOG",
    "Anybodys",
    "AsSeen",
    "Change",
    "Checkpoints",
    "Clock",
    "Cursor",
    "DeadLetter",
    "Driven",
    "EventSeen",
    "ExceptionSeen",
    "Fence",
    "FlinkRuntime",
    "HaMetadata",
    "Inserted",
    "JobFilter",
    "JobManager",
    "Lease",
    "LetterBox",
    "LogPart",
    "LogStream",
    "NotThere",
    "Owner",
    "Page",
    "PodSeen",
    "Pods",
    "Progress",
    "Scope",
    "SealedText",
    "Sealer",
    "Store",
    "TaskQueue",
    "WatchEvent",
]


class Clock(Protocol):
    """Time, so that tests can hold it."""

    def now(self) -> datetime:
        """The present moment, timezone-aware, UTC."""
        ...


@dataclass(frozen=True)
class Fence:
    """What must still be true of a deployment for a write to happen: its uid and the sequence it carries."""

    uid: str
    sequence: int


@dataclass(frozen=True)
class AsSeen:
    """What must still be true of a deployment that has no sequence of ours: it is the very version that was seen."""

    uid: str
    resource_version: str


@dataclass(frozen=True)
class Page:
    """One page of a list of deployments and the resourceVersion of the whole list. `unreadable` has events of kind
    UNREADABLE for those that cannot be read. `is_whole` is False of a runtime whose objects say what is wanted alone:
    of them the metadata are there, and a `get` shows what is."""

    deployments: Sequence[Deployment]
    resource_version: str
    unreadable: Sequence[WatchEvent] = ()
    is_whole: bool = True


@dataclass(frozen=True)
class Anybodys:
    """A page of a namespace's deployments as the API server has them, whoever made them; `further` asks for the next
    one, and is empty at the end."""

    deployments: Sequence[Mapping[str, Any]]
    further: str


@dataclass(frozen=True)
class WatchEvent:
    """One event of a watch: kind ADDED, MODIFIED, DELETED; BOOKMARK, or UNREADABLE with `why`: `deployment` has
    metadata only then. TOUCHED is of a runtime whose objects do not show what runs: a `get` does. `cursor` is how far a
    watch is with it."""

    kind: str
    deployment: Deployment
    why: str = ""
    cursor: str = ""


class LogStream(Iterator[bytes], Protocol):
    """A log as it comes, in pieces of any length."""

    def close(self) -> None:
        """Closes it, also while another thread waits for its next piece: that thread gets StopIteration. Idempotent."""
        ...


@dataclass(frozen=True)
class LogPart:
    """Which part of a log, from its end. None is no bound.

    `follow_seconds` above 0 goes on with what is printed from now on, for that long or until the container ends; a log
    that is silent from its beginning may be over sooner. `previous` is the container before a restart; `timestamps`
    puts a time of RFC 3339 and a space before each line.
    """

    tail_lines: int | None = None
    since_seconds: int | None = None
    previous: bool = False
    timestamps: bool = False
    follow_seconds: float = 0
    limit_bytes: int | None = None


WHOLE_LOG = LogPart()


class Pods(Protocol):
    """What runs for a deployment, and what it and Kubernetes say of it. Reads alone."""

    def pods(self, namespace: str, name: str, labels: Mapping[str, str]) -> Sequence[PodSeen]:
        """The pods of this deployment, as the operator labels them, that carry these labels too; those that were
        started last first."""
        ...

    def logs(self, namespace: str, pod: str, container: str, wanted: LogPart = WHOLE_LOG) -> LogStream | None:
        """What a container of a pod printed, as it printed it; None where the pod is gone. Raises Refused where that
        container has not started, or was not restarted; a stream may raise Unavailable."""
        ...

    def events(self, namespace: str, name: str) -> Sequence[EventSeen]:
        """The newest events of this deployment, its JobManager's Deployment and their pods, newest last. The API
        server keeps them for about an hour."""
        ...

    def pod_events(self, namespace: str, pod: str) -> Sequence[EventSeen]:
        """The newest events of one pod, newest last, in one bounded read."""
        ...


class FlinkRuntime(Pods, Protocol):
    """Where deployments go, and what they made is looked at. Writes are fenced; nothing is ever created by a patch."""

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        """Creates the FlinkDeployment under strict field validation; None where one of that name exists already.

        A write that timed out is read back: where the same operation's annotation stands, it counts as done. Raises
        Refused where the server says no, and where it has no CRD of FlinkDeployments.
        """
        ...

    def patch(self, namespace: str, name: str, fence: Fence | AsSeen, changes: Sequence[Change]) -> Deployment | None:
        """One JSON patch that tests uid and sequence, or uid and resourceVersion, and applies `changes`; None where the
        fence did not hold or the deployment's shape has drifted (the API server answers 422 to all of these alike:
        read, classify, rebuild). Raises Refused for 400 and 403, and for a 422 that a read shows to be the schema's."""
        ...

    def get(self, namespace: str, name: str) -> Deployment | None:
        """The deployment, or None on a real 404. Raises Refused as `create` does, and Unanswered where what runs shows
        itself by a server of its own, which ought to answer and has not yet (native mode)."""
        ...

    def get_whole(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The deployment as the API server has it, or None on a real 404. Raises as `get` does."""
        ...

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """Asks for deletion with a uid precondition; False where it is gone or has another uid. Idempotent."""
        ...

    def put_files(self, deployment: Deployment, name: str, files: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """Makes the ConfigMap `name` with `files`, owned by `deployment`. Idempotent: content and owner are set."""
        ...

    def put_secret(
        self, deployment: Deployment, name: str, values: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Makes the Secret `name` with `values`, owned by `deployment`. Idempotent: content and owner are set."""
        ...

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        """All deployments that carry our job label, in pages of one consistent list."""
        ...

    def list_anybodys(self, namespace: str, limit: int, after: str = "") -> Anybodys:
        """At most `limit` deployments, ours or not, behind those that `after` (a page's `further`) stands for. Raises
        HistoryGone where that is too old: begin anew."""
        ...

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """Events after `resource_version`, for at most `timeout_seconds`. Raises HistoryGone on 410."""
        ...

    def create_snapshot(self, manifest: Mapping[str, Any]) -> bool:
        """Creates the FlinkStateSnapshot under strict field validation; False where one of that name exists already.
        Raises Refused where the server says no."""
        ...

    def snapshots_of(self, namespace: str, name: str) -> Sequence[Snapshot] | None:
        """The FlinkStateSnapshots of this deployment, in the order of their making; None where the cluster has none of
        the kind. Raises Refused where the account may not look."""
        ...

    def delete_snapshot(self, namespace: str, snapshot: Snapshot) -> bool:
        """Asks for deletion of a FlinkStateSnapshot as it was seen; False where it is gone or another by now."""
        ...

    def ha_metadata(self, namespace: str, name: str, flink_job_id: str) -> HaMetadata | None:
        """What Flink's HA metadata in Kubernetes keep of this job of this deployment; None where there are none, or
        none that can be read. Raises Refused where the account may not look."""
        ...

    def flink_versions(self) -> Sequence[str]:
        """The values that the live CRD's enum of spec.flinkVersion has, oldest first (cached for minutes)."""
        ...

    def lacks(self, namespace: str, process: Process) -> Sequence[str]:
        """What this process' account, and its machine, lack for the part of this one in running jobs in the namespace,
        each in words; nothing where it works. Raises Unavailable, and Refused where the account may not ask."""
        ...

    def drive(self, namespace: str, name: str, uid: str, drive: Drive) -> Driven:
        """Carries out an act that a sight of this deployment has shown to be due, where it still is; an operator that
        does so by itself is never asked. Every act is fenced by what it was chosen by, and may be repeated. Raises
        Unavailable, and Refused where a server said no."""
        ...


class Driven(StrEnum):
    """What came of an act: something has changed, nothing has yet, or only another process can carry it out."""

    CHANGED = "CHANGED"
    WAITS = "WAITS"
    ELSEWHERE = "ELSEWHERE"


@dataclass(frozen=True)
class ExceptionSeen:
    """One entry of a job's exception history; a long stack trace has its middle left out."""

    at: datetime
    exception_name: str
    stacktrace: str
    task_name: str = ""
    endpoint: str = ""
    task_manager_id: str = ""


class JobManager(Protocol):
    """A JobManager's REST API, found from the deployment's namespace and name."""

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """What it says of the job's state. Raises Unavailable where the JobManager cannot be reached, does not know
        the job, or answers nonsense."""
        ...

    def exceptions(self, namespace: str, name: str, flink_job_id: str) -> Sequence[ExceptionSeen]:
        """The job's exception history as the JobManager has it (the last 16, as a rule), newest last.

        Raises Unavailable where the JobManager cannot be reached.
        """
        ...

    def vertices(self, namespace: str, name: str, flink_job_id: str) -> Vertices:
        """The job's vertices, each with the parallelism at which it runs now. Raises Unavailable where the JobManager
        cannot be reached, does not know the job, or answers nonsense."""
        ...

    def dispose(self, namespace: str, name: str, path: str) -> None:
        """Has Flink remove the savepoint at this path, and waits for that; one that is gone already is well. Raises
        Unavailable where the JobManager cannot be reached or is not done in time: again is harmless; Refused where
        Flink could not, with its reason."""
        ...

    def progress(self, namespace: str, name: str, flink_job_id: str) -> Progress:
        """How far it is with the job, and what it has for it. A job that it does not know has no state.

        Raises Unavailable where the JobManager cannot be reached.
        """
        ...


@dataclass(frozen=True)
class Scope:
    """Whose jobs an installation touches: two on one database never touch each other's."""

    tenant: str
    cluster: str
    namespace: str

    def lease(self, what: str) -> str:
        """The name of this installation's lease for something that must not overlap."""
        return f"{what}/{self.tenant}/{self.cluster}/{self.namespace}"

    def has(self, job: Job) -> bool:
        """Whether the job is this installation's."""
        return (job.tenant, job.cluster, job.namespace) == (self.tenant, self.cluster, self.namespace)


@dataclass(frozen=True)
class Cursor:
    """How far the sync is: the resourceVersion of the last stored change, and when it was last stored."""

    resource_version: str
    at: datetime


@dataclass(frozen=True)
class Inserted:
    """What an insert of an operation came to: the stored one, and whether this call stored it."""

    operation: Operation
    created: bool


@dataclass(frozen=True)
class Lease:
    """A right to do what must not overlap. `token` grows with each holder: a write by an older one changes nothing."""

    name: str
    token: int


@dataclass(frozen=True)
class JobFilter:
    """Which jobs to list: None means any."""

    phase: Phase | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Remains:
    """What a run that has ended has left in the cluster: since when, and how long its request wants it kept; None where
    it leaves that to the installation. `is_done` says that it is a native run's that has FINISHED: by itself Flink's
    native mode leaves nothing of one."""

    key: JobKey
    since: datetime
    kept_hours: float | None = None
    is_done: bool = False


@dataclass(frozen=True)
class Steady:
    """A job that is RUNNING since then, and of which nothing is asked; its run, and its own settings of savepoints."""

    key: JobKey
    run: int
    since: datetime
    savepoints: Mapping[str, Any] | None = None


class Store(Protocol):
    """The records in MongoDB (docs/architecture.md#records). Every write is majority and journaled."""

    def insert_operation(self, operation: Operation) -> Inserted:
        """The commit point: one insert into the log, not yet placed. A known idempotency key gives back what is stored
        under it; a sequence that is taken raises LostRace (take the next one)."""
        ...

    def insert_operations(self, operations: Sequence[Operation]) -> Collection[str]:
        """The same for many, one a job at most, in one call: returns the ids of those that it stored. A key or a
        sequence that is taken keeps none of the others out."""
        ...

    def known_jobs(self, keys: Sequence[JobKey]) -> Collection[JobKey]:
        """Those of these jobs that have a document, or anything in the log."""
        ...

    def add_documents(self, documents: Sequence[JobDocument]) -> Collection[JobKey]:
        """Stores documents of new jobs in one call: returns the keys of those that it stored. A job that has a document
        by now, or a deployment's name that is another's, keeps none of the others out."""
        ...

    def operation(self, tenant: str, operation_id: str) -> Operation | None:
        """One operation as the log has it: as it was accepted, or with its outcome."""
        ...

    def operation_by_key(self, tenant: str, idempotency_key: str) -> Operation | None:
        """One operation of the log by its idempotency key."""
        ...

    def operations_of(self, key: JobKey, after: int = 0, limit: int = 1000) -> Sequence[Operation]:
        """A job's operations in the log, in their order, those with a sequence above `after`."""
        ...

    def unplaced(self, scope: Scope, limit: int) -> Mapping[JobKey, Sequence[str]]:
        """The ids of operations that are marked as in no document yet, by their jobs, the longest accepted first."""
        ...

    def clear_unplaced(self, operation_ids: Sequence[str]) -> None:
        """Remembers that the documents of their jobs have these operations. Idempotent."""
        ...

    def write_outcomes(self, operations: Sequence[Operation]) -> None:
        """Writes how operations ended into the log. Idempotent; an outcome that is there stays."""
        ...

    def document(self, key: JobKey) -> JobDocument | None:
        """One job's document."""
        ...

    def documents(self, keys: Sequence[JobKey]) -> Sequence[JobDocument]:
        """The documents of these jobs, those that exist, in one read. What only a writer of manifests needs is left
        out of them: requests, manifests and kept logs read as empty, and writing such a document leaves them alone."""
        ...

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """Writes the fields that differ, where the stored revision is `before.revision` (0: where there is no document
        yet), and returns `after`. Raises LostRace where it is not, and NameTaken where a new document has the
        deployment's name of another one in that cluster and namespace."""
        ...

    def write_all(self, changed: Sequence[tuple[JobDocument, JobDocument]]) -> Sequence[JobKey]:
        """The same for many, in one call: returns the keys of those that lost their race."""
        ...

    def flushed(self, documents: Sequence[JobDocument]) -> None:
        """Empties what the log and the transitions have by now out of these documents, where their revision is still
        the same; `due_at` is set anew. No revision moves."""
        ...

    def due(self, scope: Scope, at: datetime, limit: int, *, for_workers: bool) -> Sequence[JobDocument]:
        """Documents, as `documents` gives them, that are due by then, the longest due first: those whose operation a
        worker has to act on, or the others."""
        ...

    def job(self, key: JobKey) -> Job | None:
        """One job as its document has it."""
        ...

    def list_jobs(
        self, tenant: str, where: JobFilter, after: str | None, limit: int, *, lean: bool = False
    ) -> Sequence[JobDocument]:
        """The documents of a tenant's jobs by job_id, those behind `after`, without kept logs and manifests; `lean` is
        without requests too. Those that are DELETED are listed where that phase is asked for, while they have records.
        """
        ...

    def remains(self, scope: Scope) -> Sequence[Remains]:
        """Runs of the scope that have FINISHED, FAILED or were CANCELLED while their deployment is not gone, and of
        whose jobs nothing is asked, the longest ended first: 5,000 at most."""
        ...

    def steady(self, scope: Scope, *, of_all: bool) -> Sequence[Steady]:
        """Jobs of the scope that are RUNNING with no open operation, by their ids: 20,000 at most. Without `of_all`
        those alone that have settings of savepoints of their own."""
        ...

    def deleted(self, scope: Scope, before: datetime, limit: int) -> Sequence[JobKey]:
        """Jobs of the scope that are DELETED since before then, the longest first. What is left of one whose records
        are all gone does not say since when."""
        ...

    def forget(self, key: JobKey, up_to: int, transitions: int) -> None:
        """Removes a job's first so many transitions, and what its operations up to this sequence were asked for, with
        their reasons: what is left of those tells a repeat from another request. Idempotent."""
        ...

    def drop_forgotten(self, scope: Scope, before: datetime) -> None:
        """Removes what `forget` left of operations that were accepted before then. Idempotent."""
        ...

    def versions(self, scope: Scope) -> Mapping[str, str | None]:
        """What a relist compares with: the resourceVersion last stored of every deployment of the scope that was not
        seen gone, by its uid."""
        ...

    def jobs_of(self, scope: Scope, uids: Collection[str]) -> Sequence[JobKey]:
        """Whose these deployments are, of those that were not seen gone."""
        ...

    def jobs_in(self, scope: Scope, phases: Collection[Phase], limit: int) -> Sequence[JobKey]:
        """Jobs of the scope in one of these phases, at most so many; those for whose `waiting` was looked longest ago
        first, those never looked at before all."""
        ...

    def count_phases(self, scope: Scope) -> Mapping[str, int]:
        """How many jobs of the scope are in which phase, those with records of deleted ones too."""
        ...

    def open_operations(self, scope: Scope) -> Sequence[OpenOperation]:
        """What has not ended in the scope: of 10,000 jobs at most, and 10,000 that are in no document yet. One that is
        just being placed may stand there twice."""
        ...

    def mark(self, scope: Scope, observation: Observation, at: datetime | None) -> None:
        """Sets how fresh our knowledge is of every job of the scope that is not settled and has a deployment; `at` is
        when it was observed, where it was."""
        ...

    def add_transitions(self, transitions: Sequence[Transition]) -> None:
        """Stores what is not stored yet, by number; one that is there already is left as it is."""
        ...

    def transitions_of(self, key: JobKey, limit: int = 1000) -> Sequence[Transition]:
        """The newest part of a job's history, oldest first."""
        ...

    def add_savepoint(self, savepoint: Savepoint) -> None:
        """Remembers a savepoint or retained checkpoint by its tenant and path. Idempotent: the first stays. A
        checkpoint takes the place of the earlier ones of its Flink job, which are forgotten."""
        ...

    def savepoints_of(
        self, tenant: str, job_id: str | None, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Savepoint]:
        """A tenant's savepoints that are not disposed of, of one job or of all, the newest first; those behind
        `before`, a time and a path."""
        ...

    def savepoints_at(self, path: str) -> Sequence[Savepoint]:
        """What any tenant has on record of the state at this path, however they wrote the path; also what is disposed
        of."""
        ...

    def mark_savepoint(self, before: Savepoint, after: Savepoint) -> bool:
        """Writes what has become of a savepoint, where its disposal stands as in `before`; False where it does not."""
        ...

    def disposing(self, tenant: str, at: datetime, limit: int) -> Sequence[Savepoint]:
        """Savepoints that go by then and are not gone, the longest due first."""
        ...

    def newest_savepoint(self, key: JobKey) -> Savepoint | None:
        """The newest savepoint of a job, checkpoints left out, that is not to go."""
        ...

    def savepoint_settings(self, keys: Collection[JobKey]) -> Mapping[JobKey, Mapping[str, Any]]:
        """The own settings of savepoints of these jobs, in one read; empty ones where a job has none. Jobs that have no
        record are left out."""
        ...

    def states_in_use(self) -> Mapping[str, JobKey]:
        """The paths of the states that jobs of any tenant have started from, rest with, or are asked to start from,
        and one job for each. Reads every job."""
        ...

    def put_template(self, template: Template, tenant: str) -> Template:
        """Stores it as the next version, or gives back the newest where its content is the same."""
        ...

    def template(self, tenant: str, template_id: str, version: int | None = None) -> Template | None:
        """A template's newest version, or the one named."""
        ...

    def templates(self, tenant: str) -> Sequence[Template]:
        """The newest version of each template, by id."""
        ...

    def put_trigger(self, scope: Scope, trigger: Trigger) -> Trigger:
        """Stores it whole in the place of the one of its name, one revision on, or gives back what is there where that
        says the same. Raises TooMany where the scope has as many as it may."""
        ...

    def trigger(self, scope: Scope, name: str) -> Trigger | None:
        """One trigger of the scope."""
        ...

    def triggers(self, scope: Scope) -> Sequence[Trigger]:
        """The scope's triggers by name."""
        ...

    def delete_trigger(self, scope: Scope, name: str) -> bool:
        """Removes it; False where there is none of the name."""
        ...

    def add_api_key(self, key: ApiKey) -> None:
        """Stores a key. Raises Conflict where its name is another's, TooMany where the tenant has MOST_API_KEYS."""
        ...

    def api_key(self, tenant: str, digest: str) -> ApiKey | None:
        """The key of this digest, revoked or not."""
        ...

    def api_keys(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's keys by name."""
        ...

    def revoke_api_key(self, tenant: str, name: str, at: datetime) -> ApiKey | None:
        """Revokes it, where it is not yet, and returns it; None where there is none of the name."""
        ...

    def kept_key(self, tenant: str, name: str) -> str | None:
        """A key of the installation's own, as it was sealed; None where there is none yet."""
        ...

    def keep_key(self, tenant: str, name: str, sealed: str) -> str:
        """Keeps a key where there is none of this name, and returns the one that is kept: the first wins."""
        ...

    def reseal(self, scope: Scope, anew: Anew) -> None:
        """Puts `anew` of each sealed text in its place: in the tenant's templates and keys, and in the scope's jobs and
        ended operations. An open operation keeps what it has: what it is about to create is named by that. Idempotent,
        and safe beside running processes."""
        ...

    def cursor(self, scope: Scope) -> Cursor | None:
        """How far the scope's sync is."""
        ...

    def set_cursor(self, scope: Scope, resource_version: str, lease: Lease) -> bool:
        """Stores the cursor where the lease is still the newest; False where another holder took over."""
        ...

    def put_runtime_report(self, scope: Scope, runtime: str, process: str, lacks: Sequence[str]) -> None:
        """Puts what a process lacks for a runtime in the place of what such a one said before, with the time by the
        server's clock. Idempotent."""
        ...

    def runtime_reports(self, scope: Scope) -> Sequence[RuntimeReport]:
        """What the scope's processes said last, however long ago."""
        ...

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """Takes the lease where it is free, run out by the server's clock, or renews one that is held; with a token
        above all before where it changes hands. None where somebody else has it."""
        ...

    def leases(self, names: Collection[str]) -> Mapping[str, LeaseSeen]:
        """How these leases stand by the server's clock, those that were ever taken."""
        ...

    def release_lease(self, lease: Lease, holder: str) -> None:
        """Gives it up. Harmless where it was lost."""
        ...

    def ping(self) -> None:
        """Raises Unavailable where the server does not answer."""
        ...


class Sealer(Protocol):
    """Keeps secrets unreadable in records. The same owner, name and text always give the same under one key."""

    def seal(self, owner: Owner, name: str, text: str) -> str:
        """What may be stored of a secret; owner and name are bound to it."""
        ...

    def open(self, owners: Sequence[Owner], name: str, sealed: str) -> str:
        """The secret again. Raises Unopenable where no key at hand opens it, or where it was sealed under another name
        or for none of these owners; what an older release sealed is bound to its name alone."""
        ...


@dataclass(frozen=True)
class DeadLetter:
    """A letter about a record that could not be used. The record itself stands, or stood, at `origin`, and is known by
    its `sha256`. `triggers` are those that refused it; none where it was to be an operation."""

    id: str
    at: datetime | None
    reason: str
    triggers: tuple[str, ...]
    origin: Origin
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class NotThere:
    """Why a letter's record cannot be read again, in words."""

    reason: str


class LetterBox(Protocol):
    """The dead letters, and the records that they are about while their topics have them. Reads alone."""

    def newest(self, limit: int) -> Sequence[DeadLetter]:
        """The newest letters, newest last."""
        ...

    def letter(self, letter_id: str) -> DeadLetter | None:
        """One letter."""
        ...

    def record_of(self, letter: DeadLetter) -> Arrived | NotThere:
        """The very record that the letter is about, from where it stood."""
        ...


class TaskQueue(Protocol):
    """A wake-up for the workers. Losing one loses nothing: Beat sends again what is open."""

    def wake(self, key: JobKey) -> None:
        """Asks a worker to execute the job's oldest open operation. Never blocks the caller on the broker."""
        ...

    def launch(self, key: JobKey) -> None:
        """The same of a worker that can start Flink's command line."""
        ...

    def waiting(self) -> int:
        """How many wake-ups no worker has taken yet; 0 where the broker does not answer, which drops them anyhow."""
        ...

    def lengths(self) -> Mapping[str, int]:
        """How many messages no worker has taken yet, by queue. Raises Unavailable where the broker does not answer."""
        ...
