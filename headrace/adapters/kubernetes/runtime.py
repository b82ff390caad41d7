"""ports.FlinkRuntime for the Flink Kubernetes Operator: FlinkDeployments, read and written behind the fence."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import orjson

from headrace.adapters.kubernetes.api_server import JSON_PATCH, Answer, ApiServer, Unserved, refused
from headrace.adapters.kubernetes.following import ListMetadata, pages, told
from headrace.adapters.kubernetes.rights import Right, lacking
from headrace.domain.deployments import (
    JOB_LABEL,
    OPERATION_ANNOTATION,
    SEQUENCE_ANNOTATION,
    Deployment,
    Metadata,
    sequence_of,
    unreadable,
)
from headrace.domain.events import Event, event_seen, is_about
from headrace.domain.pods import Pod, pod_seen
from headrace.domain.runtime_reports import Process
from headrace.domain.runtimes.plan import Drive
from headrace.domain.snapshots import JOB_LABEL as SNAPSHOT_JOB_LABEL
from headrace.domain.snapshots import Snapshot, SnapshotResource, snapshot_of
from headrace.domain.state_on_hand import HaMetadata, ha_config_map, ha_metadata_in
from headrace.errors import CrdMissing, HistoryGone, Refused, Unavailable, Unreadable
from headrace.ports import (
    WHOLE_LOG,
    Anybodys,
    AsSeen,
    Change,
    Driven,
    EventSeen,
    Fence,
    LogPart,
    LogStream,
    Page,
    PodSeen,
    WatchEvent,
)

GROUP = "/apis/flink.apache.org/v1beta1"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/flinkdeployments.flink.apache.org"
WRITE = {"fieldManager": "headrace", "fieldValidation": "Strict"}
OURS = JOB_LABEL
"""A selector of what has the label, whatever it says. Who else manages a deployment stands in a label of its own, which
an adopted one keeps."""
VERSIONS_KEPT_SECONDS = 300.0
SNAPSHOTS_PAGE = 500
EVENTS_SHOWN, EVENTS_PAGE, EVENTS_PAGES = 500, 500, 20


RIGHTS: Mapping[Process, Sequence[Right]] = {
    Process.WORKER: (
        Right("flink.apache.org", "flinkdeployments", ("get", "create", "patch", "delete")),
        Right("flink.apache.org", "flinkstatesnapshots", ("list", "create", "delete")),
        Right("", "configmaps", ("get", "create", "update")),
        Right("", "secrets", ("create", "update")),
        Right("", "pods", ("list",)),
    ),
    Process.SYNC: (
        Right("flink.apache.org", "flinkdeployments", ("get", "list", "watch")),
        Right("", "pods", ("list",)),
    ),
}
"""What it takes to run jobs by the operator, of each process' account."""


class _List(msgspec.Struct):
    metadata: ListMetadata
    items: list[Deployment]


class _RawList(msgspec.Struct):
    metadata: ListMetadata
    items: list[msgspec.Raw]


class _Pods(msgspec.Struct):
    items: list[Pod]


class _Events(msgspec.Struct):
    metadata: ListMetadata
    items: list[Event]


class _Snapshots(msgspec.Struct):
    metadata: ListMetadata
    items: list[SnapshotResource]


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


class _Bookmark(msgspec.Struct):
    metadata: Metadata


_deployment = msgspec.json.Decoder(Deployment)
_list = msgspec.json.Decoder(_List)
_raw_list = msgspec.json.Decoder(_RawList)
_pods = msgspec.json.Decoder(_Pods)
_events = msgspec.json.Decoder(_Events)
_snapshot_list = msgspec.json.Decoder(_Snapshots)
_config_map = msgspec.json.Decoder(_ConfigMap)
_bookmark = msgspec.json.Decoder(_Bookmark)


def connect(kubeconfig: Path | None, timeout_seconds: float) -> OperatorRuntime:
    """A runtime over one pool of connections; nothing is opened before its first call. Raises ConfigurationError
    where that could not come right."""
    api = ApiServer(kubeconfig, timeout_seconds)
    api.check()
    return OperatorRuntime(api, timeout_seconds)


class OperatorRuntime:
    """See ports.FlinkRuntime."""

    owner = ("flink.apache.org/v1beta1", "FlinkDeployment")
    """What owns the files and secrets of a job."""

    def __init__(self, api: ApiServer, timeout_seconds: float) -> None:
        self._api = api
        self._timeout_seconds = timeout_seconds
        self._versions: tuple[float, Sequence[str]] = (0.0, ())

    def create(self, manifest: Mapping[str, Any]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        doing = f"creating FlinkDeployment {namespace}/{name}"
        try:
            answer = self._api.send("POST", _deployments(namespace), doing=doing, query=WRITE, body=manifest)
        except Unserved as error:
            self._refuse_without_crd(error)
            raise
        except Unavailable as error:
            return self._read_back(manifest, error)
        if answer.status == 409:
            return None
        if answer.status not in (200, 201):
            raise refused(answer, doing)
        return _read(answer.body)

    def _refuse_without_crd(self, error: Unserved) -> None:
        """What is not served may be on its way: only where the CRD itself is not there is another try in vain."""
        with suppress(Unavailable):
            answer = self._api.send("GET", CRD, doing="reading the FlinkDeployment CRD")
            if answer.status == 404:
                raise CrdMissing from error

    def _read_back(self, manifest: Mapping[str, Any], error: Unavailable) -> Deployment:
        """A create without an answer may have happened: the operation that stands there says so."""
        metadata = manifest["metadata"]
        found = self.get(metadata["namespace"], metadata["name"])
        written = (found.metadata.annotations or {}).get(OPERATION_ANNOTATION) if found else None
        if found is None or written != metadata["annotations"][OPERATION_ANNOTATION]:
            raise error
        return found

    def patch(self, namespace: str, name: str, fence: Fence | AsSeen, changes: Sequence[Change]) -> Deployment | None:
        """See ports.FlinkRuntime."""
        doing = f"patching FlinkDeployment {namespace}/{name}"
        operations = [*_tests(fence), *(_operation(change) for change in changes)]
        answer = self._api.send(
            "PATCH",
            f"{_deployments(namespace)}/{name}",
            doing=doing,
            query=WRITE,
            body=operations,
            content_type=JSON_PATCH,
        )
        if answer.status == 200:
            return _read(answer.body)
        if answer.status == 404:
            return None
        if answer.status in (409, 422):
            self._raise_if_the_schema_said_no(namespace, name, fence, changes, answer, doing)
            return None
        raise refused(answer, doing)

    def _raise_if_the_schema_said_no(
        self,
        namespace: str,
        name: str,
        fence: Fence | AsSeen,
        changes: Sequence[Change],
        answer: Answer,
        doing: str,
    ) -> None:
        """A 422 does not say why: where the fence holds and every path is there, it was the schema's."""
        live = self.get_whole(namespace, name)
        if answer.status == 409 or live is None:
            return
        if _holds(msgspec.convert(live, Deployment), fence) and all(_has_parent(live, change) for change in changes):
            raise refused(answer, doing)

    def get(self, namespace: str, name: str) -> Deployment | None:
        """See ports.FlinkRuntime."""
        body = self._get(namespace, name)
        return _read(body) if body is not None else None

    def get_whole(self, namespace: str, name: str) -> dict[str, Any] | None:
        """See ports.FlinkRuntime."""
        body = self._get(namespace, name)
        whole: dict[str, Any] | None = orjson.loads(body) if body is not None else None
        return whole

    def _get(self, namespace: str, name: str) -> bytes | None:
        doing = f"reading FlinkDeployment {namespace}/{name}"
        try:
            answer = self._api.send("GET", f"{_deployments(namespace)}/{name}", doing=doing)
        except Unserved as error:
            self._refuse_without_crd(error)
            raise
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refused(answer, doing)
        return answer.body

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime."""
        doing = f"deleting FlinkDeployment {namespace}/{name}"
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        answer = self._api.send("DELETE", f"{_deployments(namespace)}/{name}", doing=doing, body=body)
        if answer.status in (404, 409):
            return False
        if answer.status not in (200, 202):
            raise refused(answer, doing)
        return True

    def put_files(self, deployment: Deployment, name: str, files: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """See ports.FlinkRuntime."""
        self._put_owned("ConfigMap", deployment, name, labels, {"data": dict(files)})

    def put_secret(
        self, deployment: Deployment, name: str, values: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """See ports.FlinkRuntime."""
        self._put_owned("Secret", deployment, name, labels, {"type": "Opaque", "data": _base64(values)})

    def _put_owned(
        self, kind: str, deployment: Deployment, name: str, labels: Mapping[str, str], content: Mapping[str, Any]
    ) -> None:
        namespace = deployment.metadata.namespace
        owner = {"apiVersion": self.owner[0], "kind": self.owner[1]}
        body = {"apiVersion": "v1", "kind": kind, "metadata": _owned(deployment, owner, name, labels), **content}
        path, doing = f"/api/v1/namespaces/{namespace}/{kind.lower()}s", f"writing {kind} {namespace}/{name}"
        answer = self._api.send("POST", path, doing=doing, query=WRITE, body=body)
        if answer.status == 409:
            answer = self._api.send("PUT", f"{path}/{name}", doing=doing, query=WRITE, body=body)
        if answer.status not in (200, 201):
            raise refused(answer, doing)

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        """See ports.FlinkRuntime."""
        doing = f"listing FlinkDeployments in {namespace}"
        return pages(self._api, _deployments(namespace), OURS, limit, doing, _page)

    def list_anybodys(self, namespace: str, limit: int, after: str = "") -> Anybodys:
        """See ports.FlinkRuntime."""
        doing = f"listing FlinkDeployments in {namespace}"
        query: dict[str, str | int] = {"limit": limit, **({"continue": after} if after else {})}
        answer = self._api.send("GET", _deployments(namespace), doing=doing, query=query)
        if answer.status == 410:
            raise HistoryGone("this cursor is too old to go on from; list again from the beginning")
        if answer.status != 200:
            raise refused(answer, doing)
        found = orjson.loads(answer.body)
        return Anybodys(found["items"], found["metadata"].get("continue") or "")

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        """See ports.FlinkRuntime."""
        doing = f"watching FlinkDeployments in {namespace}"
        bound = timeout_seconds + self._timeout_seconds
        for kind, body in told(
            self._api, _deployments(namespace), OURS, resource_version, timeout_seconds, bound, doing
        ):
            yield _bookmark_of(body) if kind == "BOOKMARK" else _event_of(kind, body)

    def pods(self, namespace: str, name: str, labels: Mapping[str, str]) -> Sequence[PodSeen]:
        """See ports.FlinkRuntime."""
        doing = f"reading the pods of {namespace}/{name}"
        selector = ",".join(f"{label}={value}" for label, value in {"app": name, **labels}.items())
        query: dict[str, str | int] = {"labelSelector": selector, "limit": 200}
        answer = self._api.send("GET", f"/api/v1/namespaces/{namespace}/pods", doing=doing, query=query)
        if answer.status != 200:
            raise refused(answer, doing)
        found = [pod_seen(pod) for pod in _pods.decode(answer.body).items]
        return sorted(found, key=lambda pod: (pod.started_at is None, pod.started_at or 0, pod.name), reverse=True)

    def logs(self, namespace: str, pod: str, container: str, wanted: LogPart = WHOLE_LOG) -> LogStream | None:
        """See ports.FlinkRuntime."""
        path, doing = f"/api/v1/namespaces/{namespace}/pods/{pod}/log", f"reading the log of {container} in {pod}"
        numbers = {
            "tailLines": wanted.tail_lines,
            "sinceSeconds": wanted.since_seconds,
            "limitBytes": wanted.limit_bytes,
        }
        flags = {"previous": wanted.previous, "timestamps": wanted.timestamps, "follow": wanted.follow_seconds > 0}
        query: dict[str, str | int] = {"container": container}
        query |= {name: number for name, number in numbers.items() if number is not None}
        query |= {name: "true" for name, flag in flags.items() if flag}
        if wanted.follow_seconds > 0:
            found = self._api.pieces(path, doing=doing, query=query, bound_seconds=wanted.follow_seconds)
            return _no_log(found, doing) if isinstance(found, Answer) else found or _Whole(b"")
        answer = self._api.send("GET", path, doing=doing, query=query)
        return _Whole(answer.body) if answer.status == 200 else _no_log(answer, doing)

    def events(self, namespace: str, name: str) -> Sequence[EventSeen]:
        """See ports.FlinkRuntime. No selector finds the pods that are gone, so the namespace's events are read through,
        within a bound."""
        doing = f"listing the events of {namespace}/{name}"
        query: dict[str, str | int] = {"limit": EVENTS_PAGE}
        found: list[EventSeen] = []
        for _ in range(EVENTS_PAGES):
            answer = self._api.send("GET", f"/api/v1/namespaces/{namespace}/events", doing=doing, query=query)
            if answer.status != 200:
                raise refused(answer, doing)
            page = _events.decode(answer.body)
            found += [event_seen(event) for event in page.items if is_about(event, name)]
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        return sorted(found, key=lambda event: event.at)[-EVENTS_SHOWN:]

    def pod_events(self, namespace: str, pod: str) -> Sequence[EventSeen]:
        """See ports.FlinkRuntime."""
        doing = f"listing the events of pod {namespace}/{pod}"
        query: dict[str, str | int] = {"fieldSelector": f"involvedObject.name={pod}", "limit": EVENTS_PAGE}
        answer = self._api.send("GET", f"/api/v1/namespaces/{namespace}/events", doing=doing, query=query)
        if answer.status != 200:
            raise refused(answer, doing)
        found = [event for event in _events.decode(answer.body).items if event.involved_object.kind == "Pod"]
        return sorted(map(event_seen, found), key=lambda event: event.at)

    def create_snapshot(self, manifest: Mapping[str, Any]) -> bool:
        """See ports.FlinkRuntime."""
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        doing = f"creating FlinkStateSnapshot {namespace}/{name}"
        answer = self._api.send("POST", _snapshots(namespace), doing=doing, query=WRITE, body=manifest)
        if answer.status not in (200, 201, 409):
            raise refused(answer, doing)
        return answer.status != 409

    def snapshots_of(self, namespace: str, name: str) -> Sequence[Snapshot] | None:
        """See ports.FlinkRuntime. What is not served may be on its way: until it is, there is none of the kind."""
        doing = f"listing the FlinkStateSnapshots of {namespace}/{name}"
        query: dict[str, str | int] = {"limit": SNAPSHOTS_PAGE, "labelSelector": f"{SNAPSHOT_JOB_LABEL}={name}"}
        found: list[Snapshot] = []
        while True:
            try:
                answer = self._api.send("GET", _snapshots(namespace), doing=doing, query=query)
            except Unserved:
                return None
            if answer.status != 200:
                raise refused(answer, doing)
            page = _snapshot_list.decode(answer.body)
            found += [snapshot_of(each) for each in page.items]
            if not page.metadata.continue_:
                return sorted(found, key=lambda each: each.order)
            query["continue"] = page.metadata.continue_

    def delete_snapshot(self, namespace: str, snapshot: Snapshot) -> bool:
        """See ports.FlinkRuntime."""
        doing = f"deleting FlinkStateSnapshot {namespace}/{snapshot.name}"
        as_seen = {"uid": snapshot.uid, "resourceVersion": snapshot.resource_version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": as_seen}
        answer = self._api.send("DELETE", f"{_snapshots(namespace)}/{snapshot.name}", doing=doing, body=body)
        if answer.status in (404, 409):
            return False
        if answer.status not in (200, 202):
            raise refused(answer, doing)
        return True

    def ha_metadata(self, namespace: str, name: str, flink_job_id: str) -> HaMetadata | None:
        """See ports.FlinkRuntime."""
        config_map = ha_config_map(name, flink_job_id)
        doing = f"reading ConfigMap {namespace}/{config_map}"
        answer = self._api.send("GET", f"/api/v1/namespaces/{namespace}/configmaps/{config_map}", doing=doing)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refused(answer, doing)
        try:
            data = _config_map.decode(answer.body).data
        except msgspec.MsgspecError:
            return None
        return ha_metadata_in(flink_job_id, data or {})

    def flink_versions(self) -> Sequence[str]:
        """See ports.FlinkRuntime."""
        read_at, versions = self._versions
        if read_at and time.monotonic() - read_at < VERSIONS_KEPT_SECONDS:
            return versions
        doing = "reading the FlinkDeployment CRD"
        answer = self._api.send("GET", CRD, doing=doing)
        if answer.status == 403:  # a namespaced Role may not read CRDs: the operator's validation decides
            self._versions = (time.monotonic(), ())
            return ()
        if answer.status == 404:
            raise CrdMissing
        if answer.status != 200:
            raise refused(answer, doing)
        found = _enum(orjson.loads(answer.body))
        self._versions = (time.monotonic(), found)
        return found

    def lacks(self, namespace: str, process: Process) -> Sequence[str]:
        """See ports.FlinkRuntime."""
        answer = self._api.send("GET", CRD, doing="reading the FlinkDeployment CRD")
        if answer.status == 404:
            return [str(CrdMissing())]
        return lacking(self._api, namespace, RIGHTS.get(process, ()))

    def drive(self, namespace: str, name: str, uid: str, drive: Drive) -> Driven:
        """See ports.FlinkRuntime."""
        raise AssertionError(f"{namespace}/{name}: {drive.act} is the operator's to do")

    def ask_job_manager(
        self, method: str, namespace: str, name: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Answer:
        """A request to a JobManager's REST API through the API server's proxy, for who is outside of the cluster:
        whatever status came. Needs the verb for the method (`get`, `create`, `update`) on services/proxy. Raises
        Unavailable."""
        service = f"/api/v1/namespaces/{namespace}/services/{name}-rest:rest/proxy"
        doing = f"asking the JobManager of {namespace}/{name}"
        return self._api.send_through(method, service + path, doing=doing, body=body)


class _Whole:
    """ports.LogStream of what was read at once."""

    def __init__(self, body: bytes) -> None:
        self._left = iter([body] if body else [])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._left)

    def close(self) -> None:
        """See ports.LogStream."""
        self._left = iter([])


def _no_log(answer: Answer, doing: str) -> LogStream | None:
    """None where the pod is gone; else it is a refusal. An API server answers 204 for a pod without a node."""
    if answer.status == 204:
        raise Refused(f"there is nothing to see while {doing}: the pod is not scheduled to a node yet")
    about = answer.problem.details
    if answer.status == 404 and about is not None and about.kind == "pods":
        return None
    raise refused(answer, doing)


def _deployments(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/flinkdeployments"


def _snapshots(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/flinkstatesnapshots"


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _holds(seen: Deployment, fence: Fence | AsSeen) -> bool:
    if isinstance(fence, AsSeen):
        return (seen.metadata.uid, seen.metadata.resource_version) == (fence.uid, fence.resource_version)
    return (seen.metadata.uid, sequence_of(seen)) == (fence.uid, fence.sequence)


def _tests(fence: Fence | AsSeen) -> list[dict[str, Any]]:
    if isinstance(fence, AsSeen):
        return [
            {"op": "test", "path": "/metadata/uid", "value": fence.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": fence.resource_version},
        ]
    sequence = ("metadata", "annotations", SEQUENCE_ANNOTATION)
    return [
        {"op": "test", "path": "/metadata/uid", "value": fence.uid},
        {"op": "test", "path": _pointer(sequence), "value": str(fence.sequence)},
    ]


def _operation(change: Change) -> dict[str, Any]:
    if change.removed:
        return {"op": "remove", "path": _pointer(change.path)}
    return {"op": "add", "path": _pointer(change.path), "value": change.value}


def _has_parent(live: Mapping[str, Any], change: Change) -> bool:
    at: Any = live
    for key in change.path[:-1]:
        at = at.get(key) if isinstance(at, Mapping) else None
    return isinstance(at, Mapping) and (not change.removed or change.path[-1] in at)


def _bookmark_of(body: msgspec.Raw) -> WatchEvent:
    return WatchEvent("BOOKMARK", Deployment(metadata=_bookmark.decode(body).metadata))


def _read(body: bytes | msgspec.Raw) -> Deployment:
    try:
        return _deployment.decode(body)
    except msgspec.ValidationError as error:
        raise unreadable(error) from error


def _event_of(kind: str, body: bytes | msgspec.Raw) -> WatchEvent:
    """What cannot be read is that deployment's trouble, and not that of the others in the list or the watch."""
    try:
        return WatchEvent(kind, _read(body))
    except Unreadable as error:
        return WatchEvent("UNREADABLE", Deployment(metadata=_bookmark.decode(body).metadata), str(error))


def _page(body: bytes) -> tuple[ListMetadata, Page]:
    """Decoded at once; one by one only where one of them cannot be read."""
    try:
        whole = _list.decode(body)
    except msgspec.ValidationError:
        raw = _raw_list.decode(body)
        events = [_event_of("MODIFIED", item) for item in raw.items]
        found = [event.deployment for event in events if event.kind != "UNREADABLE"]
        rest = [event for event in events if event.kind == "UNREADABLE"]
        return raw.metadata, Page(found, raw.metadata.resource_version, rest)
    return whole.metadata, Page(whole.items, whole.metadata.resource_version)


def _owned(deployment: Deployment, kind: Mapping[str, str], name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of what goes when its deployment, of this kind, goes."""
    owner = {
        **kind,
        "name": deployment.metadata.name,
        "uid": deployment.metadata.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner],
    }


def _base64(values: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}


def _enum(definition: Mapping[str, Any]) -> Sequence[str]:
    served = [version for version in definition["spec"]["versions"] if version.get("served")]
    spec = served[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return tuple(str(value) for value in spec.get("flinkVersion", {}).get("enum", ()))
