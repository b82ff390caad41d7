"""Errors as RFC 9457 problem+json, translated once. Knows no route."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from headrace import metrics
from headrace.errors import (
    Conflict,
    Forbidden,
    HeadraceError,
    InvalidRequest,
    NotFound,
    Refused,
    TooMany,
    TransientError,
    Unauthorized,
    class_of,
    unforeseen,
)
from headrace.logs import say_unforeseen

STATUS_OF: tuple[tuple[type[HeadraceError], int, str], ...] = (
    (InvalidRequest, 400, "the request is not valid"),
    (NotFound, 404, "not found"),
    (Conflict, 409, "conflict"),
    (Unauthorized, 401, "unauthorized"),
    (Forbidden, 403, "the key may not do this"),
    (TooMany, 429, "too many at once"),
    (Refused, 502, "a server refused"),
    (TransientError, 503, "a server does not answer"),
    (HeadraceError, 500, "an error"),
)

TITLE_OF = {status: title for _, status, title in STATUS_OF}
TITLE_OF |= {411: "the body's length is not given", 413: "the body is too large"}


def problem(
    status: int,
    title: str,
    detail: str,
    errors: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document; `errors` names each field and what is wrong with it."""
    body: dict[str, object] = {"type": "about:blank", "status": status, "title": title, "detail": detail}
    if errors:
        body["errors"] = [{"field": field, "detail": words} for field, words in errors.items()]
    return JSONResponse(body, status, dict(headers or {}), "application/problem+json")


def install(app: FastAPI) -> None:
    """Makes every error of this app a problem."""
    app.add_exception_handler(HeadraceError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _ours(_request: Request, error: Exception) -> JSONResponse:
    return of(error)


def of(error: Exception) -> JSONResponse:
    """The problem that one of our errors is."""
    metrics.ERRORS.labels("http", class_of(error)).inc()
    cause = unforeseen(error)
    if cause is not None:
        metrics.UNFORESEEN.labels("http").inc()
        say_unforeseen(cause, "a request")
    status, title = next((s, t) for kind, s, t in STATUS_OF if isinstance(error, kind))
    errors = error.problems if isinstance(error, InvalidRequest) else None
    headers = {"Retry-After": "2"} if status in (429, 503) else None
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return problem(status, title, str(error), errors, headers)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    errors: dict[str, str] = {}
    for found in error.errors():
        place = [str(part) for part in found["loc"] if part not in ("body", "query", "path")]
        errors[".".join(place) or "body"] = str(found["msg"])
    return _ours(_request, InvalidRequest(errors))


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return problem(error.status_code, str(error.detail).lower(), str(error.detail), headers=headers)


def _allowed(request: Request) -> str:
    """Every method of this path: the framework names those of the first route alone that has it."""
    routes = (each for each in request.app.routes if isinstance(each, Route))
    found = {
        method for each in routes if each.matches(request.scope)[0] is not Match.NONE for method in each.methods or ()
    }
    return ", ".join(sorted(found))
