"""The routes of a job's versions. They translate, and nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from api import views
from headrace.domain.jobs import JobKey
from headrace.errors import NotFound
from headrace.services.records import Records
from headrace.services.versions import Versions

MOST_AT_ONCE = 100

Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE)]
Before = Annotated[int | None, Query(ge=1, description="Only versions below this number, as next_cursor has it.")]


def install(app: FastAPI, versions: Versions, records: Records, tenant: str, base: str) -> None:
    """Adds the routes, below `base`, for one tenant."""

    def existing(job_id: str) -> JobKey:
        key = JobKey(tenant, job_id)
        if records.existing(key) is None:
            raise NotFound(f"job {job_id}: there is none of this name")
        return key

    @app.get(f"{base}/jobs/{{job_id}}/versions")
    def of_job(job_id: str, limit: Limit = 50, cursor: Before = None) -> JSONResponse:
        """Newest first."""
        known = [each for each in versions.all(existing(job_id)) if cursor is None or each.number < cursor]
        page = known[::-1][:limit]
        further = page[-1].number if len(known) > limit else None
        shown = [views.version_in_list(each) for each in page]
        return JSONResponse(jsonable_encoder({"versions": shown, "next_cursor": further}))

    @app.get(f"{base}/jobs/{{job_id}}/versions/{{number}}")
    def one(job_id: str, number: int) -> JSONResponse:
        return JSONResponse(jsonable_encoder(views.version_view(versions.one(existing(job_id), number))))
