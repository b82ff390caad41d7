"""A JobManager's REST, on each way that leads to it: straight, by laptop mode's gateway, by the API server's proxy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from headrace import bootstrap
from headrace.adapters.flink_rest import Body, RestAnswer, RestJobManager, RestSend
from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.domain.runtimes.native.acts import FlinkJob
from headrace.domain.state_on_hand import Checkpoints
from headrace.domain.vertices import Vertex
from headrace.errors import Refused, Unavailable
from headrace.ports import JobManager
from headrace.settings import Settings
from local.flink_operator.rest_gateway import RestGateway
from local.kube_apiserver import write_kubeconfig
from local.process import free_port
from tests.support.patience import REQUEST_SECONDS
from tests.support.serving import dripping, serving

JOB = "f" * 32
CHECKPOINTS = f"/jobs/{JOB}/checkpoints"
STATE = f"/jobs/{JOB}"


def job_manager(folder: Path, **settings: Any) -> JobManager:
    nobody = folder / "kubeconfig-of-nobody"
    write_kubeconfig(nobody, "http://127.0.0.1:1", "token")
    settings = {
        "kubeconfig": nobody,
        "mongodb_timeout_seconds": 1,
        "kubernetes_timeout_seconds": REQUEST_SECONDS,
        "flink_rest_timeout_seconds": REQUEST_SECONDS,
    } | settings
    return bootstrap.services(Settings(**settings)).job_manager


@contextmanager
def by_way(way: str, folder: Path, answers: dict[str, Any], status: int = 200) -> Iterator[JobManager]:
    proxy = "/api/v1/namespaces/prod/services/orders-rest:rest/proxy" if way == "proxy" else ""
    files = {
        proxy + path: each if isinstance(each, bytes) else json.dumps(each).encode() for path, each in answers.items()
    }
    with serving(
        {path: body for path, body in files.items() if body != b"null"}, statuses=dict.fromkeys(files, status)
    ) as address:
        port = int(address.rpartition(":")[2])
        if way == "proxy":
            write_kubeconfig(folder / "kubeconfig", address, "token")
            yield job_manager(folder, kubeconfig=folder / "kubeconfig")
        elif way == "direct":
            yield job_manager(folder, flink_rest_url=address)
        else:
            entry = free_port()
            gateway = RestGateway(entry, lambda *named: port if named == ("prod", "orders") else None)
            gateway.start()
            yield job_manager(folder, flink_rest_url=f"http://127.0.0.1:{entry}/{{namespace}}/{{name}}")
            gateway.stop()


every_way = pytest.mark.parametrize("way", ["direct", "gateway", "proxy"])


@every_way
def test_the_newest_of_checkpoints_and_savepoints_is_found(way: str, tmp_path: Path) -> None:
    latest = {
        "completed": {"id": 7, "external_path": "s3://b/chk-7"},
        "savepoint": {"id": 8, "external_path": "s3://b/savepoint-8"},
        "restored": {"id": 3, "external_path": "s3://b/chk-3"},
    }
    with by_way(way, tmp_path, {CHECKPOINTS: {"latest": latest}}) as manager:
        assert manager.checkpoints("prod", "orders", JOB).latest == "s3://b/savepoint-8"


@every_way
def test_a_job_that_completed_none_says_what_it_was_restored_from(way: str, tmp_path: Path) -> None:
    restored = {"completed": None, "savepoint": None, "restored": {"id": 3, "external_path": "s3://b/chk-3"}}
    with by_way(way, tmp_path, {CHECKPOINTS: {"latest": restored}, STATE: {"state": "RUNNING"}}) as manager:
        assert manager.checkpoints("prod", "orders", JOB) == Checkpoints(restored="s3://b/chk-3", number=3)


OVERVIEW = {"taskmanagers": 1, "slots-total": 2, "slots-available": 0, "jobs-running": 1}
VERTICES = [
    {"parallelism": 2, "slotSharingGroupId": "a", "tasks": {"RUNNING": 1, "SCHEDULED": 1, "CREATED": 0}},
    {"parallelism": 3, "slotSharingGroupId": "a", "tasks": {"SCHEDULED": 3}},
    {"parallelism": 1, "slotSharingGroupId": "b", "tasks": {"FINISHED": 1}},
]
ELECTION = b'{"errors":["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}'


@every_way
def test_the_progress_of_a_job_is_what_its_jobmanager_has_for_it(way: str, tmp_path: Path) -> None:
    job = {"state": "RUNNING", "vertices": VERTICES}
    with by_way(way, tmp_path, {"/overview": OVERVIEW, f"/jobs/{JOB}": job}) as manager:
        found = manager.progress("prod", "orders", JOB)
    assert (found.leads, found.task_managers, found.slots, found.state) == (True, 1, 2, "RUNNING")
    assert found.needed_slots == 4, "tasks of one slot sharing group share slots"
    assert found.tasks == {"RUNNING": 1, "SCHEDULED": 4, "FINISHED": 1}


@every_way
def test_a_jobmanager_that_does_not_know_the_job_has_no_state_of_it(way: str, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {"/overview": OVERVIEW}) as manager:
        assert manager.progress("prod", "orders", JOB).state == ""
        assert manager.progress("prod", "orders", "").slots == 2


@every_way
def test_a_job_that_is_waited_for_has_no_tasks_yet(way: str, tmp_path: Path) -> None:
    job: dict[str, Any] = {"state": "CREATED", "vertices": [{"parallelism": 2, "tasks": {}}]}
    with by_way(way, tmp_path, {"/overview": OVERVIEW, f"/jobs/{JOB}": job}) as manager:
        found = manager.progress("prod", "orders", JOB)
    assert (found.state, found.needed_slots, found.tasks) == ("CREATED", 2, {})


@every_way
def test_a_jobmanager_without_leadership_says_so_and_any_other_503_is_unavailable(way: str, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {"/overview": ELECTION}, status=503) as manager:
        assert not manager.progress("prod", "orders", JOB).leads
    with (
        by_way(way, tmp_path, {"/overview": b"no endpoints available"}, status=503) as manager,
        pytest.raises(Unavailable, match="503"),
    ):
        manager.progress("prod", "orders", JOB)


@every_way
@pytest.mark.parametrize("answer", [None, b"<html>", b"[]", b'{"taskmanagers": "many"}', b'{"slots-total": [1]}'])
def test_an_answer_that_is_no_object_is_unavailable(way: str, answer: bytes, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {"/overview": answer}) as manager, pytest.raises(Unavailable, match="prod/orders"):
        manager.progress("prod", "orders", JOB)


@every_way
@pytest.mark.parametrize(
    ("state", "knows"), [("RUNNING", True), ("CREATED", False), ("INITIALIZING", False), (None, False)]
)
def test_no_checkpoint_is_an_answer_only_of_who_has_the_jobs_graph(
    way: str, state: str | None, knows: bool, tmp_path: Path
) -> None:
    with by_way(way, tmp_path, {CHECKPOINTS: {"latest": {"completed": None}}, STATE: {"state": state}}) as manager:
        assert manager.checkpoints("prod", "orders", JOB) == Checkpoints(has_graph=knows)


FAILED_AT_ITS_START = {"state": "FAILED", "timestamps": {"INITIALIZING": 1795448818262, "RUNNING": 0, "FAILED": 0}}
FAILED_LATER = {"state": "FAILED", "timestamps": {"INITIALIZING": 1795448818262, "RUNNING": 1795448820000, "FAILED": 1}}


@every_way
@pytest.mark.parametrize("told", [{}, {CHECKPOINTS: {"latest": {"completed": None}}}])
def test_a_job_that_failed_before_it_ran_is_known_to_have_no_checkpoint(
    way: str, told: dict[str, Any], tmp_path: Path
) -> None:
    """Where it failed before it had a graph, Flink answers 404 to the question for its checkpoints."""
    with by_way(way, tmp_path, {**told, STATE: FAILED_AT_ITS_START}) as manager:
        assert not manager.checkpoints("prod", "orders", JOB).has_run


@every_way
def test_a_job_that_failed_after_it_ran_is_not_said_to_have_none(way: str, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {STATE: FAILED_LATER}) as manager, pytest.raises(Unavailable, match="404"):
        manager.checkpoints("prod", "orders", JOB)


@every_way
@pytest.mark.parametrize(
    "answer",
    [None, b"<html>", [], {"latest": {"completed": {"id": 1}}}],
    ids=["404", "not JSON", "no object", "no path"],
)
def test_an_answer_that_says_nothing_is_no_proof_of_no_state(way: str, answer: Any, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {CHECKPOINTS: answer}) as manager, pytest.raises(Unavailable, match="prod/orders"):
        manager.checkpoints("prod", "orders", JOB)


@every_way
def test_nobody_there_is_unavailable_and_names_the_setting(way: str, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    write_kubeconfig(tmp_path / "kubeconfig", nobody, "token")
    setting, name = ("kubeconfig", "KUBECONFIG") if way == "proxy" else ("flink_rest_url", "FLINK_REST_URL")
    manager = job_manager(tmp_path, **{setting: tmp_path / "kubeconfig" if way == "proxy" else nobody})
    with pytest.raises(Unavailable, match=f"HEADRACE_{name}"):
        manager.checkpoints("prod", "orders", JOB)


def test_a_rest_address_with_other_braces_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="no other braces"):
        Settings(flink_rest_url="http://{host}/")


ELSEWHERE = ["../../../../secrets/x", "..", ".", "a/b", "a?b", "a#b", "%2e%2e", "a b", "a\\b", "a\nb", "", "a%2fb"]


@pytest.mark.parametrize("flink_job_id", ELSEWHERE)
@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_an_id_that_leads_elsewhere_is_asked_nobody(way: str, flink_job_id: str, tmp_path: Path) -> None:
    """It comes from a status, which others than the operator may write; by the proxy it would be asked with our own
    credentials."""
    everything = {f"/jobs/{flink_job_id}{part}": {} for part in ("", "/checkpoints", "/exceptions")}
    with by_way(way, tmp_path, everything) as manager:
        for ask in (manager.checkpoints, manager.exceptions):
            with pytest.raises(Unavailable, match="no part of a path"):
                ask("prod", "orders", flink_job_id)


@every_way
def test_a_jobs_vertices_are_what_it_runs_at_and_what_it_may(way: str, tmp_path: Path) -> None:
    told = [{"id": "a1", "parallelism": 2, "maxParallelism": 128}, {"id": "b2", "parallelism": 1, "maxParallelism": 1}]
    with by_way(way, tmp_path, {STATE: {"state": "RUNNING", "vertices": told}}) as manager:
        found = manager.vertices("prod", "orders", JOB)
    assert found.by_id == {"a1": Vertex(2, 128), "b2": Vertex(1, 1)}


@every_way
def test_a_vertex_that_is_short_of_slots_says_what_it_is_to_run_at(way: str, tmp_path: Path) -> None:
    told = {"vertices": [{"id": "a1", "parallelism": 2, "maxParallelism": 128}]}
    required = {"a1": {"parallelism": {"lowerBound": 1, "upperBound": 4}}}
    with by_way(way, tmp_path, {STATE: told, f"{STATE}/resource-requirements": required}) as manager:
        (found,) = manager.vertices("prod", "orders", JOB).by_id.values()
    assert (found.parallelism, found.is_to_run_at) == (2, 4)


def test_vertices_of_a_scheduler_that_takes_no_requirements_are_not_known() -> None:
    """As of a batch job, whatever scheduler its options name: nobody could scale it in place."""

    def send(_: str, __: str, ___: str, path: str, ____: object) -> RestAnswer:
        return RestAnswer(500 if path.endswith("requirements") else 200, b'{"vertices": []}')

    with pytest.raises(Unavailable, match=r"answered 500 to GET .*/resource-requirements"):
        RestJobManager(send).vertices("prod", "orders", JOB)


DISPOSAL = {"/savepoint-disposal": {"request-id": "r1"}}
PATH = "s3://b/savepoint-1"


def removed(failure: str | None) -> dict[str, Any]:
    """What Flink answers once it has tried (AsynchronousOperationResult of its REST API)."""
    cause = {"class": "java.util.concurrent.CompletionException", "stack-trace": failure} if failure else None
    done = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": cause} if cause else {}}
    return {**DISPOSAL, "/savepoint-disposal/r1": done}


@every_way
@pytest.mark.parametrize(
    "gone", [None, "x\nCaused by: java.io.FileNotFoundException: Cannot find checkpoint or savepoint"]
)
def test_a_savepoint_is_removed_and_one_that_is_gone_is_well(way: str, gone: str | None, tmp_path: Path) -> None:
    with by_way(way, tmp_path, removed(gone)) as manager:
        manager.dispose("prod", "orders", PATH)


@every_way
def test_what_flink_cannot_remove_is_refused_with_its_reason(way: str, tmp_path: Path) -> None:
    trace = (
        "java.util.concurrent.CompletionException: x\n\tat a.b\nCaused by: java.io.IOException: access denied\n\tat c"
    )
    with by_way(way, tmp_path, removed(trace)) as manager, pytest.raises(Refused, match=r"IOException: access denied$"):
        manager.dispose("prod", "orders", PATH)


def test_a_removal_that_lasts_is_unavailable_after_a_bound(tmp_path: Path) -> None:
    pauses: list[float] = []
    answers = {**DISPOSAL, "/savepoint-disposal/r1": {"status": {"id": "IN_PROGRESS"}}}

    def send(_: str, __: str, ___: str, path: str, ____: object) -> RestAnswer:
        return RestAnswer(202, json.dumps(answers[path]).encode())

    with pytest.raises(Unavailable, match="not done with removing"):
        RestJobManager(send, pauses.append).dispose("prod", "orders", PATH)
    assert 5 <= sum(pauses) <= 15


@every_way
def test_a_job_without_a_graph_has_no_vertices_and_an_unknown_one_is_unavailable(way: str, tmp_path: Path) -> None:
    with by_way(way, tmp_path, {STATE: {"state": "INITIALIZING", "vertices": []}}) as manager:
        assert manager.vertices("prod", "orders", JOB).by_id == {}
    with by_way(way, tmp_path, {}) as manager, pytest.raises(Unavailable, match="404"):
        manager.vertices("prod", "orders", JOB)


@every_way
@pytest.mark.parametrize("vertices", [[{"id": "a"}], ["a"], [{"id": "a", "parallelism": "many"}]])
def test_vertices_that_are_none_are_unavailable(way: str, vertices: Any, tmp_path: Path) -> None:
    with (
        by_way(way, tmp_path, {STATE: {"vertices": vertices}}) as manager,
        pytest.raises(Unavailable, match="prod/orders"),
    ):
        manager.vertices("prod", "orders", JOB)


@pytest.mark.parametrize("state", ["RUNNING", "FINISHED", "CREATED"])
def test_a_batch_job_has_no_checkpoints_and_that_is_an_answer(state: str) -> None:
    """Flink answers 404 where a job makes none: of one that runs, or has run to its end, that is known then."""
    refused = {"errors": ["org.apache.flink.runtime.rest: Checkpointing has not been enabled."]}

    def send(method: str, namespace: str, name: str, path: str, body: Any) -> RestAnswer:
        if path.endswith("/checkpoints"):
            return RestAnswer(404, json.dumps(refused).encode())
        return RestAnswer(200, json.dumps({"state": state, "timestamps": {"RUNNING": 5}}).encode())

    manager = RestJobManager(send)
    if state == "CREATED":
        with pytest.raises(Unavailable):
            manager.checkpoints("prod", "orders", JOB)
        return
    assert manager.checkpoints("prod", "orders", JOB) == Checkpoints()


IN_OVERVIEW = {
    **{"jid": JOB, "name": "(application driver)", "start-time": 1795958458028, "end-time": 1795958458028},
    **{"duration": 0, "state": "FAILED", "last-modification": 1795958458028, "pending-operators": 0},
    "tasks": {
        **{"running": 0, "canceling": 0, "canceled": 0, "total": 0, "created": 0, "scheduled": 0, "deploying": 0},
        **{"reconciling": 0, "finished": 0, "initializing": 0, "failed": 0},
    },
}
"""What Flink 2.2.1 said on a real cluster of a job whose program raised at once."""

FAILED_AT_ONCE = {
    STATE: (500, {"errors": ["Internal server error.", "java.lang.NullPointerException at JobDetailsInfo.<init>"]}),
    "/jobs/overview": (200, {"jobs": [IN_OVERVIEW]}),
    CHECKPOINTS: (404, {"errors": ["RestHandlerException: Checkpointing has not been enabled."]}),
    "/overview": (200, {"taskmanagers": 0, "slots-total": 0, "jobs-failed": 1}),
}


def answering(answers: dict[str, tuple[int, Any]]) -> RestSend:
    def send(method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        status, content = answers.get(path, (404, {"errors": ["not found"]}))
        return RestAnswer(status, json.dumps(content).encode())

    return send


def test_a_job_that_flink_cannot_show_is_known_by_the_overview() -> None:
    manager, rest = RestJobManager(answering(FAILED_AT_ONCE)), ClusterRest(answering(FAILED_AT_ONCE))
    assert manager.checkpoints("prod", "orders", JOB) == Checkpoints(has_run=False)
    assert manager.progress("prod", "orders", JOB).state == "FAILED"
    assert rest.job("prod", "orders", JOB) == FlinkJob("FAILED", "1795958458028", "(application driver)")


@pytest.mark.parametrize("tasks", [{"total": 1, "failed": 1}, {"total": 1, "running": 1}])
def test_one_that_has_tasks_has_had_a_graph_and_its_error_stays_one(tasks: dict[str, int]) -> None:
    overview = {"jobs": [{**IN_OVERVIEW, "tasks": tasks}]}
    manager = RestJobManager(answering({**FAILED_AT_ONCE, "/jobs/overview": (200, overview)}))
    with pytest.raises(Unavailable, match="answered 500"):
        manager.checkpoints("prod", "orders", JOB)


@pytest.mark.parametrize(
    ("tasks", "state"),
    [({"total": 2, "running": 1, "finished": 1}, "RUNNING"), ({"total": 2, "running": 1, "created": 1}, "CREATED")],
)
def test_a_native_job_runs_once_all_its_tasks_do(tasks: dict[str, int], state: str) -> None:
    told = {"jid": JOB, "name": "orders", "state": "RUNNING", "start-time": 7, "tasks": tasks}
    vertices = {"vertices": [{"id": "a" * 32, "parallelism": 2}]}
    rest = ClusterRest(answering({"/jobs/overview": (200, {"jobs": [told]}), STATE: (200, vertices)}))
    assert rest.job("prod", "orders", JOB) == FlinkJob(state, "7", "orders")
    found = rest.job("prod", "orders", JOB, with_vertices=True)
    assert found == FlinkJob(state, "7", "orders", {"a" * 32: 2} if state == "RUNNING" else {})
    assert rest.job("prod", "orders", "e" * 32) == FlinkJob()


@pytest.mark.parametrize("answer", [(503, {"errors": ["leader election"]}), (500, {}), (200, {"jobs": None})])
def test_who_shows_no_jobs_says_nothing_of_one(answer: tuple[int, Any]) -> None:
    assert ClusterRest(answering({"/jobs/overview": answer})).job("prod", "orders", JOB) is None


UNHANDLED = (
    "<Exception on server side:\n"
    "java.util.concurrent.CompletionException: java.lang.UnsupportedOperationException: The DefaultScheduler\n"
    "\tat java.base/java.util.concurrent.CompletableFuture.encodeThrowable(Unknown Source)\n"
    "Caused by: java.lang.UnsupportedOperationException: The DefaultScheduler does not support changing it\n"
    "\tat org.apache.flink.runtime.scheduler.DefaultScheduler.updateJobResourceRequirements\n"
    "\t... 32 more\n"
    "\n"
    "End of exception on server side>"
)
"""How Flink tells of what it did not handle (AbstractHandler.handleException)."""


def test_what_flink_did_not_handle_is_told_by_its_cause() -> None:
    path = f"{STATE}/resource-requirements"
    rest = ClusterRest(answering({path: (500, {"errors": ["Internal server error.", UNHANDLED]})}))
    with pytest.raises(Unavailable) as raised:
        rest.required("prod", "orders", JOB)
    cause = "java.lang.UnsupportedOperationException: The DefaultScheduler does not support changing it"
    assert str(raised.value) == f"the JobManager of prod/orders answered 500: {cause}"


def test_a_jobmanager_that_does_not_answer_is_not_asked_twice() -> None:
    asked: list[str] = []

    def send(method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        asked.append(path)
        raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        RestJobManager(send).progress("prod", "orders", JOB)
    assert asked == ["/overview"]

    def away(method: str, namespace: str, name: str, path: str, body: Body) -> RestAnswer:
        return RestAnswer(200, b"{}") if path == "/overview" else send(method, namespace, name, path, body)

    with pytest.raises(Unavailable):
        RestJobManager(away).progress("prod", "orders", JOB)
    assert asked == ["/overview", STATE]


OK = b"HTTP/1.1 200 OK\r\n"
WITHOUT_END = {
    "of a length": (OK + b"Content-Length: 1000000\r\n\r\n{", b" "),
    "in chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "in a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n", b" "),
    "until it closes": (OK + b"\r\n{}", b" "),
    "of headers": (OK, b"A: a\r\n"),
}


@pytest.mark.parametrize(
    ("way", "answer"),
    [
        *product(("direct", "proxy"), ("of a length", "in chunks", "in a chunk", "until it closes")),
        ("direct", "of headers"),  # the API server passes on whole ones
    ],
)
def test_an_answer_that_drips_is_unavailable_at_its_bound(way: str, answer: str, tmp_path: Path) -> None:
    with dripping(*WITHOUT_END[answer]) as address:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="not over after 1 s"):
            reached(way, address, tmp_path).exceptions("prod", "orders", JOB)
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_an_answer_that_is_too_large_is_unavailable_and_says_so(way: str, tmp_path: Path) -> None:
    with (
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + b" " * 2**20 + b"\r\n") as address,
        pytest.raises(Unavailable, match="larger than 16777216 bytes"),
    ):
        reached(way, address, tmp_path, bound_seconds=30).exceptions("prod", "orders", JOB)


def reached(way: str, address: str, folder: Path, bound_seconds: float = 1) -> JobManager:
    if way == "direct":
        return job_manager(folder, flink_rest_url=address, flink_rest_timeout_seconds=bound_seconds)
    write_kubeconfig(folder / "kubeconfig", address, "token")
    return job_manager(folder, kubeconfig=folder / "kubeconfig", kubernetes_timeout_seconds=bound_seconds)
