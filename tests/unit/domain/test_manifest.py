"""Rendering against golden manifests. `HEADRACE_UPDATE_GOLDEN=1` writes them anew, to be read before they are kept."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.domain import diff
from headrace.domain.job_requests import JobRequest, parse_request, recorded_request
from headrace.domain.jobs import LEGAL_NAME, deployment_name, derived_name
from headrace.domain.manifest import Stamp, render, stamped, with_parallelism
from headrace.domain.manifest.parts import secret_name_in
from headrace.domain.manifest.programs import config_map_of
from headrace.domain.templates import parse_resolved
from headrace.errors import InvalidRequest
from tests.support.given import BUCKET, ORDERS, PLATFORM, REQUESTS

GOLDEN = Path(__file__).parent.parent.parent / "data" / "golden"


def rendered(name: str) -> dict[str, Any]:
    return render(ORDERS, parse_request(REQUESTS[name]), PLATFORM, Stamp(1, "operation-1", 1))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_manifest_is_the_golden_one(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("HEADRACE_UPDATE_GOLDEN") == "1":
        file.write_text(yaml.safe_dump(json.loads(json.dumps(rendered(name))), sort_keys=False))
    assert rendered(name) == yaml.safe_load(file.read_text())


def test_state_on_object_storage_mounts_nothing() -> None:
    spec = render(ORDERS, parse_request(REQUESTS["file"]), BUCKET, Stamp(1, "o", 1))["spec"]
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
    wanted = stamped(with_parallelism(before, 2), ORDERS, Stamp(2, "operation-2", 1))
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


JOB_IDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?", fullmatch=True)


@given(JOB_IDS, JOB_IDS)
def test_no_id_is_the_name_that_another_id_gets(one: str, other: str) -> None:
    assert (deployment_name(one) == deployment_name(other)) == (one == other)
    assert deployment_name(deployment_name(one)) != deployment_name(one) or deployment_name(one) == one
    assert deployment_name(derived_name(one)) != derived_name(one)


def test_an_id_that_looks_derived_gets_a_name_of_its_own() -> None:
    derived = deployment_name("My_Job")
    assert re.fullmatch("my-job-[0-9a-f]{16}", derived)
    assert deployment_name(derived) not in (derived, "my-job")
    assert deployment_name("orders-1ce4a870") == "orders-1ce4a870"


PATHS = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,6}(/[a-z0-9_][a-z0-9_.-]{0,6}){0,2}", fullmatch=True)


@given(
    st.lists(PATHS | st.sampled_from(["a/x.py", "001-x.py", "002-x.py", "b/x.py"]), min_size=1, max_size=8, unique=True)
)
def test_each_file_has_a_key_of_its_own(names: list[str]) -> None:
    assume(not {str(folder) for name in names for folder in PurePosixPath(name).parents} & {*names, "job.py"})
    files = [{"name": name, "content": f"# {name}"} for name in names if name != "job.py"]
    request = parse_request({"script": {"name": "job.py", "content": "# job.py"}, "files": files})
    manifest = render(ORDERS, request, PLATFORM, Stamp(1, "o", 1))
    brought = config_map_of(manifest, request)
    assert brought is not None
    volumes = manifest["spec"]["jobManager"]["podTemplate"]["spec"]["volumes"]
    (source,) = [each["configMap"] for each in volumes if each["name"] == "headrace-files"]
    assert brought[0] == source["name"]
    seen = {item["path"]: brought[1][item["key"]] for item in source["items"]}
    assert seen == {name: f"# {name}" for name in ("job.py", *(file["name"] for file in files))}


def test_what_a_manifest_of_another_release_mounts_is_made_under_its_names() -> None:
    request = parse_request({**REQUESTS["folder"], "env": {"DB_PASSWORD": {"sealed": "c2VhbGVk"}}})
    text = json.dumps(render(ORDERS, request, PLATFORM, Stamp(1, "o", 1)))
    older = json.loads(
        re.sub(r"(orders-(?:files|env)-[0-9a-f]{8})[0-9a-f]{8}", r"\1", text.replace("001-prices", "prices"))
    )
    brought = config_map_of(older, request)
    assert brought is not None
    assert re.fullmatch("orders-files-[0-9a-f]{8}", brought[0])
    assert brought[1]["prices.py"] == "VAT = 0.2\n"
    assert re.fullmatch("orders-env-[0-9a-f]{8}", secret_name_in(older, request) or "")
    assert config_map_of({}, request) is None
    assert secret_name_in({}, request) is None


@pytest.mark.parametrize("parallelism", [1, 3, 5])
def test_parallelism_beside_replicas_is_refused_where_they_differ(parallelism: int) -> None:
    body = {"script": REQUESTS["file"]["script"], "resources": {"task_manager": {"replicas": 2, "slots": 2}}}
    with pytest.raises(InvalidRequest, match="replicas gives 2 times 2 slots") as caught:
        parse_resolved({**body, "parallelism": parallelism})
    assert set(caught.value.problems) == {"job_config.parallelism"}
    alike = parse_resolved({**body, "parallelism": 4})
    assert parse_resolved(body).as_json()["parallelism"] == alike.as_json()["parallelism"] == 4
    assert recorded_request({**body, "parallelism": 1}).parallelism == 1, "as records of the release before have it"


def test_a_request_survives_its_json_form() -> None:
    request = parse_request(REQUESTS["file"])
    assert JobRequest.model_validate(request.model_dump(mode="json", exclude_none=True)) == request
