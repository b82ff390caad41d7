"""Jobs on real Flink through the whole stack: what a crash, a scale, a stop and a restart of everything leave."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from headrace.domain.state_on_hand import ha_config_map, ha_metadata_in
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.recorded import recorded, states_of
from tests.support.stack import DEPLOYMENTS, ROOT, RunningStack, processes_of, running_stack, start
from tests.support.watched import WatchedCollection

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack") / "data"


@pytest.fixture(scope="module")
def stack(data: Path) -> Iterator[RunningStack]:
    with running_stack(data) as running:
        yield running


@pytest.fixture(scope="module")
def deployments(stack: RunningStack) -> Iterator[WatchedCollection]:
    with stack.kubernetes() as http:
        watched = WatchedCollection(http, DEPLOYMENTS)
        yield watched
        watched.close()


def test_a_counting_job_survives_a_crash_a_scale_and_a_stop(stack: RunningStack) -> None:
    stack.submit("orders")
    stack.await_phase("orders", "RUNNING")
    wait_for("a checkpoint", lambda: stack.checkpoints("orders").get("completed"))
    wait_for("output", lambda: stack.count("orders"))
    _the_ha_metadata_have_its_checkpoint(stack)
    _the_jobmanager_is_killed(stack)
    _it_is_scaled(stack)
    path = _it_is_stopped(stack)
    assert (Path(re.sub("^file:/*", "/", path)) / "_metadata").is_file()
    outlived = [line for line in processes_of(stack.data / "flink") if "java" in line]
    assert outlived == [], "Flink's processes outlived their deployment"


def _the_ha_metadata_have_its_checkpoint(stack: RunningStack) -> None:
    """What the JobManager calls its newest checkpoint is that of the ConfigMap, whose name and keys are Flink's own."""
    flink_job_id = str(stack.job("orders")["flink_job_id"])
    path = f"/api/v1/namespaces/default/configmaps/{ha_config_map('orders', flink_job_id)}"

    def is_so() -> bool:
        newest = ha_metadata_in(flink_job_id, stack.kube(path).get("data") or {}).newest
        return newest is not None and newest == (stack.checkpoints("orders").get("completed") or {}).get("id")

    wait_for("the HA metadata to have the newest checkpoint", is_so, 30)


def _the_jobmanager_is_killed(stack: RunningStack) -> None:
    before = wait_for("a checkpoint", lambda: stack.checkpoints("orders").get("completed"))
    pid = int(stack.pod("orders", "jobmanager")["metadata"]["annotations"]["local.headrace.io/pid"])
    started, counted = int(stack.job("orders")["start_time"]), stack.count("orders")
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        restored = stack.checkpoints("orders").get("restored")
        return bool(restored and restored["id"] >= before["id"])

    def is_on_record() -> bool:
        """Its pod and its record may tell of the one before for a while."""
        now, job = stack.pod("orders", "jobmanager")["metadata"]["annotations"], stack.job("orders")
        is_another = int(now["local.headrace.io/pid"]) != pid and int(job["start_time"]) > started
        return is_another and job["status"] == "RUNNING"

    wait_for("the job to be restored from its checkpoint", is_back, 60)
    wait_for("that to be on record", is_on_record, 60)
    wait_for("the count to go on", lambda: stack.count("orders") > counted)
    assert "FAILED" not in stack.phases("orders")
    _its_logs_and_events_tell_of_it(stack)


def _its_logs_and_events_tell_of_it(stack: RunningStack) -> None:
    _its_events_have(stack, "orders", "Submit", "JobStatusChanged", "Started")
    assert stack.call("GET", "/jobs/orders/exceptions").status_code == 200
    starting = "Starting StandaloneApplicationClusterEntryPoint"
    for query, words in (("previous=true", starting), ("", starting), ("component=taskmanager", "TaskManagerRunner")):
        _the_log_has(stack, "orders", query, words)


def _its_events_have(stack: RunningStack, job_id: str, *reasons: str) -> None:
    """They are written apart from the status, and after it."""

    def told() -> set[str]:
        return {event["reason"] for event in stack.call("GET", f"/jobs/{job_id}/events").json()["events"]}

    wait_for(f"{reasons} among the events of {job_id}", lambda: set(reasons) <= told())


def _the_log_has(stack: RunningStack, job_id: str, query: str, words: str) -> None:
    """Where the API is a kube-apiserver there is no kubelet, and so no log; that is said."""
    answer = stack.call("GET", f"/jobs/{job_id}/logs?tail=10000&{query}")
    if os.environ.get("KUBEBUILDER_ASSETS"):
        assert (answer.status_code, "not scheduled to a node" in answer.text) == (502, True)
    else:
        assert words in answer.text


def _it_is_scaled(stack: RunningStack) -> None:
    seen, counted = len(stack.phases("orders")), stack.count("orders")
    operation = stack.call("POST", "/jobs/orders/scale", {"parallelism": 2}).json()["operation"]
    ended = stack.await_operation(operation["id"])
    assert ended["state"] == "SUCCEEDED", ended
    assert stack.phases("orders")[seen:] == ["SCALING", "RUNNING"]
    assert stack.job("orders")["parallelism"] == 2
    assert stack.count("orders") >= counted
    wait_for("the count to go on", lambda: stack.count("orders") > counted)


def _it_is_stopped(stack: RunningStack) -> str:
    operation = stack.call("POST", "/jobs/orders/stop", {}).json()["operation"]
    ended = stack.await_operation(operation["id"])
    assert ended["state"] == "SUCCEEDED", ended
    assert stack.phases("orders")[-2:] == ["CANCELLING", "CANCELLED"]
    return str(stack.job("orders")["savepoint_path"])


def test_run_two_goes_on_from_the_savepoint(stack: RunningStack, deployments: WatchedCollection) -> None:
    counted = stack.count("orders")
    stack.call("POST", "/jobs/submit", {"job_id": "orders", "start_from": "last", "job_config": _config()})
    stack.await_phase("orders", "RUNNING")
    assert stack.job("orders")["run"] == 2
    wait_for("the count to go on", lambda: stack.count("orders") > counted)
    restored = wait_for("it to be restored", lambda: stack.checkpoints("orders").get("restored"))
    assert restored["is_savepoint"]
    stack.await_operation(stack.call("POST", "/jobs/orders/stop", {}).json()["operation"]["id"])
    # A deployment, its suspend with a savepoint and its deletion: step by step what a real operator shows.
    assert states_of(deployments.runs_of("orders")[-1]) == recorded("stop-and-second-run")


def _config() -> dict[str, object]:
    script = Path(__file__).parent.parent.parent / "examples" / "counting_job.py"
    settings = {"execution.checkpointing.interval": "3s"}
    inlined = {"name": script.name, "content": script.read_text()}
    return {"script": inlined, "flink_configuration": settings}


def test_a_script_with_a_syntax_error_fails_in_words(stack: RunningStack, deployments: WatchedCollection) -> None:
    script = {"name": "broken.py", "content": "def x(:\n"}
    operation = stack.submit("broken", script=script)
    ended = stack.await_operation(operation["id"])
    assert ended["state"] == "FAILED"
    assert stack.job("broken")["status"] == "FAILED"
    assert states_of(deployments.runs_of("broken")[-1]) == recorded("script-missing")
    _the_log_has(stack, "broken", "", "broken.py, line 1: invalid syntax")
    assert "broken" in _seen_by_kubectl(stack)
    _its_events_have(stack, "broken", "Error")
    stopped = stack.call("POST", "/jobs/broken/stop", {}).json()["operation"]
    assert stack.await_operation(stopped["id"])["state"] == "SUCCEEDED"
    gone = stack.call("GET", "/jobs/broken/logs")
    told = gone.text if gone.status_code == 200 else gone.json()["detail"]
    assert "the pod is gone; this is what was kept of it" in told or "is gone since its run 1 ended" in told


def _seen_by_kubectl(stack: RunningStack) -> list[str]:
    """The deployments that a client gets by the kubeconfig for kubectl, which sends no token over plain HTTP."""
    config = yaml.safe_load(Path(stack.file["kubectl_kubeconfig"]).read_text())
    url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"].get("token", "")
    headers = {"Authorization": f"Bearer {token}"} if url.startswith("https") else {}
    answer = httpx.get(url + DEPLOYMENTS, headers=headers, timeout=REQUEST_SECONDS, trust_env=False, verify=False)
    return [deployment["metadata"]["name"] for deployment in answer.json()["items"]]


def test_an_unwritable_savepoint_directory_fails_the_stop_and_nothing_else(stack: RunningStack) -> None:
    stack.submit("locked")
    stack.await_phase("locked", "RUNNING")
    wait_for("a checkpoint", lambda: stack.checkpoints("locked").get("completed"))
    folder = stack.data / "state" / "default" / "locked" / "savepoints"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder should be")
    operation = stack.call("POST", "/jobs/locked/stop", {}).json()["operation"]
    ended = stack.await_operation(operation["id"])
    assert ended["state"] == "FAILED", ended
    assert "Savepoint" in ended["reason"]
    stack.await_phase("locked", "RUNNING")
    deployment = stack.kube("/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments/locked")
    assert deployment["spec"]["job"]["state"] == "running"
    folder.unlink()
    stack.await_operation(stack.call("POST", "/jobs/locked/stop", {}).json()["operation"]["id"])


def test_a_stop_of_a_job_that_crash_loops_keeps_its_last_checkpoint(
    stack: RunningStack, deployments: WatchedCollection
) -> None:
    """Its state is on record before anything is deleted; beside it a job that fails before its first checkpoint."""
    looping = {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": "100000"}
    looping |= {"restart-strategy.fixed-delay.delay": "2s"}
    stack.submit("loops", script=_failing_after(60), flink_configuration={**looping, **_checkpoints("2s")})
    stack.submit("stateless", script=_failing_after(0), flink_configuration={**looping, **_checkpoints("10min")})
    wait_for("a checkpoint", lambda: stack.checkpoints("loops").get("completed"))
    for name in ("loops", "stateless"):
        wait_for(f"{name} to crash", lambda name=name: "RESTARTING" in stack.phases(name))
    exceptions = stack.call("GET", "/jobs/stateless/exceptions").json()["exceptions"]
    assert "a poisonous record" in exceptions[-1]["stacktrace"]
    assert exceptions[-1]["task_name"]
    _its_events_have(stack, "stateless", "JobException")
    stops = {name: stack.call("POST", f"/jobs/{name}/stop", {}).json()["operation"] for name in ("loops", "stateless")}
    ended = {name: stack.await_operation(operation["id"]) for name, operation in stops.items()}
    assert {name: operation["state"] for name, operation in ended.items()} == dict.fromkeys(ended, "SUCCEEDED")
    assert stack.job("stateless")["savepoint_path"] is None
    kept = str(stack.job("loops")["savepoint_path"])
    assert (Path(re.sub("^file:/*", "/", kept)) / "_metadata").is_file()
    deleted = next(seen for seen in deployments.runs_of("loops")[-1] if "deletionTimestamp" in seen["metadata"])
    assert stack.recorded_at("loops", kept) < deleted["metadata"]["deletionTimestamp"] + "~"
    _run_two_starts_from(stack, kept)


def _run_two_starts_from(stack: RunningStack, kept: str) -> None:
    config = {**_config(), "flink_configuration": _checkpoints("2s")}
    stack.call("POST", "/jobs/submit", {"job_id": "loops", "start_from": "last", "job_config": config})
    stack.await_phase("loops", "RUNNING")
    restored = wait_for("it to be restored", lambda: stack.checkpoints("loops").get("restored"))
    assert restored["external_path"] == kept
    wait_for("the count to go beyond the crash", lambda: stack.count("loops") > 4 * 60)
    stack.await_operation(stack.call("POST", "/jobs/loops/stop", {}).json()["operation"]["id"])


def _failing_after(count: int) -> dict[str, str]:
    """The counting job, with a line that fails once a key has been counted so often."""
    script = ROOT / "examples" / "counting_job.py"
    line = "        count = (self._count.value() or 0) + 1\n"
    content = script.read_text()
    assert line in content
    failing = f"{line}        if count > {count}:\n            raise RuntimeError('a poisonous record')\n"
    return {"name": script.name, "content": content.replace(line, failing)}


def _checkpoints(interval: str) -> dict[str, str]:
    return {"execution.checkpointing.interval": interval}


def test_everything_stopped_and_started_again_finds_its_job(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = start(data)
    try:
        first.submit("orders")
        first.await_phase("orders", "RUNNING")
        wait_for("a checkpoint", lambda: first.checkpoints("orders").get("completed"))
        counted = wait_for("output", lambda: first.count("orders"))
    finally:
        first.interrupt()
    assert processes_of(data) == []
    with running_stack(data) as second:
        wait_for("the job to be restored", lambda: second.checkpoints("orders").get("restored"))
        second.await_phase("orders", "RUNNING")
        wait_for("the count to go on", lambda: second.count("orders") > counted)
        assert not {"FAILED", "CANCELLED", "FINISHED"} & set(second.phases("orders"))
