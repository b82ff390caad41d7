"""The routes of triggers and of dead letters. They translate, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from api.document import answers, body, pages, refusals
from headrace.domain.inputs import json_or_yaml_object
from headrace.domain.triggers import Trigger, trigger_body
from headrace.ports import DeadLetter
from headrace.services.replay import MOST_LETTERS, Replay, Replayed
from headrace.services.triggers import Triggers


def install(app: FastAPI, triggers: Triggers, replay: Replay, base: str) -> None:
    """Adds the routes, below `base`."""
    _triggers(app, triggers, f"{base}/triggers")
    _dead_letters(app, replay, f"{base}/dead-letters")


def _triggers(app: FastAPI, triggers: Triggers, path: str) -> None:
    shown = answers(200, 201, name=str, topic=str, action=dict)
    made = body("application/json", "application/yaml", type="object", required=["name", "topic", "action"])

    @app.post(path, status_code=201, openapi_extra=made, responses={201: shown[201], **refusals(409)})
    async def apply(request: Request) -> JSONResponse:
        stored = await run_in_threadpool(_applied, triggers, await request.body())
        return _json(_shown(stored), 201, {"Location": f"{path}/{stored.name}"})

    @app.get(path, responses=pages("triggers"))
    def listed() -> JSONResponse:
        return _json({"triggers": [_shown(trigger) for trigger in triggers.all()], "next_cursor": None})

    @app.get(f"{path}/{{name}}", responses={200: shown[200], **refusals(404)})
    def one(name: str) -> JSONResponse:
        return _json(_shown(triggers.one(name)))

    @app.delete(f"{path}/{{name}}", responses={**answers(200, name=str, deleted=bool), **refusals(404)})
    def delete(name: str) -> JSONResponse:
        triggers.delete(name)
        return _json({"name": name, "deleted": True})


def _dead_letters(app: FastAPI, replay: Replay, path: str) -> None:
    @app.get(path, responses=pages("dead_letters"))
    def letters(limit: Annotated[int, Query(ge=1, le=MOST_LETTERS)] = 100) -> JSONResponse:
        return _json({"dead_letters": [_letter(letter) for letter in replay.letters(limit)], "next_cursor": None})

    handled = answers(200, id=str, outcome=str, operations=list, reason=None)

    @app.post(f"{path}/{{letter_id}}/replay", responses={**handled, **refusals(404, 409)})
    def replayed(letter_id: str) -> JSONResponse:
        return _json(_replayed(replay.replay(letter_id)))


def _applied(triggers: Triggers, body: bytes) -> Trigger:
    return triggers.apply(json_or_yaml_object(body, "body"))


def _shown(trigger: Trigger) -> dict[str, Any]:
    return {**trigger_body(trigger), "revision": trigger.revision, "updated_at": trigger.updated_at}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    fields = asdict(letter)
    return {**fields.pop("origin"), **fields}


def _replayed(replayed: Replayed) -> dict[str, Any]:
    ids = list(replayed.operation_ids)
    return {"id": replayed.letter_id, "outcome": replayed.outcome, "operations": ids, "reason": replayed.reason}


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(jsonable_encoder(content), status, headers)
