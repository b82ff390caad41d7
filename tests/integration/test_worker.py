"""Worker processes, by pytest-celery, on Redis, MongoDB's wire, the small Kubernetes API and a real kube-apiserver.

The test plays the producer and the operator; what is in MongoDB and in Kubernetes afterwards is what counts.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from pytest_celery import CeleryTestWorker

from headrace.adapters import celery_queue
from headrace.adapters.kubernetes.rights import REVIEWS
from headrace.domain.deployments import sequence_of
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, State
from tests.integration.conftest import HERE, SCRIPT, Installation, installed
from tests.support import servers
from tests.support.clusters import DEPLOYMENTS, Cluster
from tests.support.patience import wait_for
from tests.support.proxy import Passed, recording_proxy

pytestmark = pytest.mark.timeout(240)

on_the_small_api = pytest.mark.parametrize("installation", ["local"], indirect=True)


@pytest.fixture
def name() -> str:
    return f"job-{uuid.uuid4().hex[:10]}"


def has(installation: Installation, name: str) -> bool:
    return installation.cluster.runtime.get("default", name) is not None


def created(cluster: Cluster, name: str, since: str) -> int:
    """How often a deployment of this name was created, from the API's own history."""
    return created_of(cluster, since).count(name)


def created_of(cluster: Cluster, since: str) -> list[str]:
    """Every name that a deployment was created under, as often as that was."""
    return [event.deployment.metadata.name for event in cluster.told_since(since) if event.kind == "ADDED"]


def version(cluster: Cluster) -> str:
    return list(cluster.runtime.list_pages("default"))[-1].resource_version


def ended(installation: Installation, name: str, kind: KindName) -> State | None:
    """How the last operation of this kind ended; None while it is open, or there is none."""
    found = [o for o in installation.operations(name) if o.kind is kind]
    return None if not found or found[-1].is_open else found[-1].state


def test_a_job_goes_through_the_worker(installation: Installation, name: str) -> None:
    node = installation.worker()
    installation.beat()
    installation.submit(name)
    wait_for("the deployment", lambda: has(installation, name))
    installation.becomes(name)
    wait_for("the SUBMIT to end", lambda: ended(installation, name, KindName.SUBMIT) is State.SUCCEEDED)
    job = installation.job(name)
    assert job is not None
    assert (job.phase, job.flink_job_id) == (Phase.RUNNING, "f" * 32)
    node.assert_log_exists(f"job={name}")


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("flink.submit", {"job_id": "x", "job_config": {"script": SCRIPT, "paralelism": 2}}, "paralelism"),
    ("flink.submit", {"job_id": "x", "job_config": "text"}, "job_config"),
    ("flink.submit", {"job_id": "x", "job_config": {"script": SCRIPT}, "nonsense": 1}, "nonsense"),
    ("flink.submit", {"job_id": "../x", "job_config": {"script": SCRIPT}}, "job_id"),
    ("flink.submit", {"template_id": "none-such"}, "none-such"),
    ("flink.submit", {"job_id": "x", "tenant": "other", "job_config": {"script": SCRIPT}}, "tenant"),
    ("flink.submit", {"job_id": 7, "job_config": {"script": SCRIPT}}, "job_id"),
    ("flink.submit", {"job_id": "x", "job_config": {"script": SCRIPT}, "start_from": 7}, "start_from"),
    ("flink.stop", {"job_id": "none-such"}, "none-such"),
    ("flink.stop", {"job_id": ["none-such"]}, "job_id"),
    ("flink.scale", {"job_id": "none-such", "parallelism": "two"}, "parallelism"),
    ("flink.scale", {}, "parallelism"),
]


@on_the_small_api
def test_a_wrong_task_is_one_line_that_names_the_field(installation: Installation) -> None:
    node = installation.worker("flink.operations")
    ids = [str(uuid.uuid4()) for _ in WRONG]
    for task_id, (task, arguments, _) in zip(ids, WRONG, strict=True):
        installation.send(task, task_id, **arguments)

    def refusals(task_id: str) -> list[str]:
        return [each for each in node.logs().splitlines() if f"task={task_id}" in each and "was refused" in each]

    wait_for("all to be handled", lambda: node.logs().count("succeeded in") >= len(WRONG))
    said = [(word, refusals(task_id)) for task_id, (_, _, word) in zip(ids, WRONG, strict=True)]
    assert [each for each in said if len(each[1]) != 1 or each[0] not in each[1][0]] == []
    assert "Traceback" not in node.logs()
    assert installation.open_operations() == []


@on_the_small_api
def test_the_same_message_ten_times_from_four_producers_is_one_operation(installation: Installation, name: str) -> None:
    since = version(installation.cluster)
    for _ in range(2):
        installation.worker()
    installation.beat()
    barrier, task_id = threading.Barrier(4), str(uuid.uuid4())
    broker = installation.env["HEADRACE_REDIS_URL"]

    def produce(count: int) -> None:
        with Celery(broker=broker, set_as_current=False) as app:
            barrier.wait(30)
            for _ in range(count):
                fields = {"job_id": name, "job_config": {"script": SCRIPT}}
                app.send_task("flink.submit", kwargs=fields, queue="flink.operations", task_id=task_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(produce, (3, 3, 2, 2)))
    wait_for("the deployment", lambda: has(installation, name))
    installation.becomes(name)
    wait_for("the SUBMIT to end", lambda: ended(installation, name, KindName.SUBMIT) is State.SUCCEEDED)
    wait_for("every message to be handled", lambda: handled(installation, task_id) == 10)
    assert len(installation.operations(name)) == 1
    assert created(installation.cluster, name, since) == 1


def handled(installation: Installation, task_id: str) -> int:
    logs = "".join(log.read_text() for log in installation.folder.glob("worker-*.log"))
    return logs.count(f"Task flink.submit[{task_id}] succeeded")


@on_the_small_api
def test_a_killed_worker_leaves_its_work_to_the_next(installation: Installation, name: str) -> None:
    node = installation.worker()
    installation.beat()
    names = [f"{name}-{n}" for n in range(20)]
    since = version(installation.cluster)
    for each in names:
        installation.submit(each)
    wait_for("the first deployment", lambda: any(has(installation, each) for each in names))
    node.kill()
    node.restart()
    for each in names:  # a message that died with the worker comes again from its producer: Redis loses tasks
        installation.submit(each) if installation.job(each) is None else None
    wait_for("every deployment", lambda: all(has(installation, each) for each in names), 180)
    made = created_of(installation.cluster, since)
    assert [made.count(each) for each in names] == [1] * len(names)


@on_the_small_api
def test_what_is_asked_for_does_not_wait_behind_wake_ups(installation: Installation, name: str) -> None:
    """Workers take turns between both queues: a pile of one delays the other by its own length at most."""
    queue = celery_queue.CeleryQueue(celery_queue.redis(installation.env["HEADRACE_REDIS_URL"], 2.0))
    for n in range(3000):
        queue.wake(JobKey("default", f"none-{n}"))
    queue.close(60)
    assert queue.waiting() == 3000
    task_id = str(uuid.uuid4())
    installation.send("flink.submit", task_id, job_id=name, job_config={"script": SCRIPT})
    node = installation.worker()
    wait_for("the submit to be accepted", lambda: handled(installation, task_id) == 1)
    before, _, _ = node.logs().partition(f"Task flink.submit[{task_id}] succeeded")
    wait_for("wake-ups to be handled too", lambda: len(_handled_wake_ups(node.logs())) > 10)
    assert len(_handled_wake_ups(before)) < 2000, "in the worker's own order: how many are left when we look says less"
    assert installation.job(name) is not None


def _handled_wake_ups(log: str) -> list[str]:
    return re.findall(r"Task flink\.execute\[\S+ succeeded", log)


@on_the_small_api
def test_a_redis_that_is_full_ends_no_worker_and_loses_no_message(installation: Installation, name: str) -> None:
    node = installation.worker()
    with redis.Redis.from_url(installation.env["HEADRACE_REDIS_URL"], socket_timeout=10) as server:
        with servers.frozen(node.container.pid):
            installation.submit(f"{name}-first")
            server.config_set("maxmemory", 1)
        wait_for("what was sent before to be accepted", lambda: installation.job(f"{name}-first"))
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            server.set("any", "text")
        assert node.container.status == "running"
        node.kill()
        wait_for("the first worker to be gone", lambda: node.container.status == "exited")
        late = installation.starting_worker()
        wait_for("one that starts to be told", lambda: "maxmemory" in late.logs())
        server.config_set("maxmemory", 0)
        wait_for("it to be ready", late.ready)
        installation.submit(f"{name}-second")
        wait_for("the other worker to go on", lambda: installation.job(f"{name}-second"))


def test_a_redis_that_is_lost_while_a_task_runs_ends_no_worker(
    tmp_path: Path, clusters: Callable[[str], Cluster], name: str
) -> None:
    """MongoDB holds the task up; control messages are the first that the worker sees break, as they may be."""
    mongodb, broker = servers.mongodb(tmp_path), servers.redis(tmp_path)
    with (
        servers.running(mongodb, tmp_path) as records,
        servers.running(broker, tmp_path) as queue,
        installed(tmp_path, mongodb.address, broker.address, clusters("local")) as installation,
    ):
        node = installation.worker()
        assert records.pid is not None
        with servers.frozen(records.pid):
            installation.submit(f"{name}-first")
            wait_for("the task to be under way", lambda: "Task flink.submit[" in node.logs())
            with redis.Redis.from_url(broker.address, socket_timeout=10) as server:
                wait_for("it to wait for the next", lambda: any("b" in each["flags"] for each in server.client_list()))
                with servers.frozen(node.container.pid):
                    server.client_kill_filter(_type="pubsub")
                    queue.stop()
            wait_for("the worker to miss it", lambda: "Cannot connect" in node.logs())
        queue.start()
        wait_for("the task to be done", lambda: installation.job(f"{name}-first"))
        installation.submit(f"{name}-second")
        wait_for("the next one to be done", lambda: installation.job(f"{name}-second"))
        assert node.container.status == "running"


def test_a_task_whose_next_try_redis_does_not_take_is_not_lost(
    tmp_path: Path, clusters: Callable[[str], Cluster], name: str
) -> None:
    """The message is the only trace of a SUBMIT that MongoDB has not answered. A Redis may take no other one for a
    while, and then take that this one was given up."""
    mongodb, broker = servers.mongodb(tmp_path), servers.redis(tmp_path)
    with (
        servers.running(mongodb, tmp_path) as records,
        servers.running(broker, tmp_path),
        installed(tmp_path, mongodb.address, broker.address, clusters("local")) as installation,
        redis.Redis.from_url(broker.address, socket_timeout=10) as server,
    ):
        node = installation.worker("flink.operations", HEADRACE_MONGODB_TIMEOUT_SECONDS="2")
        assert records.pid is not None
        with servers.frozen(records.pid):
            installation.submit(name)
            wait_for("the task to be under way", lambda: "Task flink.submit[" in node.logs())
            server.execute_command("ACL", "SETUSER", "default", "-lpush")
            wait_for("it to be given up", lambda: "Couldn't reject" in node.logs() or not server.hlen("unacked"))
            assert server.hlen("unacked") == 1


def is_full(server: redis.Redis) -> None:
    server.config_set("maxmemory", 1)


def is_a_replica(server: redis.Redis) -> None:
    """As after a failover: it reads, and writes nothing."""
    server.replicaof("127.0.0.1", 1)


def cannot_write_its_disk(server: redis.Redis) -> None:
    folder = server.config_get("dir")["dir"]
    server.config_set("save", "3600 1")
    (gone := Path(folder) / "gone").mkdir()
    server.config_set("dir", str(gone))
    gone.rmdir()
    server.set("any", "text")
    server.bgsave()
    wait_for("the disk to fail it", lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
    server.config_set("dir", folder)


def has_a_key_of_another_type(server: redis.Redis) -> None:
    server.set("flink.operations", "text")
    server.set("unacked", "text")


def forbids_writing(server: redis.Redis) -> None:
    server.execute_command("ACL", "SETUSER", "default", "-@write")


def is_well_again(server: redis.Redis) -> None:
    server.execute_command("ACL", "SETUSER", "default", "+@all")
    server.replicaof("NO", "ONE")
    server.config_set("save", "")
    server.config_set("maxmemory", 0)
    server.delete("flink.operations", "unacked")


@on_the_small_api
@pytest.mark.parametrize(
    "refuses",
    [is_a_replica, cannot_write_its_disk, has_a_key_of_another_type, forbids_writing],
    ids=lambda each: each.__name__,
)
def test_a_redis_that_refuses_what_it_is_asked_ends_no_worker(
    installation: Installation, name: str, refuses: Callable[[redis.Redis], None]
) -> None:
    node = installation.worker()
    with redis.Redis.from_url(installation.env["HEADRACE_REDIS_URL"], socket_timeout=10) as server:
        refuses(server)
        late = installation.starting_worker()
        wait_for("both to be told", lambda: all(is_told(each) for each in (node, late)))
        is_well_again(server)
        wait_for("the late one to be ready", late.ready)
        assert node.container.status == "running"
        installation.submit(f"{name}-first")
        wait_for("a task to be done", lambda: installation.job(f"{name}-first"))
        node.kill()
        wait_for("the first worker to be gone", lambda: node.container.status == "exited")
        installation.submit(name)
        wait_for("the late one to do one", lambda: installation.job(name))


def is_told(node: CeleryTestWorker) -> bool:
    assert node.container.status == "running", node.logs()[-2000:]
    return "Trying" in node.logs()


@on_the_small_api
@pytest.mark.parametrize("refuses", [is_full, is_a_replica], ids=lambda each: each.__name__)
def test_a_worker_that_is_refused_for_long_keeps_no_connection_open_and_does_not_seem_to_hang(
    installation: Installation, refuses: Callable[[redis.Redis], None]
) -> None:
    """Two were lost at each try: a worker that could open no more stayed away from a Redis that was well again."""
    (folder := installation.folder / "health").mkdir()
    node = installation.worker(HEADRACE_HEALTH_FOLDER=str(folder))
    with redis.Redis.from_url(installation.env["HEADRACE_REDIS_URL"], socket_timeout=10) as server:
        before = len(server.client_list())
        refuses(server)
        server.client_kill_filter(_type="pubsub")
        for n in range(1, 8):
            wait_for("the next try", lambda n=n: node.logs().count("Trying") >= n)
        assert len(server.client_list()) <= before
        turned = (folder / "worker.loop").read_text()
        wait_for("a sign of life", lambda: (folder / "worker.loop").read_text() != turned)
        assert "Frequent restarts" not in node.logs()
        is_well_again(server)


@pytest.mark.alone
def test_racing_scales_never_fall_back_and_the_last_one_stands(installation: Installation, name: str) -> None:
    for _ in range(2):
        installation.worker()
    installation.beat()
    installation.submit(name)
    wait_for("the deployment", lambda: has(installation, name))
    installation.becomes(name)
    wait_for("the SUBMIT to end", lambda: ended(installation, name, KindName.SUBMIT) is State.SUCCEEDED)
    since = version(installation.cluster)
    stopping, writes = threading.Event(), []

    def operate() -> None:
        """The operator: it writes the status at the present generation more than ten times a second."""
        while not stopping.wait(0.05):
            installation.becomes(name)
            writes.append(time.monotonic())

    writers = [threading.Thread(target=operate) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        wait_for("the status writer", lambda: len(writes) > 5)
        for parallelism in (2, 3, 4):
            installation.send("flink.scale", job_id=name, parallelism=parallelism)
        wait_for(
            "the SCALEs to end",
            lambda: (
                len(installation.operations(name)) == 4 and not any(o.is_open for o in installation.operations(name))
            ),
        )
    finally:
        stopping.set()
        for writer in writers:
            writer.join(30)
    assert len(writes) / (writes[-1] - writes[0]) > 10
    events = installation.cluster.told_since(since)
    seen = [sequence_of(e.deployment) for e in events if e.deployment.metadata.name == name and e.kind == "MODIFIED"]
    assert seen == sorted(seen)
    scales = installation.operations(name)[1:]
    assert scales[-1].state is State.SUCCEEDED, scales[-1].reason
    assert {each.state for each in scales} <= {State.SUCCEEDED, State.SUPERSEDED}
    whole = installation.cluster.runtime.get_whole("default", name)
    assert whole is not None
    assert whole["spec"]["job"]["parallelism"] == scales[-1].arguments["parallelism"]
    assert sequence_of(installation.cluster.runtime.get("default", name)) == scales[-1].sequence  # type: ignore[arg-type]


# request bodies


def bodies(installation: Installation, name: str, folder: Path) -> list[Passed]:
    """What one worker asks of this API for a SUBMIT, a SCALE and a STOP; what the server drew itself is blanked.

    A request may come twice (a wake-up beside the task itself): it counts where it came first.
    """
    assert installation.cluster.kubeconfig is not None
    with recording_proxy(installation.cluster.kubeconfig, folder) as (kubeconfig, passed):
        node = installation.worker("flink.operations,flink.executions", HEADRACE_KUBECONFIG=str(kubeconfig))
        installation.worker("flink.sync")
        installation.beat()
        fields = {"job_id": name, "job_config": {"script": SCRIPT}}
        installation.send("flink.submit", idempotency_key="submit", **fields)
        wait_for("the deployment", lambda: has(installation, name))
        drawn = installation.cluster.runtime.get("default", name)
        assert drawn is not None
        installation.becomes(name)
        wait_for("the SUBMIT to end", lambda: ended(installation, name, KindName.SUBMIT) is State.SUCCEEDED)
        installation.send("flink.scale", job_id=name, parallelism=2, idempotency_key="scale")
        wait_for("the SCALE to be written", lambda: parallelism(installation, name) == 2)
        installation.becomes(name)
        wait_for("the SCALE to end", lambda: ended(installation, name, KindName.SCALE) is State.SUCCEEDED)
        installation.send("flink.stop", job_id=name, idempotency_key="stop")
        wait_for("the suspend to be written", lambda: state(installation, name) == "suspended")
        kept = {"state": "FINISHED", "upgradeSavepointPath": "file:///s/savepoint-1"}
        installation.becomes(name, lifecycleState="SUSPENDED", job=kept)
        wait_for("the STOP to end", lambda: ended(installation, name, KindName.STOP) is State.SUCCEEDED)
        node.teardown()
    asked: list[Passed] = []
    for each in passed:
        if each.path.startswith(REVIEWS):
            continue  # what the worker's account may do, once a minute: an API without authorization answers otherwise
        blanked = _blanked(each, drawn.metadata.uid)
        asked += [blanked] if blanked not in asked else []
    return asked


def parallelism(installation: Installation, name: str) -> int:
    whole = installation.cluster.runtime.get_whole("default", name)
    return int(whole["spec"]["job"]["parallelism"]) if whole else 0


def state(installation: Installation, name: str) -> str:
    whole = installation.cluster.runtime.get_whole("default", name)
    return str(whole["spec"]["job"].get("state")) if whole else ""


def _blanked(passed: Passed, uid: str) -> Passed:
    def blank(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: blank(each) for key, each in value.items()}
        if isinstance(value, list):
            return [blank(each) for each in value]
        return "the uid" if value == uid else value

    return Passed(passed.method, passed.path, passed.content_type, blank(passed.body))


_asked: dict[str, list[Passed]] = {}


def test_both_apis_are_asked_the_same(
    installation: Installation, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The first of the two runs has nothing to compare with; a body of each kind must have passed in both. A PUT is a
    wake-up that came in between and repeated what was made: it may be there or not."""
    seen = bodies(installation, "same-everywhere", tmp_path)
    asked = [each for each in seen if each.method != "PUT"]
    files = next(each for each in asked if DEPLOYMENTS not in each.path)
    assert all(each.body == files.body for each in seen if each.method == "PUT")
    assert [each.method for each in asked] == ["POST", "POST", "PATCH", "PATCH", "DELETE"]
    assert DEPLOYMENTS in asked[0].path
    _asked[request.node.callspec.params["installation"]] = asked
    assert all(each == asked for each in _asked.values())


# the fence against a worker that froze


def test_a_worker_that_froze_before_its_create_brings_nothing_back(installation: Installation, name: str) -> None:
    """SIGSTOP between the decision to create and the create; the job is stopped meanwhile; then SIGCONT."""
    accept, asked = installation.services.accept.operation, {"job_config": {"script": SCRIPT}}
    accept(KindName.SUBMIT, name, asked, tenant="default", key=None, source=HERE)
    frozen = installation.freezing_worker(name)
    wait_for("the worker to freeze", frozen.is_frozen)
    assert not has(installation, name)
    accept(KindName.STOP, name, {}, tenant="default", key=None, source=HERE)
    installation.worker()
    installation.beat()
    wait_for("the STOP to end", lambda: ended(installation, name, KindName.STOP) is State.SUCCEEDED)
    since = version(installation.cluster)
    frozen.go_on()
    wait_for("the frozen worker to go on", frozen.has_ended)
    wait_for("no deployment to remain", lambda: not has(installation, name))
    events = [e.kind for e in installation.cluster.told_since(since) if e.deployment.metadata.name == name]
    assert events.count("ADDED") == events.count("DELETED")
    job = installation.job(name)
    assert job is not None
    assert job.phase is Phase.CANCELLED
    states = {o.kind: o.state for o in installation.operations(name)}
    assert states == {KindName.SUBMIT: State.SUPERSEDED, KindName.STOP: State.SUCCEEDED}
