"""Executing: a job's oldest open operation takes its next steps. Knows no task framework and no kind of operation.

Short and idempotent: running it again changes nothing that it already changed, and it never waits for Flink. It looks
at the live deployment first, asks the runtime's plan what is to be done, and carries that out, one arm an effect: what
is about to happen is on record before it happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from headrace.domain import diff
from headrace.domain.adoption import letting_go
from headrace.domain.deployments import (
    SEQUENCE_ANNOTATION,
    Deployment,
    Gone,
    Seen,
    deployment_of,
    is_of,
    never_started,
    operation_of,
    run_of,
    sequence_of,
)
from headrace.domain.document import JobDocument
from headrace.domain.failures import NO_CRD, Evidence, Explanation, explain
from headrace.domain.job_requests import JobRequest, recorded_request
from headrace.domain.jobs import Job, JobKey, Observation, Phase
from headrace.domain.manifest.parts import metadata_labels, sealed_of, secret_name_in
from headrace.domain.manifest.programs import config_map_of
from headrace.domain.operations import DUE, KINDS, Operation, State, Step
from headrace.domain.operations.adopt import as_found
from headrace.domain.operations.submit import of_new_run
from headrace.domain.operations.upgrade import as_upgraded
from headrace.domain.runtimes.plan import (
    ON_RECORD,
    Adopt,
    Begin,
    Case,
    Change,
    Claim,
    Create,
    Delete,
    Drive,
    DropSnapshot,
    Effect,
    End,
    Live,
    Raise,
    Renew,
    TakeSnapshot,
    Wait,
)
from headrace.domain.savepoints import Savepoint
from headrace.domain.sealed import owners_of_job
from headrace.domain.state_on_hand import Known, state_on_hand
from headrace.domain.status import WRITTEN
from headrace.errors import (
    CrdMissing,
    HeadraceError,
    LostRace,
    MissingRight,
    PermanentError,
    Refused,
    TransientError,
    Unavailable,
    Unopenable,
)
from headrace.ports import AsSeen, Clock, Driven, Fence, FlinkRuntime, TaskQueue
from headrace.services.looks import Looks
from headrace.services.observe import Observe, ended
from headrace.services.records import Records, merged, soon
from headrace.services.runtimes import Runtimes
from headrace.services.sealing import Sealing

LOOK_AGAIN_SECONDS = 10.0
"""How long after a secret could not be opened, or a right was missing, it is tried again."""

STEPS_AT_ONCE = 8
"""An upper bound on the steps of one call; the next wake-up goes on from there."""


@dataclass(frozen=True)
class Execute:
    """Carries out what the runtime's plan says of a job's oldest open operation."""

    records: Records
    runtimes: Runtimes
    looks: Looks
    observe: Observe
    sealing: Sealing
    clock: Clock
    queue: TaskQueue

    def oldest_open_operation(self, key: JobKey) -> Sequence[Operation]:
        """Takes the steps that are due, until one has to wait for an observation, and returns what each led to: the
        operation as it stood after it. Raises TransientError alone."""
        steps: list[Operation] = []
        document: JobDocument | None = self.records.read(key)
        if document is not None and document.oldest is None:
            self._look_after(document)
        while document is not None and len(steps) < STEPS_AT_ONCE and (operation := self._due(document)) is not None:
            after: JobDocument | None
            try:
                after, again = self._one_step(document, operation)
            except LostRace:
                after, again = self.records.read(key), True
            steps.append((after.operation(operation.id) if after is not None else None) or operation)
            if not again:
                break
            document = after
        return steps

    def _look_after(self, document: JobDocument) -> None:
        """What is left to be done of a job of which nothing is asked."""
        job = document.job
        live = self.runtimes.of(job).get(job.namespace, job.deployment_name)
        if live is None or not is_of(live, job.tenant, job.job_id):
            return
        if self.observe.is_unwanted(document, live):
            self._remove_unwanted(document, live)
        elif live.status is not None and live.status.act is not None:
            drive = self.runtimes.plan_of(job).alone(job, live, self.looks.checkpoints(job, live))
            if drive is not None:
                self._drive_alone(document, live, drive)

    def _drive_alone(self, document: JobDocument, live: Deployment, drive: Drive) -> None:
        """An act that no operation waits for: where a server says no to it, that is said on the job."""
        try:
            self.drive(document.job, live, drive)
        except MissingRight as error:
            raise Unavailable(str(error)) from error
        except Refused as error:
            words = f"{drive.act}: {error}"[:500]
            if document.job.reason != words:
                self.records.write(document, document.with_job(replace(document.job, reason=words)))

    def drive(self, job: Job, live: Deployment, drive: Drive) -> Driven:
        """Carries out an act of the runtime's, or hands it to a worker that can."""
        runtime = self.runtimes.of(job)
        driven = runtime.drive(job.namespace, job.deployment_name, live.metadata.uid, drive)
        if driven is Driven.ELSEWHERE:
            self.queue.launch(job.key)
        return driven

    def _remove_unwanted(self, document: JobDocument, live: Deployment) -> None:
        """A late create that nobody wants goes again. It may have run since: its state is on record first, and where
        that cannot be known nothing is deleted. What was adopted too late is somebody else's, and is let go."""
        job = document.job
        if not self._was_created(job, live):
            self.let_go(job, live)
            return
        if not never_started(live, was_running=False):
            of_it = replace(job, state_path=None, ran_since_state=True, is_gapped=True)  # the record is another run's
            state = state_on_hand(of_it, live, self.looks.checkpoints(job, live))
            if not isinstance(state, Known):
                return
            at, made_by = self.clock.now(), operation_of(live)
            self.records.store.add_savepoint(
                Savepoint(
                    tenant=job.tenant,
                    job_id=job.job_id,
                    path=state.path,
                    kind=state.kind,
                    run=run_of(live) or job.run,
                    at=at,
                    operation=made_by,
                    size_bytes=state.size_bytes,
                )
            )
        self.runtimes.of(job).delete(job.namespace, job.deployment_name, live.metadata.uid)

    def _was_created(self, job: Job, live: Deployment) -> bool:
        """Whether the operation that it names has made it; what one has adopted was somebody's before."""
        made_by = self.records.store.operation(job.tenant, operation_of(live) or "")
        return made_by is not None and KINDS[made_by.kind].begins_a_run

    def let_go(self, job: Job, live: Deployment) -> None:
        """Takes our marks off a deployment that is not this job's after all."""
        whole = self.runtimes.of(job).get_whole(job.namespace, job.deployment_name)
        if whole is not None:
            fence = Fence(live.metadata.uid, sequence_of(live))
            self.runtimes.of(job).patch(job.namespace, job.deployment_name, fence, letting_go(whole))

    def _due(self, document: JobDocument) -> Operation | None:
        """The operation whose turn it is, where this process knows its kind and it is not told to wait."""
        operation = document.oldest
        if operation is None or operation.kind not in KINDS:
            return None
        return None if operation.not_before is not None and self.clock.now() < operation.not_before else operation

    def _one_step(self, document: JobDocument, operation: Operation) -> tuple[JobDocument, bool]:
        """The document after the step, and whether the next one is due at once."""
        try:
            after, missed = self._looked_at(document)
        except Unavailable as error:
            self._say_waiting(document, operation, str(error))
            raise
        except MissingRight as error:  # without a sight no time is spent, as where no server answers
            self._say_waiting(document, operation, str(error))
            raise Unavailable(str(error)) from error
        except PermanentError as error:
            refused = ended(document, _refusal(document, error), self.clock.now())
            after, missed = self.records.write(document, refused), False
        following = after.oldest
        if following is None or following == operation:
            return after, missed
        return after, missed or following.step in DUE

    def _looked_at(self, document: JobDocument) -> tuple[JobDocument, bool]:
        """One sight, shown to the job and to its operation; then the effects, in their order."""
        job = document.job
        whole = self.runtimes.of(job).get_whole(job.namespace, job.deployment_name)
        live = deployment_of(whole) if whole is not None else None
        now = self.clock.now()
        seeing = self.observe.seen(document, live if live is not None else Gone(), now)
        operation = seeing.document.oldest
        assert operation is not None  # noqa: S101 - a sight ends no operation
        shown = seeing.document.with_operation(operation.looked(now))
        step = _Step(self, document, shown, seeing.seen)
        case = self.looks.case(shown, seeing.seen, whole)
        effects = self.runtimes.plan_of(shown.job).next(case)
        if operation.step is Step.AWAIT_RUNNING and _is_the_syncs(effects):
            return document, False  # it finds out why a job failed
        step.does_all(effects, case)
        return step.written(), step.missed

    def _say_waiting(self, document: JobDocument, operation: Operation, why: str) -> None:
        """A server that is not there keeps an operation waiting: whoever looks at it reads why."""
        waiting = f"waiting: {why}"
        if operation.reason == waiting:
            return
        try:
            self.records.write(document, document.with_operation(replace(operation, reason=waiting)))
        except TransientError:
            return


class _Step:
    """One step under way: the document as it is stored, as it shall be, and who carries effects out."""

    def __init__(self, execute: Execute, stored: JobDocument, document: JobDocument, seen: Seen) -> None:
        self._of = execute
        self._stored = stored
        self._document = document
        self.seen = seen
        self.missed = False

    def written(self) -> JobDocument:
        """The document once all of it is stored, and what the log and the history lack is there too."""
        self._on_record()
        return self._of.records.flush(self._stored)

    def _on_record(self) -> None:
        """Stores what is about to happen. The log and the history get theirs at the step's end, or from who looks next:
        readers find it in the document."""
        if self._document != self._stored:
            self._stored = self._document = self._of.records.write(self._stored, self._document, flush=False)

    @property
    def _operation(self) -> Operation:
        operation = self._document.oldest
        assert operation is not None  # noqa: S101 - no effect follows the end
        return operation

    @property
    def _runtime(self) -> FlinkRuntime:
        return self._of.runtimes.of(self._document.job)

    def does_all(self, effects: Sequence[Effect], case: Case) -> None:
        """Carries the effects out in their order, up to one after which all rests on another sight. A right that our
        account lacks may come: the operation waits for it, until its deadline."""
        try:
            for effect in effects:
                if not self._does(effect, case):
                    return
        except MissingRight as error:
            if self._operation.is_late:
                self._document = ended(self._document, _refusal(self._document, error), self.seen.at)
            else:
                self._waits(error)

    def _does(self, effect: Effect, case: Case) -> bool:
        """Carries one effect out; False where what follows has to rest on another sight."""
        if isinstance(effect, ON_RECORD):
            self._document = self._of.observe.on_record(self._document, effect, self.seen)
            return True
        match effect:
            case Begin():
                return self._begin(effect, case)
            case Create(manifest):
                return self._create(manifest, case)
            case Adopt(deployment):
                return self._adopt(deployment, case)
            case Change():
                return self._change(effect, case)
            case Claim():
                return self._claim(effect, case)
            case Raise():
                return self._raise(case)
            case Delete(uid, then, wait_seconds):
                return self._delete(uid, then, wait_seconds)
            case TakeSnapshot(manifest):
                self._on_record()
                self._runtime.create_snapshot(manifest)
                return True
            case DropSnapshot(snapshot):
                self._on_record()
                return self._runtime.delete_snapshot(self._document.job.namespace, snapshot)
            case Drive():
                return self._drive(effect, case)
            case Renew(end):
                return self._renew(end)
            case _:
                assert_never(effect)

    def _begin(self, begin: Begin, case: Case) -> bool:
        now, operation = self.seen.at, self._operation
        before = self._document.job
        accepted = merged(operation, case.operation)
        job = of_new_run(before, accepted, run=begin.run, start_from=begin.start_from, at=now)
        runtime = accepted.arguments["request"].get("runtime") or self._of.runtimes.default
        job = replace(job, is_gone=False, phase=before.phase, runtime=runtime).intending(begin.manifest)
        begun = replace(self._document, job=job).entering(Phase.REQUESTED, now)
        self._document = begun.with_operation(operation.moved(Step.CREATE, now))
        self._on_record()
        return True

    def _create(self, manifest: Mapping[str, Any], case: Case) -> bool:
        """The intent is on record. What nobody wants any more after the create is deleted again."""
        self._on_record()
        job, operation = self._document.job, self._operation
        try:
            self._secrets(_request(case))
        except Unopenable as error:
            return self._waits_for_a_key(error)
        created = self._runtime.create(manifest)
        if created is None:
            self.missed = True
            return False
        if self._is_unwanted(operation, created.metadata.uid):
            self._runtime.delete(job.namespace, job.deployment_name, created.metadata.uid)
            return False
        return self._adopt(created, case)

    def _is_unwanted(self, operation: Operation, uid: str) -> bool:
        """Reads what was accepted and recorded since: a worker that froze before its create must not bring a stopped
        job back. What is on record by now is somebody's: nothing is taken from them."""
        placed = self._of.records.place(operation.key)
        if placed is not None and placed.job.deployment_uid == uid:
            return False
        if placed is not None and any(each.id == operation.id for each in placed.open_operations):
            return False
        ended = self._of.records.operation(operation.tenant, operation.id)
        return ended is None or ended.state is not State.SUCCEEDED

    def _adopt(self, deployment: Deployment, case: Case) -> bool:
        operation = self._operation
        try:
            self._bring_files_and_secrets(deployment, case)
        except Unopenable as error:
            return self._waits_for_a_key(error)
        now = self.seen.at
        uid, generation = deployment.metadata.uid, deployment.metadata.generation
        job = replace(
            self._document.job,
            deployment_uid=uid,
            generation=generation,
            observation=Observation.FRESH,
            observed_at=now,
            is_gone=False,
            reason="",
            next_step="",
            applied=self._document.job.intended or self._document.job.applied,
        )
        moved = operation.moved(Step.AWAIT_RUNNING, now, generation=generation, deployment_uid=uid, reason="")
        self._document = self._document.with_job(job).with_operation(moved)
        try:
            self._on_record()
        except LostRace:
            if self._is_unwanted(operation, uid):
                self._runtime.delete(job.namespace, job.deployment_name, uid)
            raise
        return False

    def _bring_files_and_secrets(self, created: Deployment, case: Case) -> None:
        """What the pods wait for, made after the deployment since that owns it."""
        job = self._document.job
        request = _request(case)
        labels = metadata_labels(job, {})
        manifest = job.intended_manifest or job.applied_manifest or {}
        files = config_map_of(manifest, request)
        if files is not None:
            name, texts = files
            self._runtime.put_files(created, name, texts, labels)
        secret = secret_name_in(manifest, request)
        if secret is not None:
            self._runtime.put_secret(created, secret, self._secrets(request), labels)

    def _secrets(self, request: JobRequest) -> Mapping[str, str]:
        """What was sealed for this job, or for the template that it is made from. Raises Unopenable."""
        job, template_id = self._document.job, self._operation.arguments.get("template_id")
        return self._of.sealing.opened(sealed_of(request), owners_of_job(job.tenant, job.job_id, template_id))

    def _waits_for_a_key(self, error: Unopenable) -> bool:
        """The key may be on its way here, from who sealed with it: the operation's deadline ends the wait."""
        return self._waits(error)

    def _waits(self, error: HeadraceError) -> bool:
        wait = Wait(LOOK_AGAIN_SECONDS, f"waiting: {error}")
        self._document = self._of.observe.on_record(self._document, wait, self.seen)
        return False

    def _change(self, change: Change, case: Case) -> bool:
        """Intent and inverse are on record first; then one patch behind the fence of this very sight."""
        operation = self._operation
        facts: dict[str, Any] = {"asserts": change.asserts, "inverse": change.inverse, **change.facts}
        if change.then is Step.WITHDRAW:
            facts = {}
        if change.intent is not None:
            self._document = self._document.with_job(self._document.job.intending(change.intent))
        self._document = self._document.with_operation(operation.moved(change.then, self.seen.at, **facts))
        self._on_record()
        if not change.changes:
            return True
        live = _deployment(case)
        if change.intent is not None and KINDS[operation.kind].resolves:
            try:
                self._bring_files_and_secrets(live, case)
            except Unopenable as error:
                return self._waits_for_a_key(error)
        job = self._document.job
        fence = Fence(live.metadata.uid, sequence_of(live))
        patched = self._runtime.patch(job.namespace, job.deployment_name, fence, change.changes)
        if patched is None:
            self.missed = True  # somebody else wrote first: another sight says who
            return False
        is_ours = is_of(patched, job.tenant, job.job_id)
        self.seen = Seen(patched if is_ours else Gone(), self.seen.at, self.seen.trouble)
        written = replace(self._operation, generation=patched.metadata.generation)
        self._document = self._document.with_operation(written if change.then in WRITTEN else self._operation)
        return True

    def _claim(self, claim: Claim, case: Case) -> bool:
        """The run as found is on record first. Who claimed what is not wanted any more lets it go again."""
        live, before = _deployment(case), self._document.job
        if self._operation.step is not Step.CLAIM:
            found = replace(as_found(before, run=claim.run, at=self.seen.at), phase=before.phase)
            begun = self._document.with_job(found).entering(Phase.REQUESTED, self.seen.at)
            self._document = begun.with_operation(self._operation.moved(Step.CLAIM, self.seen.at))
        self._document = self._document.with_job(self._document.job.intending(claim.manifest))
        self._on_record()
        if claim.changes:
            as_seen = AsSeen(live.metadata.uid, live.metadata.resource_version)
            patched = self._runtime.patch(before.namespace, before.deployment_name, as_seen, claim.changes)
            if patched is None:
                self.missed = True  # somebody wrote first: another sight says what it is by now
                return False
            live = patched
        return self._claimed(live)

    def _claimed(self, live: Deployment) -> bool:
        operation, uid = self._operation, live.metadata.uid
        if self._is_unwanted(operation, uid):
            self._of.let_go(self._document.job, live)
            return False
        job = replace(self._document.job, deployment_uid=uid, is_gone=False, reason="", next_step="")
        self._document = self._document.with_job(job).with_operation(replace(operation, deployment_uid=uid))
        self.seen = Seen(live, self.seen.at, self.seen.trouble)
        return True

    def _drive(self, drive: Drive, case: Case) -> bool:
        """What is known is on record first; after a change all rests on another sight."""
        self._on_record()
        driven = self._of.drive(self._document.job, _deployment(case), drive)
        self.missed = driven is Driven.CHANGED
        return not self.missed

    def _renew(self, end: End) -> bool:
        job = as_upgraded(self._document.job, self._of.looks.as_logged(self._operation))
        self._document = self._of.observe.on_record(self._document.with_job(job), end, self.seen)
        return True

    def _raise(self, case: Case) -> bool:
        live, job = _deployment(case), self._document.job
        if sequence_of(live) >= self._operation.sequence:
            return True
        path = ("metadata", "annotations", SEQUENCE_ANNOTATION)
        raised = [diff.Change(path, str(self._operation.sequence))]
        fence = Fence(live.metadata.uid, sequence_of(live))
        self._runtime.patch(job.namespace, job.deployment_name, fence, raised)
        return True

    def _delete(self, uid: str, then: Step, wait_seconds: float) -> bool:
        self._on_record()
        job = self._document.job
        self._runtime.delete(job.namespace, job.deployment_name, uid)
        now = self.seen.at
        later = soon(now, wait_seconds) if wait_seconds else None
        moved = self._operation.moved(then, now, deployment_uid=uid)
        self._document = self._document.with_operation(replace(moved, not_before=later))
        return False


def _refusal(document: JobDocument, error: HeadraceError) -> End:
    """The end of the operation whose turn it is, where a server said no, or what is on record cannot be used."""
    operation = document.oldest
    assert operation is not None  # noqa: S101 - one of its steps was refused
    why = _explained(error)
    phase = Phase.REJECTED if KINDS[operation.kind].makes_a_job and document.job.deployment_uid is None else None
    return End(State.FAILED, str(why), phase, why)


def _explained(error: HeadraceError) -> Explanation:
    if isinstance(error, CrdMissing):
        return NO_CRD
    if isinstance(error, MissingRight):
        return Explanation(f"its deadline passed: {error}", "")
    return explain(Evidence(refused=str(error))) or Explanation(str(error), "")


def _is_the_syncs(effects: Sequence[Effect]) -> bool:
    """Whether an operation ends by what is on record alone."""
    ends = any(isinstance(each, End) and not each.is_a_workers for each in effects)
    return not effects or (ends and all(isinstance(each, ON_RECORD) for each in effects))


def _deployment(case: Case) -> Deployment:
    assert isinstance(case.sight, Live)  # noqa: S101 - a plan changes only what it was shown
    return case.sight.deployment


def _request(case: Case) -> JobRequest:
    """What was asked for: the case has it from the log."""
    return recorded_request(case.operation.arguments["request"])
