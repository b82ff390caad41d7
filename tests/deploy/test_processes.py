"""The processes as the production overlay installs them, each with the very token of its own account, on a real API
server with RBAC: every kind of operation is carried out to its end, and what was asked of Kubernetes on the way is what
the Roles allow, no more and no less."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headrace.domain.operations import KINDS
from tests.deploy.test_rights import MAY
from tests.processes import somebodys
from tests.processes.flink import FAILS, LEFT, LOST
from tests.support.deployed import FLINK_RESOURCES, JOBS, MERGE_PATCH, OURS, PROCESSES, Deployed, deployed
from tests.support.given import pod_labels
from tests.support.patience import wait_for

pytestmark = pytest.mark.timeout(300)
SCRIPT = {"name": "job.py", "content": "print(1)\n"}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed(tmp_path_factory.mktemp("deployed")) as made:
        made.start(*PROCESSES)
        yield made


def test_every_kind_of_operation_is_carried_out_with_the_tokens_of_the_overlay(installation: Deployed) -> None:
    with ThreadPoolExecutor(4) as pool:
        stories = [pool.submit(each, installation) for each in STORIES]
        for each in stories:
            each.result()
    of_all = list(installation.database.operations.find({}))
    ended = {each["kind"] for each in of_all if each["state"] == "SUCCEEDED"}
    assert ended == set(KINDS)
    failed = {each["job_id"] for each in of_all if each["state"] != "SUCCEEDED"}
    assert failed == {"broken", "brief"}
    allowed = {(account, what, verb) for account, rights in MAY.items() for what in rights for verb in rights[what]}
    unused: set[tuple[str, str, str]] = set()

    def each_is_used() -> bool:
        """The server writes down what it was asked after it has answered."""
        unused.clear()
        unused.update(allowed - asked_of_kubernetes(installation)[0])
        return not unused

    with suppress(AssertionError):
        wait_for("each right to be used", each_is_used)
    assert unused == set(), "a right that no process has used"
    used, denied = asked_of_kubernetes(installation)
    assert denied == set()
    assert used - allowed == set(), "a right that stands in no Role of ours"


def asked_of_kubernetes(installation: Deployed) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """What was allowed, and what was refused, by account, resource and verb; but for the look at the CRD, which an
    account with rights in namespaces alone may not have, and for asking what one may, which anybody may."""
    used, denied = set(), set()
    for each in installation.server.asked():
        what, account = each.get("objectRef") or {}, each["user"]["username"].rpartition(":")[2]
        resource = "/".join(filter(None, (what.get("resource", ""), what.get("subresource", ""))))
        if resource in ("customresourcedefinitions", "selfsubjectaccessreviews"):
            continue
        into = denied if each["responseStatus"]["code"] in (401, 403) else used
        into.add((account, resource, each["verb"]))
    return used, denied


def a_life(installation: Deployed) -> None:
    """A job with files and a secret, from its beginning to its return from deletion."""
    config = {"script": SCRIPT, "env": {"DB_PASSWORD": "hunter22"}}
    installation.done("orders", "submit", job_config=config)
    assert installation.http.get(f"/api/v1/namespaces/{JOBS}/secrets").text.count("orders-env") >= 1
    installation.done("orders", "scale", parallelism=3)
    assert parallelism(installation, "orders") == 3
    installation.done("orders", "restart")
    changed = {"script": {"name": "job.py", "content": "print(2)\n"}, "env": {"DB_PASSWORD": "hunter33"}}
    installation.done("orders", "upgrade", job_config=changed)
    installation.done("orders", "rollback", to=1)
    assert parallelism(installation, "orders") == 1
    installation.done("orders", "savepoint")
    installation.done("orders", "suspend")
    assert installation.job("orders")["status"] == "SUSPENDED"
    installation.done("orders", "resume")
    assert installation.job("orders")["status"] == "RUNNING"
    installation.done("orders", "stop")
    assert installation.live("orders") is None
    installation.done("orders", "delete")
    installation.done("orders", "undelete")
    assert installation.job("orders")["status"] == "CANCELLED"


def anothers(installation: Deployed) -> None:
    """A deployment of somebody else, adopted by a record in Kafka: the consumer looks at it. Then it is let go."""
    made = somebodys.deployment("others", 0, Path("/opt"), Path("/state"))
    installation.http.post(f"{FLINK_RESOURCES}/flinkdeployments", json=made).raise_for_status()
    wait_for("it to run", lambda: lifecycle(installation, "others") == "STABLE")
    assert "others" in installation.call("GET", "/adoptable").text
    produce(installation, {"operation": "ADOPT", "job_id": "others"})
    wait_for("it to be adopted", lambda: installation.job("others").get("status") == "RUNNING")
    installation.done("others", "release")
    live = installation.live("others")
    assert live is not None
    assert "headrace.io/job" not in live["metadata"]["labels"]


def without_a_job_manager(installation: Deployed) -> None:
    """A savepoint that nobody takes by its resource; a JobManager that is lost, is looked into, and leaves its state in
    Flink's HA metadata alone when the job is stopped."""
    installation.done("unlucky", "submit", job_config={"script": SCRIPT})
    flink = installation.folder / "flink"
    (flink / f"{LEFT}unlucky").touch()
    installation.done("unlucky", "savepoint")
    assert installation.http.get(f"{FLINK_RESOURCES}/flinkstatesnapshots").text.count("unlucky-savepoint-2") == 0
    put_pod(installation, "unlucky")
    (flink / f"{LOST}unlucky").write_text(str(time.time() + 3600))
    wait_for("it to be missed", lambda: installation.job("unlucky")["status"] == "RESTARTING")
    assert installation.call("GET", "/jobs/unlucky/logs").status_code == 502, "no node has it"
    assert installation.call("GET", "/jobs/unlucky/events").json()["events"] == []
    foreseen = installation.call("POST", "/jobs/unlucky/scale?dry_run=true", {"parallelism": 2})
    assert foreseen.status_code == 200, foreseen.text
    wait_for("what it waits for", lambda: "unlucky-1" in str(installation.job("unlucky")["reason"]))
    installation.done("unlucky", "stop")


def broken(installation: Deployed) -> None:
    """Programs that fail as they start: one is asked about, the other's remains are taken away, its log first."""
    for job_id in ("broken", "brief"):
        (installation.folder / "flink" / f"{FAILS}{job_id}").touch()
        put_pod(installation, job_id)
    config = {"script": SCRIPT, "ended_run_kept_hours": 0}
    failed = [installation.asked("broken", "submit", job_config={"script": SCRIPT})]
    failed += [installation.asked("brief", "submit", job_config=config)]
    assert [installation.ended(each)["state"] for each in failed] == ["FAILED", "FAILED"]
    asked = {"job_id": "broken", "job_config": {"script": SCRIPT}}
    foreseen = installation.call("POST", "/jobs/submit?dry_run=true", asked)
    assert foreseen.status_code in (200, 409), foreseen.text
    wait_for("what is left to be taken away", lambda: installation.live("brief") is None)
    assert installation.live("broken") is not None


STORIES = (a_life, anothers, without_a_job_manager, broken)


def put_pod(installation: Deployed, job_id: str) -> None:
    """The pod of a JobManager that no node has yet: there is no kubelet here."""
    spec = {"containers": [{"name": "flink-main-container", "image": "flink"}], "serviceAccountName": "flink"}
    pod = {"metadata": {"name": f"{job_id}-1", "labels": pod_labels(job_id)}, "spec": spec}
    installation.http.post(f"/api/v1/namespaces/{JOBS}/pods", json=pod).raise_for_status()


def parallelism(installation: Deployed, name: str) -> int:
    live = installation.live(name)
    return int(live["spec"]["job"]["parallelism"]) if live else 0


def lifecycle(installation: Deployed, name: str) -> str:
    live = installation.live(name)
    return str((live or {}).get("status", {}).get("lifecycleState"))


@pytest.fixture
def running(installation: Deployed) -> str:
    """A job of the test's own that runs."""
    job_id = f"job-{uuid.uuid4().hex[:8]}"
    installation.done(job_id, "submit", job_config={"script": SCRIPT})
    return job_id


def says(installation: Deployed, operation_id: str, process: str, what: str) -> bool:
    """Whether the operation waits, and says whose account may not do what, and what helps."""
    found = installation.operation(operation_id)
    assert found["state"] in ("ACCEPTED", "RUNNING"), found
    words = f'User "system:serviceaccount:{OURS}:headrace-{process}" cannot {what}'
    return words in found["reason"] and "by a Role and a RoleBinding" in found["reason"]


def test_a_worker_that_may_not_patch_waits_for_the_right(installation: Deployed, running: str) -> None:
    with installation.without("worker", "flinkdeployments", "patch"):
        operation = installation.asked(running, "scale", parallelism=4)
        what = 'patch resource "flinkdeployments"'
        wait_for("it to say so", lambda: says(installation, operation, "worker", what))
        assert parallelism(installation, running) == 1
    assert installation.ended(operation)["state"] == "SUCCEEDED"
    assert parallelism(installation, running) == 4


def test_the_doctor_names_a_right_that_a_process_lacks(installation: Deployed) -> None:
    """A user of HTTP is told what the worker's and the sync's accounts lack, by themselves, and which of them it is."""

    def found() -> Any:
        (runtime,) = installation.call("GET", "/runtimes").json()["runtimes"]
        return runtime

    def begun_anew(*names: str) -> None:
        installation.stop(*names)
        installation.start(*names)

    def says(works: bool, lacks: list[dict[str, Any]]) -> Any:
        """It, where it is told so: a process that was not answered in time lacks that, until it reports again."""
        told = found()
        return told if (told["works"], told["lacks"]) == (works, lacks) else None

    told = wait_for("both to have said that it works", lambda: says(True, []))
    assert (told["name"], told["is_default"], told["silent"]) == ("operator", True, [])
    missing = f"flinkdeployments.flink.apache.org in {JOBS} is missing: a Role and a RoleBinding there give it"
    lacking = [
        {"what": f"the right to patch {missing}", "said_by": ["worker"]},
        {"what": f"the right to watch {missing}", "said_by": ["sync"]},
    ]
    with (
        installation.without("worker", "flinkdeployments", "patch"),
        installation.without("sync", "flinkdeployments", "watch"),
    ):
        begun_anew("worker", "sync")
        wait_for(f"both to say that they lack {lacking}", lambda: says(False, lacking))
    begun_anew("worker", "sync")
    wait_for("both to say that it works again", lambda: found()["works"] is True)


def test_a_worker_that_may_not_write_files_leaves_no_half_job(installation: Deployed) -> None:
    """The deployment is made first, since it owns them: the same operation brings them when it may."""
    with installation.without("worker", "configmaps", "create", "update"):
        operation = installation.asked("half", "submit", job_config={"script": SCRIPT})
        what = 'create resource "configmaps"'
        wait_for("it to say so", lambda: says(installation, operation, "worker", what))
        made = installation.live("half")
        assert made is not None
    assert installation.ended(operation)["state"] == "SUCCEEDED"
    whole = installation.live("half")
    assert whole is not None
    assert whole["metadata"]["uid"] == made["metadata"]["uid"]
    path = f"/api/v1/namespaces/{JOBS}/configmaps"
    names = [each["metadata"]["name"] for each in installation.http.get(path).json()["items"]]
    assert [each for each in names if each.startswith("half-files-")]


@pytest.mark.parametrize("verb", ["list", "watch", "get"])
def test_a_sync_without_its_rights_turns_no_job_failed(installation: Deployed, running: str, verb: str) -> None:
    before = installation.job(running)
    with installation.without("sync", "flinkdeployments", verb):
        if verb != "get":
            wait_for("readers to see it", lambda: installation.job(running)["observation"] == "UNREACHABLE")
        words = f'headrace-sync\\" cannot {verb} resource'
        stop = installation.asked(running, "suspend")
        if verb != "get":
            wait_for("the log to name the right", lambda: words in installation.log("sync"))
        wait_for("the operator to be done", lambda: lifecycle(installation, running) == "SUSPENDED")
        assert installation.job(running)["status"] not in ("FAILED", "CANCELLED")
    assert installation.ended(stop)["state"] == "SUCCEEDED"
    wait_for("it to be seen", lambda: installation.job(running)["status"] == "SUSPENDED")
    wait_for("it to be fresh", lambda: installation.job(running)["observation"] == "FRESH")
    assert installation.job(running)["run"] == before["run"]


def test_an_api_that_may_not_read_logs_says_who_may_not_do_what(installation: Deployed, running: str) -> None:
    put_pod(installation, running)
    for resource, verb, path in (
        ("pods", "list", f"/jobs/{running}/logs"),
        ("pods/log", "get", f"/jobs/{running}/logs"),
        ("events", "list", f"/jobs/{running}/events"),
        ("flinkdeployments", "list", "/adoptable"),
    ):
        with installation.without("api", resource, verb):
            answer = installation.call("GET", path)
            assert answer.status_code == 502, answer.text
            detail = answer.json()["detail"]
            assert f'headrace-api" cannot {verb} resource "{resource}"' in detail
            assert "by a Role and a RoleBinding" in detail
    assert installation.call("GET", "/adoptable").status_code == 200


def test_a_consumer_that_may_not_look_waits_with_the_record(installation: Deployed) -> None:
    """A record that cannot be judged yet is no dead letter."""
    made = somebodys.deployment("later", 0, Path("/opt"), Path("/state"))
    installation.http.post(f"{FLINK_RESOURCES}/flinkdeployments", json=made).raise_for_status()
    with installation.without("consumer", "flinkdeployments", "get"):
        produce(installation, {"operation": "ADOPT", "job_id": "later"})
        wait_for("its log to name the right", lambda: "cannot get resource" in installation.log("consumer"))
        assert installation.call("GET", "/jobs/later").status_code == 404
    wait_for("it to be adopted", lambda: installation.job("later").get("status") == "RUNNING")


def test_the_api_server_dies_while_operations_are_under_way(installation: Deployed) -> None:
    """Killed twice in the middle, and started again: each operation is done once, no job turns FAILED, the watch goes
    on. Nobody is started again for it."""
    pids = {name: process.pid for name, process in installation.processes.items()}
    jobs = {word: f"{word}-{uuid.uuid4().hex[:8]}" for word in ("scale", "restart", "suspend", "savepoint", "stop")}
    submits = [installation.asked(job_id, "submit", job_config={"script": SCRIPT}) for job_id in jobs.values()]
    wait_for("the first deployment", lambda: any(installation.live(job_id) for job_id in jobs.values()))
    dies_and_comes_back(installation)
    assert {installation.ended(each, 120)["state"] for each in submits} == {"SUCCEEDED"}
    before = {job_id: installation.live(job_id) for job_id in jobs.values()}
    arguments = {"scale": {"parallelism": 3}}
    asked = [installation.asked(job_id, word, **arguments.get(word, {})) for word, job_id in jobs.items()]
    dies_and_comes_back(installation)
    assert {installation.ended(each, 120)["state"] for each in asked} == {"SUCCEEDED"}
    after = {word: installation.live(job_id) for word, job_id in jobs.items()}
    assert after["stop"] is None
    assert parallelism(installation, jobs["scale"]) == 3
    for word, job_id in jobs.items():
        assert installation.database.transitions.count_documents({"job_id": job_id, "to_phase": "FAILED"}) == 0
        was, live = before[job_id], after[word]
        if was is not None and live is not None:
            assert live["metadata"]["uid"] == was["metadata"]["uid"]
            once = 0 if word == "savepoint" else 1
            assert live["metadata"]["generation"] == was["metadata"]["generation"] + once, word
    status = {"status": {"error": "seen after all"}}
    path = f"{FLINK_RESOURCES}/flinkdeployments/{jobs['savepoint']}/status"
    installation.http.patch(path, json=status, headers=MERGE_PATCH).raise_for_status()
    kept = jobs["savepoint"]
    wait_for("the watch to tell", lambda: "seen after all" in str(installation.job(kept)["error"]))
    assert installation.job(kept)["observation"] == "FRESH"
    assert {name: process.pid for name, process in installation.processes.items()} == pids


def dies_and_comes_back(installation: Deployed) -> None:
    """SIGKILL; it is away until processes have met that. etcd forgets what was before: no watch goes on from there."""
    installation.server.kill()
    seen = installation.log("sync").count("did not answer")
    wait_for("the sync to meet it", lambda: installation.log("sync").count("did not answer") > seen)
    installation.server.forget_history()
    installation.server.start_again()


def test_tokens_are_replaced_while_operations_and_the_watch_go_on(installation: Deployed, running: str) -> None:
    """As the kubelet does: the file has another token, and the one of before opens nothing."""
    pids = {name: process.pid for name, process in installation.processes.items()}
    accounts = [f"headrace-{process}" for process in ("api", "worker", "sync", "consumer")]
    for _ in range(2):
        operations = [installation.asked(running, "restart"), installation.asked(running, "savepoint")]
        old = [installation.accounts.token(account) for account in accounts]
        for bound in [installation.accounts.renew(account) for account in accounts]:
            installation.accounts.end(bound)
        wait_for("the old ones to be refused", lambda old=old: all(is_refused(installation, each) for each in old))
        assert [installation.ended(each)["state"] for each in operations] == ["SUCCEEDED"] * 2
        installation.done(running, "scale", parallelism=2)
        assert installation.call("GET", "/adoptable").status_code == 200
        wait_for("it to be fresh", lambda: installation.job(running)["observation"] == "FRESH")
    assert {name: process.pid for name, process in installation.processes.items()} == pids
    assert all(process.exit_code is None for process in installation.processes.values())


def is_refused(installation: Deployed, token: str) -> bool:
    return installation.http.get("/api", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def produce(installation: Deployed, record: dict[str, str]) -> None:
    producer = Producer({"bootstrap.servers": installation.env["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"]})
    producer.produce("headrace.operations", json.dumps(record))
    assert producer.flush(30) == 0
