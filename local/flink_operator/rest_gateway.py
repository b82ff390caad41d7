"""One address for every local JobManager's REST API: /{namespace}/{name}/… leads to its port, as a Service would.

It knows ports, and nothing of what passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

TIMEOUT_SECONDS = 10.0


class RestGateway:
    """Serves on the loopback from `start` to `stop`. `port_of` gives a JobManager's port by namespace and name."""

    def __init__(self, port: int, port_of: Callable[[str, str], int | None]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(port_of))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest-gateway", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it. A request that is under way is cut off."""
        self._server.shutdown()
        self._server.server_close()


def _handler(port_of: Callable[[str, str], int | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._ask()

        def do_POST(self) -> None:
            self._ask()

        def do_PUT(self) -> None:
            self._ask()

        def do_PATCH(self) -> None:
            self._ask()

        def do_DELETE(self) -> None:
            self._ask()

        def _ask(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            namespace, _, rest = self.path.lstrip("/").partition("/")
            name, _, path = rest.partition("/")
            port = port_of(namespace, name)
            if port is None:
                self.send_error(503, f"no JobManager of {namespace}/{name} runs here")
                return
            try:
                method, url = self.command, f"http://127.0.0.1:{port}/{path}"
                headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
                answer = httpx.request(
                    method, url, content=body, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
                )
            except httpx.HTTPError as error:
                self.send_error(503, f"the JobManager of {namespace}/{name} did not answer: {type(error).__name__}")
                return
            self._pass(answer)

        def _pass(self, answer: httpx.Response) -> None:
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: the JobManager does what there is to say."""

    return Handler
