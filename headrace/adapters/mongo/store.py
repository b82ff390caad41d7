"""ports.Store over MongoDB. Claims are compare-and-set updates; errors are translated once, here."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.errors import InvalidDocument
from loguru import logger
from pymongo import ASCENDING, DESCENDING, MongoClient, UpdateOne, WriteConcern
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    NetworkTimeout,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from headrace.adapters.mongo import migrations, resealing
from headrace.adapters.mongo.documents import Record, changed_fields, from_document, to_document
from headrace.adapters.prometheus.errors import counting_errors
from headrace.domain.api_keys import MOST_API_KEYS, ApiKey, name_is_taken, too_many_keys
from headrace.domain.document import JobDocument
from headrace.domain.jobs import ENDED, NATIVE, SETTLED, Job, JobKey, Observation, Phase, Transition
from headrace.domain.operations import Operation
from headrace.domain.runtime_reports import RuntimeReport
from headrace.domain.savepoints import Savepoint, checkpoints_beside, place_of, subsumed
from headrace.domain.sealed import Anew
from headrace.domain.stock import LeaseSeen, OpenOperation
from headrace.domain.templates import Template
from headrace.domain.triggers import MOST_TRIGGERS, Trigger, following
from headrace.errors import ConfigurationError, HeadraceError, LostRace, NameTaken, Refused, Unavailable, Unreadable
from headrace.ports import Cursor, Inserted, JobFilter, Lease, Remains, Scope, Steady

DUPLICATE_KEY = 11000
NAMED_AT_ONCE = 200
"""Of how many deployments the jobs are found by naming each."""

MOST_REMAINS = 5000
MOST_STEADY = 20_000
MOST_OPEN_READ = 10_000
STATES = ("start_from", "state_path", "savepoint_path", "upgrade_path")
"""Fields of a job that name a state."""

DISPOSAL = ("disposing_since", "goes_at", "disposed_at")
"""Fields of a savepoint that say how far its disposal is."""

DURABLE = WriteConcern(w="majority", j=True)


def connect(url: str, database: str, timeout_seconds: float) -> MongoStore:
    """A store over one client, made lazily at its first use: call it after a fork. No server is needed to return."""

    def client() -> MongoClient[dict[str, Any]]:
        return MongoClient(
            url,
            tz_aware=True,
            connect=False,
            timeoutMS=int(timeout_seconds * 1000),  # of the whole call: selection, retries and answer together
            retryWrites=True,
            appname="headrace",
        )

    server = url.rpartition("@")[2].removeprefix("mongodb://").partition("?")[0]
    return MongoStore(client, database, server)


class _Duplicate(LostRace):
    """A unique index refused a write; each caller knows what that means, and none lets it out by accident."""


class MongoStore:
    """Every write is majority and journaled, every call bounded by the client's timeouts."""

    def __init__(self, client: Callable[[], MongoClient[dict[str, Any]]], database: str, server: str) -> None:
        self._make_client = client
        self._lock = threading.Lock()
        self._client: MongoClient[dict[str, Any]] | None = None
        self._database = database
        self._server = server

    def migrate(self) -> int:
        """Makes indexes and records the schema's version. Idempotent. What keeps an index from being made is logged."""
        with self._translated("migrating"):
            version, hindrances = migrations.migrate(self._db)
        for words in hindrances:
            logger.warning("{}", words)
        return version

    def close(self) -> None:
        """Gives the connections back."""
        if self._client is not None:
            self._client.close()

    @property
    def _db(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
        return self._client.get_database(self._database, write_concern=DURABLE)

    @property
    def _majority(self) -> Any:
        """For what decisions rest on: only what a majority has can not be taken back."""
        return self._db.with_options(read_concern=ReadConcern("majority"))

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with counting_errors("mongodb"), self._as_ours(doing):
            yield

    @contextmanager
    def _as_ours(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError, AutoReconnect) as error:
            raise Unavailable(
                f"MongoDB at {self._server} did not answer while {doing} (HEADRACE_MONGODB_URL): {error}"[:500]
            ) from error
        except DuplicateKeyError as error:
            raise _Duplicate(str(error)) from error
        except BulkWriteError as error:
            raise self._of_bulk(error, doing) from error
        except InvalidURI as error:
            raise ConfigurationError(f"HEADRACE_MONGODB_URL is not a MongoDB URL: {error}") from error
        except (PyMongoError, InvalidDocument, OverflowError) as error:
            raise Refused(f"MongoDB at {self._server} refused {doing}: {error}"[:500]) from error

    def _of_bulk(self, error: BulkWriteError, doing: str) -> HeadraceError:
        """What a bulk write's errors come to: duplicates alone are none of a server's trouble."""
        codes = {each.get("code") for each in error.details.get("writeErrors", [])}
        if codes == {DUPLICATE_KEY} and not error.details.get("writeConcernErrors"):
            return _Duplicate(str(error))
        return Unavailable(f"MongoDB at {self._server} did not take all of {doing}; it is tried again")

    def insert_operation(self, operation: Operation) -> Inserted:
        """See ports.Store."""
        try:
            with self._translated("accepting an operation"):
                self._db.operations.insert_one({**_logged(operation), "is_unplaced": True})
        except _Duplicate as error:
            stored = self.operation_by_key(operation.tenant, operation.idempotency_key)
            if stored is None:
                taken = f"job {operation.job_id}: sequence {operation.sequence} is taken"
                raise LostRace(taken) from error
            return Inserted(stored, created=False)
        return Inserted(operation, created=True)

    def insert_operations(self, operations: Sequence[Operation]) -> Collection[str]:
        """See ports.Store."""
        documents = [{**_logged(each), "is_unplaced": True} for each in operations]
        return self._inserted("operations", documents, "accepting operations")

    def known_jobs(self, keys: Sequence[JobKey]) -> Collection[JobKey]:
        """See ports.Store."""
        known: set[JobKey] = set()
        with self._translated("looking for jobs"):
            for tenant in {key.tenant for key in keys}:
                where = {"tenant": tenant, "job_id": {"$in": [key.job_id for key in keys if key.tenant == tenant]}}
                for collection in (self._majority.jobs, self._majority.operations):
                    known |= {JobKey(tenant, each["job_id"]) for each in collection.find(where, {"job_id": 1})}
        return known

    def add_documents(self, documents: Sequence[JobDocument]) -> Collection[JobKey]:
        """See ports.Store."""
        stored = set(self._inserted("jobs", [_document(each) for each in documents], "writing new jobs"))
        return [each.key for each in documents if _job_document_id(each.key) in stored]

    def _inserted(self, collection: str, documents: Sequence[Mapping[str, Any]], doing: str) -> Sequence[str]:
        """The ids of those that no unique index kept out."""
        kept_out: set[int] = set()
        with self._translated(doing):
            try:
                if documents:
                    self._db[collection].insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if not isinstance(self._of_bulk(error, doing), _Duplicate):
                    raise
                kept_out = {each["index"] for each in error.details["writeErrors"]}
        return [each["_id"] for number, each in enumerate(documents) if number not in kept_out]

    def operation(self, tenant: str, operation_id: str) -> Operation | None:
        """See ports.Store."""
        return self._one_operation({"_id": operation_id, "tenant": tenant})

    def operation_by_key(self, tenant: str, idempotency_key: str) -> Operation | None:
        """See ports.Store."""
        return self._one_operation({"tenant": tenant, "idempotency_key": idempotency_key})

    def _one_operation(self, where: Mapping[str, Any]) -> Operation | None:
        with self._translated("reading an operation"):
            document = self._majority.operations.find_one(where)
        return _read(Operation, document) if document else None

    def operations_of(self, key: JobKey, after: int = 0, limit: int = 1000) -> Sequence[Operation]:
        """See ports.Store."""
        where = {"tenant": key.tenant, "job_id": key.job_id, "sequence": {"$gt": after}}
        with self._translated("reading operations"):
            documents = list(self._majority.operations.find(where).sort("sequence", ASCENDING).limit(limit))
        return [_read(Operation, document) for document in documents]

    def unplaced(self, scope: Scope, limit: int) -> Mapping[JobKey, Sequence[str]]:
        """See ports.Store."""
        where = {**_scope(scope), "is_unplaced": True}
        jobs: dict[JobKey, list[str]] = {}
        with self._translated("reading what is not placed"):
            found = self._db.operations.find(where, {"tenant": 1, "job_id": 1}).sort("accepted_at", ASCENDING)
            for each in found.limit(limit):
                jobs.setdefault(JobKey(each["tenant"], each["job_id"]), []).append(each["_id"])
        return jobs

    def clear_unplaced(self, operation_ids: Sequence[str]) -> None:
        """See ports.Store. Each is found by its `_id`, the one lookup that is cheap on every server."""
        with self._translated("writing what is placed"):
            where = {"_id": {"$in": list(operation_ids)}, "is_unplaced": True}
            self._db.operations.update_many(where, {"$unset": {"is_unplaced": ""}})

    def write_outcomes(self, operations: Sequence[Operation]) -> None:
        """See ports.Store."""
        writes = [
            UpdateOne({"_id": each.id, "is_open": True}, {"$set": _outcome(each), "$unset": {"is_unplaced": ""}})
            for each in operations
        ]
        if writes:
            with self._translated("writing how operations ended"):
                self._db.operations.bulk_write(writes, ordered=False)

    def document(self, key: JobKey) -> JobDocument | None:
        """See ports.Store."""
        with self._translated("reading a job"):
            found = self._majority.jobs.find_one({"_id": _job_document_id(key)})
        return document_of(found) if found else None

    def documents(self, keys: Sequence[JobKey]) -> Sequence[JobDocument]:
        """See ports.Store."""
        with self._translated("reading jobs"):
            where = {"_id": {"$in": [_job_document_id(key) for key in keys]}}
            found = list(self._db.jobs.find(where, NOT_LEAN))
        return list(readable(found))

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """See ports.Store."""
        try:
            with self._translated("writing a job"):
                if before.revision == 0:
                    self._db.jobs.insert_one(_document(after))
                    return after
                done = self._db.jobs.update_one(_revision(before), _difference(before, after))
        except _Duplicate as error:
            if self.document(after.key) is None:
                raise NameTaken(f"the deployment's name {after.job.deployment_name} is another job's") from error
            raise LostRace(f"job {before.job.job_id} has a record already") from error
        if done.matched_count == 0:
            raise LostRace(f"job {before.job.job_id} was changed by somebody else")
        return after

    def write_all(self, changed: Sequence[tuple[JobDocument, JobDocument]]) -> Sequence[JobKey]:
        """See ports.Store. Who lost is read back only where somebody did: what this call wrote has its mark."""
        if not changed:
            return []
        mark = uuid.uuid4().hex
        writes = [UpdateOne(_revision(before), _difference(before, after, mark)) for before, after in changed]
        with self._translated("writing jobs"):
            done = self._db.jobs.bulk_write(writes, ordered=False)
            if done.matched_count == len(changed):
                return []
            ids = [_job_document_id(after.key) for _, after in changed]
            ours = {each["_id"] for each in self._db.jobs.find({"_id": {"$in": ids}, "mark": mark}, {"_id": 1})}
        return [after.key for _, after in changed if _job_document_id(after.key) not in ours]

    def flushed(self, documents: Sequence[JobDocument]) -> None:
        """See ports.Store."""
        writes = [
            UpdateOne(_revision(each), {"$set": {"ended": [], "history": [], "due_at": each.due_at}})
            for each in documents
        ]
        if writes:
            with self._translated("writing jobs"):
                self._db.jobs.bulk_write(writes, ordered=False)

    def due(self, scope: Scope, at: datetime, limit: int, *, for_workers: bool) -> Sequence[JobDocument]:
        """See ports.Store."""
        where = {**_scope(scope), "is_for_workers": for_workers, "due_at": {"$lte": at}}
        with self._translated("reading what is due"):
            found = list(self._db.jobs.find(where, NOT_LEAN).sort("due_at", ASCENDING).limit(limit))
        return list(readable(found))

    def job(self, key: JobKey) -> Job | None:
        """See ports.Store."""
        found = self.document(key)
        return found.job if found is not None else None

    def list_jobs(
        self, tenant: str, where: JobFilter, after: str | None, limit: int, *, lean: bool = False
    ) -> Sequence[JobDocument]:
        """See ports.Store."""
        asked: dict[str, Any] = {"tenant": tenant}
        if after is not None:
            asked["job_id"] = {"$gt": after}
        if where.phase is not None:
            asked["phase"] = where.phase.value
        asked |= {"is_forgotten": {"$ne": True}} if where.phase is Phase.DELETED else NOT_DELETED
        with self._translated("listing jobs"):
            most, without = 0 if where.labels else limit, NOT_LEAN if lean else NOT_SHOWN
            found = list(self._db.jobs.find(asked, without).sort("job_id", ASCENDING).limit(most))
        wanted = dict(where.labels or {}).items()
        return [each for each in readable(found) if wanted <= dict(each.job.labels).items()][:limit]

    def remains(self, scope: Scope) -> Sequence[Remains]:
        """See ports.Store."""
        where = {**_scope(scope), "phase": {"$in": [phase.value for phase in ENDED]}, "is_gone": False}
        where["open_operations"] = []
        fields = {"tenant": 1, "job_id": 1, "phase_since": 1, "submitted.ended_run_kept_hours": 1}
        fields |= {"runtime": 1, "phase": 1}
        with self._translated("reading runs that have ended"):
            found = list(self._db.jobs.find(where, fields).sort("phase_since", ASCENDING).limit(MOST_REMAINS))
        return [_remains(each) for each in found if each.get("phase_since")]

    def steady(self, scope: Scope, *, of_all: bool) -> Sequence[Steady]:
        """See ports.Store. The fewest fields that will do: this may be read of the whole fleet."""
        where: dict[str, Any] = {**_scope(scope), "phase": Phase.RUNNING.value, "open_operations": []}
        where |= {} if of_all else {"submitted.savepoints": {"$type": "object"}}
        fields = {"tenant": 1, "job_id": 1, "run": 1, "phase_since": 1, "submitted.savepoints": 1}
        with self._translated("reading jobs that run"):
            found = list(self._db.jobs.find(where, fields).sort("job_id", ASCENDING).limit(MOST_STEADY))
        return [_steady(each) for each in found if each.get("phase_since")]

    def deleted(self, scope: Scope, before: datetime, limit: int) -> Sequence[JobKey]:
        """See ports.Store."""
        where = {**_scope(scope), "phase": Phase.DELETED.value, "phase_since": {"$lt": before}}
        with self._translated("reading deleted jobs"):
            found = self._db.jobs.find(where, {"tenant": 1, "job_id": 1}).sort("phase_since", ASCENDING).limit(limit)
            return [JobKey(each["tenant"], each["job_id"]) for each in found]

    def forget(self, key: JobKey, up_to: int, transitions: int) -> None:
        """See ports.Store."""
        named = {"tenant": key.tenant, "job_id": key.job_id}
        operations = {**named, "sequence": {"$lte": up_to}, "is_open": False}
        left: dict[str, Any] = {"arguments": {}, "reason": "", "savepoint_path": None, "is_forgotten": True}
        with self._translated("forgetting a job"):
            self._db.transitions.delete_many({**named, "number": {"$lte": transitions}})
            self._db.operations.update_many(operations, {"$set": left})

    def drop_forgotten(self, scope: Scope, before: datetime) -> None:
        """See ports.Store."""
        where = {**_scope(scope), "is_forgotten": True, "accepted_at": {"$lt": before}}
        with self._translated("dropping what is forgotten"):
            self._db.operations.delete_many(where)

    def versions(self, scope: Scope) -> Mapping[str, str | None]:
        """See ports.Store. The fewest fields that will do: this is read of the whole fleet."""
        where = {**_scope(scope), "is_gone": False, "deployment_uid": {"$type": "string"}}
        with self._translated("reading jobs"):
            found = self._db.jobs.find(where, {"_id": 0, "deployment_uid": 1, "resource_version": 1})
            return {each["deployment_uid"]: each.get("resource_version") for each in found}

    def jobs_of(self, scope: Scope, uids: Collection[str]) -> Sequence[JobKey]:
        """See ports.Store. Of many, the whole scope is read: the embedded server compares each with each."""
        named: dict[str, Any] = {"$in": list(uids)} if len(uids) <= NAMED_AT_ONCE else {"$type": "string"}
        where = {**_scope(scope), "is_gone": False, "deployment_uid": named}
        fields = {"_id": 0, "deployment_uid": 1, "tenant": 1, "job_id": 1}
        with self._translated("reading jobs"):
            found = list(self._db.jobs.find(where, fields))
        return [JobKey(each["tenant"], each["job_id"]) for each in found if each["deployment_uid"] in uids]

    def jobs_in(self, scope: Scope, phases: Collection[Phase], limit: int) -> Sequence[JobKey]:
        """See ports.Store."""
        where = {**_scope(scope), "phase": {"$in": [phase.value for phase in phases]}}
        names = {"tenant": True, "job_id": True}
        with self._translated("reading jobs"):
            found = list(self._db.jobs.find(where, names).sort("waiting.at", ASCENDING).limit(limit))
        return [JobKey(each["tenant"], each["job_id"]) for each in found]

    def count_phases(self, scope: Scope) -> Mapping[str, int]:
        """See ports.Store. The index of phases has all that is asked for."""
        counting = [{"$match": _scope(scope)}, {"$group": {"_id": "$phase", "jobs": {"$sum": 1}}}]
        with self._translated("counting jobs"):
            return {each["_id"]: each["jobs"] for each in self._db.jobs.aggregate(counting)}

    def open_operations(self, scope: Scope) -> Sequence[OpenOperation]:
        """See ports.Store. A job with an open operation is due some time."""
        where = {**_scope(scope), "is_for_workers": {"$in": [True, False]}, "due_at": {"$type": "date"}}
        fields = {f"open_operations.{name}": 1 for name in ("id", "kind", "accepted_at", "looked_at")}
        unplaced = {**_scope(scope), "is_unplaced": True}
        with self._translated("reading what is open"):
            logged = list(self._db.operations.find(unplaced, {"kind": 1, "accepted_at": 1}).limit(MOST_OPEN_READ))
            jobs = list(self._db.jobs.find(where, fields).limit(MOST_OPEN_READ))
        placed = [(number, each) for job in jobs for number, each in enumerate(job.get("open_operations") or ())]
        return [
            *(_open_operation({**each, "id": each["_id"]}, is_turn=True) for each in logged),
            *(_open_operation(each, is_turn=number == 0) for number, each in placed),
        ]

    def mark(self, scope: Scope, observation: Observation, at: datetime | None) -> None:
        """See ports.Store. One write; those that are marked so already are left alone where no time is told."""
        where: dict[str, Any] = {**_scope(scope), "is_settled": False, "deployment_uid": {"$type": "string"}}
        written = {"observation": observation.value} | ({"observed_at": at} if at is not None else {})
        with self._translated("marking jobs"):
            self._db.jobs.update_many({**where, "observation": {"$ne": observation.value}}, {"$set": written})

    def add_transitions(self, transitions: Sequence[Transition]) -> None:
        """See ports.Store."""
        if not transitions:
            return
        documents = [{"_id": _numbered(each), **to_document(each)} for each in transitions]
        try:
            with self._translated("storing transitions"):
                self._db.transitions.insert_many(documents, ordered=False)
        except _Duplicate:
            return

    def transitions_of(self, key: JobKey, limit: int = 1000) -> Sequence[Transition]:
        """See ports.Store."""
        where = {"tenant": key.tenant, "job_id": key.job_id}
        with self._translated("reading transitions"):
            newest = list(self._db.transitions.find(where).sort("number", DESCENDING).limit(limit))
        return [from_document(Transition, document) for document in reversed(newest)]

    def add_savepoint(self, savepoint: Savepoint) -> None:
        """See ports.Store."""
        named = {"tenant": savepoint.tenant, "path": savepoint.path}
        document = {**to_document(savepoint), "place": place_of(savepoint.path)}
        with suppress(_Duplicate), self._translated("recording a savepoint"):
            self._db.savepoints.update_one(named, {"$setOnInsert": document}, upsert=True)
        beside = checkpoints_beside(savepoint.path)
        if beside is not None:
            with self._translated("forgetting checkpoints that another has taken the place of"):
                self._forget_subsumed(savepoint.tenant, beside)

    def _forget_subsumed(self, tenant: str, beside: str) -> None:
        of_its_job = {"tenant": tenant, "path": {"$gte": beside, "$lt": f"{beside}~"}}
        gone = subsumed(each["path"] for each in self._db.savepoints.find(of_its_job, {"path": True}))
        if gone:
            self._db.savepoints.delete_many({"tenant": tenant, "path": {"$in": gone}})

    def savepoints_of(
        self, tenant: str, job_id: str | None, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Savepoint]:
        """See ports.Store."""
        where: dict[str, Any] = {"tenant": tenant, "disposed_at": None}
        where |= {"job_id": job_id} if job_id is not None else {}
        if before is not None:
            at, path = before
            where["$or"] = [{"at": {"$lt": at}}, {"at": at, "path": {"$lt": path}}]
        order = [("at", DESCENDING), ("path", DESCENDING)]
        with self._translated("listing savepoints"):
            found = list(self._db.savepoints.find(where).sort(order).limit(limit))
        return [from_document(Savepoint, each) for each in found]

    def savepoints_at(self, path: str) -> Sequence[Savepoint]:
        """See ports.Store. Records of earlier releases have their path alone."""
        where = {"$or": [{"place": place_of(path)}, {"path": path}]}
        with self._translated("reading savepoints"):
            return [from_document(Savepoint, each) for each in self._db.savepoints.find(where)]

    def mark_savepoint(self, before: Savepoint, after: Savepoint) -> bool:
        """See ports.Store."""
        stands = {name: getattr(before, name) for name in DISPOSAL}
        now = {name: getattr(after, name) for name in (*DISPOSAL, "trouble")}
        with self._translated("marking a savepoint"):
            named = {"tenant": before.tenant, "path": before.path, **stands}
            return bool(self._db.savepoints.update_one(named, {"$set": now}).matched_count)

    def disposing(self, tenant: str, at: datetime, limit: int) -> Sequence[Savepoint]:
        """See ports.Store."""
        where = {"tenant": tenant, "goes_at": {"$lte": at}, "disposed_at": None}
        with self._translated("reading savepoints that go"):
            found = list(self._db.savepoints.find(where).sort("goes_at", ASCENDING).limit(limit))
        return [from_document(Savepoint, each) for each in found]

    def newest_savepoint(self, key: JobKey) -> Savepoint | None:
        """See ports.Store."""
        named = {"tenant": key.tenant, "job_id": key.job_id, "kind": "savepoint"}
        where = {**named, "disposing_since": None, "disposed_at": None}
        with self._translated("reading a savepoint"):
            found = list(self._db.savepoints.find(where).sort([("at", DESCENDING), ("path", DESCENDING)]).limit(1))
        return from_document(Savepoint, found[0]) if found else None

    def savepoint_settings(self, keys: Collection[JobKey]) -> Mapping[JobKey, Mapping[str, Any]]:
        """See ports.Store."""
        ids = [_job_document_id(key) for key in keys]
        fields = {"tenant": 1, "job_id": 1, "submitted.savepoints": 1}
        with self._translated("reading settings of savepoints"):
            found = list(self._db.jobs.find({"_id": {"$in": ids}}, fields))
        return {JobKey(each["tenant"], each["job_id"]): _own_savepoints(each) or {} for each in found}

    def states_in_use(self) -> Mapping[str, JobKey]:
        """See ports.Store. The log first: what is placed meanwhile stands with its job by then."""
        named = {"tenant": 1, "job_id": 1}
        of_jobs = dict.fromkeys(STATES, 1) | {"open_operations.arguments.start_from": 1}
        asked = {"is_unplaced": True, "arguments.start_from": {"$type": "string"}}
        with self._translated("reading which states are in use"):
            unplaced = list(self._db.operations.find(asked, {**named, "arguments.start_from": 1}))
            jobs = list(self._db.jobs.find({}, {**named, **of_jobs}))
        found = [*jobs, *({**each, "open_operations": [each]} for each in unplaced)]
        return {path: JobKey(each["tenant"], each["job_id"]) for each in found for path in _states_of(each)}

    def put_template(self, template: Template, tenant: str) -> Template:
        """See ports.Store."""
        while True:
            newest = self.template(tenant, template.template_id)
            if newest is not None and newest.is_like(template):
                return newest
            stored = template.model_copy(update={"version": newest.version + 1 if newest else 1})
            document = {
                "tenant": tenant,
                "template_id": stored.template_id,
                "version": stored.version,
                "parameters": {name: p.model_dump(mode="json") for name, p in stored.parameters.items()},
                "request": stored.body,
            }
            try:
                with self._translated("storing a template"):
                    self._db.job_templates.insert_one(document)
            except _Duplicate:
                continue
            return stored

    def template(self, tenant: str, template_id: str, version: int | None = None) -> Template | None:
        """See ports.Store."""
        where: dict[str, Any] = {"tenant": tenant, "template_id": template_id}
        if version is not None:
            where["version"] = version
        found = self._templates(where)
        return max(found, key=lambda template: template.version) if found else None

    def templates(self, tenant: str) -> Sequence[Template]:
        """See ports.Store."""
        newest: dict[str, Template] = {}
        for template in self._templates({"tenant": tenant}):
            known = newest.get(template.template_id)
            newest[template.template_id] = template if known is None or template.version > known.version else known
        return [newest[template_id] for template_id in sorted(newest)]

    def _templates(self, where: Mapping[str, Any]) -> list[Template]:
        with self._translated("reading templates"):
            documents = list(self._db.job_templates.find(where))
        return [
            Template(
                template_id=document["template_id"],
                version=document["version"],
                parameters=document.get("parameters") or {},
                body=document["request"],
            )
            for document in documents
        ]

    def put_trigger(self, scope: Scope, trigger: Trigger) -> Trigger:
        """See ports.Store. One document a trigger, replaced where its revision is still the one that was read."""
        named = f"{_place(scope)}/{trigger.name}"
        while True:
            before = self.trigger(scope, trigger.name)
            stored = following(before, trigger, kept=len(self.triggers(scope)) if before is None else 0)
            if stored is before:
                return before
            document = {"_id": named, **asdict(scope), **to_document(stored)}
            with suppress(_Duplicate), self._translated("storing a trigger"):
                if before is None:
                    self._db.triggers.insert_one(document)
                    return stored
                where = {"_id": named, "revision": before.revision}
                if self._db.triggers.replace_one(where, document).matched_count:
                    return stored

    def trigger(self, scope: Scope, name: str) -> Trigger | None:
        """See ports.Store."""
        with self._translated("reading a trigger"):
            found = self._db.triggers.find_one({"_id": f"{_place(scope)}/{name}"})
        return from_document(Trigger, found) if found is not None else None

    def triggers(self, scope: Scope) -> Sequence[Trigger]:
        """See ports.Store."""
        with self._translated("reading triggers"):
            found = list(self._db.triggers.find(asdict(scope)).sort("name", ASCENDING).limit(2 * MOST_TRIGGERS))
        return [from_document(Trigger, document) for document in found]

    def delete_trigger(self, scope: Scope, name: str) -> bool:
        """See ports.Store."""
        with self._translated("removing a trigger"):
            return bool(self._db.triggers.delete_one({"_id": f"{_place(scope)}/{name}"}).deleted_count)

    def add_api_key(self, key: ApiKey) -> None:
        """See ports.Store."""
        document = {"_id": f"{key.tenant}/{key.name}", **to_document(key)}
        try:
            with self._translated("storing an API key"):
                if self._db.api_keys.count_documents({"tenant": key.tenant}) >= MOST_API_KEYS:
                    raise too_many_keys()
                self._db.api_keys.insert_one(document)
        except _Duplicate as error:
            raise name_is_taken(key) from error

    def api_key(self, tenant: str, digest: str) -> ApiKey | None:
        """See ports.Store."""
        with self._translated("reading an API key"):
            found = self._majority.api_keys.find_one({"tenant": tenant, "digest": digest})
        return from_document(ApiKey, found) if found is not None else None

    def api_keys(self, tenant: str) -> Sequence[ApiKey]:
        """See ports.Store."""
        with self._translated("reading API keys"):
            found = list(self._db.api_keys.find({"tenant": tenant}).sort("name", ASCENDING).limit(2 * MOST_API_KEYS))
        return [from_document(ApiKey, document) for document in found]

    def revoke_api_key(self, tenant: str, name: str, at: datetime) -> ApiKey | None:
        """See ports.Store."""
        named = {"_id": f"{tenant}/{name}"}
        with self._translated("revoking an API key"):
            self._db.api_keys.update_one({**named, "revoked_at": None}, {"$set": {"revoked_at": at}})
            found = self._majority.api_keys.find_one(named)
        return from_document(ApiKey, found) if found is not None else None

    def kept_key(self, tenant: str, name: str) -> str | None:
        """See ports.Store."""
        with self._translated("reading a key"):
            found = self._majority.kept_keys.find_one({"_id": f"{tenant}/{name}"})
        return str(found["sealed"]) if found is not None else None

    def keep_key(self, tenant: str, name: str, sealed: str) -> str:
        """See ports.Store."""
        document = {"_id": f"{tenant}/{name}", "tenant": tenant, "name": name, "sealed": sealed}
        with suppress(_Duplicate), self._translated("keeping a key"):
            self._db.kept_keys.insert_one(document)
        return self.kept_key(tenant, name) or sealed

    def reseal(self, scope: Scope, anew: Anew) -> None:
        """See ports.Store. Each write replaces exactly what was read."""
        with self._translated("sealing anew"):
            resealing.reseal(self._db, scope, anew)

    def cursor(self, scope: Scope) -> Cursor | None:
        """See ports.Store."""
        with self._translated("reading a cursor"):
            found = self._db.sync_cursors.find_one({"_id": _place(scope)})
        if found is None:
            return None
        return Cursor(found["resource_version"], found["at"].replace(tzinfo=UTC))

    def set_cursor(self, scope: Scope, resource_version: str, lease: Lease) -> bool:
        """See ports.Store. The lease is looked at, and the token on the cursor fences an older holder."""
        where = {"_id": _place(scope), "token": {"$lte": lease.token}}
        written = {
            "$set": {"resource_version": resource_version, "token": lease.token},
            "$currentDate": {"at": True},
        }
        try:
            with self._translated("writing a cursor"):
                held = self._db.leases.find_one({"_id": lease.name})
                if held is None or held["token"] != lease.token:
                    return False
                self._db.sync_cursors.update_one(where, written, upsert=True)
        except _Duplicate:
            return False
        return True

    def put_runtime_report(self, scope: Scope, runtime: str, process: str, lacks: Sequence[str]) -> None:
        """See ports.Store. Where another one's first report came in between, that one says as much."""
        whose = {**asdict(scope), "runtime": runtime, "process": process}
        written = {"$set": {**whose, "lacks": list(lacks)}, "$currentDate": {"at": True}}
        with suppress(_Duplicate), self._translated("writing a report of a runtime"):
            named = {"_id": f"{_place(scope)}/{runtime}/{process}"}
            self._db.runtime_reports.update_one(named, written, upsert=True)

    def runtime_reports(self, scope: Scope) -> Sequence[RuntimeReport]:
        """See ports.Store. There are a few documents in all, so that this takes no index."""
        with self._translated("reading reports of runtimes"):
            found = list(self._db.runtime_reports.find(asdict(scope)))
        return [_read(RuntimeReport, each) for each in found]

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """See ports.Store. Decided by the server's clock: who asks may have another time."""
        with self._translated("taking a lease"):
            now = self._server_now()
            stored = self._db.leases.find_one({"_id": name})
            until = now + timedelta(seconds=seconds)
            if stored is None:
                return self._first_lease(name, holder, until)
            held = stored["until"].replace(tzinfo=UTC) > now
            if held and stored["holder"] not in (holder, ""):
                return None
            token = stored["token"] if held and stored["holder"] == holder else stored["token"] + 1
            done = self._db.leases.update_one(
                {"_id": name, "token": stored["token"], "until": stored["until"]},
                {"$set": {"holder": holder, "until": until, "token": token}},
            )
        return Lease(name, token) if done.matched_count else None

    def _server_now(self) -> datetime:
        at: datetime = self._db.command("hello")["localTime"]
        return at.replace(tzinfo=UTC)

    def _first_lease(self, name: str, holder: str, until: datetime) -> Lease | None:
        try:
            with self._translated("taking a lease"):
                self._db.leases.insert_one({"_id": name, "holder": holder, "until": until, "token": 1})
        except _Duplicate:
            return None
        return Lease(name, 1)

    def leases(self, names: Collection[str]) -> Mapping[str, LeaseSeen]:
        """See ports.Store."""
        with self._translated("reading leases"):
            now = self._server_now()
            found = list(self._db.leases.find({"_id": {"$in": list(names)}}))
        return {
            each["_id"]: LeaseSeen(each["token"], bool(each["holder"]) and each["until"].replace(tzinfo=UTC) > now)
            for each in found
        }

    def release_lease(self, lease: Lease, holder: str) -> None:
        """See ports.Store."""
        with self._translated("releasing a lease"):
            self._db.leases.update_one(
                {"_id": lease.name, "token": lease.token, "holder": holder}, {"$set": {"holder": ""}}
            )

    def ping(self) -> None:
        """See ports.Store."""
        with self._translated("a ping"):
            self._db.command("ping")


NOT_LEAN = dict.fromkeys(("submitted", "manifests", "kept_log", "kept_exceptions"), 0)
"""What only a writer of manifests, or a reader of one job, needs: left out where many are read."""

NOT_DELETED = {"$or": [{"phase": {"$ne": Phase.DELETED.value}}, {"open_operations": {"$ne": []}}]}
"""Jobs that lists show unasked (JobDocument.is_hidden)."""

NOT_SHOWN = dict.fromkeys(("manifests", "kept_log", "kept_exceptions"), 0)
"""What no list of jobs shows."""

OUTCOME = (
    *("state", "step", "reason", "ended_at", "updated_at", "spent_seconds"),
    *("savepoint_path", "deployment_uid", "holds", "run"),
)
"""What the log gets of an operation at its end."""


def _logged(operation: Operation) -> dict[str, Any]:
    return {"_id": operation.id, **to_document(operation), "is_open": operation.is_open}


def _outcome(operation: Operation) -> dict[str, Any]:
    whole = to_document(operation)
    return {**{name: whole[name] for name in OUTCOME}, "is_open": operation.is_open}


def _document(document: JobDocument) -> dict[str, Any]:
    """A job's document: the job's own fields beside those of the aggregate, and what indexes need."""
    parts = to_document(document)
    job = parts.pop("job")
    return {
        "_id": _job_document_id(document.key),
        **job,
        **parts,
        **_for_indexes(document),
    }


def document_of(stored: Mapping[str, Any]) -> JobDocument:
    """The aggregate of a stored document. Raises Unreadable."""
    return _read(JobDocument, {**stored, "job": stored})


def readable(stored: Iterable[Mapping[str, Any]]) -> Iterator[JobDocument]:
    """The aggregates of those documents that this process can read: one that it cannot is that job's trouble alone."""
    for each in stored:
        try:
            yield document_of(each)
        except Unreadable as error:
            logger.error("{}", error)


def _read(kind: type[Record], stored: Mapping[str, Any]) -> Record:
    """The record of a document. Raises Unreadable where it has what this release does not know: a later one beside it,
    as while a release is rolled out, goes on with that job."""
    try:
        return from_document(kind, stored)
    except (TypeError, ValueError, KeyError) as error:
        words = f"the record {stored.get('_id')} cannot be read by this release: {error}"
        raise Unreadable(f"{words}; it is left to the release that wrote it") from error


def _difference(before: JobDocument, after: JobDocument, mark: str = "") -> dict[str, Any]:
    """The update that writes the fields that differ, and no other; `mark` tells one writer's from another's."""
    aggregate = changed_fields(before, after)
    aggregate.pop("job", None)
    told = {**changed_fields(before.job, after.job), **aggregate, **_for_indexes(after)}
    return {"$set": {**told, "mark": mark}}


def _for_indexes(document: JobDocument) -> dict[str, bool]:
    return {"is_settled": document.job.phase in SETTLED, "is_for_workers": document.is_for_workers}


def _revision(document: JobDocument) -> dict[str, Any]:
    """Compare-and-set finds its document by `_id`: the one lookup that is cheap on every server."""
    return {"_id": _job_document_id(document.key), "revision": document.revision}


def _job_document_id(key: JobKey) -> str:
    """A job id has no /."""
    return f"{key.tenant}/{key.job_id}"


def _open_operation(stored: Mapping[str, Any], *, is_turn: bool) -> OpenOperation:
    is_untouched = is_turn and stored.get("looked_at") is None
    return OpenOperation(stored["id"], stored["kind"], stored["accepted_at"].replace(tzinfo=UTC), is_untouched)


def _remains(stored: Mapping[str, Any]) -> Remains:
    kept_hours = (stored.get("submitted") or {}).get("ended_run_kept_hours")
    is_done = stored.get("runtime") == NATIVE and stored.get("phase") == Phase.FINISHED.value
    key, since = JobKey(stored["tenant"], stored["job_id"]), stored["phase_since"].replace(tzinfo=UTC)
    return Remains(key, since, kept_hours, is_done=is_done)


def _states_of(stored: Mapping[str, Any]) -> Iterator[str]:
    opened = [(each.get("arguments") or {}).get("start_from") for each in stored.get("open_operations") or ()]
    yield from (path for path in (*(stored.get(name) for name in STATES), *opened) if isinstance(path, str))


def _steady(stored: Mapping[str, Any]) -> Steady:
    key, since = JobKey(stored["tenant"], stored["job_id"]), stored["phase_since"].replace(tzinfo=UTC)
    return Steady(key, stored.get("run") or 0, since, _own_savepoints(stored))


def _own_savepoints(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (stored.get("submitted") or {}).get("savepoints")
    return found


def _scope(scope: Scope) -> dict[str, Any]:
    return {"tenant": scope.tenant, "cluster": scope.cluster, "namespace": scope.namespace}


def _place(scope: Scope) -> str:
    return f"{scope.tenant}/{scope.cluster}/{scope.namespace}"


def _numbered(transition: Transition) -> str:
    return f"{transition.tenant}/{transition.job_id}/{transition.number}"
