"""Indexes and the schema's version: made by `headrace-migrate`, idempotent, safe beside running processes.

Operations, jobs and transitions have their own key as `_id`, so what is unique by that needs no index here.
"""

from __future__ import annotations

from typing import Any, Final

from pymongo import ASCENDING, IndexModel

SCHEMA_VERSION: Final = 1

JOB = [("tenant", ASCENDING), ("job_id", ASCENDING)]

SCOPE = [("tenant", ASCENDING), ("cluster", ASCENDING), ("namespace", ASCENDING)]

INDEXES: Final[dict[str, list[IndexModel]]] = {
    "operations": [
        IndexModel([("tenant", ASCENDING), ("idempotency_key", ASCENDING)], name="idempotency_key", unique=True),
        IndexModel([*JOB, ("sequence", ASCENDING)], name="sequence", unique=True),
        IndexModel(
            [("is_unplaced", ASCENDING), *SCOPE, ("accepted_at", ASCENDING)],
            name="unplaced",
            partialFilterExpression={"is_unplaced": True},
        ),
    ],
    "jobs": [
        IndexModel(JOB, name="key", unique=True),
        IndexModel([*SCOPE, ("is_gone", ASCENDING)], name="watched"),
        IndexModel([*SCOPE, ("is_for_workers", ASCENDING), ("due_at", ASCENDING)], name="due"),
    ],
    "transitions": [IndexModel([*JOB, ("number", ASCENDING)], name="number", unique=True)],
    "savepoints": [IndexModel([("tenant", ASCENDING), ("path", ASCENDING)], name="path_of_tenant", unique=True)],
    "job_templates": [
        IndexModel(
            [("tenant", ASCENDING), ("template_id", ASCENDING), ("version", ASCENDING)], name="version", unique=True
        ),
    ],
}


def migrate(database: Any) -> int:
    """Brings the database to SCHEMA_VERSION and returns that. Raises what pymongo raises."""
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(indexes)
    database["schema"].update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)
    return SCHEMA_VERSION
