"""`up` beside a cluster that is not the laptop's own, and beside servers that were swapped in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.kubernetes_api import LocalKubernetesApi
from local.process import free_port
from tests.support.patience import wait_for
from tests.support.stack import ROOT, RunningStack, processes_of, running_stack

pytestmark = pytest.mark.timeout(180)
SCRIPT = {"name": "job.py", "content": "print(1)\n"}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of another cluster."""
    with LocalKubernetesApi(tmp_path / "elsewhere", token="token") as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        yield tmp_path / "kubeconfig"


def up(data: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """An `up` that does not come up."""
    argv = [sys.executable, "-m", "local", "up", "--data", str(data), "--api-port", str(free_port())]
    argv += ["--flower-port", str(free_port()), *options]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert processes_of(data) == []
    return done


def rendered(stack: RunningStack, **config: Any) -> dict[str, Any]:
    answer = stack.call("POST", "/jobs/render", {"job_id": "orders", "job_config": {"script": SCRIPT, **config}})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_jobs_of_another_cluster_get_what_was_said_flags_before_variables(kubeconfig: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = {
        "HEADRACE_NAMESPACE": "teams",
        "HEADRACE_FLINK_SERVICE_ACCOUNT": "runner",
        "HEADRACE_FLINK_STATE_LOCATION": "s3://bucket/flink",
        "HEADRACE_FLINK_IMAGE": "of-the-variable",
        "HEADRACE_FLINK_ALLOWED_HOSTS": "files.example.com",
    }
    flags = ("--kubeconfig", str(kubeconfig), "--image", "of-the-flag", "--flink-version", "v2_1")
    with running_stack(data, env, *flags) as stack:
        manifest = rendered(stack, script="https://files.example.com/job.py")
        spec, configuration = manifest["spec"], manifest["spec"]["flinkConfiguration"]
        assert manifest["metadata"]["namespace"] == "teams"
        assert (spec["image"], spec["flinkVersion"], spec["serviceAccount"]) == ("of-the-flag", "v2_1", "runner")
        assert configuration["execution.checkpointing.dir"].startswith("s3://bucket/flink/")
        assert "headrace-state" not in yaml.safe_dump(manifest)
        assert_the_command_line_finds(data)
    assert "namespace teams: image of-the-flag" in (tmp_path / "up.log").read_text()


def assert_the_command_line_finds(data: Path) -> None:
    for options, env in ((["--data", str(data)], {}), ([], {"HEADRACE_DATA": str(data)})):
        argv = [sys.executable, "-m", "headrace.cli.main", *options, "doctor"]
        done = subprocess.run(
            argv, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"(from {data / 'stack.json'})" in done.stdout


def test_where_nothing_was_said_the_products_defaults_hold_on_another_cluster(kubeconfig: Path, tmp_path: Path) -> None:
    with running_stack(tmp_path / "data", None, "--kubeconfig", str(kubeconfig)) as stack:
        manifest = rendered(stack)
        assert str(tmp_path) not in yaml.safe_dump(manifest)
        assert "claimName: headrace-state" in yaml.safe_dump(manifest)
        assert manifest["spec"]["flinkConfiguration"]["high-availability.storageDir"].startswith(
            "file:///opt/headrace/"
        )
        config = {"script": "http://127.0.0.1/job.py"}
        assert stack.call("POST", "/jobs/render", {"job_id": "a", "job_config": config}).status_code == 400


def test_state_on_this_machine_is_refused_for_another_cluster(kubeconfig: Path, tmp_path: Path) -> None:
    state = tmp_path / "data" / "state"
    done = up(
        tmp_path / "data",
        *("--kubeconfig", str(kubeconfig), "--state-volume", f"hostPath:{state}"),
        HEADRACE_FLINK_STATE_LOCATION=f"file://{state}",
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"state in {state} is on this machine alone")
    assert len(done.stderr.splitlines()) == 1


def test_records_of_one_cluster_are_not_taken_for_those_of_another(kubeconfig: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_stack(data, None, "--kubeconfig", str(kubeconfig)):
        pass
    done = up(data)
    assert done.returncode == 1
    assert done.stderr == f"{data} has the records of the cluster in {kubeconfig}: choose another folder with --data\n"
    assert up(data).stderr == done.stderr


def test_the_laptops_own_cluster_takes_another_namespace(tmp_path: Path) -> None:
    with running_stack(tmp_path / "data", None, "--namespace", "teams") as stack:
        stack.submit("orders")
        path = "/apis/flink.apache.org/v1beta1/namespaces/teams/flinkdeployments/orders"
        wait_for("the local operator to see it", lambda: stack.kube(path).get("status"), 60)


def test_a_variable_of_a_server_is_not_taken_for_a_wish_and_that_is_said(kubeconfig: Path, tmp_path: Path) -> None:
    production = {
        "HEADRACE_MONGODB_URL": "mongodb://user:SECRET@production",
        "HEADRACE_REDIS_URL": "redis://production",
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "production:9092",
        "HEADRACE_KUBECONFIG": "/production",
    }
    done = up(tmp_path / "data", "--kubeconfig", str(kubeconfig), "--redis", "redis://127.0.0.1:1", **production)
    assert done.returncode == 1
    assert "HEADRACE_MONGODB_URL is set and not used: --mongodb swaps another server in" in done.stdout
    assert "HEADRACE_KAFKA_BOOTSTRAP_SERVERS is set and not used" in done.stdout
    assert "HEADRACE_KUBECONFIG" not in done.stdout
    assert "HEADRACE_REDIS_URL" not in done.stdout
    assert "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--redis", "redis://:SECRET@127.0.0.1:1"), "Redis at redis://127.0.0.1:1 did not answer (--redis): "),
        (("--redis", "nonsense"), "--redis nonsense: "),
        (("--kafka", "127.0.0.1:1"), "Kafka at 127.0.0.1:1 did not answer"),
        (("--kubeconfig", "/none"), "HEADRACE_KUBECONFIG: /none: there is no such file"),
    ],
)
def test_a_server_that_is_not_there_is_said_before_anything_starts(
    option: tuple[str, str], words: str, tmp_path: Path
) -> None:
    done = up(tmp_path / "data", *option)
    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1
    assert "SECRET" not in done.stderr
    assert done.stdout == ""
