"""The routes. They translate HTTP into the services' words and back, and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from api import inspection, problems, views
from api.bodies import body_of, described
from api.guard import Guard
from api.waiting import Readiness, Waiting
from headrace import metrics
from headrace.bootstrap import Services
from headrace.domain.inputs import json_or_yaml_object
from headrace.domain.jobs import Job, JobKey, Phase
from headrace.domain.lifecycle import as_accepted, may_show_another_run
from headrace.domain.operations import Source
from headrace.domain.templates import Template
from headrace.errors import InvalidRequest, NotFound
from headrace.ports import JobFilter
from headrace.services.accept import LONGEST_KEY, Accepted

BASE = "/api/v1/flink"
PAGE_LIMIT = 500

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY)]
Wait = Annotated[float, Query(ge=0, description="Seconds to wait for the operation's end, up to a bound.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SubmitBody(_Request):
    """POST jobs/submit."""

    template_id: str | None = None
    job_config: dict[str, Any] = Field(default_factory=dict)
    job_id: str | None = None
    start_from: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    template_version: int | None = Field(None, ge=1)


class StopBody(_Request):
    """POST jobs/{job_id}/stop."""

    force: bool = False


class ScaleBody(_Request):
    """POST jobs/{job_id}/scale."""

    parallelism: int = Field(strict=True)


Submit = Annotated[SubmitBody, Depends(body_of(SubmitBody))]
Stop = Annotated[StopBody, Depends(body_of(StopBody))]
Scale = Annotated[ScaleBody, Depends(body_of(ScaleBody))]
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]


def create_app(services: Services, *, tenant: str, keys: Sequence[bytes], wait_limit_seconds: float) -> FastAPI:
    """The application over these services, for one tenant."""
    app = FastAPI(title="Headrace", openapi_url=f"{BASE}/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    app.add_middleware(Guard, keys=keys)
    _health(app, services)
    _operations(app, services, tenant, wait_limit_seconds)
    _jobs(app, services, tenant)
    inspection.install(app, services.inspect, tenant, BASE)
    _templates(app, services, tenant)
    return app


def _health(app: FastAPI, services: Services) -> None:
    """None of them takes a thread that other requests need."""
    readiness = Readiness(services.store.ping)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        await readiness.check()
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics_page() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _operations(app: FastAPI, services: Services, tenant: str, wait_limit_seconds: float) -> None:
    accept, source = services.accept, Source(via="http")
    waiting = Waiting(services.store, wait_limit_seconds)

    async def answer(request: Request, accepted: Accepted, wait: float) -> JSONResponse:
        metrics.ACCEPTED.labels(accepted.operation.kind, "http").inc()
        operation = await waiting.ended(request, accepted.operation, wait)
        job = await run_in_threadpool(_shown_of, services, operation.key)
        location = f"{BASE}/operations/{operation.id}"
        headers = {"Location": location} | ({"Retry-After": "1"} if operation.is_open else {})
        return _json(views.answer_view(operation, job), 202 if operation.is_open else 200, headers)

    @app.post(f"{BASE}/jobs/submit", status_code=202, openapi_extra=described(SubmitBody))
    async def submit(request: Request, body: Submit, key: IdempotencyKey = None, wait: Wait = 0) -> JSONResponse:
        accepted = await run_in_threadpool(
            accept.submit, tenant=tenant, idempotency_key=key, source=source, **body.model_dump()
        )
        return await answer(request, accepted, wait)

    @app.post(f"{BASE}/jobs/render", openapi_extra=described(SubmitBody))
    def render(body: Submit) -> JSONResponse:
        fields = body.model_dump(exclude={"start_from"})
        return _json(accept.render(tenant=tenant, **fields))

    @app.post(f"{BASE}/jobs/{{job_id}}/stop", status_code=202, openapi_extra=described(StopBody))
    async def stop(
        request: Request, job_id: str, body: Stop, key: IdempotencyKey = None, wait: Wait = 0
    ) -> JSONResponse:
        accepted = await run_in_threadpool(
            accept.stop, tenant=tenant, job_id=job_id, force=body.force, idempotency_key=key, source=source
        )
        return await answer(request, accepted, wait)

    @app.post(f"{BASE}/jobs/{{job_id}}/scale", status_code=202, openapi_extra=described(ScaleBody))
    async def scale(
        request: Request, job_id: str, body: Scale, key: IdempotencyKey = None, wait: Wait = 0
    ) -> JSONResponse:
        accepted = await run_in_threadpool(
            accept.scale,
            tenant=tenant,
            job_id=job_id,
            parallelism=body.parallelism,
            idempotency_key=key,
            source=source,
        )
        return await answer(request, accepted, wait)

    @app.get(f"{BASE}/operations/{{operation_id}}")
    async def operation(request: Request, operation_id: str, wait: Wait = 0) -> JSONResponse:
        found = await run_in_threadpool(services.store.operation, tenant, operation_id)
        if found is None:
            raise NotFound(f"operation {operation_id}: there is none of this id")
        ended = await waiting.ended(request, found, wait)
        job = await run_in_threadpool(_shown_of, services, ended.key)
        return _json(views.answer_view(ended, job))


def _jobs(app: FastAPI, services: Services, tenant: str) -> None:
    store = services.store

    def existing(job_id: str) -> Job:
        job = store.job(JobKey(tenant, job_id)) or _repaired(services, JobKey(tenant, job_id))
        if job is None:
            raise NotFound(f"job {job_id}: there is none of this name")
        return _shown(services, job)

    @app.get(f"{BASE}/jobs")
    def jobs(phase: Phase | None = None, limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        found = store.list_jobs(tenant, JobFilter(phase), _after(cursor), limit + 1)
        page = found[:limit]
        further = _cursor(page[-1].job_id) if len(found) > limit else None
        shown = [each for each in (_shown(services, job) for job in page) if phase in (None, each.phase)]
        silent = services.deadlines.is_silent()
        return _json({"jobs": [views.job_in_list(job, is_stale=silent) for job in shown], "next_cursor": further})

    @app.get(f"{BASE}/jobs/{{job_id}}")
    def job(job_id: str) -> JSONResponse:
        return _json(views.job_view(existing(job_id), is_stale=services.deadlines.is_silent()))

    @app.get(f"{BASE}/jobs/{{job_id}}/operations")
    def operations(job_id: str) -> JSONResponse:
        found = store.operations_of(existing(job_id).key)
        return _json({"operations": [views.operation_view(operation) for operation in found]})

    @app.get(f"{BASE}/jobs/{{job_id}}/transitions")
    def transitions(job_id: str) -> JSONResponse:
        found = store.transitions_of(existing(job_id).key)
        return _json({"transitions": [views.transition_view(transition) for transition in found]})


def _shown(services: Services, job: Job) -> Job:
    """The job with the run that was accepted last, where that has not begun."""
    return as_accepted(job, services.store.open_operations_of(job.key)) if may_show_another_run(job) else job


def _shown_of(services: Services, key: JobKey) -> Job | None:
    job = services.store.job(key)
    return _shown(services, job) if job is not None else None


def _repaired(services: Services, key: JobKey) -> Job | None:
    """A job whose record was lost between the commit point and its writing is derived from its operations."""
    operations = services.store.operations_of(key)
    return services.accept.derive_job(operations[-1], None) if operations else None


def _templates(app: FastAPI, services: Services, tenant: str) -> None:
    store = services.store

    @app.post(f"{BASE}/templates", status_code=201)
    async def put(request: Request) -> JSONResponse:
        stored = await run_in_threadpool(_registered, services, await request.body(), tenant)
        location = f"{BASE}/templates/{stored.template_id}?version={stored.version}"
        return _json(views.template_view(stored), 201, {"Location": location})

    @app.get(f"{BASE}/templates")
    def templates(limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        after = _after(cursor) or ""
        found = [template for template in store.templates(tenant) if template.template_id > after]
        further = _cursor(found[limit - 1].template_id) if len(found) > limit else None
        shown = [views.template_in_list(template) for template in found[:limit]]
        return _json({"templates": shown, "next_cursor": further})

    @app.get(f"{BASE}/templates/{{template_id}}")
    def template(template_id: str, version: Annotated[int | None, Query(ge=1)] = None) -> JSONResponse:
        found = store.template(tenant, template_id, version)
        if found is None:
            raise NotFound(
                f"template {template_id}: there is none of this id{f' and version {version}' * bool(version)}"
            )
        return _json(views.template_view(found))


def _registered(services: Services, body: bytes, tenant: str) -> Template:
    """Parsed off the event loop, and bounded before it is built: whatever was sent, others are answered meanwhile."""
    return services.register.template(json_or_yaml_object(body, "body"), tenant)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(jsonable_encoder(content), status, dict(headers or {}))


def _cursor(job_id: str) -> str:
    return base64.urlsafe_b64encode(job_id.encode()).decode()


def _after(cursor: str | None) -> str | None:
    try:
        return base64.b64decode(cursor.encode(), b"-_", validate=True).decode() if cursor else None
    except ValueError as error:
        raise InvalidRequest({"cursor": "is not one that a list gave"}) from error
