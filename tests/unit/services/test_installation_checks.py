"""What only the installation can check of a request: its policy, profiles, versions, state, and names of jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import settings
from headrace.adapters.profiles import PROFILES, read_profiles
from headrace.bootstrap import wired
from headrace.domain.jobs import LEGAL_NAME, JobKey, Phase
from headrace.domain.log_requests import LogRequest
from headrace.domain.manifest.parts import MAIN_CONTAINER
from headrace.domain.operations import KindName
from headrace.errors import ConfigurationError, InvalidRequest
from headrace.settings import Settings, load
from headrace.testing import ReversingSealer
from tests.support.given import pod_labels
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
    accept._resolve._platform = replace(accept._resolve._platform, state_volume="")
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


FOREIGN: list[tuple[dict[str, Any], str, str]] = [
    ({"image": "evil.io/flink:1"}, "image", "HEADRACE_ALLOWED_IMAGES"),
    ({"service_account": "admin"}, "service_account", "HEADRACE_ALLOWED_SERVICE_ACCOUNTS"),
    ({"env": {"A": {"secretKeyRef": {"name": "s", "key": "k"}}}}, "env.A.secret_key_ref.name", "ALLOWED_SECRETS"),
    ({"env_from": [{"secretRef": {"name": "s"}}]}, "env_from.0.secret_ref.name", "HEADRACE_ALLOWED_SECRETS"),
    ({"env_from": [{"configMapRef": {"name": "c"}}]}, "env_from.0.config_map_ref.name", "ALLOWED_CONFIG_MAPS"),
    ({"pod": {"image_pull_secrets": ["s"]}}, "pod.image_pull_secrets.0", "HEADRACE_ALLOWED_SECRETS"),
    ({"pod": {"annotations": {"a.io/b": "c"}}}, "pod.annotations.a.io/b", "HEADRACE_ALLOWED_ANNOTATIONS"),
    ({"pod": {"tolerations": [{"operator": "Exists"}]}}, "pod.tolerations.0", "HEADRACE_ALLOWED_TOLERATIONS"),
    ({"pod": {"priority_class_name": "p"}}, "pod.priority_class_name", "HEADRACE_ALLOWED_PRIORITY_CLASSES"),
    *(
        ({"pod": {"volumes": [{"name": "v", "mount_path": "/v", kind: name}]}}, f"pod.volumes.0.{kind}", setting)
        for kind, name, setting in (
            ("secret", "s", "HEADRACE_ALLOWED_SECRETS"),
            ("config_map", "c", "HEADRACE_ALLOWED_CONFIG_MAPS"),
            ("persistent_volume_claim", "c", "HEADRACE_ALLOWED_CLAIMS"),
            ("host_path", "/h", "HEADRACE_ALLOWED_HOST_PATHS"),
        )
    ),
    (
        {"state": {"location": "file:///s", "volume": {"host_path": "/etc"}}},
        "state.volume.host_path",
        "HEADRACE_ALLOWED_HOST_PATHS",
    ),
    (
        {"state": {"location": "file:///s", "volume": {"persistent_volume_claim": "c"}}},
        "state.volume.persistent_volume_claim",
        "HEADRACE_ALLOWED_CLAIMS",
    ),
    (
        {"flink_configuration": {"kubernetes.hostnetwork.enabled": "true"}},
        "flink_configuration.kubernetes.hostnetwork.enabled",
        "HEADRACE_ALLOWED_FLINK_CONFIGURATION",
    ),
]


def test_a_variable_of_the_pod_in_sql_hides_nothing_from_the_policy_when_a_template_is_registered(world: World) -> None:
    sql = "SET 'jmx.server.port' = '1'; CREATE TABLE a (b INT) WITH ('password' = '${env:DB_PASSWORD}');"
    with pytest.raises(InvalidRequest) as caught:
        world.services.register.template({"template_id": "t", "type": "SQL", "sql": sql}, "default")
    assert "HEADRACE_ALLOWED_FLINK_CONFIGURATION" in caught.value.problems["sql"]


def of_settings(world: World, **settings: str) -> World:
    """The same records and cluster under an installation of these settings."""
    told = Settings(flink_allowed_hosts="files.example.com", _env_file=None, **settings)  # type: ignore[call-arg]
    ports = {"store": world.store, "runtime": world.runtime, "queue": world.queue, "job_manager": world.job_manager}
    services = wired(told, clock=world.clock, sealer=ReversingSealer(), **ports)  # type: ignore[arg-type]
    return replace(world, services=services)


OPEN = {
    **dict.fromkeys(
        (
            *("allowed_images", "allowed_service_accounts", "allowed_secrets", "allowed_config_maps", "allowed_claims"),
            *("allowed_annotations", "allowed_tolerations", "allowed_priority_classes"),
        ),
        "*",
    ),
    "allowed_host_paths": "/etc, /h",
    "allowed_flink_configuration": "kubernetes.hostnetwork",
}


@pytest.mark.parametrize(("config", "field", "words"), FOREIGN, ids=[f"{f[1]}: {f[2]}" for f in FOREIGN])
def test_by_default_a_job_gets_what_is_the_installations_own(
    world: World, config: dict[str, Any], field: str, words: str
) -> None:
    asked = {"script": SCRIPT, **config}
    default = of_settings(world)
    assert words in problems(default, job_config=asked)[f"job_config.{field}"]
    with pytest.raises(InvalidRequest) as caught:
        default.services.register.template({"template_id": "t", **asked}, "default")
    assert words in caught.value.problems[field]
    open_to_all = of_settings(world, **OPEN)
    assert resources(open_to_all, job_config=asked)
    assert open_to_all.services.register.template({"template_id": "t", **asked}, "default").version == 1


def test_what_is_the_installations_own_may_be_named(world: World) -> None:
    own = {
        "image": "headrace/flink:2.2.1",
        "service_account": "flink",
        "state": {"location": "file:///s", "volume": {"persistent_volume_claim": "headrace-state"}},
    }
    assert resources(of_settings(world), job_config={"script": SCRIPT, **own})


def test_what_was_accepted_stands_under_the_policy_of_the_day_it_is_rendered(world: World) -> None:
    wide, narrow = of_settings(world, allowed_images="team/*"), of_settings(world)
    wide.submit(job_config={"script": SCRIPT, "image": "team/flink:1"})
    narrow.execute()
    assert world.runtime.get("default", "orders") is None
    assert narrow.job().phase is Phase.REJECTED
    assert "HEADRACE_ALLOWED_IMAGES" in narrow.job().reason


def test_a_template_that_parameters_fill_in_is_judged_at_its_submit(world: World) -> None:
    body = {
        "template_id": "t",
        "script": SCRIPT,
        "parameters": {"key": {"default": "x"}},
        "flink_configuration": {"pipeline.name": "${key}", "kubernetes.hostnetwork.enabled": "true"},
    }
    world.services.register.template(body, "default")
    assert "node's network" in str(problems(world, template_id="t"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"allowed_images": "registry.*.com/a"}, "at its end"),
        ({"allowed_secrets": "a,*b"}, "at its end"),
        ({"allowed_host_paths": "srv"}, "absolute paths"),
        ({"allowed_host_paths": "/srv/../etc"}, "absolute paths"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused_at_the_start(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load({f"HEADRACE_{name.upper()}": text for name, text in settings.items()})
    assert all(f"HEADRACE_{name.upper()}" in str(caught.value) for name in settings)


def test_a_volume_is_not_mounted_over_the_state(world: World) -> None:
    volume = {"name": "v", "mount_path": "/s/in", "empty_dir": True}
    state = {"location": "file:///s", "volume": {"persistent_volume_claim": "headrace-state"}}
    asked = {"script": SCRIPT, "state": state, "pod": {"volumes": [volume]}}
    found = problems(of_settings(world), job_config=asked)
    assert "state is mounted at /s" in found["job_config.pod.volumes.0.mount_path"]


def test_a_new_job_whose_name_an_older_record_has_gets_another(world: World) -> None:
    """A release before gave `My_Job` the name `my-job-1ce4a870`, which is a legal id of its own."""
    world.submit("My_Job")
    document = world.store.document(JobKey("default", "My_Job"))
    assert document is not None
    old = replace(
        document, job=replace(document.job, deployment_name="my-job-1ce4a870"), revision=document.revision + 1
    )
    world.store.write(document, old)
    world.execute("My_Job")
    world.submit("my-job-1ce4a870")
    world.execute("my-job-1ce4a870")
    names = [world.job(job_id).deployment_name for job_id in ("My_Job", "my-job-1ce4a870")]
    assert names[0] == "my-job-1ce4a870", "what is on record stays"
    assert LEGAL_NAME.fullmatch(names[1])
    owners = [world.runtime.get("default", name).metadata.annotations["headrace.io/job-id"] for name in names]
    assert owners == ["My_Job", "my-job-1ce4a870"]


def test_two_tenants_of_one_namespace_do_not_share_a_deployment(world: World) -> None:
    other = of_settings(world, tenant="other")
    world.submit("orders")
    other.accept(KindName.SUBMIT, "orders", tenant="other", job_config={"script": SCRIPT})
    names = {world.store.job(JobKey(tenant, "orders")).deployment_name for tenant in ("default", "other")}
    assert len(names) == 2


def test_the_pods_of_another_job_are_not_shown(world: World) -> None:
    world.runs("orders")
    for job_id, name in (("orders", "orders-1"), ("victim", "victim-1")):
        labels = {**pod_labels(job_id), "app": "orders"}
        pod = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": MAIN_CONTAINER}]}}
        world.runtime.put_pod("default", {**pod, "status": {"phase": "Running"}})
        world.runtime.print_line(name, MAIN_CONTAINER, f"of {job_id}")
    read = world.services.inspect.logs(JobKey("default", "orders"), LogRequest())
    assert b"".join(read.body).decode().split() == ["of", "orders"]
