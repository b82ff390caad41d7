"""Logs, events and exceptions through a real HTTP server, with the small Kubernetes API and a JobManager's REST behind
it: what is streamed, what ends a stream, and what a server that is down looks like."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from api.access import gate
from api.app import create_app
from headrace.adapters.flink_rest import RestJobManager, sending
from headrace.adapters.kubernetes import connect
from headrace.bootstrap import wired
from headrace.client import Client
from headrace.domain.document import JobDocument
from headrace.domain.jobs import Job
from headrace.errors import Unavailable
from headrace.ports import FlinkRuntime
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryStore
from local.kubernetes_api import Fault
from local.kubernetes_api.faults import FaultKind
from local.process import free_port
from tests.support.clusters import Cluster, cluster
from tests.support.patience import PATIENCE, REQUEST_SECONDS, wait_for
from tests.support.workers import ROOT

POD = "orders-5d6885bb49-blqsx"
LOGS = "/api/v1/flink/jobs/orders/logs"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Api:
    """An API that serves, and the Kubernetes behind it."""

    url: str
    cluster: Cluster
    store: InMemoryStore

    def http(self) -> httpx.Client:
        headers = {"Authorization": "Bearer k"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False)


@contextmanager
def serving(
    runtime: FlinkRuntime, store: InMemoryStore, follow_seconds: float = 30, port: int | None = None
) -> Iterator[str]:
    """The API on a port; at the end it has to stop, with every stream."""
    settings = Settings(follow_limit_seconds=follow_seconds, _env_file=None)  # type: ignore[call-arg]
    ports: dict[str, Any] = {"store": store, "queue": InMemoryQueue(), "runtime": runtime, "clock": FixedClock()}
    services = wired(settings, job_manager=InMemoryJobManager(), sealer=None, **ports)
    app = create_app(services, gate(services, [b"k"]), tenant="default", wait_limit_seconds=1)
    port = port or free_port()
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for("the API to serve", lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def job() -> Job:
    names = {"tenant": "default", "job_id": "orders", "cluster": "default", "namespace": "default"}
    return Job(**names, deployment_name="orders", created_at=NOW, updated_at=NOW)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    store = InMemoryStore()
    store.write(JobDocument(job=job()), JobDocument(job=job(), revision=1))
    with cluster("local", tmp_path) as place, serving(place.runtime, store, 30) as url:
        yield Api(url, place, store)


def texts(lines: Any) -> list[str]:
    return [line.split(" ", 2)[2] for line in lines]


def test_a_log_is_streamed_as_it_comes_until_the_pod_is_gone(api: Api) -> None:
    api.cluster.run_pod(POD, "orders", printed=["one"])
    with api.http() as http, http.stream("GET", LOGS, params={"follow": "true"}) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert (answer.headers["headrace-pod"], answer.headers["headrace-ended"]) == (POD, "false")
        lines = answer.iter_lines()
        assert next(lines).endswith(" one")
        api.cluster.prints(POD, "two")
        assert next(lines).endswith(" two")
        api.cluster.delete_pod(POD)
        assert list(lines) == []


def test_a_reader_that_goes_ends_the_stream_behind_it(api: Api) -> None:
    api.cluster.run_pod(POD, "orders", printed=["one"])
    before = followers()
    with api.http() as http, http.stream("GET", LOGS, params={"follow": "true"}) as answer:
        assert next(answer.iter_lines()).endswith(" one")
        ours = followers() - before
        assert ours
    wait_for("nobody to read from Kubernetes any more", lambda: not followers() & ours, 10)


def followers() -> set[threading.Thread]:
    """The threads that end a followed log at its bound: one for each that is followed."""
    return {each for each in threading.enumerate() if isinstance(each, threading.Timer)}


def test_a_follow_ends_at_its_bound_and_the_client_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_was_read = threading.Event()

    class Bound(threading.Timer):
        """One that begins once the first line was read: it could else be over before."""

        def run(self) -> None:
            assert first_was_read.wait(REQUEST_SECONDS)
            super().run()

    monkeypatch.setattr(threading, "Timer", Bound)
    store = InMemoryStore()
    store.write(JobDocument(job=job()), JobDocument(job=job(), revision=1))
    with cluster("local", tmp_path) as place, serving(place.runtime, store, 1) as url, Client(url, "k") as client:
        place.run_pod(POD, "orders", printed=["one"])
        log = iter(client.logs("orders", follow=True))
        assert texts([next(log)]) == ["one"]
        begun = time.monotonic()
        first_was_read.set()
        assert list(log) == []
        assert 0.9 < time.monotonic() - begun < 30
        followed = client.follow("orders")
        shown = texts([next(followed)])
        for word in ("two", "three", "four"):
            place.prints(POD, word)
            shown += texts([next(followed)])
            time.sleep(0.7)  # so that the bound passes now and then between two lines
        place.delete_pod(POD)
        assert [*shown, *texts(followed)] == ["one", "two", "three", "four"]


def test_a_followed_log_outlives_the_api(tmp_path: Path) -> None:
    store = InMemoryStore()
    store.write(JobDocument(job=job()), JobDocument(job=job(), revision=1))
    told: list[str] = []
    port = free_port()
    with cluster("local", tmp_path) as place, Client(f"http://127.0.0.1:{port}", "k") as client:
        place.run_pod(POD, "orders", printed=["one"])
        followed = client.follow("orders", on_trouble=told.append)
        with serving(place.runtime, store, port=port):
            assert texts([next(followed)]) == ["one"]
        place.prints(POD, "two")
        with serving(place.runtime, store, port=port):
            assert texts([next(followed)]) == ["two"]
            place.delete_pod(POD)
            assert list(followed) == []
    assert told


def test_other_requests_are_answered_while_many_follow(api: Api) -> None:
    api.cluster.run_pod(POD, "orders", printed=["one"])
    with api.http() as http:
        streams = [http.stream("GET", LOGS, params={"follow": "true"}) for _ in range(50)]
        answers = [stream.__enter__() for stream in streams]
        assert [answer.status_code for answer in answers] == [200] * 50
        assert texts(http.get(LOGS).text.splitlines()) == ["one"]
        assert http.get("/api/v1/flink/jobs/orders/events").status_code == 200
        for stream in streams:
            stream.__exit__(None, None, None)


def test_a_kubernetes_that_hangs_or_fails_is_503_within_the_bound(tmp_path: Path) -> None:
    store = InMemoryStore()
    store.write(JobDocument(job=job()), JobDocument(job=job(), revision=1))
    with cluster("local", tmp_path) as place, serving(connect(place.kubeconfig, 1.0), store, 30) as url:
        place.run_pod(POD, "orders", printed=["one"])
        assert place.local is not None
        headers = {"Authorization": "Bearer k"}
        for path, verb in ((LOGS, "list"), (LOGS, "get"), (f"{LOGS}?follow=true", "list")):
            for kind in (FaultKind.HANG, FaultKind.SERVER_ERROR, FaultKind.RESET):
                place.local.inject(Fault(kind, verb=verb, resource="pods", hang_seconds=60))
                begun = time.monotonic()
                answer = httpx.get(f"{url}{path}", headers=headers, timeout=REQUEST_SECONDS, trust_env=False)
                assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
                assert "HEADRACE_KUBECONFIG" in answer.json()["detail"]
                assert time.monotonic() - begun < 4 * PATIENCE


def test_events_of_the_job_are_those_of_its_deployment_and_pods(api: Api) -> None:
    api.cluster.put_event("FlinkDeployment", "orders", "Submit")
    api.cluster.put_event("Pod", POD, "BackOff", count=3)
    api.cluster.put_event("FlinkDeployment", "payments", "Foreign")
    with Client(api.url, "k") as client:
        found = client.events("orders")["events"]
    assert {event["reason"]: event["count"] for event in found} == {"Submit": 1, "BackOff": 3}


def test_ctrl_c_on_a_followed_log_exits_130_and_prints_nothing(api: Api) -> None:
    api.cluster.run_pod(POD, "orders", printed=["one"])
    argv = [sys.executable, "-m", "headrace.cli.main", "logs", "orders", "-f"]
    env = {"HEADRACE_URL": api.url, "HEADRACE_API_KEY": "k", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(" one\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


STACKTRACE = "org.apache.flink.api.Boom: no\n" + "\tat a.b.C\n" * 2000 + "Caused by: ZeroDivisionError: job.py line 3\n"


@contextmanager
def job_manager_that_answers(content: dict[str, Any], status: int = 200) -> Iterator[RestJobManager]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/jobs/f1/exceptions"
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield RestJobManager(sending(url, REQUEST_SECONDS))
        server.shutdown()


def test_exceptions_are_read_newest_last_and_keep_their_root_cause() -> None:
    entries = [
        {"exceptionName": "Boom", "stacktrace": STACKTRACE, "timestamp": 1767225600500, "taskName": "Map (1/1) - e#1"},
        {"exceptionName": "Lost", "stacktrace": "Lost: x\n", "timestamp": 1767225600000, "endpoint": "127.0.0.1:4"},
    ]
    with job_manager_that_answers({"exceptionHistory": {"entries": entries, "truncated": False}}) as job_manager:
        lost, boom = job_manager.exceptions("default", "orders", "f1")
    assert (lost.exception_name, lost.stacktrace, lost.endpoint, lost.task_name) == (
        "Lost",
        "Lost: x",
        "127.0.0.1:4",
        "",
    )
    assert boom.at == datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC)
    assert boom.task_name == "Map (1/1) - e#1"
    assert boom.stacktrace.startswith("org.apache.flink.api.Boom: no\n")
    assert boom.stacktrace.endswith("Caused by: ZeroDivisionError: job.py line 3")
    assert len(boom.stacktrace) < 8200


def test_a_jobmanager_that_knows_no_exceptions_or_no_job() -> None:
    with job_manager_that_answers({"exceptionHistory": {"entries": [], "truncated": False}}) as job_manager:
        assert job_manager.exceptions("default", "orders", "f1") == []
    with (
        job_manager_that_answers({"errors": ["not found"]}, 404) as job_manager,
        pytest.raises(Unavailable, match="JobManager of default/orders"),
    ):
        job_manager.exceptions("default", "orders", "f1")
