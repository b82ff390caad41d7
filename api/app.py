"""The routes. They translate HTTP into the services' words and back, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from loguru import logger
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import access, adoption, document, inspection, problems, triggers, versions, views
from api import keys as keys_of_callers
from api.bodies import described, object_of
from api.document import answers, pages, refusals
from api.guard import Guard
from api.reads import PAGE_LIMIT, Reads
from api.waiting import Shared, Waiting
from headrace import metrics
from headrace.adapters.prometheus import FactsPage
from headrace.bootstrap import Services
from headrace.domain.inputs import json_or_yaml_object
from headrace.domain.jobs import Phase
from headrace.domain.operations import KINDS, Kind, Source, SubmitArguments
from headrace.domain.savepoints import Savepoint
from headrace.errors import Unavailable
from headrace.services.accept import LONGEST_KEY, Accepted
from headrace.services.api_keys import Callers

BASE = "/api/v1/flink"

Answer = Callable[[Request, Accepted, float], Awaitable[JSONResponse]]

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY)]
Wait = Annotated[float, Query(ge=0, description="Seconds to wait for the operation's end, up to a bound.")]
DryRun = Annotated[bool, Query(description="Say what it would change and cause; nothing is accepted or written.")]

ANSWER = answers(200, job_id=str, status=None, flink_job_id=None, operation=dict)
"""What is answered to who asks of an operation, or for one."""

Given = Annotated[dict[str, Any], Depends(object_of)]
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]


def create_app(services: Services, gate: access.Gate, *, tenant: str, wait_limit_seconds: float) -> FastAPI:
    """The application over these services, for one tenant."""
    app = FastAPI(title="Headrace", openapi_url=f"{BASE}/openapi.json", docs_url=None, redoc_url=None)
    problems.install(app)
    document.install(app)
    app.add_middleware(Guard, gate=gate, base=BASE)
    reads = Reads(services, tenant)
    _health(app, services, gate.callers)
    _operations(app, services, reads, tenant, wait_limit_seconds)
    _jobs(app, reads, partial(services.dispose.ask, tenant))
    adoption.install(app, services.adopting, tenant, BASE)
    inspection.install(app, services.inspect, tenant, BASE)
    versions.install(app, reads, BASE)
    _templates(app, reads)
    _runtimes(app, reads)
    triggers.install(app, services.triggers, services.replay, BASE)
    keys_of_callers.install(app, services.api_keys, BASE)
    return app


def _health(app: FastAPI, services: Services, callers: Callers) -> None:
    """None of them takes a thread that other requests need."""
    store_answers = Shared(services.store.ping, "readyz")
    stock = services.take_stock
    facts = Shared(FactsPage(stock.of_records, stock.of_queues).text, "facts")

    @app.get("/livez", responses=answers(200, status=str))
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", responses={**answers(200, status=str), **refusals(503)})
    async def readyz(request: Request) -> dict[str, str]:
        """Who brings no key is told no host: which server does not answer, and why, is in the log."""
        try:
            await store_answers.found()
        except Unavailable as error:
            logger.warning("not ready: {}", error)
            if callers.at_hand(access.given_by(request.headers)):
                raise
            words = "the store does not answer; the log, and the answer to who brings an API key, say why"
            raise Unavailable(words) from None
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response, responses=document.text("text/plain"))
    async def metrics_page() -> Response:
        """What this process has counted, and the installation's facts: these are told here alone."""
        return Response(generate_latest() + await facts.found(), media_type=CONTENT_TYPE_LATEST)


def _operations(app: FastAPI, services: Services, reads: Reads, tenant: str, wait_limit_seconds: float) -> None:
    accept, records = services.accept, services.records
    waiting = Waiting(records.operation, wait_limit_seconds)

    async def answer(request: Request, accepted: Accepted, wait: float) -> JSONResponse:
        operation = await waiting.ended(request, accepted.operation, wait)
        shown = await run_in_threadpool(reads.answer, operation, accepted)
        location = f"{BASE}/operations/{operation.id}"
        headers = {"Location": location} | ({"Retry-After": "1"} if operation.is_open else {})
        return _json(shown, 202 if operation.is_open else 200, headers)

    for kind in KINDS.values():
        _accepts(app, kind, services, answer, tenant)

    @app.post(
        f"{BASE}/jobs/render",
        openapi_extra=described(SubmitArguments, job_id=True),
        responses={**answers(200, apiVersion=str, kind=str, metadata=dict, spec=dict), **refusals(404, 409, 502)},
    )
    def render(body: Given) -> JSONResponse:
        given = {name: each for name, each in body.items() if name != "start_from"}
        return _json(accept.render(given.pop("job_id", None), given, tenant=tenant))

    @app.get(f"{BASE}/operations/{{operation_id}}", responses={**ANSWER, **refusals(404)})
    async def operation(request: Request, operation_id: str, wait: Wait = 0) -> JSONResponse:
        found = await run_in_threadpool(reads.operation, operation_id)
        ended = await waiting.ended(request, found, wait)
        return _json(await run_in_threadpool(reads.answer, ended))


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
        with metrics.ACCEPT_SECONDS.labels("http").time():
            accepted = await run_in_threadpool(accept, kind.name, named, body, tenant=tenant, key=key, source=source)
        return await answer(request, accepted, wait)

    path = f"{BASE}/jobs/{kind.word}" if kind.begins_a_run else f"{BASE}/jobs/{{job_id}}/{kind.word}"
    extra = described(kind.Arguments, job_id=kind.begins_a_run)
    said = {**ANSWER, 202: ANSWER[200], **refusals(404, 409, 502)}
    if kind.can_be_foreseen:
        said |= answers(200, job_id=str)  # of what has ended, or of what is foreseen
    app.post(path, status_code=202, openapi_extra=extra, name=kind.word, responses=said)(operation)


def _jobs(app: FastAPI, reads: Reads, disposed: Callable[[str], Savepoint]) -> None:
    @app.get(f"{BASE}/jobs", responses=pages("jobs"))
    def jobs(
        phase: Phase | None = None, limit: Limit = 100, cursor: str | None = None, brief: bool = False
    ) -> JSONResponse:
        return _json(reads.jobs(phase, limit, cursor, brief=brief))

    one = answers(200, job_id=str, status=str, observation=str, run=int, open_operations=list, request=dict)

    @app.get(f"{BASE}/jobs/{{job_id}}", responses={**one, **refusals(404)})
    def job(job_id: str) -> JSONResponse:
        return _json(reads.job(job_id))

    @app.get(f"{BASE}/jobs/{{job_id}}/operations", responses={**answers(200, operations=list), **refusals(404)})
    def operations(job_id: str) -> JSONResponse:
        return _json(reads.operations(job_id))

    @app.get(f"{BASE}/jobs/{{job_id}}/transitions", responses={**answers(200, transitions=list), **refusals(404)})
    def transitions(job_id: str) -> JSONResponse:
        return _json(reads.transitions(job_id))

    @app.get(f"{BASE}/jobs/{{job_id}}/savepoints", responses={**pages("savepoints"), **refusals(404)})
    def savepoints_of_job(job_id: str, limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        return _json(reads.savepoints(job_id, limit, cursor))

    @app.get(f"{BASE}/savepoints", responses=pages("savepoints"))
    def savepoints(limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        return _json(reads.savepoints(None, limit, cursor))

    @app.delete(
        f"{BASE}/savepoints", status_code=202, responses={**answers(202, path=str, job_id=str), **refusals(404, 409)}
    )
    def dispose(path: Annotated[str, Query(min_length=1, max_length=2000)]) -> JSONResponse:
        return _json(views.savepoint_view(disposed(path)), 202)


def _runtimes(app: FastAPI, reads: Reads) -> None:
    @app.get(f"{BASE}/runtimes", responses=answers(200, runtimes=list))
    def runtimes() -> JSONResponse:
        return _json(reads.runtimes())


def _templates(app: FastAPI, reads: Reads) -> None:
    one = answers(200, 201, template_id=str, version=int, type=str)
    made = document.body("application/json", "application/yaml", type="object", required=["template_id"])

    @app.post(f"{BASE}/templates", status_code=201, openapi_extra=made, responses={201: one[201], **refusals(409)})
    async def put(request: Request) -> JSONResponse:
        stored = await run_in_threadpool(_registered, reads, await request.body())
        location = f"{BASE}/templates/{stored['template_id']}?version={stored['version']}"
        return _json(stored, 201, {"Location": location})

    @app.get(f"{BASE}/templates", responses=pages("templates"))
    def templates(limit: Limit = 100, cursor: str | None = None) -> JSONResponse:
        return _json(reads.templates(limit, cursor))

    @app.get(f"{BASE}/templates/{{template_id}}", responses={200: one[200], **refusals(404)})
    def template(template_id: str, version: Annotated[int | None, Query(ge=1)] = None) -> JSONResponse:
        return _json(reads.template(template_id, version))


def _registered(reads: Reads, body: bytes) -> dict[str, Any]:
    """Parsed off the event loop, and bounded before it is built: whatever was sent, others are answered meanwhile."""
    return reads.register(json_or_yaml_object(body, "body"))


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(jsonable_encoder(content), status, dict(headers or {}))
