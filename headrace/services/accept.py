"""Accepting a request: validate it whole, then one insert, the commit point. Knows no web or task framework.

Nothing here writes to Kubernetes. What follows from the insert (the job's record) is derived and can be repaired.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from headrace.domain import lifecycle
from headrace.domain.inputs import blamed_on_input
from headrace.domain.job_requests import JobRequest, Resources
from headrace.domain.jobs import Desired, Job, JobKey, Phase, deployment_name
from headrace.domain.manifest import Platform, Stamp, render
from headrace.domain.operations import DESIRED_BY, Kind, Operation, Source, hash_of, operation_id
from headrace.domain.templates import Template, merged, parse_resolved, resolve
from headrace.errors import Conflict, IdempotencyConflict, InvalidRequest, LostRace, NotFound, Unavailable
from headrace.ports import Clock, FlinkRuntime, Store, TaskQueue
from headrace.services.sealing import Sealing

JOB_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")
SAVEPOINT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^/\s]\S{0,2000}")
LONGEST_KEY = 200
"""Characters of an idempotency key."""

ATTEMPTS = 50
"""How often a sequence that somebody else took first is tried anew."""


@dataclass(frozen=True)
class Accepted:
    """An accepted operation, its job as the record has it, and whether this call stored the operation."""

    operation: Operation
    job: Job
    created: bool


@dataclass(frozen=True)
class Place:
    """Where this installation puts jobs, and how long operations may take, in seconds."""

    cluster: str
    namespace: str
    deadlines_seconds: Mapping[Kind, float]


class Accept:
    """Takes requests in. Each call is idempotent under its idempotency key."""

    def __init__(
        self,
        store: Store,
        queue: TaskQueue,
        runtime: FlinkRuntime,
        clock: Clock,
        platform: Platform,
        place: Place,
        sealing: Sealing,
    ) -> None:
        self._sealing = sealing
        self._store = store
        self._queue = queue
        self._runtime = runtime
        self._clock = clock
        self._platform = platform
        self._place = place

    def submit(
        self,
        *,
        tenant: str,
        job_id: str | None,
        template_id: str | None,
        job_config: Mapping[str, Any],
        idempotency_key: str | None,
        source: Source,
        start_from: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        template_version: int | None = None,
    ) -> Accepted:
        """Accepts a SUBMIT: run 1 of a new job, or run n+1 of a settled one.

        Without a job id the job is named after its template and the operation. `start_from` is `last`, or a
        savepoint's path; `parameters` the values of those that the template declares. A plain secret is sealed before
        anything is stored. Raises InvalidRequest, NotFound (template), Conflict (the job is not settled).
        """
        key = idempotency_key or str(uuid.uuid4())
        _check_text({"job_id": job_id, "template_id": template_id, "start_from": start_from})
        config, values = _plain("job_config", job_config), _plain("parameters", parameters)
        with blamed_on_input("job_config"):
            asked = self._sealing.of_submit(config, values, source) | {
                "template_id": template_id,
                "template_version": template_version,
                "start_from": start_from,
                "job_id": job_id,
            }
            body_hash = hash_of(Kind.SUBMIT, job_id or "", asked)
        repeated = self._repeat_of(tenant, key, body_hash)
        if repeated is not None:
            return repeated
        template = self._template(tenant, template_id, template_version)
        request = self._request(template, config, values)
        named = job_id or _job_id_for(template, operation_id(tenant, key))
        _check_job_id(named)
        self._check_start(JobKey(tenant, named), start_from)
        arguments = {
            "request": request.as_json(),
            "template_id": template.template_id if template else None,
            "template_version": template.version if template else None,
            "start_from": start_from,
        }
        return self._insert(JobKey(tenant, named), Kind.SUBMIT, arguments, body_hash, key, source)

    def stop(
        self, *, tenant: str, job_id: str, idempotency_key: str | None, source: Source, force: bool = False
    ) -> Accepted:
        """Accepts a STOP: the run ends and its state is kept; with `force` it ends whether state can be kept or not."""
        if not isinstance(force, bool):
            raise InvalidRequest({"force": "must be true or false"})
        return self._about(tenant, job_id, Kind.STOP, {"force": force}, idempotency_key, source)

    def scale(
        self, *, tenant: str, job_id: str, parallelism: int, idempotency_key: str | None, source: Source
    ) -> Accepted:
        """Accepts a SCALE to `parallelism` (1 to 100,000)."""
        if isinstance(parallelism, bool) or not isinstance(parallelism, int) or not 1 <= parallelism <= 100_000:
            raise InvalidRequest({"parallelism": "must be a whole number from 1 to 100000"})
        return self._about(tenant, job_id, Kind.SCALE, {"parallelism": parallelism}, idempotency_key, source)

    def render(
        self,
        *,
        tenant: str,
        job_id: str | None,
        template_id: str | None,
        job_config: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        template_version: int | None = None,
    ) -> dict[str, Any]:
        """The manifest that a submit would create, and nothing else. Raises as `submit` does."""
        template = self._template(tenant, template_id, template_version)
        config, values = _plain("job_config", job_config), _plain("parameters", parameters)
        request = self._request(template, config, values)
        named = job_id or _job_id_for(template, "00000000")
        _check_job_id(named)
        with blamed_on_input("job_config"):
            return render(self._new_job(JobKey(tenant, named)), request, self._platform, Stamp(1, "dry-run", 1))

    def _request(self, template: Template | None, config: Mapping[str, Any], values: Mapping[str, Any]) -> JobRequest:
        with blamed_on_input("job_config"):
            body = with_profile(resolve(template, config, values), config, self._platform.profiles)
            request = parse_resolved(self._sealing.of_request(body, template))
        return self._checked(request)

    def _about(
        self,
        tenant: str,
        job_id: str,
        kind: Kind,
        arguments: Mapping[str, Any],
        idempotency_key: str | None,
        source: Source,
    ) -> Accepted:
        _check_job_id(job_id)
        key = idempotency_key or str(uuid.uuid4())
        body_hash = hash_of(kind, job_id, arguments)
        return self._repeat_of(tenant, key, body_hash) or self._insert(
            JobKey(tenant, job_id), kind, arguments, body_hash, key, source
        )

    def _insert(
        self, job_key: JobKey, kind: Kind, arguments: Mapping[str, Any], body_hash: str, key: str, source: Source
    ) -> Accepted:
        for _ in range(ATTEMPTS):
            job = self._store.job(job_key)
            open_operations = self._store.open_operations_of(job_key)
            if job is None and not open_operations and kind is not Kind.SUBMIT:
                raise NotFound(f"job {job_key.job_id}: there is none of this name; GET jobs lists those that are")
            refused = lifecycle.refusal(kind, job, open_operations)
            if refused:
                # The same request may have been accepted by another process since it was looked for.
                repeated = self._repeat_of(job_key.tenant, key, body_hash)
                if repeated is None:
                    raise Conflict(refused)
                return repeated
            operation = self._operation(job_key, kind, arguments, body_hash, key, source, job, open_operations)
            try:
                inserted = self._store.insert_operation(operation)
            except LostRace:
                continue
            if inserted.operation.arguments_hash != body_hash:
                raise _another_body(key, inserted.operation)
            return self._accepted(inserted.operation, job, inserted.created)
        raise Unavailable(f"job {job_key.job_id}: {ATTEMPTS} other requests were accepted at once; send this one again")

    def _operation(
        self,
        job_key: JobKey,
        kind: Kind,
        arguments: Mapping[str, Any],
        body_hash: str,
        key: str,
        source: Source,
        job: Job | None,
        open_operations: Sequence[Operation],
    ) -> Operation:
        now = self._clock.now()
        known = max([job.last_sequence if job else 0, *(operation.sequence for operation in open_operations)])
        later = self._store.operations_of(job_key, after=known)
        return Operation(
            id=operation_id(job_key.tenant, key),
            tenant=job_key.tenant,
            job_id=job_key.job_id,
            sequence=max([known, *(operation.sequence for operation in later)]) + 1,
            kind=kind,
            arguments=arguments,
            arguments_hash=body_hash,
            idempotency_key=key,
            source=source,
            accepted_at=now,
            updated_at=now,
            deadline=now + timedelta(seconds=self._place.deadlines_seconds[kind]),
        )

    def _accepted(self, operation: Operation, job: Job | None, created: bool) -> Accepted:
        stored = self.derive_job(operation, job) if created else job or self.derive_job(operation, None)
        self._queue.wake(operation.key)
        return Accepted(operation, stored, created)

    def derive_job(self, operation: Operation, job: Job | None) -> Job:
        """The job's record after this operation was accepted. Idempotent: also used to repair a lost one."""
        for _ in range(ATTEMPTS):
            found = job or self._store.job(operation.key) or self._store.insert_job(self._new_job(operation.key))
            if found.last_sequence >= operation.sequence:
                return found
            try:
                return self._store.replace_job(
                    replace(
                        found,
                        desired=DESIRED_BY[operation.kind],
                        last_sequence=operation.sequence,
                        updated_at=self._clock.now(),
                    )
                )
            except LostRace:
                job = None
        raise Unavailable(f"job {operation.job_id}: its record changes too often; send the request again")

    def _new_job(self, key: JobKey) -> Job:
        now = self._clock.now()
        return Job(
            tenant=key.tenant,
            job_id=key.job_id,
            cluster=self._place.cluster,
            namespace=self._place.namespace,
            deployment_name=deployment_name(key.job_id),
            created_at=now,
            updated_at=now,
            desired=Desired.RUNNING,
            phase=Phase.REQUESTED,
        )

    def _repeat_of(self, tenant: str, key: str, body_hash: str) -> Accepted | None:
        stored = self._store.operation_by_key(tenant, key)
        if stored is None:
            return None
        if stored.arguments_hash != body_hash:
            raise _another_body(key, stored)
        return self._accepted(stored, self._store.job(stored.key), created=False)

    def _check_start(self, job_key: JobKey, start_from: str | None) -> None:
        if start_from == "last" and self._store.job(job_key) is None:
            raise InvalidRequest({"start_from": f"job {job_key.job_id} is new: it has no last state to start from"})
        if start_from not in (None, "last") and not SAVEPOINT.fullmatch(start_from or ""):
            raise InvalidRequest(
                {"start_from": "must be `last`, or a savepoint's path as a URI: s3://bucket/…, file:///…"}
            )

    def _template(self, tenant: str, template_id: str | None, version: int | None) -> Template | None:
        if template_id is None:
            return None
        if isinstance(version, bool) or not (version is None or isinstance(version, int)):
            raise InvalidRequest({"template_version": "must be a whole number"})
        template = self._store.template(tenant, template_id, version)
        if template is not None:
            return template
        newest = self._store.template(tenant, template_id) if version is not None else None
        if newest is not None:
            words = f"template {template_id!r} has no version {version}; its newest is {newest.version}"
            raise InvalidRequest({"template_version": words})
        known = ", ".join(known.template_id for known in self._store.templates(tenant)) or "none yet"
        raise InvalidRequest({"template_id": f"there is no template {template_id!r}; known: {known}"})

    def _checked(self, request: JobRequest) -> JobRequest:
        """What only the installation can check: hosts, namespace, state, and the Flink versions of the live CRD."""
        problems = {f"job_config.{field}": words for field, words in self._problems_of(request)}
        if problems:
            raise InvalidRequest(problems)
        return request

    def _problems_of(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        allowed = ", ".join(self._platform.allowed_hosts) or "none: set HEADRACE_FLINK_ALLOWED_HOSTS"
        for field, url in _urls_of(request):
            if not _host_is_allowed(url, self._platform.allowed_hosts):
                yield field, f"its host is not allowed; allowed: {allowed}"
        if request.namespace not in (None, self._place.namespace):
            yield "namespace", f"must be {self._place.namespace}, this tenant's own; got {request.namespace!r}"
        yield from self._state_problems(request)
        version = request.flink_version or self._platform.flink_version
        known = [each for each in self._known_flink_versions() if flink_release(each) >= OLDEST_FLINK]
        if flink_release(version) < OLDEST_FLINK:
            yield "flink_version", f"{version} is too old: v1_20 at least, whose options for state are used"
        elif known and version not in known:
            yield "flink_version", f"{version} is not in the cluster's CRD: {', '.join(known)}"

    def _state_problems(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        if request.state is not None:
            return
        try:
            self._platform.state()
        except ValueError as error:
            yield "state", f"HEADRACE_FLINK_STATE_LOCATION is {self._platform.state_location}: {error}"

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
        raise InvalidRequest({"job_config.profile": f"there is no profile {name!r}; known: {known}"})
    own = config.get("resources") if "profile" in config else body.get("resources")
    base = profiles[name].model_dump(mode="json", exclude_none=True)
    return {**body, "resources": merged(base, own) if own else base}


def _urls_of(request: JobRequest) -> Iterator[tuple[str, str]]:
    """Every URL that is fetched from a host, with its field."""
    named = [("script", request.script), ("jar", request.jar)]
    named += [(f"jar_files.{place}.url", jar.url) for place, jar in enumerate(request.jar_files)]
    return ((field, url) for field, url in named if isinstance(url, str) and not url.startswith("local:"))


def _another_body(key: str, stored: Operation) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"idempotency key {key!r} was used for {stored.kind} of job {stored.job_id} with another body "
        f"(operation {stored.id}); send a new key for a new request"
    )


def _check_text(fields: Mapping[str, Any]) -> None:
    wrong = {name: "must be text" for name, value in fields.items() if not (value is None or isinstance(value, str))}
    if wrong:
        raise InvalidRequest(wrong)


def _check_job_id(job_id: Any) -> None:
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(
            {"job_id": "must be 1 to 100 letters, digits, '-', '_' or '.', with a letter or digit at both ends"}
        )


def _job_id_for(template: Template | None, unique: str) -> str:
    """A name that the same idempotency key always gives."""
    stem = template.template_id.lower() if template else "job"
    stem = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:34].strip("-") or "job"
    return f"{stem if stem[0].isalpha() else 'job-' + stem}-{unique.replace('-', '')[:8]}"


def _host_is_allowed(url: str, allowed: Sequence[str]) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return host in allowed or f"{host}:{parts.port}" in allowed


def _plain(field: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidRequest({field: "must be an object"})
    return dict(given)
