"""The API on a real socket: clients that keep it waiting, do not read or have left hold nothing for long."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from api import connections, inspection, waiting
from api.__main__ import MOST_HEADER_BYTES
from api.access import gate
from api.app import create_app
from api.connections import BoundedConnection
from api.guard import REQUESTS_AT_ONCE
from headrace.bootstrap import Services, wired
from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, Source
from headrace.errors import Unavailable
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from local.kube_apiserver import write_kubeconfig
from local.process import Command, LocalProcess, free_port
from local.servers import http_answers
from tests.support.given import pod_labels
from tests.support.metered import here
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import ROOT

pytestmark = pytest.mark.timeout(120)

KEY = b"Authorization: Bearer k\r\n"
SCRIPT = {"name": "job.py", "content": "print(1)\n"}


class SlowStore(InMemoryStore):
    """A store whose ping takes as long as `release` is not set, and that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.release.set()
        self.pings = 0
        self.reads: Counter[str] = Counter()

    def ping(self) -> None:
        self.pings += 1
        if not self.release.wait(2 * REQUEST_SECONDS):
            raise Unavailable("MongoDB did not answer")

    def operation(self, tenant: str, operation_id: str):  # type: ignore[no-untyped-def]
        self.reads[operation_id] += 1
        return super().operation(tenant, operation_id)


class Serving:
    """The API over ports in memory, in a thread of this process."""

    def __init__(self) -> None:
        self.store = SlowStore()
        self.runtime = InMemoryRuntime()
        self.port = free_port()
        services = self._services()
        app = create_app(services, gate(services, [b"k"]), tenant="default", wait_limit_seconds=60)
        config = uvicorn.Config(app, "127.0.0.1", self.port, http=BoundedConnection, log_config=None)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def _services(self) -> Services:
        self.services = wired(
            Settings(_env_file=None),
            store=self.store,
            queue=InMemoryQueue(),
            runtime=self.runtime,
            job_manager=InMemoryJobManager(),
            clock=FixedClock(),
            sealer=None,
        )
        return self.services

    def open(self, *sent: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), REQUEST_SECONDS)
        with suppress(ConnectionError):  # it was cut before all was sent: who reads finds that
            for part in sent:
                connection.sendall(part)
        return connection

    def get(self, path: str, seconds: float = REQUEST_SECONDS) -> httpx.Response:
        headers = {"Authorization": "Bearer k"}
        return httpx.get(
            f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=seconds, trust_env=False, verify=False
        )

    def let_the_readers_time_begin(self) -> None:
        """For those that do not read already: else they are cut before a test that is slow has seen them."""
        for each in list(self.server.server_state.connections):
            if isinstance(each, BoundedConnection) and each._unread is not None:
                each.loop.call_soon_threadsafe(self._begin_again, each)

    def _begin_again(self, connection: BoundedConnection) -> None:
        if connection._unread is not None:
            connection.resume_writing()
            connection.pause_writing()

    def submit(self, job_id: str = "orders") -> str:
        asked = {"job_config": {"script": SCRIPT}}
        accepted = self.services.accept.operation(
            KindName.SUBMIT, job_id, asked, tenant="default", key=None, source=Source(via="http")
        )
        return accepted.operation.id


@pytest.fixture
def serving() -> Iterator[Serving]:
    made = Serving()
    made.thread.start()
    try:
        wait_for("the API", lambda: made.server.started)
        yield made
    finally:
        made.store.release.set()
        made.server.force_exit = True
        made.server.should_exit = True
        made.thread.join(30)


def is_cut(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


WHOLE_HEAD = b"POST /api/v1/flink/jobs/submit HTTP/1.1\r\nHost: a\r\n" + KEY + b"Content-Length: 100\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        (),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n",),
        (WHOLE_HEAD, b"{"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /l"),
    ],
)
def test_idle_and_half_sent_connections_are_cut(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, ...]
) -> None:
    with monkeypatch.context() as short, ExitStack() as stack:
        short.setattr(connections, "HEADER_SECONDS", 0.5)
        short.setattr(connections, "BODY_SECONDS", 0.5)
        opened = [stack.enter_context(closing(serving.open(*sent))) for _ in range(20)]
        wait_for("all to be cut", lambda: all(is_cut(each) for each in opened), 20)
    wait_for("none to be kept", lambda: not serving.server.server_state.connections, 20)
    assert serving.get("/livez").status_code == 200


def test_bytes_that_drip_do_not_prolong_it(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    with closing(serving.open(b"GET /livez HTTP/1.1\r\n")) as connection:
        begun = time.monotonic()
        while not is_cut(connection):
            try:
                connection.sendall(b"X: y\r\n")
            except ConnectionError:
                break
            assert time.monotonic() - begun < 15
            time.sleep(0.05)


def test_a_reader_that_does_not_read_is_cut_and_gives_its_place_back(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READER_SECONDS", 3600.0)
    monkeypatch.setattr(inspection, "FOLLOWED_AT_ONCE", 2)
    serving.submit()
    serving.services.execute.oldest_open_operation(JobKey("default", "orders"))
    serving.runtime.put_pod("default", pod())
    for _ in range(400):
        serving.runtime.print_line("orders-1", MAIN, "x" * 100_000)
    follow = b"GET /api/v1/flink/jobs/orders/logs?follow=true&tail=10000 HTTP/1.1\r\nHost: a\r\n" + KEY + b"\r\n"
    with closing(serving.open(follow)), closing(serving.open(follow)):
        path = "/api/v1/flink/jobs/orders/logs?follow=true&tail=1"
        wait_for("both places to be taken", lambda: status_of(serving, path) == 503, 20)
        monkeypatch.setattr(connections, "READER_SECONDS", 1.0)
        serving.let_the_readers_time_begin()
        wait_for("one to be free again", lambda: status_of(serving, path) == 200, 30)


def status_of(serving: Serving, path: str) -> int:
    with httpx.stream(
        "GET",
        f"http://127.0.0.1:{serving.port}{path}",
        headers={"Authorization": "Bearer k"},
        timeout=REQUEST_SECONDS,
        trust_env=False,
    ) as answer:
        return answer.status_code


def test_a_wait_whose_client_has_left_ends(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_PAUSE_SECONDS", 0.1)
    path = f"/api/v1/flink/operations/{serving.submit()}?wait=60".encode()
    before = answered()
    for _ in range(50):
        with closing(serving.open(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + KEY + b"\r\n")):
            pass
    wait_for("each to have ended", lambda: answered() - before == 50, 12)  # and none after its 60 s
    reads = serving.store.reads.total()
    assert reads >= 50
    assert serving.get("/livez").status_code == 200
    assert serving.store.reads.total() == reads


def answered() -> float:
    """How many requests of this process have ended."""
    return here().value("headrace_http_requests_total") or 0


def test_a_place_is_counted_before_its_log_is_asked_for(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred that begin at once would else all be let in."""
    monkeypatch.setattr(inspection, "FOLLOWED_AT_ONCE", 3)
    everyone, logs = threading.Event(), serving.services.inspect.logs

    def logs_late(*asked: Any) -> Any:
        assert everyone.wait(REQUEST_SECONDS)
        return logs(*asked)

    monkeypatch.setattr(serving.services.inspect, "logs", logs_late)
    serving.submit()
    serving.services.execute.oldest_open_operation(JobKey("default", "orders"))
    serving.runtime.put_pod("default", pod())
    serving.runtime.print_line("orders-1", MAIN, "x")
    path = "/api/v1/flink/jobs/orders/logs?follow=true&tail=1"
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(status_of, serving, path) for _ in range(12)]
        wait_for("the others to be refused", lambda: sum(each.done() for each in asked) == 9, 20)
        everyone.set()
    assert sorted(each.result() for each in asked) == [200] * 3 + [503] * 9


@pytest.mark.parametrize(
    ("path", "parser"),
    [("templates", "api.app.json_or_yaml_object"), ("jobs/submit", "api.bodies.json_object")],
)
def test_a_body_is_read_off_the_event_loop(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, path: str, parser: str
) -> None:
    begun, over = threading.Event(), threading.Event()

    def parses_long(*_: object) -> dict[str, Any]:
        begun.set()
        assert over.wait(30)
        return {}

    monkeypatch.setattr(parser, parses_long)
    sent = f"POST /api/v1/flink/{path} HTTP/1.1\r\nHost: a\r\n".encode() + KEY + b"Content-Length: 2\r\n\r\n{}"
    try:
        with closing(serving.open(sent)):
            assert begun.wait(20)
            assert serving.get("/livez").status_code == 200, "others are answered meanwhile"
            over.set()
    finally:
        over.set()


def test_so_many_requests_are_served_and_no_more(tmp_path: Path) -> None:
    """The process itself, as it is started: its servers need not be there for that."""
    keys, port = tmp_path / "keys", free_port()
    keys.touch(mode=0o600)
    keys.write_text(f"{(key := 'b7c1e0d2f49a4c5d8e6f')}\n")
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", "token")
    env = {"HEADRACE_API_KEYS_FILE": str(keys), "HEADRACE_API_PORT": str(port)}
    env["HEADRACE_KUBECONFIG"] = str(tmp_path / "kubeconfig")
    url = f"http://127.0.0.1:{port}"
    command = Command("api", [sys.executable, "-m", "api"], lambda: http_answers(f"{url}/livez"), url, env, port=port)
    process = LocalProcess(command, tmp_path / "api.log", ROOT)
    process.start()

    def status(path: str, method: str = "GET") -> int:
        return httpx.request(method, f"{url}{path}", timeout=REQUEST_SECONDS, trust_env=False).status_code

    submit = "/api/v1/flink/jobs/submit"
    half = f"POST {submit} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Length: 2\r\n\r\n{{"

    try:
        wait_for("the API", process.is_ready, 60)
        with ExitStack() as stack:
            for _ in range(REQUESTS_AT_ONCE):
                stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS)))
            assert status(submit, "POST") == 401, "who says nothing takes nobody's place"
        with ExitStack() as stack:
            for _ in range(REQUESTS_AT_ONCE):
                connection = stack.enter_context(
                    closing(socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS))
                )
                connection.sendall(half.encode())
            wait_for("further ones to be refused", lambda: status(submit, "POST") == 503)
            assert status("/livez") == 200, "a process that is busy is not killed for it"
        wait_for("them to be served again", lambda: status(submit, "POST") == 401, 20)
        with closing(socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS)) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * MOST_HEADER_BYTES)
            assert connection.recv(100).startswith(b"HTTP/1.1 400"), "nothing would come where it is cut for slowness"
    finally:
        process.stop()


def test_beyond_a_bound_a_wait_is_answered_at_once(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAITING_AT_ONCE", 2)
    each = {job_id: serving.submit(job_id) for job_id in ("one", "two", "three")}
    paths = {job_id: f"/api/v1/flink/operations/{operation_id}?wait=60" for job_id, operation_id in each.items()}
    sent = [f"GET {paths[one]} HTTP/1.1\r\nHost: a\r\n".encode() + KEY + b"\r\n" for one in ("one", "two")]
    reads = serving.store.reads
    with closing(serving.open(sent[0])), closing(serving.open(sent[1])):
        # who reads its operation once more is one of those that wait
        wait_for("both to wait", lambda: all(reads[each[one]] >= 2 for one in ("one", "two")))
        answer = serving.get(paths["three"], 40)
    assert answer.json()["operation"]["state"] == "ACCEPTED"


def test_many_who_ask_for_readiness_are_one_look_and_hold_nobody_up(serving: Serving) -> None:
    serving.store.release.clear()
    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(serving.get, "/readyz", 2 * REQUEST_SECONDS) for _ in range(100)]
        wait_for("all to wait for the look", lambda: len(serving.server.server_state.tasks) == 100)
        assert serving.store.pings == 1
        # while the look goes on, which is for longer than these are waited for
        assert serving.get("/livez").status_code == 200
        assert serving.get("/api/v1/flink/jobs").status_code == 200
        serving.store.release.set()
        assert {each.result().status_code for each in asked} == {200}
    assert serving.store.pings <= 2


MAIN = "flink-main-container"


def pod() -> dict[str, object]:
    running = {"name": MAIN, "ready": True, "restartCount": 0, "state": {"running": {}}}
    status = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [running]}
    labels = pod_labels()
    spec = {"containers": [{"name": MAIN}]}
    return {"metadata": {"name": "orders-1", "labels": labels}, "spec": spec, "status": status}
