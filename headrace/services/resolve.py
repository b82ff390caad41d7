"""Resolving: what was asked, with a template and what was said before, becomes a request that is judged whole.

Knows what only the installation can check: its policy, its namespace, its state, the Flink versions of the live CRD.
Accepts nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from headrace.domain.document import JobDocument
from headrace.domain.inputs import blamed_on_input
from headrace.domain.job_requests import JobRequest, Resources
from headrace.domain.jobs import Job, JobKey
from headrace.domain.manifest import Platform
from headrace.domain.manifest.parts import state_of
from headrace.domain.operations import KINDS, KindName, Operation, Source, SubmitArguments, UpgradeArguments
from headrace.domain.pod_fields import meet
from headrace.domain.secrets import may_be_shown, shown_name
from headrace.domain.templates import Template, changed, merged, overridden, parse_resolved, picked, resolve, scale_of
from headrace.errors import Conflict, InvalidRequest, Unavailable
from headrace.ports import Owner, Store
from headrace.services.runtimes import Runtimes
from headrace.services.sealing import Sealing


@dataclass(frozen=True)
class Place:
    """Where this installation puts jobs, and how long operations may take, in seconds."""

    cluster: str
    namespace: str
    deadline_seconds: float


@dataclass(frozen=True)
class _Made:
    """A request's body, not yet judged; what is laid over it, what is kept of what was said, and its template where
    that was resolved anew."""

    body: Mapping[str, Any]
    config: Mapping[str, Any]
    given: Mapping[str, Any]
    template: Template | None = None


class Resolve:
    """Makes requests. Each call raises InvalidRequest that names each field."""

    def __init__(self, store: Store, runtimes: Runtimes, platform: Platform, place: Place, sealing: Sealing) -> None:
        self._store = store
        self._runtimes = runtimes
        self._platform = platform
        self._place = place
        self._sealing = sealing

    def request(self, template: Template | None, asked: SubmitArguments, job: JobKey) -> JobRequest:
        """What a SUBMIT of this job comes to."""
        with blamed_on_input("job_config"):
            body = resolve(template, asked.job_config, asked.parameters)
            body = with_profile(body, asked.job_config, self._platform.profiles)
            request = parse_resolved(self._sealing.of_request(body, template, Owner.job(job.tenant, job.job_id)))
        return self.checked(request)

    def given(
        self, template: Template | None, parameters: Mapping[str, Any], job_config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What was said beside a template, for an UPGRADE to another version of it: values that are no secret, the
        names of those that are, and which places were overridden; what stands there is in the request."""
        kept = self._sealing.without_secrets(template, parameters) if template is not None else {}
        not_kept = [name for name in parameters if name not in kept]
        return {"parameters": kept, "not_kept": not_kept, "overridden": overridden(job_config)}

    def upgraded(self, document: JobDocument, *, asked: UpgradeArguments, source: Source) -> dict[str, Any]:
        """What an UPGRADE of this job, as its open operations will leave it, comes to. Without another version or other
        values, its request is changed; else its template is resolved anew, under what was said beside it before."""
        if _has_no_request(document):
            return self._rendered_first(document.job, asked)
        job, before = self._as_it_will_be(document)
        runtime = self._runtime_of(document)
        with blamed_on_input("job_config"):
            anew = asked.template_version is not None or bool(asked.parameters)
            made = self._of_template(job, before, asked, source) if anew else self._of_request(job, before, asked)
            body = with_profile(made.body, made.config, self._platform.profiles)
            owner = Owner.job(job.tenant, job.job_id)
            request = self.checked(parse_resolved(self._sealing.of_request(body, made.template, owner)))
        self.check_stays(job, runtime, request)
        version = made.template.version if made.template else before.arguments.get("template_version")
        named = {"template_id": before.arguments.get("template_id"), "template_version": version}
        return {"request": request.as_json(), **named, "given": made.given}

    def _runtime_of(self, document: JobDocument) -> str:
        """The runtime of the job's run, as its open operations will leave it."""
        begins = [each for each in document.open_operations if each.kind in KINDS and KINDS[each.kind].begins_a_run]
        if not begins:
            return document.job.runtime
        logged = self._store.operation(document.key.tenant, begins[-1].id)
        request = (logged.arguments if logged is not None else {}).get("request") or {}
        return str(request.get("runtime") or self._runtimes.default)

    def check_stays(self, job: Job, runtime: str, request: JobRequest) -> None:
        """Raises InvalidRequest where the request would move a run to another runtime."""
        if request.runtime not in (None, runtime):
            words = (
                f"job {job.job_id} runs by the {runtime} runtime, and a run stays there; STOP it, and SUBMIT it "
                "with start_from last"
            )
            raise InvalidRequest({"job_config.runtime": words})

    def _rendered_first(self, job: Job, asked: UpgradeArguments) -> dict[str, Any]:
        """The first request of a job that runs as it was adopted: a whole one, or there is nothing to change."""
        if asked.template_version is not None or asked.parameters or PROGRAM_FIELDS.isdisjoint(asked.job_config):
            raise Conflict(
                f"job {job.job_id}: it runs as it was adopted, with no request of which a part could change; give its "
                "whole program and settings in job_config, or STOP it and SUBMIT it with start_from last"
            )
        with blamed_on_input("job_config"):
            body = with_profile(resolve(None, asked.job_config, {}), asked.job_config, self._platform.profiles)
            owner = Owner.job(job.tenant, job.job_id)
            request = self.checked(parse_resolved(self._sealing.of_request(body, None, owner)))
        self.check_stays(job, job.runtime, request)
        named = {"template_id": None, "template_version": None}
        return {"request": request.as_json(), **named, "given": self.given(None, {}, asked.job_config)}

    def _of_request(self, job: Job, before: Operation, asked: UpgradeArguments) -> _Made:
        given = before.arguments.get("given") or {}
        places = [*(given.get("overridden") or ()), *overridden(asked.job_config)]
        return _Made(changed(job.request, asked.job_config), asked.job_config, {**given, "overridden": places})

    def _of_template(self, job: Job, before: Operation, asked: UpgradeArguments, source: Source) -> _Made:
        template_id, version = (before.arguments.get(name) for name in ("template_id", "template_version"))
        if template_id is None:
            field = "template_version" if asked.template_version is not None else "parameters"
            raise InvalidRequest({field: f"job {job.job_id} was made without a template: change job_config"})
        template = self.template(job.tenant, template_id, asked.template_version or version)
        given = before.arguments.get("given") or {}
        self._sealing.check_parameters(template, asked.parameters, source)
        _refuse_what_was_not_kept(given, asked.parameters)
        scale = [scale_of(job.request)] if job.is_scaled else []
        config = merged(picked(job.request, [*(given.get("overridden") or ()), *scale]), asked.job_config)
        parameters = {**(given.get("parameters") or {}), **asked.parameters}
        given_now = self.given(template, parameters, config)
        return _Made(resolve(template, config, parameters), config, given_now, template)

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

    def template(self, tenant: str, template_id: str | None, version: int | None) -> Template | None:
        """The template of this id, its newest version if none is named; None where none is asked for."""
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

    def checked(self, request: JobRequest) -> JobRequest:
        """The request, where it passes what only the installation can check: policy, namespace, state, and the Flink
        versions of the live CRD."""
        problems = {f"job_config.{field}": words for field, words in self._problems_of(request)}
        if problems:
            raise InvalidRequest(problems)
        return request

    def _problems_of(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        yield from self._platform.policy.problems_of(request)
        if request.namespace not in (None, self._place.namespace):
            yield "namespace", f"must be {self._place.namespace}, this tenant's own"
        yield from self._state_problems(request)
        if request.runtime not in (None, *self._runtimes.names):
            has = ", ".join(self._runtimes.names)
            yield "runtime", f"this installation has no {request.runtime}: it has {has} (HEADRACE_RUNTIMES)"
            return
        yield from self._version_problems(request)

    def _version_problems(self, request: JobRequest) -> Iterator[tuple[str, str]]:
        version = request.flink_version or self._platform.flink_version
        known = [each for each in self._known_flink_versions(request) if flink_release(each) >= OLDEST_FLINK]
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

    def _known_flink_versions(self, request: JobRequest) -> Sequence[str]:
        """The CRD's list; empty where Kubernetes cannot be asked now: an accept does not fail for that."""
        runtime = self._runtimes.named(request.runtime or self._runtimes.default)
        try:
            return runtime.flink_versions() if runtime is not None else ()
        except Unavailable:
            return ()


PROGRAM_FIELDS = frozenset({"script", "script_path", "files", "jar", "sql"})
"""Fields that say what a job runs: a request without one is none."""


def _has_no_request(document: JobDocument) -> bool:
    """Whether the job runs as it was adopted, and no open operation will render it."""
    open_kinds = [KINDS[each.kind] for each in document.open_operations if each.kind in KINDS]
    is_adopted = document.job.is_as_found or any(kind.name is KindName.ADOPT for kind in open_kinds)
    return is_adopted and not any(kind.resolves for kind in open_kinds)


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


def _refuse_what_was_not_kept(given: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    lost = [name for name in given.get("not_kept") or () if name not in parameters]
    if lost:
        words = "was a secret, which is kept nowhere: send it again"
        raise InvalidRequest({f"parameters.{shown_name(name)}": words for name in lost})


def _named(field: str, name: str) -> str:
    return f" {name!r}" if may_be_shown(field, name) else " of this name"
