"""What only the installation can check of a request: profiles, versions of templates and of Flink, hosts, its state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import settings
from headrace.adapters.profiles import PROFILES, read_profiles
from headrace.errors import ConfigurationError, InvalidRequest
from headrace.settings import Settings
from tests.support.world import SCRIPT, World

TEMPLATE: dict[str, Any] = {
    "template_id": "t",
    "script": SCRIPT,
    "profile": "medium",
    "resources": {"task_manager": {"memory": "6g"}},
}


def resources(world: World, **fields: Any) -> dict[str, Any]:
    spec = world.services.accept.render("x", fields, tenant="default")["spec"]
    slots = spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"]
    return {
        "memory": spec["taskManager"]["resource"]["memory"],
        "cpu": spec["taskManager"]["resource"]["cpu"],
        "slots": slots,
    }


def problems(world: World, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        resources(world, **fields)
    return caught.value.problems


def test_resources_lie_over_their_profile(world: World) -> None:
    world.services.register.template(TEMPLATE, "default")
    assert resources(world, template_id="t") == {"memory": "6g", "cpu": 2.0, "slots": "2"}
    assert resources(world, template_id="t", job_config={"profile": "large"}) == {
        "memory": "8g",
        "cpu": 4.0,
        "slots": "4",
    }
    own = {"profile": "small", "resources": {"task_manager": {"slots": 3}}}
    assert resources(world, template_id="t", job_config=own) == {"memory": "1g", "cpu": 0.5, "slots": "3"}


def test_an_unknown_profile_is_told_the_known_ones(world: World) -> None:
    found = problems(world, job_config={"script": SCRIPT, "profile": "huge"})
    assert "there is no profile 'huge'; known: large, medium, small" in found["job_config.profile"]


def test_profiles_come_from_a_file_where_one_is_set(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    file.write_text("tiny: {task_manager: {memory: 512m}}\n")
    assert read_profiles(file)["tiny"].task_manager.memory == "512m"
    assert read_profiles(None) == PROFILES
    for content in ("tiny: {task_manager: {memory: 512}}", "- a", "a: [b", "tiny: {x: 1}"):
        file.write_text(content)
        with pytest.raises(ConfigurationError, match="HEADRACE_RESOURCE_PROFILES_FILE"):
            read_profiles(file)
    with pytest.raises(ConfigurationError, match="HEADRACE_RESOURCE_PROFILES_FILE"):
        read_profiles(tmp_path / "none.yaml")


def test_a_submit_may_name_a_version_and_the_job_knows_it(world: World) -> None:
    for parallelism in (1, 2):
        world.services.register.template({**TEMPLATE, "parallelism": parallelism}, "default")
    world.submit(template_id="t", template_version=1, job_config={})
    world.execute()
    assert (world.job().template_version, world.whole()["spec"]["job"]["parallelism"]) == (1, 1)
    world.submit("newest", template_id="t", job_config={})
    world.execute("newest")
    assert (world.job("newest").template_version, world.whole("newest")["spec"]["job"]["parallelism"]) == (2, 2)
    found = problems(world, template_id="t", template_version=3)
    assert found == {"template_version": "template 't' has no version 3; its newest is 2"}


@pytest.mark.parametrize(("version", "words"), [("v1_19", "too old"), ("v9_9", "v1_20, v2_2")])
def test_a_flink_that_cannot_run_is_refused(world: World, version: str, words: str) -> None:
    assert words in problems(world, job_config={"script": SCRIPT, "flink_version": version})["job_config.flink_version"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"script": "https://evil.example.com/a.py"}, "script"),
        ({"type": "JAR", "jar": "https://evil.example.com/a.jar"}, "jar"),
        ({"script": SCRIPT, "jar_files": "local:///a.jar,https://evil.example.com/a.jar"}, "jar_files.1.url"),
    ],
)
def test_a_host_that_is_not_listed_is_refused_wherever_it_stands(
    world: World, config: dict[str, Any], field: str
) -> None:
    assert "allowed: files.example.com" in problems(world, job_config=config)[f"job_config.{field}"]


def test_state_that_pods_would_not_share_is_refused_with_the_setting(world: World) -> None:
    accept = world.services.accept
    accept._platform = replace(accept._platform, state_volume="")
    words = problems(world, job_config={"script": SCRIPT})["job_config.state"]
    assert "HEADRACE_FLINK_STATE_LOCATION" in words
    assert "needs a volume that all pods share" in words
    own = {"script": SCRIPT, "state": {"location": "s3://bucket/flink"}}
    assert resources(world, job_config=own)["memory"] == "1g"


@pytest.mark.parametrize("url", ["http://{host}/", "http://{0}/", "http://{name/"])
def test_a_rest_address_with_other_braces_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="no other braces"):
        Settings(flink_rest_url=url)


@pytest.mark.parametrize("listed", ["*", "a.example.com,*.example.com", "https://example.com", "a b", "a:http"])
def test_an_allowed_host_that_nothing_could_be_ends_the_process_with_its_name(listed: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HEADRACE_FLINK_ALLOWED_HOSTS: .* is no host and no host:port"):
        settings.load({"HEADRACE_FLINK_ALLOWED_HOSTS": listed})
    assert settings.load({"HEADRACE_FLINK_ALLOWED_HOSTS": " Files.example.com:8443, 10.0.0.1,[::1]:80 "})
