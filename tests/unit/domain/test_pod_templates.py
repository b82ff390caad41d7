"""The JobManager's pod is the same whichever way the operator merges its two templates."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.job_requests import parse_request
from headrace.domain.manifest import Stamp, render
from local.flink_operator.mapping import MERGE_BY_NAME, merged_pod_spec
from tests.support.given import BUCKET, ORDERS, PLATFORM, REQUESTS


def spec_of(name: str, by_name: bool, platform: Any = PLATFORM) -> dict[str, Any]:
    request = parse_request({**REQUESTS[name], "flink_configuration": {MERGE_BY_NAME: str(by_name).lower()}})
    spec: dict[str, Any] = render(ORDERS, request, platform, Stamp(1, "operation-1", 1))["spec"]
    return spec


@pytest.mark.parametrize("platform", [PLATFORM, BUCKET], ids=["volume", "bucket"])
@pytest.mark.parametrize("name", REQUESTS)
def test_merging_by_position_and_by_name_give_the_same_pod(name: str, platform: Any) -> None:
    by_position, by_name = (merged_pod_spec(spec_of(name, way, platform)) for way in (False, True))
    assert by_position == by_name


@pytest.mark.parametrize("name", REQUESTS)
def test_no_volume_has_two_sources_and_every_mount_has_its_volume(name: str) -> None:
    pod = merged_pod_spec(spec_of(name, by_name=False))
    assert all(len(volume) == 2 for volume in pod["volumes"])
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    mounts = [mount for part in (*pod["containers"], *pod.get("initContainers", [])) for mount in part["volumeMounts"]]
    assert {mount["name"] for mount in mounts} == set(volumes)
    assert pod["containers"][0]["env"]


def test_what_the_operator_does_with_lists_that_are_not_alike() -> None:
    """The example of the operator's own documentation, both ways."""
    first = {"containers": [{"name": "a", "p1": "v1"}, {"name": "b", "p1": "v1"}]}
    second = {"containers": [{"name": "a", "p2": "v2"}, {"name": "c", "p2": "v2"}]}
    spec = {"podTemplate": {"spec": first}, "jobManager": {"podTemplate": {"spec": second}}}
    merged = [{"name": "a", "p1": "v1", "p2": "v2"}, {"name": "c", "p1": "v1", "p2": "v2"}]
    assert merged_pod_spec(spec)["containers"] == merged
    spec["flinkConfiguration"] = {MERGE_BY_NAME: "true"}
    union = [{"name": "a", "p1": "v1", "p2": "v2"}, {"name": "b", "p1": "v1"}, {"name": "c", "p2": "v2"}]
    assert merged_pod_spec(spec)["containers"] == union
