"""Objects and the history of their changes: in memory for reading, in SQLite so that they outlive a SIGKILL.

One cluster-wide resourceVersion counts the writes. It knows keys and bodies, not what Kubernetes makes of them.
"""

import sqlite3
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

Json = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT, namespace TEXT, name TEXT, version INTEGER, body BLOB, PRIMARY KEY (resource, namespace, name));
CREATE TABLE IF NOT EXISTS events (
  version INTEGER PRIMARY KEY, resource TEXT, type TEXT, body BLOB, previous BLOB, namespace TEXT, name TEXT);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER);
"""


class Key(NamedTuple):
    """`namespace` is empty for what is cluster-wide."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Stored:
    """An object as it was at `version`; `body` must not be changed, `raw` is its JSON."""

    version: int
    body: Json
    raw: bytes


@dataclass(frozen=True)
class Change:
    """ADDED, MODIFIED or DELETED; `now` of a DELETED is the last state, with the version of the deletion."""

    type: str
    key: Key
    now: Stored
    previous: Stored | None


class HistoryLostError(Exception):
    """The changes since that version are no longer kept; `oldest` is the first version that can be asked for."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history starts at {oldest}")
        self.oldest = oldest


class Store:
    """Callers of `put` and `remove` hold `lock`, and so may read before they write."""

    def __init__(self, database: Path, *, history_limit: int = 2000) -> None:
        self.lock = threading.RLock()
        self._history_limit = history_limit
        self._version = 0
        self._objects: dict[str, dict[Key, Stored]] = defaultdict(dict)
        self._history: dict[str, list[Change]] = defaultdict(list)
        self._compacted: dict[str, int] = defaultdict(int)
        self._changed: dict[str, threading.Condition] = defaultdict(lambda: threading.Condition(self.lock))
        self._database = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        # A commit in WAL mode is in the operating system before it returns: a killed process loses nothing.
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)
        self._load()

    @property
    def version(self) -> int:
        return self._version

    def close(self) -> None:
        with self.lock:
            self._database.close()

    def get(self, key: Key) -> Stored | None:
        return self._objects[key.resource].get(key)

    def all(self) -> Iterable[tuple[Key, Stored]]:
        with self.lock:
            return [item for objects in self._objects.values() for item in objects.items()]

    def at(self, resource: str, version: int | None = None) -> tuple[int, list[tuple[Key, Stored]]]:
        """The version and the objects, ordered by key, as they were then (None: now)."""
        with self.lock:
            objects = dict(self._objects[resource])
            if version is None:
                return self._version, sorted(objects.items(), key=lambda item: item[0])
            for change in reversed(self.since(resource, version)):
                objects.pop(change.key, None)
                if change.previous is not None:
                    objects[change.key] = change.previous
        return version, sorted(objects.items(), key=lambda item: item[0])

    def since(self, resource: str, version: int) -> list[Change]:
        """Changes after `version`, oldest first; HistoryLostError if some are no longer kept."""
        with self.lock:
            if version < self._compacted[resource]:
                raise HistoryLostError(self._compacted[resource])
            history = self._history[resource]
            return history[bisect_right(history, version, key=lambda change: change.now.version) :]

    def wait(self, resource: str, version: int, timeout_seconds: float) -> tuple[int, list[Change]]:
        """Changes after `version`, waiting for the first; and the version up to which they are complete."""
        with self.lock:
            changes = self.since(resource, version)
            if not changes:
                self._changed[resource].wait(timeout_seconds)
                changes = self.since(resource, version)
            return self._version, changes

    def wake(self) -> None:
        """Ends every `wait` at once."""
        with self.lock:
            for condition in list(self._changed.values()):
                condition.notify_all()

    def put(self, key: Key, body: Json) -> Stored:
        """Stores `body` under the next version, which is written into its metadata."""
        previous = self.get(key)
        now = self._stamped(body)
        self._record(Change("MODIFIED" if previous else "ADDED", key, now, previous))
        return now

    def remove(self, key: Key, last: Json) -> Stored:
        """Removes the object; `last` is the state that the DELETED event shows."""
        now = self._stamped(last)
        self._record(Change("DELETED", key, now, self.get(key)))
        return now

    def _stamped(self, body: Json) -> Stored:
        version = self._version + 1
        body = body | {"metadata": body["metadata"] | {"resourceVersion": str(version)}}
        return Stored(version, body, orjson.dumps(body))

    def _record(self, change: Change) -> None:
        self._write(change)
        self._version = change.now.version
        if change.type == "DELETED":
            self._objects[change.key.resource].pop(change.key, None)
        else:
            self._objects[change.key.resource][change.key] = change.now
        self._remember(change)
        self._changed[change.key.resource].notify_all()

    def _remember(self, change: Change) -> None:
        history = self._history[change.key.resource]
        history.append(change)
        if len(history) > 2 * self._history_limit:
            self._forget(change.key.resource, len(history) - self._history_limit)

    def _forget(self, resource: str, count: int) -> None:
        last = self._history[resource][count - 1].now.version
        del self._history[resource][:count]
        self._compacted[resource] = last
        self._database.execute("DELETE FROM events WHERE resource=? AND version<=?", (resource, last))
        self._database.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (f"compacted {resource}", last))

    def compact(self) -> None:
        """Forgets all history, as etcd's compaction does: watches from before answer 410."""
        with self.lock:
            for resource, history in list(self._history.items()):
                if history:
                    self._forget(resource, len(history))

    def _write(self, change: Change) -> None:
        key, version = change.key, change.now.version
        previous = change.previous.raw if change.previous else None
        self._database.execute("BEGIN")
        if change.type == "DELETED":
            self._database.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", key)
        else:
            row = (*key, version, change.now.raw)
            self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", row)
        row_of_event = (version, key.resource, change.type, change.now.raw, previous, key.namespace, key.name)
        self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row_of_event)
        self._database.execute("INSERT OR REPLACE INTO counters VALUES ('version', ?)", (version,))
        self._database.execute("COMMIT")

    def _load(self) -> None:
        counters = dict(self._database.execute("SELECT name, value FROM counters"))
        self._version = counters.pop("version", 0)
        for name, value in counters.items():
            self._compacted[name.removeprefix("compacted ")] = value
        for resource, namespace, name, version, raw in self._database.execute("SELECT * FROM objects"):
            self._objects[resource][Key(resource, namespace, name)] = _stored(version, raw)
        for row in self._database.execute("SELECT * FROM events ORDER BY version"):
            self._load_change(*row)

    def _load_change(
        self, version: int, resource: str, kind: str, raw: bytes, previous: bytes | None, namespace: str, name: str
    ) -> None:
        before = _stored(None, previous) if previous is not None else None
        change = Change(kind, Key(resource, namespace, name), _stored(version, raw), before)
        self._history[resource].append(change)


def _stored(version: int | None, raw: bytes) -> Stored:
    body = orjson.loads(raw)
    return Stored(version if version is not None else int(body["metadata"]["resourceVersion"]), body, raw)
