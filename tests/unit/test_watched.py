"""A watch that tests read is behind what the API has answered them: nothing of it may be missed by that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.watched import WatchedCollection

PATH = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"


def version(number: int, uid: str = "u1") -> dict[str, Any]:
    return {"metadata": {"name": "orders", "uid": uid, "resourceVersion": str(number)}}


class Behind(httpx.SyncByteStream):
    """A watch whose events come one by one, each only once the collection was listed again."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __iter__(self) -> Iterator[bytes]:
        for event in self._api.events:
            self._api.was_listed.acquire()
            yield json.dumps(event).encode() + b"\n"
        self._api.is_over.wait()


class Api:
    """A collection that has `items` from the second look on, and what its watch tells."""

    def __init__(self, items: list[dict[str, Any]], *events: tuple[str, dict[str, Any]]) -> None:
        self.events = [{"type": kind, "object": each} for kind, each in events]
        self.was_listed = threading.Semaphore(0)
        self.is_over = threading.Event()
        self._answers = iter([[]])
        self._items = items

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if "watch" in request.url.params:
            return httpx.Response(200, stream=Behind(self))
        first = next(self._answers, None)
        if first is None:
            self.was_listed.release()
        items = self._items if first is None else first
        return httpx.Response(200, json={"metadata": {"resourceVersion": "1"}, "items": items})


@pytest.mark.parametrize(
    ("items", "events"),
    [
        pytest.param([version(3)], [("ADDED", version(2)), ("MODIFIED", version(3))], id="changed"),
        pytest.param([], [("ADDED", version(2)), ("DELETED", version(3))], id="gone"),
        pytest.param(
            [version(4, "u2")],
            [("ADDED", version(2)), ("DELETED", version(3)), ("ADDED", version(4, "u2"))],
            id="made again",
        ),
    ],
)
def test_what_the_api_has_shown_is_waited_for(
    items: list[dict[str, Any]], events: list[tuple[str, dict[str, Any]]]
) -> None:
    api = Api(items, *events)
    with httpx.Client(transport=httpx.MockTransport(api), base_url="http://api") as http:
        watched = WatchedCollection(http, PATH)
        api.was_listed.release()  # the first event is here, as where a test has waited for it
        while not watched.so_far():
            api.is_over.wait(0.01)
        assert watched.versions() == [each for _, each in events]
        watched.close()
        api.is_over.set()
