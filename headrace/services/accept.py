"""Accepting a request: validate it whole, then one insert, the commit point. Knows no web or task framework.

Nothing here writes to Kubernetes. What follows from the insert (the job's record) is derived and can be repaired.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeGuard, cast

from headrace.domain.document import MOST_OPEN, JobDocument
from headrace.domain.inputs import blamed_on_input
from headrace.domain.jobs import LEGAL_NAME, Job, JobKey
from headrace.domain.manifest import Platform, Stamp, render
from headrace.domain.operations import (
    KINDS,
    LAST,
    AdoptArguments,
    KindName,
    Operation,
    RollbackArguments,
    Source,
    SubmitArguments,
    UpgradeArguments,
    hash_of,
    operation_id,
)
from headrace.domain.operations.resume import ResumeArguments
from headrace.domain.templates import Template
from headrace.errors import (
    INPUTS_FAULT,
    Conflict,
    HeadraceError,
    IdempotencyConflict,
    InvalidRequest,
    LostRace,
    NotFound,
    TooMany,
    TransientError,
    Unavailable,
)
from headrace.ports import Clock, TaskQueue
from headrace.services.adopting import Adopting
from headrace.services.records import Records, merged
from headrace.services.resolve import Place, Resolve
from headrace.services.roll_back import RollBack
from headrace.services.sealing import Sealing, refuse_secrets

JOB_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")
LONGEST_KEY = 200
"""Characters of an idempotency key."""

ATTEMPTS = 50
"""How often a sequence that somebody else took first is tried anew."""


ArgumentsOf = Callable[[JobDocument], Mapping[str, Any]]
"""What the log keeps of a request, by the job as it is with all that was accepted of it."""

NO_OPERATION = "00000000"
"""The id of an operation that is none: of what would be, if it were accepted."""


@dataclass(frozen=True)
class _Checked:
    """A request that may be asked by its form. `body_hash` tells it from another under one key, and may keep a key for
    that; `resolved` finds the job and what the log would keep, and is for one that is no repeat; `stored` is what was
    said, where that is kept as it is."""

    body_hash: Callable[[], str]
    resolved: Callable[[], tuple[JobKey, ArgumentsOf]]
    stored: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """An accepted operation, whether this call stored it, and the job's document with it where that is at hand."""

    operation: Operation
    created: bool
    document: JobDocument | None = None


@dataclass(frozen=True)
class Requested:
    """One request among many; see Accept.operation."""

    kind: KindName
    job_id: str | None
    arguments: Mapping[str, Any]
    key: str
    source: Source


class Accept:
    """Takes requests in. Each call is idempotent under its idempotency key."""

    def __init__(
        self,
        records: Records,
        resolve: Resolve,
        queue: TaskQueue,
        clock: Clock,
        platform: Platform,
        place: Place,
        sealing: Sealing,
        adopting: Adopting,
        roll_back: RollBack,
    ) -> None:
        self._adopting = adopting
        self._roll_back = roll_back
        self._sealing = sealing
        self._resolve = resolve
        self._records = records
        self._store = records.store
        self._queue = queue
        self._clock = clock
        self._platform = platform
        self._place = place

    def operation(
        self,
        kind: KindName,
        job_id: str | None,
        arguments: Mapping[str, Any],
        *,
        tenant: str,
        key: str | None,
        source: Source,
        is_executed_here: bool = False,
    ) -> Accepted:
        """Accepts what was asked of a job, the same whichever way it came in; `key` is the idempotency key. Who
        executes the operation itself right after this needs no wake-up, and gets none.

        A SUBMIT begins run 1 of a new job, or run n+1 of a settled one; without a job id the job is named after its
        template and the operation; an adopted one after its deployment. A plain secret is sealed before anything is
        stored. Raises InvalidRequest, NotFound
        (the job, where the kind begins none), Conflict, IdempotencyConflict, TooMany.
        """
        key = key or str(uuid.uuid4())
        with blamed_on_input("arguments"):
            refuse_secrets({"idempotency_key": key})
        checked = self._checked(kind, job_id, arguments, tenant, operation_id(tenant, key), source)
        body_hash = checked.body_hash()
        try:
            job_key, arguments_of = checked.resolved()
            accepted = self._insert(job_key, kind, arguments_of, body_hash, key, source, checked.stored)
        except (*INPUTS_FAULT, TooMany):
            repeated = self._repeat_of(tenant, key, body_hash)  # accepted once, it stays so, whatever holds by now
            if repeated is None:
                raise
            accepted = repeated
        if not is_executed_here:
            self._queue.wake(accepted.operation.key)
        return accepted

    def new_jobs(self, asked: Sequence[Requested], *, tenant: str) -> Sequence[Accepted | None]:
        """Accepts those of these requests that begin jobs of which nothing is known yet, in a few calls for all of
        them: each is durable as by `operation`. None for every other, which `operation` accepts, or says why not: of
        two of one job the first alone is done here. Raises what a server's trouble is, and then nothing is lost."""
        first: dict[JobKey, Operation] = {}
        made = [self._as_new_job(each, tenant) for each in asked]
        for each in made:
            if each is not None:
                first.setdefault(each.key, each)
        known = self._store.known_jobs(list(first))
        inserted = self._store.insert_operations([each for key, each in first.items() if key not in known])
        stored = {each.id: each for each in first.values() if each.id in set(inserted)}
        documents: Mapping[JobKey, JobDocument] = {}
        with suppress(TransientError):
            documents = self._records.place_new(list(stored.values()))
        for operation in stored.values():
            self._queue.wake(operation.key)
        return [
            Accepted(each, True, documents.get(each.key)) if each is not None and stored.get(each.id) is each else None
            for each in made
        ]

    def _as_new_job(self, asked: Requested, tenant: str) -> Operation | None:
        """The operation with which a new job would begin; None where it begins none, or may not be asked."""
        if not KINDS[asked.kind].begins_a_run:
            return None
        try:
            with blamed_on_input("arguments"):
                refuse_secrets({"idempotency_key": asked.key})
            unique = operation_id(tenant, asked.key)
            checked = self._checked(asked.kind, asked.job_id, asked.arguments, tenant, unique, asked.source)
            body_hash = checked.body_hash()
            job_key, arguments_of = checked.resolved()
        except HeadraceError:
            return None
        document = self._records.new(job_key)
        if _refusal(document, asked.kind, checked.stored) is not None:
            return None
        return self._operation(document, asked.kind, arguments_of(document), body_hash, asked.key, asked.source)

    def proposed(
        self, kind: KindName, job_id: str | None, arguments: Mapping[str, Any], *, tenant: str, source: Source
    ) -> JobDocument:
        """The job's document as it would be with this operation accepted, and nothing is accepted, stored or woken.
        Raises as `operation` does; a job that would be named after its template has zeros at the end of its name."""
        checked = self._checked(kind, job_id, arguments, tenant, NO_OPERATION, source)
        job_key, arguments_of = checked.resolved()
        document = self._expected(job_key, kind)
        refused = _refusal(document, kind, checked.stored)
        if refused is not None:
            raise refused
        operation = self._operation(document, kind, arguments_of(document), "", str(uuid.uuid4()), source)
        named = replace(operation, id=NO_OPERATION)
        return document.placing([named], named.accepted_at).with_operation(named)

    def _checked(
        self,
        kind: KindName,
        job_id: str | None,
        arguments: Mapping[str, Any],
        tenant: str,
        unique: str,
        source: Source,
    ) -> _Checked:
        """What was asked, by its form and by what no request may bring. `unique` names a job that has no name yet."""
        with blamed_on_input("arguments"):
            refuse_secrets({"job_id": job_id})
            asked = KINDS[kind].asked(arguments)
        if isinstance(asked, SubmitArguments):
            return self._run(kind, job_id, asked, tenant, unique, source)
        if isinstance(asked, AdoptArguments):
            return self._adopt(kind, job_id or asked.deployment, asked, tenant)
        named = _checked_job_id(job_id)
        job_key = JobKey(tenant, named)
        if isinstance(asked, UpgradeArguments):
            return self._upgrade(kind, job_key, asked, source)
        stored = asked.model_dump(mode="json", exclude_none=True)  # a release with more fields hashes the same
        refuse_secrets(stored)
        body_hash = partial(hash_of, kind, named, stored)
        if isinstance(asked, RollbackArguments):
            went_back = partial(self._roll_back.arguments, asked=asked)
            return _Checked(body_hash, lambda: (job_key, went_back))

        def resolved() -> tuple[JobKey, ArgumentsOf]:
            if isinstance(asked, ResumeArguments):
                self._refuse_what_is_no_start(tenant, asked.start_from)
            return job_key, lambda _: stored

        return _Checked(body_hash, resolved, stored)

    def _run(
        self, kind: KindName, job_id: str | None, asked: SubmitArguments, tenant: str, unique: str, source: Source
    ) -> _Checked:
        named = None if job_id is None else _checked_job_id(job_id)
        with blamed_on_input("job_config"):
            named_by = {"template_id": asked.template_id, "start_from": asked.start_from}
            self._sealing.check_submit(asked.job_config, named_by, source)
        given = {"job_config": dict(asked.job_config)} | (
            {"parameters": dict(asked.parameters)} if asked.parameters else {}
        )
        version = {"template_version": asked.template_version, "job_id": named}

        def body_hash() -> str:
            with blamed_on_input("job_config"):
                return self._sealing.hash_of_submit(kind, named or "", {**given, **named_by, **version}, tenant)

        return _Checked(body_hash, partial(self._new_run, named, asked, tenant, unique, source))

    def _new_run(
        self, named: str | None, asked: SubmitArguments, tenant: str, unique: str, source: Source
    ) -> tuple[JobKey, ArgumentsOf]:
        self._refuse_what_is_no_start(tenant, asked.start_from)
        template = self._resolve.template(tenant, asked.template_id, asked.template_version)
        with blamed_on_input("parameters"):
            self._sealing.check_parameters(template, asked.parameters, source)
        job_key = JobKey(tenant, named or _job_id_for(template, unique))
        request = self._resolve.request(template, asked, job_key)
        if asked.start_from == LAST and self._records.existing(job_key) is None:
            raise InvalidRequest({"start_from": f"job {job_key.job_id} is new: it has no last state to start from"})
        stored = {
            "request": request.as_json(),
            "template_id": template.template_id if template else None,
            "template_version": template.version if template else None,
            "start_from": asked.start_from,
            "given": self._resolve.given(template, asked.parameters, asked.job_config),
        }
        return job_key, lambda _: stored

    def _refuse_what_is_no_start(self, tenant: str, start_from: str | None) -> None:
        """A path that is on record as other tenants' alone is none for this one, whose it is is not said; and one that
        goes, or is gone, is none any more."""
        if start_from in (None, LAST):
            return
        known = self._store.savepoints_at(start_from or "")
        if known and all(each.tenant != tenant for each in known):
            raise NotFound(
                f"start_from: there is no savepoint {start_from} that is yours; GET savepoints lists those that are"
            )
        if any(each.disposing_since is not None for each in known):
            raise Conflict(f"start_from: the savepoint {start_from} is being disposed of, or is gone; choose another")

    def _upgrade(self, kind: KindName, job_key: JobKey, asked: UpgradeArguments, source: Source) -> _Checked:
        with blamed_on_input("job_config"):
            self._sealing.check_submit(asked.job_config, {}, source)
        given = {name: value for name, value in asked.model_dump().items() if value is not None}

        def body_hash() -> str:
            with blamed_on_input("job_config"):
                return self._sealing.hash_of_submit(kind, job_key.job_id, given, job_key.tenant)

        upgraded = partial(self._resolve.upgraded, asked=asked, source=source)
        return _Checked(body_hash, lambda: (job_key, upgraded))

    def _adopt(self, kind: KindName, job_id: str | None, asked: AdoptArguments, tenant: str) -> _Checked:
        """The live deployment is asked first: who adopts what is not there, or not fit, hears so at once."""
        named = _checked_job_id(job_id)
        name = asked.deployment or _checked_deployment(named)
        of_live = partial(self._adopting.arguments, name=name)
        return _Checked(partial(hash_of, kind, named, {"deployment": name}), lambda: (JobKey(tenant, named), of_live))

    def render(self, job_id: str | None, arguments: Mapping[str, Any], *, tenant: str) -> dict[str, Any]:
        """The manifest that a SUBMIT of these arguments would create, and nothing else. Raises as `operation` does."""
        with blamed_on_input("arguments"):
            asked = cast(SubmitArguments, KINDS[KindName.SUBMIT].asked(arguments))
        with blamed_on_input("job_config"):
            self._sealing.check_submit(asked.job_config, {"template_id": asked.template_id}, Source(via="http"))
        template = self._resolve.template(tenant, asked.template_id, asked.template_version)
        named = _job_id_for(template, "00000000") if job_id is None else _checked_job_id(job_id)
        job_key = JobKey(tenant, named)
        request = self._resolve.request(template, asked, job_key)
        with blamed_on_input("job_config"):
            return render(self._new_job(job_key), request, self._platform, Stamp(1, "dry-run", 1))

    def _insert(
        self,
        job_key: JobKey,
        kind: KindName,
        arguments_of: ArgumentsOf,
        body_hash: str,
        key: str,
        source: Source,
        asked: Mapping[str, Any],
    ) -> Accepted:
        stored = self._records.stored(job_key)
        document = stored if _is_enough(stored, kind, asked) else self._with_log(job_key, kind, stored)
        for _ in range(ATTEMPTS):
            refused = _refusal(document, kind, asked)
            if refused is not None:
                raise refused
            try:
                arguments = arguments_of(document)  # of some kinds the cluster is asked
            except TransientError:
                repeated = self._repeat_of(job_key.tenant, key, body_hash)
                if repeated is None:
                    raise
                return repeated
            operation = self._operation(document, kind, arguments, body_hash, key, source)
            try:
                inserted = self._store.insert_operation(operation)
            except LostRace:
                document = self._expected(job_key, kind)
                continue
            if inserted.operation.arguments_hash != body_hash:
                raise _another_body(key, inserted.operation)
            return self._placed(inserted.operation, stored) if inserted.created else self._known(inserted.operation)
        raise Unavailable(f"job {job_key.job_id}: {ATTEMPTS} other requests were accepted at once; send this one again")

    def _expected(self, job_key: JobKey, kind: KindName) -> JobDocument:
        """The job with all that was accepted of it, placed or not. Raises NotFound, and Conflict where the job is
        another installation's."""
        return self._with_log(job_key, kind, self._records.stored(job_key))

    def _with_log(self, job_key: JobKey, kind: KindName, stored: JobDocument | None) -> JobDocument:
        document = self._records.with_log(job_key, stored)
        is_there = document is not None and (not document.job.is_forgotten or document.next_run is not None)
        if not is_there and not KINDS[kind].makes_a_job:
            raise NotFound(f"job {job_key.job_id}: there is none of this name; GET jobs lists those that are")
        return document or self._records.new(job_key)

    def _operation(
        self,
        document: JobDocument,
        kind: KindName,
        arguments: Mapping[str, Any],
        body_hash: str,
        key: str,
        source: Source,
    ) -> Operation:
        """The operation with exactly the next sequence: the index makes check and insert one. Of a job whose record is
        lost the deployment has the last one."""
        now = self._clock.now()
        last = max(document.job.last_sequence, int(arguments.get("live_sequence", 0)))
        return Operation(
            id=operation_id(document.key.tenant, key),
            tenant=document.key.tenant,
            job_id=document.key.job_id,
            sequence=last + 1,
            kind=kind,
            arguments=arguments,
            arguments_hash=body_hash,
            idempotency_key=key,
            source=source,
            accepted_at=now,
            updated_at=now,
            deadline_seconds=self._place.deadline_seconds,
            cluster=self._place.cluster,
            namespace=self._place.namespace,
        )

    def _placed(self, operation: Operation, stored: JobDocument | None) -> Accepted:
        """It is accepted; placing it is best effort, and done by others where it fails."""
        document = None
        with suppress(TransientError):
            document = self._records.place_next(stored, operation)
        placed = document.operation(operation.id) if document is not None else None
        return Accepted(merged(placed, operation) if placed is not None else operation, True, document)

    def _known(self, operation: Operation) -> Accepted:
        return Accepted(self._records.operation(operation.tenant, operation.id) or operation, created=False)

    def _new_job(self, key: JobKey) -> Job:
        return self._records.new(key).job

    def _repeat_of(self, tenant: str, key: str, body_hash: str) -> Accepted | None:
        stored = self._store.operation_by_key(tenant, key)
        if stored is None:
            return None
        if stored.arguments_hash != body_hash:
            raise _another_body(key, stored)
        return self._known(stored)


def _is_enough(stored: JobDocument | None, kind: KindName, asked: Mapping[str, Any]) -> TypeGuard[JobDocument]:
    """Whether an operation may be accepted on what is stored: what was accepted since has the sequence that it would
    get, and so it is found at the insert. A refusal must rest on everything."""
    return stored is not None and not stored.job.is_forgotten and _refusal(stored, kind, asked) is None


def _refusal(document: JobDocument, kind: KindName, asked: Mapping[str, Any]) -> Conflict | TooMany | None:
    """Why it cannot be accepted now."""
    name = document.key.job_id
    refused = KINDS[kind].refusal_of(document.expected(name), asked)
    if refused:
        return Conflict(refused)
    if len(document.open_operations) >= MOST_OPEN:
        return TooMany(f"job {name}: {MOST_OPEN} operations are open; wait for some of them to end")
    return None


def _another_body(key: str, stored: Operation) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"idempotency key {key!r} was used for {stored.kind} of job {stored.job_id} with another body "
        f"(operation {stored.id}); send a new key for a new request"
    )


def _checked_job_id(job_id: Any) -> str:
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(
            {"job_id": "must be 1 to 100 letters, digits, '-', '_' or '.', with a letter or digit at both ends"}
        )
    return job_id


def _checked_deployment(job_id: str) -> str:
    """The job's id as the name of a deployment, where it can be one."""
    if not LEGAL_NAME.fullmatch(job_id):
        raise InvalidRequest({"deployment": f"{job_id} can be no FlinkDeployment's name: say which one is meant"})
    return job_id


def _job_id_for(template: Template | None, unique: str) -> str:
    """A name that the same idempotency key always gives."""
    stem = template.template_id.lower() if template else "job"
    stem = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:34].strip("-") or "job"
    return f"{stem if stem[0].isalpha() else 'job-' + stem}-{unique.replace('-', '')[:8]}"
