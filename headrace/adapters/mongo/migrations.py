"""Indexes and the schema's version: made by `headrace-migrate`, idempotent, safe beside running processes.

Operations, jobs and transitions have their own key as `_id`, so what is unique by that needs no index here. Records of
version 1 are rewritten with all processes stopped; from then on two releases work side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from headrace.domain.document import PROGRAMS
from headrace.domain.job_requests import without_programs
from headrace.domain.jobs import manifest_hash
from headrace.errors import Refused

SCHEMA_VERSION: Final = 2

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
        IndexModel(
            [*SCOPE, ("accepted_at", ASCENDING)], name="forgotten", partialFilterExpression={"is_forgotten": True}
        ),
    ],
    "jobs": [
        IndexModel(JOB, name="key", unique=True),
        IndexModel([*SCOPE, ("is_gone", ASCENDING)], name="watched"),
        IndexModel([*SCOPE, ("is_for_workers", ASCENDING), ("due_at", ASCENDING)], name="due"),
        IndexModel([*SCOPE, ("phase", ASCENDING)], name="phase"),
        IndexModel([*SCOPE, ("phase_since", ASCENDING)], name="deleted", partialFilterExpression={"phase": "DELETED"}),
    ],
    "transitions": [IndexModel([*JOB, ("number", ASCENDING)], name="number", unique=True)],
    "savepoints": [
        IndexModel([("tenant", ASCENDING), ("path", ASCENDING)], name="path_of_tenant", unique=True),
        IndexModel([("tenant", ASCENDING), ("at", ASCENDING)], name="newest"),
        IndexModel([*JOB, ("at", ASCENDING)], name="newest_of_job"),
        IndexModel([("place", ASCENDING)], name="place"),
        IndexModel(
            [("tenant", ASCENDING), ("goes_at", ASCENDING)],
            name="disposing",
            partialFilterExpression={"goes_at": {"$type": "date"}},
        ),
        IndexModel([("path", ASCENDING)], name="place_of_old"),
    ],
    "triggers": [IndexModel([*SCOPE, ("name", ASCENDING)], name="name", unique=True)],
    "api_keys": [
        IndexModel([("tenant", ASCENDING), ("name", ASCENDING)], name="name", unique=True),
        IndexModel([("tenant", ASCENDING), ("digest", ASCENDING)], name="digest", unique=True),
    ],
    "job_templates": [
        IndexModel(
            [("tenant", ASCENDING), ("template_id", ASCENDING), ("version", ASCENDING)], name="version", unique=True
        ),
    ],
}


DEPLOYMENT_NAME: Final = IndexModel(
    [("cluster", ASCENDING), ("namespace", ASCENDING), ("deployment_name", ASCENDING)],
    name="deployment_name",
    unique=True,
)
"""Apart from the others: records of the releases before it may not allow it."""

AT_WORK_WITHIN = timedelta(seconds=60)
"""How long ago a process may have left its mark for the records to be rewritten."""


KEPT_ITS_STATE = ("CANCELLED", "REJECTED")
"""Phases of a job of version 1 in which its newest state is the one on record: a STOP recorded it before it deleted
anything, and a run that was rejected never was. In every other the job may have run since."""


def migrate(database: Any) -> tuple[int, Sequence[str]]:
    """Brings the database to SCHEMA_VERSION; returns that, and in words which records keep an index from being made.
    Idempotent and resumable: what is rewritten already is left alone. Raises Refused where records have to be rewritten
    while a process is at work, else what pymongo raises.
    """
    if _is_of_version_1(database):
        _refuse_while_at_work(database)
        _rewrite(database)
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(indexes)
    database["schema"].update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True)
    return SCHEMA_VERSION, _keep_names_apart(database)


def _keep_names_apart(database: Any) -> Sequence[str]:
    """One job a deployment's name. Records of releases before this index may share one: then it is not made, and the
    next migration tries again."""
    if DEPLOYMENT_NAME.document["name"] in database["jobs"].index_information():
        return ()
    names: dict[tuple[str, ...], list[str]] = {}
    fields = {"cluster": 1, "namespace": 1, "deployment_name": 1, "tenant": 1, "job_id": 1}
    for job in database["jobs"].find({}, fields):
        place = tuple(str(job[field]) for field in ("cluster", "namespace", "deployment_name"))
        names.setdefault(place, []).append(f"{job['tenant']}/{job['job_id']}")
    shared = {place: jobs for place, jobs in names.items() if len(jobs) > 1}
    if not shared:
        database["jobs"].create_indexes([DEPLOYMENT_NAME])
    return [
        f"jobs {', '.join(sorted(jobs))} share the deployment {name} of namespace {namespace} in cluster {cluster}: "
        "no index keeps names apart until one of them is removed and headrace-migrate runs again"
        for (cluster, namespace, name), jobs in sorted(shared.items())
    ]


def _is_of_version_1(database: Any) -> bool:
    known = database["schema"].find_one({"_id": "schema"})
    return known is not None and known["version"] < SCHEMA_VERSION


def _refuse_while_at_work(database: Any) -> None:
    """Version 1's processes keep a heartbeat, and a lease while they sync."""
    now = database.command("hello")["localTime"].replace(tzinfo=UTC)
    held = [each["name"] for each in database["leases"].find({"name": {"$type": "string"}}) if _is_held(each, now)]
    beat = database["sync_cursors"].find_one({"cluster": "heartbeat"})
    last = datetime.fromisoformat(json.loads(beat["resource_version"])["last"]) if beat else None
    if held or (last is not None and now - last < AT_WORK_WITHIN):
        raise Refused(
            "a process of the release before is at work (its heartbeat is younger than a minute): stop worker, sync, "
            "beat, consumer and API, wait a minute, and run headrace-migrate again; nothing was changed"
        )


def _is_held(lease: Mapping[str, Any], now: datetime) -> bool:
    until: datetime = lease["until"]
    return bool(lease["holder"]) and until.replace(tzinfo=UTC) > now


def _rewrite(database: Any) -> None:
    """Version 1 had a job and its operations apart. Each job is one write, made once all it takes is in place."""
    for job in database["jobs"].find({"revision": {"$exists": False}}):
        whose = {"tenant": job["tenant"], "job_id": job["job_id"]}
        _rewrite_operations(database, whose, job)
        count = _number_transitions(database, whose)
        operations = list(database["operations"].find(whose).sort("sequence", ASCENDING))
        fields = _document(job, operations, count)
        gone = dict.fromkeys(("version", "request", "applied_manifest", "applied_sequence", "not_found_count"), "")
        database["jobs"].update_one({"_id": job["_id"]}, {"$set": fields, "$unset": gone})
    database["sync_cursors"].delete_many({"cluster": {"$exists": True}})
    database["leases"].delete_many({"name": {"$exists": True}})
    for index in ("name", "scope"):
        for collection in ("leases", "sync_cursors"):
            with suppress(OperationFailure):
                database[collection].drop_index(index)
    with suppress(OperationFailure):
        database["savepoints"].drop_index("path")


def _rewrite_operations(database: Any, whose: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    for operation in database["operations"].find({**whose, "deadline_seconds": {"$exists": False}}):
        seconds = (operation["deadline"] - operation["accepted_at"]).total_seconds()
        place = {"cluster": job["cluster"], "namespace": job["namespace"]}
        gone = dict.fromkeys(("deadline", "version", "attempts"), "")
        database["operations"].update_one(
            {"_id": operation["_id"]}, {"$set": {"deadline_seconds": seconds, **place}, "$unset": gone}
        )


def _number_transitions(database: Any, whose: Mapping[str, Any]) -> int:
    """Gives the job's history its numbers, in its order; returns the last one."""
    found = list(database["transitions"].find(whose))
    found.sort(key=lambda each: (each.get("number", 0), each["run"], each["observed_at"]))
    for number, each in enumerate(found, 1):
        if each.get("number") == number:
            continue
        named = f"{whose['tenant']}/{whose['job_id']}/{number}"
        database["transitions"].replace_one(
            {"_id": named}, {**{k: v for k, v in each.items() if k != "_id"}, "number": number}, upsert=True
        )
        database["transitions"].delete_one({"_id": each["_id"]})
    return len(found)


def _document(job: Mapping[str, Any], operations: Sequence[Mapping[str, Any]], transitions: int) -> dict[str, Any]:
    """The fields of a job's document that version 1 did not have. It was not watched by today's rules from its
    beginning, so it never says that it had no state."""
    manifest, request = job.get("applied_manifest"), job.get("request") or {}
    digest = manifest_hash(manifest) if manifest else ""
    submits = [each["_id"] for each in operations if each["kind"] == "SUBMIT"]
    return {
        "submitted": without_programs(request),
        "submitted_by": submits[-1] if submits else "",
        "manifests": {digest: manifest} if manifest else {},
        "applied": digest,
        "state_path": job.get("savepoint_path") or job.get("start_from"),
        "ran_since_state": bool(job.get("deployment_uid")) and job["phase"] not in KEPT_ITS_STATE,
        "is_gapped": True,
        "is_gone": not job.get("deployment_uid"),
        "transition_count": transitions,
        "open_operations": [_open(each) for each in operations if each["is_open"]],
        "ended": [],
        "history": [],
        "revision": 1,
        "decisions": 1,
        "due_at": job["updated_at"],
        "is_for_workers": any(each["is_open"] for each in operations),
    }


def _open(operation: Mapping[str, Any]) -> dict[str, Any]:
    """An open operation begins again: each step looks at the live deployment, and finds what was done."""
    arguments = {name: value for name, value in operation["arguments"].items() if name != PROGRAMS}
    left_out = ("_id", "is_open", "attempts", "deadline", "version")
    kept = {name: value for name, value in operation.items() if name not in left_out}
    return {**kept, "arguments": arguments, "step": "BEGIN", "not_before": None, "generation": None}
