"""The routes. They translate HTTP into the services' words and back, and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import access, adoption, inspection, problems, triggers, versions, views
from api import keys as keys_of_callers
from api.bodies import described, object_of
from api.guard import Guard
from api.waiting import Readiness, Waiting
from headrace import metrics
from headrace.bootstrap import Services
from headrace.domain.document import JobDocument
from headrace.domain.inputs import json_or_yaml_object
from headrace.domain.jobs import Job, JobKey, Phase
from headrace.domain.operations import KINDS, Kind, Operation, Source, SubmitArguments
from headrace.domain.templates import Template
from headrace.errors import InvalidRequest, NotFound, Unavailable
from headrace.ports import JobFilter
from headrace.services.accept import LONGEST_KEY, Accepted
from headrace.services.api_keys import Callers

BASE = "/api/v1/flink"
PAGE_LIMIT = 500
NO_CURSOR = "is not one that a list gave"

Answer = Callable[[Request, Accepted, float], Awaitable[JSONResponse]]

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY)]
Wait = Annotated[float, Query(ge=0, description="Seconds to wait for the operation's end, up to a bound.")]
DryRun = Annotated[bool, Query(description="Say what it would change and cause; nothing is accepted or written.")]

Given = Annotated[dict[str, Any], Depends(object_of)]
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]


def create_app(
    services: Services,
    *,
    tenant: str,
    keys: Sequence[bytes],
    wait_limit_seconds: float,
    requests_per_minute: int = 0,
) -> FastAPI:
    """The application over these services, for one tenant. `keys` are an admin's each, beside those on record; no key
    sends more than `requests_per_minute`, where that is not 0."""
    app = FastAPI(title="Headrace", openapi_url=f"{BASE}/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    callers = Callers(services.api_keys, keys, services.clock)
    app.add_middleware(Guard, callers=callers, rate_limit=access.RateLimit(requests_per_minute), base=BASE)
    _health(app, services, callers)
    _operations(app, services, tenant, wait_limit_seconds)
    _jobs(app, services, tenant)
    adoption.install(app, services.adopting, tenant, BASE)
    inspection.install(app, services.inspect, tenant, BASE)
    versions.install(app, services.versions, services.records, tenant, BASE)
    _templates(app, services, tenant)
    triggers.install(app, services.triggers, services.replay, BASE)
    keys_of_callers.install(app, services.api_keys, BASE)
    return app


def _health(app: FastAPI, services: Services, callers: Callers) -> None:
    """None of them takes a thread that other requests need."""
    readiness = Readiness(services.store.ping)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, str]:
        """Who brings no key is told no host: which server does not answer, and why, is in the log."""
        try:
            await readiness.check()
        except Unavailable as error:
            logger.warning("not ready: {}", error)
            if callers.at_hand(access.given_by(request.headers)):
                raise
            words = "the store does not answer; the log, and the answer to who brings an API key, say why"
            raise Unavailable(words) from None
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics_page() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _operations(app: FastAPI, services: Services, tenant: str, wait_limit_seconds: float) -> None:
    accept, records = services.accept, services.records
    waiting = Waiting(records.operation, wait_limit_seconds)

    def job_of(accepted: Accepted, operation: Operation) -> Job | None:
        """The job as it was accepted of, where nobody waited since."""
        if accepted.document is not None and operation is accepted.operation:
            return records.shown(accepted.document)
        return records.job(operation.key)

    async def answer(request: Request, accepted: Accepted, wait: float) -> JSONResponse:
        metrics.ACCEPTED.labels(accepted.operation.kind, "http").inc()
        operation = await waiting.ended(request, accepted.operation, wait)
        job = await run_in_threadpool(job_of, accepted, operation)
        location = f"{BASE}/operations/{operation.id}"
        headers = {"Location": location} | ({"Retry-After": "1"} if operation.is_open else {})
        return _json(views.answer_view(operation, job), 202 if operation.is_open else 200, headers)

    for kind in KINDS.values():
        _accepts(app, kind, services, answer, tenant)

    @app.post(f"{BASE}/jobs/render", openapi_extra=described(SubmitArguments, job_id=True))
    def render(body: Given) -> JSONResponse:
        given = {name: each for name, each in body.items() if name != "start_from"}
        return _json(accept.render(given.pop("job_id", None), given, tenant=tenant))

    @app.get(f"{BASE}/operations/{{operation_id}}")
    async def operation(request: Request, operation_id: str, wait: Wait = 0) -> JSONResponse:
        found = await run_in_threadpool(services.records.operation, tenant, operation_id)
        if found is None:
            raise NotFound(f"operation {operation_id}: there is none of this id")
        ended = await waiting.ended(request, found, wait)
        job = await run_in_threadpool(services.records.job, ended.key)
        return _json(views.answer_view(ended, job))


def _accepts(app: FastAPI, kind: Kind, services: Services, answer: Answer, tenant: str) -> None:
    """The route of a kind: jobs/{job_id}/{word}, and jobs/{word} for one that may begin a job. Any kind takes dry_run,
    so that one that has none refuses it and does not do what was only to be tried."""
    accept, foresee = services.accept.operation, services.foresee.operation

    async def operation(
        request: Request,
        body: Given,
        job_id: str | None = None,
        key: IdempotencyKey = None,
        wait: Wait = 0,
        dry_run: DryRun = False,
    ) -> JSONResponse:
        named = body.pop("job_id", None) if kind.begins_a_run else job_id
        source = Source(via="http", detail={"by": access.caller_of(request).name})
        if dry_run:
            found = await run_in_threadpool(foresee, kind.name, named, body, tenant=tenant, source=source)
            return _json(views.foresight_view(found))
        accepted = await run_in_threadpool(accept, kind.name, named, body, tenant=tenant, key=key, source=source)
        return await answer(request, accepted, wait)

    path = f"{BASE}/jobs/{kind.word}" if kind.begins_a_run else f"{BASE}/jobs/{{job_id}}/{kind.word}"
    extra = described(kind.Arguments, job_id=kind.begins_a_run)
    app.post(path, status_code=202, openapi_extra=extra, name=kind.word)(operation)


def _jobs(app: FastAPI, services: Services, tenant: str) -> None:
    store = services.store

    def existing(job_id: str) -> JobDocument:
        document = services.records.existing(JobKey(tenant, job_id))
        if document is None:
            raise NotFound(f"job {job_id}: there is none of this name")
        return document

    @app.get(f"{BASE}/jobs")
    def jobs(
        phase: Phase | None = None, limit: Limit = 100, cursor: str | None = None, brief: bool = False
    ) -> JSONResponse:
        found = store.list_jobs(tenant, JobFilter(phase), _after(cursor), limit + 1, lean=brief)
        page = found[:limit]
        further = _cursor(page[-1].job.job_id) if len(found) > limit else None
        shown = [(services.records.shown(each), each.open_operations) for each in page]
        synced_at, is_stale = services.freshness.observed_at(), services.freshness.is_stale
        view = views.job_in_brief if brief else views.job_in_list
        views_of_page = [
            view(job, is_stale=is_stale(synced_at, job), open_operations=operations)
            for job, operations in shown
            if phase in (None, job.phase)
        ]
        return _json({"jobs": views_of_page, "next_cursor": further})

    @app.get(f"{BASE}/jobs/{{job_id}}")
    def job(job_id: str) -> JSONResponse:
        document, freshness = existing(job_id), services.freshness
        found = services.records.with_programs(services.records.shown(document))
        is_stale = freshness.is_stale(freshness.observed_at(), found)
        kept_until = services.prune.goes_at(found)
        shown = views.job_view(
            found, is_stale=is_stale, open_operations=document.open_operations, kept_until=kept_until
        )
        return _json(shown)

    @app.get(f"{BASE}/jobs/{{job_id}}/operations")
    def operations(job_id: str) -> JSONResponse:
        found = services.records.operations_of(existing(job_id).key)
        return _json({"operations": [views.operation_view(operation) for operation in found]})

    @app.get(f"{BASE}/jobs/{{job_id}}/transitions")
    def transitions(job_id: str) -> JSONResponse:
        found = services.records.transitions_of(existing(job_id).key)
        return _json({"transitions": [views.transition_view(transition) for transition in found]})

    @app.get(f"{BASE}/jobs/{{job_id}}/savepoints")
    def savepoints_of_job(job_id: str, limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        return savepoints_page(existing(job_id).key.job_id, limit, cursor)

    @app.get(f"{BASE}/savepoints")
    def savepoints(limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        return savepoints_page(None, limit, cursor)

    def savepoints_page(job_id: str | None, limit: int, cursor: str | None) -> JSONResponse:
        found = store.savepoints_of(tenant, job_id, _place_after(cursor), limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        further = _cursor(f"{last.at.isoformat()} {last.path}") if last is not None else None
        shown = services.dispose.shown(found[:limit])
        return _json({"savepoints": [views.savepoint_view(each) for each in shown], "next_cursor": further})

    @app.delete(f"{BASE}/savepoints", status_code=202)
    def dispose(path: Annotated[str, Query(min_length=1, max_length=2000)]) -> JSONResponse:
        return _json(views.savepoint_view(services.dispose.ask(tenant, path)), 202)


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
        raise InvalidRequest({"cursor": NO_CURSOR}) from error


def _place_after(cursor: str | None) -> tuple[datetime, str] | None:
    """Where a list of savepoints goes on: behind the one of this time and path."""
    at, _, path = (_after(cursor) or "").partition(" ")
    try:
        found = datetime.fromisoformat(at) if at else None
    except ValueError:
        found = None
    if cursor and (found is None or found.tzinfo is None):
        raise InvalidRequest({"cursor": NO_CURSOR})
    return (found, path) if found is not None else None
