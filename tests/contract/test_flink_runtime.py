"""What every FlinkRuntime promises: in memory, on the small Kubernetes API and on a real kube-apiserver, with the
CRDs of the newest operator and of the oldest.

What no dictionary has (strict validation, finalizers, answers that are lost) is shown on the servers alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.adapters.kubernetes import connect
from headrace.adapters.native import NativeRuntime
from headrace.domain.deployments import (
    JOB_LABEL,
    OPERATION_ANNOTATION,
    SEQUENCE_ANNOTATION,
    TENANT_LABEL,
    Deployment,
    sequence_of,
)
from headrace.domain.pods import default_container
from headrace.domain.runtime_reports import Process
from headrace.domain.snapshots import snapshot_manifest
from headrace.domain.state_on_hand import HaMetadata
from headrace.errors import HistoryGone, Refused, Unavailable
from headrace.ports import AsSeen, Change, Fence, LogPart, WatchEvent
from headrace.testing import InMemoryRuntime
from local.kubernetes_api.faults import Fault, FaultKind
from local.process import free_port
from tests.support.clusters import CORE, DEPLOYMENTS, MAIN, Cluster, cluster
from tests.support.given import JOB
from tests.support.patience import REQUEST_SECONDS, wait_for

LONG_SECONDS = 600.0
"""For what is ended otherwise: longer than a test waits for that."""

GOLDEN = Path(__file__).parent.parent / "data" / "golden" / "file.yaml"
SEQUENCE = ("metadata", "annotations", SEQUENCE_ANNOTATION)
PARALLELISM = ("spec", "job", "parallelism")

on_servers = pytest.mark.parametrize("place", ["local", "real", "oldest"], indirect=True)
on_real_ones = pytest.mark.parametrize("place", ["real", "oldest"], indirect=True)
of_the_operator = pytest.mark.parametrize("place", ["memory", "local", "real", "oldest"], indirect=True)
"""What native mode has none of (what others made, snapshots, a CRD), or shows by a look alone."""

where_there_are_logs = pytest.mark.parametrize("place", ["memory", "local"], indirect=True)
"""A kube-apiserver has logs from a kubelet alone."""

on_the_small_api = pytest.mark.parametrize("place", ["local"], indirect=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Clusters by their kind, each started once, when a test first asks for it."""
    running: dict[str, Any] = {"folder": tmp_path_factory.mktemp("clusters")}
    yield running
    for kind, manager in running.items():
        if kind != "folder":
            manager[1].__exit__(None, None, None)


@pytest.fixture(params=["memory", "local", "real", "oldest", "native-memory", "native-local", "native-real"])
def place(request: pytest.FixtureRequest, places: dict[str, Any]) -> Cluster:
    if request.param not in places:
        folder = places["folder"] / request.param
        folder.mkdir(exist_ok=True)
        manager = cluster(request.param, folder)
        places[request.param] = (manager.__enter__(), manager)
    found: Cluster = places[request.param][0]
    return found


@pytest.fixture
def name() -> str:
    return f"job-{uuid.uuid4().hex[:10]}"


def manifest(name: str, sequence: int = 1) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    made["metadata"] |= {"name": name, "namespace": "default"}
    made["spec"]["flinkVersion"] = "v1_20"  # each CRD knows it
    made["metadata"]["annotations"] |= {
        SEQUENCE_ANNOTATION: str(sequence),
        OPERATION_ANNOTATION: f"operation-of-{name}",
    }
    return made


def of_helm(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A deployment that somebody else made, without an annotation."""
    made = manifest(name)
    made["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm", **(labels or {})}
    made["metadata"].pop("annotations")
    return made


def applied(place: Cluster, name: str) -> Deployment:
    """Such a one, as it is there: whoever made it used no call of ours."""
    if place.http is None:
        place.runtime.create(of_helm(name))
    else:
        place.http.post(DEPLOYMENTS, json=of_helm(name)).raise_for_status()
    found = place.runtime.get("default", name)
    assert found is not None
    return found


def as_seen(deployment: Deployment) -> AsSeen:
    return AsSeen(deployment.metadata.uid, deployment.metadata.resource_version)


def created(place: Cluster, name: str) -> Deployment:
    found = place.runtime.create(manifest(name))
    assert found is not None
    return found


def told(place: Cluster, version: str, is_last: Callable[[WatchEvent], bool]) -> list[WatchEvent]:
    """What a watch tells from a version on, without bookmarks, up to what is awaited: how long a
    server takes to tell of it is its own affair."""
    found = []
    watch: Any = place.runtime.watch("default", version, int(REQUEST_SECONDS))
    with closing(watch):
        for event in watch:
            if event.kind != "BOOKMARK":
                found.append(event)
            if is_last(event):
                return found
    raise AssertionError(f"it told of {found} alone")


def fence(deployment: Deployment) -> Fence:
    return Fence(deployment.metadata.uid, sequence_of(deployment))


def to(sequence: int, parallelism: int = 7) -> list[Change]:
    return [Change(SEQUENCE, str(sequence)), Change(PARALLELISM, parallelism)]


def test_a_created_deployment_is_read_as_it_was_asked_for(place: Cluster, name: str) -> None:
    made = created(place, name)
    assert (made.metadata.generation, sequence_of(made)) == (1, 1)
    read = place.runtime.get("default", name)
    assert read is not None
    assert read.metadata.uid == made.metadata.uid
    whole = place.runtime.get_whole("default", name)
    assert whole is not None
    assert whole["spec"] == manifest(name)["spec"]


def test_creating_again_creates_nothing(place: Cluster, name: str) -> None:
    made = created(place, name)
    assert place.runtime.create(manifest(name, sequence=9)) is None
    assert place.runtime.get("default", name) == made


def test_of_ten_creates_at_once_one_happens(place: Cluster, name: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda n: place.runtime.create(manifest(name, n + 1)), range(10)))
    assert sum(each is not None for each in found) == 1


def snapshot_asked_for(name: str, sequence: int = 7) -> dict[str, Any]:
    job = replace(JOB, deployment_name=name, namespace="default")
    return snapshot_manifest(job, sequence, {OPERATION_ANNOTATION: f"operation-of-{name}"})


@of_the_operator
def test_a_snapshot_is_made_once_and_found_by_its_deployment(place: Cluster, name: str) -> None:
    serves_snapshots(place)
    created(place, name)
    assert place.runtime.snapshots_of("default", name) == []
    assert place.runtime.create_snapshot(snapshot_asked_for(name))
    assert not place.runtime.create_snapshot(snapshot_asked_for(name))
    assert place.runtime.create_snapshot(snapshot_asked_for(name, 8))
    first, second = place.runtime.snapshots_of("default", name) or ()
    assert (first.name, second.name) == (f"{name}-savepoint-7", f"{name}-savepoint-8")
    assert (first.operation, first.state, first.path, first.format) == (f"operation-of-{name}", "", "", "CANONICAL")
    assert not first.is_taken
    assert place.runtime.snapshots_of("default", f"{name}-2") == []


@of_the_operator
def test_a_snapshot_that_is_not_as_it_was_seen_is_not_deleted(place: Cluster, name: str) -> None:
    serves_snapshots(place)
    assert place.runtime.create_snapshot(snapshot_asked_for(name))
    (seen,) = place.runtime.snapshots_of("default", name) or ()
    assert not place.runtime.delete_snapshot("default", replace(seen, resource_version="1"))
    assert place.runtime.delete_snapshot("default", seen)
    assert not place.runtime.delete_snapshot("default", seen)
    assert place.runtime.snapshots_of("default", name) == []


def serves_snapshots(place: Cluster) -> None:
    if isinstance(place.runtime, InMemoryRuntime):
        place.runtime.has_snapshots = True


def test_a_cluster_without_the_kind_says_so(name: str) -> None:
    assert InMemoryRuntime().snapshots_of("default", name) is None


@pytest.mark.parametrize("process", [Process.WORKER, Process.SYNC])
def test_an_account_that_may_do_everything_lacks_nothing(place: Cluster, process: Process) -> None:
    assert list(place.runtime.lacks("default", process)) == []


def test_what_is_absent_is_none(place: Cluster, name: str) -> None:
    assert place.runtime.get("default", name) is None
    assert place.runtime.get_whole("default", name) is None
    assert place.runtime.patch("default", name, Fence("u", 1), to(2)) is None
    assert not place.runtime.delete("default", name, "u")


def test_a_patch_behind_its_fence_changes_the_deployment(place: Cluster, name: str) -> None:
    made = created(place, name)
    patched = place.runtime.patch("default", name, fence(made), to(2))
    assert patched is not None
    assert (sequence_of(patched), patched.metadata.generation) == (2, 2)
    whole = place.runtime.get_whole("default", name)
    assert whole is not None
    assert whole["spec"]["job"]["parallelism"] == 7


@of_the_operator
def test_a_patch_on_the_version_that_was_seen_makes_its_first_annotations_and_no_generation(
    place: Cluster, name: str
) -> None:
    made = applied(place, name)
    marks = [
        Change(("metadata", "annotations"), {SEQUENCE_ANNOTATION: "1"}),
        Change(("metadata", "labels", JOB_LABEL), "x"),
    ]
    patched = place.runtime.patch("default", name, as_seen(made), marks)
    assert patched is not None
    assert (sequence_of(patched), patched.metadata.generation) == (1, made.metadata.generation)
    assert patched.metadata.labels == {"app.kubernetes.io/managed-by": "Helm", JOB_LABEL: "x"}
    back = [Change(SEQUENCE, removed=True), Change(("metadata", "labels", JOB_LABEL), removed=True)]
    given_back = place.runtime.patch("default", name, fence(patched), back)
    assert given_back is not None
    assert given_back.metadata.generation == made.metadata.generation
    assert (given_back.metadata.annotations or {}, given_back.metadata.labels) == ({}, made.metadata.labels)


@of_the_operator
@pytest.mark.parametrize("stale", ["uid", "resourceVersion"])
def test_a_version_that_is_not_the_newest_changes_nothing(place: Cluster, name: str, stale: str) -> None:
    made = applied(place, name)
    place.set_status(name, {"lifecycleState": "STABLE"})
    now = place.runtime.get("default", name)
    assert now is not None
    old = as_seen(made) if stale == "resourceVersion" else AsSeen("another", now.metadata.resource_version)
    assert place.runtime.patch("default", name, old, [Change(("metadata", "labels", JOB_LABEL), "x")]) is None
    assert place.runtime.get("default", name) == now


@of_the_operator
def test_anybodys_deployments_are_listed_page_by_page(place: Cluster, name: str) -> None:
    names = {f"{name}-{n}" for n in range(5)}
    for each in names:
        applied(place, each)
    created(place, f"{name}-ours")
    listed, after, pages = [], "", 0
    while pages == 0 or after:
        page = place.runtime.list_anybodys("default", 2, after)
        assert len(page.deployments) <= 2
        listed += [whole["metadata"]["name"] for whole in page.deployments]
        after, pages = page.further, pages + 1
    assert {each for each in listed if each.startswith(name)} == names | {f"{name}-ours"}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("stale", ["uid", "sequence"])
def test_a_fence_that_does_not_hold_changes_nothing(place: Cluster, name: str, stale: str) -> None:
    made = created(place, name)
    old = Fence(str(uuid.uuid4()), 1) if stale == "uid" else Fence(made.metadata.uid, 2)
    assert place.runtime.patch("default", name, old, to(3)) is None
    assert place.runtime.get("default", name) == made


def test_a_drifted_shape_is_none_and_changes_nothing(place: Cluster, name: str) -> None:
    made = created(place, name)
    changes = [*to(2), Change(("spec", "podTemplate", "spec", "gone", "x"), 1)]
    assert place.runtime.patch("default", name, fence(made), changes) is None
    assert place.runtime.patch("default", name, fence(made), [Change(("spec", "absent"), removed=True)]) is None
    assert place.runtime.get("default", name) == made


def test_removing_takes_a_key_away_and_slashes_are_part_of_keys(place: Cluster, name: str) -> None:
    made = created(place, name)
    key = ("spec", "flinkConfiguration", "a/b~c")
    second = place.runtime.patch("default", name, fence(made), [*to(2), Change(key, "x")])
    assert second is not None
    written = place.runtime.get_whole("default", name)
    assert written is not None
    assert written["spec"]["flinkConfiguration"]["a/b~c"] == "x"
    assert place.runtime.patch("default", name, fence(second), [*to(3), Change(key, removed=True)]) is not None
    left = place.runtime.get_whole("default", name)
    assert left is not None
    assert "a/b~c" not in left["spec"]["flinkConfiguration"]


def test_a_fenced_patch_holds_though_the_status_changes_all_the_time(place: Cluster, name: str) -> None:
    made = created(place, name)
    with place.status_writer(name) as written:
        for sequence in range(2, 12):
            before = written()
            wait_for("the status to change", lambda before=before: written() > before)
            patched = place.runtime.patch("default", name, Fence(made.metadata.uid, sequence - 1), to(sequence))
            assert patched is not None
            assert sequence_of(patched) == sequence


def test_of_racing_patches_from_one_fence_one_applies(place: Cluster, name: str) -> None:
    made = created(place, name)
    with place.status_writer(name), ThreadPoolExecutor(3) as pool:
        patch = lambda sequence: place.runtime.patch("default", name, fence(made), to(sequence))  # noqa: E731
        found = [each for each in pool.map(patch, (2, 3, 4)) if each is not None]
    assert len(found) == 1
    live = place.runtime.get("default", name)
    assert live is not None
    assert sequence_of(live) == sequence_of(found[0])


def test_a_delete_names_the_uid_that_it_means(place: Cluster, name: str) -> None:
    made = created(place, name)
    assert not place.runtime.delete("default", name, str(uuid.uuid4()))
    assert place.runtime.get("default", name) is not None
    assert place.runtime.delete("default", name, made.metadata.uid)
    wait_for("it to be gone", lambda: place.runtime.get("default", name) is None)
    assert not place.runtime.delete("default", name, made.metadata.uid)


def test_files_are_written_again_with_another_content(place: Cluster, name: str) -> None:
    made = created(place, name)
    for content in ("one", "two"):
        place.runtime.put_files(
            made, f"{name}-files", {"job.py": content}, {"app.kubernetes.io/managed-by": "headrace"}
        )
    if place.http is not None:
        stored = place.http.get(f"/api/v1/namespaces/default/configmaps/{name}-files").json()
        assert stored["data"] == {"job.py": "two"}
        assert stored["metadata"]["ownerReferences"][0]["uid"] == made.metadata.uid


@pytest.mark.parametrize(
    ("data", "newest"),
    [
        (None, None),
        ({"counter": "9", "jobGraph-x": "{}"}, None),
        ({"counter": "13", "checkpointID-0000000000000000009": "rO0", "checkpointID-0000000000000000012": "rO0"}, 12),
    ],
    ids=["no data", "no checkpoint", "two checkpoints"],
)
def test_flinks_ha_metadata_tell_the_newest_checkpoint(
    place: Cluster, name: str, data: dict[str, str] | None, newest: int | None
) -> None:
    flink_job_id = "a" * 32
    assert place.runtime.ha_metadata("default", name, flink_job_id) is None
    place.put_config_map(f"{name}-{flink_job_id}-config-map", data)
    assert place.runtime.ha_metadata("default", name, flink_job_id) == HaMetadata(flink_job_id, newest)
    assert place.runtime.ha_metadata("default", name, "b" * 32) is None


def test_pages_are_one_list_of_ours_alone(place: Cluster, name: str) -> None:
    names = {f"{name}-{n}" for n in range(7)}
    for each in names:
        created(place, each)
    foreign = manifest(f"{name}-foreign")
    del foreign["metadata"]["labels"][JOB_LABEL]
    place.runtime.create(foreign)
    place.runtime.create(of_helm(f"{name}-adopted", labels={JOB_LABEL: "x"}))
    names.add(f"{name}-adopted")
    pages = list(place.runtime.list_pages("default", limit=3))
    listed = [d.metadata.name for page in pages for d in page.deployments]
    assert len(pages) > 2
    assert len(listed) == len(set(listed))
    assert names == {each for each in listed if each.startswith(name)}
    assert len({page.resource_version for page in pages}) == 1


@of_the_operator
def test_a_watch_gives_what_came_after_the_list(place: Cluster, name: str) -> None:
    version = list(place.runtime.list_pages("default"))[-1].resource_version
    made = created(place, name)
    place.set_status(name, {"lifecycleState": "STABLE"})
    place.runtime.delete("default", name, made.metadata.uid)
    events = told(place, version, lambda event: event.kind == "DELETED")
    assert [(e.kind, e.deployment.metadata.name) for e in events] == [
        ("ADDED", name),
        ("MODIFIED", name),
        ("DELETED", name),
    ]
    status = events[1].deployment.status
    assert status is not None
    assert status.lifecycle_state == "STABLE"


@pytest.mark.parametrize(
    "place", ["memory", "local", "real", "oldest", "native-memory", "native-local"], indirect=True
)  # a kube-apiserver that has just begun has all of its history of Deployments
def test_a_watch_from_forgotten_history_says_so(place: Cluster, name: str) -> None:
    created(place, name)
    if place.http is None:
        place.runtime.forget_history()  # type: ignore[attr-defined]
        with pytest.raises(HistoryGone):
            list(place.runtime.watch("default", "0", int(REQUEST_SECONDS)))
        return
    if place.local is not None:
        resource = "deployments" if isinstance(place.runtime, NativeRuntime) else "flinkdeployments"
        place.local.inject(Fault(FaultKind.GONE, verb="watch", resource=resource))
    with pytest.raises(HistoryGone):
        list(place.runtime.watch("default", "1", int(REQUEST_SECONDS)))


@on_real_ones
def test_a_list_that_etcd_has_forgotten_the_rest_of_is_whole_or_says_so(place: Cluster, name: str) -> None:
    """Its first page is of a version that is gone by the second."""
    names = {f"{name}-{n}" for n in range(3)}
    for each in names:
        created(place, each)
    pages = place.runtime.list_pages("default", limit=1)
    listed = [d.metadata.name for d in next(pages).deployments]
    created(place, f"{name}-late")
    assert place.server is not None
    place.server.forget_history()
    with suppress(HistoryGone):
        listed += [d.metadata.name for page in pages for d in page.deployments]
        assert names == {each for each in listed if each in names}
        assert len(listed) == len(set(listed))


@on_real_ones
def test_a_watch_goes_on_from_its_bookmark(place: Cluster, name: str) -> None:
    """What others changed meanwhile moves it, though nothing of it is ours."""
    version = list(place.runtime.list_pages("default"))[-1].resource_version
    applied(place, name)
    ours = created(place, f"{name}-ours")

    def told_of_ours() -> list[WatchEvent]:
        events = list(place.runtime.watch("default", version, 2))
        return events if any(event.kind == "ADDED" for event in events) else []

    events = wait_for("a watch that ends to have told of ours", told_of_ours)
    assert [e.deployment.metadata.name for e in events if e.kind == "ADDED"] == [ours.metadata.name]
    after = events[-1].deployment.metadata.resource_version
    place.set_status(f"{name}-ours", {"lifecycleState": "STABLE"})
    again = told(place, after, lambda event: event.kind == "MODIFIED")
    assert [(e.kind, e.deployment.metadata.name) for e in again] == [("MODIFIED", ours.metadata.name)]


@on_real_ones
def test_a_status_is_not_written_by_who_writes_the_spec(place: Cluster, name: str) -> None:
    """It is a subresource: what a manifest says of it is nobody's word."""
    told = manifest(name)
    told["status"] = {"lifecycleState": "STABLE"}
    made = place.runtime.create(told)
    assert made is not None
    assert made.status is None
    change = Change(("status",), {"lifecycleState": "FAILED"})
    patched = place.runtime.patch("default", name, fence(made), [Change(SEQUENCE, "2"), change])
    assert patched is not None
    assert patched.status is None
    place.set_status(name, {"lifecycleState": "STABLE"})
    seen = place.runtime.get("default", name)
    assert seen is not None
    assert seen.status is not None
    assert (seen.status.lifecycle_state, seen.metadata.generation) == ("STABLE", patched.metadata.generation)


@on_real_ones
@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json-patch+json"])
def test_a_patch_of_either_kind_with_a_field_that_the_crd_does_not_know_is_refused(
    place: Cluster, name: str, content_type: str
) -> None:
    """With strict validation. Without it the field is dropped and nobody is told, which is why we ask for it."""
    made = created(place, name)
    assert place.http is not None
    merge = {"spec": {"paralelism": 2}}
    body: Any = merge if "merge" in content_type else [{"op": "add", "path": "/spec/paralelism", "value": 2}]
    headers = {"Content-Type": content_type}
    path = f"{DEPLOYMENTS}/{name}"
    strict = place.http.patch(path, json=body, headers=headers, params={"fieldValidation": "Strict"})
    assert strict.status_code in (400, 422)
    assert "paralelism" in strict.text
    place.http.patch(path, json=body, headers=headers).raise_for_status()
    now = place.runtime.get_whole("default", name)
    assert now is not None
    assert "paralelism" not in now["spec"]
    with pytest.raises(Refused, match="paralelism"):
        place.runtime.patch("default", name, fence(made), [Change(SEQUENCE, "2"), Change(("spec", "paralelism"), 2)])


@of_the_operator
def test_the_crds_flink_versions_are_known(place: Cluster) -> None:
    versions = set(place.runtime.flink_versions())
    assert "v1_20" in versions
    is_the_oldest = place.server is not None and "v2_0" not in versions
    assert ("v2_2" in versions) is not is_the_oldest


def test_no_pods_are_no_trouble(place: Cluster, name: str) -> None:
    created(place, name)
    assert place.runtime.pods("default", name, {}) == []


def test_the_pods_of_a_deployment_are_seen_with_what_runs_in_them(place: Cluster, name: str) -> None:
    place.run_pod(f"{name}-5d6885bb49-blqsx", name)
    place.run_pod(f"{name}-taskmanager-1-1", name, "taskmanager")
    place.run_pod(f"{name}-2-taskmanager-1-1", f"{name}-2", "taskmanager")
    found = {pod.component: pod for pod in place.runtime.pods("default", name, {})}
    assert set(found) == {"jobmanager", "taskmanager"}
    manager = found["jobmanager"]
    assert (manager.name, manager.phase, manager.ready, manager.restarts) == (
        f"{name}-5d6885bb49-blqsx",
        "Running",
        True,
        0,
    )
    assert manager.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert [(each.name, each.is_init, each.is_running) for each in manager.containers] == [(MAIN, False, True)]
    assert manager.reason == ""
    assert place.runtime.pods("default", f"{name}-3", {}) == []


def test_the_pods_of_a_deployment_are_those_that_have_the_jobs_labels_too(place: Cluster, name: str) -> None:
    place.run_pod(f"{name}-1", name)
    ours = {JOB_LABEL: name, TENANT_LABEL: "default"}
    assert [pod.name for pod in place.runtime.pods("default", name, ours)] == [f"{name}-1"]
    assert place.runtime.pods("default", name, {**ours, JOB_LABEL: "another"}) == []
    assert place.runtime.pods("default", name, {**ours, TENANT_LABEL: "another"}) == []


def test_a_pod_that_cannot_start_says_why_and_in_which_container(place: Cluster, name: str) -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "SCRIPT_URL https://x/y.py answered 404"}}
    common = {"ready": False, "image": "flink", "imageID": ""}
    fetch = {"name": "fetch", "restartCount": 2, "state": waiting, "lastState": ended, **common}
    main = {"name": MAIN, "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}, **common}
    status = {"phase": "Pending", "initContainerStatuses": [fetch], "containerStatuses": [main]}
    spec = {
        "containers": [{"name": MAIN, "image": "flink"}],
        "initContainers": [{"name": "fetch", "image": "flink"}],
    }
    place.put_pod(f"{name}-5d6885bb49-blqsx", name, "jobmanager", spec, status)
    (pod,) = place.runtime.pods("default", name, {})
    assert (pod.phase, pod.ready, pod.is_running) == ("Pending", False, False)
    assert pod.reason == "CrashLoopBackOff: [fetch] SCRIPT_URL https://x/y.py answered 404"
    assert pod.trouble is not None
    assert (pod.trouble.reason, pod.trouble.component) == ("CrashLoopBackOff", "jobmanager")
    assert [(each.name, each.is_init, each.was_started, each.restarts) for each in pod.containers] == [
        (MAIN, False, False, 0),
        ("fetch", True, True, 2),
    ]
    assert default_container(pod) == "fetch"


def test_events_are_those_of_the_deployment_and_of_what_was_made_for_it(place: Cluster, name: str) -> None:
    place.put_event("FlinkDeployment", name, "Submit", timedelta(minutes=9))
    place.put_event("Deployment", name, "ScalingReplicaSet", timedelta(minutes=8))
    place.put_event("ReplicaSet", f"{name}-5d6885bb49", "FailedCreate", timedelta(minutes=7))
    place.put_event("Pod", f"{name}-5d6885bb49-blqsx", "BackOff", timedelta(minutes=2), count=7)
    place.put_event("Pod", f"{name}-taskmanager-1-2", "FailedScheduling", timedelta(minutes=5))
    for kind, other in (("FlinkDeployment", f"{name}-2"), ("Pod", f"{name}-2-5d6885bb49-blqsx"), ("Node", name)):
        place.put_event(kind, other, "Foreign")
    found = place.runtime.events("default", name)
    reasons = ["Submit", "ScalingReplicaSet", "FailedCreate", "FailedScheduling", "BackOff"]
    assert [event.reason for event in found] == reasons
    assert (found[-1].object, found[-1].count, found[-1].type) == (f"Pod/{name}-5d6885bb49-blqsx", 7, "Warning")
    assert found[-1].message == f"BackOff of {name}-5d6885bb49-blqsx"
    assert timedelta(minutes=1) < datetime.now(UTC) - found[-1].at < timedelta(minutes=4)


def test_the_events_of_one_pod_are_its_own_alone(place: Cluster, name: str) -> None:
    pod = f"{name}-taskmanager-1-1"
    place.put_event("Pod", pod, "FailedMount", timedelta(minutes=5))
    place.put_event("Pod", pod, "Scheduled", timedelta(minutes=9))
    place.put_event("Pod", f"{pod}1", "Foreign")
    place.put_event("ReplicaSet", pod, "Foreign2")
    assert [event.reason for event in place.runtime.pod_events("default", pod)] == ["Scheduled", "FailedMount"]
    assert place.runtime.pod_events("default", f"{pod}2") == []


@where_there_are_logs
def test_a_log_is_what_was_printed_cut_as_asked_for(place: Cluster, name: str) -> None:
    place.prints(name, "long ago", timedelta(hours=1))
    place.run_pod(name, name, printed=["one", "two", "three"])

    def lines(**asked: Any) -> list[str]:
        found = place.runtime.logs("default", name, MAIN, LogPart(**asked))
        assert found is not None
        return [line.split(" ", 2)[2] for line in b"".join(found).decode().splitlines()]

    assert lines() == ["long ago", "one", "two", "three"]
    assert lines(tail_lines=2) == ["two", "three"]
    assert lines(tail_lines=0) == []
    assert lines(since_seconds=60) == ["one", "two", "three"]
    assert lines(since_seconds=60, tail_lines=1) == ["three"]
    cut = place.runtime.logs("default", name, MAIN, LogPart(limit_bytes=10))
    assert cut is not None
    assert len(b"".join(cut)) == 10
    stamped = place.runtime.logs("default", name, MAIN, LogPart(tail_lines=1, timestamps=True))
    assert stamped is not None
    at, _, line = b"".join(stamped).decode().partition(" ")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(at[:19] + "+00:00")) < timedelta(minutes=1)
    assert line.endswith("three\n")


@where_there_are_logs
def test_a_log_is_followed_until_its_pod_is_gone(place: Cluster, name: str) -> None:
    place.run_pod(name, name, printed=["one"])
    found = place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=LONG_SECONDS))
    assert found is not None
    assert next(found).endswith(b"one\n")
    place.prints(name, "two")
    assert next(found).endswith(b"two\n")
    place.delete_pod(name)
    assert list(found) == []


@where_there_are_logs
def test_following_ends_at_its_bound_though_nothing_comes(place: Cluster, name: str) -> None:
    place.run_pod(name, name, printed=["one"])
    begun = time.monotonic()
    found = place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=1))
    assert found is not None
    assert len(list(found)) == 1
    assert 0.9 < time.monotonic() - begun < REQUEST_SECONDS / 2, "and not by the bound of its requests"


@where_there_are_logs
def test_closing_ends_a_read_that_waits_in_another_thread(place: Cluster, name: str) -> None:
    place.run_pod(name, name, printed=["one"])
    found = place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=LONG_SECONDS))
    assert found is not None
    next(found)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, found)
        found.close()
        assert waiting.result(REQUEST_SECONDS) == []
    found.close()


@where_there_are_logs
def test_a_log_that_is_not_there_is_refused_and_a_pod_that_is_gone_is_none(place: Cluster, name: str) -> None:
    assert place.runtime.logs("default", name, MAIN) is None
    assert place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=5)) is None
    place.run_pod(name, name, printed=["one"])
    for asked in ({"previous": True}, {"previous": True, "follow_seconds": 5.0}):
        with pytest.raises(Refused, match=MAIN):
            place.runtime.logs("default", name, MAIN, LogPart(**asked))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="other"):
        place.runtime.logs("default", name, "other")


@pytest.mark.parametrize("place", ["real"], indirect=True)
def test_a_pod_without_a_node_has_no_log_and_says_so(place: Cluster, name: str) -> None:
    place.run_pod(name, name)
    for follow_seconds in (0, 5):
        with pytest.raises(Refused, match=f"log of {MAIN} in {name}: the pod is not scheduled to a node yet"):
            place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=follow_seconds))
    assert place.runtime.logs("default", f"{name}-2", MAIN) is None


@pytest.mark.parametrize("place", ["real"], indirect=True)
def test_a_node_that_does_not_answer_is_unavailable(place: Cluster, name: str) -> None:
    assert place.http is not None
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-of-{name}"}}
    place.http.post("/api/v1/nodes", json=node).raise_for_status()
    endpoint = {"kubeletEndpoint": {"Port": free_port()}}
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    headers = {"Content-Type": "application/merge-patch+json"}
    status = {"status": {"addresses": addresses, "daemonEndpoints": endpoint}}
    place.http.patch(f"/api/v1/nodes/node-of-{name}/status", json=status, headers=headers).raise_for_status()
    spec = {"nodeName": f"node-of-{name}", "containers": [{"name": MAIN, "image": "flink"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
    place.http.post(f"{CORE}/pods", json=pod).raise_for_status()
    for follow_seconds in (0, 5):
        with pytest.raises(Unavailable, match="HEADRACE_KUBECONFIG"):
            place.runtime.logs("default", name, MAIN, LogPart(follow_seconds=follow_seconds))


@on_servers
def test_an_unknown_field_is_refused_in_words(place: Cluster, name: str) -> None:
    wrong = manifest(name)
    wrong["spec"]["paralelism"] = 2
    with pytest.raises(Refused, match="paralelism"):
        place.runtime.create(wrong)
    assert place.runtime.get("default", name) is None


@on_servers
@pytest.mark.parametrize("change", [Change(PARALLELISM, "two"), Change(("spec", "flinkVersion"), "v9_9")])
def test_a_patch_that_the_schema_refuses_is_an_error_and_no_lost_race(
    place: Cluster, name: str, change: Change
) -> None:
    made = created(place, name)
    with pytest.raises(Refused):
        place.runtime.patch("default", name, fence(made), [Change(SEQUENCE, "2"), change])
    assert place.runtime.get("default", name) == made


@on_servers
def test_a_finalizer_holds_a_deleted_deployment(place: Cluster, name: str) -> None:
    held = manifest(name)
    held["metadata"]["finalizers"] = ["flinkdeployments.flink.apache.org/finalizer"]
    made = place.runtime.create(held)
    assert made is not None
    for _ in range(2):
        assert place.runtime.delete("default", name, made.metadata.uid)
    seen = place.runtime.get("default", name)
    assert seen is not None
    assert seen.metadata.deletion_timestamp is not None
    assert place.http is not None
    headers = {"Content-Type": "application/merge-patch+json"}
    place.http.patch(f"{DEPLOYMENTS}/{name}", json={"metadata": {"finalizers": None}}, headers=headers)
    wait_for("it to be gone", lambda: place.runtime.get("default", name) is None)


@on_the_small_api
def test_a_create_whose_answer_was_lost_counts_as_done(place: Cluster, name: str) -> None:
    assert place.local is not None
    place.local.inject(Fault(FaultKind.RESET_AFTER_WRITE, verb="create", resource="flinkdeployments"))
    made = place.runtime.create(manifest(name))
    assert made is not None
    assert made.metadata.name == name


@on_the_small_api
def test_a_create_that_did_not_happen_is_not_taken_for_done(place: Cluster, name: str) -> None:
    assert place.local is not None
    place.local.inject(Fault(FaultKind.RESET, verb="create", resource="flinkdeployments"))
    with pytest.raises(Unavailable, match="HEADRACE_KUBECONFIG"):
        place.runtime.create(manifest(name))
    assert place.runtime.get("default", name) is None


@on_the_small_api
def test_a_patch_whose_answer_was_lost_is_seen_by_its_sequence(place: Cluster, name: str) -> None:
    made = created(place, name)
    assert place.local is not None
    place.local.inject(Fault(FaultKind.RESET_AFTER_WRITE, verb="patch", resource="flinkdeployments"))
    with pytest.raises(Unavailable):
        place.runtime.patch("default", name, fence(made), to(2))
    assert place.runtime.patch("default", name, fence(made), to(2)) is None
    live = place.runtime.get("default", name)
    assert live is not None
    assert (sequence_of(live), live.metadata.generation) == (2, 2)


@on_the_small_api
@pytest.mark.parametrize("kind", [FaultKind.TOO_MANY_REQUESTS, FaultKind.SERVER_ERROR, FaultKind.RESET])
@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "patch", "delete"])
def test_a_server_in_trouble_is_unavailable_and_never_absence(
    place: Cluster, name: str, kind: FaultKind, verb: str
) -> None:
    made = created(place, name)
    runtime = place.runtime
    calls = {
        "get": lambda: runtime.get("default", name),
        "list": lambda: list(runtime.list_pages("default")),
        "watch": lambda: list(runtime.watch("default", "0", 1)),
        "create": lambda: runtime.create(manifest(f"{name}-new")),
        "patch": lambda: runtime.patch("default", name, fence(made), to(2)),
        "delete": lambda: runtime.delete("default", name, made.metadata.uid),
    }
    assert place.local is not None
    place.local.inject(Fault(kind, verb=verb, resource="flinkdeployments"))
    with pytest.raises(Unavailable, match="HEADRACE_KUBECONFIG"):
        calls[verb]()
    assert runtime.get("default", name) == made


@on_the_small_api
def test_a_log_that_is_silent_from_its_beginning_ends_and_is_no_error(place: Cluster, name: str) -> None:
    assert place.local is not None
    place.run_pod(name, name, printed=["one"])
    place.local.inject(Fault(FaultKind.HANG, verb="get", resource="pods", hang_seconds=LONG_SECONDS))
    found = connect(place.kubeconfig, 1.0).logs("default", name, MAIN, LogPart(follow_seconds=LONG_SECONDS))
    assert found is not None
    assert list(found) == []


@on_the_small_api
def test_a_server_that_hangs_is_given_up_within_the_bound(place: Cluster, name: str) -> None:
    assert place.local is not None
    impatient = connect(place.kubeconfig, 1.0)
    place.local.inject(Fault(FaultKind.HANG, verb="get", resource="flinkdeployments", hang_seconds=LONG_SECONDS))
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="HEADRACE_KUBECONFIG"):
        impatient.get("default", name)
    assert time.monotonic() - begun < 2.5


def test_nobody_there_is_unavailable_and_says_where(tmp_path: Path) -> None:
    with cluster("local", tmp_path) as gone:
        runtime = gone.runtime
    for call in (
        lambda: runtime.get("default", "x"),
        lambda: runtime.create(manifest("x")),
        lambda: list(runtime.watch("default", "0", 1)),
        runtime.flink_versions,
        lambda: runtime.pods("default", "x", {}),
        lambda: runtime.pod_events("default", "x"),
        lambda: runtime.events("default", "x"),
        lambda: runtime.logs("default", "x", MAIN),
        lambda: runtime.logs("default", "x", MAIN, LogPart(follow_seconds=5)),
    ):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            call()
