"""What Flink's client wrote is what a process of the laptop gets, but for what is the laptop's own."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from local.kubelet import configuration
from local.kubelet.configuration import Ports
from local.kubelet.images import pull_error

PORTS = Ports(rest=20_001, rpc=20_002)
WRITTEN = """
kubernetes:
  cluster-id: orders
  internal: {jobmanager: {entrypoint: {class: org.example.Entrypoint}}}
jobmanager: {rpc: {address: orders.default, port: 6123}, memory: {process: {size: 1600m}}, scheduler: adaptive}
taskmanager: {memory: {process: {size: 2g}, managed: {fraction: '0.7'}}, rpc: {port: '6122'}, numberOfTaskSlots: '2'}
$internal: {application: {program-args: [-py, /opt/job/job.py, --, 'b c']}}
pipeline: {jars: ['local:///opt/job/a.jar']}
execution: {checkpointing: {dir: 's3://bucket/checkpoints'}}
"""


def mapped(text: str) -> str:
    return text.replace("/opt/job", "/here")


def test_both_find_the_job_manager_on_this_machine_and_the_api_by_its_kubeconfig() -> None:
    found = configuration.read(WRITTEN)
    for settings in (
        configuration.of_job_manager(found, mapped, PORTS, "/kubeconfig"),
        configuration.of_task_manager(found, mapped, PORTS, "/kubeconfig"),
    ):
        assert (settings["jobmanager.rpc.address"], settings["jobmanager.rpc.port"]) == ("127.0.0.1", "20002")
        assert (settings["rest.address"], settings["rest.port"]) == ("127.0.0.1", "20001")
        assert settings["kubernetes.config.file"] == "/kubeconfig"
        assert settings["jobmanager.scheduler"] == "adaptive"
        assert settings["taskmanager.numberOfTaskSlots"] == "2"


def test_a_job_manager_asks_for_task_managers_of_the_size_that_they_have() -> None:
    """Else it would not know them when they register, and ask for more."""
    found = configuration.read(WRITTEN)
    manager = configuration.of_job_manager(found, mapped, PORTS, "/kubeconfig")
    worker = configuration.of_task_manager(found, mapped, PORTS, "/kubeconfig")
    sizes = [{k: v for k, v in s.items() if k.startswith("taskmanager.memory.")} for s in (manager, worker)]
    assert sizes[0] == sizes[1]
    assert "taskmanager.memory.process.size" not in sizes[0]
    assert "taskmanager.memory.managed.fraction" not in sizes[0]


def test_task_managers_share_this_machine_and_their_pods_name_a_port() -> None:
    found = configuration.read(WRITTEN)
    assert configuration.of_job_manager(found, mapped, PORTS, "/k")["taskmanager.rpc.port"] == "6122"
    assert configuration.of_task_manager(found, mapped, PORTS, "/k")["taskmanager.rpc.port"] == "0"


def test_paths_are_mapped_wherever_they_stand() -> None:
    settings = configuration.of_job_manager(configuration.read(WRITTEN), mapped, PORTS, "/k")
    assert settings["$internal.application.program-args"] == ["-py", "/here/job.py", "--", "b c"]
    assert settings["pipeline.jars"] == ["local:///here/a.jar"]
    assert settings["execution.checkpointing.dir"] == "s3://bucket/checkpoints"
    assert settings[configuration.ENTRYPOINT] == "org.example.Entrypoint"


def test_the_images_python_is_this_ones_where_a_program_is_meant_and_nowhere_else() -> None:
    written = "kubernetes: {cluster-id: python}\npython: {executable: python3}\n"
    written += "$internal: {application: {program-args: [-pyexec, /usr/bin/python3]}}\n"
    settings = configuration.of_job_manager(configuration.read(written), mapped, PORTS, "/k")
    assert settings["kubernetes.cluster-id"] == "python"
    assert settings["python.executable"] == sys.executable
    assert settings["$internal.application.program-args"] == ["-pyexec", sys.executable]


KEYS = st.text("abc", min_size=1, max_size=3)
NESTED = st.recursive(st.text("xyz", max_size=3), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3))


def leaves(part: Any, lead: tuple[str, ...] = ()) -> dict[str, Any]:
    if isinstance(part, dict):
        return {k: v for key, inner in part.items() for k, v in leaves(inner, (*lead, key)).items()}
    return {".".join(lead): part}


@given(st.dictionaries(KEYS, NESTED, max_size=4))
def test_every_leaf_is_found_under_its_whole_key(written: dict[str, Any]) -> None:
    assert configuration.read(yaml.safe_dump(written)) == leaves(written)


def test_a_configuration_without_a_line_is_none() -> None:
    assert configuration.read("") == {}


def test_every_image_is_there_but_those_of_nowhere() -> None:
    for image in (
        "flink",
        "flink:2.2",
        "headrace/flink:2.2.1",
        "registry.example.com:5000/a/b@sha256:0",
        "invalid/x:1",
    ):
        assert pull_error(image) is None
    words = pull_error("registry.invalid:5000/flink:1")
    assert words is not None
    assert "lookup registry.invalid: no such host" in words
