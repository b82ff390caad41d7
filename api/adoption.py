"""The route of what may be adopted. It translates, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from api.document import pages, refusals
from headrace.services.adopting import Adopting

MOST_LISTED = 100
"""Whole deployments are read for a page."""


def install(app: FastAPI, adopting: Adopting, tenant: str, base: str) -> None:
    """Adds the route, below `base`, for one tenant."""

    @app.get(f"{base}/adoptable", responses={**pages("adoptable"), **refusals(502)})
    def adoptable(
        namespace: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
        cursor: Annotated[str, Query(max_length=4096)] = "",
    ) -> JSONResponse:
        page = adopting.page(tenant, namespace, cursor, limit)
        return JSONResponse({"adoptable": [asdict(each) for each in page.found], "next_cursor": page.further or None})
