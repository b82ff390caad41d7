"""A request's body as an object, whatever its Content-Type says; parsed off the event loop. Knows no route."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from headrace.domain.inputs import blamed_on_input, json_object


async def object_of(request: Request) -> dict[str, Any]:
    """A dependency that reads the body as an object; none at all is an empty one. Raises InvalidRequest."""
    return await run_in_threadpool(_object, await request.body() or b"{}")


def _object(body: bytes) -> dict[str, Any]:
    with blamed_on_input("body"):
        return json_object(body, "body")


def described(model: type[BaseModel], *, job_id: bool = False) -> dict[str, Any]:
    """What OpenAPI says of such a body; with `job_id` that has the job's name too."""
    schema = model.model_json_schema()
    if job_id:
        schema["properties"]["job_id"] = {"type": "string", "title": "Job Id"}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}
