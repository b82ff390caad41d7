"""The routes of a job's versions. They translate, and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from api.document import answers, pages, refusals
from api.reads import Reads

MOST_AT_ONCE = 100

Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE)]
Before = Annotated[int | None, Query(ge=1, description="Only versions below this number, as next_cursor has it.")]


def install(app: FastAPI, reads: Reads, base: str) -> None:
    """Adds the routes, below `base`."""

    @app.get(f"{base}/jobs/{{job_id}}/versions", responses={**pages("versions"), **refusals(404)})
    def of_job(job_id: str, limit: Limit = 50, cursor: Before = None) -> JSONResponse:
        """Newest first."""
        return JSONResponse(jsonable_encoder(reads.versions(job_id, limit, cursor)))

    one = answers(200, version=int, kind=str, request=dict)

    @app.get(f"{base}/jobs/{{job_id}}/versions/{{number}}", responses={**one, **refusals(404)})
    def version(job_id: str, number: int) -> JSONResponse:
        return JSONResponse(jsonable_encoder(reads.version(job_id, number)))
