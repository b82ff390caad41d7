"""A proxy before a Kubernetes API that writes down what passes, to compare what two servers are asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
import yaml


@dataclass(frozen=True)
class Passed:
    """A request as it came: its method, path with query, content type and body."""

    method: str
    path: str
    content_type: str
    body: Any


@contextmanager
def recording_proxy(kubeconfig: Path, folder: Path) -> Iterator[tuple[Path, list[Passed]]]:
    """A kubeconfig that leads through the proxy, and the requests with a body that have passed."""
    config = yaml.safe_load(kubeconfig.read_text())
    upstream = config["clusters"][0]["cluster"]["server"]
    passed: list[Passed] = []
    authority = config["clusters"][0]["cluster"].get("certificate-authority")
    pool = urllib3.PoolManager(ca_certs=authority, maxsize=16)

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if body:
                content_type = self.headers.get("Content-Type", "")
                passed.append(Passed(self.command, self.path, content_type, json.loads(body)))
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
            answer = pool.request(
                self.command, upstream + self.path, body=body or None, headers=kept, preload_content=False, timeout=60
            )
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                while part := answer.read1(65536):
                    self.wfile.write(part)
                    self.wfile.flush()
            answer.release_conn()

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward  # noqa: N815 - the base class' names

        def log_message(self, *_: object) -> None:
            """What passes is kept in `passed`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{server.server_port}"}
    path = folder / "proxied-kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield path, passed
    finally:
        server.shutdown()
        server.server_close()
