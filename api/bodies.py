"""A request's body as a model, whatever its Content-Type says; parsed off the event loop. Knows no route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from headrace.domain.inputs import blamed_on_input, json_object
from headrace.domain.validation import problems_of
from headrace.errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)


def body_of(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that reads the body; none at all is an empty object. Raises InvalidRequest."""

    async def read(request: Request) -> Model:
        return await run_in_threadpool(_parsed, model, await request.body())

    return read


def _parsed(model: type[Model], body: bytes) -> Model:
    with blamed_on_input("body"):
        try:
            return model.model_validate(json_object(body or b"{}", "body"))
        except ValidationError as error:
            raise InvalidRequest(problems_of(error, model)) from error


def described(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}
