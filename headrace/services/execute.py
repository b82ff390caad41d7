"""Executing: a job's oldest open operation takes its next step, by one fenced write. Knows no task framework.

Short and idempotent: running it again changes nothing that it already changed. It never waits for Flink; what
an operation waits for is observed by Sync, which also says what is due next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from headrace.domain import diff
from headrace.domain.deployments import (
    JOB_ID_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    OPERATION_ANNOTATION,
    TENANT_ANNOTATION,
    Deployment,
    Seen,
    has_ended,
    is_behind,
    is_running,
    never_started,
    sequence_of,
)
from headrace.domain.failures import Evidence, Explanation, explain
from headrace.domain.job_requests import JobRequest, parse_request
from headrace.domain.jobs import SETTLED, Desired, Job, JobKey, Observation, Phase, Transition
from headrace.domain.lifecycle import of_new_run
from headrace.domain.manifest import Platform, Stamp, render, with_parallelism, with_state
from headrace.domain.manifest.parts import metadata_labels, sealed_of, secret_name
from headrace.domain.manifest.programs import config_map_data, files_name
from headrace.domain.operations import DUE, Kind, Operation, State, Step, supersedes
from headrace.domain.status import observe
from headrace.errors import LostRace, Refused, TransientError, Unavailable
from headrace.ports import Change, Clock, Fence, FlinkRuntime, JobManager, Store
from headrace.services.deadlines import Deadlines
from headrace.services.sealing import Sealing

STEPS_AT_ONCE = 8
"""An upper bound on the steps of one call; the next wake-up goes on from there."""

FENCE_TRIES = 4
SHOW_TRIES = 5

CHECKPOINT_WAIT = timedelta(seconds=5)
CHECKPOINT_TRIES = 12
"""How often, and after which pause, a STOP looks for a JobManager that does not answer."""


class Execute:
    """Carries out a job's oldest open operation."""

    def __init__(
        self,
        store: Store,
        runtime: FlinkRuntime,
        job_manager: JobManager,
        clock: Clock,
        platform: Platform,
        derive_job: Callable[[Operation, Job | None], Job],
        deadlines: Deadlines,
        sealing: Sealing,
        grace_seconds: float,
    ) -> None:
        self._sealing = sealing
        self._store = store
        self._runtime = runtime
        self._job_manager = job_manager
        self._clock = clock
        self._platform = platform
        self._derive_job = derive_job
        self._deadlines = deadlines
        self._grace_seconds = grace_seconds
        self._carry_out: Mapping[tuple[Kind, Step], Callable[[Job, Operation], None]] = {
            (Kind.SUBMIT, Step.BEGIN): self._clear,
            (Kind.SUBMIT, Step.CLEAR): self._clear,
            (Kind.SUBMIT, Step.CREATE): self._create,
            (Kind.SCALE, Step.BEGIN): self._scale,
            (Kind.SCALE, Step.WITHDRAW): self._withdraw,
            (Kind.STOP, Step.BEGIN): self._suspend,
            (Kind.STOP, Step.DELETE): self._delete,
            (Kind.STOP, Step.WITHDRAW): self._withdraw,
        }

    def oldest_open_operation(self, key: JobKey) -> Sequence[Operation]:
        """Takes the steps that are due, until one has to wait for an observation, and returns what each led to:
        the operation as it stood after it. Raises TransientError alone."""
        steps: list[Operation] = []
        while len(steps) < STEPS_AT_ONCE and (operation := self._one_step(key)) is not None:
            steps.append(self._fresh(operation))
        return steps

    def _one_step(self, key: JobKey) -> Operation | None:
        """The operation that this step was of; None where nothing is due."""
        open_operations = self._supersede(self._store.open_operations_of(key))
        if not open_operations:
            return None
        operation = open_operations[0]
        if operation.step not in DUE or self._is_too_early(operation):
            return None
        job = self._derive_job(operation, self._store.job(key))
        try:
            if operation.step is not Step.WITHDRAW and self._is_late(operation, self._clock.now()):
                why = f": {operation.reason}" if operation.reason else ""
                self._fail(job, operation, f"its deadline passed at step {operation.step}{why}")
            else:
                self._carry_out[operation.kind, operation.step](job, operation)
        except LostRace:
            return operation
        except Refused as error:
            self._fail(job, operation, explain(Evidence(refused=str(error))) or Explanation(str(error), ""))
        except Unavailable as error:
            self._say_waiting(operation, str(error))
            raise
        self._look_again_after_a_failure(operation)
        return operation

    def _look_again_after_a_failure(self, operation: Operation) -> None:
        """A failed operation no longer gives the job its phase, and no event may come to say so."""
        if self._fresh(operation).state is not State.FAILED:
            return
        for _ in range(SHOW_TRIES):
            job = self._store.job(operation.key)
            if job is None or job.deployment_uid is None or job.phase in SETTLED:
                return
            with suppress(LostRace):  # the sync has just seen it too, with the operation still open
                self._show(job)
                return

    def _show(self, job: Job) -> None:
        live = None
        with suppress(Refused):  # what was refused before may be refused again
            live = self._runtime.get(job.namespace, job.deployment_name)
        if live is None or live.metadata.uid != job.deployment_uid:
            return
        following = next(iter(self._store.open_operations_of(job.key)), None)
        observed = observe(Seen(live, self._clock.now()), job, following, grace_seconds=self._grace_seconds)
        self._store.replace_job(observed.job)
        if observed.transition is not None:
            self._store.add_transitions([replace(observed.transition, resource_version=None)])

    def _is_late(self, operation: Operation, at: datetime) -> bool:
        return at - self._deadlines.silent_for(operation) >= operation.deadline

    def _is_too_early(self, operation: Operation) -> bool:
        return operation.not_before is not None and self._clock.now() < operation.not_before

    def _supersede(self, open_operations: Sequence[Operation]) -> list[Operation]:
        """Ends what a later open operation makes pointless (the closed table), oldest first."""
        left = []
        for index, operation in enumerate(open_operations):
            later = next((o for o in open_operations[index + 1 :] if supersedes(o.kind, operation)), None)
            if later is None:
                left.append(operation)
            else:
                self._try_end(operation, State.SUPERSEDED, f"{later.kind} (operation {later.id}) came after it")
        return left

    # SUBMIT

    def _clear(self, job: Job, operation: Operation) -> None:
        """Before a run is created, what is left of the run before it has to be gone."""
        live = self._runtime.get(job.namespace, job.deployment_name)
        if live is None or _operation_of(live) == operation.id:
            self._begin_run(job, operation)
        elif not _is_of(live, job):
            self._fail(job, operation, _name_is_taken(live))
        elif sequence_of(live) > operation.sequence:
            self._end(operation, State.SUPERSEDED, "a newer operation has written the deployment")
        elif not self._keeps_state_of(job):
            self._fail(job, operation, f"job {job.job_id}: a run of it is still there; send STOP first")
        else:
            self._record_state(job, operation, live)
            self._runtime.delete(job.namespace, job.deployment_name, live.metadata.uid)
            soon = self._clock.now() + timedelta(seconds=1)
            self._write(replace(operation, step=Step.CLEAR, state=State.RUNNING, not_before=soon))

    def _record_state(self, job: Job, operation: Operation, live: Deployment) -> None:
        """What a failed run leaves is on record before it is deleted, where its JobManager still answers."""
        try:
            path = self._last_checkpoint(job, live)
        except Unavailable:
            return
        if path and path != job.savepoint_path:
            self._store.add_savepoint(path, job.key, job.run, "checkpoint", self._clock.now())
            self._remember(operation, savepoint_path=path)

    def _keeps_state_of(self, job: Job) -> bool:
        return job.phase in SETTLED or job.phase is Phase.REQUESTED

    def _begin_run(self, job: Job, operation: Operation) -> None:
        """The job's record is made ready for the run, once: a worker that comes late finds it begun, and what was
        created since stays on record."""
        job = self._store.job(job.key) or job
        if job.applied_sequence < operation.sequence:
            start_from = operation.arguments.get("start_from")
            if start_from == "last" and not job.savepoint_path:
                words = f"job {job.job_id} has no last state on record; submit it without start_from"
                self._fail(job, operation, words)
                return
            self._store.replace_job(of_new_run(job, operation, self._clock.now()))
            self._tell_transition(job, job.run + 1, Phase.REQUESTED, "")
        self._move(operation, Step.CREATE)

    def _create(self, job: Job, operation: Operation) -> None:
        request = parse_request(operation.arguments["request"])
        manifest = render(job, request, self._platform, Stamp(operation.sequence, operation.id, job.run))
        created = self._runtime.create(manifest) or self._runtime.get(job.namespace, job.deployment_name)
        if created is None or _operation_of(created) != operation.id:
            self._move(operation, Step.CLEAR)
            return
        if not self._still_wanted(operation):
            self._runtime.delete(job.namespace, job.deployment_name, created.metadata.uid)
            return
        self._bring_files_and_secrets(job, request, created)
        self._created(job, operation, manifest, created)

    def _bring_files_and_secrets(self, job: Job, request: JobRequest, created: Deployment) -> None:
        """What the pods wait for, made after the deployment since that owns it."""
        labels = metadata_labels(job, {})
        if request.source_files():
            self._runtime.put_files(created, files_name(job, request), config_map_data(request), labels)
        sealed = sealed_of(request)
        if sealed:
            self._runtime.put_secret(created, secret_name(job, request), self._sealing.opened(sealed), labels)

    def _created(self, job: Job, operation: Operation, manifest: Mapping[str, Any], created: Deployment) -> None:
        uid = created.metadata.uid
        self._remember(
            operation,
            applied_manifest=manifest,
            deployment_uid=uid,
            generation=created.metadata.generation,
            observation=Observation.FRESH,
            observed_at=self._clock.now(),
            reason="",
            next_step="",
        )
        try:
            self._move(operation, Step.AWAIT_RUNNING, generation=created.metadata.generation, deployment_uid=uid)
        except LostRace:
            if not self._still_wanted(operation):
                self._runtime.delete(job.namespace, job.deployment_name, uid)
            raise

    def _still_wanted(self, operation: Operation) -> bool:
        """Reads the operation again: a worker that froze before its create must not bring a stopped job back."""
        stored = self._store.operation(operation.tenant, operation.id)
        later = self._store.open_operations_of(operation.key)
        return stored is not None and stored.is_open and not any(o.kind is Kind.STOP for o in later)

    # SCALE

    def _scale(self, job: Job, operation: Operation) -> None:
        if job.deployment_uid is None or job.applied_manifest is None or job.phase in SETTLED:
            self._end(operation, State.FAILED, f"job {job.job_id} is {job.phase}: there is nothing to scale")
            return
        request = with_parallelism(parse_request(job.request), operation.arguments["parallelism"])
        wanted = render(job, request, self._platform, self._stamp(job, operation))
        self._apply(job, operation, wanted, Step.AWAIT_RUNNING)

    # STOP

    def _suspend(self, job: Job, operation: Operation) -> None:
        live = self._runtime.get(job.namespace, job.deployment_name)
        if live is None or not _is_of(live, job) or job.applied_manifest is None:
            self._nothing_left(job, operation, live)
            return
        if job.deployment_uid != live.metadata.uid:
            job = self._remember(operation, deployment_uid=live.metadata.uid)
        if sequence_of(live) != operation.sequence:  # else the suspend is written, and its record was lost
            kept = self._keep_what_there_is(job, operation, live)
            if kept is None:
                return
            operation = self._write(replace(kept, savepoint_before=_upgrade_savepoint_of(live)))
        wanted = with_state(dict(job.applied_manifest or {}), "suspended", job, self._stamp(job, operation))
        self._apply(job, operation, wanted, Step.AWAIT_SUSPENDED)

    def _nothing_left(self, job: Job, operation: Operation, live: Deployment | None) -> None:
        if live is not None and _is_of(live, job):
            self._runtime.delete(job.namespace, job.deployment_name, live.metadata.uid)
            self._remember(operation, deployment_uid=live.metadata.uid)
            self._move(operation, Step.AWAIT_GONE, deployment_uid=live.metadata.uid)
            return
        self._settle(job, operation, Phase.CANCELLED, Explanation("stopped before it ran", ""))
        self._end(operation, State.SUCCEEDED, "nothing ran")

    def _keep_what_there_is(self, job: Job, operation: Operation, live: Deployment) -> Operation | None:
        """Before anything is suspended, the last checkpoint's path is on record, whatever becomes of the savepoint.

        None where the operation does not go on to suspend: it waits, has ended, or deletes at once.
        """
        running = is_running(live)
        try:
            path = self._last_checkpoint(job, live)
        except Unavailable as error:
            return self._without_checkpoint(job, operation, running, str(error))
        path = path or job.start_from
        if path:
            self._store.add_savepoint(path, job.key, job.run, "checkpoint", self._clock.now())
            operation = self._write(replace(operation, savepoint_path=path, state=State.RUNNING))
            if not (has_ended(live) or never_started(live, job.was_running)):
                return operation
            # Nothing is left to suspend: its state cannot change any more, or has not begun to.
        if running:
            return self._write(replace(operation, state=State.RUNNING))
        self._move(operation, Step.DELETE)
        return None

    def _last_checkpoint(self, job: Job, live: Deployment) -> str | None:
        status = live.status.job_status if live.status else None
        flink_job_id = (status.job_id if status else None) or job.flink_job_id
        if flink_job_id is None or never_started(live, job.was_running):
            return None
        return self._job_manager.last_checkpoint(job.namespace, job.deployment_name, flink_job_id)

    def _without_checkpoint(self, job: Job, operation: Operation, running: bool, why: str) -> Operation | None:
        now = self._clock.now()
        if running and not operation.arguments.get("force"):
            return operation
        if operation.arguments.get("force") or not (job.was_running or job.start_from):
            self._move(operation, Step.DELETE)
        elif self._is_late(operation, now + CHECKPOINT_WAIT) or operation.attempts >= CHECKPOINT_TRIES:
            reason = f"its last checkpoint cannot be read ({why}); nothing was deleted; force ends the run without it"
            self._end(operation, State.FAILED, reason)
        else:
            self._write(
                replace(
                    operation,
                    state=State.RUNNING,
                    attempts=operation.attempts + 1,
                    not_before=now + CHECKPOINT_WAIT,
                    reason=f"waiting for the JobManager: {why}",
                )
            )
        return None

    def _delete(self, job: Job, operation: Operation) -> None:
        if operation.savepoint_path:
            kind = "savepoint" if "savepoint-" in operation.savepoint_path else "checkpoint"
            self._store.add_savepoint(operation.savepoint_path, job.key, job.run, kind, self._clock.now())
            job = self._remember(operation, savepoint_path=operation.savepoint_path)
        uid = operation.deployment_uid or job.deployment_uid
        if uid is None or not self._runtime.delete(job.namespace, job.deployment_name, uid):
            self._settle(job, operation, Phase.CANCELLED, Explanation("stopped", ""))
            self._end(operation, State.SUCCEEDED, _stopped(operation))
            return
        self._move(operation, Step.AWAIT_GONE, deployment_uid=uid)

    # every kind

    def _withdraw(self, job: Job, operation: Operation) -> None:
        """Takes a failed change back while the operator has not begun it; later that would be a redeploy of its own."""
        live = self._runtime.get(job.namespace, job.deployment_name)
        behind = live is not None and is_behind(live, operation.generation)
        if live is not None and behind and live.metadata.uid == job.deployment_uid and job.applied_manifest is not None:
            wanted = render(job, parse_request(job.request), self._platform, self._stamp(job, operation))
            written = self._fenced(job, operation, diff.changes(job.applied_manifest, wanted))
            if written is not None:
                self._remember(operation, applied_manifest=wanted, desired=Desired.RUNNING)
        self._end(operation, State.FAILED, operation.failure or "withdrawn")

    def _apply(self, job: Job, operation: Operation, wanted: Mapping[str, Any], then: Step) -> None:
        """One fenced patch from the last applied manifest to `wanted`, then the step that waits for it."""
        assert job.applied_manifest is not None  # noqa: S101 - the callers have looked
        written = self._written_already(job, operation)
        written = written or self._fenced(job, operation, diff.changes(job.applied_manifest, wanted))
        if written is None:
            return
        self._remember(
            operation,
            applied_manifest=wanted,
            applied_sequence=operation.sequence,
            generation=written.metadata.generation,
        )
        self._move(operation, then, generation=written.metadata.generation, deployment_uid=written.metadata.uid)

    def _written_already(self, job: Job, operation: Operation) -> Deployment | None:
        """The deployment where a worker has written and recorded it, and only the operation's own record is behind."""
        if job.applied_sequence != operation.sequence:
            return None
        live = self._runtime.get(job.namespace, job.deployment_name)
        is_it = live is not None and live.metadata.uid == job.deployment_uid
        return live if live is not None and is_it and sequence_of(live) == operation.sequence else None

    def _fenced(self, job: Job, operation: Operation, wished: Sequence[Change]) -> Deployment | None:
        """Writes behind the fence; a fence that did not hold is read once and classified. None: the operation ended."""
        assert job.deployment_uid is not None  # noqa: S101 - the callers have looked
        fence, changes = Fence(job.deployment_uid, job.applied_sequence), list(wished)
        for _ in range(FENCE_TRIES):
            written = self._runtime.patch(job.namespace, job.deployment_name, fence, changes)
            if written is not None:
                return written
            live = self._runtime.get_whole(job.namespace, job.deployment_name)
            seen = self._runtime.get(job.namespace, job.deployment_name)
            if live is None or seen is None or seen.metadata.uid != job.deployment_uid:
                self._end(operation, State.FAILED, f"the deployment of job {job.job_id} was deleted outside Headrace")
                return None
            if sequence_of(seen) == operation.sequence and operation.step is not Step.WITHDRAW:
                return seen
            if sequence_of(seen) > operation.sequence:
                self._end(operation, State.SUPERSEDED, "a newer operation has written the deployment")
                return None
            fence, changes = Fence(job.deployment_uid, sequence_of(seen)), diff.fitted(live, wished)
        raise Unavailable(f"job {job.job_id}: its deployment changes too often to be patched; it is tried again")

    def _stamp(self, job: Job, operation: Operation) -> Stamp:
        return Stamp(operation.sequence, operation.id, job.run)

    def _say_waiting(self, operation: Operation, why: str) -> None:
        """A server that is not there keeps an operation waiting: whoever looks at it reads why."""
        waiting, stored = f"waiting: {why}", self._fresh(operation)
        if stored.is_open and stored.reason != waiting:
            with suppress(TransientError):
                self._write(replace(stored, reason=waiting))

    def _fail(self, job: Job, operation: Operation, why: str | Explanation) -> None:
        words = why if isinstance(why, Explanation) else Explanation(why, "")
        if operation.kind is Kind.SUBMIT:
            self._settle(job, operation, Phase.REJECTED, words)
        self._end(self._fresh(operation), State.FAILED, str(words))

    def _settle(self, job: Job, operation: Operation, phase: Phase, why: Explanation) -> None:
        """A phase that no observation can show, since there is no deployment; with its place in the history. A run that
        has ended is not cancelled by removing what is left of it."""
        if phase is Phase.CANCELLED and job.phase in SETTLED:
            return
        now = self._clock.now()
        facts = {"phase": phase, "phase_since": now, "reason": why.cause, "next_step": why.next_step}
        stored = self._remember(operation, **facts, observed_at=now, observation=Observation.FRESH)
        self._tell_transition(job, stored.run, phase, why.cause)

    def _tell_transition(self, before: Job, run: int, phase: Phase, reason: str) -> None:
        if before.phase is phase:
            return
        now = self._clock.now()
        transition = Transition(
            tenant=before.tenant,
            job_id=before.job_id,
            run=run,
            from_phase=before.phase,
            to_phase=phase,
            at=now,
            observed_at=now,
            reason=reason,
        )
        self._store.add_transitions([transition])

    def _remember(self, operation: Operation, **facts: Any) -> Job:
        """Writes facts into the job's record, whoever else writes it meanwhile; but never over those of a newer
        operation: a worker that froze knows nothing of it. Raises LostRace there."""
        key = operation.key
        for _ in range(20):
            job = self._store.job(key)
            if job is None:
                raise LostRace(f"job {key.job_id} has no record yet")
            if job.applied_sequence > operation.sequence:
                raise LostRace(f"job {key.job_id}: a newer operation than {operation.id} has written its record")
            try:
                return self._store.replace_job(replace(job, **facts, updated_at=self._clock.now()))
            except LostRace:
                continue
        raise Unavailable(f"job {key.job_id}: its record changes too often; it is tried again")

    def _fresh(self, operation: Operation) -> Operation:
        return self._store.operation(operation.tenant, operation.id) or operation

    def _move(self, operation: Operation, step: Step, **facts: Any) -> Operation:
        return self._write(replace(operation, step=step, state=State.RUNNING, not_before=None, **facts))

    def _end(self, operation: Operation, state: State, reason: str) -> Operation:
        now = self._clock.now()
        return self._write(replace(operation, state=state, reason=reason, ended_at=now))

    def _try_end(self, operation: Operation, state: State, reason: str) -> None:
        try:
            self._end(operation, state, reason)
        except LostRace:
            stored = self._fresh(operation)
            if stored.is_open:
                self._end(stored, state, reason)

    def _write(self, operation: Operation) -> Operation:
        return self._store.replace_operation(replace(operation, updated_at=self._clock.now()))


def _upgrade_savepoint_of(deployment: Deployment) -> str | None:
    status = deployment.status.job_status if deployment.status else None
    return status.upgrade_savepoint_path if status else None


def _operation_of(deployment: Deployment) -> str | None:
    return (deployment.metadata.annotations or {}).get(OPERATION_ANNOTATION)


def _is_of(deployment: Deployment, job: Job) -> bool:
    labels, annotations = deployment.metadata.labels or {}, deployment.metadata.annotations or {}
    return (
        labels.get(MANAGED_BY_LABEL) == MANAGED_BY
        and annotations.get(JOB_ID_ANNOTATION) == job.job_id
        and annotations.get(TENANT_ANNOTATION) == job.tenant
    )


def _name_is_taken(live: Deployment) -> str:
    labels = live.metadata.labels or {}
    owner = labels.get(MANAGED_BY_LABEL) or "somebody who set no app.kubernetes.io/managed-by label"
    return (
        f"a FlinkDeployment {live.metadata.namespace}/{live.metadata.name} exists and is not this job's: it belongs to "
        f"{owner}; choose another job_id, or remove it"
    )


def _stopped(operation: Operation) -> str:
    return f"state kept in {operation.savepoint_path}" if operation.savepoint_path else "the job had no state"
