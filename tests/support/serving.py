"""Web servers of a test: one of files by their path, and one whose answer has no end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any


@contextmanager
def serving(
    files: Mapping[str, bytes],
    redirects: Mapping[str, str] | None = None,
    statuses: Mapping[str, int] | None = None,
) -> Iterator[str]:
    """The server's address. A file is answered with 200, or with a status of its own; a path that is neither a file nor
    a redirect with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = (redirects or {}).get(self.path)
            body, found = files.get(self.path), (statuses or {}).get(self.path, 200)
            self.send_response(302 if target else found if body is not None else 404)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def dripping(begins: bytes, drop: bytes) -> Iterator[str]:
    """The address of a server that sends the beginning of an answer, and then a drop after the other for ever."""
    is_over = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with suppress(OSError):  # whoever asked has gone
                self.request.sendall(begins)
                while not is_over.wait(0.05):
                    self.request.sendall(drop)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        is_over.set()
        server.shutdown()
