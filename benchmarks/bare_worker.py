"""Celery tasks as one writes them without Headrace: the same calls to the API server, and no promise kept.

`bare.create` looks whether the deployment is there and creates it. `bare.create_on_record` also has it on durable
record before and after, as who must not lose a request would. Knows nothing of ours but the write concern.
"""

from __future__ import annotations

import json
import os
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import urllib3
from celery import Celery
from pymongo import MongoClient

from headrace.adapters.mongo.store import DURABLE

DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
CREATE, CREATE_ON_RECORD = "bare.create", "bare.create_on_record"

app = Celery("bare", broker=os.environ.get("HEADRACE_REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    task_default_queue="bare",
)


@cache
def _api() -> urllib3.HTTPConnectionPool:
    return urllib3.connection_from_url(os.environ["BARE_API_URL"], maxsize=16)


@cache
def _database() -> Any:
    client: MongoClient[dict[str, Any]] = MongoClient(os.environ["HEADRACE_MONGODB_URL"])
    return client.get_database(os.environ["HEADRACE_MONGODB_DATABASE"], write_concern=DURABLE)


@cache
def _manifest() -> Any:
    return json.loads(Path(os.environ["BARE_MANIFEST"]).read_text())


def create(name: str) -> None:
    """Two calls: is it there, and the create."""
    if _api().request("GET", f"{DEPLOYMENTS}/{name}").status == 404:
        whole = _manifest()
        body = json.dumps({**whole, "metadata": {**whole["metadata"], "name": name}})
        _api().request("POST", DEPLOYMENTS, body=body, headers={"Content-Type": "application/json"})


def create_on_record(name: str) -> None:
    """The same between two durable writes."""
    key, operations = uuid.uuid4().hex, _database().operations
    operations.insert_one(
        {"_id": key, "tenant": "bare", "idempotency_key": key, "job_id": name, "sequence": 1, "arguments": _manifest()}
    )
    create(name)
    operations.update_one({"_id": key}, {"$set": {"state": "APPLIED"}})


app.task(name=CREATE)(create)
app.task(name=CREATE_ON_RECORD)(create_on_record)
