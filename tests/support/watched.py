"""Every version of every object of a collection, as a watch of the Kubernetes API tells them.

A watch is a connection of its own, so it may tell later what another connection was answered before. Whoever reads what
it has told waits until that is all that the API has.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, NamedTuple, cast

import httpx

from headrace.ports import FlinkRuntime, WatchEvent
from tests.support.patience import wait_for

AGAIN_SECONDS = 0.1
"""The pause before the next try, where the API does not answer."""

Resource = dict[str, Any]


class Told(NamedTuple):
    """A version of an object, and whether it is the last: the object was removed with it."""

    object: Resource
    was_deleted: bool


def _nobody(_: Told) -> None:
    return


class WatchedCollection:
    """What a collection had at first, and each version since. `hears` is handed each of them, by the watch's thread.
    The client is the caller's: a watch ends with it."""

    def __init__(self, http: httpx.Client, path: str, hears: Callable[[Told], None] = _nobody) -> None:
        self._http = http
        self._path = path
        self._hears = hears
        self._told: list[Told] = []
        self._is_closing = threading.Event()
        found = self._list()
        for each in found["items"]:
            self._tell(Told(each, was_deleted=False))
        version = found["metadata"]["resourceVersion"]
        threading.Thread(target=self._watch, args=(version,), daemon=True).start()

    def close(self) -> None:
        """It is told nothing more."""
        self._is_closing.set()

    def so_far(self) -> list[Resource]:
        """What was told by now, which may be behind."""
        return [told.object for told in list(self._told)]

    def versions(self) -> list[Resource]:
        """All versions up to those that the API has now. Of what was made and removed since the watch's last event it
        may know nothing yet: `told_since` does. Raises httpx.HTTPError where the API does not answer."""
        wait_for(f"the watch of {self._path} to tell all that the API has", self._has_told_all)
        return self.so_far()

    def runs_of(self, name: str) -> list[list[Resource]]:
        """All that the API has had under this name up to now: an object after another, each with its versions."""
        return by_object(self.versions(), name)

    def _has_told_all(self) -> bool:
        there = {each["metadata"]["uid"]: _number(each) for each in self._list()["items"]}
        last = {told.object["metadata"]["uid"]: told for told in list(self._told)}
        is_gone = all(told.was_deleted for uid, told in last.items() if uid not in there)
        return is_gone and all(uid in last and _number(last[uid].object) >= there[uid] for uid in there)

    def _list(self) -> Resource:
        answer = self._http.get(self._path)
        answer.raise_for_status()
        return dict(answer.json())

    def _watch(self, version: str) -> None:
        """Where the connection ends it goes on from the last version, so nothing is missed."""
        while not self._is_closing.is_set():
            query = {"watch": "true", "timeoutSeconds": "10", "resourceVersion": version}
            try:
                with self._http.stream("GET", self._path, params=query) as answer:
                    answer.raise_for_status()
                    for line in answer.iter_lines():
                        event = json.loads(line)
                        assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
                        version = event["object"]["metadata"]["resourceVersion"]
                        self._tell(Told(event["object"], event["type"] == "DELETED"))
            except (httpx.HTTPError, RuntimeError):  # RuntimeError: the client was closed
                self._is_closing.wait(AGAIN_SECONDS)

    def _tell(self, told: Told) -> None:
        self._hears(told)
        self._told.append(told)


def by_object(versions: Iterable[Resource], name: str) -> list[list[Resource]]:
    """The objects of this name, one after another, each with its versions."""
    found: dict[str, list[Resource]] = {}
    for each in versions:
        if each["metadata"]["name"] == name:
            found.setdefault(each["metadata"]["uid"], []).append(each)
    return list(found.values())


def _number(each: Resource) -> int:
    return int(each["metadata"]["resourceVersion"])


def told_since(version: str, runtime: FlinkRuntime, make: Callable[[str], object]) -> list[WatchEvent]:
    """All that a runtime's watch of the namespace default has to tell after this version. That a watch ends by its time
    says nothing, since that may come before what there is to tell: `make` makes a deployment of the name that it is
    given, and with that one the watch has told all that there was before."""
    last, reached = f"last-{uuid.uuid4().hex[:10]}", version
    found: list[WatchEvent] = []
    make(last)

    def has_come() -> bool:
        nonlocal reached
        with closing(cast(Generator[WatchEvent], runtime.watch("default", reached, 10))) as events:
            for event in events:
                if event.deployment.metadata.name == last:
                    return True
                reached = event.deployment.metadata.resource_version
                if event.kind != "BOOKMARK":
                    found.append(event)
        return False

    wait_for("the watch to tell of the last one", has_come)
    return found
