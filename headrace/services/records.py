"""The job's document: read, placed from the log, written and flushed. The only writer of records; knows no runtime.

The log has what was accepted, and how it ended; the document has what is open and how far it is. What the log has above
a document's last sequence is placed by whoever touches the job next, in order, in one write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from headrace.domain.document import JobDocument
from headrace.domain.jobs import OPERATOR, Desired, Job, JobKey, Phase, Transition, deployment_name, derived_name
from headrace.domain.operations import KINDS, Operation, Step
from headrace.domain.operations.adopt import as_the_log_has_it
from headrace.domain.operations.submit import as_accepted
from headrace.errors import Conflict, LostRace, NameTaken, Unavailable
from headrace.ports import Clock, Scope, Store

TRIES = 20
"""How often a write that lost to others is tried anew before it is left to the next wake-up."""

OF_SIGHTS = frozenset(
    {"phase", "reason", "next_step", "error", "observation", "observed_at", "updated_at", "resource_version"}
    | {"generation", "parallelism", "trouble_since", "failure_kept", "diagnosis", "kept_log", "kept_exceptions"}
    | {"transition_count", "restarts", "ran_generation"}
)
"""Fields of a job that sights alone give: where a decision lost to a sight, the newer document has them right."""


@dataclass(frozen=True)
class Records:
    """Reads and writes jobs' documents in one scope."""

    store: Store
    clock: Clock
    scope: Scope
    runtime: str = OPERATOR
    """What a run goes by whose request names no runtime."""

    @contextmanager
    def turn(self, what: str, holder: str, seconds: float) -> Iterator[bool]:
        """Whether it is this process' turn to do what must not overlap in the scope; it is given up at the end. A round
        that lasts longer than `seconds` may be overtaken. Raises Unavailable where the store does not answer."""
        lease = self.store.take_lease(self.scope.lease(what), holder, seconds)
        try:
            yield lease is not None
        finally:
            if lease is not None:
                self.store.release_lease(lease, holder)

    def read(self, key: JobKey) -> JobDocument | None:
        """The job's document, placed from the log where there is none yet; None where the log has nothing either, or
        the job is another installation's."""
        found = self.store.document(key) or self.place(key)
        return found if found is not None and self.scope.has(found.job) else None

    def place(self, key: JobKey) -> JobDocument | None:
        """The document with everything of the log in it. Raises LostRace where it changes too often, and Conflict where
        the job is another cluster's or namespace's."""
        name_is_taken = False
        for _ in range(TRIES):
            document = self.store.document(key)
            if document is not None and not self.scope.has(document.job):
                raise Conflict(_elsewhere(document.job))
            later = self.store.operations_of(key, after=document.job.last_sequence if document else 0)
            if document is None and not later:
                return None
            if document is not None and not later:
                return document
            before = document or self._rebuilt(key, later)
            try:
                return self._placed(_under_another_name(before) if name_is_taken else before, later)
            except NameTaken:
                name_is_taken = True
            except LostRace:
                continue
        raise LostRace(f"job {key.job_id}: its record changes too often to take in what was accepted")

    def stored(self, key: JobKey) -> JobDocument | None:
        """The document as it is stored: what was accepted a moment ago may not be in it. Raises Conflict as `place`."""
        document = self.store.document(key)
        if document is not None and not self.scope.has(document.job):
            raise Conflict(_elsewhere(document.job))
        return document

    def preview(self, key: JobKey) -> JobDocument | None:
        """The document with everything of the log in it, not written. Raises Conflict as `place` does."""
        return self.with_log(key, self.stored(key))

    def with_log(self, key: JobKey, document: JobDocument | None) -> JobDocument | None:
        """The same of a document that was just read."""
        later = self.store.operations_of(key, after=document.job.last_sequence if document else 0)
        if document is None and not later:
            return None
        return (document or self._rebuilt(key, later)).placing(later, self.clock.now())

    def new(self, key: JobKey) -> JobDocument:
        """The document of a job of which nothing is known yet."""
        now = self.clock.now()
        return JobDocument(
            job=Job(
                tenant=key.tenant,
                job_id=key.job_id,
                cluster=self.scope.cluster,
                namespace=self.scope.namespace,
                deployment_name=deployment_name(key.job_id),
                created_at=now,
                updated_at=now,
                desired=Desired.RUNNING,
                phase=Phase.REQUESTED,
                runtime=self.runtime,
            )
        )

    def place_next(self, stored: JobDocument | None, operation: Operation) -> JobDocument | None:
        """Places what was just inserted into the document that was read before it, or into a new one, without another
        read; where that is not the newest any more, or lacked something, as `place` does."""
        if operation.sequence != (stored.job.last_sequence if stored is not None else 0) + 1:
            return self.place(operation.key)
        try:
            return self._placed(stored or self._rebuilt(operation.key, [operation]), [operation])
        except (LostRace, NameTaken):
            return self.place(operation.key)

    def place_new(self, operations: Sequence[Operation]) -> Mapping[JobKey, JobDocument]:
        """Places what was just inserted as the first of new jobs, all in one call; what somebody else has placed
        meanwhile, or what needs another name, as `place` does."""
        new = {each.key: self._rebuilt(each.key, [each]) for each in operations}
        now = self.clock.now()
        placed = [self.counted(new[each.key], new[each.key].placing([each], now)) for each in operations]
        stored = set(self.store.add_documents(placed))
        self.store.clear_unplaced([each.id for each in operations if each.key in stored])
        others = [found for key in new if key not in stored and (found := self.place(key)) is not None]
        return {each.key: each for each in (*(each for each in placed if each.key in stored), *others)}

    def _placed(self, before: JobDocument, later: Sequence[Operation]) -> JobDocument:
        stored = self.write(before, before.placing(later, self.clock.now()), flush=False)
        self.store.clear_unplaced([each.id for each in later])
        return self.flush(stored)

    def _rebuilt(self, key: JobKey, log: Sequence[Operation]) -> JobDocument:
        """The document of a new job, or of one whose document was lost: that never says "never ran"."""
        document = self.new(key)
        is_gapped = len(log) > 1 or log[0].sequence > 1
        return document.with_job(as_the_log_has_it(replace(document.job, is_gapped=is_gapped), log))

    def write(self, before: JobDocument, after: JobDocument, *, flush: bool = True) -> JobDocument:
        """Writes what differs. A decision that lost to sights alone is put on the newer document, the phase from there.
        Raises LostRace where another decision was made first: look again, never apply again."""
        decides = is_decision(before, after)
        for _ in range(TRIES):
            try:
                stored = self.store.write(before, self.counted(before, after))
                return self.flush(stored) if flush else stored
            except LostRace:
                newer = self.store.document(before.key)
                if not decides or newer is None or newer.decisions != before.decisions:
                    raise
                before, after = newer, rebased(before, after, newer)
        raise Unavailable(f"job {before.job.job_id}: its record changes too often; it is tried again")

    def counted(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """`after` as it is to be stored over `before`: with its revision, and when it is due. A look alone puts off the
        next one: whoever writes words more often than that would see that nobody ever looks."""
        decisions = before.decisions + (1 if is_decision(before, after) else 0)
        counted = replace(after, revision=before.revision + 1, decisions=decisions)
        due_at = counted.due(self.clock.now())
        is_seen = after.oldest is None and after.job.observed_at != before.job.observed_at
        looked = is_seen or _is_looked_at(before.oldest, after.oldest)
        if due_at is not None and before.due_at is not None and not looked:
            due_at = min(due_at, before.due_at)
        return replace(counted, due_at=due_at)

    def flush(self, document: JobDocument) -> JobDocument:
        """Brings what ended and what was entered into the log and the transitions. Idempotent; what fails now stays due
        and is flushed by whoever looks next."""
        return self.flush_all([document])[0]

    def flush_all(self, documents: Sequence[JobDocument]) -> list[JobDocument]:
        """The same for many, each collection in one call."""
        waiting = [each for each in documents if not each.is_flushed]
        if not waiting:
            return list(documents)
        now = self.clock.now()
        clean = {each.key: replace(each, ended=(), history=()) for each in waiting}
        clean = {key: replace(each, due_at=each.due(now)) for key, each in clean.items()}
        try:
            self.store.add_transitions([change for each in waiting for change in each.history])
            self.store.write_outcomes([operation for each in waiting for operation in each.ended])
            self.store.flushed([clean[each.key] for each in waiting])
        except Unavailable:
            return list(documents)
        return [clean.get(each.key, each) for each in documents]

    def operation(self, tenant: str, operation_id: str) -> Operation | None:
        """An operation as it is: the log where it has an outcome, else the job's document, else the log again."""
        logged = self.store.operation(tenant, operation_id)
        if logged is None or not logged.is_open:
            return logged
        document = self.store.document(logged.key)
        placed = document.operation(operation_id) if document is not None else None
        return merged(placed, logged) if placed is not None else self.store.operation(tenant, operation_id)

    def operations_of(self, key: JobKey) -> Sequence[Operation]:
        """A job's operations in their order, each as `operation` gives it."""
        document = self.store.document(key)
        logged = self.store.operations_of(key)
        placed = {each.id: each for each in (*document.open_operations, *document.ended)} if document else {}
        return [merged(placed[each.id], each) if each.id in placed else each for each in logged]

    def transitions_of(self, key: JobKey) -> Sequence[Transition]:
        """The newest part of a job's history, oldest first, with what only its document has yet."""
        document = self.store.document(key)
        stored = {each.number: each for each in self.store.transitions_of(key)}
        known = stored | {each.number: each for each in (document.history if document else ())}
        return [known[number] for number in sorted(known)]

    def job(self, key: JobKey) -> Job | None:
        """A job as readers see it, with what was asked last; None where there is none of this name."""
        placed = self.existing(key)
        if placed is None:
            return None
        return self.shown(placed)

    def existing(self, key: JobKey) -> JobDocument | None:
        """The document as `preview` gives it; None also for a job whose records are gone and that begins no run."""
        placed = self.preview(key)
        return None if placed is None or (placed.job.is_forgotten and placed.next_run is None) else placed

    def with_programs(self, job: Job) -> Job:
        """The job with the texts of its programs, where the log still has them."""
        submitted = self.store.operation(job.tenant, job.submitted_by) if job.submitted_by else None
        request = submitted.arguments.get("request") if submitted is not None else None
        return job if request is None else replace(job, submitted=request)

    def shown(self, document: JobDocument) -> Job:
        """The job as readers see it: with what was asked last, and the run that was accepted last where that has not
        begun, and not the end of the one before."""
        following = document.next_run
        logged = self.store.operation(following.tenant, following.id) if following is not None else None
        job = document.job if logged is None else as_accepted(document.job, logged)
        return replace(job, desired=document.desired)


@dataclass(frozen=True)
class Freshness:
    """How old what is known of a job may be before it is called STALE."""

    records: Records
    stale_after_seconds: float

    def observed_at(self) -> datetime | None:
        """When the sync last knew every job of the scope to be as it is stored; None before its first round."""
        cursor = self.records.store.cursor(self.records.scope)
        return cursor.at if cursor is not None else None

    def is_stale(self, synced_at: datetime | None, job: Job) -> bool:
        """Whether the newest look at a job, its own or the sync's, is too long ago."""
        looks = [at for at in (synced_at, job.observed_at) if at is not None]
        age = (self.records.clock.now() - max(looks)).total_seconds() if looks else float("inf")
        return age > self.stale_after_seconds


def merged(placed: Operation, logged: Operation) -> Operation:
    """A document's operation with the arguments that the log keeps for it."""
    return replace(placed, arguments=logged.arguments, source=logged.source)


def is_decision(before: JobDocument, after: JobDocument) -> bool:
    """Whether a write changes more than what was seen: operations, the run, the uid, or a settled phase."""
    told = ("run", "deployment_uid", "last_sequence", "applied", "intended", "savepoint_path")
    return (
        [_decided(each) for each in before.open_operations] != [_decided(each) for each in after.open_operations]
        or before.ended != after.ended
        or any(getattr(before.job, name) != getattr(after.job, name) for name in told)
    )


def _decided(operation: Operation) -> Operation:
    """The operation without what looks at it count."""
    return replace(operation, spent_seconds=0.0, looked_at=None, trouble_since=None, reason="", generation=None)


def rebased(before: JobDocument, after: JobDocument, newer: JobDocument) -> JobDocument:
    """What `after` decided over `before`, put on a newer document that only sights have changed since."""
    gives_phase = after.job.phase is not before.job.phase and (after.ended != before.ended or _begins(before, after))
    names = [field.name for field in fields(Job)]
    facts: dict[str, Any] = {
        name: getattr(after.job, name)
        for name in names
        if (gives_phase or name not in OF_SIGHTS) and getattr(after.job, name) != getattr(before.job, name)
    }
    facts.pop("transition_count", None)
    if any(each.kind in KINDS and KINDS[each.kind].phase is newer.job.phase for each in _new(before, after)):
        facts["phase"] = after.job.phase  # the newer one is what has ended, and no sight may come that says so
    if _takes_away(before, after):
        facts |= {name: getattr(after.job, name) for name in OF_KEPT_STATE}
    job = replace(newer.job, **facts)
    held = replace(newer, job=job, open_operations=after.open_operations, ended=(*newer.ended, *_new(before, after)))
    return held.with_change_from(newer.job, after.job.updated_at)


OF_KEPT_STATE = ("state_path", "savepoint_path", "state_number", "state_start_time", "ran_since_state")


def _takes_away(before: JobDocument, after: JobDocument) -> bool:
    """Whether it was decided that a deployment goes: which state is left was judged when nothing ran any more, and a
    sight from before that, which was written meanwhile, says nothing of it."""
    turns = [each.oldest for each in (before, after)]
    steps = [each.step if each is not None else None for each in turns]
    return steps[1] in (Step.DELETE, Step.AWAIT_GONE) and steps[0] not in (Step.DELETE, Step.AWAIT_GONE)


def _begins(before: JobDocument, after: JobDocument) -> bool:
    return after.job.run != before.job.run


def _is_looked_at(before: Operation | None, after: Operation | None) -> bool:
    """Whether it is another operation, another step, or was looked at or put off between the two."""
    if before is None or after is None:
        return before is not after
    turns = [(each.id, each.step, each.looked_at, each.not_before) for each in (before, after)]
    return turns[0] != turns[1]


def _new(before: JobDocument, after: JobDocument) -> tuple[Operation, ...]:
    known = {each.id for each in before.ended}
    return tuple(each for each in after.ended if each.id not in known)


def _under_another_name(document: JobDocument) -> JobDocument:
    """The document of a new job whose deployment's name another job has by the records: another tenant's, or one that
    got its name from an earlier release."""
    name = derived_name(f"{document.key.tenant}/{document.key.job_id}")
    return document.with_job(replace(document.job, deployment_name=name))


def _elsewhere(job: Job) -> str:
    return (
        f"job {job.job_id}: there is one of this name in cluster {job.cluster}, namespace {job.namespace}; "
        "choose another job_id, or send it to that installation"
    )


def soon(at: datetime, seconds: float) -> datetime:
    """So many seconds later."""
    return at + timedelta(seconds=seconds)
