"""A sheet on which Flink's command line writes what it would make in Kubernetes: a small API server on the loopback.

It answers as a kube-apiserver does where nothing is there yet, and keeps what is created. It knows neither a cluster
nor what becomes of the objects: whoever holds the sheet makes them, behind the fence.
"""

from __future__ import annotations

import json
import secrets
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LARGEST_BODY = 8 * 1024 * 1024
"""Bytes of one request: a ConfigMap holds a million at most."""

MOST_OBJECTS = 50
REQUEST_SECONDS = 30.0

PLACES = {
    "apis/apps/v1": ("deployments",),
    "api/v1": ("services", "configmaps", "pods"),
}
"""What may be written down, by its API."""


@dataclass
class Sheet:
    """What was written, by kind and name, as it was written. `url` and `token` are for its writer alone."""

    url: str
    token: str
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def kubeconfig(self, namespace: str) -> dict[str, Any]:
        """A kubeconfig of the sheet."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sheet", "cluster": {"server": self.url}}],
            "users": [{"name": "writer", "user": {"token": self.token}}],
            "contexts": [{"name": "sheet", "context": {"cluster": "sheet", "user": "writer", "namespace": namespace}}],
            "current-context": "sheet",
        }

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        return [each for (found, _), each in sorted(self.objects.items()) if found == kind]


@contextmanager
def sheet() -> Iterator[Sheet]:
    """An empty sheet, served until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.sheet = Sheet(f"http://127.0.0.1:{server.server_address[1]}", secrets.token_hex(32))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="sheet", daemon=True)
    thread.start()
    try:
        yield server.sheet
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sheet: Sheet


class _Handler(BaseHTTPRequestHandler):
    """One request. Anything but an object of the few kinds is not found, as where it was never made."""

    protocol_version = "HTTP/1.1"
    timeout = REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """One object, or a list that is empty but for what was written."""
        self._answered(self._read)

    def do_POST(self) -> None:
        """An object is written down."""
        self._answered(self._create)

    def do_PUT(self) -> None:
        """An object is written down anew."""
        self._answered(self._replace)

    def do_PATCH(self) -> None:
        """A change of something: of this kind nothing is asked where all is new."""
        self._answered(self._delete)

    def do_DELETE(self) -> None:
        """Nothing is ever there to be removed: what a failed start would take away was not made."""
        self._answered(self._delete)

    def _answered(self, how: Any) -> None:
        if not secrets.compare_digest(self.headers.get("Authorization", ""), f"Bearer {self.server.sheet.token}"):
            self._send(*_problem(401, "Unauthorized", "the sheet is another's"))
            return
        size = int(self.headers.get("Content-Length") or 0)
        if size > LARGEST_BODY:
            self._send(*_problem(413, "RequestEntityTooLarge", f"{size} bytes are too many"))
            return
        body = self.rfile.read(size)
        try:
            self._send(*how(_place(self.path), json.loads(body) if body else {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._send(*_problem(400, "BadRequest", f"the sheet does not take this: {error!r}"))

    def _read(self, place: _Place, _: Any) -> tuple[int, Mapping[str, Any]]:
        if place.kind and not place.name:
            items = self.server.sheet.of(place.kind)
            return 200, {
                "apiVersion": place.version,
                "kind": "List",
                "metadata": {"resourceVersion": "1"},
                "items": items,
            }
        found = self.server.sheet.objects.get((place.kind, place.name))
        return (200, found) if found is not None else _not_found(place)

    def _create(self, place: _Place, body: Any) -> tuple[int, Mapping[str, Any]]:
        objects, name = self.server.sheet.objects, str(body["metadata"]["name"])
        if not place.kind or place.name or len(objects) >= MOST_OBJECTS:
            return _not_found(place)
        if (place.kind, name) in objects:
            return _problem(409, "AlreadyExists", f'{place.kind} "{name}" already exists')
        return 201, self._kept(place.kind, name, body)

    def _replace(self, place: _Place, body: Any) -> tuple[int, Mapping[str, Any]]:
        if (place.kind, place.name) not in self.server.sheet.objects:
            return _not_found(place)
        return 200, self._kept(place.kind, place.name, body)

    def _delete(self, place: _Place, _: Any) -> tuple[int, Mapping[str, Any]]:
        return _not_found(place)

    def _kept(self, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        metadata = {"uid": str(uuid.uuid4()), "resourceVersion": "1", "generation": 1, **body["metadata"]}
        self.server.sheet.objects[kind, name] = {**body, "metadata": metadata}
        return self.server.sheet.objects[kind, name]

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing: what is written is in the sheet."""


@dataclass(frozen=True)
class _Place:
    """Where a path points: an API version, a kind that may be written, and a name; empty where it has none."""

    version: str
    kind: str
    name: str


def _place(path: str) -> _Place:
    api, _, rest = urlsplit(path).path.strip("/").partition("/namespaces/")
    _, _, within = rest.partition("/")
    kind, _, name = within.partition("/")
    is_known = kind in PLACES.get(api, ()) and "/" not in name
    return _Place(api.removeprefix("apis/").removeprefix("api/"), kind if is_known else "", name if is_known else "")


def _not_found(place: _Place) -> tuple[int, Mapping[str, Any]]:
    return _problem(404, "NotFound", f'{place.kind} "{place.name}" not found')


def _problem(status: int, reason: str, message: str) -> tuple[int, Mapping[str, Any]]:
    body = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": reason}
    return status, {**body, "code": status}
