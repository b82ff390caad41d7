"""A route as one writes it without Headrace: the same durable writes and one publish, and not one question asked.

`uvicorn benchmarks.bare_api:app`. What it writes are copies of what Headrace wrote, under other names.
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from bson import json_util
from celery import Celery
from fastapi import FastAPI
from pymongo import MongoClient

from headrace.adapters.mongo.store import DURABLE

app = FastAPI()
celery = Celery("bare", broker=os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6379/0"))


@cache
def _database() -> Any:
    client: MongoClient[dict[str, Any]] = MongoClient(os.environ["HEADRACE_MONGODB_URL"])
    return client.get_database(os.environ["HEADRACE_MONGODB_DATABASE"], write_concern=DURABLE)


@cache
def _copied() -> Any:
    return json_util.loads(Path(os.environ["BARE_RECORDS"]).read_text())


def submit(body: dict[str, Any]) -> dict[str, Any]:
    """The operation, the job, the mark that the one is in the other; then the wake-up."""
    job_id, key = body["job_id"], uuid.uuid4().hex
    copied, database = _copied(), _database()
    named = {"job_id": job_id, "idempotency_key": key}
    database.operations.insert_one({**copied["operation"], **named, "_id": key, "is_unplaced": True})
    job = {**copied["job"], "_id": f"default/{job_id}", "job_id": job_id, "deployment_name": job_id}
    database.jobs.insert_one(job)
    database.operations.update_one({"_id": key}, {"$unset": {"is_unplaced": ""}})
    celery.send_task("bare.create", args=[job_id], queue="bare", ignore_result=True)
    return {"operation": {"id": key, "job_id": job_id}}


app.post("/submit", status_code=202)(submit)
