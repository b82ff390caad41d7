"""The routes. They translate HTTP into the services' words and back, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from api import access, inspection, problems, views
from headrace import metrics
from headrace.bootstrap import Services
from headrace.domain.inputs import json_or_yaml_object
from headrace.domain.jobs import Job, JobKey, Phase
from headrace.domain.lifecycle import as_accepted, may_show_another_run
from headrace.domain.operations import Operation, Source
from headrace.domain.templates import Template
from headrace.errors import InvalidRequest, NotFound
from headrace.ports import JobFilter
from headrace.services.accept import Accepted

BASE = "/api/v1/flink"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
BODY_LIMIT_BYTES = 2 * 1024 * 1024
WAIT_POLL_SECONDS = 0.25
PAGE_LIMIT = 500

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
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


def create_app(services: Services, *, tenant: str, keys: Sequence[bytes], wait_limit_seconds: float) -> FastAPI:
    """The application over these services, for one tenant."""
    app = FastAPI(title="Headrace", openapi_url=f"{BASE}/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    _guard(app, keys)
    _health(app, services)
    _operations(app, services, tenant, wait_limit_seconds)
    _jobs(app, services, tenant)
    inspection.install(app, services.inspect, tenant, BASE)
    _templates(app, services, tenant)
    return app


def _guard(app: FastAPI, keys: Sequence[bytes]) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = _refusal(request, keys) or await call_next(request)
        metrics.REQUESTS.labels(request.method, answer.status_code).inc()
        return answer


def _refusal(request: Request, keys: Sequence[bytes]) -> Response | None:
    headers = request.headers
    path = request.scope["path"]  # the routes' own: request.url is made of what the Host header says
    if path not in OPEN_PATHS and not access.is_allowed(keys, headers.get("authorization"), headers.get("x-api-key")):
        words = "send an API key: Authorization: Bearer <key>, or X-API-Key"
        return problems.problem(401, "unauthorized", words, headers={"WWW-Authenticate": "Bearer"})
    if "transfer-encoding" in headers:
        return problems.problem(411, "the body's length is not given", "send it with a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
        return problems.problem(413, "the body is too large", f"at most {BODY_LIMIT_BYTES} bytes are taken")
    return None


def _health(app: FastAPI, services: Services) -> None:
    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        services.store.ping()
        return {"status": "ready"}

    @app.get("/metrics")
    def metrics_page() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _operations(app: FastAPI, services: Services, tenant: str, wait_limit_seconds: float) -> None:
    accept, source = services.accept, Source(via="http")

    async def answer(accepted: Accepted, wait: float) -> JSONResponse:
        metrics.ACCEPTED.labels(accepted.operation.kind, "http").inc()
        operation = await _ended(services, accepted.operation, min(wait, wait_limit_seconds))
        job = await run_in_threadpool(_shown_of, services, operation.key)
        location = f"{BASE}/operations/{operation.id}"
        headers = {"Location": location} | ({"Retry-After": "1"} if operation.is_open else {})
        return _json(views.answer_view(operation, job), 202 if operation.is_open else 200, headers)

    @app.post(f"{BASE}/jobs/submit", status_code=202)
    async def submit(body: SubmitBody, key: IdempotencyKey = None, wait: Wait = 0) -> JSONResponse:
        accepted = await run_in_threadpool(
            accept.submit, tenant=tenant, idempotency_key=key, source=source, **body.model_dump()
        )
        return await answer(accepted, wait)

    @app.post(f"{BASE}/jobs/render")
    def render(body: SubmitBody) -> JSONResponse:
        fields = body.model_dump(exclude={"start_from"})
        return _json(accept.render(tenant=tenant, **fields))

    @app.post(f"{BASE}/jobs/{{job_id}}/stop", status_code=202)
    async def stop(
        job_id: str, body: StopBody | None = None, key: IdempotencyKey = None, wait: Wait = 0
    ) -> JSONResponse:
        force = body.force if body else False
        accepted = await run_in_threadpool(
            accept.stop, tenant=tenant, job_id=job_id, force=force, idempotency_key=key, source=source
        )
        return await answer(accepted, wait)

    @app.post(f"{BASE}/jobs/{{job_id}}/scale", status_code=202)
    async def scale(job_id: str, body: ScaleBody, key: IdempotencyKey = None, wait: Wait = 0) -> JSONResponse:
        accepted = await run_in_threadpool(
            accept.scale,
            tenant=tenant,
            job_id=job_id,
            parallelism=body.parallelism,
            idempotency_key=key,
            source=source,
        )
        return await answer(accepted, wait)

    @app.get(f"{BASE}/operations/{{operation_id}}")
    async def operation(operation_id: str, wait: Wait = 0) -> JSONResponse:
        found = await run_in_threadpool(services.store.operation, tenant, operation_id)
        if found is None:
            raise NotFound(f"operation {operation_id}: there is none of this id")
        ended = await _ended(services, found, min(wait, wait_limit_seconds))
        job = await run_in_threadpool(_shown_of, services, ended.key)
        return _json(views.answer_view(ended, job))


async def _ended(services: Services, operation: Operation, wait_seconds: float) -> Operation:
    """The operation once it has ended, or as it is when the wait is over; holds no thread in between."""
    until = time.monotonic() + wait_seconds
    while operation.is_open and time.monotonic() < until:
        await asyncio.sleep(WAIT_POLL_SECONDS)
        stored = await run_in_threadpool(services.store.operation, operation.tenant, operation.id)
        operation = stored or operation
    return operation


def _jobs(app: FastAPI, services: Services, tenant: str) -> None:
    store = services.store

    def existing(job_id: str) -> Job:
        job = store.job(JobKey(tenant, job_id)) or _repaired(services, JobKey(tenant, job_id))
        if job is None:
            raise NotFound(f"job {job_id}: there is none of this name")
        return _shown(services, job)

    @app.get(f"{BASE}/jobs")
    def jobs(
        phase: Phase | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
        cursor: str | None = None,
    ) -> JSONResponse:
        found = store.list_jobs(tenant, JobFilter(phase), _after(cursor), limit + 1)
        page = found[:limit]
        further = _cursor(page[-1].job_id) if len(found) > limit else None
        shown = [each for each in (_shown(services, job) for job in page) if phase in (None, each.phase)]
        silent = services.deadlines.is_silent()
        return _json({"jobs": [views.job_view(job, is_stale=silent) for job in shown], "next_cursor": further})

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
    def templates() -> JSONResponse:
        return _json({"templates": [views.template_view(template) for template in store.templates(tenant)]})

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
