"""A list of objects page by page, and what happens to them from there on: whatever the objects are.

Knows the Kubernetes API's lists and watches, and no kind of object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from headrace import metrics
from headrace.adapters.kubernetes.api_server import Answer, ApiServer, refused
from headrace.errors import HistoryGone, Unavailable
from headrace.ports import Page


class ListMetadata(msgspec.Struct, rename="camel"):
    """How far a list is, and how it goes on."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_event = msgspec.json.Decoder(_Event)


def pages(
    api: ApiServer, path: str, selector: str, limit: int, doing: str, read: Callable[[bytes], tuple[ListMetadata, Page]]
) -> Iterator[Page]:
    """The pages of a list, `limit` objects each, as `read` makes them of their bodies. Raises HistoryGone where the
    list is too old to go on with, else as `refused` does."""
    query: dict[str, str | int] = {"limit": limit, "labelSelector": selector}
    while True:
        answer = api.send("GET", path, doing=doing, query=query)
        if answer.status == 410:
            raise HistoryGone(answer.problem.message)
        if answer.status != 200:
            raise refused(answer, doing)
        metadata, page = read(answer.body)
        yield page
        if not metadata.continue_:
            return
        query["continue"] = metadata.continue_


def told(
    api: ApiServer, path: str, selector: str, resource_version: str, timeout_seconds: int, bound: float, doing: str
) -> Iterator[tuple[str, msgspec.Raw]]:
    """The kind and the object of each event from a version on, bookmarks too, until the server ends the watch after
    `timeout_seconds`, or `bound` seconds are over. Raises HistoryGone where the version is too old, Unavailable where
    the server ends it otherwise."""
    query: dict[str, str | int] = {
        "watch": "true",
        "resourceVersion": resource_version,
        "timeoutSeconds": timeout_seconds,
        "allowWatchBookmarks": "true",
        "labelSelector": selector,
    }
    lines = api.stream(path, doing=doing, query=query, bound_seconds=bound)
    if isinstance(lines, Answer):
        if lines.status == 410:
            raise HistoryGone(lines.problem.message)
        raise refused(lines, doing)
    for line in lines:
        event = _event.decode(line)
        if event.type == "ERROR":
            raise _ended(Answer(0, bytes(event.object)), doing)
        metrics.WATCH_HEARD.set_to_current_time()
        yield event.type, event.object
    metrics.WATCH_HEARD.set_to_current_time()


def _ended(answer: Answer, doing: str) -> HistoryGone | Unavailable:
    problem = answer.problem
    if problem.code == 410 or problem.reason == "Expired":
        return HistoryGone(problem.message)
    return Unavailable(f"the Kubernetes API ended {doing}: {problem.message}")
