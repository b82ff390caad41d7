"""What the OpenAPI document says that FastAPI cannot know: keys, problems, and what an answer holds.

Each route names what it answers with; what every one may answer, the guard's refusals, is added here. Knows no route.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import access, problems

PROBLEM = "application/problem+json"
EVERY = (400, 401, 403, 411, 413, 429, 503)
"""What any request with a key may be answered: a field of it is wrong, who asks may not, a bound is met, a server is
away."""


Responses = dict[int | str, dict[str, Any]]

_KINDS: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    list: {"type": "array"},
    dict: {"type": "object"},
}
_OF_A_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `errors` names each field of a request that cannot be used.",
    "required": ["type", "status", "title", "detail"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail")},
        "status": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_OF_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in a header."},
}


def refusals(*statuses: int) -> Responses:
    """The problems that a route may answer with, beside those that every one may."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": problems.TITLE_OF[status], "content": {PROBLEM: {"schema": schema}}}
        for status in statuses
    }


def answers(*statuses: int, **fields: type | None) -> Responses:
    """An answer that is an object with at least these fields; None is a field that may be of any kind, or null."""
    properties = {name: _KINDS[kind] if kind is not None else {} for name, kind in fields.items()}
    schema = {"type": "object", "required": list(fields), "properties": properties}
    return {status: {"content": {"application/json": {"schema": schema}}} for status in statuses}


def pages(name: str) -> Responses:
    """A list under this name, and where it goes on."""
    return answers(200, **{name: list, "next_cursor": None})


def text(media_type: str) -> Responses:
    """An answer that is text."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


def body(*media_types: str, **schema: Any) -> dict[str, Any]:
    """What OpenAPI says of a body that is read as it comes."""
    return {"requestBody": {"required": True, "content": {each: {"schema": schema} for each in media_types}}}


def install(app: FastAPI) -> None:
    """The app's document is this one, made once: a route that is added later is not in it."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        made["components"] = {"schemas": {"Problem": _OF_A_PROBLEM}, "securitySchemes": _OF_KEYS}
        for path, methods in made["paths"].items():
            for operation in methods.values():
                _completed(operation, is_open=path in access.OPEN_PATHS)
        app.openapi_schema = made
    return app.openapi_schema


def _completed(operation: dict[str, Any], *, is_open: bool) -> None:
    """FastAPI thinks that what is wrong with a request is a 422 of its own."""
    found: dict[str, Any] = operation["responses"]
    found.pop("422", None)
    for each in found.values():
        each.setdefault("description", "Successful Response")
    if is_open:
        return
    operation["security"] = [{name: []} for name in _OF_KEYS]
    for status, said in refusals(*EVERY).items():
        found.setdefault(str(status), said)
