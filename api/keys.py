"""The routes of API keys. They translate, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from api import access
from api.bodies import object_of
from api.document import answers, body, pages, refusals
from headrace.domain.api_keys import ApiKey
from headrace.services.api_keys import ApiKeys

Given = Annotated[dict[str, Any], Depends(object_of)]


def install(app: FastAPI, api_keys: ApiKeys, base: str) -> None:
    """Adds the routes, below `base`."""

    shown = answers(200, 201, name=str, role=str)
    made = body("application/json", type="object", required=["name", "role", "expires_in_days"])

    @app.post(f"{base}/keys", status_code=201, openapi_extra=made, responses={201: shown[201], **refusals(409)})
    def create(request: Request, given: Given) -> JSONResponse:
        """The one answer that has the key itself."""
        record, key = api_keys.create(given, by=access.caller_of(request).name)
        headers = {"Location": f"{base}/keys/{record.name}", "Cache-Control": "no-store"}
        return JSONResponse(jsonable_encoder({**_shown(record), "key": key}), 201, headers)

    @app.get(f"{base}/keys", responses=pages("keys"))
    def listed() -> JSONResponse:
        found = [_shown(key) for key in api_keys.all()]
        return JSONResponse(jsonable_encoder({"keys": found, "next_cursor": None}))

    @app.delete(f"{base}/keys/{{name}}", responses={200: shown[200], **refusals(404, 409)})
    def revoke(name: str) -> JSONResponse:
        return JSONResponse(jsonable_encoder(_shown(api_keys.revoke(name))))

    @app.get(f"{base}/whoami", responses=answers(200, name=str, role=str, expires_at=None))
    def whoami(request: Request) -> JSONResponse:
        caller = access.caller_of(request)
        return JSONResponse(
            jsonable_encoder({"name": caller.name, "role": caller.role, "expires_at": caller.expires_at})
        )


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "role": key.role,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
