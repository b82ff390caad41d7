"""Rendering against golden manifests. `HEADRACE_UPDATE_GOLDEN=1` writes them anew, to be read before they are kept."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain import diff
from headrace.domain.job_requests import JobRequest, parse_request
from headrace.domain.jobs import LEGAL_NAME, Job, deployment_name
from headrace.domain.manifest import Platform, Stamp, render, stamped, with_parallelism

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
PLATFORM = Platform(
    image="headrace/flink:2.2.1",
    flink_version="v2_2",
    state_location="file:///opt/headrace/state",
    state_volume="pvc:flink-state",
    service_account="flink",
    allowed_hosts=("files.example.com",),
    max_artifact_bytes=1_000_000,
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(
    tenant="default",
    job_id="orders",
    cluster="default",
    namespace="default",
    deployment_name="orders",
    created_at=NOW,
    updated_at=NOW,
)
FILE = {"name": "job.py", "content": "print(1)\n"}
HOST = "https://files.example.com"
SHARED = {"volume": {"host_path": "/srv/flink"}, "location": "file:///srv/flink"}
REQUESTS: dict[str, dict[str, Any]] = {
    "file": {"script": FILE, "args": ["--rate", "5"], "env": {"MODE": "fast"}, "labels": {"team": "a"}},
    "url": {"script": f"{HOST}/jobs/count.py", "sha256": "b" * 64, "parallelism": 4},
    "replicas": {"script": FILE, "resources": {"task_manager": {"replicas": 2, "slots": 2}}},
    "folder": {
        "script": FILE,
        "files": [
            {"name": "shop/prices.py", "content": "VAT = 0.2\n"},
            {"name": "requirements.txt", "content": "attrs==25.4.0\n"},
        ],
        "jar_files": f"{HOST}/kafka.jar,local:///opt/connectors/jdbc.jar",
    },
    "jar": {"type": "JAR", "jar": f"{HOST}/count.jar", "sha256": "c" * 64, "main_class": "com.example.Count"},
    "jar-in-the-image": {
        "type": "JAR",
        "jar": "local:///opt/flink/usrlib/count.jar",
        "args": ["--rate", "5"],
        "jar_files": [{"url": f"{HOST}/kafka.jar", "sha256": "d" * 64}],
    },
    "sql": {"type": "SQL", "sql": "INSERT INTO t SELECT 1;\n", "jar_files": f"{HOST}/kafka.jar"},
    "sql-url": {"type": "SQL", "script": f"{HOST}/jobs/count.sql", "state": {"location": "s3://bucket/flink"}},
    "flink-1-20": {"script": FILE, "flink_version": "v1_20", "image": "headrace/flink:1.20.3", "state": SHARED},
    "jar-1-20": {"type": "JAR", "jar": f"{HOST}/count.jar", "flink_version": "v1_20", "image": "headrace/flink:1.20.3"},
    "sql-1-20": {"type": "SQL", "sql": "INSERT INTO t SELECT 1;\n", "flink_version": "v1_20", "image": "f:1.20.3"},
    "pod": {
        "script": FILE,
        "env": {
            "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "s3", "key": "secret"}},
            "DB_PASSWORD": {"sealed": "c2VhbGVk"},
        },
        "env_from": [{"config_map_ref": {"name": "common"}, "prefix": "APP_"}, {"secretRef": {"name": "s3"}}],
        "pod": {
            "volumes": [
                {"name": "models", "mount_path": "/models", "persistent_volume_claim": "models", "readOnly": True}
            ],
            "node_selector": {"disk": "ssd"},
            "tolerations": [{"key": "flink", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
            "affinity": {
                "node_affinity": {
                    "required_during_scheduling_ignored_during_execution": {
                        "node_selector_terms": [
                            {"match_expressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                        ]
                    }
                }
            },
            "annotations": {"example.com/team": "a"},
            "image_pull_policy": "IfNotPresent",
            "image_pull_secrets": ["registry"],
        },
        "flink_configuration": {"job.autoscaler.enabled": "true", "pipeline.max-parallelism": 128},
    },
}
BUCKET = replace(PLATFORM, state_location="s3://bucket/flink", state_volume="")


def rendered(name: str) -> dict[str, Any]:
    return render(JOB, parse_request(REQUESTS[name]), PLATFORM, Stamp(1, "operation-1", 1))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_manifest_is_the_golden_one(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("HEADRACE_UPDATE_GOLDEN") == "1":
        file.write_text(yaml.safe_dump(json.loads(json.dumps(rendered(name))), sort_keys=False))
    assert rendered(name) == yaml.safe_load(file.read_text())


def test_state_on_object_storage_mounts_nothing() -> None:
    spec = render(JOB, parse_request(REQUESTS["file"]), BUCKET, Stamp(1, "o", 1))["spec"]
    assert spec["flinkConfiguration"]["execution.checkpointing.dir"] == "s3://bucket/flink/default/orders/checkpoints"
    assert "volumes" not in spec["podTemplate"]["spec"]


def test_either_parallelism_or_replicas_and_never_both() -> None:
    assert "parallelism" not in rendered("replicas")["spec"]["job"]
    assert rendered("replicas")["spec"]["taskManager"]["replicas"] == 2
    assert "replicas" not in rendered("url")["spec"]["taskManager"]
    scaled = with_parallelism(rendered("replicas"), 5)
    assert scaled["spec"]["taskManager"]["replicas"] == 3
    assert "parallelism" not in scaled["spec"]["job"]


def test_a_scale_changes_the_parallelism_and_the_stamp_alone() -> None:
    before = rendered("file")
    wanted = stamped(with_parallelism(before, 2), JOB, Stamp(2, "operation-2", 1))
    paths = {change.path for change in diff.changes(before, wanted, before)}
    annotations = {("metadata", "annotations", f"headrace.io/{name}") for name in ("sequence", "operation-id")}
    assert paths == {("spec", "job", "parallelism"), *annotations}


LEAVES = st.integers() | st.text(max_size=3)
JSON = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner), max_leaves=8)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON)


def applied(whole: Any, changes: list[diff.Change]) -> Any:
    for change in changes:
        at = whole
        for key in change.path[:-1]:
            at = at[key]
        if change.removed:
            del at[change.path[-1]]
        else:
            at[change.path[-1]] = change.value
    return whole


def contains(live: Any, wanted: Any) -> bool:
    """Whether `live` has every key of `wanted`, with its value."""
    if not isinstance(wanted, dict):
        return bool(live == wanted)
    return isinstance(live, dict) and all(key in live and contains(live[key], wanted[key]) for key in wanted)


@given(OBJECTS, OBJECTS, OBJECTS)
def test_changes_make_what_is_wanted_of_whatever_is_live(before: dict, wanted: dict, live: dict) -> None:
    after = applied(copy.deepcopy(live), diff.changes(before, wanted, live))
    assert contains(after, wanted)
    assert not [key for key in before if key not in wanted and key in after]
    assert diff.changes(before, wanted, after) == []


@given(OBJECTS, OBJECTS)
def test_a_foreign_key_stays(before: dict, wanted: dict) -> None:
    live = {**copy.deepcopy(before), "foreign": 1}
    assert applied(copy.deepcopy(live), diff.changes(before, wanted, live))["foreign"] == 1


@given(OBJECTS, OBJECTS, OBJECTS)
def test_the_inverse_of_changes_takes_them_back(before: dict, wanted: dict, live: dict) -> None:
    changes = diff.changes(before, wanted, live)
    back = diff.inverse(live, changes)
    changed = applied(copy.deepcopy(live), changes)
    assert applied(changed, diff.fitted(changed, back)) == live


@given(OBJECTS, OBJECTS, OBJECTS)
def test_fitted_changes_can_always_be_made(before: dict, wanted: dict, live: dict) -> None:
    fitted = diff.fitted(live, diff.changes(before, wanted, before))
    for change in fitted:
        applied(copy.deepcopy(live), [change])


@given(st.text(min_size=1, max_size=120))
def test_a_deployment_name_is_always_legal(job_id: str) -> None:
    assert LEGAL_NAME.fullmatch(deployment_name(job_id))
    assert len(deployment_name(job_id)) <= 45


def test_a_request_survives_its_json_form() -> None:
    request = parse_request(REQUESTS["file"])
    assert JobRequest.model_validate(request.model_dump(mode="json", exclude_none=True)) == request
