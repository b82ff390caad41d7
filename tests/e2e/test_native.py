"""Flink's native mode through the whole stack, on real Flink: whatever is done to a job, each key is counted from 1 on,
once, and of a job that has ended nothing is left in the cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from local.flink_operator.pods import PID_ANNOTATION
from tests.support.counting import SETTINGS, counts_on, do, file_of, program_of
from tests.support.patience import wait_for
from tests.support.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(900)

CORE = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
BATCH = """
from pyflink.table import EnvironmentSettings, TableEnvironment

tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
tables.execute_sql("CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '100')")
tables.execute_sql("CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole')")
tables.execute_sql("INSERT INTO nowhere SELECT n FROM numbers").wait()
"""


WRITING = """
import os
from pyflink.table import EnvironmentSettings, TableEnvironment

tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
numbers = "'connector' = 'datagen', 'number-of-rows' = '100', 'fields.n.kind' = 'sequence'"
numbers += ", 'fields.n.start' = '1', 'fields.n.end' = '100'"
tables.execute_sql(f"CREATE TABLE numbers (n BIGINT) WITH ({numbers})")
place = os.environ["HEADRACE_OUTPUT"]
files = f"'connector' = 'filesystem', 'path' = '{place}', 'format' = 'csv'"
tables.execute_sql(f"CREATE TABLE files (k STRING, n BIGINT) WITH ({files})")
tables.execute_sql("INSERT INTO files SELECT 'k', n FROM numbers").wait()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    env = {"HEADRACE_FAILURE_GRACE_SECONDS": "4", "HEADRACE_PRUNE_PERIOD_SECONDS": "5"}
    with running_stack(tmp_path_factory.mktemp("stack") / "data", env) as running:
        yield running


def submit(stack: RunningStack, job_id: str, program: dict[str, Any], **config: Any) -> None:
    given = {**program, "runtime": "native", "flink_configuration": SETTINGS, **config}
    answer = stack.call("POST", "/jobs/submit", {"job_id": job_id, "job_config": given})
    assert answer.status_code == 202, answer.text


def left(stack: RunningStack, job_id: str) -> set[str]:
    """What the cluster has of a job: by Flink's label or by ours."""
    kinds = {f"{APPS}/deployments", *(f"{CORE}/{kind}" for kind in ("services", "configmaps", "secrets", "pods"))}
    found = [(kind, each["metadata"]) for kind in kinds for each in stack.kube(kind)["items"]]
    labels = ("app", "headrace.io/job")
    return {f"{k}/{m['name']}" for k, m in found if job_id in {(m.get("labels") or {}).get(name) for name in labels}}


def until_nothing_is_left(stack: RunningStack, job_id: str) -> None:
    wait_for(f"nothing to be left of {job_id}", lambda: not left(stack, job_id))


def kill(stack: RunningStack, job_id: str, component: str) -> str:
    """The process of its pod. The pod's uid."""
    metadata = running_pod(stack, job_id, component)["metadata"]
    os.kill(int(metadata["annotations"][PID_ANNOTATION]), signal.SIGKILL)
    return str(metadata["uid"])


def running_pod(stack: RunningStack, job_id: str, component: str) -> dict[str, Any]:
    pods = stack.kube(f"{CORE}/pods?labelSelector=app%3D{job_id},component%3D{component}")["items"]
    return dict(next(pod for pod in pods if pod["status"].get("phase") == "Running"))


def every_line_once(stack: RunningStack, job_id: str) -> bool:
    return {key: sorted(found) for key, found in stack.lines(job_id).items()} == {"k": list(range(1, 101))}


def restarts(stack: RunningStack, job_id: str, component: str) -> int:
    (pod,) = stack.kube(f"{CORE}/pods?labelSelector=app%3D{job_id},component%3D{component}")["items"]
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses") or ())


def has_another(stack: RunningStack, job_id: str, component: str, lost: str) -> bool:
    """Whether a pod runs in the place of the lost one."""
    pods = stack.kube(f"{CORE}/pods?labelSelector=app%3D{job_id},component%3D{component}")["items"]
    return any(pod["metadata"]["uid"] != lost and pod["status"].get("phase") == "Running" for pod in pods)


@pytest.mark.parametrize(
    "job_id", ["python", pytest.param("java", marks=pytest.mark.slow), pytest.param("tables", marks=pytest.mark.slow)]
)
def test_its_state_outlives_all_that_is_done_to_it(stack: RunningStack, web: str, job_id: str) -> None:
    submit(stack, job_id, program_of(job_id, web))
    stack.await_phase(job_id, "RUNNING")
    assert stack.phases(job_id)[-2:] == ["STARTING", "RUNNING"]
    assert stack.job(job_id)["request"]["runtime"] == "native"
    counts_on(stack, job_id)

    before = len(stack.phases(job_id))
    lost = kill(stack, job_id, "taskmanager")
    wait_for("another TaskManager", lambda: has_another(stack, job_id, "taskmanager", lost))
    counts_on(stack, job_id)
    # A jar is restarted within moments: between two looks of the sync that is on no record.
    restarted = ([], ["RESTARTING", "RUNNING"])
    wait_for("it to be RUNNING again", lambda: stack.phases(job_id)[before:] in restarted)

    before = len(stack.phases(job_id))
    kept = running_pod(stack, job_id, "taskmanager")["metadata"]["uid"]
    killed = kill(stack, job_id, "jobmanager")
    wait_for("its container to be started again", lambda: restarts(stack, job_id, "jobmanager") == 1)
    wait_for("it to be RUNNING again", lambda: stack.phases(job_id)[before:][-2:] == ["RESTARTING", "RUNNING"])
    assert running_pod(stack, job_id, "jobmanager")["metadata"]["uid"] == killed, "its container is started again"
    assert running_pod(stack, job_id, "taskmanager")["metadata"]["uid"] == kept
    counts_on(stack, job_id)

    for parallelism in (2, 1):
        do(stack, job_id, "scale", parallelism=parallelism)
        assert stack.phases(job_id)[-2:] == ["SCALING", "RUNNING"]
        assert stack.job(job_id)["parallelism"] == parallelism
        counts_on(stack, job_id)

    path = do(stack, job_id, "savepoint")["savepoint_path"]
    assert (file_of(path) / "_metadata").is_file()
    counts_on(stack, job_id)

    suspended = do(stack, job_id, "suspend")["savepoint_path"]
    assert (file_of(suspended) / "_metadata").is_file()
    assert stack.phases(job_id)[-2:] == ["SUSPENDING", "SUSPENDED"]
    wait_for("its pods to go", lambda: not [each for each in left(stack, job_id) if "/pods/" in each])
    do(stack, job_id, "resume")
    assert stack.phases(job_id)[-2:] == ["STARTING", "RUNNING"]
    counts_on(stack, job_id)

    changed = {**SETTINGS, "execution.checkpointing.interval": "3s"}
    do(stack, job_id, "upgrade", job_config={"flink_configuration": changed})
    assert stack.phases(job_id)[-2:] == ["UPGRADING", "RUNNING"]
    counts_on(stack, job_id)

    stopped = do(stack, job_id, "stop")["savepoint_path"]
    assert (file_of(stopped) / "_metadata").is_file()
    assert stack.job(job_id)["status"] == "CANCELLED"
    until_nothing_is_left(stack, job_id)
    assert stack.lines_are_whole(job_id)


def test_it_is_scaled_in_place_by_the_adaptive_scheduler_and_loses_nothing(stack: RunningStack, web: str) -> None:
    """The JobManager itself asks for the pods that this takes."""
    submit(
        stack, "in-place", program_of("java", web), flink_configuration={**SETTINGS, "jobmanager.scheduler": "adaptive"}
    )
    stack.await_phase("in-place", "RUNNING")
    counts_on(stack, "in-place")
    before, manager = stack.job("in-place"), running_pod(stack, "in-place", "jobmanager")["metadata"]["uid"]
    for parallelism in (2, 1):
        ended = do(stack, "in-place", "scale", parallelism=parallelism)
        assert ended["reason"] == f"in place: the job runs at {parallelism}"
        counts_on(stack, "in-place")
    assert stack.job("in-place")["flink_job_id"] == before["flink_job_id"]
    assert running_pod(stack, "in-place", "jobmanager")["metadata"]["uid"] == manager
    do(stack, "in-place", "stop")
    until_nothing_is_left(stack, "in-place")
    assert stack.lines_are_whole("in-place")


def test_a_batch_job_ends_and_is_cleaned_up_once_its_end_is_on_record(stack: RunningStack) -> None:
    submit(stack, "batch", {"script": {"name": "batch.py", "content": BATCH}}, ended_run_kept_hours=0)
    stack.await_phase("batch", "FINISHED")
    until_nothing_is_left(stack, "batch")
    assert stack.job("batch")["status"] == "FINISHED"


def test_a_job_that_has_ended_does_not_run_again_where_its_jobmanager_comes_back(stack: RunningStack) -> None:
    """Flink removes the HA metadata of a job that ends. Were its end not kept beside them, the JobManager would run the
    program again from its beginning; as it is, the program is refused, and the process ends."""
    submit(stack, "once", {"script": {"name": "once.py", "content": WRITING}}, ended_run_kept_hours=1)
    stack.await_phase("once", "FINISHED")
    assert every_line_once(stack, "once")
    kill(stack, "once", "jobmanager")
    wait_for("the program to be begun again, and refused", lambda: restarts(stack, "once", "jobmanager") > 1)
    assert every_line_once(stack, "once")
    assert stack.job("once")["status"] == "FINISHED"
    do(stack, "once", "stop")
    until_nothing_is_left(stack, "once")


def test_a_program_that_raises_at_once_is_failed_in_its_own_words(stack: RunningStack) -> None:
    """Flink's REST has no details of such a job."""
    submit(stack, "raises", {"script": {"name": "raises.py", "content": 'raise ValueError("no such table")\n'}})
    no_log_is_served = bool(os.environ.get("KUBEBUILDER_ASSETS"))  # a kube-apiserver without a node
    told = "the Python program ended with exit code 1" if no_log_is_served else "ValueError: no such table"
    assert stack.await_words("raises", "FAILED", told)["reason"].startswith(told)
    do(stack, "raises", "stop")
    until_nothing_is_left(stack, "raises")


def test_an_image_that_cannot_be_pulled_is_said_and_its_job_can_be_stopped(stack: RunningStack) -> None:
    submit(stack, "no-image", program_of("python", ""), image="registry.invalid/flink:2.2.1")
    stack.await_words("no-image", "FAILED", "registry.invalid")
    do(stack, "no-image", "stop")
    until_nothing_is_left(stack, "no-image")


def test_a_script_that_is_not_there_is_said_and_its_job_can_be_stopped(stack: RunningStack, web: str) -> None:
    submit(stack, "no-script", {"script": f"{web}/none.py"})
    job = stack.await_words("no-script", "FAILED", "none.py answered 404")
    assert "check the URL" in job["next_step"]
    do(stack, "no-script", "stop")
    until_nothing_is_left(stack, "no-script")
