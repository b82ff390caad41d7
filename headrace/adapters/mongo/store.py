"""ports.Store over MongoDB. Claims are compare-and-set updates; errors are translated once, here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson.errors import InvalidDocument
from pymongo import ASCENDING, MongoClient, ReplaceOne, WriteConcern
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    NetworkTimeout,
    PyMongoError,
    WTimeoutError,
)

from headrace.adapters.mongo import migrations
from headrace.adapters.mongo.documents import from_document, to_document
from headrace.domain.jobs import SETTLED, Job, JobKey, Phase, Transition
from headrace.domain.operations import Operation
from headrace.domain.templates import Template
from headrace.errors import ConfigurationError, LostRace, Refused, Unavailable
from headrace.ports import Inserted, JobFilter, Lease

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
        """Makes indexes and records the schema's version. Idempotent."""
        with self._translated("migrating"):
            return migrations.migrate(self._db)

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

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError, AutoReconnect) as error:
            raise Unavailable(
                f"MongoDB at {self._server} did not answer while {doing} (HEADRACE_MONGODB_URL): {error}"[:500]
            ) from error
        except DuplicateKeyError as error:
            raise _Duplicate(str(error)) from error
        except InvalidURI as error:
            raise ConfigurationError(f"HEADRACE_MONGODB_URL is not a MongoDB URL: {error}") from error
        except (PyMongoError, InvalidDocument, OverflowError) as error:
            raise Refused(f"MongoDB at {self._server} refused {doing}: {error}"[:500]) from error

    # operations

    def insert_operation(self, operation: Operation) -> Inserted:
        """See ports.Store."""
        try:
            with self._translated("accepting an operation"):
                self._db.operations.insert_one(_operation_document(operation))
        except _Duplicate as error:
            stored = self.operation_by_key(operation.tenant, operation.idempotency_key)
            if stored is None:
                taken = f"job {operation.job_id}: sequence {operation.sequence} is taken"
                raise LostRace(taken) from error
            return Inserted(stored, created=False)
        return Inserted(operation, created=True)

    def operation(self, tenant: str, operation_id: str) -> Operation | None:
        """See ports.Store."""
        return self._one_operation({"_id": operation_id, "tenant": tenant})

    def operation_by_key(self, tenant: str, idempotency_key: str) -> Operation | None:
        """See ports.Store."""
        return self._one_operation({"tenant": tenant, "idempotency_key": idempotency_key})

    def _one_operation(self, where: Mapping[str, Any]) -> Operation | None:
        with self._translated("reading an operation"):
            document = self._db.operations.find_one(where)
        return from_document(Operation, document) if document else None

    def operations_of(self, key: JobKey, after: int = 0, limit: int = 1000) -> Sequence[Operation]:
        """See ports.Store."""
        where = {"tenant": key.tenant, "job_id": key.job_id, "sequence": {"$gt": after}}
        return self._operations(where, "sequence", limit)

    def open_operations_of(self, key: JobKey) -> Sequence[Operation]:
        """See ports.Store."""
        return self._operations({"tenant": key.tenant, "job_id": key.job_id, "is_open": True}, "sequence", 1000)

    def open_operations(self, limit: int = 1000) -> Sequence[Operation]:
        """See ports.Store."""
        return self._operations({"is_open": True}, "accepted_at", limit)

    def _operations(self, where: Mapping[str, Any], order: str, limit: int) -> list[Operation]:
        with self._translated("reading operations"):
            found = [from_document(Operation, document) for document in self._db.operations.find(where)]
        return sorted(found, key=lambda operation: getattr(operation, order))[:limit]

    def replace_operation(self, operation: Operation) -> Operation:
        """See ports.Store."""
        written = replace(operation, version=operation.version + 1)
        with self._translated("writing an operation"):
            done = self._db.operations.replace_one(
                {"_id": operation.id, "version": operation.version}, _operation_document(written)
            )
        if done.matched_count == 0:
            raise LostRace(f"operation {operation.id} was changed by somebody else")
        return written

    # jobs

    def job(self, key: JobKey) -> Job | None:
        """See ports.Store."""
        with self._translated("reading a job"):
            document = self._db.jobs.find_one({"_id": _job_document_id(key)})
        return from_document(Job, document) if document else None

    def jobs(self, keys: Sequence[JobKey]) -> Sequence[Job]:
        """See ports.Store."""
        with self._translated("reading jobs"):
            documents = list(self._db.jobs.find({"_id": {"$in": [_job_document_id(key) for key in keys]}}))
        return [from_document(Job, document) for document in documents]

    def list_jobs(self, tenant: str, where: JobFilter, after: str | None, limit: int) -> Sequence[Job]:
        """See ports.Store."""
        asked: dict[str, Any] = {"tenant": tenant}
        if after is not None:
            asked["job_id"] = {"$gt": after}
        if where.phase is not None:
            asked["phase"] = where.phase.value
        with self._translated("listing jobs"):
            documents = list(self._db.jobs.find(asked).sort("job_id", ASCENDING).limit(0 if where.labels else limit))
        jobs = [from_document(Job, document) for document in documents]
        wanted = dict(where.labels or {}).items()
        return [job for job in jobs if wanted <= dict(job.labels).items()][:limit]

    def unsettled_jobs(self, cluster: str, namespace: str) -> Sequence[Job]:
        """See ports.Store."""
        where = {"cluster": cluster, "namespace": namespace, "is_settled": False}
        with self._translated("reading jobs"):
            documents = list(self._db.jobs.find(where))
        return [from_document(Job, document) for document in documents if document.get("deployment_uid")]

    def jobs_in(self, cluster: str, namespace: str, phases: Collection[Phase], limit: int) -> Sequence[JobKey]:
        """See ports.Store."""
        where = {"cluster": cluster, "namespace": namespace, "phase": {"$in": [phase.value for phase in phases]}}
        names = {"tenant": True, "job_id": True}
        with self._translated("reading jobs"):
            found = list(self._db.jobs.find(where, names).sort("waiting.at", ASCENDING).limit(limit))
        return [JobKey(each["tenant"], each["job_id"]) for each in found]

    def insert_job(self, job: Job) -> Job:
        """See ports.Store."""
        try:
            with self._translated("storing a job"):
                self._db.jobs.insert_one(_job_document(job))
        except _Duplicate:
            return self.job(job.key) or job
        return job

    def replace_job(self, job: Job) -> Job:
        """See ports.Store."""
        written = replace(job, version=job.version + 1)
        with self._translated("writing a job"):
            done = self._db.jobs.replace_one(_job_version(job), _job_document(written))
        if done.matched_count == 0:
            raise LostRace(f"job {job.job_id} was changed by somebody else")
        return written

    def replace_jobs(self, jobs: Sequence[Job]) -> Sequence[JobKey]:
        """See ports.Store."""
        if not jobs:
            return []
        writes = [ReplaceOne(_job_version(job), _job_document(replace(job, version=job.version + 1))) for job in jobs]
        with self._translated("writing jobs"):
            done = self._db.jobs.bulk_write(writes, ordered=False)
        if done.matched_count == len(jobs):
            return []
        stored = {job.key: job for job in self.jobs([job.key for job in jobs])}
        return [job.key for job in jobs if stored.get(job.key) != replace(job, version=job.version + 1)]

    # history

    def add_transitions(self, transitions: Sequence[Transition]) -> None:
        """See ports.Store."""
        for transition in transitions:
            with suppress(_Duplicate), self._translated("storing a transition"):
                self._db.transitions.insert_one({"_id": _seen(transition), **to_document(transition)})

    def transitions_of(self, key: JobKey, limit: int = 1000) -> Sequence[Transition]:
        """See ports.Store."""
        with self._translated("reading transitions"):
            documents = list(self._db.transitions.find({"tenant": key.tenant, "job_id": key.job_id}))
        found = [from_document(Transition, document) for document in documents]
        return sorted(found, key=lambda transition: (transition.run, transition.observed_at))[:limit]

    def add_savepoint(self, path: str, key: JobKey, run: int, kind: str, at: datetime) -> None:
        """See ports.Store."""
        document = {"path": path, "tenant": key.tenant, "job_id": key.job_id, "run": run, "kind": kind, "at": at}
        with suppress(_Duplicate), self._translated("recording a savepoint"):
            self._db.savepoints.update_one({"path": path}, {"$setOnInsert": document}, upsert=True)

    # templates

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

    # sync

    def cursor(self, cluster: str, namespace: str) -> str | None:
        """See ports.Store."""
        with self._translated("reading a cursor"):
            document = self._db.sync_cursors.find_one({"cluster": cluster, "namespace": namespace})
        return document["resource_version"] if document else None

    def set_cursor(self, cluster: str, namespace: str, resource_version: str, lease: Lease) -> bool:
        """See ports.Store. The lease is looked at, and the token on the cursor fences an older holder."""
        where = {"cluster": cluster, "namespace": namespace, "token": {"$lte": lease.token}}
        written = {"$set": {"resource_version": resource_version, "token": lease.token}}
        try:
            with self._translated("writing a cursor"):
                held = self._db.leases.find_one({"name": lease.name})
                if held is None or held["token"] != lease.token:
                    return False
                self._db.sync_cursors.update_one(where, written, upsert=True)
        except _Duplicate:
            return False
        return True

    def take_lease(self, name: str, holder: str, seconds: float, now: datetime) -> Lease | None:
        """See ports.Store."""
        with self._translated("taking a lease"):
            stored = self._db.leases.find_one({"name": name})
            until = now + timedelta(seconds=seconds)
            if stored is None:
                return self._first_lease(name, holder, until)
            if stored["holder"] not in (holder, "") and stored["until"] > now:
                return None
            token = stored["token"] + 1
            done = self._db.leases.update_one(
                {"name": name, "token": stored["token"]},
                {"$set": {"holder": holder, "until": until, "token": token}},
            )
        return Lease(name, token) if done.matched_count else None

    def _first_lease(self, name: str, holder: str, until: datetime) -> Lease | None:
        try:
            with self._translated("taking a lease"):
                self._db.leases.insert_one({"name": name, "holder": holder, "until": until, "token": 1})
        except _Duplicate:
            return None
        return Lease(name, 1)

    def release_lease(self, lease: Lease, holder: str) -> None:
        """See ports.Store."""
        with self._translated("releasing a lease"):
            self._db.leases.update_one(
                {"name": lease.name, "token": lease.token, "holder": holder}, {"$set": {"holder": ""}}
            )

    def ping(self) -> None:
        """See ports.Store."""
        with self._translated("a ping"):
            self._db.command("ping")


def _operation_document(operation: Operation) -> dict[str, Any]:
    return {"_id": operation.id, **to_document(operation), "is_open": operation.is_open}


def _job_document(job: Job) -> dict[str, Any]:
    return {"_id": _job_document_id(job.key), **to_document(job), "is_settled": job.phase in SETTLED}


def _job_document_id(key: JobKey) -> str:
    """Compare-and-set finds its document by `_id`: the one lookup that is cheap on every server. A job id has no /."""
    return f"{key.tenant}/{key.job_id}"


def _job_version(job: Job) -> dict[str, Any]:
    return {"_id": _job_document_id(job.key), "version": job.version}


def _seen(transition: Transition) -> str:
    """What makes a transition one: the version of the deployment that showed it, else who, what and when."""
    if transition.deployment_uid and transition.resource_version:
        return f"{transition.deployment_uid}/{transition.resource_version}"
    parts = (transition.tenant, transition.job_id, transition.run, transition.to_phase, transition.at.isoformat())
    return "/".join(str(part) for part in parts)
