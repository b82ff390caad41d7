"""Watches: the changes of one resource from a version on, as the lines of a stream."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from local.kubernetes_api.resources import Resource
from local.kubernetes_api.selectors import Predicate
from local.kubernetes_api.statuses import Json, status_body
from local.kubernetes_api.store import Change, HistoryLostError, Store, Stored

LOOK_SECONDS = 1.0
BOOKMARK_SECONDS = 10.0
DEFAULT_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Watch:
    """`version` None or 0 begins with the objects that there are; `render` makes an event's object for the client."""

    resource: Resource
    version: int | None
    timeout_seconds: float
    bookmarks: bool
    initial_events: bool
    matches: Predicate
    render: Callable[[Stored], bytes]


def lines(store: Store, watch: Watch, is_over: Callable[[], bool]) -> Iterator[bytes]:
    """JSON lines until the timeout; an empty one every second, so that the caller can see its client go."""
    try:
        yield from _lines(store, watch, is_over)
    except HistoryLostError as error:
        message = f"too old resource version: {watch.version} ({error.oldest})"
        yield _line("ERROR", orjson.dumps(status_body(410, "Expired", message)))


def _lines(store: Store, watch: Watch, is_over: Callable[[], bool]) -> Iterator[bytes]:
    deadline = time.monotonic() + watch.timeout_seconds
    version = watch.version or 0
    if watch.initial_events or not version:
        version, initial = store.at(watch.resource.key)
        yield from (_line("ADDED", watch.render(each)) for _, each in initial if watch.matches(each.body))
    if watch.initial_events and watch.bookmarks:
        yield _bookmark(watch.resource, version, {"k8s.io/initial-events-end": "true"})
    bookmarked_at, bookmarked = time.monotonic(), version
    is_last = False
    while not is_last and not is_over():
        left = deadline - time.monotonic()
        is_last = left <= 0  # what has come by then is told, however late it is looked for
        reached, changes = store.wait(watch.resource.key, version, max(0.0, min(left, LOOK_SECONDS)))
        yield b"".join(_event(watch, change) for change in changes)
        version = max(version, reached)
        if watch.bookmarks and version > bookmarked and time.monotonic() - bookmarked_at > BOOKMARK_SECONDS:
            bookmarked_at, bookmarked = time.monotonic(), version
            yield _bookmark(watch.resource, version)
    if watch.bookmarks:
        yield _bookmark(watch.resource, version)


def _event(watch: Watch, change: Change) -> bytes:
    """A change as the selector shows it: what begins to match is ADDED, what ends to match is DELETED."""
    before = change.previous is not None and watch.matches(change.previous.body)
    after = change.type != "DELETED" and watch.matches(change.now.body)
    if not before and not after:
        return b""
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    return _line(kind, watch.render(change.now))


def _bookmark(resource: Resource, version: int, annotations: dict[str, str] | None = None) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    body: Json = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return _line("BOOKMARK", orjson.dumps(body))


def _line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + raw + b"}\n"
