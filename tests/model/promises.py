"""What must hold whatever happens, checked at the very write that would break it, after each step and at rest.

Must not know how the code under test decides: it compares records with what is true of the world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol

from headrace.domain.deployments import (
    JOB_ID_ANNOTATION,
    OPERATION_ANNOTATION,
    deployment_of,
    sequence_of,
)
from headrace.domain.document import JobDocument
from headrace.domain.jobs import SETTLED, JobKey, Observation, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.operations.kind import ENDS_THE_RUN
from headrace.domain.status import is_in_place
from headrace.ports import Lease, Scope
from headrace.testing import InMemoryStore
from tests.model.flink import FOLLOWS, OF_ITS_OWN, OWN, Stage, Truth, is_of_overrides, overrides_in


class Violation(BaseException):
    """A promise is broken; no code under test may catch it."""


class Cluster(Protocol):
    """What is asked of a place where deployments are, by whichever runtime: see tests.model.flink.Cluster."""

    born: dict[str, int]
    taken: set[str]

    @property
    def now(self) -> int: ...

    def whole(self, name: str) -> Mapping[str, Any] | None: ...

    def truth(self, name: str) -> Truth | None: ...

    def versions_of(self, name: str) -> list[Mapping[str, Any]]: ...

    def versions_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]: ...

    def versions_between(self, first: str | None, last: str | None, name: str) -> list[Mapping[str, Any]]: ...

    def newest_and_since(self, resource_version: int, name: str) -> list[Mapping[str, Any]]: ...


class Actor(Protocol):
    """The process whose step is being played, and where its deployments are, by runtime."""

    scope: Scope
    clusters: Mapping[str, Cluster]


class Watching(Protocol):
    """What the watched ports ask of the world."""

    accepted_at: dict[str, Mapping[str, int]]
    """The resourceVersion of each runtime's cluster when an operation was accepted, by its id."""

    @property
    def actor(self) -> Actor | None:
        """Who is at it; None where nobody is."""
        ...


class WatchedStore(InMemoryStore):
    """The store, and a judge of every write."""

    def __init__(self, world: Watching) -> None:
        super().__init__()
        self._world = world
        self._held: dict[str, tuple[str, datetime]] = {}

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """See ports.Store."""
        self._in_scope("wrote", after)
        stored = self._documents.get(before.key)
        written = super().write(before, after)
        actor = self._world.actor
        if actor is not None:
            known = {each.id for each in before.ended}
            for operation in (each for each in after.ended if each.id not in known):
                cluster = actor.clusters[after.job.runtime]
                judge_end(self._world, cluster, before, after, operation)
                if operation.kind in (KindName.UPGRADE, KindName.ROLLBACK) and operation.state is State.SUCCEEDED:
                    judge_upgrade(cluster, before, after, self._operations[operation.id])
            if stored is not None:
                judge_sight(stored, after)
        return written

    def flushed(self, documents: Sequence[JobDocument]) -> None:
        """See ports.Store."""
        for document in documents:
            self._in_scope("flushed", document)
        super().flushed(documents)

    def _in_scope(self, did: str, document: JobDocument) -> None:
        actor = self._world.actor
        if actor is not None and not actor.scope.has(document.job):
            raise Violation(f"{actor.scope.cluster} {did} the record of {document.job.job_id}, another installation's")

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """See ports.Store."""
        lease = super().take_lease(name, holder, seconds)
        if lease is not None:
            now = self.server_now()
            held_by, until = self._held.get(name, (holder, now))
            if held_by != holder and until > now:
                raise Violation(f"the lease {name} was given away while somebody held it")
            self._held[name] = (holder, self._leases[name][1])
        return lease

    def release_lease(self, lease: Lease, holder: str) -> None:
        """See ports.Store."""
        if self._held.get(lease.name, ("",))[0] == holder:
            del self._held[lease.name]
        super().release_lease(lease, holder)


def judge_sight(stored: JobDocument, after: JobDocument) -> None:
    """What is recorded of one deployment never gets older."""
    was, now = stored.job.resource_version, after.job.resource_version
    if stored.job.deployment_uid == after.job.deployment_uid and was and now and int(now) < int(was):
        raise Violation(f"job {after.job.job_id}: a sight at {now} was written over one at {was}")


def judge_end(world: Watching, cluster: Cluster, before: JobDocument, after: JobDocument, operation: Operation) -> None:
    """An operation ends after those before it, and SUCCEEDED only where what was asked is so."""
    earlier = [each.id for each in after.open_operations if each.sequence < operation.sequence]
    if earlier and operation.state is not State.SUPERSEDED:
        raise Violation(f"{operation.kind} {operation.sequence} ended {operation.state} before an earlier one")
    if operation.state is not State.SUCCEEDED:
        return
    name, since = after.job.deployment_name, world.accepted_at[operation.id][after.job.runtime]
    if operation.kind in CHANGED:
        seen = cluster.versions_between(before.job.resource_version, after.job.resource_version, name)
        if not any(CHANGED[operation.kind](each, operation) for each in seen):
            raise Violation(f"{operation.kind} SUCCEEDED, and what was seen of {name} is not as asked")
    if operation.kind is KindName.SCALE:
        judge_scale(cluster, name, since, operation)
    elif operation.kind is KindName.SUSPEND:
        judge_kept(cluster, name, operation)
    elif operation.kind is KindName.SAVEPOINT:
        if operation.savepoint_path not in cluster.taken:
            raise Violation(f"SAVEPOINT SUCCEEDED with {operation.savepoint_path}, and nobody has taken that")
    elif operation.kind is KindName.ADOPT:
        judge_adoption(cluster, name, operation)
    elif operation.kind is KindName.RELEASE:
        if cluster.whole(name) is not None and all(map(_job_of, cluster.newest_and_since(since, name))):
            raise Violation(f"RELEASE SUCCEEDED, and {name} has our annotations all the time")
    elif operation.kind in CHANGED:
        return
    elif operation.kind is KindName.UNDELETE:
        if after.job.phase is not Phase.CANCELLED:
            raise Violation(f"UNDELETE SUCCEEDED, and {after.job.job_id} is {after.job.phase}")
    elif operation.kind is KindName.SUBMIT:
        mine = [o for o in cluster.versions_since(since, name) if _made_by(o) == operation.id]
        if not any(_flink_state(o) in ("RUNNING", "FINISHED") for o in mine):
            raise Violation(f"SUBMIT SUCCEEDED, and {name} has never run for it")
    else:
        live = cluster.whole(name)
        born = cluster.born.get(live["metadata"]["uid"], 0) if live is not None else 0
        if live is not None and _job_of(live) == after.job.job_id and born <= since:
            raise Violation(f"{operation.kind} SUCCEEDED, and {name} is still there")


CHANGED: Mapping[KindName, Callable[[Mapping[str, Any], Operation], bool]] = {
    KindName.SCALE: lambda seen, asked: (
        overrides_in(seen["spec"]).get(FOLLOWS, seen["spec"]["job"]["parallelism"]) == asked.arguments["parallelism"]
    ),
    KindName.SUSPEND: lambda seen, _: seen["spec"]["job"].get("state") == "suspended",
    KindName.RESUME: lambda seen, _: (
        seen["spec"]["job"].get("state", "running") == "running" and _flink_state(seen) in ("RUNNING", "FINISHED")
    ),
    KindName.RESTART: lambda seen, asked: seen["spec"].get("restartNonce") == asked.sequence,
    KindName.UPGRADE: lambda seen, _: _flink_state(seen) in ("RUNNING", "FINISHED"),
    KindName.ROLLBACK: lambda seen, _: _flink_state(seen) in ("RUNNING", "FINISHED"),
}
"""What a version that was seen by an operation's success has to show: of several that one write takes in, the last may
be somebody's edit after it."""


def judge_scale(cluster: Cluster, name: str, since: int, operation: Operation) -> None:
    """The job ran at what was asked for before the SCALE was done, unless it has run to its end; one in place has
    written the overrides alone."""
    truth, asked = cluster.truth(name), operation.arguments["parallelism"]
    has_finished = any(_flink_state(each) == "FINISHED" for each in cluster.newest_and_since(since, name))
    if truth is not None and not has_finished and not truth.ran_since(since, asked):
        raise Violation(f"SCALE SUCCEEDED, and {name} has never run at {asked}: {truth.ran_at}")
    if not is_in_place(operation):
        return
    for before, after in pairwise(cluster.versions_of(name)):
        is_its_write = (
            sequence_of(deployment_of(dict(before))) < operation.sequence == sequence_of(deployment_of(dict(after)))
        )
        if is_its_write and not is_of_overrides(before["spec"], after["spec"]):
            raise Violation(f"SCALE in place has changed more of {name} than the parallelism of its vertices")


def judge_parallelism(store: InMemoryStore, cluster: Cluster, document: JobDocument) -> None:
    """At rest a job that runs does so at what a SCALE gave it last, whatever has restarted it since; what has a
    parallelism of its own keeps that."""
    job, truth = document.job, cluster.truth(document.job.deployment_name)
    live = cluster.whole(job.deployment_name)
    if live is None or truth is None or _job_of(live) != job.job_id or truth.stage is not Stage.RUNNING:
        return
    if truth.runs_at[OF_ITS_OWN] != OWN:
        raise Violation(f"{job.job_id}: a vertex with {OWN} of its own runs at {truth.runs_at[OF_ITS_OWN]}")
    held = [each for each in store.operations_of(document.key) if each.holds or each.state is State.SUCCEEDED]
    given = [each for each in held if each.run == job.run and each.kind in GIVES_PARALLELISM]
    if not given or given[-1].kind is not KindName.SCALE:
        return
    asked = given[-1].arguments["parallelism"]
    if truth.runs_at[FOLLOWS] != asked:
        raise Violation(f"{job.job_id}: SCALE {given[-1].sequence} gave it {asked}, and it runs at {truth.runs_at}")


GIVES_PARALLELISM = (KindName.SCALE, KindName.SUBMIT, KindName.ADOPT, KindName.ROLLBACK)
"""Kinds after which a job may run at another parallelism than before."""


def judge_upgrade(cluster: Cluster, before: JobDocument, after: JobDocument, logged: Operation) -> None:
    """What was seen at its end is what it asked for, and so is what the job's record says from then on."""
    first, last, kind = before.job.resource_version, after.job.resource_version, logged.kind
    seen = cluster.versions_between(first, last, after.job.deployment_name)
    args = list(logged.arguments["request"].get("args") or ())
    if not any(_steps(each) == args for each in seen):
        raise Violation(f"{kind} SUCCEEDED, and what was seen of {after.job.deployment_name} are not its arguments")
    if after.job.submitted_by != logged.id or list(after.job.submitted.get("args") or ()) != args:
        raise Violation(f"{kind} SUCCEEDED, and the record of {after.job.job_id} does not say so")


def _steps(whole: Mapping[str, Any]) -> list[str]:
    """The arguments that an UPGRADE gives."""
    return [each for each in whole["spec"]["job"].get("args") or () if each.startswith("--step=")]


def judge_adoption(cluster: Cluster, name: str, operation: Operation) -> None:
    """Our annotations are on it, and the operator has no new generation to look at."""
    versions = cluster.versions_of(name)
    ours = next((number for number, each in enumerate(versions) if _made_by(each) == operation.id), None)
    if not ours:
        raise Violation(f"ADOPT SUCCEEDED, and {name} was never the job's")
    before, claimed = versions[ours - 1], versions[ours]
    if before["spec"] != claimed["spec"] or before["metadata"]["generation"] != claimed["metadata"]["generation"]:
        raise Violation(f"ADOPT has changed the spec of {name}")


def judge_kept(cluster: Cluster, name: str, operation: Operation) -> None:
    """A SUSPEND names the state that there is, says that there is none where that is so, or that it cannot know."""
    truth = cluster.truth(name)
    if truth is None or truth.stage is not Stage.SUSPENDED or truth.latest is None:
        return
    if operation.savepoint_path not in (truth.latest, truth.kept) and "cannot be read" not in operation.reason:
        raise Violation(f"SUSPEND of {name} said {operation.reason!r}, and its state is {truth.latest}")


def judge_deletion(store: InMemoryStore, cluster: Cluster, name: str, tenant: str) -> None:
    """No deployment goes whose state is on no record, but by force."""
    live, truth = cluster.whole(name), cluster.truth(name)
    if live is not None and _job_of(live) is None:
        raise Violation(f"{name} was deleted, and is no job of ours any more")
    if live is None or truth is None or truth.latest is None:
        return
    kept = {truth.latest} | ({truth.kept} if truth.stage is Stage.SUSPENDED else set())
    if live["spec"]["job"].get("initialSavepointPath") in kept or kept & set(store.savepoints):
        return
    document = store.document(JobKey(tenant, _job_of(live) or ""))
    oldest = document.oldest if document is not None else None
    if oldest is not None and oldest.kind in ENDS_THE_RUN and oldest.arguments.get("force"):
        return
    raise Violation(f"{name} was deleted at {truth.stage} with {truth.latest}, which is on no record")


def judge_rest(store: InMemoryStore, cluster: Cluster, document: JobDocument, touched: bool) -> None:
    """At rest everything has ended, the history is whole, and the record says what is. `touched`: somebody's hand has
    deleted, restored, suspended or resumed its deployment."""
    job, key = document.job, document.key
    still = [f"{each.kind} {each.sequence} at {each.step}" for each in document.open_operations]
    if still:
        raise Violation(f"{job.job_id}: at rest still open: {', '.join(still)}")
    unwritten = [each.sequence for each in store.operations_of(key) if each.is_open]
    if unwritten or document.ended or document.history:
        raise Violation(f"{job.job_id}: ended, and the log does not know: {unwritten}")
    _judge_history(store, document)
    _judge_phase(store, cluster, document, touched)


def _judge_history(store: InMemoryStore, document: JobDocument) -> None:
    job, history = document.job, store.transitions_of(document.key)
    if [each.number for each in history] != list(range(1, job.transition_count + 1)):
        raise Violation(f"{job.job_id}: its history has {[each.number for each in history]}")
    breaks = [b.number for a, b in pairwise(history) if a.to_phase is not b.from_phase]
    if breaks or (history and history[-1].to_phase is not job.phase):
        raise Violation(f"{job.job_id}: its history does not lead to {job.phase}: {breaks}")


SHOWN = {
    Stage.RUNNING: {Phase.RUNNING},
    Stage.FAILED: {Phase.FAILED},
    Stage.FINISHED: {Phase.FINISHED},
    Stage.SUSPENDED: {Phase.SUSPENDED, Phase.FINISHED, Phase.FAILED},  # what had come to its end stays so
}
"""The phases that are true of a stage, where a deployment rests in it."""


def _judge_phase(store: InMemoryStore, cluster: Cluster, document: JobDocument, touched: bool) -> None:
    job = document.job
    live, truth = cluster.whole(job.deployment_name), cluster.truth(job.deployment_name)
    if live is None or truth is None or _job_of(live) != job.job_id:
        if job.phase not in SETTLED:
            raise Violation(f"{job.job_id}: nothing is there, and its phase is {job.phase}")
        return
    if job.deployment_uid != live["metadata"]["uid"]:
        raise Violation(f"{job.job_id}: its record has another deployment than the live one")
    asked = store.operations_of(document.key)
    refused = [each for each in asked if each.kind is KindName.SUBMIT and each.state is State.FAILED]
    is_rejected = job.phase is Phase.REJECTED and bool(refused)
    unknown = [each for each in asked if each.state is State.FAILED and "last state cannot be read" in each.reason]
    waits_for_us = truth.stage is Stage.SUSPENDED and job.phase is Phase.UPGRADING and bool(unknown)
    if job.phase not in SHOWN.get(truth.stage, {job.phase}) and not is_rejected and not waits_for_us:
        raise Violation(f"{job.job_id}: it is {truth.stage}, and its phase is {job.phase}")
    if job.observation is not Observation.FRESH:
        raise Violation(f"{job.job_id}: at rest its observation is {job.observation}")
    ended = [each for each in asked if each.state is State.SUCCEEDED]
    newest = ended[-1] if ended else None
    is_stopped = newest is not None and newest.kind in ENDS_THE_RUN
    if is_stopped and not touched and sequence_of(deployment_of(dict(live))) <= newest.sequence:
        raise Violation(f"{job.job_id}: it was stopped, and a deployment is there")


def _annotations(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    return whole["metadata"].get("annotations") or {}


def _made_by(whole: Mapping[str, Any]) -> str | None:
    return _annotations(whole).get(OPERATION_ANNOTATION)


def _job_of(whole: Mapping[str, Any]) -> str | None:
    return _annotations(whole).get(JOB_ID_ANNOTATION)


def _flink_state(whole: Mapping[str, Any]) -> str | None:
    return ((whole.get("status") or {}).get("jobStatus") or {}).get("state")
