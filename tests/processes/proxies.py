"""What stands between our processes and their servers: it lets pass, writes down, and strikes where it is told to.

One speaks HTTP, before the Kubernetes API; one knows only bytes, before MongoDB. Neither knows of jobs or operations.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
import yaml

HANG_SECONDS = 5.0
"""Longer than our processes wait for an answer."""

WRITES = ("POST", "PATCH", "PUT", "DELETE")
WRITTEN_DOWN = ("/flink.apache.org/", "/configmaps", "/deployments")
KINDS = ("/flinkdeployments", "/deployments", "/flinkstatesnapshots", "/pods", "/events")
REASONS = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
HANG, LATE, RESET, CUT = "hang", "late", "reset", "cut"
"""No answer; none, and the request is passed on when its sender has long given it up; the connection is closed before
it is passed on; it is passed on, and the answer never comes."""

LATE_SECONDS = 12.0
"""By then what was asked for has been tried again, and what was asked for after it has had its turn."""

OF_WRITES = ("409", "422", LATE, CUT)

VERSION = re.compile(rb'"resourceVersion": ?"(\d+)"')
LONGEST_VERSION = 64
"""The longest match of it, in bytes."""


@dataclass(frozen=True)
class Write:
    """A request that changes something, and what came of it: `status` is the server's word (None where it was not
    asked), `told` what our process was told (None: nothing)."""

    at: float
    method: str
    path: str
    sent: Any
    status: int | None
    told: int | None
    stored: Mapping[str, Any] = field(default_factory=dict)

    @property
    def was_done(self) -> bool:
        """Whether the server has taken it, whatever our process was told."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def meant_uid(self) -> str:
        """The uid that a deletion is bound to."""
        bound = self.sent.get("preconditions") if isinstance(self.sent, Mapping) else None
        return str((bound or {}).get("uid", ""))


@dataclass
class Armed:
    """A fault that strikes the next `left` requests of its kind: those that write, those that read, or any."""

    what: str
    of: str
    left: int

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this request: a 409 and a 422 are answers to writes, and a 410 is one to lists and
        watches, which name no object."""
        is_write = method in WRITES
        if self.what in OF_WRITES and not is_write:
            return False
        if self.what == "410" and (is_write or not urlsplit(path).path.endswith(KINDS)):
            return False
        return self.left > 0 and self.of in ("any", "write" if is_write else "read")


class Passed:
    """When what the API has came by here first, on its way to our processes. Its versions are counted across all that
    it has, so that whatever shows a later one says that those before were there by then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._highest: list[int] = []
        self._at: list[float] = []

    def note(self, answer: bytes) -> None:
        """Takes down the versions in an answer, before anybody gets it."""
        newest = max(map(int, VERSION.findall(answer)), default=0)
        with self._lock:
            if not self._highest or newest > self._highest[-1]:
                self._highest.append(newest)
                self._at.append(time.time())

    def at(self, version: int) -> float | None:
        """By when this version was there; None where nothing has shown that."""
        with self._lock:
            found = bisect_left(self._highest, version)
            return self._at[found] if found < len(self._at) else None


class KubernetesProxy:
    """Stands before a Kubernetes API. Writes on Flink's resources are handed to `wrote` in the order of their ends."""

    def __init__(self, kubeconfig: Path, proxied: Path, wrote: Callable[[Write], None]) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._upstream: str = cluster["server"]
        self._pool = urllib3.PoolManager(ca_certs=cluster.get("certificate-authority"), maxsize=32)
        self._wrote = wrote
        self._lock = threading.Lock()
        self._armed: list[Armed] = []
        self._streams: set[socket.socket] = set()
        self.struck: Counter[str] = Counter()
        self.on_their_way = 0
        self.passed = Passed()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        proxied.write_text(yaml.safe_dump(config))

    def arm(self, what: str, of: str, count: int) -> Armed:
        """The next `count` requests of this kind are struck, until `disarm`. Watches that are open end: what reads
        comes again, and is struck."""
        armed = Armed(what, of, count)
        with self._lock:
            self._armed.append(armed)
        if of != "write":
            self.cut_streams()
        return armed

    def disarm(self, armed: Armed) -> None:
        """What is left of it strikes nobody."""
        with self._lock:
            armed.left = 0
            self._armed = [each for each in self._armed if each is not armed]

    def cut_streams(self) -> None:
        """Every watch ends at once."""
        for stream in list(self._streams):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody is answered any more."""
        self._server.shutdown()
        self._server.server_close()

    def _taken(self, method: str, path: str) -> str | None:
        with self._lock:
            for armed in self._armed:
                if armed.strikes(method, path):
                    armed.left -= 1
                    self.struck[f"kubernetes {armed.what}"] += 1
                    return armed.what
        return None

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                begun = time.time()
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_write = self.command in WRITES
                what = proxy._taken(self.command, self.path)
                status, answered, told = None, b"", None
                if what is None or what == CUT:
                    if not is_write and ("watch=true" in self.path or "follow=true" in self.path):
                        self._streamed(sent)
                        return
                    status, answered = self._passed(sent)
                if what == HANG:
                    time.sleep(HANG_SECONDS)
                if what == LATE:
                    status, answered = self._passed_late(sent)
                if what in (HANG, LATE, RESET, CUT):
                    self._hung_up()
                else:
                    told = status if what is None else int(what)
                    self._answer(told, answered if what is None else _refusal(told), is_asked_to_wait=told == 429)
                if is_write and any(part in self.path for part in WRITTEN_DOWN):
                    path = urlsplit(self.path).path
                    proxy._wrote(Write(begun, self.command, path, _json(sent), status, told, _json(answered) or {}))

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward  # noqa: N815 - the base class' names

            def _asked(self, sent: bytes) -> urllib3.BaseHTTPResponse:
                dropped = ("host", "connection", "content-length", "accept-encoding")
                kept = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
                return proxy._pool.request(
                    *(self.command, proxy._upstream + self.path),
                    body=sent or None,
                    headers=kept,
                    preload_content=False,
                    timeout=60,
                    retries=False,
                )

            def _passed(self, sent: bytes) -> tuple[int, bytes]:
                answer = self._asked(sent)
                body = answer.read()
                answer.release_conn()
                proxy.passed.note(body)
                return answer.status, body

            def _passed_late(self, sent: bytes) -> tuple[int, bytes]:
                with proxy._lock:
                    proxy.on_their_way += 1
                time.sleep(LATE_SECONDS)
                try:
                    return self._passed(sent)
                finally:
                    with proxy._lock:
                        proxy.on_their_way -= 1

            def _streamed(self, sent: bytes) -> None:
                answer = self._asked(sent)
                self.close_connection = True
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.send_header("Connection", "close")
                self.end_headers()
                proxy._streams.add(self.connection)
                before = b""
                with suppress(OSError, urllib3.exceptions.HTTPError):
                    while part := answer.read1(65536):
                        proxy.passed.note(before + part)
                        before = part[-LONGEST_VERSION:]
                        self.wfile.write(part)
                        self.wfile.flush()
                proxy._streams.discard(self.connection)
                answer.close()

            def _hung_up(self) -> None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            def _answer(self, status: int, body: bytes, *, is_asked_to_wait: bool) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if is_asked_to_wait:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

            def handle_one_request(self) -> None:
                with suppress(ConnectionResetError, BrokenPipeError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """What passes is written down elsewhere."""

        return Handler


def _refusal(status: int) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status}
    return json.dumps({**body, "reason": REASONS[status], "message": "struck by a fault"}).encode()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


class MongoProxy:
    """Stands before a MongoDB-wire server; where it is told to, it passes a write on and hangs up before the answer."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._lock = threading.Lock()
        self._cuts = 0
        self.struck = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, count: int) -> None:
        """The next `count` writes are done, and nobody is told."""
        with self._lock:
            self._cuts = count

    def close(self) -> None:
        """Nobody is let in any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                threading.Thread(target=self._passes, args=[ours], daemon=True).start()

    def _passes(self, ours: socket.socket) -> None:
        try:
            theirs = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
        except OSError:
            ours.close()
            return
        theirs.settimeout(None)
        is_cut = threading.Event()
        back = threading.Thread(target=_pumped, args=[theirs, ours, lambda _: is_cut.is_set()], daemon=True)
        back.start()
        _pumped(ours, theirs, lambda part: self._noticed(part, is_cut))
        back.join()
        ours.close()
        theirs.close()

    def _noticed(self, part: bytes, is_cut: threading.Event) -> bool:
        """A write that is to be cut is passed on; what comes back for it is not."""
        if any(word in part for word in (b"\x02insert\x00", b"\x02update\x00")):
            with self._lock:
                if self._cuts:
                    self._cuts -= 1
                    self.struck += 1
                    is_cut.set()
        return False


def _pumped(source: socket.socket, target: socket.socket, ends: Callable[[bytes], bool]) -> None:
    """Passes bytes on until one side ends, or `ends` says so of a part; then neither connection passes any more."""
    with suppress(OSError):
        while part := source.recv(65536):
            if ends(part):
                break
            target.sendall(part)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
