"""Accepting a request: validate it whole, then one insert, the commit point. Knows no web or task framework.

Nothing here writes to Kubernetes. What follows from the insert (the job's record) is derived and can be repaired.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from headrace.domain.document import MOST_OPEN, JobDocument
from headrace.domain.inputs import blamed_on_input
from headrace.domain.job_requests import JobRequest, Resources
from headrace.domain.jobs import Job, JobKey
from headrace.domain.manifest import Platform, Stamp, render
from headrace.domain.manifest.parts import state_of
from headrace.domain.operations import (
    KINDS,
    LAST,
    KindName,
    Operation,
    Source,
    SubmitArguments,
    UpgradeArguments,
    hash_of,
    operation_id,
)
from headrace.domain.pod_fields import meet
from headrace.domain.secrets import may_be_shown, shown_name
from headrace.domain.templates import Template, changed, merged, overridden, parse_resolved, picked, resolve, scale_of
from headrace.errors import (
    Conflict,
    IdempotencyConflict,
    InvalidRequest,
    LostRace,
    NotFound,
    TooMany,
    TransientError,
    Unavailable,
)
from headrace.ports import Clock, FlinkRuntime, Owner, TaskQueue
from headrace.services.records import Records
from headrace.services.sealing import Sealing, refuse_secrets

JOB_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")
LONGEST_KEY = 200
"""Characters of an idempotency key."""

ATTEMPTS = 50
"""How often a sequence that somebody else took first is tried anew."""


@dataclass(frozen=True)
class Accepted:
    """An accepted operation, and whether this call stored it."""

    operation: Operation
    created: bool


@dataclass(frozen=True)
class Place:
    """Where this installation puts jobs, and how long operations may take, in seconds."""

    cluster: str
    namespace: str
    deadline_seconds: float


class Accept:
    """Takes requests in. Each call is idempotent under its idempotency key."""

    def __init__(
        self,
        records: Records,
        queue: TaskQueue,
        runtime: FlinkRuntime,
        clock: Clock,
        platform: Platform,
        place: Place,
        sealing: Sealing,
    ) -> None:
        self._sealing = sealing
        self._records = records
        self._store = records.store
        self._queue = queue
        self._runtime = runtime
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
    ) -> Accepted:
        """Accepts what was asked of a job, the same whichever way it came in; `key` is the idempotency key.

        A SUBMIT begins run 1 of a new job, or run n+1 of a settled one; without a job id the job is named after its
        template and the operation. A plain secret is sealed before anything is stored. Raises InvalidRequest, NotFound
        (the job, where the kind begins none), Conflict, IdempotencyConflict, TooMany.
        """
        with blamed_on_input("arguments"):
            refuse_secrets({"job_id": job_id, "idempotency_key": key})
            asked = KINDS[kind].asked(arguments)
        key = key or str(uuid.uuid4())
        if isinstance(asked, SubmitArguments):
            return self._run(kind, job_id, asked, tenant, key, source)
        named = _checked_job_id(job_id)
        if isinstance(asked, UpgradeArguments):
            return self._upgrade(kind, JobKey(tenant, named), asked, key, source)
        stored = asked.model_dump(mode="json", exclude_none=True)  # a release with more fields hashes the same
        refuse_secrets(stored)
        body_hash = hash_of(kind, named, stored)
        repeated = self._repeat_of(tenant, key, body_hash)
        return repeated or self._insert(JobKey(tenant, named), kind, lambda _: stored, body_hash, key, source)

    def _run(
        self, kind: KindName, job_id: str | None, asked: SubmitArguments, tenant: str, key: str, source: Source
    ) -> Accepted:
        named = None if job_id is None else _checked_job_id(job_id)
        with blamed_on_input("job_config"):
            named_by = {"template_id": asked.template_id, "start_from": asked.start_from}
            self._sealing.check_submit(asked.job_config, named_by, source)
            given = {"job_config": dict(asked.job_config)} | (
                {"parameters": dict(asked.parameters)} if asked.parameters else {}
            )
            version = {"template_version": asked.template_version, "job_id": named}
            body_hash = self._sealing.hash_of_submit(kind, named or "", {**given, **named_by, **version}, tenant)
        repeated = self._repeat_of(tenant, key, body_hash)
        if repeated is not None:
            return repeated
        template = self._template(tenant, asked.template_id, asked.template_version)
        with blamed_on_input("parameters"):
            self._sealing.check_parameters(template, asked.parameters, source)
        job_key = JobKey(tenant, named or _job_id_for(template, operation_id(tenant, key)))
        request = self._request(template, asked, job_key)
        if asked.start_from == LAST and self._records.preview(job_key) is None:
            raise InvalidRequest({"start_from": f"job {job_key.job_id} is new: it has no last state to start from"})
        stored = {
            "request": request.as_json(),
            "template_id": template.template_id if template else None,
            "template_version": template.version if template else None,
            "start_from": asked.start_from,
            "given": self._given(template, asked.parameters, asked.job_config),
        }
        return self._insert(job_key, kind, lambda _: stored, body_hash, key, source)

    def _upgrade(self, kind: KindName, job_key: JobKey, asked: UpgradeArguments, key: str, source: Source) -> Accepted:
        with blamed_on_input("job_config"):
            self._sealing.check_submit(asked.job_config, {}, source)
            given = {name: value for name, value in asked.model_dump().items() if value is not None}
            body_hash = self._sealing.hash_of_submit(kind, job_key.job_id, given, job_key.tenant)
        repeated = self._repeat_of(job_key.tenant, key, body_hash)
        upgraded = partial(self._upgraded, asked=asked, source=source)
        return repeated or self._insert(job_key, kind, upgraded, body_hash, key, source)

    def _upgraded(self, document: JobDocument, *, asked: UpgradeArguments, source: Source) -> dict[str, Any]:
        """What an UPGRADE of this job, as its open operations will leave it, comes to. Without another version or other
        values, its request is changed; else its template is resolved anew, under what was said beside it before."""
        job, before = self._as_it_will_be(document)
        given = before.arguments.get("given") or {}
        template_id, version = (before.arguments.get(name) for name in ("template_id", "template_version"))
        config, template = dict(asked.job_config), None
        with blamed_on_input("job_config"):
            if asked.template_version is None and not asked.parameters:
                body = changed(job.request, config)
            else:
                if template_id is None:
                    field = "template_version" if asked.template_version is not None else "parameters"
                    raise InvalidRequest({field: f"job {job.job_id} was made without a template: change job_config"})
                version = asked.template_version or version
                template = self._template(document.key.tenant, template_id, version)
                self._sealing.check_parameters(template, asked.parameters, source)
                lost = [name for name in given.get("not_kept") or () if name not in asked.parameters]
                if lost:
                    words = "was a secret, which is kept nowhere: send it again"
                    raise InvalidRequest({f"parameters.{shown_name(name)}": words for name in lost})
                scale = [scale_of(job.request)] if is_scaled(job) else []
                config = merged(picked(job.request, [*(given.get("overridden") or ()), *scale]), config)
                asked = asked.model_copy(update={"parameters": {**(given.get("parameters") or {}), **asked.parameters}})
                body = resolve(template, config, asked.parameters)
            body = with_profile(body, config, self._platform.profiles)
            owner = Owner.job(document.key.tenant, document.key.job_id)
            request = self._checked(parse_resolved(self._sealing.of_request(body, template, owner)))
        if template is not None:
            given = self._given(template, asked.parameters, config)
        else:
            given = {**given, "overridden": [*(given.get("overridden") or ()), *overridden(config)]}
        stored = {"template_id": template_id, "template_version": version, "given": given}
        return {"request": request.as_json(), **stored}

    def _as_it_will_be(self, document: JobDocument) -> tuple[Job, Operation]:
        """The job with the request that it will have once its open operations have ended well, programs included, and
        the operation that this came with. Raises Conflict where the log does not have it any more."""
        renewing = [each for each in document.open_operations if each.kind in KINDS and KINDS[each.kind].resolves]
        newest = renewing[-1].id if renewing else document.job.submitted_by
        before = self._store.operation(document.key.tenant, newest) if newest else None
        if before is None or "request" not in before.arguments:
            raise Conflict(f"job {document.key.job_id}: its request is not on record any more; STOP and SUBMIT it anew")
        job = replace(document.job, submitted=before.arguments["request"])
        if renewing:
            job = replace(job, scaled_to=None, scaled_to_task_managers=None)
        for each in document.open_operations:
            if each.sequence > before.sequence and each.kind is KindName.SCALE:
                job = KINDS[each.kind].result(job, each)
        return job, before

    def _given(
        self, template: Template | None, parameters: Mapping[str, Any], job_config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What was said beside a template, for an UPGRADE to another version of it: values that are no secret, the
        names of those that are, and which places were overridden; what stands there is in the request."""
        kept = self._sealing.without_secrets(template, parameters) if template is not None else {}
        not_kept = [name for name in parameters if name not in kept]
        return {"parameters": kept, "not_kept": not_kept, "overridden": overridden(job_config)}

    def render(self, job_id: str | None, arguments: Mapping[str, Any], *, tenant: str) -> dict[str, Any]:
        """The manifest that a SUBMIT of these arguments would create, and nothing else. Raises as `operation` does."""
        with blamed_on_input("arguments"):
            asked = cast(SubmitArguments, KINDS[KindName.SUBMIT].asked(arguments))
        with blamed_on_input("job_config"):
            self._sealing.check_submit(asked.job_config, {"template_id": asked.template_id}, Source(via="http"))
        template = self._template(tenant, asked.template_id, asked.template_version)
        named = _job_id_for(template, "00000000") if job_id is None else _checked_job_id(job_id)
        job_key = JobKey(tenant, named)
        request = self._request(template, asked, job_key)
        with blamed_on_input("job_config"):
            return render(self._new_job(job_key), request, self._platform, Stamp(1, "dry-run", 1))

    def _request(self, template: Template | None, asked: SubmitArguments, job: JobKey) -> JobRequest:
        with blamed_on_input("job_config"):
            body = resolve(template, asked.job_config, asked.parameters)
            body = with_profile(body, asked.job_config, self._platform.profiles)
            request = parse_resolved(self._sealing.of_request(body, template, Owner.job(job.tenant, job.job_id)))
        return self._checked(request)

    def _insert(
        self,
        job_key: JobKey,
        kind: KindName,
        arguments_of: Callable[[JobDocument], Mapping[str, Any]],
        body_hash: str,
        key: str,
        source: Source,
    ) -> Accepted:
        for _ in range(ATTEMPTS):
            document = self._expected(job_key, kind)
            refused = KINDS[kind].refusal(document.expected(job_key.job_id))
            if refused:
                # The same request may have been accepted by another process since it was looked for.
                repeated = self._repeat_of(job_key.tenant, key, body_hash)
                if repeated is None:
                    raise Conflict(refused)
                return repeated
            if len(document.open_operations) >= MOST_OPEN:
                raise TooMany(f"job {job_key.job_id}: {MOST_OPEN} operations are open; wait for some of them to end")
            operation = self._operation(document, kind, arguments_of(document), body_hash, key, source)
            try:
                inserted = self._store.insert_operation(operation)
            except LostRace:
                continue
            if inserted.operation.arguments_hash != body_hash:
                raise _another_body(key, inserted.operation)
            return self._accepted(inserted.operation, inserted.created)
        raise Unavailable(f"job {job_key.job_id}: {ATTEMPTS} other requests were accepted at once; send this one again")

    def _expected(self, job_key: JobKey, kind: KindName) -> JobDocument:
        """The job with all that was accepted of it, placed or not. Raises NotFound, and Conflict where the job is
        another installation's."""
        document = self._records.preview(job_key)
        if document is None and not KINDS[kind].begins_a_run:
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
        """The operation with exactly the next sequence: the index makes check and insert one."""
        now = self._clock.now()
        return Operation(
            id=operation_id(document.key.tenant, key),
            tenant=document.key.tenant,
            job_id=document.key.job_id,
            sequence=document.job.last_sequence + 1,
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

    def _accepted(self, operation: Operation, created: bool) -> Accepted:
        """It is accepted; placing it and waking a worker are best effort, and done by others where they fail."""
        if created:
            with suppress(TransientError):
                self._records.place(operation.key)
        self._queue.wake(operation.key)
        return Accepted(self._records.operation(operation.tenant, operation.id) or operation, created)

    def _new_job(self, key: JobKey) -> Job:
        return self._records.new(key).job

    def _repeat_of(self, tenant: str, key: str, body_hash: str) -> Accepted | None:
        stored = self._store.operation_by_key(tenant, key)
        if stored is None:
            return None
        if stored.arguments_hash != body_hash:
            raise _another_body(key, stored)
        return self._accepted(stored, created=False)

    def _template(self, tenant: str, template_id: str | None, version: int | None) -> Template | None:
        if template_id is None:
            return None
        template = self._store.template(tenant, template_id, version)
        if template is not None:
            return template
        newest = self._store.template(tenant, template_id) if version is not None else None
        if newest is not None:
            words = f"template {template_id!r} has no version {version}; its newest is {newest.version}"
            raise InvalidRequest({"template_version": words})
        known = ", ".join(known.template_id for known in self._store.templates(tenant)) or "none yet"
        raise InvalidRequest(
            {"template_id": f"there is no template{_named('template_id', template_id)}; known: {known}"}
        )

    def _checked(self, request: JobRequest) -> JobRequest:
        """What only the installation can check: policy, namespace, state, and the Flink versions of the live CRD."""
        problems = {f"job_config.{field}": words for field, words in self._problems_of(request)}
        if problems:
            raise InvalidRequest(problems)
        return request

    def _problems_of(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        yield from self._platform.policy.problems_of(request)
        if request.namespace not in (None, self._place.namespace):
            yield "namespace", f"must be {self._place.namespace}, this tenant's own"
        yield from self._state_problems(request)
        version = request.flink_version or self._platform.flink_version
        known = [each for each in self._known_flink_versions() if flink_release(each) >= OLDEST_FLINK]
        if flink_release(version) < OLDEST_FLINK:
            yield "flink_version", f"{version} is too old: v1_20 at least, whose options for state are used"
        elif known and version not in known:
            yield "flink_version", f"{version} is not in the cluster's CRD: {', '.join(known)}"

    def _state_problems(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        try:
            state = state_of(request, self._platform)
        except ValueError as error:
            yield "state", f"HEADRACE_FLINK_STATE_LOCATION is {self._platform.state_location}: {error}"
            return
        path = urlsplit(state.location).path
        for place, volume in enumerate(request.pod.volumes):
            if state.volume is not None and meet(volume.mount_path, path):
                yield f"pod.volumes.{place}.mount_path", f"state is mounted at {path}: choose another path"

    def _known_flink_versions(self) -> Sequence[str]:
        """The CRD's list; empty where Kubernetes cannot be asked now: an accept does not fail for that."""
        try:
            return self._runtime.flink_versions()
        except Unavailable:
            return ()


OLDEST_FLINK = (1, 20)
"""The oldest Flink whose options for checkpoints and high availability are those that we render."""


def flink_release(version: str) -> tuple[int, ...]:
    """v1_20 as (1, 20)."""
    return tuple(int(part) for part in version.removeprefix("v").split("_"))


def with_profile(
    body: Mapping[str, Any], config: Mapping[str, Any], profiles: Mapping[str, Resources]
) -> dict[str, Any]:
    """The body with its profile's resources below its own. A profile that a submit names stands above the template's
    resources. Raises InvalidRequest."""
    name = body.get("profile")
    if name is None:
        return dict(body)
    if not isinstance(name, str):
        raise InvalidRequest({"job_config.profile": "must be text"})
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none: set HEADRACE_RESOURCE_PROFILES_FILE"
        raise InvalidRequest({"job_config.profile": f"there is no profile{_named('profile', name)}; known: {known}"})
    own = config.get("resources") if "profile" in config else body.get("resources")
    base = profiles[name].model_dump(mode="json", exclude_none=True)
    return {**body, "resources": merged(base, own) if own else base}


def is_scaled(job: Job) -> bool:
    """Whether its scale is a SCALE's word, and no request's."""
    return job.scaled_to is not None or job.scaled_to_task_managers is not None


def _named(field: str, name: str) -> str:
    return f" {name!r}" if may_be_shown(field, name) else " of this name"


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


def _job_id_for(template: Template | None, unique: str) -> str:
    """A name that the same idempotency key always gives."""
    stem = template.template_id.lower() if template else "job"
    stem = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:34].strip("-") or "job"
    return f"{stem if stem[0].isalpha() else 'job-' + stem}-{unique.replace('-', '')[:8]}"
