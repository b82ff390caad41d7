"""What jobs get on the laptop's own cluster, and what they may not get on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.bootstrap import policy_of
from headrace.domain.job_requests import parse_request
from headrace.settings import Settings, load
from local import job_settings
from local.job_settings import IMAGE, NAMESPACE, STATE_LOCATION, STATE_VOLUME
from local.stack import Options, Stack

BUCKET = "s3://bucket/flink"


def test_the_laptop_has_a_value_for_all_that_was_not_said(tmp_path: Path) -> None:
    own = job_settings.on_the_laptop({}, tmp_path)
    assert own[STATE_LOCATION] == f"file://{tmp_path}/state"
    assert own[STATE_VOLUME] == f"hostPath:{tmp_path}/state"
    assert own["HEADRACE_FLINK_ALLOWED_HOSTS"] == "127.0.0.1"
    said = {IMAGE: "mine", NAMESPACE: "teams"}
    assert job_settings.on_the_laptop(said, tmp_path) == {**own, **said}


@pytest.mark.parametrize(("location", "volume"), [(BUCKET, ""), ("file:///mnt/state", "hostPath:/mnt/state")])
def test_a_volume_follows_its_location(location: str, volume: str, tmp_path: Path) -> None:
    assert job_settings.on_the_laptop({STATE_LOCATION: location}, tmp_path)[STATE_VOLUME] == volume


@pytest.mark.parametrize(
    "said",
    [
        {STATE_LOCATION: "file://{data}/state"},
        {STATE_LOCATION: "file:{data}/state"},
        {STATE_VOLUME: "hostPath:{data}"},
        {STATE_LOCATION: "file:///state", STATE_VOLUME: "hostPath:{data}/deep/down"},
        {STATE_LOCATION: "file:///state", STATE_VOLUME: "hostPath:{other}/state"},
    ],
)
def test_a_folder_of_this_machine_is_no_state_of_another_cluster(said: dict[str, str], tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    other.mkdir()
    (other / "stack.json").touch()
    filled = {name: value.format(data=data, other=other) for name, value in said.items()}
    words = job_settings.of_this_machine(filled, data)
    assert words is not None
    for word in ("--state-location", STATE_LOCATION, "--state-volume", STATE_VOLUME):
        assert word in words


@pytest.mark.parametrize(
    "said",
    [
        {},
        {STATE_LOCATION: BUCKET},
        {STATE_LOCATION: "file:///srv/state", STATE_VOLUME: "hostPath:/srv/state"},
        {STATE_VOLUME: "pvc:claim"},
    ],
)
def test_what_other_machines_may_have_is_taken(said: dict[str, str], tmp_path: Path) -> None:
    assert job_settings.of_this_machine(said, tmp_path / "data") is None


def test_object_storage_needs_no_volume_and_a_folder_has_one_by_default() -> None:
    assert Settings(flink_state_location=BUCKET).state_volume == ""
    assert Settings(flink_state_location=BUCKET, flink_state_volume="pvc:a").state_volume == "pvc:a"
    assert Settings().state_volume == "pvc:headrace-state"
    assert Settings(flink_state_volume="").state_volume == ""


def test_what_is_said_stands_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_FLINK_IMAGE", "of-the-environment")
    monkeypatch.setenv("HEADRACE_NAMESPACE", "of-the-environment")
    loaded = load({IMAGE: "said"})
    assert (loaded.flink_image, loaded.namespace) == ("said", "of-the-environment")


def test_the_laptops_own_cluster_is_open_unless_a_list_is_said(tmp_path: Path) -> None:
    policy = policy_of(load(job_settings.on_the_laptop({}, tmp_path)))
    body = {
        "script": {"name": "job.py", "content": ""},
        "image": "anything:1",
        "service_account": "any",
        "env": {"A": {"secretKeyRef": {"name": "s", "key": "k"}}},
        "env_from": [{"configMapRef": {"name": "c"}}],
        "pod": {
            "volumes": [
                {"name": "h", "mount_path": "/h", "host_path": "/any"},
                {"name": "p", "mount_path": "/p", "persistent_volume_claim": "any"},
            ],
            "annotations": {"a.io/b": "c"},
            "tolerations": [{"operator": "Exists"}],
            "priority_class_name": "p",
        },
    }
    assert list(policy.problems_of(parse_request(body))) == []
    said = {"HEADRACE_ALLOWED_IMAGES": "mine:1"}
    strict = policy_of(load(job_settings.on_the_laptop(said, tmp_path)))
    assert [field for field, _ in strict.problems_of(parse_request(body))] == ["image"]


def test_a_list_of_the_environment_holds_on_the_laptop_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALLOWED_IMAGES", "mine:1")
    stack = Stack(Options(data=tmp_path), lambda _: None, lambda: False)
    assert stack._for_jobs["HEADRACE_ALLOWED_IMAGES"] == "mine:1"
    assert stack._for_jobs["HEADRACE_ALLOWED_SECRETS"] == "*"


def test_every_list_of_the_laptop_is_a_setting() -> None:
    assert {variable.removeprefix("HEADRACE_").lower() for variable in job_settings.OPEN} <= set(Settings.model_fields)
