"""Indexes and the schema's version: made by `headrace-migrate`, idempotent, safe beside running processes.

Operations, jobs and transitions have their own key as `_id`, so what is unique by that needs no index here.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo import ASCENDING, IndexModel

SCHEMA_VERSION: Final = 1

JOB = [("tenant", ASCENDING), ("job_id", ASCENDING)]

INDEXES: Final[dict[str, list[IndexModel]]] = {
    "operations": [
        IndexModel([("tenant", ASCENDING), ("idempotency_key", ASCENDING)], name="idempotency_key", unique=True),
        IndexModel([*JOB, ("sequence", ASCENDING)], name="sequence", unique=True),
        IndexModel([*JOB, ("is_open", ASCENDING)], name="open_of_job"),
        IndexModel([("is_open", ASCENDING)], name="open"),
    ],
    "jobs": [
        IndexModel(JOB, name="key", unique=True),
        IndexModel([("cluster", ASCENDING), ("namespace", ASCENDING), ("is_settled", ASCENDING)], name="unsettled"),
        IndexModel([("cluster", ASCENDING), ("namespace", ASCENDING), ("phase", ASCENDING)], name="phase"),
    ],
    "transitions": [IndexModel(JOB, name="job")],
    "savepoints": [IndexModel([("path", ASCENDING)], name="path", unique=True)],
    "job_templates": [
        IndexModel(
            [("tenant", ASCENDING), ("template_id", ASCENDING), ("version", ASCENDING)], name="version", unique=True
        ),
    ],
    "sync_cursors": [IndexModel([("cluster", ASCENDING), ("namespace", ASCENDING)], name="scope", unique=True)],
    "leases": [IndexModel([("name", ASCENDING)], name="name", unique=True)],
}


def migrate(database: Any) -> int:
    """Brings the database to SCHEMA_VERSION and returns that. Raises what pymongo raises."""
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(indexes)
    database["schema"].update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)
    return SCHEMA_VERSION
