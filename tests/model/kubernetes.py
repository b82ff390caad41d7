"""A Kubernetes API in memory, as far as native mode writes to it: requests with the API server's rules, one at a time.

It keeps every version of a Deployment. It has no controllers: who plays those reads and writes the objects. Must not
know of records or operations.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson

from headrace.adapters.kubernetes.api_server import Answer

Resource = dict[str, Any]
DEPLOYMENTS = "deployments"


class Api:
    """See headrace.adapters.kubernetes.api_server.ApiServer."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Resource]] = defaultdict(dict)
        self.version = 0
        self._kept_from = 0
        self._events: list[tuple[int, str, Resource]] = []
        self._made = 0

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request."""
        kind, name = _place(path)
        match method:
            case "GET":
                return self._read(kind, name) if name else self._listed(kind, query or {})
            case "POST":
                return self._created(kind, json.loads(json.dumps(body)))
            case "PUT":
                return self._replaced(kind, name, json.loads(json.dumps(body)))
            case "PATCH":
                return self._patched(kind, name, body)
            case _:
                return self._deleted(kind, name, (body or {}).get("preconditions") or {})

    def stream(
        self, path: str, *, doing: str, query: Mapping[str, str | int], bound_seconds: float
    ) -> Iterator[bytes] | Answer:
        """What has happened to Deployments since."""
        since = int(query["resourceVersion"])
        if since < self._kept_from:
            return _problem(410, "Expired", f"too old resource version: {since}")
        wanted = str(query["labelSelector"])
        found = [(kind, o) for version, kind, o in self._events if version > since and _selects(wanted, o)]
        return iter([orjson.dumps({"type": kind, "object": o}) for kind, o in found])

    def forget_history(self) -> None:
        """A watch from any version before now gets 410."""
        self._kept_from = self.version

    def get(self, kind: str, name: str) -> Resource | None:
        """The object itself, not a copy; nobody changes it in place."""
        return self.objects[kind].get(name)

    def put(self, kind: str, whole: Resource) -> Resource:
        """Makes or replaces it, as a controller does."""
        name = whole["metadata"]["name"]
        before = self.objects[kind].get(name)
        is_new = before is None
        if before is not None:
            whole["metadata"]["uid"] = before["metadata"]["uid"]
        else:
            self._made += 1
            whole["metadata"].setdefault("uid", f"{kind}-{self._made}")
            whole["metadata"].setdefault("generation", 1)
        self.version += 1
        whole["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind][name] = whole
        if kind == DEPLOYMENTS:
            self._events.append((self.version, "ADDED" if is_new else "MODIFIED", whole))
            self.changed(whole, is_new=is_new)
        return whole

    def changed(self, whole: Resource, *, is_new: bool) -> None:
        """Is told of each version of a Deployment."""

    def removing(self, whole: Resource) -> None:
        """Is told of a Deployment that is about to go."""

    def remove(self, kind: str, name: str) -> None:
        """Removes it, whatever it is."""
        gone = self.objects[kind].pop(name)
        if kind == DEPLOYMENTS:
            self.version += 1
            last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
            self._events.append((self.version, "DELETED", last))

    def _read(self, kind: str, name: str) -> Answer:
        found = self.get(kind, name)
        return Answer(200, orjson.dumps(found)) if found is not None else _not_found(kind, name)

    def _listed(self, kind: str, query: Mapping[str, str | int]) -> Answer:
        wanted = str(query.get("labelSelector", ""))
        items = [each for _, each in sorted(self.objects[kind].items()) if _selects(wanted, each)]
        return Answer(200, orjson.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}))

    def _created(self, kind: str, whole: Resource) -> Answer:
        if whole["metadata"]["name"] in self.objects[kind]:
            return _problem(409, "AlreadyExists", f"{kind} {whole['metadata']['name']} already exists")
        return Answer(201, orjson.dumps(self.put(kind, whole)))

    def _replaced(self, kind: str, name: str, whole: Resource) -> Answer:
        there = self.get(kind, name)
        if there is None:
            return _not_found(kind, name)
        version = whole["metadata"].pop("resourceVersion", None)
        if version not in (None, there["metadata"]["resourceVersion"]):
            return _problem(409, "Conflict", f"{kind} {name} has been modified")
        return Answer(200, orjson.dumps(self.put(kind, whole)))

    def _patched(self, kind: str, name: str, operations: Sequence[Mapping[str, Any]]) -> Answer:
        there = self.get(kind, name)
        if there is None:
            return _not_found(kind, name)
        changed = copy.deepcopy(there)
        if not all(_applied(changed, each) for each in operations):
            return _problem(422, "Invalid", "the server rejected our request due to an error in our request")
        if changed["spec"] != there["spec"]:
            changed["metadata"]["generation"] += 1
        return Answer(200, orjson.dumps(self.put(kind, changed)))

    def _deleted(self, kind: str, name: str, conditions: Mapping[str, Any]) -> Answer:
        there = self.get(kind, name)
        if there is None:
            return _not_found(kind, name)
        if conditions.get("uid", there["metadata"]["uid"]) != there["metadata"]["uid"]:
            return _problem(409, "Conflict", "the UID in the precondition does not match")
        if kind == DEPLOYMENTS:
            self.removing(there)
        self.remove(kind, name)
        return Answer(200, b"{}")


def _place(path: str) -> tuple[str, str]:
    _, _, within = path.partition("/namespaces/")
    _, _, rest = within.partition("/")
    kind, _, name = rest.partition("/")
    return kind, unquote(name)


def _selects(selector: str, whole: Resource) -> bool:
    labels = whole["metadata"].get("labels") or {}
    for each in filter(None, selector.split(",")):
        key, is_equal, value = each.partition("=")
        if key not in labels or (is_equal and labels[key] != value):
            return False
    return True


def _applied(whole: Resource, operation: Mapping[str, Any]) -> bool:
    """One operation of a JSON patch, on objects alone; whether it could be carried out."""
    *parents, last = [each.replace("~1", "/").replace("~0", "~") for each in operation["path"].split("/")[1:]]
    at: Any = whole
    for key in parents:
        at = at.get(key) if isinstance(at, dict) else None
    if not isinstance(at, dict):
        return False
    match operation["op"]:
        case "test":
            return bool(at.get(last) == operation["value"])
        case "remove":
            return at.pop(last, None) is not None
        case _:
            at[last] = json.loads(json.dumps(operation["value"]))
            return True


def _not_found(kind: str, name: str) -> Answer:
    return _problem(404, "NotFound", f"{kind} {name} not found")


def _problem(status: int, reason: str, message: str) -> Answer:
    told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return Answer(status, orjson.dumps(told))
