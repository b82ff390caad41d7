"""A JobManager's process is killed under each of the example jobs. Its TaskManagers live on, as they do on a cluster:
what cannot be started a second time in one JVM, or is counted twice, shows here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from headrace.cli.files import template_from
from local.flink_operator.pods import PID_ANNOTATION
from local.stack import is_alive
from tests.support import servers
from tests.support.missing import needs_libpython
from tests.support.patience import wait_for
from tests.support.serving import serving
from tests.support.stack import ROOT, RunningStack, running_stack

pytestmark = pytest.mark.timeout(600)

EXAMPLES = ROOT / "examples"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
CHECKPOINTS = {"execution.checkpointing.interval": "2s"}
TEMPLATES = sorted(path.stem for path in (EXAMPLES / "templates").glob("*.yaml"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    env = {"KUBEBUILDER_ASSETS": ""}  # the small API serves the pods' logs, in which the causes are
    with running_stack(tmp_path_factory.mktemp("stack") / "data", env) as running:
        yield running


@pytest.fixture(scope="module")
def jar() -> Iterator[str]:
    with serving({"/counting-job.jar": (EXAMPLES / "jar" / "counting-job.jar").read_bytes()}) as address:
        yield f"{address}/counting-job.jar"


def submit(stack: RunningStack, name: str, jar: str) -> None:
    """The example as it is, but for its jar's address."""
    template = template_from(EXAMPLES / "templates" / f"{name}.yaml", EXAMPLES)
    body = {**template, **({"jar": jar} if template["type"] == "JAR" else {})}
    assert stack.call("POST", "/templates", body).status_code == 201
    assert stack.call("POST", "/jobs/submit", {"template_id": name, "job_id": name}).status_code == 202


def pid_of(stack: RunningStack, job_id: str, component: str) -> int:
    return int(stack.pod(job_id, component)["metadata"]["annotations"][PID_ANNOTATION])


def kill_the_job_manager(stack: RunningStack, job_id: str) -> None:
    os.kill(pid_of(stack, job_id, "jobmanager"), signal.SIGKILL)


def log_of_the_task_manager(stack: RunningStack, job_id: str) -> str:
    [log] = (stack.data / "flink").glob(f"{job_id}-????????/logs/taskmanager-1-1.log")
    return log.read_text()


def names_of_config_maps(stack: RunningStack, job_id: str) -> list[str]:
    """Those of its high availability. A deployment's own go with it only where somebody collects garbage: with a
    kube-apiserver alone nobody does."""
    found = [
        each["metadata"] for each in stack.kube(CONFIG_MAPS)["items"] if not each["metadata"].get("ownerReferences")
    ]
    return [each["name"] for each in found if each["name"].startswith(f"{job_id}-")]


def stop(stack: RunningStack, job_id: str) -> None:
    stopped = stack.call("POST", f"/jobs/{job_id}/stop", {}).json()["operation"]
    assert stack.await_operation(stopped["id"])["state"] == "SUCCEEDED"


def counted_more(stack: RunningStack, job_id: str) -> int:
    """The count once it is well beyond what it is now."""
    before = stack.count(job_id)
    found: int = wait_for("the count to go on", lambda: (now := stack.count(job_id)) > before + 20 and now)
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_killed_jobmanager_comes_back_to_its_taskmanagers_and_no_count_is_lost_or_doubled(
    stack: RunningStack, jar: str, name: str
) -> None:
    submit(stack, name, jar)
    stack.await_phase(name, "RUNNING")
    task_manager, counted = pid_of(stack, name, "taskmanager"), counted_more(stack, name)
    assert f"{name}-cluster-config-map" in names_of_config_maps(stack, name)
    for _ in range(2):
        killed, before = pid_of(stack, name, "jobmanager"), len(stack.phases(name))
        kill_the_job_manager(stack, name)
        wait_for("it to run again", lambda before=before: stack.phases(name)[before:][-2:] == ["RESTARTING", "RUNNING"])
        assert set(stack.phases(name)[before:]) == {"RESTARTING", "RUNNING"}
        assert pid_of(stack, name, "jobmanager") != killed
        counted = counted_more(stack, name)
    assert pid_of(stack, name, "taskmanager") == task_manager
    assert is_alive(task_manager)
    stop(stack, name)
    assert stack.count(name) >= counted
    assert stack.lines_are_whole(name)
    assert names_of_config_maps(stack, name) == []


def test_python_inside_the_jvm_does_not_come_back_and_the_job_says_what_to_do(stack: RunningStack) -> None:
    needs_libpython()
    inside = {**CHECKPOINTS, "python.execution-mode": "thread", "taskmanager.slot.timeout": "1 s"}
    stack.submit("inside", flink_configuration=inside)
    stack.await_phase("inside", "RUNNING")
    counted_more(stack, "inside")
    # A TaskManager whose job is back before its slot's time is over goes on in the class loader that has Python.
    with servers.frozen(stack.pid("flink-operator")):
        kill_the_job_manager(stack, "inside")
        wait_for("its slot to be given up", lambda: "Free slot" in log_of_the_task_manager(stack, "inside"))
    job = stack.await_words("inside", "RESTARTING", "could not load Python")  # it may run again in between
    assert "submit it again as it is with start_from: last" in job["next_step"]
    stop(stack, "inside")
    stack.submit("inside", start_from="last", flink_configuration=inside)
    stack.await_phase("inside", "RUNNING")
    counted_more(stack, "inside")
    stop(stack, "inside")
    assert stack.lines_are_whole("inside")
