"""A job's document, the aggregate: the job, its open operations with their steps, and what their collections lack yet.

Pure. Nothing in it stands half written: a phase that an operation gave goes with the operation, in one write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headrace.domain.jobs import NATIVE, SETTLED, Desired, Job, JobKey, Phase, Transition
from headrace.domain.operations import DUE, KINDS, Expected, Operation, State, Step

MOST_OPEN = 100
"""Open operations that a job may have; who asks for more has to wait."""

LOOKED_AT_AGAIN_AFTER = timedelta(seconds=10)
"""When an operation that waits for Flink is looked at without an event."""

ASKED_FOR = (Step.AWAIT_SUSPENDED, Step.AWAIT_SNAPSHOT, Step.AWAIT_SAVEPOINT)
"""Waits in which a worker asks for more than a deployment shows: for the last checkpoint of a job that is being
suspended, since Flink prunes older ones; for what became of a savepoint."""

ASKED_AGAIN_AFTER = timedelta(seconds=5)
"""When that is asked again."""

POLLED_AFTER, FAILED_POLLED_AFTER = timedelta(seconds=5), timedelta(seconds=60)
"""When a native job's JobManager is asked again: of its Deployment's changes alone the watch tells."""

PROGRAMS = "request"
"""The argument that the log alone keeps: it may hold whole programs."""


@dataclass(frozen=True, kw_only=True)
class JobDocument:
    """One job's record whole. `revision` counts its writes (0: it is not stored), `decisions` those of them that
    changed operations, run, uid or a settled phase; `due_at` is when it must be looked at next.

    `ended` and `history` hold what ended and which phases were entered since the last flush: the log and the
    transitions have it after that.
    """

    job: Job
    open_operations: tuple[Operation, ...] = ()
    ended: tuple[Operation, ...] = ()
    history: tuple[Transition, ...] = ()
    revision: int = 0
    decisions: int = 0
    due_at: datetime | None = None

    @property
    def key(self) -> JobKey:
        """The job's name among all."""
        return self.job.key

    @property
    def oldest(self) -> Operation | None:
        """The open operation whose turn it is."""
        return self.open_operations[0] if self.open_operations else None

    @property
    def is_hidden(self) -> bool:
        """Whether lists leave it out unless they are asked for it: it is deleted, and nothing more is asked of it."""
        return self.job.phase is Phase.DELETED and not self.open_operations

    @property
    def is_flushed(self) -> bool:
        """Whether the log and the transitions have all that this document has."""
        return not self.ended and not self.history

    @property
    def next_run(self) -> Operation | None:
        """The operation that will begin another run of a settled job, and has not."""
        last = self.open_operations[-1] if self.open_operations else None
        if last is None or last.kind not in KINDS or not KINDS[last.kind].begins_a_run or self.job.phase not in SETTLED:
            return None
        return last if last.step in (Step.BEGIN, Step.CLEAR) else None

    @property
    def is_for_workers(self) -> bool:
        """Whether its oldest operation has a step that a worker acts on: a verb, or a wait in which more is asked for
        than the sync sees."""
        return self.oldest is not None and (self.oldest.step in DUE or self.oldest.step in ASKED_FOR)

    def operation(self, operation_id: str) -> Operation | None:
        """The operation where this document has it, open or just ended."""
        return next((each for each in (*self.open_operations, *self.ended) if each.id == operation_id), None)

    def with_job(self, job: Job) -> JobDocument:
        """The document with this job's record."""
        return replace(self, job=job)

    def with_operation(self, operation: Operation) -> JobDocument:
        """The document with this operation as it is now; one that has ended leaves the open ones, once."""
        if operation.is_open:
            put = tuple(operation if each.id == operation.id else each for each in self.open_operations)
            return replace(self, open_operations=put)
        if all(each.id != operation.id for each in self.open_operations):
            return self
        left = tuple(each for each in self.open_operations if each.id != operation.id)
        job = self.job
        if operation.state is State.SUCCEEDED and operation.kind in KINDS:
            job = replace(KINDS[operation.kind].result(job, operation), desired=KINDS[operation.kind].desired)
        return replace(self, job=job, open_operations=left, ended=(*self.ended, operation))

    def entering(self, phase: Phase, at: datetime, **facts: object) -> JobDocument:
        """The document with its job in this phase, and the change in its history."""
        before = self.job
        told = {"phase": phase, "phase_since": at, "waiting": None, "updated_at": at, "is_forgotten": False}
        job = replace(before, **{**told, **facts})  # type: ignore[arg-type]
        return self.with_job(job).with_change_from(before, at)

    def with_change_from(self, before: Job, at: datetime, gap: bool = False) -> JobDocument:
        """The document with a transition where its job's phase is another than before."""
        job = self.job
        if job.phase is before.phase:
            return self
        number = job.transition_count + 1
        transition = Transition(
            tenant=job.tenant,
            job_id=job.job_id,
            number=number,
            run=job.run,
            from_phase=before.phase,
            to_phase=job.phase,
            at=at,
            observed_at=job.observed_at or at,
            reason=job.reason,
            deployment_uid=job.deployment_uid,
            resource_version=job.resource_version,
            gap=gap,
        )
        counted = replace(job, transition_count=number, is_forgotten=False)
        return replace(self, job=counted, history=(*self.history, transition))

    def with_reason_in_history(self, at: datetime) -> JobDocument:
        """The document whose newest transition, where it was made just then, says what its job's reason has become."""
        if not self.history or self.history[-1].at != at:
            return self
        return replace(self, history=(*self.history[:-1], replace(self.history[-1], reason=self.job.reason)))

    def without_detour(self, before: JobDocument) -> JobDocument:
        """The document after one sight, whose history knows no phase that came and went within it."""
        job, was = self.job, before.job
        if job.phase is not was.phase or job.transition_count == was.transition_count or job.run != was.run:
            return self
        counted = replace(job, transition_count=was.transition_count, phase_since=was.phase_since)
        return replace(self, job=counted, history=before.history)

    def placing(self, operations: Iterable[Operation], at: datetime) -> JobDocument:
        """The document with what the log has above its last sequence, in order; what is superseded ends."""
        document = self
        for operation in sorted(operations, key=lambda each: each.sequence):
            if operation.sequence <= document.job.last_sequence:
                continue
            job = replace(document.job, last_sequence=operation.sequence, updated_at=at)
            placed = replace(operation, arguments={k: v for k, v in operation.arguments.items() if k != PROGRAMS})
            opened = (*document.open_operations, placed) if operation.is_open else document.open_operations
            document = replace(document, job=job, open_operations=opened)
            document = document._superseded_by(operation, at)
        return document

    def _superseded_by(self, later: Operation, at: datetime) -> JobDocument:
        document = self
        kind = KINDS.get(later.kind)
        for earlier in self.open_operations:
            if later.is_open and earlier.sequence < later.sequence and kind is not None and kind.supersedes(earlier):
                why = f"{later.kind} (operation {later.id}) came after it"
                document = document.with_operation(earlier.ended(State.SUPERSEDED, why, at))
        return document

    @property
    def desired(self) -> Desired:
        """What was asked: by the last open operation, else by the last that succeeded or began a run."""
        asked = [KINDS[each.kind].desired for each in self.open_operations if each.kind in KINDS]
        return asked[-1] if asked else self.job.desired

    def expected(self, job_id: str) -> Expected:
        """The job as its open operations will leave it."""
        leading = [KINDS[each.kind].leads_to for each in self.open_operations if each.kind in KINDS]
        phase = leading[-1] if leading else self.job.phase
        return Expected(job_id, self.job, phase, self.open_operations)

    def due(self, now: datetime) -> datetime | None:
        """When it has to be looked at next, if nothing happens before; None where nothing waits for time."""
        if not self.is_flushed:
            return now
        operation = self.oldest
        if operation is None:
            pause = self._polled_after()
            return now + pause if pause is not None else None
        if operation.step in DUE:
            return max(operation.not_before or now, now)
        is_asked = operation.step in ASKED_FOR or self.job.runtime == NATIVE
        return now + (ASKED_AGAIN_AFTER if is_asked else LOOKED_AT_AGAIN_AFTER)

    def _polled_after(self) -> timedelta | None:
        """When a job of which nothing is asked is looked at again: no event tells what becomes of a native one."""
        job = self.job
        if job.runtime != NATIVE or job.is_gone or job.deployment_uid is None:
            return None
        if job.phase is Phase.FAILED:
            return FAILED_POLLED_AFTER
        return None if job.phase in SETTLED or job.phase is Phase.SUSPENDED else POLLED_AFTER
