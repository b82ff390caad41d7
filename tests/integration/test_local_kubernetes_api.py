"""The local Kubernetes API and the real kube-apiserver keep the same promises: every test of `api` runs on both."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client, config, watch

from local.kubernetes_api import Fault, LocalKubernetesApi
from local.kubernetes_api.faults import FaultKind
from tests.support.kube_apiserver import running_kube_apiserver
from tests.support.patience import REQUEST_SECONDS, wait_for

Json = dict[str, Any]
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
SNAPSHOTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkstatesnapshots"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
TOKEN = "a-token-for-tests"


@dataclass(frozen=True)
class Api:
    http: httpx.Client
    kubeconfig_path: Path

    def create(self, path: str, body: Json, **query: str) -> httpx.Response:
        return self.http.post(path, json=body, params=query)

    def merge(self, path: str, patch: Json, **query: str) -> httpx.Response:
        return self.http.patch(path, content=json.dumps(patch), headers=MERGE_PATCH, params=query)

    def json_patch(self, path: str, patch: list[Json], **query: str) -> httpx.Response:
        return self.http.patch(path, content=json.dumps(patch), headers=JSON_PATCH, params=query)

    def deployment(self, name: str, **metadata: Any) -> Json:
        response = self.create(DEPLOYMENTS, deployment(name, **metadata))
        assert response.status_code == 201, response.text
        return response.json()

    def events(self, path: str, last: Callable[[], httpx.Response] | None = None, **query: str) -> list[Json]:
        """All events of a watch up to that of `last`, a write that is made once the first of them has come; without
        one, until the watch ends by itself. Its timeout says nothing: it may come before what there is to tell."""
        params = {"watch": "true", "timeoutSeconds": str(int(REQUEST_SECONDS))} | query
        found: list[Json] = []
        version = ""
        with self.http.stream("GET", path, params=params) as response:
            assert response.status_code == 200, response.read()
            for event in (json.loads(line) for line in response.iter_lines() if line):
                if version and event["object"]["metadata"]["resourceVersion"] == version:
                    return found
                found.append(event)
                if last is not None and not version:
                    version = last().raise_for_status().json()["metadata"]["resourceVersion"]
        assert last is None, f"the watch ended before it told of version {version}: {found}"
        return found

    def first_events(self, count: int, path: str, **query: str) -> list[Json]:
        """So many events of a watch, whatever comes after them."""
        params = {"watch": "true", "timeoutSeconds": str(int(REQUEST_SECONDS))} | query
        with self.http.stream("GET", path, params=params) as response:
            assert response.status_code == 200, response.read()
            return [json.loads(line) for line in islice(filter(None, response.iter_lines()), count)]


def deployment(name: str, **metadata: Any) -> Json:
    spec = {
        "flinkVersion": "v2_2",
        "flinkConfiguration": {"a.b": "c"},
        "job": {"parallelism": 1, "upgradeMode": "savepoint"},
    }
    kind = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment"}
    return kind | {"metadata": {"name": name} | metadata, "spec": spec}


def snapshot(name: str) -> Json:
    kind = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkStateSnapshot"}
    return kind | {"metadata": {"name": name}, "spec": {"savepoint": {"formatType": "NATIVE"}}}


def config_map(name: str, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | metadata, "data": {"a": "b"}}


def pod(name: str, **metadata: Any) -> Json:
    spec = {"containers": [{"name": "flink-main-container", "image": "flink"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | metadata, "spec": spec}


@pytest.fixture(scope="module", params=["local", "real"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "real":
        with (
            running_kube_apiserver(directory) as server,
            http_client(server.url, server.token, verify=False) as http,
        ):
            yield Api(http, server.kubeconfig_path)
        return
    with LocalKubernetesApi(directory, token=TOKEN) as local:
        local.write_kubeconfig(directory / "kubeconfig")
        with http_client(local.url) as http:
            yield Api(http, directory / "kubeconfig")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalKubernetesApi]:
    with LocalKubernetesApi(tmp_path, token=TOKEN) as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"job-{uuid.uuid4().hex[:10]}"


def http_client(url: str, token: str = TOKEN, *, verify: bool = True) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, verify=verify, timeout=REQUEST_SECONDS, trust_env=False)


def refused(response: httpx.Response, code: int, reason: str) -> Json:
    body = response.json()
    assert (response.status_code, body["reason"], body["code"]) == (code, reason, code), response.text
    assert (body["kind"], body["status"]) == ("Status", "Failure")
    return body


def test_a_created_object_has_what_the_server_sets(api: Api, name: str) -> None:
    created = api.deployment(name)
    metadata = created["metadata"]
    assert metadata["generation"] == 1
    assert metadata["namespace"] == "default"
    assert uuid.UUID(metadata["uid"])
    assert int(metadata["resourceVersion"]) > 0
    read = api.http.get(f"{DEPLOYMENTS}/{name}").json()
    assert (read["metadata"]["uid"], read["spec"]) == (metadata["uid"], deployment(name)["spec"])


def test_creating_twice_is_refused(api: Api, name: str) -> None:
    api.deployment(name)
    body = refused(api.create(DEPLOYMENTS, deployment(name)), 409, "AlreadyExists")
    assert body["message"] == f'flinkdeployments.flink.apache.org "{name}" already exists'
    assert body["details"] == {"name": name, "group": "flink.apache.org", "kind": "flinkdeployments"}


def test_what_is_absent_is_not_found(api: Api, name: str) -> None:
    body = refused(api.http.get(f"{DEPLOYMENTS}/{name}"), 404, "NotFound")
    assert body["message"] == f'flinkdeployments.flink.apache.org "{name}" not found'
    assert body["details"] == {"name": name, "group": "flink.apache.org", "kind": "flinkdeployments"}
    refused(api.merge(f"{DEPLOYMENTS}/{name}", {"spec": {}}), 404, "NotFound")
    refused(api.http.delete(f"{DEPLOYMENTS}/{name}"), 404, "NotFound")


def test_names_must_be_legal(api: Api) -> None:
    body = refused(api.create(DEPLOYMENTS, deployment("Not_Legal")), 422, "Invalid")
    assert body["details"]["causes"][0]["field"] == "metadata.name"


def test_the_generation_counts_changes_of_the_spec_only(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.deployment(name)
    labelled = api.merge(path, {"metadata": {"labels": {"a": "b"}}}).json()
    changed = api.merge(path, {"spec": {"job": {"parallelism": 2}}}).json()
    again = api.merge(path, {"spec": {"job": {"parallelism": 2}}}).json()
    assert [each["metadata"]["generation"] for each in (labelled, changed, again)] == [1, 2, 2]
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert int(changed["metadata"]["resourceVersion"]) > int(labelled["metadata"]["resourceVersion"])


def test_status_and_spec_are_written_apart(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.create(DEPLOYMENTS, deployment(name) | {"status": {"lifecycleState": "FAILED"}})
    assert "status" not in api.http.get(path).json()
    patch = {"spec": {"job": {"parallelism": 7}}, "status": {"lifecycleState": "STABLE"}}
    by_status = api.merge(f"{path}/status", patch | {"metadata": {"labels": {"x": "y"}}}).json()
    assert by_status["status"] == {"lifecycleState": "STABLE"}
    assert by_status["spec"]["job"]["parallelism"] == 1
    assert by_status["metadata"]["generation"] == 1
    by_main = api.merge(path, {"status": {"lifecycleState": "FAILED"}, "spec": {"job": {"parallelism": 3}}}).json()
    assert by_main["status"] == {"lifecycleState": "STABLE"}
    assert (by_main["spec"]["job"]["parallelism"], by_main["metadata"]["generation"]) == (3, 2)


def test_a_put_needs_the_newest_version(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    old = api.deployment(name)
    api.merge(path, {"spec": {"job": {"parallelism": 2}}})
    body = refused(api.http.put(path, json=old), 409, "Conflict")
    assert body["message"] == (
        f'Operation cannot be fulfilled on flinkdeployments.flink.apache.org "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    new = api.http.get(path).json()
    new["spec"]["job"]["parallelism"] = 5
    assert api.http.put(path, json=new).json()["metadata"]["generation"] == 3
    del new["metadata"]["resourceVersion"]
    refused(api.http.put(path, json=new), 422, "Invalid")


def test_a_patch_may_name_the_version_that_it_expects(api: Api, name: str) -> None:
    old = api.deployment(name)["metadata"]["resourceVersion"]
    path = f"{DEPLOYMENTS}/{name}"
    patch = {"metadata": {"resourceVersion": old}, "spec": {"job": {"parallelism": 2}}}
    assert api.merge(path, patch).status_code == 200
    refused(api.merge(path, patch | {"spec": {"job": {"parallelism": 3}}}), 409, "Conflict")


def test_a_fenced_patch_applies_once_and_a_stale_one_not_at_all(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    uid = api.deployment(name, annotations={"headrace.io/sequence": "1"})["metadata"]["uid"]
    fence = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/annotations/headrace.io~1sequence", "value": "1"},
        {"op": "replace", "path": "/metadata/annotations/headrace.io~1sequence", "value": "2"},
        {"op": "replace", "path": "/spec/job/parallelism", "value": 4},
    ]
    assert api.json_patch(path, fence).json()["spec"]["job"]["parallelism"] == 4
    body = refused(api.json_patch(path, fence), 422, "Invalid")
    assert body["message"] == "the server rejected our request due to an error in our request"
    assert body["details"] == {}
    assert api.http.get(path).json()["metadata"]["generation"] == 2


@pytest.mark.parametrize("operation", ["remove", "test"])
def test_a_json_patch_of_a_missing_path_is_refused(api: Api, name: str, operation: str) -> None:
    api.deployment(name)
    patch = [{"op": operation, "path": "/spec/flinkConfiguration/absent", "value": "x"}]
    refused(api.json_patch(f"{DEPLOYMENTS}/{name}", patch), 422, "Invalid")


def test_replacing_needs_the_parent_but_not_the_key(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.deployment(name)
    added = api.json_patch(path, [{"op": "replace", "path": "/spec/flinkConfiguration/absent", "value": "x"}])
    assert added.json()["spec"]["flinkConfiguration"]["absent"] == "x"
    refused(api.json_patch(path, [{"op": "replace", "path": "/spec/absent/key", "value": "x"}]), 422, "Invalid")


def test_json_patch_edits_lists_and_keys(api: Api, name: str) -> None:
    api.deployment(name)
    patch = [
        {"op": "add", "path": "/spec/job/args", "value": ["a", "c"]},
        {"op": "add", "path": "/spec/job/args/1", "value": "b"},
        {"op": "add", "path": "/spec/job/args/-", "value": "d"},
        {"op": "remove", "path": "/spec/job/args/0"},
        {"op": "add", "path": "/spec/flinkConfiguration/x~1y", "value": "z"},
        {"op": "move", "from": "/spec/flinkConfiguration/a.b", "path": "/spec/flinkConfiguration/moved"},
        {"op": "copy", "from": "/spec/flinkConfiguration/moved", "path": "/spec/flinkConfiguration/copied"},
    ]
    spec = api.json_patch(f"{DEPLOYMENTS}/{name}", patch).json()["spec"]
    assert spec["job"]["args"] == ["b", "c", "d"]
    assert spec["flinkConfiguration"] == {"x/y": "z", "moved": "c", "copied": "c"}


def test_a_merge_patch_removes_by_null_and_replaces_lists(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.deployment(name)
    api.merge(path, {"spec": {"job": {"args": ["a", "b"]}, "flinkConfiguration": {"x": "y"}}})
    spec = api.merge(path, {"spec": {"job": {"args": ["c"]}, "flinkConfiguration": {"x": None}}}).json()["spec"]
    assert (spec["job"]["args"], spec["flinkConfiguration"]) == (["c"], {"a.b": "c"})


def test_unknown_patch_types_are_refused(api: Api, name: str) -> None:
    api.deployment(name)
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    response = api.http.patch(f"{DEPLOYMENTS}/{name}", content="{}", headers=strategic)
    refused(response, 415, "UnsupportedMediaType")


def test_strict_validation_refuses_unknown_fields(api: Api, name: str) -> None:
    body = deployment(name)
    body["spec"] |= {"env": []}
    answer = refused(api.create(DEPLOYMENTS, body, fieldValidation="Strict"), 400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.env"' in answer["message"]
    refused(api.http.get(f"{DEPLOYMENTS}/{name}"), 404, "NotFound")


def test_strict_validation_of_patches(api: Api, name: str) -> None:
    api.deployment(name)
    path = f"{DEPLOYMENTS}/{name}"
    merged = api.merge(path, {"spec": {"env": []}}, fieldValidation="Strict")
    operations = [{"op": "add", "path": "/spec/env", "value": []}]
    patched = api.json_patch(path, operations, fieldValidation="Strict")
    for response in (merged, patched):
        answer = refused(response, 422, "Invalid")
        assert 'strict decoding error: unknown field "spec.env"' in answer["message"]


def test_unknown_fields_are_pruned_with_a_warning(api: Api, name: str) -> None:
    body = deployment(name)
    body["spec"]["job"] |= {"nonsense": 1}
    response = api.create(DEPLOYMENTS, body)
    assert response.headers["Warning"] == '299 - "unknown field \\"spec.job.nonsense\\""'
    assert "nonsense" not in response.json()["spec"]["job"]
    quiet = deployment(f"{name}-quiet")
    quiet["spec"]["job"] |= {"nonsense": 1}
    assert "Warning" not in api.create(DEPLOYMENTS, quiet, fieldValidation="Ignore").headers


def test_the_schema_refuses_wrong_types_and_values(api: Api, name: str) -> None:
    body = deployment(name)
    body["spec"] |= {"flinkVersion": "v9_9", "job": {"parallelism": "two"}}
    answer = refused(api.create(DEPLOYMENTS, body), 422, "Invalid")
    causes = {each["field"]: (each["reason"], each["message"]) for each in answer["details"]["causes"]}
    assert causes["spec.job.parallelism"] == (
        "FieldValueTypeInvalid",
        'Invalid value: "string": spec.job.parallelism in body must be of type integer: "string"',
    )
    reason, message = causes["spec.flinkVersion"]
    assert reason == "FieldValueNotSupported"
    assert message.startswith('Unsupported value: "v9_9": supported values: "v1_13", "v1_14"')
    assert answer["message"].startswith(f'FlinkDeployment.flink.apache.org "{name}" is invalid: [')
    assert answer["details"]["kind"] == "FlinkDeployment"


def test_a_null_is_an_absent_field(api: Api, name: str) -> None:
    body = deployment(name)
    body["spec"] |= {"image": None}
    assert "image" not in api.create(DEPLOYMENTS, body).json()["spec"]


def test_a_body_without_a_kind_is_refused(api: Api, name: str) -> None:
    body = {"metadata": {"name": name}, "spec": {}}
    refused(api.create(DEPLOYMENTS, body), 400, "BadRequest")


def test_a_dry_run_checks_and_changes_nothing(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    assert api.create(DEPLOYMENTS, deployment(name), dryRun="All").status_code == 201
    refused(api.http.get(path), 404, "NotFound")
    api.deployment(name)
    assert api.merge(path, {"spec": {"job": {"parallelism": 9}}}, dryRun="All").json()["metadata"]["generation"] == 2
    assert api.http.delete(path, params={"dryRun": "All"}).status_code == 200
    assert api.http.get(path).json()["spec"]["job"]["parallelism"] == 1


def test_a_delete_by_another_uid_is_refused(api: Api, name: str) -> None:
    uid = api.deployment(name)["metadata"]["uid"]
    path = f"{DEPLOYMENTS}/{name}"

    def delete(uid: str) -> httpx.Response:
        return api.http.request("DELETE", path, json={"preconditions": {"uid": uid}})

    body = refused(delete("another"), 409, "Conflict")
    assert f"the UID in the precondition (another) does not match the UID in record ({uid})" in body["message"]
    refused(api.merge(path, {"metadata": {"uid": "another"}}), 422, "Invalid")
    done = delete(uid).json()
    assert (done["status"], done["details"]["uid"]) == ("Success", uid)
    refused(api.http.get(path), 404, "NotFound")


def test_finalizers_hold_an_object_until_they_are_removed(api: Api, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.deployment(name, finalizers=["headrace.io/test"])
    marked = api.http.delete(path).json()
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == 2
    assert api.http.delete(path).json()["metadata"]["generation"] == 2
    assert api.merge(path, {"metadata": {"finalizers": None}}).status_code == 200
    refused(api.http.get(path), 404, "NotFound")


def test_lists_come_in_pages_of_one_version(api: Api, name: str) -> None:
    for each in range(5):
        api.create(CONFIG_MAPS, config_map(f"{name}-{each}", labels={"page": name}))
    query = {"labelSelector": f"page={name}", "limit": "2"}
    pages = [api.http.get(CONFIG_MAPS, params=query).json()]
    api.create(CONFIG_MAPS, config_map(f"{name}-9-later", labels={"page": name}))
    while token := pages[-1]["metadata"].get("continue"):
        pages.append(api.http.get(CONFIG_MAPS, params=query | {"continue": token}).json())
    names = [item["metadata"]["name"] for page in pages for item in page["items"]]
    assert names == [f"{name}-{each}" for each in range(5)]
    assert len({page["metadata"]["resourceVersion"] for page in pages}) == 1


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [("color=red", "a"), ("color!=red", "bc"), ("color in (red,blue)", "ab"), ("!color", "c"), ("color", "ab")],
)
def test_label_selectors(api: Api, name: str, selector: str, chosen: str) -> None:
    for suffix, labels in (("a", {"color": "red"}), ("b", {"color": "blue"}), ("c", {})):
        api.create(CONFIG_MAPS, config_map(f"{name}-{suffix}", labels=labels | {"test": name}))
    found = api.http.get(CONFIG_MAPS, params={"labelSelector": f"test={name},{selector}"}).json()["items"]
    assert [each["metadata"]["name"][-1] for each in found] == list(chosen)


def test_events_are_found_by_the_object_that_they_are_about(api: Api, name: str) -> None:
    about = {"kind": "FlinkDeployment", "name": name, "namespace": "default", "uid": str(uuid.uuid4())}
    event = {"metadata": {"name": f"{name}.1"}, "involvedObject": about, "reason": "Submit", "type": "Normal"}
    assert api.create("/api/v1/namespaces/default/events", event).status_code == 201
    selector = f"involvedObject.name={name},involvedObject.kind=FlinkDeployment"
    found = api.http.get("/api/v1/events", params={"fieldSelector": selector}).json()
    assert [each["reason"] for each in found["items"]] == ["Submit"]
    refused(api.http.get(DEPLOYMENTS, params={"fieldSelector": "spec.image=x"}), 400, "BadRequest")


def test_a_watch_tells_every_change_after_its_version(api: Api, name: str) -> None:
    before = api.deployment(f"{name}-before")["metadata"]["resourceVersion"]
    path = f"{DEPLOYMENTS}/{name}"
    api.deployment(name)
    api.merge(f"{path}/status", {"status": {"lifecycleState": "STABLE"}})
    api.http.delete(path)
    events = api.events(
        DEPLOYMENTS, lambda: api.create(DEPLOYMENTS, deployment(f"{name}-last")), resourceVersion=before
    )
    assert [each["type"] for each in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert {each["object"]["metadata"]["name"] for each in events} == {name}
    versions = [int(each["object"]["metadata"]["resourceVersion"]) for each in events]
    assert versions == sorted(set(versions))


def test_a_watch_by_label_sees_objects_come_and_go(api: Api, name: str) -> None:
    before = api.create(CONFIG_MAPS, config_map(name)).json()["metadata"]["resourceVersion"]
    path = f"{CONFIG_MAPS}/{name}"
    api.merge(path, {"metadata": {"labels": {"in": name}}})
    api.merge(path, {"data": {"a": "c"}})
    api.merge(path, {"metadata": {"labels": {"in": None}}})
    api.merge(path, {"data": {"a": "d"}})
    last = config_map(f"{name}-last", labels={"in": name})
    query = {"resourceVersion": before, "labelSelector": f"in={name}"}
    events = api.events(CONFIG_MAPS, lambda: api.create(CONFIG_MAPS, last), **query)
    assert [each["type"] for each in events] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_without_a_version_begins_with_what_there_is(api: Api, name: str) -> None:
    api.deployment(name)
    changed = {"metadata": {"labels": {"is": "last"}}}
    query = {"fieldSelector": f"metadata.name={name}"}
    events = api.events(DEPLOYMENTS, lambda: api.merge(f"{DEPLOYMENTS}/{name}", changed), **query)
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [("ADDED", name)]


def test_initial_events_end_with_a_bookmark(api: Api, name: str) -> None:
    api.deployment(name)
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    events = api.first_events(2, DEPLOYMENTS, fieldSelector=f"metadata.name={name}", **query)
    assert [each["type"] for each in events] == ["ADDED", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations["k8s.io/initial-events-end"] == "true"


def test_a_table_has_the_columns_of_the_definition(api: Api, name: str) -> None:
    api.deployment(name)
    api.merge(
        f"{DEPLOYMENTS}/{name}/status", {"status": {"lifecycleState": "STABLE", "jobStatus": {"state": "RUNNING"}}}
    )
    query = {"fieldSelector": f"metadata.name={name}"}
    table = api.http.get(DEPLOYMENTS, params=query, headers=TABLE).json()
    assert table["kind"] == "Table"
    assert [each["name"] for each in table["columnDefinitions"]] == ["Name", "Job Status", "Lifecycle State"]
    assert [each["cells"] for each in table["rows"]] == [[name, "RUNNING", "STABLE"]]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = api.http.get(f"{DEPLOYMENTS}/{name}", headers=TABLE).json()
    assert one["rows"][0]["cells"] == [name, "RUNNING", "STABLE"]


def test_a_table_of_pods(api: Api, name: str) -> None:
    assert api.create(PODS, pod(name)).status_code == 201
    running = {"name": "flink-main-container", "ready": True, "restartCount": 2, "image": "flink", "imageID": "x"}
    status = {"phase": "Running", "containerStatuses": [running | {"state": {"running": {}}}]}
    assert api.merge(f"{PODS}/{name}/status", {"status": status}).status_code == 200
    table = api.http.get(f"{PODS}/{name}", headers=TABLE).json()
    assert [each["name"] for each in table["columnDefinitions"]][:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    cells = table["rows"][0]["cells"]
    assert cells[:3] == [name, "1/1", "Running"]
    assert str(cells[3]).startswith("2")


def test_discovery_names_the_resources(api: Api) -> None:
    groups = {each["name"] for each in api.http.get("/apis").json()["groups"]}
    assert {"apps", "flink.apache.org", "apiextensions.k8s.io"} <= groups
    resources = {each["name"]: each for each in api.http.get("/apis/flink.apache.org/v1beta1").json()["resources"]}
    assert resources["flinkdeployments"]["shortNames"] == ["flinkdep"]
    assert "watch" in resources["flinkdeployments"]["verbs"]
    assert "flinkdeployments/status" in resources
    core = {each["name"] for each in api.http.get("/api/v1").json()["resources"]}
    assert {"pods", "pods/log", "pods/status", "configmaps", "events", "namespaces"} <= core
    index = api.http.get("/openapi/v3").json()["paths"]
    document = api.http.get(index["apis/flink.apache.org/v1beta1"]["serverRelativeURL"]).json()
    path = "/apis/flink.apache.org/v1beta1/namespaces/{namespace}/flinkdeployments/{name}"
    assert "fieldValidation" in {each["name"] for each in document["paths"][path]["patch"]["parameters"]}
    for path in ("/healthz", "/livez", "/readyz"):
        assert api.http.get(path).text == "ok"
    assert api.http.get("/version").json()["major"] == "1"


def test_a_wrong_token_is_refused(api: Api) -> None:
    refused(api.http.get(DEPLOYMENTS, headers={"Authorization": "Bearer wrong"}), 401, "Unauthorized")


def test_the_official_client_works(api: Api, name: str) -> None:
    with config.new_client_from_config(str(api.kubeconfig_path)) as official:
        custom, core = client.CustomObjectsApi(official), client.CoreV1Api(official)
        place = ("flink.apache.org", "v1beta1", "default", "flinkdeployments")
        created = custom.create_namespaced_custom_object(*place, deployment(name))
        patched = custom.patch_namespaced_custom_object(*place, name, {"spec": {"job": {"parallelism": 2}}})
        assert patched["metadata"]["generation"] == 2
        custom.create_namespaced_custom_object(*place, deployment(f"{name}-last"))
        watching = watch.Watch()
        stream = watching.stream(
            custom.list_namespaced_custom_object,
            *place,
            resource_version=created["metadata"]["resourceVersion"],
            timeout_seconds=int(REQUEST_SECONDS),
        )
        told = [(each["type"], each["object"]["metadata"]["name"]) for each in islice(stream, 2)]
        watching.stop()
        assert told == [("MODIFIED", name), ("ADDED", f"{name}-last")]
        core.create_namespaced_config_map("default", config_map(name))
        assert core.read_namespaced_config_map(name, "default").data == {"a": "b"}
        core.delete_namespaced_config_map(name, "default")
        with pytest.raises(client.ApiException) as refusal:
            core.read_namespaced_config_map(name, "default")
        assert refusal.value.status == 404
        definitions = client.ApiextensionsV1Api(official)
        found = definitions.read_custom_resource_definition("flinkdeployments.flink.apache.org")
        schema = found.spec.versions[0].schema.open_apiv3_schema
        assert "v2_2" in schema.properties["spec"].properties["flinkVersion"].enum
        with pytest.raises(client.ApiException) as refusal:
            core.read_namespaced_pod("absent", "default")
        assert refusal.value.status == 404


def test_many_writers_of_one_object_never_lose_a_write(api: Api, name: str) -> None:
    path = f"{CONFIG_MAPS}/{name}"
    api.create(CONFIG_MAPS, config_map(name) | {"data": {"count": "0"}})

    def count_up(_: int) -> None:
        while True:
            now = api.http.get(path).json()["data"]["count"]
            test = {"op": "test", "path": "/data/count", "value": now}
            change = {"op": "replace", "path": "/data/count", "value": str(int(now) + 1)}
            if api.json_patch(path, [test, change]).status_code == 200:
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(20)))
    assert api.http.get(path).json()["data"]["count"] == "20"


def test_kubectl_gets_in_without_a_header(local: LocalKubernetesApi, tmp_path: Path) -> None:
    local.write_kubectl_kubeconfig(tmp_path / "kubectl")
    with config.new_client_from_config(str(tmp_path / "kubectl")) as official:
        assert not official.configuration.api_key
        assert client.CoreV1Api(official).list_namespaced_pod("default").items == []
        assert client.VersionApi(official).get_code().major == "1"
    refused(httpx.get(f"{local.url}/with-token/wrong{PODS}", timeout=5, trust_env=False), 401, "Unauthorized")


def test_a_watched_table_names_its_columns_once(local: LocalKubernetesApi) -> None:
    with http_client(local.url) as http:
        api = Api(http, Path())
        api.deployment("one")
        api.deployment("two")
        http.headers.update(TABLE)
        events = api.events(
            DEPLOYMENTS, lambda: api.merge(f"{DEPLOYMENTS}/two", {"metadata": {"labels": {"is": "last"}}})
        )
        tables = [each["object"] for each in events]
        assert [each["rows"][0]["cells"][0] for each in tables] == ["one", "two"]
        assert [len(each["columnDefinitions"]) for each in tables] == [3, 0]


def test_dependents_go_with_their_last_owner(local: LocalKubernetesApi) -> None:
    with http_client(local.url) as http:
        uid = http.post(DEPLOYMENTS, json=deployment("owner")).json()["metadata"]["uid"]
        owner = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment", "name": "owner", "uid": uid}
        http.post(CONFIG_MAPS, json=config_map("owned", ownerReferences=[owner])).raise_for_status()
        http.delete(f"{DEPLOYMENTS}/owner").raise_for_status()
        assert http.get(f"{CONFIG_MAPS}/owned").status_code == 404


def test_orphans_stay(local: LocalKubernetesApi) -> None:
    with http_client(local.url) as http:
        uid = http.post(DEPLOYMENTS, json=deployment("owner")).json()["metadata"]["uid"]
        owner = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment", "name": "owner", "uid": uid}
        http.post(CONFIG_MAPS, json=config_map("owned", ownerReferences=[owner])).raise_for_status()
        http.delete(f"{DEPLOYMENTS}/owner", params={"propagationPolicy": "Orphan"}).raise_for_status()
        assert "ownerReferences" not in http.get(f"{CONFIG_MAPS}/owned").json()["metadata"]


def test_a_watch_from_lost_history_is_gone(local: LocalKubernetesApi) -> None:
    with http_client(local.url) as http:
        api = Api(http, Path())
        old = api.deployment("one")["metadata"]["resourceVersion"]
        api.deployment("two")
        page = http.get(DEPLOYMENTS, params={"limit": "1"}).json()
        api.deployment("three")
        local.compact_history()
        (event,) = api.events(DEPLOYMENTS, resourceVersion=old)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        query = {"limit": "1", "continue": page["metadata"]["continue"]}
        refused(http.get(DEPLOYMENTS, params=query), 410, "Expired")


def test_events_are_removed_an_hour_after_they_were_last_seen(tmp_path: Path) -> None:
    about = {"kind": "FlinkDeployment", "name": "orders", "namespace": "default"}
    with LocalKubernetesApi(tmp_path, token=TOKEN, event_ttl_seconds=60) as local, http_client(local.url) as http:
        for name, seen in (("old", "2026-01-01T00:00:00Z"), ("new", None)):
            event = {"metadata": {"name": name}, "involvedObject": about, "reason": "Submit", "lastTimestamp": seen}
            assert http.post(EVENTS, json=event).status_code == 201
        wait_for("the old event to go", lambda: http.get(f"{EVENTS}/old").status_code == 404, 15)
        assert http.get(f"{EVENTS}/new").status_code == 200


def test_faults_happen_as_often_as_ordered(local: LocalKubernetesApi) -> None:
    local.inject(Fault(FaultKind.TOO_MANY_REQUESTS, verb="list", resource="flinkdeployments", retry_after_seconds=3))
    local.inject(Fault(FaultKind.SERVER_ERROR, verb="list", count=2))
    local.inject(Fault(FaultKind.GONE, verb="watch"))
    with http_client(local.url) as http:
        limited = http.get(DEPLOYMENTS)
        assert (limited.status_code, limited.headers["Retry-After"]) == (429, "3")
        assert [http.get(DEPLOYMENTS).status_code for _ in range(3)] == [500, 500, 200]
        assert http.get(DEPLOYMENTS, params={"watch": "true"}).status_code == 410


def test_a_reset_after_the_write_leaves_the_write(local: LocalKubernetesApi) -> None:
    local.inject(Fault(FaultKind.RESET, verb="create"))
    local.inject(Fault(FaultKind.RESET_AFTER_WRITE, verb="create"))
    with http_client(local.url) as http:
        for status_after in (404, 200):
            with pytest.raises(httpx.TransportError):
                http.post(DEPLOYMENTS, json=deployment("cut"))
            assert http.get(f"{DEPLOYMENTS}/cut").status_code == status_after


def test_a_hang_lasts_until_the_client_gives_up(local: LocalKubernetesApi) -> None:
    local.inject(Fault(FaultKind.HANG, verb="get"))
    with http_client(local.url) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.get(f"{DEPLOYMENTS}/any", timeout=0.3)
        assert http.get(f"{DEPLOYMENTS}/any").status_code == 404


@pytest.mark.alone
def test_sixty_watches_see_a_change_within_a_second(local: LocalKubernetesApi) -> None:
    started, seen = threading.Barrier(61, timeout=20), []

    def see_one(_: int) -> None:
        with http_client(local.url) as http:
            query = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "20"}
            with http.stream("GET", DEPLOYMENTS, params=query) as response:
                started.wait()
                next(response.iter_lines())
                seen.append(time.monotonic())

    with ThreadPoolExecutor(60) as pool, http_client(local.url) as http:
        watching = [pool.submit(see_one, each) for each in range(60)]
        started.wait()
        created = time.monotonic()
        http.post(DEPLOYMENTS, json=deployment("seen")).raise_for_status()
        for each in watching:
            each.result(timeout=20)
    assert max(seen) - created < 1


def test_nothing_is_lost_by_a_kill(tmp_path: Path) -> None:
    with running_process(tmp_path) as (process, http):
        first = http.post(DEPLOYMENTS, json=deployment("kept")).json()
        last = http.post(SNAPSHOTS, json=snapshot("kept")).json()
        process.kill()
        process.wait(10)
    with running_process(tmp_path) as (_, http):
        assert http.get(f"{DEPLOYMENTS}/kept").json() == first
        later = http.post(CONFIG_MAPS, json=config_map("later")).json()
        assert int(later["metadata"]["resourceVersion"]) > int(last["metadata"]["resourceVersion"])
        version = str(int(first["metadata"]["resourceVersion"]) - 1)
        api = Api(http, Path())
        events = api.events(DEPLOYMENTS, lambda: api.create(DEPLOYMENTS, deployment("last")), resourceVersion=version)
        assert [(each["type"], each["object"]) for each in events] == [("ADDED", first)]


class running_process:  # noqa: N801 - reads as the function that it stands for
    """`python -m local.kubernetes_api` on a free port; leaves nothing running."""

    def __init__(self, directory: Path) -> None:
        token = directory / "token"
        token.write_text(TOKEN)
        command = [sys.executable, "-m", "local.kubernetes_api", "--port", "0"]
        command += ["--data-dir", str(directory / "data"), "--token-file", str(token)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=dict(os.environ))

    def __enter__(self) -> tuple["subprocess.Popen[str]", httpx.Client]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._http = http_client(line.split()[3].rstrip(","))
        return self._process, self._http

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.terminate()
        self._process.communicate(timeout=15)
