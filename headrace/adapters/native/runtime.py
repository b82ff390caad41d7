"""ports.FlinkRuntime for Flink's own native mode: apps/v1 Deployments, shown as FlinkDeployments, and the acts on them.

Every write tests what it was chosen by: the uid, and the texts of what is wanted and of what was done.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec
import orjson

from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.adapters.kubernetes.api_server import JSON_PATCH, ApiServer, refused
from headrace.adapters.kubernetes.following import ListMetadata, pages, told
from headrace.adapters.kubernetes.rights import Right, lacking
from headrace.adapters.kubernetes.runtime import WRITE, OperatorRuntime
from headrace.adapters.native.launcher import Launcher
from headrace.adapters.native.silence import HOLDS_ON_SECONDS, Silence
from headrace.domain import diff
from headrace.domain.deployments import (
    JOB_LABEL,
    OPERATION_ANNOTATION,
    SEQUENCE_ANNOTATION,
    TENANT_ANNOTATION,
    Deployment,
    Metadata,
    deployment_of,
    sequence_of,
)
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.native import arguments
from headrace.domain.runtimes.native.acts import (
    Act,
    Shown,
    drains,
    is_for_another_start,
    is_too_early,
    left_at_its_end,
    left_behind,
    next_act,
    required_by,
    start_from,
    state_wanted,
)
from headrace.domain.runtimes.native.cluster import (
    as_flink_deployment,
    is_a_record,
    is_ha_metadata,
    is_removing,
    is_scaled_down,
    labels_of_cluster,
    shell,
)
from headrace.domain.runtimes.native.records import (
    BY_SAVEPOINT,
    DONE_ANNOTATION,
    LAUNCH_FAILURE,
    REMOVING_ANNOTATION,
    UPGRADE_FAILURE,
    WANTED_ANNOTATION,
    Done,
    Error,
    Launch,
    Left,
    Save,
    Saved,
    Stop,
    Wanted,
    done_in,
    text_of,
    wanted_in,
)
from headrace.domain.runtimes.plan import Drive
from headrace.domain.snapshots import Snapshot
from headrace.domain.state_on_hand import ha_config_map
from headrace.errors import MissingRight, Refused, Unanswered, Unavailable
from headrace.ports import Anybodys, AsSeen, Change, Driven, Fence, Page, WatchEvent

GROUP = "/apis/apps/v1"
OURS = f"{JOB_LABEL},type=flink-native-kubernetes"
"""A selector of what this runtime made."""

MOST_PODS = 500
BARRED_SECONDS = 60.0
"""How long a process leaves a start alone of which not even the failure could be written down."""

MOST_SPEC_BYTES = 120_000
"""Of what is wanted, as text: it stands twice on the Deployment once it runs, and Kubernetes takes 262,144 bytes of
annotations (validation.TotalAnnotationSizeLimitB)."""

ROOM_BYTES = 1000
"""What an operation adds to it that changes no program: a state, a nonce, overrides."""

_WRITES = (
    Right("apps", "deployments", ("get", "create", "patch", "delete")),
    Right("", "services", ("get", "create", "update")),
    Right("", "configmaps", ("get", "list", "create", "update", "delete")),
    Right("", "secrets", ("create", "update")),
    Right("", "pods", ("list", "delete")),
)
RIGHTS: Mapping[Process, Sequence[Right]] = {
    Process.WORKER: _WRITES,
    Process.LAUNCHER: _WRITES,
    Process.SYNC: (
        Right("apps", "deployments", ("get", "list", "watch")),
        Right("", "configmaps", ("get",)),
        Right("", "pods", ("list",)),
    ),
}
"""What it takes to run jobs without an operator, of each process' account."""

ANNOTATIONS = ("metadata", "annotations")


class _Item(msgspec.Struct):
    metadata: Metadata


class _List(msgspec.Struct):
    metadata: ListMetadata
    items: list[_Item]


class _Owned(msgspec.Struct, rename="camel"):
    name: str
    uid: str
    labels: dict[str, str] | None = None
    owner_references: list[Any] | None = None


class _OwnedItem(msgspec.Struct):
    metadata: _Owned


class _OwnedList(msgspec.Struct):
    items: list[_OwnedItem]


_owned_list = msgspec.json.Decoder(_OwnedList)
_list, _item = msgspec.json.Decoder(_List), msgspec.json.Decoder(_Item)


@dataclass(frozen=True)
class _Record:
    """A Deployment as it was just read, with what stands on it."""

    raw: Mapping[str, Any]
    wanted: Wanted
    done: Done

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.raw["metadata"].get("annotations") or {}

    @property
    def sequence(self) -> int:
        return sequence_of(Deployment(msgspec.convert(self.raw["metadata"], Metadata)))

    @property
    def job_id(self) -> str:
        return self.done.launch.job_id if self.done.launch is not None else ""


class NativeRuntime(OperatorRuntime):
    """See ports.FlinkRuntime. Pods, logs, events, files and HA metadata are as with the operator."""

    owner = ("apps/v1", "Deployment")

    def __init__(
        self,
        api: ApiServer,
        timeout_seconds: float,
        rest: ClusterRest,
        launcher: Launcher | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(api, timeout_seconds)
        self._silence = Silence(clock)
        self._rest = rest
        self._launcher = launcher
        self._launching: set[str] = set()
        self._barred: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()

    # Reading and writing what is wanted

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        """See ports.FlinkRuntime. What is made is the record: nothing runs by it yet. Raises Refused for a spec that is
        too large to stand on it twice."""
        body = shell(manifest)
        _refuse_too_large(body["metadata"]["name"], body["metadata"]["annotations"][WANTED_ANNOTATION])
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        doing = f"creating Deployment {namespace}/{name}"
        try:
            answer = self._api.send("POST", _deployments(namespace), doing=doing, query=WRITE, body=body)
        except Unavailable as error:
            return self._read_back(manifest, error)
        if answer.status == 409:
            return None
        if answer.status not in (200, 201):
            raise refused(answer, doing)
        return self._seen(orjson.loads(answer.body))

    def get(self, namespace: str, name: str) -> Deployment | None:
        """See ports.FlinkRuntime."""
        whole = self.get_whole(namespace, name)
        return deployment_of(whole) if whole is not None else None

    def get_whole(self, namespace: str, name: str) -> dict[str, Any] | None:
        """See ports.FlinkRuntime. The JobManager is asked, and pods are looked at where nothing shall run."""
        raw = self._raw(namespace, name)
        return self._whole(raw) if raw is not None else None

    def patch(self, namespace: str, name: str, fence: Fence | AsSeen, changes: Sequence[Change]) -> Deployment | None:
        """See ports.FlinkRuntime. The changes are made in what is wanted, by one patch that tests the text they were
        made in."""
        raw = self._raw(namespace, name)
        if raw is None:
            return None
        view = as_flink_deployment(raw, None)
        if not _holds(deployment_of(view), fence) or not all(_has_parent(view, each) for each in changes):
            return None
        changed = _patched(raw, view, changes)
        answer = self._patched(
            namespace, name, [*_tests(raw, fence), *changed], f"patching Deployment {namespace}/{name}"
        )
        return self._seen(answer) if answer is not None else None

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime. First nothing runs any more, then Flink's HA metadata go, then the Deployment with
        all that it owns: whoever looks while it is on its way goes on."""
        raw = self._raw(namespace, name)
        if raw is None or raw["metadata"]["uid"] != uid:
            return False
        marked = raw if is_removing(raw) else self._marked(raw)
        if marked is None:
            return False
        self._remove(marked)
        return True

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        """See ports.FlinkRuntime. What runs is not on a Deployment: of each the metadata are told."""
        doing = f"listing Deployments in {namespace}"
        return pages(self._api, _deployments(namespace), OURS, limit, doing, _page)

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """See ports.FlinkRuntime."""
        doing = f"watching Deployments in {namespace}"
        bound = timeout_seconds + self._timeout_seconds
        for kind, body in told(
            self._api, _deployments(namespace), OURS, resource_version, timeout_seconds, bound, doing
        ):
            is_kept = kind in ("BOOKMARK", "DELETED")
            yield WatchEvent(kind if is_kept else "TOUCHED", Deployment(metadata=_item.decode(body).metadata))

    # What the operator alone has

    def list_anybodys(self, namespace: str, limit: int, after: str = "") -> Anybodys:
        """See ports.FlinkRuntime. What somebody else started by Flink's command line does not say how."""
        return Anybodys((), "")

    def create_snapshot(self, manifest: Mapping[str, Any]) -> bool:
        """See ports.FlinkRuntime."""
        raise Refused("the native runtime takes savepoints by the JobManager, and has no FlinkStateSnapshots")

    def snapshots_of(self, namespace: str, name: str) -> Sequence[Snapshot] | None:
        """See ports.FlinkRuntime."""
        return None

    def delete_snapshot(self, namespace: str, snapshot: Snapshot) -> bool:
        """See ports.FlinkRuntime."""
        return False

    def flink_versions(self) -> Sequence[str]:
        """See ports.FlinkRuntime. What the launcher has, where it is in this process."""
        if self._launcher is None:
            return ()
        return ("_".join(["v" + str(self._launcher.release[0]), *map(str, self._launcher.release[1:2])]),)

    def lacks(self, namespace: str, process: Process) -> Sequence[str]:
        """See ports.FlinkRuntime. A launcher alone needs Flink's command line."""
        home = "FLINK_HOME: this process starts no job; a worker of the queue flink.launches has to have one"
        is_without = process is Process.LAUNCHER and self._launcher is None
        return [*lacking(self._api, namespace, RIGHTS[process]), *([home] if is_without else [])]

    # Acts

    def drive(self, namespace: str, name: str, uid: str, drive: Drive) -> Driven:
        """See ports.FlinkRuntime."""
        record = self._record(namespace, name)
        if record is None or record.uid != uid:
            return Driven.WAITS
        shown = self._shown(record.raw)
        act = next_act(record.wanted, record.done, shown, is_removing=is_removing(record.raw))
        if act is None or act.value != drive.act:
            return Driven.CHANGED if act is not None else Driven.WAITS  # another sight says what is due now
        if is_for_another_start(act, record.wanted):
            if self._launcher is None:
                return Driven.ELSEWHERE
            words = arguments.another_release(name, record.wanted.spec, self._launcher.release)
            if words:
                return self._not_begun(record, words)
        return self._carried_out(act, record, shown, drive)

    def _not_begun(self, record: _Record, words: str) -> Driven:
        """What runs goes on: what is wanted in its place could not be started."""
        return self._note(record, _replaced(record.done, error=Error(UPGRADE_FAILURE, words[:1000])), waits=True)

    def _carried_out(self, act: Act, record: _Record, shown: Shown, drive: Drive) -> Driven:
        match act:
            case Act.LAUNCH:
                return self._launch(record)
            case Act.STOP:
                return self._stop(record)
            case Act.AWAIT_STOP:
                return self._await_stop(record, shown)
            case Act.PUT_DOWN:
                return self._put_down(record, shown, drive)
            case Act.CLEAR:
                return self._clear(record)
            case Act.LEAVE:
                return self._leave(record, drive)
            case Act.RESCALE:
                return self._rescale(record)
            case Act.SAVE:
                return self._save(record)
            case Act.AWAIT_SAVE:
                return self._await_save(record)
            case Act.NOTE:
                return self._settled(record)
            case Act.REMOVE:
                return Driven.CHANGED if self._remove(record.raw) else Driven.WAITS
            case _:
                assert_never(act)

    def _launch(self, record: _Record) -> Driven:
        """Flink's command line says what a cluster is made of; it is made here, the Deployment last: until its template
        stands nothing runs, and whoever was overtaken meanwhile changes nothing."""
        if self._launcher is None:
            return Driven.ELSEWHERE
        what = (record.uid, record.wanted.generation)
        with self._lock:
            if record.uid in self._launching:
                return Driven.WAITS  # another thread of this process is at it: a JVM more would be in vain
            self._barred = {each: until for each, until in self._barred.items() if until > time.monotonic()}
            if what in self._barred:
                return Driven.WAITS
            self._launching.add(record.uid)
        try:
            return self._launched(record, self._launcher)
        except MissingRight:
            raise
        except Refused:  # so that not even that can be noted: the next JVM would come to the same
            with self._lock:
                self._barred[what] = time.monotonic() + BARRED_SECONDS
            raise
        finally:
            with self._lock:
                self._launching.discard(record.uid)

    def _launched(self, record: _Record, launcher: Launcher) -> Driven:
        path = start_from(record.wanted, record.done)
        tenant = record.annotations.get(TENANT_ANNOTATION, "")
        whose = f"{tenant}/{record.namespace}/{record.name}/{record.uid}"
        job_id = arguments.flink_job_id(whose, record.sequence, record.wanted.generation)
        try:
            made = launcher.launch(record.name, record.namespace, record.wanted.spec, job_id=job_id, start_from=path)
        except Refused as error:
            return self._failed_for_good(record, str(error))
        selector = diff.at(made.deployment, ("spec", "selector", "matchLabels"))
        if selector != diff.at(record.raw, ("spec", "selector", "matchLabels")):
            return self._failed_for_good(record, f"this Flink selects its JobManager by {selector}, which is not known")
        if not self._remove_ha(record.raw):
            return Driven.CHANGED
        done = Done(
            generation=record.wanted.generation,
            spec=record.wanted.spec,
            launch=Launch(job_id, path),
            saved=record.done.saved,
            attempts=record.done.attempts,
        )
        runs = [_set(("spec", "template"), made.deployment["spec"]["template"]), _set(("spec", "replicas"), 1)]
        try:
            if not all(self._put(record, kind, each) for kind, each in made.accompanying):
                return Driven.CHANGED
            return self._note(record, done, *runs)
        except MissingRight:
            raise
        except Refused as error:
            return self._failed_for_good(record, str(error))

    def _failed_for_good(self, record: _Record, words: str) -> Driven:
        error = Error(LAUNCH_FAILURE, words[:1000], is_final=True)
        generation = record.wanted.generation
        return self._note(record, msgspec.structs.replace(record.done, error=error, generation=generation))

    def _put(self, record: _Record, kind: str, made: Mapping[str, Any]) -> bool:
        """One object of a cluster, owned by its Deployment; False where a newer start has put one there. Raises Refused
        where the name is somebody else's."""
        body = _owned(record, made)
        namespace, name = record.namespace, body["metadata"]["name"]
        path, doing = f"/api/v1/namespaces/{namespace}/{kind}", f"writing {kind} {namespace}/{name}"
        answer = self._api.send("POST", path, doing=doing, query=WRITE, body=body)
        if answer.status == 409:
            answer = self._api.send("GET", f"{path}/{name}", doing=doing)
            if answer.status == 404:
                raise Unavailable(f"{kind} {namespace}/{name} went while it was written")
            there = orjson.loads(answer.body)
            if (there["metadata"].get("labels") or {}).get("app") != record.name:
                raise Refused(f"{kind} {namespace}/{name} exists and is not this job's: choose another job_id")
            if _sequence(there) > record.sequence:
                return False
            answer = self._api.send("PUT", f"{path}/{name}", doing=doing, query=WRITE, body=_in_place_of(body, there))
            if answer.status == 409:
                raise Unavailable(f"{kind} {namespace}/{name} was changed while it was written")
        if answer.status not in (200, 201):
            raise refused(answer, doing)
        return True

    def _stop(self, record: _Record) -> Driven:
        """What is asked for is on the Deployment before Flink is asked."""
        attempt = record.done.attempts + 1
        trigger = arguments.trigger_id(record.job_id, record.wanted.generation, attempt)
        return self._note(record, _replaced(record.done, stop=Stop(trigger), save=None, attempts=attempt))

    def _await_stop(self, record: _Record, shown: Shown) -> Driven:
        stop = record.done.stop
        trigger = (stop.trigger if stop is not None else None) or ""
        outcome = self._rest.outcome(record.namespace, record.name, record.job_id, trigger)
        if outcome is None:
            return self._asked_to_stop(record, shown, trigger)
        if outcome.path:
            left = Left(BY_SAVEPOINT, outcome.path)
            return self._note(record, self._as_left(record, left), _set(("spec", "replicas"), 0))
        return self._not_stopped(record, outcome.failure) if outcome.failure else Driven.WAITS

    def _not_stopped(self, record: _Record, words: str) -> Driven:
        """It is asked for again; a job whose tasks are only about to run is no failure."""
        error = Error(UPGRADE_FAILURE, f"the job could not be stopped with a savepoint: {words}"[:1000])
        kept = record.done.error if is_too_early(words) else error
        return self._note(record, _replaced(record.done, stop=None, error=kept), waits=True)

    def _asked_to_stop(self, record: _Record, shown: Shown, trigger: str) -> Driven:
        """A JobManager that has come back knows of no stop: a job that runs is asked again, any other is put down."""
        if shown.flink is None or shown.flink.state != "RUNNING":
            return self._note(record, _replaced(record.done, stop=None))
        drain = drains(record.wanted)
        words = self._rest.stop(record.namespace, record.name, record.job_id, trigger, drain=drain)
        return Driven.CHANGED if not words else self._not_stopped(record, words)

    def _put_down(self, record: _Record, shown: Shown, drive: Drive) -> Driven:
        generation, stop = record.wanted.generation, Stop(left=left_at_its_end(shown, drive.state))
        done = _replaced(record.done, stop=stop, save=None, generation=generation, error=None)
        return self._note(record, done, _set(("spec", "replicas"), 0))

    def _clear(self, record: _Record) -> Driven:
        """A JobManager's pod goes with its replica; TaskManagers of a cluster that rests would wait for another."""
        if not is_scaled_down(record.raw):
            return self._note(record, record.done, _set(("spec", "replicas"), 0))
        self._remove_task_managers(record.namespace, record.name)
        return Driven.WAITS

    def _leave(self, record: _Record, drive: Drive) -> Driven:
        """Nothing runs any more: what is known now of the state is what the next start begins from."""
        left = left_behind(record.done, drive.state)
        if record.done.left == left:
            return Driven.WAITS
        return self._note(record, self._as_left(record, left), _set(("spec", "replicas"), 0))

    def _as_left(self, record: _Record, left: Left) -> Done:
        rests = state_wanted(record.wanted.spec) == "suspended"
        spec = record.wanted.spec if rests else record.done.spec
        generation = record.wanted.generation
        return _replaced(record.done, stop=None, save=None, error=None, left=left, spec=spec, generation=generation)

    def _rescale(self, record: _Record) -> Driven:
        """What was required before is on the Deployment before a JobManager is told otherwise. Where it was told, it is
        short of slots, or somebody has told it otherwise since."""
        where = record.namespace, record.name, record.job_id
        if record.done.required is None:
            return self._note(record, _replaced(record.done, required=self._rest.required(*where)))
        words = self._rest.rescale(*where, required_by(record.wanted, record.done))
        if record.done.generation == record.wanted.generation:
            return Driven.WAITS
        if words:
            error = Error(UPGRADE_FAILURE, f"the JobManager did not take the new parallelism: {words}"[:1000])
            return self._note(record, _replaced(record.done, error=error), waits=True)
        return self._settled(record)

    def _save(self, record: _Record) -> Driven:
        attempt = record.done.attempts + 1
        trigger = arguments.trigger_id(record.job_id, record.wanted.generation, attempt)
        nonce = int(diff.at(record.wanted.spec, ("job", "savepointTriggerNonce")) or 0)
        return self._note(record, _replaced(record.done, save=Save(trigger, nonce), attempts=attempt))

    def _await_save(self, record: _Record) -> Driven:
        save = record.done.save
        assert save is not None  # noqa: S101 - the act was chosen by it
        outcome = self._rest.outcome(record.namespace, record.name, record.job_id, save.trigger)
        if outcome is None:
            words = self._rest.save(record.namespace, record.name, record.job_id, save.trigger)
            return Driven.CHANGED if not words else self._not_saved(record, words)
        if outcome.path:
            saved = Saved(outcome.path, save.nonce)
            return self._settled(record, save=None, saved=saved)
        return self._not_saved(record, outcome.failure) if outcome.failure else Driven.WAITS

    def _not_saved(self, record: _Record, words: str) -> Driven:
        """Nobody tries again by itself, but where the job's tasks were only about to run: who wants one asks anew."""
        if is_too_early(words):
            return self._note(record, _replaced(record.done, save=None), waits=True)
        error = Error("headrace.SavepointException", f"the savepoint failed: {words}"[:1000])
        return self._settled(record, save=None, error=error)

    def _settled(self, record: _Record, **changes: Any) -> Driven:
        """What is wanted is what runs, or rests."""
        spec, generation = record.wanted.spec, record.wanted.generation
        return self._note(
            record, _replaced(record.done, **{"error": None, **changes}, spec=spec, generation=generation)
        )

    def _note(self, record: _Record, done: Done, *also: Mapping[str, Any], waits: bool = False) -> Driven:
        """Writes what was done, with what goes with it, on the texts that it was decided by."""
        annotations = {**record.annotations, DONE_ANNOTATION: text_of(done)}
        operations = [*_tests(record.raw), _set((*ANNOTATIONS, DONE_ANNOTATION), annotations[DONE_ANNOTATION]), *also]
        self._patched(record.namespace, record.name, operations, f"noting what was done with {record.name}")
        return Driven.WAITS if waits else Driven.CHANGED

    # Removing

    def _marked(self, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        test = {"op": "test", "path": "/metadata/uid", "value": raw["metadata"]["uid"]}
        operations = [test, _set((*ANNOTATIONS, REMOVING_ANNOTATION), at), _set(("spec", "replicas"), 0)]
        return self._patched(namespace, name, operations, f"removing Deployment {namespace}/{name}")

    def _remove(self, raw: Mapping[str, Any]) -> bool:
        """The next part of it; whether the Deployment was asked to go."""
        metadata = raw["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if self._pods_of_cluster(namespace, name):
            self._remove_task_managers(namespace, name)
            return False
        if not self._remove_ha(raw):
            return False
        doing = f"deleting Deployment {namespace}/{name}"
        body = {**_with_uid(metadata["uid"]), "propagationPolicy": "Background"}
        answer = self._api.send("DELETE", f"{_deployments(namespace)}/{name}", doing=doing, body=body)
        if answer.status not in (200, 202, 404, 409):
            raise refused(answer, doing)
        return True

    def _remove_task_managers(self, namespace: str, name: str) -> None:
        for pod in self._pods_of_cluster(namespace, name, component="taskmanager"):
            self._delete_each(namespace, "pods", pod)

    def _remove_ha(self, raw: Mapping[str, Any]) -> bool:
        """Those of clusters before; False where the Deployment is not as it was read any more, and nothing was removed.
        They are found first and the Deployment is looked at after that, since a newer cluster makes its own only once
        it stands there; each goes by the uid that it was found with."""
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        listed = self._found_items(namespace, "configmaps", {"app": name})
        found = [
            each.metadata
            for each in listed
            if is_ha_metadata(name, each.metadata.labels or {}, is_owned=bool(each.metadata.owner_references))
        ]
        if found and not self._still_holds(namespace, name, _tests(raw)):
            return False
        for each in found:
            self._delete_each(namespace, "configmaps", each)
        return True

    def _delete_each(self, namespace: str, kind: str, metadata: _Owned) -> None:
        path, doing = f"/api/v1/namespaces/{namespace}/{kind}/{metadata.name}", f"deleting {kind} {metadata.name}"
        answer = self._api.send("DELETE", path, doing=doing, body=_with_uid(metadata.uid))
        if answer.status not in (200, 202, 404, 409):
            raise refused(answer, doing)

    def _pods_of_cluster(self, namespace: str, name: str, **labels: str) -> Sequence[_Owned]:
        return self._found(namespace, "pods", {**labels_of_cluster(name), **labels})

    def _found(self, namespace: str, kind: str, labels: Mapping[str, str]) -> Sequence[_Owned]:
        return [each.metadata for each in self._found_items(namespace, kind, labels)]

    def _found_items(self, namespace: str, kind: str, labels: Mapping[str, str]) -> Sequence[_OwnedItem]:
        doing = f"listing {kind} in {namespace}"
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        query: dict[str, str | int] = {"labelSelector": selector, "limit": MOST_PODS}
        answer = self._api.send("GET", f"/api/v1/namespaces/{namespace}/{kind}", doing=doing, query=query)
        if answer.status != 200:
            raise refused(answer, doing)
        return _owned_list.decode(answer.body).items

    # Looking

    def _raw(self, namespace: str, name: str) -> dict[str, Any] | None:
        doing = f"reading Deployment {namespace}/{name}"
        answer = self._api.send("GET", f"{_deployments(namespace)}/{name}", doing=doing)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refused(answer, doing)
        found: dict[str, Any] = orjson.loads(answer.body)
        return found

    def _record(self, namespace: str, name: str) -> _Record | None:
        raw = self._raw(namespace, name)
        if raw is None or not is_a_record(raw):
            return None
        annotations = raw["metadata"]["annotations"]
        return _Record(raw, wanted_in(annotations), done_in(annotations))

    def _whole(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        return as_flink_deployment(raw, self._shown(raw) if is_a_record(raw) else None)

    def _seen(self, raw: Mapping[str, Any]) -> Deployment:
        return deployment_of(self._whole(raw))

    def _shown(self, raw: Mapping[str, Any]) -> Shown:
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        done = done_in(raw["metadata"]["annotations"])
        if is_removing(raw) or is_scaled_down(raw) or not done.is_up:
            return Shown(has_pods=bool(self._pods_of_cluster(namespace, name)))
        status = raw.get("status") or {}
        is_ready = bool(status.get("readyReplicas"))
        job_id = done.launch.job_id if done.launch is not None else ""
        flink = self._rest.job(namespace, name, job_id, with_vertices=done.required is not None)
        has_led = flink is None and self._has_led(namespace, name, job_id)
        uid = str(raw["metadata"]["uid"])
        if flink is not None:
            self._silence.ends(uid)
        elif has_led and self._silence.is_new(uid, status):
            raise Unanswered(
                f"the JobManager of {namespace}/{name} did not answer, though its pod is ready; it is asked again for "
                f"{HOLDS_ON_SECONDS:.0f} s before that says anything of its job"
            )
        return Shown(flink, has_led, is_ready=is_ready, trouble=_trouble_in(status))

    def _has_led(self, namespace: str, name: str, job_id: str) -> bool:
        """Whether a JobManager has had this job: its HA metadata are there from then on."""
        path = f"/api/v1/namespaces/{namespace}/configmaps/{ha_config_map(name, job_id)}"
        answer = self._api.send("GET", path, doing=f"reading the HA metadata of {namespace}/{name}")
        return answer.status != 404  # who may not look takes it that there is one

    def _patched(
        self, namespace: str, name: str, operations: Sequence[Mapping[str, Any]], doing: str
    ) -> dict[str, Any] | None:
        """The Deployment after one JSON patch; None where a test did not hold, or it is gone."""
        path = f"{_deployments(namespace)}/{name}"
        answer = self._api.send("PATCH", path, doing=doing, query=WRITE, body=list(operations), content_type=JSON_PATCH)
        if answer.status == 200:
            found: dict[str, Any] = orjson.loads(answer.body)
            return found
        if answer.status == 404:
            return None
        if answer.status in (409, 422) and not self._still_holds(namespace, name, operations):
            return None
        raise refused(answer, doing)

    def _still_holds(self, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]) -> bool:
        """A 422 does not say why: where every test holds, it was what is to be written."""
        raw = self._raw(namespace, name)
        tests = [each for each in operations if each["op"] == "test"]
        return raw is not None and all(diff.at(raw, _path(each["path"])) == each["value"] for each in tests)


def connect(kubeconfig: Any, timeout_seconds: float, rest: ClusterRest, launcher: Launcher | None) -> NativeRuntime:
    """A runtime over one pool of connections; nothing is opened before its first call. Raises ConfigurationError where
    that could not come right."""
    api = ApiServer(kubeconfig, timeout_seconds)
    api.check()
    if launcher is not None:
        launcher.check()
    return NativeRuntime(api, timeout_seconds, rest, launcher)


def _deployments(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/deployments"


def _with_uid(uid: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}


def _replaced(done: Done, **changes: Any) -> Done:
    return msgspec.structs.replace(done, **changes)


def _set(path: Sequence[str], value: Any) -> dict[str, Any]:
    return {"op": "add", "path": _pointer(path), "value": value}


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _path(pointer: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def _tests(raw: Mapping[str, Any], fence: Fence | AsSeen | None = None) -> list[dict[str, Any]]:
    """That it is the same Deployment, that both texts on it are those that were read, and that the fence holds."""
    metadata = raw["metadata"]
    annotations = metadata.get("annotations") or {}
    tested: list[tuple[Sequence[str], Any]] = [(("metadata", "uid"), metadata["uid"])]
    if isinstance(fence, AsSeen):
        tested.append((("metadata", "resourceVersion"), fence.resource_version))
    if isinstance(fence, Fence):
        tested.append(((*ANNOTATIONS, SEQUENCE_ANNOTATION), str(fence.sequence)))
    known = [name for name in (WANTED_ANNOTATION, DONE_ANNOTATION) if name in annotations]
    tested += [((*ANNOTATIONS, name), annotations[name]) for name in known]
    return [{"op": "test", "path": _pointer(path), "value": value} for path, value in tested]


def _patched(raw: Mapping[str, Any], view: Mapping[str, Any], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The changes of a FlinkDeployment as those of the Deployment: labels and annotations as they are, its spec in the
    text of what is wanted."""
    spec = [each for each in changes if each.path[0] == "spec"]
    found = [_operation(each) for each in changes if each.path[0] == "metadata"]
    if spec:
        after = json.loads(json.dumps(diff.applied_to(view, spec)["spec"]))
        if after != view["spec"]:
            wanted = text_of(Wanted(after, view["metadata"]["generation"] + 1))
            there = raw["metadata"]["annotations"][WANTED_ANNOTATION]
            _refuse_too_large(str(raw["metadata"]["name"]), wanted, before=len(there.encode()))
            found.append(_set((*ANNOTATIONS, WANTED_ANNOTATION), wanted))
    return found


def _refuse_too_large(name: str, wanted: str, before: int = 0) -> None:
    """What grows a little is let through: a job of that size can be stopped, saved and started again."""
    size = len(wanted.encode())
    if size > MOST_SPEC_BYTES and size - before > ROOM_BYTES:
        raise Refused(
            f"the spec of {name} is {size} bytes, and the native runtime keeps at most {MOST_SPEC_BYTES} on its "
            "Deployment: make args, env, flink_configuration or pod smaller, or choose the operator (runtime: operator)"
        )


def _operation(change: Change) -> dict[str, Any]:
    if change.removed:
        return {"op": "remove", "path": _pointer(change.path)}
    return _set(change.path, change.value)


def _holds(seen: Deployment, fence: Fence | AsSeen) -> bool:
    if isinstance(fence, AsSeen):
        return (seen.metadata.uid, seen.metadata.resource_version) == (fence.uid, fence.resource_version)
    return (seen.metadata.uid, sequence_of(seen)) == (fence.uid, fence.sequence)


def _has_parent(view: Mapping[str, Any], change: Change) -> bool:
    parent = diff.at(view, change.path[:-1])
    return isinstance(parent, Mapping) and (not change.removed or change.path[-1] in parent)


def _owned(record: _Record, made: Mapping[str, Any]) -> dict[str, Any]:
    """The object as the command line would make it, owned by the Deployment that there is, with the sequence that it
    was made by."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": record.name, "uid": record.uid}
    metadata = {
        "name": made["metadata"]["name"],
        "namespace": record.namespace,
        "labels": {**(made["metadata"].get("labels") or {}), **_our_labels(record)},
        "annotations": {
            **(made["metadata"].get("annotations") or {}),
            SEQUENCE_ANNOTATION: str(record.sequence),
            OPERATION_ANNOTATION: record.annotations.get(OPERATION_ANNOTATION, ""),
        },
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": False}],
    }
    return {**{key: value for key, value in made.items() if key != "status"}, "metadata": metadata}


def _our_labels(record: _Record) -> dict[str, str]:
    labels: Mapping[str, str] = record.raw["metadata"].get("labels") or {}
    return {key: text for key, text in labels.items() if key.startswith(("headrace.io/", "app.kubernetes.io/"))}


def _in_place_of(body: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What replaces the very version that was read; a Service keeps the address that it was given."""
    metadata = {**body["metadata"], "resourceVersion": there["metadata"]["resourceVersion"]}
    given = {k: v for k, v in (there.get("spec") or {}).items() if k in ("clusterIP", "clusterIPs")}
    spec = {"spec": {**given, **body["spec"]}} if "spec" in body else {}
    return {**body, "metadata": metadata, **spec}


def _sequence(raw: Mapping[str, Any]) -> int:
    return sequence_of(Deployment(msgspec.convert(raw["metadata"], Metadata)))


def _trouble_in(status: Mapping[str, Any]) -> str:
    """Why Kubernetes makes no pod for it: a quota, an admission."""
    failed = (each for each in status.get("conditions") or () if each.get("type") == "ReplicaFailure")
    found = next((each for each in failed if each.get("status") == "True"), None)
    return f"{found.get('reason')}: {found.get('message')}" if found is not None else ""


def _page(body: bytes) -> tuple[ListMetadata, Page]:
    found = _list.decode(body)
    seen = [Deployment(metadata=each.metadata) for each in found.items]
    return found.metadata, Page(seen, found.metadata.resource_version, is_whole=False)
