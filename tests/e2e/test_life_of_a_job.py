"""What can be asked of a job that runs, on real Flink: whatever is done to it, each key is counted from 1 on, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.flink_operator.pods import PID_ANNOTATION
from tests.support.counting import EXAMPLES, JAR, SETTINGS, counts_on, do, file_of, program_of
from tests.support.patience import wait_for
from tests.support.stack import DEPLOYMENTS, RunningStack, running_stack

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    soon = {"HEADRACE_PRUNE_PERIOD_SECONDS": "5", "HEADRACE_SAVEPOINT_DISPOSAL_NOTICE_SECONDS": "1"}
    with running_stack(tmp_path_factory.mktemp("stack") / "data", soon) as running:
        yield running


def counted_twice(stack: RunningStack, job_id: str) -> bool:
    """Whether each key has counts that were written by two runs."""
    return all(len(found) > len(set(found)) for found in stack.lines(job_id).values())


def restarted_from(stack: RunningStack, job_id: str) -> int:
    """The lowest count that a second run began with, where each key has every count, and twice only from there on."""
    begun = []
    for found in stack.lines(job_id).values():
        twice = sorted(count for count in set(found) if found.count(count) == 2)
        assert len(found) == len(set(found)) + len(twice), "thrice"
        assert twice == list(range(twice[0], twice[0] + len(twice)))
        assert set(found) == set(range(1, max(found) + 1))
        begun.append(twice[0])
    return min(begun)


@pytest.mark.parametrize(
    "job_id", ["python", pytest.param("java", marks=pytest.mark.slow), pytest.param("tables", marks=pytest.mark.slow)]
)
def test_its_state_outlives_all_that_is_asked_of_it(stack: RunningStack, web: str, job_id: str) -> None:
    program = program_of(job_id, web)
    body = {"job_id": job_id, "job_config": {**program, "flink_configuration": SETTINGS}}
    assert stack.call("POST", "/jobs/submit", body).status_code == 202
    stack.await_phase(job_id, "RUNNING")
    counts_on(stack, job_id)

    kept = do(stack, job_id, "suspend")["savepoint_path"]
    assert (file_of(kept) / "_metadata").is_file()
    assert stack.phases(job_id)[-2:] == ["SUSPENDING", "SUSPENDED"]
    do(stack, job_id, "resume")
    assert stack.phases(job_id)[-2:] == ["STARTING", "RUNNING"]
    counts_on(stack, job_id)

    upgraded = {**SETTINGS, "execution.checkpointing.interval": "3s"}
    change = {"flink_configuration": upgraded, "parallelism": 2}
    foreseen = stack.call("POST", f"/jobs/{job_id}/upgrade?dry_run=true", {"job_config": change}).json()
    found = tuple(foreseen[name] for name in ("cost", "causes", "keeps_state"))
    assert found == ("UPGRADE", "a redeploy with a savepoint", True)
    assert stack.phases(job_id)[-1] == "RUNNING"
    do(stack, job_id, "upgrade", job_config=change)
    assert stack.phases(job_id)[-2:] == ["UPGRADING", "RUNNING"]
    shown = stack.job(job_id)
    assert (shown["parallelism"], shown["request"]["flink_configuration"]) == (2, upgraded)
    counts_on(stack, job_id)

    do(stack, job_id, "rollback", to=1)
    assert stack.phases(job_id)[-2:] == ["ROLLING_BACK", "RUNNING"]
    shown = stack.job(job_id)
    assert (shown["parallelism"], shown["request"]["flink_configuration"]) == (1, SETTINGS)
    counts_on(stack, job_id)

    do(stack, job_id, "scale", parallelism=2)
    assert stack.phases(job_id)[-2:] == ["SCALING", "RUNNING"]
    counts_on(stack, job_id)

    do(stack, job_id, "restart")
    assert stack.phases(job_id)[-2:] == ["RESTARTING", "RUNNING"]
    counts_on(stack, job_id)

    chosen = do(stack, job_id, "savepoint")["savepoint_path"]
    assert stack.phases(job_id)[-2:] == ["RESTARTING", "RUNNING"]
    counts_on(stack, job_id)
    drained = do(stack, job_id, "stop", drain=True)["savepoint_path"]
    assert (file_of(drained) / "_metadata").is_file()
    assert stack.lines_are_whole(job_id)

    assert stack.call("POST", "/jobs/submit", {**body, "start_from": chosen}).status_code == 202
    stack.await_phase(job_id, "RUNNING")
    wait_for("what came after the savepoint to be counted again", lambda: counted_twice(stack, job_id))
    do(stack, job_id, "stop")
    assert restarted_from(stack, job_id) > 1


@pytest.mark.parametrize(
    "job_id", ["python", pytest.param("java", marks=pytest.mark.slow), pytest.param("tables", marks=pytest.mark.slow)]
)
def test_it_is_scaled_in_place_by_the_adaptive_scheduler_and_loses_nothing(
    stack: RunningStack, web: str, job_id: str
) -> None:
    named = f"{job_id}-in-place"
    adaptive = {**SETTINGS, "jobmanager.scheduler": "adaptive"}
    body = {"job_id": named, "job_config": {**program_of(job_id, web), "flink_configuration": adaptive}}
    assert stack.call("POST", "/jobs/submit", body).status_code == 202
    stack.await_phase(named, "RUNNING")
    counts_on(stack, named)
    before = stack.job(named)
    for parallelism in (2, 1) if job_id == "python" else (2,):
        ended = do(stack, named, "scale", parallelism=parallelism)
        assert ended["reason"] == f"in place: the job runs at {parallelism}"
        assert stack.phases(named)[-2:] == ["SCALING", "RUNNING"]
        assert stack.job(named)["parallelism"] == parallelism
        counts_on(stack, named)
    assert stack.job(named)["flink_job_id"] == before["flink_job_id"], "its cluster lived on"
    do(stack, named, "restart")
    counts_on(stack, named)
    do(stack, named, "stop")
    assert stack.lines_are_whole(named)


def test_a_job_is_resumed_from_a_chosen_savepoint_and_counts_from_there(stack: RunningStack) -> None:
    stack.submit("chosen")
    stack.await_phase("chosen", "RUNNING")
    counts_on(stack, "chosen")
    first = do(stack, "chosen", "savepoint")["savepoint_path"]
    counts_on(stack, "chosen")
    second = do(stack, "chosen", "suspend")["savepoint_path"]
    assert first != second
    do(stack, "chosen", "resume", start_from=first)
    restored = wait_for("it to be restored", lambda: stack.checkpoints("chosen").get("restored"))
    assert restored["external_path"] == first
    wait_for("what was counted after that to be counted again", lambda: not stack.lines_are_whole("chosen"))

    assert stack.call("DELETE", f"/savepoints?path={first}").status_code == 409  # it has started from that
    do(stack, "chosen", "savepoint")
    assert stack.call("DELETE", f"/savepoints?path={second}").status_code == 202
    wait_for("Flink to remove it", lambda: not file_of(second).exists())
    wait_for("the record to say so", lambda: second not in paths_of(stack, "chosen"))
    assert file_of(first).exists()
    counts_on(stack, "chosen")
    do(stack, "chosen", "stop")


def paths_of(stack: RunningStack, job_id: str) -> list[str]:
    return [each["path"] for each in stack.call("GET", f"/jobs/{job_id}/savepoints").json()["savepoints"]]


def test_a_deployment_that_kubectl_made_is_adopted_scaled_and_released_without_a_restart_of_its_own(
    stack: RunningStack,
) -> None:
    applied(stack, "given")
    wait_for("output", lambda: stack.count("given"))
    assert stack.call("GET", "/jobs/given").status_code == 404
    found = stack.call("GET", "/adoptable").json()["adoptable"]
    assert [each["name"] for each in found if not each["why_not"]] == ["given"]

    before = processes_and_spec(stack, "given")
    do(stack, "given", "adopt")
    shown = stack.await_phase("given", "RUNNING")
    assert (shown["run"], shown["request"]) == (1, {})
    counts_on(stack, "given")
    assert processes_and_spec(stack, "given") == before

    do(stack, "given", "scale", parallelism=2)
    assert stack.phases("given")[-2:] == ["SCALING", "RUNNING"]
    counts_on(stack, "given")
    before = processes_and_spec(stack, "given")
    do(stack, "given", "release")
    assert stack.job("given")["status"] == "RELEASED"
    counts_on(stack, "given")

    do(stack, "given", "adopt")
    shown = stack.await_phase("given", "RUNNING")
    assert (shown["run"], shown["request"]) == (2, {})
    assert processes_and_spec(stack, "given") == before
    kept = do(stack, "given", "stop")["savepoint_path"]
    assert (file_of(kept) / "_metadata").is_file()
    assert stack.lines_are_whole("given")


def applied(stack: RunningStack, name: str) -> None:
    """As the operator's own examples are (basic.yaml and pod-template.yaml): nothing of it is Headrace's."""
    state, jars = stack.data / "state", EXAMPLES / "jar"
    mounted = [{"name": "jars", "mountPath": "/opt/flink/usrlib"}]
    pod = {
        "containers": [{"name": "flink-main-container", "volumeMounts": mounted}],
        "volumes": [{"name": "jars", "hostPath": {"path": str(jars), "type": "Directory"}}],
    }
    output = f"{state}/output/{name}"
    job = {
        "jarURI": f"local:///opt/flink/usrlib/{JAR}",
        "entryClass": "io.headrace.examples.CountingJob",
        "args": ["--rate", "20", "--output", output],
        "parallelism": 1,
        "upgradeMode": "stateless",
    }
    folders = {f"execution.checkpointing.{kind}-dir": f"file://{state}/theirs" for kind in ("savepoint", "checkpoint")}
    sized = {"resource": {"memory": "1024m", "cpu": 1}}
    spec = {
        **{"image": "flink:2.2", "flinkVersion": "v2_2", "serviceAccount": "flink", "podTemplate": {"spec": pod}},
        "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2", **SETTINGS, **folders},
        **{"jobManager": sized, "taskManager": sized, "job": job},
    }
    body = {"apiVersion": "flink.apache.org/v1beta1", "kind": "FlinkDeployment", "metadata": {"name": name}}
    stack.kube_post(DEPLOYMENTS, {**body, "spec": spec})


def processes_and_spec(stack: RunningStack, name: str) -> tuple[list[str], int]:
    """What a restart would change: the processes of its pods, and the generation of its spec."""
    pods = [stack.pod(name, component) for component in ("jobmanager", "taskmanager")]
    pids = [pod["metadata"]["annotations"][PID_ANNOTATION] for pod in pods]
    return pids, stack.kube(f"{DEPLOYMENTS}/{name}")["metadata"]["generation"]


def test_another_job_goes_on_from_a_savepoint_of_one_that_runs_on(stack: RunningStack) -> None:
    stack.submit("kept")
    stack.await_phase("kept", "RUNNING")
    counts_on(stack, "kept")
    phases = stack.phases("kept")
    path = do(stack, "kept", "savepoint")["savepoint_path"]
    assert (file_of(path) / "_metadata").is_file()
    assert stack.phases("kept") == phases
    counts_on(stack, "kept")
    listed = stack.call("GET", "/jobs/kept/savepoints").json()["savepoints"]
    assert path in [each["path"] for each in listed]

    stack.submit("heir", start_from=path)
    stack.await_phase("heir", "RUNNING")
    restored = wait_for("it to be restored", lambda: stack.checkpoints("heir").get("restored"))
    assert restored["external_path"] == path
