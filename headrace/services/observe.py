"""One sight of a deployment becomes records: the phase, what the operation that waits for it does next, the history.

Framework-free; asks pods where a job is not up, and writes no document: the one that it gives is written by its caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from headrace.domain.deployments import (
    Deployment,
    Gone,
    Seen,
    is_of,
    is_running,
    is_suspended,
    never_started,
    operation_of,
    run_of,
    sequence_of,
)
from headrace.domain.document import JobDocument
from headrace.domain.jobs import NOTHING_RUNS, SETTLED, Job, Observation, Phase
from headrace.domain.manifest import Platform
from headrace.domain.manifest.parts import pod_labels_of
from headrace.domain.operations import DUE, KINDS, Operation, State
from headrace.domain.pods import PodSeen, first_trouble, manager_is_up
from headrace.domain.runtimes.plan import (
    ON_RECORD,
    Absent,
    Case,
    Effect,
    End,
    Keep,
    Live,
    Move,
    Note,
    Renew,
    Wait,
)
from headrace.domain.savepoints import Savepoint
from headrace.domain.state_on_hand import kind_of
from headrace.domain.status import WRITTEN, asserts_what_is_read, observe, refusal_of
from headrace.errors import Refused
from headrace.ports import Store
from headrace.services.records import soon
from headrace.services.runtimes import Runtimes


@dataclass(frozen=True)
class Sighted:
    """A document after a sight, and the effects that are left for whoever may change the cluster."""

    document: JobDocument
    left: Sequence[Effect] = ()


@dataclass(frozen=True)
class Seeing:
    """A document with the phase that a sight shows, and the sight as it counts for this job. `pods` are those that were
    looked at for it; None where there was no need to."""

    document: JobDocument
    seen: Seen
    pods: Sequence[PodSeen] | None = None


@dataclass(frozen=True)
class Observe:
    """Shows a document what was seen."""

    store: Store
    runtimes: Runtimes
    platform: Platform
    grace_seconds: float

    def seen(self, document: JobDocument, what: Deployment | Gone, at: datetime, *, gap: bool = False) -> Seeing:
        """The document after a sight at `at`, before its operation looks at it. Idempotent. Raises Unavailable where
        pods cannot be asked."""
        seeing = self.looked_at(document, what, at, gap=gap)
        if isinstance(seeing.seen.what, Deployment):
            self._remember_upgrade(document.job, seeing.document.job, seeing.seen.what)
        return seeing

    def looked_at(self, document: JobDocument, what: Deployment | Gone, at: datetime, *, gap: bool = False) -> Seeing:
        """The same, and nothing is kept of it: for who only asks what would be. Raises as `seen` does."""
        ours = what if isinstance(what, Deployment) and is_of(what, document.key.tenant, document.key.job_id) else None
        shown = taken_over(document, ours) if ours is not None else document
        pods = self._pods(shown.job, ours)
        seen = Seen(ours if ours is not None else Gone(), at, first_trouble(pods or ()), manager_is_up(pods or ()))
        operation = _of_turn(shown)
        if operation is not None and ours is not None:
            shown = shown.with_operation(with_generation(operation, ours))
        return Seeing(_phase_after(shown, seen, self.grace_seconds, gap), seen, pods)

    def _remember_upgrade(self, before: Job, after: Job, live: Deployment) -> None:
        """The savepoint of an upgrade or a suspend, where the status shows one for the first time. What the job was
        told to start from shows there too, and is nothing that it made."""
        path, told = after.upgrade_path, live.spec.job.initial_savepoint_path if live.spec.job else None
        if path and path not in (before.upgrade_path, told):
            self.store.add_savepoint(_resource(after, path, after.observed_at or after.updated_at))

    def sight(self, document: JobDocument, what: Deployment | Gone, at: datetime, *, gap: bool = False) -> Sighted:
        """The same, and what it comes to for the operation whose turn it is, where that waits for a sight."""
        seeing = self.seen(document, what, at, gap=gap)
        sighted = self.progressed(seeing.document, seeing.seen)
        return replace(sighted, document=sighted.document.without_detour(document))

    def progressed(self, document: JobDocument, seen: Seen) -> Sighted:
        """What a sight comes to for the operation whose turn it is, where that waits for one."""
        operation = _of_turn(document)
        if operation is None or operation.step in DUE:
            return Sighted(document)
        looked = document.with_operation(operation.looked(seen.at))
        effects = list(self.runtimes.plan_of(document.job).next(self.case(looked, seen)))
        while effects and isinstance(effects[0], ON_RECORD):
            looked = self.on_record(looked, effects.pop(0), seen)
        phase = KINDS[operation.kind].phase
        if phase is not None and effects and isinstance(effects[0], Renew) and _has_settled(looked, seen.at):
            looked = looked.entering(phase, seen.at)  # a worker ends it: it has not settled yet
        return Sighted(looked, effects)

    def is_unwanted(self, document: JobDocument, live: Deployment) -> bool:
        """Whether it is a late create: of an operation that has ended, as the log has it, with nothing created; or one
        that has never started, of a job that was stopped."""
        job, made_by = document.job, operation_of(live)
        if live.metadata.uid == job.deployment_uid or made_by is None or sequence_of(live) >= job.last_sequence:
            return False
        if any(each.id == made_by for each in document.open_operations):
            return False
        operation = self.store.operation(job.tenant, made_by)
        if operation is None or operation.is_open:
            return False
        if operation.state is not State.SUCCEEDED and operation.deployment_uid is None:
            return True
        return document.desired in NOTHING_RUNS and job.phase in SETTLED and never_started(live, was_running=False)

    def case(self, document: JobDocument, seen: Seen) -> Case:
        """What the plan is asked about the operation whose turn it is."""
        operation = document.oldest
        assert operation is not None  # noqa: S101 - the callers have looked
        live = seen.what if isinstance(seen.what, Deployment) else None
        return Case(
            job=document.job,
            operation=operation,
            goal=KINDS[operation.kind].goal(operation),
            platform=self.platform,
            at=seen.at,
            grace_seconds=self.grace_seconds,
            sight=Live(live) if live is not None else Absent(),
            refused=refusal_of(live, operation) if live is not None else None,
        )

    def on_record(self, document: JobDocument, effect: Effect, seen: Seen) -> JobDocument:
        """The document after an effect that changes records alone; a kept path is stored by itself too."""
        operation = document.oldest
        assert operation is not None  # noqa: S101 - an effect is of the operation whose turn it is
        match effect:
            case Keep(path):
                said: dict[str, Any] = {"format": effect.format, "size_bytes": effect.size_bytes}
                self.store.add_savepoint(_resource(document.job, path, seen.at, operation=operation.id, **said))
                return kept(document, effect, seen)
            case Wait(seconds, why):
                waiting = replace(operation, not_before=soon(seen.at, seconds), reason=why, state=State.RUNNING)
                return document.with_operation(waiting)
            case Move(step, facts):
                return document.with_operation(operation.moved(step, seen.at, **facts))
            case Note(facts):
                return document.with_operation(replace(operation, **facts))
            case End():
                return _phase_after(ended(document, effect, seen.at), seen, self.grace_seconds)
            case _:
                raise AssertionError(f"{effect} changes more than records")

    def told(self, document: JobDocument, seen: Seen, facts: Mapping[str, Any]) -> JobDocument:
        """The document with what a look into a bad job found, and the reason that its phase has by that."""
        told = _phase_after(document.with_job(replace(document.job, **facts)), seen, self.grace_seconds)
        return told.with_reason_in_history(seen.at)

    def _pods(self, job: Job, live: Deployment | None) -> Sequence[PodSeen] | None:
        """Pods are looked at only while a job is not up: the operator misses some of what keeps them from starting."""
        status = live.status if live is not None else None
        if live is None or status is None or is_running(live):
            return None
        if status.lifecycle_state in ("SUSPENDED", "FAILED", "DELETING"):
            return None
        if status.job_manager_deployment_status == "MISSING":
            return None
        try:
            return self.runtimes.of(job).pods(job.namespace, job.deployment_name, pod_labels_of(job))
        except Refused:
            return ()  # an account that may not look at pods still sees what the operator says


def _resource(job: Job, path: str, at: datetime, **facts: Any) -> Savepoint:
    return Savepoint(tenant=job.tenant, job_id=job.job_id, path=path, kind=kind_of(path), run=job.run, at=at, **facts)


def _has_settled(document: JobDocument, at: datetime) -> bool:
    """Whether it is by this very sight that the job has settled."""
    entered = document.history[-1] if document.history else None
    return entered is not None and entered.at == at and entered.to_phase in SETTLED


def _of_turn(document: JobDocument) -> Operation | None:
    """The operation whose turn it is, where this process knows its kind."""
    oldest = document.oldest
    return oldest if oldest is not None and oldest.kind in KINDS else None


def _phase_after(document: JobDocument, seen: Seen, grace_seconds: float, gap: bool = False) -> JobDocument:
    """The document with the phase that the sight shows beside the operation whose turn it is now."""
    operation = _of_turn(document)
    if operation is not None and _is_before_its_run(seen, operation):
        operation = None
    job = observe(seen, document.job, operation, grace_seconds=grace_seconds)
    return replace(document, job=job).with_change_from(document.job, seen.at, gap)


def _is_before_its_run(seen: Seen, operation: Operation) -> bool:
    """Whether what is seen belongs to the run before the one that the operation begins."""
    begins = KINDS[operation.kind].begins_a_run and operation.step in DUE
    return begins and isinstance(seen.what, Deployment) and operation_of(seen.what) != operation.id


def with_generation(operation: Operation, live: Deployment) -> Operation:
    """The operation with the generation that it wrote, from the first sight of its write: where that shows whether it
    is as it was written."""
    written = sequence_of(live) == operation.sequence and operation.step in WRITTEN
    if not written or operation.generation is not None or not asserts_what_is_read(operation):
        return operation
    return replace(operation, generation=live.metadata.generation, deployment_uid=live.metadata.uid)


def taken_over(document: JobDocument, live: Deployment) -> JobDocument:
    """The document of a job whose deployment is live under another uid, or with a newer sequence, than is on record: a
    create whose record was lost, a database or a cluster that was restored. The live object says what is."""
    job, sequence = document.job, sequence_of(live)
    is_known = job.deployment_uid == live.metadata.uid
    if is_known and sequence <= job.last_sequence:
        return document
    operation = document.oldest
    is_expected = operation is not None and operation_of(live) == operation.id
    adopted = replace(
        job,
        deployment_uid=live.metadata.uid,
        run=max(job.run, run_of(live)),
        last_sequence=max(job.last_sequence, sequence),
        is_gapped=job.is_gapped or not is_expected,
        is_gone=False,
        resource_version=job.resource_version if is_known else None,
        ran_generation=job.ran_generation if is_known else None,
    )
    return replace(document, job=adopted)


def kept(document: JobDocument, keep: Keep, seen: Seen) -> JobDocument:
    """The document with this state's path on record, in the job and in the operation that keeps it."""
    path = keep.path
    operation = document.oldest
    live = seen.what if isinstance(seen.what, Deployment) else None
    running = live is not None and is_running(live)
    left_by = document.job.start_time if live is None or is_suspended(live) else None
    job = document.job
    job = replace(job, savepoint_path=path, state_path=path, state_number=keep.number)
    ran_since = running or keep.ran_since
    document = replace(document, job=replace(job, state_start_time=left_by, ran_since_state=ran_since))
    return document if operation is None else document.with_operation(replace(operation, savepoint_path=path))


def ended(document: JobDocument, effect: End, at: datetime) -> JobDocument:
    """The document after an operation's end, with the phase that the end gives where no sight can show it."""
    operation = document.oldest
    assert operation is not None  # noqa: S101 - an end is of the operation whose turn it is
    job = document.job
    if effect.holds:
        job = replace(job, applied=job.intended or job.applied)
        if effect.state is not State.SUCCEEDED:
            job = replace(KINDS[operation.kind].result(job, operation), desired=KINDS[operation.kind].desired)
    after = replace(document, job=replace(job, intended="")).with_operation(
        replace(operation.ended(effect.state, effect.reason, at), holds=effect.holds, run=job.run)
    )
    if effect.phase is None or (job.phase in SETTLED and not _is_told(job.phase, effect.phase)):
        return after
    why = effect.explanation
    words = {"reason": why.cause, "next_step": why.next_step} if why is not None else {}
    return after.entering(effect.phase, at, observed_at=at, observation=Observation.FRESH, **words)


def _is_told(before: Phase, after: Phase) -> bool:
    """Whether an end changes a settled phase: that the job is deleted, released, back, or was stopped since it was
    deleted, no sight shows."""
    return after in (Phase.REJECTED, Phase.DELETED, Phase.RELEASED) or before is Phase.DELETED
