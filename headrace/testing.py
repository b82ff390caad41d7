"""In-memory ports for unit tests, ours and those of anybody who builds on Headrace.

They pass the same contract tests as the real adapters (tests/contract). Safe to use from many threads.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headrace.domain.api_keys import MOST_API_KEYS, ApiKey, name_is_taken, too_many_keys
from headrace.domain.deployments import (
    JOB_ID_ANNOTATION,
    JOB_LABEL,
    SEQUENCE_ANNOTATION,
    Deployment,
    deployment_of,
    named_in,
)
from headrace.domain.document import JobDocument
from headrace.domain.events import Event, InvolvedObject, event_seen, is_about
from headrace.domain.jobs import ENDED, NATIVE, SETTLED, Job, JobKey, Observation, Phase, Transition
from headrace.domain.operations import Operation
from headrace.domain.pods import Pod, pod_seen
from headrace.domain.runtime_reports import Process, RuntimeReport
from headrace.domain.runtimes.native.acts import (
    Act,
    FlinkJob,
    Shown,
    is_for_another_start,
    left_at_its_end,
    left_behind,
    next_act,
    start_from,
    state_wanted,
)
from headrace.domain.runtimes.native.arguments import another_release, flink_job_id, trigger_id
from headrace.domain.runtimes.native.cluster import status_of
from headrace.domain.runtimes.native.records import (
    BY_SAVEPOINT,
    LAUNCH_FAILURE,
    UPGRADE_FAILURE,
    Done,
    Error,
    Launch,
    Left,
    Save,
    Saved,
    Stop,
    Wanted,
)
from headrace.domain.runtimes.plan import Drive
from headrace.domain.savepoints import Savepoint, checkpoints_beside, place_of, subsumed
from headrace.domain.sealed import Anew, Owner, SealedText, owners_of_job, resealed
from headrace.domain.snapshots import JOB_LABEL as SNAPSHOT_JOB_LABEL
from headrace.domain.snapshots import Snapshot, SnapshotResource, snapshot_of
from headrace.domain.state_on_hand import HaMetadata, ha_config_map, ha_metadata_in
from headrace.domain.stock import LeaseSeen, OpenOperation
from headrace.domain.templates import Template
from headrace.domain.triggers import Trigger, following
from headrace.domain.vertices import OVERRIDES_KEY, Vertices, overrides_of
from headrace.domain.waiting import Progress
from headrace.errors import (
    HeadraceError,
    HistoryGone,
    LostRace,
    NameTaken,
    Refused,
    Unanswered,
    Unavailable,
    Unopenable,
    Unreadable,
)
from headrace.ports import (
    WHOLE_LOG,
    Anybodys,
    AsSeen,
    Change,
    Checkpoints,
    Clock,
    Cursor,
    Driven,
    EventSeen,
    ExceptionSeen,
    Fence,
    Inserted,
    JobFilter,
    Lease,
    LogPart,
    LogStream,
    Page,
    PodSeen,
    Remains,
    Scope,
    Steady,
    WatchEvent,
)


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        """See ports.Clock."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves it forward."""
        self._now += timedelta(seconds=seconds)


class InMemoryQueue:
    """Keeps the keys that were to be woken."""

    def __init__(self) -> None:
        self.woken: list[JobKey] = []
        self.launched: list[JobKey] = []

    def launch(self, key: JobKey) -> None:
        """See ports.TaskQueue."""
        self.launched.append(key)

    def wake(self, key: JobKey) -> None:
        """See ports.TaskQueue."""
        self.woken.append(key)

    def waiting(self) -> int:
        """See ports.TaskQueue. A test plays the workers, and takes from `woken`."""
        return len(self.woken)

    def lengths(self) -> Mapping[str, int]:
        """See ports.TaskQueue."""
        return {
            "flink.operations": 0,
            "flink.executions": len(self.woken),
            "flink.launches": len(self.launched),
            "flink.sync": 0,
        }


class ReversingSealer:
    """ports.Sealer that a test can see through, and a search for the plain text cannot."""

    def seal(self, owner: Owner, name: str, text: str) -> str:
        """See ports.Sealer."""
        return f"{_binding(owner, name)}:{text[::-1]}"

    def open(self, owners: Sequence[Owner], name: str, sealed: str) -> str:
        """See ports.Sealer."""
        bound, _, text = sealed.partition(":")
        if bound not in [_binding(owner, name) for owner in owners]:
            raise Unopenable(f"the secret {name} cannot be opened: it was sealed for somebody else")
        return text[::-1]


def _binding(owner: Owner, name: str) -> str:
    return f"{owner.tenant}/{owner.kind}/{owner.name}/{name}"


DISPOSAL = ("disposing_since", "goes_at", "disposed_at")


class InMemoryStore:
    """ports.Store in dictionaries."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._operations: dict[str, Operation] = {}
        self._unplaced: set[str] = set()
        self._forgotten: set[str] = set()
        self._documents: dict[JobKey, JobDocument] = {}
        self._transitions: dict[tuple[JobKey, int], Transition] = {}
        self._templates: dict[tuple[str, str, int], Template] = {}
        self._cursors: dict[Scope, tuple[Cursor, int]] = {}
        self._leases: dict[str, tuple[str, datetime, int]] = {}
        self._runtime_reports: dict[tuple[Scope, str, str], RuntimeReport] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._triggers: dict[tuple[Scope, str], Trigger] = {}
        self._api_keys: dict[tuple[str, str], ApiKey] = {}
        self._savepoints: dict[tuple[str, str], Savepoint] = {}
        self.clock: Clock | None = None

    def insert_operation(self, operation: Operation) -> Inserted:
        """See ports.Store."""
        with self._lock:
            stored = self.operation_by_key(operation.tenant, operation.idempotency_key)
            if stored is not None:
                return Inserted(stored, created=False)
            if any(o.key == operation.key and o.sequence == operation.sequence for o in self._operations.values()):
                raise LostRace(f"job {operation.job_id}: sequence {operation.sequence} is taken")
            self._operations[operation.id] = operation
            self._unplaced.add(operation.id)
            return Inserted(operation, created=True)

    def insert_operations(self, operations: Sequence[Operation]) -> Collection[str]:
        """See ports.Store."""
        stored = []
        for operation in operations:
            with suppress(LostRace):
                stored += [operation.id] if self.insert_operation(operation).created else []
        return stored

    def known_jobs(self, keys: Sequence[JobKey]) -> Collection[JobKey]:
        """See ports.Store."""
        return [key for key in keys if key in self._documents or self.operations_of(key)]

    def add_documents(self, documents: Sequence[JobDocument]) -> Collection[JobKey]:
        """See ports.Store."""
        stored = []
        for document in documents:
            with suppress(LostRace, NameTaken):
                stored.append(self.write(replace(document, revision=0), document).key)
        return stored

    def operation(self, tenant: str, operation_id: str) -> Operation | None:
        """See ports.Store."""
        found = self._operations.get(operation_id)
        return found if found is not None and found.tenant == tenant else None

    def operation_by_key(self, tenant: str, idempotency_key: str) -> Operation | None:
        """See ports.Store."""
        with self._lock:
            named = (o for o in self._operations.values() if (o.tenant, o.idempotency_key) == (tenant, idempotency_key))
            return next(named, None)

    def operations_of(self, key: JobKey, after: int = 0, limit: int = 1000) -> Sequence[Operation]:
        """See ports.Store."""
        with self._lock:
            found = [o for o in self._operations.values() if o.key == key and o.sequence > after]
        return sorted(found, key=lambda o: o.sequence)[:limit]

    def unplaced(self, scope: Scope, limit: int) -> Mapping[JobKey, Sequence[str]]:
        """See ports.Store."""
        with self._lock:
            found = [self._operations[name] for name in self._unplaced]
        ours = [o for o in found if o.tenant == scope.tenant and o.place == (scope.cluster, scope.namespace)]
        jobs: dict[JobKey, list[str]] = {}
        for each in sorted(ours, key=lambda o: o.accepted_at)[:limit]:
            jobs.setdefault(each.key, []).append(each.id)
        return jobs

    def clear_unplaced(self, operation_ids: Sequence[str]) -> None:
        """See ports.Store."""
        with self._lock:
            self._unplaced -= set(operation_ids)

    def write_outcomes(self, operations: Sequence[Operation]) -> None:
        """See ports.Store."""
        with self._lock:
            for operation in operations:
                logged = self._operations.get(operation.id)
                if logged is not None and logged.is_open:
                    self._operations[operation.id] = replace(
                        operation, arguments=logged.arguments, source=logged.source
                    )

    def document(self, key: JobKey) -> JobDocument | None:
        """See ports.Store."""
        return self._documents.get(key)

    def documents(self, keys: Sequence[JobKey]) -> Sequence[JobDocument]:
        """See ports.Store."""
        with self._lock:
            return [_lean(self._documents[key]) for key in keys if key in self._documents]

    def write(self, before: JobDocument, after: JobDocument) -> JobDocument:
        """See ports.Store."""
        with self._lock:
            stored = self._documents.get(before.key)
            if (stored.revision if stored is not None else 0) != before.revision:
                raise LostRace(f"job {before.job.job_id} was changed by somebody else")
            taken = {_place_of(each.job) for each in self._documents.values()} if stored is None else set()
            if _place_of(after.job) in taken:
                raise NameTaken(f"the deployment's name {after.job.deployment_name} is another job's")
            self._documents[before.key] = after if stored is None else _put_on(stored, before, after)
            return after

    def write_all(self, changed: Sequence[tuple[JobDocument, JobDocument]]) -> Sequence[JobKey]:
        """See ports.Store."""
        lost = []
        for before, after in changed:
            try:
                self.write(before, after)
            except LostRace:
                lost.append(before.key)
        return lost

    def flushed(self, documents: Sequence[JobDocument]) -> None:
        """See ports.Store."""
        with self._lock:
            for document in documents:
                stored = self._documents.get(document.key)
                if stored is not None and stored.revision == document.revision:
                    self._documents[document.key] = replace(stored, ended=(), history=(), due_at=document.due_at)

    def due(self, scope: Scope, at: datetime, limit: int, *, for_workers: bool) -> Sequence[JobDocument]:
        """See ports.Store."""
        with self._lock:
            ours = [d for d in self._documents.values() if scope.has(d.job) and d.is_for_workers == for_workers]
        found = [d for d in ours if d.due_at is not None and d.due_at <= at]
        return [_lean(d) for d in sorted(found, key=lambda d: (d.due_at or at, d.key))[:limit]]

    def job(self, key: JobKey) -> Job | None:
        """See ports.Store."""
        stored = self._documents.get(key)
        return stored.job if stored is not None else None

    def list_jobs(
        self, tenant: str, where: JobFilter, after: str | None, limit: int, *, lean: bool = False
    ) -> Sequence[JobDocument]:
        """See ports.Store."""
        wanted = dict(where.labels or {}).items()
        with self._lock:
            found = [
                document
                for key, document in sorted(self._documents.items())
                if key.tenant == tenant
                and (after is None or key.job_id > after)
                and where.phase in (None, document.job.phase)
                and not (document.job.is_forgotten if where.phase is Phase.DELETED else document.is_hidden)
                and wanted <= dict(document.job.labels).items()
            ]
        return [_lean(each) if lean else each for each in found[:limit]]

    def remains(self, scope: Scope) -> Sequence[Remains]:
        """See ports.Store."""
        with self._lock:
            ended = [each.job for each in self._documents.values() if not each.open_operations]
        found = [
            Remains(
                job.key,
                job.phase_since,
                job.submitted.get("ended_run_kept_hours"),
                is_done=job.runtime == NATIVE and job.phase is Phase.FINISHED,
            )
            for job in ended
            if scope.has(job) and job.phase in ENDED and not job.is_gone and job.phase_since
        ]
        return sorted(found, key=lambda each: each.since)

    def steady(self, scope: Scope, *, of_all: bool) -> Sequence[Steady]:
        """See ports.Store."""
        with self._lock:
            found = [each.job for each in self._documents.values() if scope.has(each.job) and not each.open_operations]
        running = [job for job in found if job.phase is Phase.RUNNING and (of_all or job.submitted.get("savepoints"))]
        steady = [Steady(j.key, j.run, j.phase_since, j.submitted.get("savepoints")) for j in running if j.phase_since]
        return sorted(steady, key=lambda each: each.key)

    def deleted(self, scope: Scope, before: datetime, limit: int) -> Sequence[JobKey]:
        """See ports.Store."""
        with self._lock:
            found = [each.job for each in self._documents.values() if scope.has(each.job)]
            since = [(job.phase_since, job.key) for job in found if job.phase is Phase.DELETED and job.phase_since]
        return [key for at, key in sorted(since) if at < before][:limit]

    def forget(self, key: JobKey, up_to: int, transitions: int) -> None:
        """See ports.Store."""
        with self._lock:
            gone = [name for name in self._transitions if name[0] == key and name[1] <= transitions]
            for name in gone:
                del self._transitions[name]
            for each in self.operations_of(key):
                if each.sequence <= up_to and not each.is_open:
                    self._operations[each.id] = replace(each, arguments={}, reason="", savepoint_path=None)
                    self._forgotten.add(each.id)

    def drop_forgotten(self, scope: Scope, before: datetime) -> None:
        """See ports.Store."""
        with self._lock:
            for name in list(self._forgotten):
                operation = self._operations[name]
                if operation.accepted_at < before and (operation.tenant, *operation.place) == astuple(scope):
                    del self._operations[name]
                    self._forgotten.discard(name)

    def versions(self, scope: Scope) -> Mapping[str, str | None]:
        """See ports.Store."""
        return {uid: job.resource_version for uid, job in self._with_deployments(scope)}

    def jobs_of(self, scope: Scope, uids: Collection[str]) -> Sequence[JobKey]:
        """See ports.Store."""
        return [job.key for uid, job in self._with_deployments(scope) if uid in uids]

    def _with_deployments(self, scope: Scope) -> list[tuple[str, Job]]:
        with self._lock:
            jobs = [d.job for d in self._documents.values() if scope.has(d.job) and not d.job.is_gone]
        return [(job.deployment_uid, job) for job in jobs if job.deployment_uid is not None]

    def jobs_in(self, scope: Scope, phases: Collection[Phase], limit: int) -> Sequence[JobKey]:
        """See ports.Store."""
        with self._lock:
            jobs = [document.job for document in self._documents.values()]
        found = [j for j in jobs if scope.has(j) and j.phase in phases]
        looked = sorted(found, key=lambda j: (j.waiting is not None, j.waiting.at if j.waiting else j.created_at))
        return [job.key for job in looked[:limit]]

    def count_phases(self, scope: Scope) -> Mapping[str, int]:
        """See ports.Store."""
        with self._lock:
            return Counter(each.job.phase for each in self._documents.values() if scope.has(each.job))

    def open_operations(self, scope: Scope) -> Sequence[OpenOperation]:
        """See ports.Store."""
        with self._lock:
            documents = [each for each in self._documents.values() if scope.has(each.job)]
            logged = [self._operations[each] for each in sorted(self._unplaced)]
        here = [each for each in logged if (each.tenant, *each.place) == (scope.tenant, scope.cluster, scope.namespace)]
        placed = [(each, each is document.oldest) for document in documents for each in document.open_operations]
        return [
            OpenOperation(each.id, each.kind, each.accepted_at, is_turn and each.looked_at is None)
            for each, is_turn in (*((each, True) for each in here), *placed)
        ]

    def mark(self, scope: Scope, observation: Observation, at: datetime | None) -> None:
        """See ports.Store."""
        with self._lock:
            for key, document in self._documents.items():
                job = document.job
                if not scope.has(job) or job.phase in SETTLED or not job.deployment_uid:
                    continue
                marked = replace(job, observation=observation, observed_at=at or job.observed_at)
                self._documents[key] = replace(document, job=marked)

    def add_transitions(self, transitions: Sequence[Transition]) -> None:
        """See ports.Store."""
        with self._lock:
            for transition in transitions:
                key = JobKey(transition.tenant, transition.job_id)
                self._transitions.setdefault((key, transition.number), transition)

    def transitions_of(self, key: JobKey, limit: int = 1000) -> Sequence[Transition]:
        """See ports.Store."""
        with self._lock:
            found = [t for (owner, _), t in self._transitions.items() if owner == key]
        return sorted(found, key=lambda t: t.number)[-limit:]

    @property
    def savepoints(self) -> Mapping[str, Savepoint]:
        """What is on record, by its path."""
        return {path: each for (_, path), each in self._savepoints.items()}

    def add_savepoint(self, savepoint: Savepoint) -> None:
        """See ports.Store."""
        with self._lock:
            self._savepoints.setdefault((savepoint.tenant, savepoint.path), savepoint)
            beside = checkpoints_beside(savepoint.path)
            of_its_job = [path for tenant, path in self._savepoints if tenant == savepoint.tenant]
            for path in subsumed(path for path in of_its_job if beside and path.startswith(beside)):
                del self._savepoints[savepoint.tenant, path]

    def savepoints_of(
        self, tenant: str, job_id: str | None, before: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Savepoint]:
        """See ports.Store."""
        with self._lock:
            ours = [each for each in self._savepoints.values() if each.tenant == tenant and each.disposed_at is None]
        found = [each for each in ours if job_id in (None, each.job_id)]
        behind = [each for each in found if before is None or (each.at, each.path) < before]
        return sorted(behind, key=lambda each: (each.at, each.path), reverse=True)[:limit]

    def savepoints_at(self, path: str) -> Sequence[Savepoint]:
        """See ports.Store."""
        with self._lock:
            return [each for each in self._savepoints.values() if place_of(each.path) == place_of(path)]

    def mark_savepoint(self, before: Savepoint, after: Savepoint) -> bool:
        """See ports.Store."""
        with self._lock:
            stored = self._savepoints.get((before.tenant, before.path))
            if stored is None or any(getattr(stored, name) != getattr(before, name) for name in DISPOSAL):
                return False
            now = {name: getattr(after, name) for name in (*DISPOSAL, "trouble")}
            self._savepoints[before.tenant, before.path] = replace(stored, **now)
            return True

    def disposing(self, tenant: str, at: datetime, limit: int) -> Sequence[Savepoint]:
        """See ports.Store."""
        with self._lock:
            found = [each for each in self._savepoints.values() if each.tenant == tenant and each.disposed_at is None]
        due = [(each.goes_at, each.path, each) for each in found if each.goes_at is not None and each.goes_at <= at]
        return [each for _, _, each in sorted(due, key=lambda one: one[:2])][:limit]

    def newest_savepoint(self, key: JobKey) -> Savepoint | None:
        """See ports.Store."""
        found = self.savepoints_of(key.tenant, key.job_id, None, len(self._savepoints))
        return next((each for each in found if each.kind == "savepoint" and each.disposing_since is None), None)

    def savepoint_settings(self, keys: Collection[JobKey]) -> Mapping[JobKey, Mapping[str, Any]]:
        """See ports.Store."""
        with self._lock:
            known = {key: self._documents[key].job for key in keys if key in self._documents}
        return {key: job.submitted.get("savepoints") or {} for key, job in known.items()}

    def states_in_use(self) -> Mapping[str, JobKey]:
        """See ports.Store."""
        with self._lock:
            documents, logged = list(self._documents.values()), list(self._operations.values())
        asked = [(document.key, each) for document in documents for each in document.open_operations]
        asked += [(each.key, each) for each in logged if each.id in self._unplaced]
        found = {str(each.arguments["start_from"]): key for key, each in asked if each.arguments.get("start_from")}
        for job in (document.job for document in documents):
            paths = (job.start_from, job.state_path, job.savepoint_path, job.upgrade_path)
            found |= {path: job.key for path in paths if path}
        return found

    def put_template(self, template: Template, tenant: str) -> Template:
        """See ports.Store."""
        with self._lock:
            newest = self.template(tenant, template.template_id)
            if newest is not None and newest.is_like(template):
                return newest
            stored = template.model_copy(update={"version": newest.version + 1 if newest else 1})
            self._templates[tenant, stored.template_id, stored.version] = stored
            return stored

    def template(self, tenant: str, template_id: str, version: int | None = None) -> Template | None:
        """See ports.Store."""
        with self._lock:
            found = [t for (owner, name, _), t in self._templates.items() if (owner, name) == (tenant, template_id)]
        wanted = [t for t in found if version in (None, t.version)]
        return max(wanted, key=lambda t: t.version) if wanted else None

    def templates(self, tenant: str) -> Sequence[Template]:
        """See ports.Store."""
        with self._lock:
            names = sorted({name for owner, name, _ in self._templates if owner == tenant})
        return [t for name in names if (t := self.template(tenant, name)) is not None]

    def put_trigger(self, scope: Scope, trigger: Trigger) -> Trigger:
        """See ports.Store."""
        with self._lock:
            before = self.trigger(scope, trigger.name)
            stored = following(before, trigger, kept=len(self.triggers(scope)))
            self._triggers[scope, trigger.name] = stored
            return stored

    def trigger(self, scope: Scope, name: str) -> Trigger | None:
        """See ports.Store."""
        return self._triggers.get((scope, name))

    def triggers(self, scope: Scope) -> Sequence[Trigger]:
        """See ports.Store."""
        with self._lock:
            found = [trigger for (owner, _), trigger in self._triggers.items() if owner == scope]
        return sorted(found, key=lambda trigger: trigger.name)

    def delete_trigger(self, scope: Scope, name: str) -> bool:
        """See ports.Store."""
        with self._lock:
            return self._triggers.pop((scope, name), None) is not None

    def add_api_key(self, key: ApiKey) -> None:
        """See ports.Store."""
        with self._lock:
            if (key.tenant, key.name) in self._api_keys:
                raise name_is_taken(key)
            if len(self.api_keys(key.tenant)) >= MOST_API_KEYS:
                raise too_many_keys()
            self._api_keys[key.tenant, key.name] = key

    def api_key(self, tenant: str, digest: str) -> ApiKey | None:
        """See ports.Store."""
        return next((key for key in self.api_keys(tenant) if key.digest == digest), None)

    def api_keys(self, tenant: str) -> Sequence[ApiKey]:
        """See ports.Store."""
        with self._lock:
            found = [key for (owner, _), key in self._api_keys.items() if owner == tenant]
        return sorted(found, key=lambda key: key.name)

    def revoke_api_key(self, tenant: str, name: str, at: datetime) -> ApiKey | None:
        """See ports.Store."""
        with self._lock:
            found = self._api_keys.get((tenant, name))
            if found is not None and found.revoked_at is None:
                found = self._api_keys[tenant, name] = replace(found, revoked_at=at)
            return found

    def kept_key(self, tenant: str, name: str) -> str | None:
        """See ports.Store."""
        return self._keys.get((tenant, name))

    def keep_key(self, tenant: str, name: str, sealed: str) -> str:
        """See ports.Store."""
        with self._lock:
            return self._keys.setdefault((tenant, name), sealed)

    def reseal(self, scope: Scope, anew: Anew) -> None:
        """See ports.Store."""
        with self._lock:
            for named, text in list(self._keys.items()):
                if named[0] == scope.tenant:
                    found = SealedText(f"key {named[1]}", [Owner.installation(named[0])], named[1], text)
                    self._keys[named] = anew(found)
            self._reseal_templates(scope.tenant, anew)
            for operation in list(self._operations.values()):
                self._reseal_operation(scope, operation, anew)
            for document in list(self._documents.values()):
                self._reseal_job(scope, document, anew)

    def _reseal_templates(self, tenant: str, anew: Anew) -> None:
        for place, template in list(self._templates.items()):
            if place[0] == tenant:
                owners = [Owner.template(tenant, place[1])]
                body = resealed(template.body, f"template {place[1]} version {place[2]}", owners, anew)
                self._templates[place] = template.model_copy(update={"body": body})

    def _reseal_operation(self, scope: Scope, operation: Operation, anew: Anew) -> None:
        is_ours = operation.tenant == scope.tenant and operation.place == (scope.cluster, scope.namespace)
        request = operation.arguments.get("request")
        if is_ours and not operation.is_open and request is not None:
            owners = owners_of_job(operation.tenant, operation.job_id, operation.arguments.get("template_id"))
            put = resealed(request, f"operation {operation.id}", owners, anew)
            self._operations[operation.id] = replace(operation, arguments={**operation.arguments, "request": put})

    def _reseal_job(self, scope: Scope, document: JobDocument, anew: Anew) -> None:
        job = document.job
        if scope.has(job) and all(each.id != job.submitted_by for each in document.open_operations):
            owners = owners_of_job(job.tenant, job.job_id, job.template_id)
            put = resealed(job.submitted, f"job {job.job_id}", owners, anew)
            self._documents[document.key] = replace(document, job=replace(job, submitted=put))

    def cursor(self, scope: Scope) -> Cursor | None:
        """See ports.Store."""
        stored = self._cursors.get(scope)
        return stored[0] if stored else None

    def set_cursor(self, scope: Scope, resource_version: str, lease: Lease) -> bool:
        """See ports.Store."""
        with self._lock:
            held = self._leases.get(lease.name)
            if held is None or held[2] != lease.token:
                return False
            self._cursors[scope] = (Cursor(resource_version, self.server_now()), lease.token)
            return True

    def put_runtime_report(self, scope: Scope, runtime: str, process: str, lacks: Sequence[str]) -> None:
        """See ports.Store."""
        with self._lock:
            report = RuntimeReport(runtime, process, tuple(lacks), self.server_now())
            self._runtime_reports[scope, runtime, process] = report

    def runtime_reports(self, scope: Scope) -> Sequence[RuntimeReport]:
        """See ports.Store."""
        with self._lock:
            return [each for (whose, *_), each in self._runtime_reports.items() if whose == scope]

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """See ports.Store."""
        with self._lock:
            now = self.server_now()
            held_by, until, token = self._leases.get(name, ("", now, 0))
            if held_by not in (holder, "") and until > now:
                return None
            kept = token if held_by == holder and until > now else token + 1
            self._leases[name] = (holder, now + timedelta(seconds=seconds), kept)
            return Lease(name, kept)

    def leases(self, names: Collection[str]) -> Mapping[str, LeaseSeen]:
        """See ports.Store."""
        with self._lock:
            now, found = self.server_now(), {name: self._leases[name] for name in names if name in self._leases}
        return {name: LeaseSeen(token, bool(holder) and until > now) for name, (holder, until, token) in found.items()}

    def release_lease(self, lease: Lease, holder: str) -> None:
        """See ports.Store."""
        with self._lock:
            held_by, until, token = self._leases.get(lease.name, ("", self.server_now(), 0))
            if (held_by, token) == (holder, lease.token):
                self._leases[lease.name] = ("", until, token)

    def ping(self) -> None:
        """See ports.Store."""

    def server_now(self) -> datetime:
        """The server's own clock, which leases go by: the machine's, or the one that a test set as `clock`."""
        return self.clock.now() if self.clock is not None else datetime.now(UTC)


def _place_of(job: Job) -> tuple[str, str, str]:
    return job.cluster, job.namespace, job.deployment_name


def _lean(document: JobDocument) -> JobDocument:
    """The document without what only a writer of manifests needs."""
    return replace(document, job=replace(document.job, **LEFT_OUT))


LEFT_OUT: Mapping[str, Any] = {"submitted": {}, "manifests": {}, "kept_log": "", "kept_exceptions": ""}


def _put_on(stored: JobDocument, before: JobDocument, after: JobDocument) -> JobDocument:
    """What differs between two documents, on the one that is stored: what a lean reader did not see stays."""
    facts = {
        name: getattr(after.job, name) for name in LEFT_OUT if getattr(after.job, name) == getattr(before.job, name)
    }
    return replace(after, job=replace(after.job, **{name: getattr(stored.job, name) for name in facts}))


class InMemoryRuntime:
    """ports.FlinkRuntime in dictionaries, with the API server's rules: uid, resourceVersion, generation, the fence.

    `outage` makes every call raise Unavailable; `has_snapshots` says that the cluster has FlinkStateSnapshots;
    `set_status` acts as the operator. Pods and events are put as Kubernetes has them; a log is what `print_line` wrote.
    """

    def __init__(self, flink_versions: Sequence[str] = ("v1_20", "v2_2")) -> None:
        self._lock = threading.RLock()
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._version = 0
        self._kept_from = 0
        self._flink_versions = tuple(flink_versions)
        self.secrets: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self._config_maps: dict[tuple[str, str], dict[str, str]] = {}
        self.outage = False
        self.created = 0
        self._printed = threading.Condition(self._lock)
        self._pods: dict[tuple[str, str], Pod] = {}
        self._happened: list[tuple[str, Event]] = []
        self._logs: dict[tuple[str, str, bool], list[tuple[datetime, bytes]]] = {}
        self.open_logs: set[LogStream] = set()
        self.has_snapshots = False
        self.lacking: dict[Process, Sequence[str]] = {}
        self.snapshots: dict[tuple[str, str], dict[str, Any]] = {}

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            if key in self._objects:
                return None
            whole = copy.deepcopy(dict(manifest))
            whole["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1}
            self._objects[key] = whole
            self.created += 1
            return self._record("ADDED", whole)

    def patch(self, namespace: str, name: str, fence: Fence | AsSeen, changes: Sequence[Change]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            live = self._objects.get((namespace, name))
            if live is None or not _holds(live, fence):
                return None
            changed = copy.deepcopy(live)
            if not all(_apply(changed, change) for change in changes):
                return None
            if changed.get("spec") != live.get("spec"):
                changed["metadata"]["generation"] += 1
            self._objects[namespace, name] = changed
            return self._record("MODIFIED", changed)

    def get(self, namespace: str, name: str) -> Deployment | None:
        """See ports.FlinkRuntime."""
        whole = self.get_whole(namespace, name)
        return deployment_of(whole) if whole is not None else None

    def get_whole(self, namespace: str, name: str) -> dict[str, Any] | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            return copy.deepcopy(self._objects.get((namespace, name)))

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            live = self._objects.get((namespace, name))
            if live is None or live["metadata"]["uid"] != uid:
                return False
            del self._objects[namespace, name]
            self._record("DELETED", live)
            return True

    def put_files(self, deployment: Deployment, name: str, files: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            self.files[name] = {"owner": deployment.metadata.uid, "files": dict(files), "labels": dict(labels)}

    def put_secret(
        self, deployment: Deployment, name: str, values: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            self.secrets[name] = {"owner": deployment.metadata.uid, "values": dict(values), "labels": dict(labels)}

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            ours = [o for (where, _), o in self._objects.items() if where == namespace and _is_ours(o)]
            events = [_event_of("MODIFIED", o) for o in ours]
            version = str(self._version)
        found = [event.deployment for event in events if event.kind != "UNREADABLE"]
        rest = [event for event in events if event.kind == "UNREADABLE"]
        for start in range(0, max(len(found), 1), limit):
            yield Page(found[start : start + limit], version, rest if start == 0 else ())

    def list_anybodys(self, namespace: str, limit: int, after: str = "") -> Anybodys:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            names = sorted(name for where, name in self._objects if where == namespace and name > after)
            page = [copy.deepcopy(self._objects[namespace, name]) for name in names[:limit]]
        return Anybodys(page, names[limit - 1] if len(names) > limit else "")

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """See ports.FlinkRuntime. What has happened is given, and the watch ends there."""
        with self._lock:
            self._reach()
            since = int(resource_version)
            if since < self._kept_from:
                raise HistoryGone(f"resourceVersion {resource_version} is too old")
            events = [(kind, o) for version, kind, o in self._events if version > since]
        for kind, whole in events:
            if whole["metadata"]["namespace"] == namespace and _is_ours(whole):
                yield _event_of(kind, whole)

    def pods(self, namespace: str, name: str, labels: Mapping[str, str]) -> Sequence[PodSeen]:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            ours = [p for p in self._pods.values() if p.metadata.namespace == namespace]
        wanted = {"app": name, **labels}.items()
        found = [pod_seen(p) for p in ours if wanted <= (p.metadata.labels or {}).items()]
        return sorted(found, key=lambda pod: (pod.started_at is None, pod.started_at or 0, pod.name), reverse=True)

    def logs(self, namespace: str, pod: str, container: str, wanted: LogPart = WHOLE_LOG) -> LogStream | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            if (namespace, pod) not in self._pods:
                return None
            lines = self._logs.get((pod, container, wanted.previous))
            if lines is None:
                raise Refused(f"the Kubernetes API refused reading the log of {container} in {pod}: it has not started")
            first = _first_wanted([at for at, _ in lines], wanted)
            stream = _PrintedLog(self, (namespace, pod), lines, first, wanted)
            self.open_logs.add(stream)
            return stream

    def events(self, namespace: str, name: str) -> Sequence[EventSeen]:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            found = [event_seen(e) for where, e in self._happened if where == namespace and is_about(e, name)]
        return sorted(found, key=lambda event: event.at)

    def pod_events(self, namespace: str, pod: str) -> Sequence[EventSeen]:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            of_it = [e for where, e in self._happened if where == namespace and e.involved_object == _pod(pod)]
        return sorted(map(event_seen, of_it), key=lambda event: event.at)

    def create_snapshot(self, manifest: Mapping[str, Any]) -> bool:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            if key in self.snapshots:
                return False
            self.put_snapshot(manifest)
            return True

    def snapshots_of(self, namespace: str, name: str) -> Sequence[Snapshot] | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            found = [each for (place, _), each in self.snapshots.items() if place == namespace]
        ours = [each for each in found if (each["metadata"].get("labels") or {}).get(SNAPSHOT_JOB_LABEL) == name]
        seen = [snapshot_of(msgspec.convert(each, SnapshotResource)) for each in ours]
        return sorted(seen, key=lambda each: each.order) if self.has_snapshots else None

    def delete_snapshot(self, namespace: str, snapshot: Snapshot) -> bool:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            live = self.snapshots.get((namespace, snapshot.name))
            if live is None or live["metadata"]["resourceVersion"] != snapshot.resource_version:
                return False
            del self.snapshots[namespace, snapshot.name]
            return True

    def put_snapshot(self, whole: Mapping[str, Any], **status: Any) -> None:
        """Makes or replaces a FlinkStateSnapshot, with this status where one is given, as the operator does."""
        with self._lock:
            self._version += 1
            metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": f"{self._version:09}", **whole["metadata"]}
            metadata["resourceVersion"] = str(self._version)
            shown = {**whole, "metadata": metadata} | ({"status": status} if status else {})
            self.snapshots[metadata["namespace"], metadata["name"]] = copy.deepcopy(shown)

    def ha_metadata(self, namespace: str, name: str, flink_job_id: str) -> HaMetadata | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            self._reach()
            data = self._config_maps.get((namespace, ha_config_map(name, flink_job_id)))
        return ha_metadata_in(flink_job_id, data) if data is not None else None

    def flink_versions(self) -> Sequence[str]:
        """See ports.FlinkRuntime."""
        self._reach()
        return self._flink_versions

    def lacks(self, namespace: str, process: Process) -> Sequence[str]:
        """See ports.FlinkRuntime. What a test has put into `lacking`."""
        self._reach()
        return self.lacking.get(process, ())

    def drive(self, namespace: str, name: str, uid: str, drive: Drive) -> Driven:
        """See ports.FlinkRuntime."""
        raise AssertionError(f"{namespace}/{name}: {drive.act} is the operator's to do")

    def put_pod(self, namespace: str, pod: Mapping[str, Any]) -> None:
        """Makes or replaces a pod, as Kubernetes has it."""
        whole = {**pod, "metadata": {**pod["metadata"], "namespace": namespace}}
        with self._lock:
            self._pods[namespace, whole["metadata"]["name"]] = msgspec.convert(whole, Pod)

    def delete_pod(self, namespace: str, name: str) -> None:
        """Removes a pod; whoever follows its log gets to its end."""
        with self._printed:
            del self._pods[namespace, name]
            self._printed.notify_all()

    def put_config_map(self, namespace: str, name: str, data: Mapping[str, str] | None) -> None:
        """Makes or replaces a ConfigMap, as Flink does for its HA metadata; None removes it."""
        with self._lock:
            self._config_maps.pop((namespace, name), None)
            if data is not None:
                self._config_maps[namespace, name] = dict(data)

    def put_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Stores an event, as Kubernetes has it."""
        with self._lock:
            self._happened.append((namespace, msgspec.convert(event, Event)))

    def print_line(
        self, pod: str, container: str, line: str, *, at: datetime | None = None, previous: bool = False
    ) -> None:
        """Adds a line to what a container printed."""
        with self._printed:
            lines = self._logs.setdefault((pod, container, previous), [])
            lines.append((at or datetime.now(UTC), f"{line}\n".encode()))
            self._printed.notify_all()

    def set_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Writes the whole status, as the operator does: no generation moves."""
        with self._lock:
            changed = copy.deepcopy(self._objects[namespace, name])
            changed["status"] = copy.deepcopy(dict(status))
            self._objects[namespace, name] = changed
            self._record("MODIFIED", changed)

    def forget_history(self) -> None:
        """A watch from any version before now gets 410."""
        self._kept_from = self._version

    def _reach(self) -> None:
        if self.outage:
            raise Unavailable("the Kubernetes API did not answer (HEADRACE_KUBECONFIG)")

    def _record(self, kind: str, whole: dict[str, Any]) -> Deployment:
        self._version += 1
        whole["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, copy.deepcopy(whole)))
        return deployment_of(whole)


def _first_wanted(times: Sequence[datetime], wanted: LogPart) -> int:
    oldest = datetime.now(UTC) - timedelta(seconds=wanted.since_seconds or 0)
    recent = (index for index, at in enumerate(times) if wanted.since_seconds is None or at >= oldest)
    return max(next(recent, len(times)), 0 if wanted.tail_lines is None else len(times) - wanted.tail_lines)


class _PrintedLog:
    """ports.LogStream of lines that are in memory."""

    def __init__(
        self,
        runtime: InMemoryRuntime,
        pod: tuple[str, str],
        lines: Sequence[tuple[datetime, bytes]],
        first: int,
        wanted: LogPart,
    ) -> None:
        self._runtime, self._pod, self._lines, self._next = runtime, pod, lines, first
        self._timestamps = wanted.timestamps
        self._until = time.monotonic() + wanted.follow_seconds
        self._left = wanted.limit_bytes
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._runtime._printed:
            while self._next >= len(self._lines) and not self._is_over():
                self._runtime._printed.wait(self._until - time.monotonic())
            if self._is_closed or self._next >= len(self._lines) or self._left == 0:
                self.close()
                raise StopIteration
            at, line = self._lines[self._next]
            self._next += 1
            shown = f"{at.isoformat()} ".encode() + line if self._timestamps else line
            if self._left is not None:
                shown = shown[: self._left]
                self._left -= len(shown)
            return shown

    def _is_over(self) -> bool:
        return self._is_closed or self._pod not in self._runtime._pods or time.monotonic() >= self._until

    def close(self) -> None:
        """See ports.LogStream."""
        with self._runtime._printed:
            self._is_closed = True
            self._runtime.open_logs.discard(self)
            self._runtime._printed.notify_all()


@dataclass
class NativeCluster:
    """What Flink would run for one native deployment: a test sets the job's state, and what becomes of savepoints.

    `triggered` are the ids of savepoints that were asked for; `state` is the job's once it is asked for. One that
    `is_silent` ought to answer and has not, for a moment; one that does not `answers` is believed to be gone.
    """

    job_id: str = ""
    start_from: str | None = None
    state: str = "RUNNING"
    start_time: str = "1795448818262"
    has_pods: bool = False
    answers: bool = True
    is_silent: bool = False
    failure: str = ""
    savepoint: str = "file:/state/savepoints/savepoint-ffffff"
    triggered: list[str] = field(default_factory=list)
    stopped: str = ""
    launches: int = 0
    parallelism: dict[str, int] = field(default_factory=dict)

    @property
    def shown(self) -> Shown:
        """What is seen of it beside its Deployment. Raises Unanswered."""
        if self.has_pods and self.is_silent:
            raise Unanswered("the JobManager did not answer, though its pod is ready")
        flink = FlinkJob(self.state, self.start_time) if self.has_pods and self.answers else None
        return Shown(flink, has_led=self.has_pods and not self.answers, has_pods=self.has_pods, is_ready=self.answers)

    def path_of(self, trigger: str) -> str:
        """Where the savepoint of this trigger is."""
        return f"{self.savepoint}-{self.triggered.index(trigger) + 1}"


class InMemoryNativeRuntime(InMemoryRuntime):
    """ports.FlinkRuntime of the native runtime: deployments as it shows them, and clusters that start at once."""

    def __init__(self) -> None:
        super().__init__()
        self.clusters: dict[tuple[str, str], NativeCluster] = {}
        self.has_launcher = True
        self.release = (2, 2, 1)
        self.refusal = ""
        self._done: dict[tuple[str, str], Done] = {}
        self._removing: set[tuple[str, str]] = set()

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            made = super().create(manifest)
            if made is None:
                return None
            place = (made.metadata.namespace, made.metadata.name)
            self._done[place], self.clusters[place] = Done(), NativeCluster()
            return self.get(*place)

    def patch(self, namespace: str, name: str, fence: Fence | AsSeen, changes: Sequence[Change]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            return None if super().patch(namespace, name, fence, changes) is None else self.get(namespace, name)

    def get_whole(self, namespace: str, name: str) -> dict[str, Any] | None:
        """See ports.FlinkRuntime."""
        with self._lock:
            whole, place = super().get_whole(namespace, name), (namespace, name)
            if whole is None or JOB_ID_ANNOTATION not in (whole["metadata"].get("annotations") or {}):
                return whole
            wanted, done, is_going = self._wanted(whole), self._done[place], place in self._removing
            if is_going:
                whole["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            status = status_of(wanted, done, self.clusters[place].shown, is_removing=is_going)
            return {**whole, "status": {**status, **(whole.get("status") or {})}}

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime. What runs ends with the first call, and the Deployment goes with the next."""
        with self._lock:
            live, place = super().get_whole(namespace, name), (namespace, name)
            if live is None or live["metadata"]["uid"] != uid:
                return False
            self._removing.add(place)
            return self._remove(place)

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        """See ports.FlinkRuntime."""
        for page in super().list_pages(namespace, limit):
            yield replace(page, is_whole=False)

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """See ports.FlinkRuntime."""
        for event in super().watch(namespace, resource_version, timeout_seconds):
            yield event if event.kind == "DELETED" else replace(event, kind="TOUCHED")

    def drive(self, namespace: str, name: str, uid: str, drive: Drive) -> Driven:
        """See ports.FlinkRuntime."""
        with self._lock:
            whole, place = super().get_whole(namespace, name), (namespace, name)
            if whole is None or whole["metadata"]["uid"] != uid:
                return Driven.WAITS
            wanted, shown = self._wanted(whole), self.clusters[place].shown
            act = next_act(wanted, self._done[place], shown, is_removing=place in self._removing)
            if act is None or act.value != drive.act:
                return Driven.WAITS if act is None else Driven.CHANGED
            if act is Act.REMOVE:
                return Driven.CHANGED if self._remove(place) else Driven.WAITS
            for_another = is_for_another_start(act, wanted)
            if (act is Act.LAUNCH or for_another) and not self.has_launcher:
                return Driven.ELSEWHERE
            words = another_release(name, wanted.spec, self.release) if for_another else ""
            if words:
                error = Error(UPGRADE_FAILURE, words)
                self._done[place] = msgspec.structs.replace(self._done[place], error=error)
                return Driven.WAITS
            self._done[place] = self._after(act, drive, wanted, place)
            self._record("MODIFIED", self._objects[place])
            return Driven.CHANGED

    def _remove(self, place: tuple[str, str]) -> bool:
        cluster = self.clusters[place]
        if cluster.has_pods:
            cluster.has_pods = False
            self._record("MODIFIED", self._objects[place])
            return True
        self._removing.discard(place)
        del self._done[place], self.clusters[place]
        self._record("DELETED", self._objects.pop(place))
        return True

    def _wanted(self, whole: Mapping[str, Any]) -> Wanted:
        return Wanted(whole["spec"], whole["metadata"]["generation"])

    def _after(self, act: Act, drive: Drive, wanted: Wanted, place: tuple[str, str]) -> Done:
        """What stands on the Deployment after an act, of which the cluster has had its part."""
        done, cluster, changed = self._done[place], self.clusters[place], msgspec.structs.replace
        carried: dict[str, Any] = {"generation": wanted.generation, "spec": wanted.spec}
        trigger = trigger_id(cluster.job_id, wanted.generation, done.attempts + 1)
        match act:
            case Act.LAUNCH:
                return self._launched(wanted, place)
            case Act.STOP:
                return changed(done, stop=Stop(trigger), attempts=done.attempts + 1)
            case Act.AWAIT_STOP:
                return self._stopped(wanted, place)
            case Act.PUT_DOWN:
                left = left_at_its_end(cluster.shown, drive.state)
                cluster.has_pods = False
                return changed(done, stop=Stop(left=left), generation=wanted.generation)
            case Act.LEAVE:
                return self._left(wanted, place, left_behind(done, drive.state))
            case Act.SAVE:
                nonce = int(wanted.spec["job"]["savepointTriggerNonce"])
                return changed(done, save=Save(trigger, nonce), attempts=done.attempts + 1)
            case Act.AWAIT_SAVE:
                return changed(done, **{"error": None, **carried, **self._saved(done, cluster)}, save=None)
            case Act.RESCALE:
                overrides = overrides_of(wanted.spec["flinkConfiguration"][OVERRIDES_KEY])
                cluster.parallelism = dict(overrides)
                return changed(done, **carried, error=None)
            case Act.CLEAR:
                cluster.has_pods = False
                return done
            case _:
                return changed(done, **carried, error=None)

    def _launched(self, wanted: Wanted, place: tuple[str, str]) -> Done:
        done, cluster = self._done[place], self.clusters[place]
        if self.refusal:
            error = Error(LAUNCH_FAILURE, self.refusal, is_final=True)
            return msgspec.structs.replace(done, error=error, generation=wanted.generation)
        cluster.launches += 1
        cluster.job_id, cluster.start_from = (
            flink_job_id("/".join(place), cluster.launches, 1),
            start_from(wanted, done),
        )
        cluster.has_pods, cluster.state = True, "RUNNING"
        launch = Launch(cluster.job_id, cluster.start_from)
        return Done(wanted.generation, wanted.spec, launch, saved=done.saved, attempts=done.attempts)

    def _stopped(self, wanted: Wanted, place: tuple[str, str]) -> Done:
        done, cluster = self._done[place], self.clusters[place]
        trigger = (done.stop.trigger if done.stop is not None else None) or ""
        if cluster.failure:
            error = Error(UPGRADE_FAILURE, f"the job could not be stopped with a savepoint: {cluster.failure}")
            return msgspec.structs.replace(done, stop=None, error=error)
        cluster.triggered = [*dict.fromkeys([*cluster.triggered, trigger])]
        cluster.has_pods = False
        return self._left(wanted, place, Left(BY_SAVEPOINT, cluster.path_of(trigger)))

    def _left(self, wanted: Wanted, place: tuple[str, str], left: Left) -> Done:
        done = self._done[place]
        spec = wanted.spec if state_wanted(wanted.spec) == "suspended" else done.spec
        return msgspec.structs.replace(
            done, stop=None, save=None, error=None, left=left, spec=spec, generation=wanted.generation
        )

    def _saved(self, done: Done, cluster: NativeCluster) -> dict[str, Any]:
        assert done.save is not None  # noqa: S101 - the act was chosen by it
        if cluster.failure:
            return {"error": Error("headrace.SavepointException", f"the savepoint failed: {cluster.failure}")}
        cluster.triggered = [*dict.fromkeys([*cluster.triggered, done.save.trigger])]
        return {"saved": Saved(cluster.path_of(done.save.trigger), done.save.nonce)}


class InMemoryJobManager:
    """ports.JobManager with the answers that a test sets: a path, None for an execution graph without a checkpoint,
    whole Checkpoints, or an error to raise."""

    def __init__(self, checkpoint: str | Checkpoints | Unavailable | None = None) -> None:
        self.checkpoint = checkpoint
        self.job_vertices: Vertices | Unavailable = Unavailable("connection refused")
        self.history: Sequence[ExceptionSeen] | Unavailable = ()
        self.progressed: Progress | Unavailable = Unavailable("connection refused")
        self.disposed: list[str] = []
        self.disposal: HeadraceError | None = None

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """See ports.JobManager."""
        if isinstance(self.checkpoint, Unavailable):
            raise self.checkpoint
        return self.checkpoint if isinstance(self.checkpoint, Checkpoints) else Checkpoints(latest=self.checkpoint)

    def exceptions(self, namespace: str, name: str, flink_job_id: str) -> Sequence[ExceptionSeen]:
        """See ports.JobManager."""
        if isinstance(self.history, Unavailable):
            raise self.history
        return self.history

    def vertices(self, namespace: str, name: str, flink_job_id: str) -> Vertices:
        """See ports.JobManager."""
        if isinstance(self.job_vertices, Unavailable):
            raise self.job_vertices
        return self.job_vertices

    def dispose(self, namespace: str, name: str, path: str) -> None:
        """See ports.JobManager."""
        if self.disposal is not None:
            raise self.disposal
        self.disposed.append(path)

    def progress(self, namespace: str, name: str, flink_job_id: str) -> Progress:
        """See ports.JobManager."""
        if isinstance(self.progressed, Unavailable):
            raise self.progressed
        return self.progressed


def _event_of(kind: str, whole: Mapping[str, Any]) -> WatchEvent:
    try:
        return WatchEvent(kind, deployment_of(whole))
    except Unreadable as error:
        return WatchEvent("UNREADABLE", named_in(whole), str(error))


def _pod(name: str) -> InvolvedObject:
    return InvolvedObject("Pod", name)


def _holds(live: Mapping[str, Any], fence: Fence | AsSeen) -> bool:
    metadata = live["metadata"]
    if isinstance(fence, AsSeen):
        return (metadata["uid"], metadata["resourceVersion"]) == (fence.uid, fence.resource_version)
    sequence = (metadata.get("annotations") or {}).get(SEQUENCE_ANNOTATION)
    return metadata["uid"] == fence.uid and sequence == str(fence.sequence)


def _is_ours(whole: Mapping[str, Any]) -> bool:
    return JOB_LABEL in (whole["metadata"].get("labels") or {})


def _apply(whole: dict[str, Any], change: Change) -> bool:
    """Whether the change's parent was there, and with it the change could be made."""
    at: Any = whole
    for key in change.path[:-1]:
        at = at.get(key) if isinstance(at, dict) else None
    if not isinstance(at, dict) or (change.removed and change.path[-1] not in at):
        return False
    if change.removed:
        del at[change.path[-1]]
    else:
        at[change.path[-1]] = copy.deepcopy(change.value)
    return True
