"""The last stable spec, as real operators wrote it, and the way back to it."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest

from headrace.domain.runtimes.operator.rolled_back import last_stable, spec_changes, stable_spec
from tests.support.recorded import RECORDINGS, recorded_versions

NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "flink-main-container", "env": []}]}}
SPEC: dict[str, Any] = {
    "image": "f:1",
    "podTemplate": POD,
    "flinkConfiguration": {"a": "1"},
    "taskManager": {"resource": {"cpu": 1, "memory": "1g"}},
    "job": {"args": ["--a"], "parallelism": 2, "state": "running", "upgradeMode": "savepoint"},
}


def whole(live: dict[str, Any], stable: Any) -> dict[str, Any]:
    text = stable if isinstance(stable, str) else json.dumps({"spec": stable})
    return {"spec": live, "status": {"reconciliationStatus": {"lastStableSpec": text}}}


def other(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SPEC), **changes}


@pytest.mark.parametrize("name", NAMES)
def test_where_a_real_job_is_stable_there_is_nothing_to_go_back_to(name: str) -> None:
    for seen in recorded_versions(name):
        status = seen.get("status") or {}
        is_done = status.get("observedGeneration") == seen["metadata"]["generation"]
        stable = stable_spec(seen)
        if status.get("lifecycleState") == "STABLE" and is_done:
            assert stable is not None
            assert spec_changes(seen, stable) == []
            assert last_stable(seen, [{"spec": seen["spec"]}]) == "the spec that it has is the last stable one"


def test_a_real_job_on_its_way_goes_back_to_the_spec_before() -> None:
    versions = recorded_versions("life-cycle")
    pairs = pairwise(versions)
    edits = [(before, seen) for before, seen in pairs if before["spec"] != seen["spec"] and stable_spec(seen)]
    went_back = 0
    for before, seen in edits:
        if before["status"].get("lifecycleState") == "STABLE" and last_stable(seen, [seen, before]) == 1:
            went_back += 1
    assert went_back >= 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"spec": 7}', '{"spec": {"job": null}}', "[" * 100_000])
def test_what_cannot_be_read_is_none(text: str) -> None:
    assert stable_spec(whole(SPEC, text)) is None
    assert isinstance(last_stable(whole(SPEC, text), [{"spec": SPEC}]), str)


@pytest.mark.parametrize("seen", [{}, {"status": None}, {"status": {"reconciliationStatus": {"lastStableSpec": 7}}}])
def test_a_status_without_one_has_none(seen: dict[str, Any]) -> None:
    assert stable_spec({"spec": SPEC, **seen}) is None


def test_keys_that_came_since_go_and_others_come_back() -> None:
    live = other(image="f:2", serviceAccount="x", flinkConfiguration={"a": "2", "b": "3"}, taskManager={"replicas": 3})
    changed = {
        change.path: change.value for change in spec_changes(whole(live, SPEC), stable_spec(whole(live, SPEC)) or {})
    }
    assert changed == {
        ("spec", "serviceAccount"): None,
        ("spec", "image"): "f:1",
        ("spec", "flinkConfiguration", "a"): "1",
        ("spec", "flinkConfiguration", "b"): None,
        ("spec", "taskManager", "replicas"): None,
        ("spec", "taskManager", "resource"): SPEC["taskManager"]["resource"],
    }


def test_ways_to_write_the_same_are_no_change() -> None:
    stable = other(ingress=None, podTemplate={"spec": {"containers": [{"name": "flink-main-container"}]}})
    stable["taskManager"] = {"resource": {"cpu": 1.0, "memory": "1g", "ephemeralStorage": None}, "podTemplate": None}
    assert spec_changes(whole(SPEC, stable), stable_spec(whole(SPEC, stable)) or {}) == []
    assert last_stable(whole(other(image="f:2"), stable), [{"spec": SPEC}]) == 0


def test_the_first_manifest_that_it_has_all_of_is_it() -> None:
    seen = whole(other(image="f:3"), {**SPEC, "flinkConfiguration": {"a": "1", "by.hand": "x"}})
    assert last_stable(seen, [{"spec": other(image="f:3")}, {"spec": SPEC}, {"spec": SPEC}]) == 1
    assert "none of the versions" in str(last_stable(seen, [{"spec": other(image="f:4")}]))


@pytest.mark.parametrize(
    ("by_hand", "place"),
    [
        ({"flinkConfiguration": {"a": "1", "fs.s3a.secret.key": "Zx81kq0s"}}, "fs.s3a.secret.key"),
        (
            {
                "jobManager": {
                    "podTemplate": {"spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": "x9"}]}]}}
                }
            },
            "DB_PASSWORD",
        ),
    ],
)
def test_a_secret_by_hand_is_named_by_its_place_alone(by_hand: dict[str, Any], place: str) -> None:
    words = str(last_stable(whole(other(image="f:3"), {**SPEC, **by_hand}), [{"spec": SPEC}]))
    assert words == f"the last stable spec holds a secret that somebody wrote there: {place}"
