"""The API over HTTP/1.1, a thread a connection: a watch that waits costs a sleeping thread.

It translates requests into calls of the registry and results into responses; the rules are in the registry.
"""

import hmac
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import yaml

from local import private
from local.kubernetes_api import discovery, patches, pod_logs, selectors, statuses, tables, watches
from local.kubernetes_api.faults import Fault, FaultKind, Faults
from local.kubernetes_api.registry import DeleteOptions, Registry, WriteOptions
from local.kubernetes_api.requests import (
    TABLE_MEDIA_TYPE,
    Request,
    continue_token,
    parse_request,
    read_continue_token,
    split_target,
)
from local.kubernetes_api.resources import load_definitions
from local.kubernetes_api.statuses import Json, StatusError
from local.kubernetes_api.store import HistoryLostError, Key, Store, Stored

JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
HEALTH_PATHS = (["healthz"], ["livez"], ["readyz"])
KUBECTL_PREFIX = "with-token"
LARGEST_BODY_BYTES = 3 * 1024 * 1024
EVENT_TTL_SECONDS = 3600.0


class ResetConnectionError(Exception):
    """The connection is to be reset, without an answer."""


class LocalKubernetesApi:
    """The server, in this process. A context manager; `port` 0 takes a free one, `token` None lets everyone in."""

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int = 0,
        token: str | None = None,
        history_limit: int = 2000,
        event_ttl_seconds: float = EVENT_TTL_SECONDS,
    ) -> None:
        data_directory.mkdir(parents=True, exist_ok=True)
        self._store = Store(data_directory / "kubernetes.sqlite", history_limit=history_limit)
        self._faults = Faults()
        registry = Registry(self._store, load_definitions())
        self._http = _HttpServer(("127.0.0.1", port), registry, self._faults, token)
        self._sweeper = threading.Thread(target=self._sweep, args=(registry, event_ttl_seconds), daemon=True)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.1,), name="kubernetes-api", daemon=True
        )
        self.token = token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        self._thread.start()
        self._sweeper.start()

    def stop(self) -> None:
        """Ends every connection, watches included, and closes the database."""
        self._http.is_closing.set()
        self._store.wake()
        self._sweeper.join()
        self._http.shutdown()
        self._http.server_close()
        self._http.close_connections()
        self._store.close()

    def _sweep(self, registry: Registry, event_ttl_seconds: float) -> None:
        """Removes old events a sixtieth of their time late at most."""
        while not self._http.is_closing.wait(event_ttl_seconds / 60):
            registry.expire_events(datetime.now(UTC) - timedelta(seconds=event_ttl_seconds))

    def __enter__(self) -> "LocalKubernetesApi":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def inject(self, fault: Fault) -> None:
        """Lets the next matching requests fail."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    def compact_history(self) -> None:
        """Forgets all history: watches and continued lists from before now get 410."""
        self._store.compact()

    def write_kubeconfig(self, path: Path) -> None:
        """A kubeconfig with this server, its token and the namespace default."""
        write_kubeconfig(path, self.url, self.token)

    def write_kubectl_kubeconfig(self, path: Path) -> None:
        """The same for kubectl, which sends no token over plain HTTP: here the token is a part of the URL."""
        write_kubeconfig(path, f"{self.url}/{KUBECTL_PREFIX}/{self.token}" if self.token else self.url, None)


def write_kubeconfig(path: Path, url: str, token: str | None) -> None:
    """Writes a kubeconfig that only its owner may read."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": url}}],
        "users": [{"name": "local", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": "default"}}],
        "current-context": "local",
    }
    private.write(path, yaml.safe_dump(config))


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], registry: Registry, faults: Faults, token: str | None) -> None:
        super().__init__(address, _Handler)
        self.registry, self.faults, self.token = registry, faults, token
        self.is_closing = threading.Event()
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError) and not self.is_closing.is_set():
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: a watch and a status a second would hide what matters."""

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def do_PATCH(self) -> None:
        self._respond()

    def do_DELETE(self) -> None:
        self._respond()

    def _respond(self) -> None:
        self._body_read = False
        try:
            self._route()
        except StatusError as error:
            self._read_body()
            self._send(error.code, orjson.dumps(error.body), headers=error.headers)
        except ResetConnectionError:
            self._reset()

    def _route(self) -> None:
        segments, query = split_target(self.path)
        if self.command == "GET" and segments in HEALTH_PATHS:
            return self._send(HTTPStatus.OK, b"ok", content_type="text/plain")
        segments = self._authenticated(segments)
        if segments[:1] == ["_local"]:
            return self._order_fault()
        if segments == ["version"]:
            return self._send_json(discovery.VERSION)
        if (found := self._discovered(segments)) is not None:
            return self._send_json(found)
        request = parse_request(self.command, segments, query, self.server.registry.resources.values())
        return self._with_faults(request)

    def _authenticated(self, segments: list[str]) -> list[str]:
        """The path without the token that may stand in front of it; Unauthorized without a token in path or header."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if segments[:1] == [KUBECTL_PREFIX] and len(segments) > 1:
            given, segments = segments[1], segments[2:]
        token = self.server.token
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise statuses.unauthorized()
        return segments

    def _order_fault(self) -> None:
        if self.command == "DELETE":
            self.server.faults.clear()
        else:
            given = self._json_body()
            self.server.faults.add(Fault(**given | {"kind": FaultKind(given["kind"])}))
        self._send_json({})

    def _discovered(self, segments: list[str]) -> Json | None:
        resources = list(self.server.registry.resources.values())
        match segments:
            case ["api"]:
                return discovery.CORE_VERSIONS
            case ["apis"]:
                return discovery.groups(resources)
            case ["api", version]:
                return _served(discovery.resource_list(version, resources))
            case ["apis", group]:
                return next((discovery.group(group, each.version) for each in resources if each.group == group), None)
            case ["apis", group, version]:
                return _served(discovery.resource_list(f"{group}/{version}", resources))
            case ["openapi", "v2"]:
                return discovery.openapi_v2(resources)
            case ["openapi", "v3"]:
                return discovery.openapi_v3_index(resources)
            case ["openapi", "v3", *path]:
                return discovery.openapi_v3("/".join(path), resources)
        return None

    def _with_faults(self, request: Request) -> None:
        fault = self.server.faults.take(request.verb, request.resource.plural)
        if fault is not None and fault.kind is FaultKind.RESET_AFTER_WRITE:
            self._discard_response(request)
            raise ResetConnectionError
        if fault is not None:
            self._fail(fault)
        self._serve(request)

    def _discard_response(self, request: Request) -> None:
        real, self.wfile = self.wfile, _Discarded()  # type: ignore[assignment]
        try:
            self._serve(request)
        finally:
            self.wfile = real

    def _fail(self, fault: Fault) -> None:
        if fault.kind is FaultKind.TOO_MANY_REQUESTS:
            message = "the server has received too many requests and has asked us to try again later"
            headers = {"Retry-After": str(fault.retry_after_seconds)}
            details = {"retryAfterSeconds": fault.retry_after_seconds}
            raise StatusError(429, "TooManyRequests", message, details=details, headers=headers)
        if fault.kind is FaultKind.SERVER_ERROR:
            raise StatusError(500, "InternalError", "Internal error occurred: injected by a test")
        if fault.kind is FaultKind.GONE:
            raise statuses.expired("The resourceVersion for the provided watch is too old.")
        if fault.kind is FaultKind.HANG:
            self.server.is_closing.wait(fault.hang_seconds)
        raise ResetConnectionError

    def _serve(self, request: Request) -> None:
        if request.subresource and not _has_subresource(request):
            raise statuses.path_not_found()
        serve = getattr(self, f"_serve_{request.verb}", None)
        if serve is None or request.verb not in request.resource.verbs:
            raise statuses.method_not_allowed()
        serve(request)

    def _serve_get(self, request: Request) -> None:
        stored = self.server.registry.get(request.resource, *request.key[1:])
        if request.subresource == "log":
            return self._send_log(request, stored.body)
        return self._send_object(request, stored)

    def _serve_list(self, request: Request) -> None:
        version, chosen, token, remaining = _page(self.server.registry.store, request)
        metadata: Json = {"resourceVersion": str(version)}
        if token:
            metadata["continue"] = token
            if remaining is not None:
                metadata["remainingItemCount"] = remaining
        if self._wants_table():
            include = request.query.get("includeObject", "Metadata")
            return self._send_json(tables.table(request.resource, [s.body for s in chosen], metadata, include=include))
        head = {
            "kind": f"{request.resource.kind}List",
            "apiVersion": request.resource.api_version,
            "metadata": metadata,
        }
        body = orjson.dumps(head)[:-1] + b',"items":[' + b",".join(each.raw for each in chosen) + b"]}"
        return self._send(HTTPStatus.OK, body)

    def _serve_watch(self, request: Request) -> None:
        watch = watches.Watch(
            request.resource,
            request.number("resourceVersion"),
            request.number("timeoutSeconds") or watches.DEFAULT_TIMEOUT_SECONDS,
            request.flag("allowWatchBookmarks"),
            request.flag("sendInitialEvents"),
            _matcher(request),
            self._event_renderer(request),
        )
        self._stream(watches.lines(self.server.registry.store, watch, self._is_over))

    def _serve_create(self, request: Request) -> None:
        if request.name:
            raise statuses.method_not_allowed()
        body, options = self._object_body(), _write_options(request)
        namespace = (
            request.namespace if request.namespace is not None else body.get("metadata", {}).get("namespace", "")
        )
        stored = self.server.registry.create(request.resource, namespace, body, options)
        self._send_object(request, stored, code=HTTPStatus.CREATED, warnings=options.warnings)

    def _serve_update(self, request: Request) -> None:
        body, options = self._object_body(), _write_options(request)
        stored = self.server.registry.update(
            request.resource, request.key, lambda _: body, options, subresource=request.subresource
        )
        self._send_object(request, stored, warnings=options.warnings)

    def _serve_patch(self, request: Request) -> None:
        options = _write_options(request)
        change = self._patch(request)
        stored = self.server.registry.update(
            request.resource, request.key, change, options, subresource=request.subresource, is_patch=True
        )
        self._send_object(request, stored, warnings=options.warnings)

    def _patch(self, request: Request) -> Callable[[Json], Json]:
        kind, patch = self.headers.get_content_type(), self._read_body()
        accepted = [JSON_PATCH, MERGE_PATCH] + ([] if request.resource.custom else [STRATEGIC_PATCH])
        if kind not in accepted:
            raise statuses.unsupported_media_type(accepted)
        decoded = _decoded(patch)
        if kind != JSON_PATCH:
            if not isinstance(decoded, dict):
                raise statuses.bad_request("error decoding patch: a merge patch must be a JSON object")
            return lambda body: _still_an_object(patches.merge_patch(body, decoded))
        if not isinstance(decoded, list) or not all(isinstance(each, dict) for each in decoded):
            raise statuses.bad_request("error decoding patch: a JSON patch must be a list of operations")
        return lambda body: _json_patched(body, decoded)

    def _serve_delete(self, request: Request) -> None:
        options = self._delete_options(request)
        stored, is_gone = self.server.registry.delete(request.resource, request.key, options)
        if not is_gone or request.resource.returns_deleted:
            return self._send_object(request, stored)
        details = {"name": request.name, "kind": request.resource.plural, "uid": stored.body["metadata"]["uid"]}
        if request.resource.group:
            details["group"] = request.resource.group
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return self._send_json(success)

    def _serve_deletecollection(self, request: Request) -> None:
        options, registry = self._delete_options(request), self.server.registry
        _, chosen, _, _ = _page(registry.store, request)
        for stored in chosen:
            metadata = stored.body["metadata"]
            key = Key(request.resource.key, metadata.get("namespace", ""), metadata["name"])
            with suppress(StatusError):  # gone since it was listed
                registry.delete(request.resource, key, options)
        self._send_json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _delete_options(self, request: Request) -> DeleteOptions:
        raw = self._read_body()
        body = _decoded(raw) if raw.strip() else {}
        preconditions = body.get("preconditions") or {}
        return DeleteOptions(
            dry_run=bool(request.query.get("dryRun") or body.get("dryRun")),
            uid=preconditions.get("uid"),
            resource_version=preconditions.get("resourceVersion"),
            propagation=request.query.get("propagationPolicy") or body.get("propagationPolicy") or "Background",
        )

    def _send_log(self, request: Request, pod: Json) -> None:
        source = pod_logs.source(pod, request.query.get("container", ""), previous=request.flag("previous"))
        options = _log_options(request)
        found = pod_logs.read(source, options)
        if not request.flag("follow") or source.end is not None:
            return self._send(HTTPStatus.OK, found.text, content_type="text/plain")
        registry = self.server.registry

        def is_over() -> bool:
            stored = registry.store.get(request.key)
            return self._is_over() or stored is None or not pod_logs.is_growing(stored.body, source)

        chunks = chain([found.text], pod_logs.follow(source, found, options, is_over))
        return self._stream(_limited(chunks, options.limit_bytes), content_type="text/plain")

    def _event_renderer(self, request: Request) -> Callable[[Stored], bytes]:
        if not self._wants_table():
            return lambda stored: stored.raw
        include, sent = request.query.get("includeObject", "Metadata"), False

        def render(stored: Stored) -> bytes:
            nonlocal sent
            first, sent = not sent, True
            metadata = {"resourceVersion": str(stored.version)}
            return orjson.dumps(
                tables.table(request.resource, [stored.body], metadata, include=include, with_columns=first)
            )

        return render

    def _wants_table(self) -> bool:
        return TABLE_MEDIA_TYPE in self.headers.get("Accept", "")

    def _send_object(
        self, request: Request, stored: Stored, *, code: int = HTTPStatus.OK, warnings: list[str] | None = None
    ) -> None:
        if self._wants_table():
            include = request.query.get("includeObject", "Metadata")
            metadata = {"resourceVersion": stored.body["metadata"].get("resourceVersion", "")}
            body = orjson.dumps(tables.table(request.resource, [stored.body], metadata, include=include))
        else:
            body = stored.raw or orjson.dumps(stored.body)
        self._send(code, body, warnings=warnings)

    def _send_json(self, body: Json) -> None:
        self._read_body()
        self._send(HTTPStatus.OK, orjson.dumps(body))

    def _send(
        self,
        code: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        warnings: list[str] | None = None,
    ) -> None:
        self._read_body()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        for warning in warnings or ():
            self.send_header("Warning", f"299 - {orjson.dumps(warning).decode()}")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, chunks: Iterator[bytes], *, content_type: str = "application/json") -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for chunk in chunks:
            if chunk:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _is_over(self) -> bool:
        """Whether the server stops or the client has gone."""
        if self.server.is_closing.is_set():
            return True
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _object_body(self) -> Json:
        body = self._json_body()
        if not isinstance(body, dict):
            raise statuses.bad_request("the object provided is unrecognized: not a JSON object")
        return body

    def _json_body(self) -> Any:
        kind = self.headers.get_content_type()
        raw = self._read_body()
        if "yaml" in kind:
            return yaml.safe_load(raw)
        if "protobuf" in kind or "cbor" in kind:
            raise statuses.unsupported_media_type(["application/json", "application/yaml"])
        return _decoded(raw)

    def _read_body(self) -> bytes:
        """The body, the first time; a body that nobody wanted must still be read, or it would be the next request."""
        if self._body_read:
            return b""
        self._body_read = True
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY_BYTES:
            self.close_connection = True
            raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LARGEST_BODY_BYTES}")
        return self.rfile.read(length) if length else b""

    def _reset(self) -> None:
        """Closes with RST: no answer, and no orderly end either."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Discarded:
    """Takes the place of the connection when a response is not to arrive."""

    closed = False

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        """Nothing is kept."""


def _served(found: Json) -> Json:
    if not found["resources"]:
        raise statuses.path_not_found()
    return found


def _has_subresource(request: Request) -> bool:
    if request.subresource == "log":
        return request.resource.kind == "Pod" and request.method == "GET"
    return request.subresource == "status" and request.resource.status


def _write_options(request: Request) -> WriteOptions:
    validation = request.query.get("fieldValidation", "Warn").lower()
    if validation not in ("strict", "warn", "ignore"):
        raise statuses.bad_request(f'fieldValidation: Unsupported value: "{request.query["fieldValidation"]}"')
    return WriteOptions(dry_run=bool(request.query.get("dryRun")), field_validation=validation)


def _log_options(request: Request) -> pod_logs.Options:
    since_seconds, since_time = request.number("sinceSeconds"), request.query.get("sinceTime", "")
    oldest = time.time() - since_seconds if since_seconds is not None else None
    try:
        oldest = datetime.fromisoformat(since_time).timestamp() if since_time else oldest
    except ValueError as error:
        raise statuses.bad_request(f'sinceTime: Invalid value: "{since_time}": must be a time of RFC 3339') from error
    tail, limit = request.number("tailLines"), request.number("limitBytes")
    return pod_logs.Options(tail, oldest, limit, request.flag("timestamps"))


def _limited(chunks: Iterator[bytes], limit_bytes: int | None) -> Iterator[bytes]:
    """The chunks up to so many bytes; all of them where there is no limit."""
    left = limit_bytes
    for chunk in chunks:
        yield chunk if left is None else chunk[:left]
        left = left if left is None else left - len(chunk)
        if left is not None and left <= 0:
            return


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise statuses.bad_request(f"the body of the request is not JSON: {error}") from error


def _json_patched(body: Json, operations: list[Json]) -> Json:
    try:
        return _still_an_object(patches.json_patch(body, operations))
    except patches.UnusablePatchError as error:
        raise statuses.unusable_patch() from error


def _still_an_object(body: Any) -> Json:
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        raise statuses.unusable_patch()
    return body


def _matcher(request: Request) -> selectors.Predicate:
    terms = selectors.label_selector(request.query.get("labelSelector", ""))
    terms += selectors.field_selector(request.query.get("fieldSelector", ""), request.resource.kind)
    if request.namespace:
        namespace = request.namespace
        terms.append(lambda body: body["metadata"].get("namespace") == namespace)
    if request.name:
        name = request.name
        terms.append(lambda body: bool(body["metadata"]["name"] == name))
    return lambda body: all(term(body) for term in terms)


def _page(store: Store, request: Request) -> tuple[int, list[Stored], str, int | None]:
    """The version, the page's objects, the token for the next page, and how many are left (None with selectors)."""
    token, limit = request.query.get("continue", ""), request.number("limit")
    wanted, after = read_continue_token(token) if token else (_exact_version(request), None)
    try:
        version, objects = store.at(request.resource.key, wanted)
    except HistoryLostError as error:
        message = "The provided continue parameter is too old to display a consistent list result."
        raise statuses.expired(message) from error
    matches = _matcher(request)
    found = [(key, each) for key, each in objects if (after is None or key > after) and matches(each.body)]
    page = found[:limit] if limit else found
    left = len(found) - len(page)
    has_selector = bool(request.query.get("labelSelector") or request.query.get("fieldSelector"))
    next_token = continue_token(version, page[-1][0]) if left else ""
    return version, [each for _, each in page], next_token, None if has_selector else left


def _exact_version(request: Request) -> int | None:
    return request.number("resourceVersion") if request.query.get("resourceVersionMatch") == "Exact" else None
