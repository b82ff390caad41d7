"""What a change costs: by the operator's rules for a spec, and, the same, as each field of a request says."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain import diff
from headrace.domain.costs import Cost, FieldCost, Mode, cost_of_option, field_changes, highest
from headrace.domain.job_requests import JobManagerResources, JobRequest, TaskManagerResources, cost_of_field
from headrace.domain.manifest import Stamp, render
from headrace.domain.policy import Policy
from headrace.domain.vertices import OVERRIDES_KEY
from tests.support.given import ORDERS, PLATFORM
from tests.support.recorded import RECORDINGS

DIGEST = "0" * 64
URL = "https://files.example.com"
SCRIPT = {"script": {"name": "job.py", "content": "print(1)\n"}}
FETCHED = {"script": f"{URL}/job.py"}
JAR = {"type": "JAR", "jar": f"{URL}/job.jar"}
SQL = {"type": "SQL", "sql": "SELECT 1;"}
PAIRS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "type": (FETCHED, {"type": "SQL", "script": f"{URL}/job.py"}),
    "runtime": (SCRIPT, {**SCRIPT, "runtime": "native"}),
    "script": (SCRIPT, {"script": {"name": "job.py", "content": "print(2)\n"}}),
    "files": (SCRIPT, {**SCRIPT, "files": [{"name": "more.py", "content": "A = 1\n"}]}),
    "sql": (SQL, {**SQL, "sql": "SELECT 2;"}),
    "jar": (JAR, {**JAR, "jar": f"{URL}/other.jar"}),
    "main_class": (JAR, {**JAR, "main_class": "com.example.Job"}),
    "jar_files": (SCRIPT, {**SCRIPT, "jar_files": [{"url": f"{URL}/more.jar"}]}),
    "sha256": (JAR, {**JAR, "sha256": DIGEST}),
    "args": (SCRIPT, {**SCRIPT, "args": ["--a"]}),
    "env": (SCRIPT, {**SCRIPT, "env": {"LOG": "debug"}}),
    "env_from": (SCRIPT, {**SCRIPT, "env_from": [{"secret_ref": {"name": "db"}}]}),
    "image": (SCRIPT, {**SCRIPT, "image": "flink-job:2"}),
    "flink_version": (SCRIPT, {**SCRIPT, "flink_version": "v2_1"}),
    "profile": (SCRIPT, {**SCRIPT, "profile": "large"}),
    "resources": (SCRIPT, {**SCRIPT, "resources": {"job_manager": {"cpu": 2.0}}}),
    "resources.job_manager.memory": (SCRIPT, {**SCRIPT, "resources": {"job_manager": {"memory": "2g"}}}),
    "resources.job_manager.cpu": (SCRIPT, {**SCRIPT, "resources": {"job_manager": {"cpu": 2.0}}}),
    "resources.task_manager.memory": (SCRIPT, {**SCRIPT, "resources": {"task_manager": {"memory": "2g"}}}),
    "resources.task_manager.cpu": (SCRIPT, {**SCRIPT, "resources": {"task_manager": {"cpu": 2.0}}}),
    "resources.task_manager.slots": (SCRIPT, {**SCRIPT, "resources": {"task_manager": {"slots": 2}}}),
    "resources.task_manager.replicas": (
        {**SCRIPT, "resources": {"task_manager": {"replicas": 1}}},
        {**SCRIPT, "resources": {"task_manager": {"replicas": 2}}},
    ),
    "parallelism": (SCRIPT, {**SCRIPT, "parallelism": 2}),
    "flink_configuration": (SCRIPT, {**SCRIPT, "flink_configuration": {"table.exec.state.ttl": "1 h"}}),
    "labels": (SCRIPT, {**SCRIPT, "labels": {"team": "two"}}),
    "ended_run_kept_hours": (SCRIPT, {**SCRIPT, "ended_run_kept_hours": 1.0}),
    "savepoints": (SCRIPT, {**SCRIPT, "savepoints": {"every_minutes": 60}}),
    "pod": (SCRIPT, {**SCRIPT, "pod": {"node_selector": {"kubernetes.io/arch": "amd64"}}}),
    "state": (SCRIPT, {**SCRIPT, "state": {"location": "s3://bucket/flink"}}),
    "namespace": (SCRIPT, {**SCRIPT, "namespace": "default"}),
    "service_account": (SCRIPT, {**SCRIPT, "service_account": "flink-two"}),
}
"""Of each field two requests that differ in it alone."""

ANY = replace(Policy(**{each.name: ("*",) for each in fields(Policy)}), hosts=("files.example.com",))
GENEROUS = replace(PLATFORM, policy=ANY)

every_mode = pytest.mark.parametrize("mode", Mode)


def rendered(request: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
    manifest = render(ORDERS, JobRequest.model_validate(request), GENEROUS, Stamp(1, "operation", 1))
    return {**manifest, "spec": {**manifest["spec"], "mode": mode.value}}


def cost_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Cost:
    return highest(each.cost for each in field_changes(before, after))


def test_each_field_of_a_request_says_what_it_costs() -> None:
    for model in (JobRequest, JobManagerResources, TaskManagerResources):
        for name, field in model.model_fields.items():
            assert [each for each in field.metadata if isinstance(each, FieldCost)], f"{model.__name__}.{name}"


def test_each_field_that_says_it_is_tried() -> None:
    inner = {f"job_manager.{name}" for name in JobManagerResources.model_fields}
    inner |= {f"task_manager.{name}" for name in TaskManagerResources.model_fields}
    assert set(PAIRS) == {*JobRequest.model_fields, *(f"resources.{name}" for name in inner)}


@every_mode
@pytest.mark.parametrize("field", PAIRS)
def test_what_a_field_says_is_what_its_rendering_comes_to(field: str, mode: Mode) -> None:
    before, after = (rendered(request, mode) for request in PAIRS[field])
    assert cost_of(before, after) is cost_of_field(tuple(field.split(".")), mode)


def spec(**fields: Any) -> dict[str, Any]:
    job = {"parallelism": 1, "state": "running", "upgradeMode": "savepoint", **fields.pop("job", {})}
    return {"spec": {"job": job, "taskManager": {"replicas": 1}, "flinkConfiguration": {}, **fields}}


@pytest.mark.parametrize(
    ("after", "native", "standalone"),
    [
        (spec(job={"parallelism": 2}), "UPGRADE", "SCALE"),
        (spec(taskManager={"replicas": 2}), "UPGRADE", "SCALE"),
        (spec(taskManager={"replicas": 2, "resource": {"cpu": 1}}), "UPGRADE", "UPGRADE"),
        (spec(taskManager=None), "UPGRADE", "UPGRADE"),
        (spec(flinkConfiguration={OVERRIDES_KEY: "a:2"}), "SCALE", "UPGRADE"),
        (spec(flinkConfiguration={OVERRIDES_KEY: "a:2", "parallelism.default": "3"}), "SCALE", "UPGRADE"),
        (spec(flinkConfiguration={OVERRIDES_KEY: "a:2", "restart-strategy.type": "none"}), "UPGRADE", "UPGRADE"),
        (spec(flinkConfiguration={"parallelism.default": "3"}), "IGNORE", "IGNORE"),
        (spec(flinkConfiguration={"kubernetes.operator.savepoint.history.max.count": "3"}), "IGNORE", "IGNORE"),
        (spec(flinkConfiguration={"kubernetes": {"operator": {"savepoint.history.max.count": 3}}}), "IGNORE", "IGNORE"),
        (spec(flinkConfiguration={"job.autoscaler.enabled": "true"}), "IGNORE", "IGNORE"),
        (spec(flinkConfiguration=None), "IGNORE", "IGNORE"),
        (spec(job={"upgradeMode": "last-state"}), "IGNORE", "IGNORE"),
        (spec(job={"savepointTriggerNonce": 7}), "IGNORE", "IGNORE"),
        (spec(job={"initialSavepointPath": "s3://b/savepoint-1"}), "IGNORE", "IGNORE"),
        (spec(job={"allowNonRestoredState": True}), "IGNORE", "IGNORE"),
        (spec(job={"state": "suspended"}), "UPGRADE", "UPGRADE"),
        (spec(job={"savepointRedeployNonce": 7}), "SAVEPOINT_REDEPLOY", "SAVEPOINT_REDEPLOY"),
        (spec(job={"savepointRedeployNonce": 7}, image="other:1"), "SAVEPOINT_REDEPLOY", "SAVEPOINT_REDEPLOY"),
        (spec(restartNonce=7), "UPGRADE", "UPGRADE"),
        (spec(image="other:1"), "UPGRADE", "UPGRADE"),
        (spec(aFieldOfTomorrow=1), "UPGRADE", "UPGRADE"),
        (spec(), "IGNORE", "IGNORE"),
    ],
)
def test_the_operators_rules(after: dict[str, Any], native: str, standalone: str) -> None:
    for mode, cost in ((Mode.NATIVE, native), (Mode.STANDALONE, standalone)):
        before, then = copy.deepcopy(spec()), copy.deepcopy(after)
        before["spec"]["mode"] = then["spec"]["mode"] = mode.value
        assert cost_of(before, then) == cost


CHANGED = re.compile(r"(\w+) change\(s\) detected \(Diff: FlinkDeploymentSpec\[(.*)\]\), starting reconciliation\.")
PLACE = re.compile(r"([\w.-]+) : (.*?) -> (.*?)(?=, [\w.-]+ : |$)")


def told_by_the_operator() -> list[tuple[str, str]]:
    """What it called each change of a spec that was recorded, and the places that it named."""
    events = (line for file in RECORDINGS.glob("*.jsonl") for line in file.read_text().splitlines())
    found = (CHANGED.fullmatch(json.loads(line)["object"].get("message") or "") for line in events)
    return sorted({(each[1], each[2]) for each in found if each})


def written(place: str, text: str) -> diff.Change:
    part, _, rest = place.partition(".")
    inner = (rest,) if part == "flinkConfiguration" else tuple(rest.split(".")) if rest else ()
    return diff.Change(("spec", part, *inner), None if text == "null" else text)


@pytest.mark.parametrize(("cost", "told"), told_by_the_operator())
def test_a_real_operator_called_each_recorded_change_so(cost: str, told: str) -> None:
    places = PLACE.findall(told)
    assert len(places) == told.count(" -> ")
    has_parts = {"spec": {"mode": "native", "job": {}, "taskManager": {}}}
    before = diff.applied_to(has_parts, [written(place, old) for place, old, _ in places])
    after = diff.applied_to(has_parts, [written(place, new) for place, _, new in places])
    assert cost_of(before, after) == cost


def test_the_recordings_have_each_cost_that_makes_an_event() -> None:
    assert {cost for cost, _ in told_by_the_operator()} == set(Cost) - {Cost.IGNORE}


def test_a_deployment_that_does_not_say_its_mode_is_a_native_one() -> None:
    assert cost_of(spec(), spec(job={"parallelism": 2})) is Cost.UPGRADE


def test_a_nonce_that_is_taken_away_restarts_nothing() -> None:
    before = spec(restartNonce=3, job={"savepointRedeployNonce": 3})
    assert cost_of(before, spec()) is Cost.IGNORE
    assert [each.path for each in field_changes(before, spec())]


def test_labels_and_annotations_cost_nothing_and_are_changes() -> None:
    after = {**spec(), "metadata": {"labels": {"team": "two"}}}
    (found,) = field_changes(spec(), after)
    assert (found.path, found.before, found.after, found.cost) == (
        ("metadata", "labels", "team"),
        None,
        "two",
        Cost.IGNORE,
    )


def test_a_status_is_no_change() -> None:
    assert field_changes(spec(), {**spec(), "status": {"observedGeneration": 2}}) == []


def containers(*named: tuple[str, str]) -> dict[str, Any]:
    env = [{"name": name, "value": value} for name, value in named]
    return spec(podTemplate={"spec": {"containers": [{"name": "flink-main-container", "env": env}]}})


def test_a_variable_that_changes_is_one_place_and_not_its_whole_list() -> None:
    (found,) = field_changes(containers(("A", "1"), ("B", "1")), containers(("A", "1"), ("B", "2")))
    assert found.path[-4:] == ("flink-main-container", "env", "B", "value")
    assert (found.before, found.after, found.cost) == ("1", "2", Cost.UPGRADE)


def test_another_order_of_the_same_is_an_upgrade_too() -> None:
    found = field_changes(containers(("A", "1"), ("B", "1")), containers(("B", "1"), ("A", "1")))
    assert [each.cost for each in found] == [Cost.UPGRADE]


def test_the_costs_go_up() -> None:
    assert highest([]) is Cost.IGNORE
    assert highest([Cost.SCALE, Cost.IGNORE]) is Cost.SCALE
    assert highest([Cost.UPGRADE, Cost.SAVEPOINT_REDEPLOY, Cost.SCALE]) is Cost.SAVEPOINT_REDEPLOY


def test_an_option_of_a_request_costs_what_it_costs_in_the_spec() -> None:
    for name in ("kubernetes.operator.savepoint.history.max.age", "restart-strategy.type", OVERRIDES_KEY):
        for mode in Mode:
            before, after = spec(mode=mode.value), spec(mode=mode.value, flinkConfiguration={name: "1"})
            assert cost_of(before, after) is cost_of_field(("flink_configuration", name), mode)
            assert cost_of_option(name, mode) is cost_of(before, after)


SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"])
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.lists(inner, max_size=2)
        | st.lists(st.sampled_from("xyz"), max_size=3, unique=True).map(lambda names: [{"name": n} for n in names])
    ),
    max_leaves=8,
)


@given(TREES, TREES)
def test_what_differs_is_seen_and_what_does_not_is_not(before: Any, after: Any) -> None:
    found = field_changes({"spec": {"part": before}}, {"spec": {"part": after}})
    assert bool(found) == (diff.without_nulls(before) != diff.without_nulls(after))
    assert all(each.before != each.after for each in found)


@given(
    st.dictionaries(st.sampled_from("abc"), TREES, max_size=3),
    st.dictionaries(st.sampled_from("abc"), TREES, max_size=3),
)
def test_a_deployment_with_changes_written_on_it_holds_them(live: Any, wanted: Any) -> None:
    kept = copy.deepcopy(live)
    wished = diff.changes({}, wanted, live)
    assert diff.holds(diff.applied_to(live, wished), wished)
    assert live == kept
    back = diff.inverse(live, wished)
    assert diff.applied_to(diff.applied_to(live, wished), back) == live
