"""Faults at calls of ports: a process that dies or freezes, a server that is silent, a race that is lost.

A fault is put into one step of a schedule and strikes the n-th call of one method in it. Must not know what the calls
are for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headrace.errors import LostRace, Unavailable


class Kind(StrEnum):
    """What happens at a call."""

    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    SILENT_BEFORE = "silent, not done"
    SILENT_AFTER = "silent, and done"
    FREEZES = "freezes before"
    LOSES = "loses its race"


WRITES = {
    "store": (
        "insert_operation",
        "write",
        "write_all",
        "write_outcomes",
        "add_transitions",
        "flushed",
        "clear_unplaced",
        "add_savepoint",
        "set_cursor",
        "mark",
    ),
    "runtime": ("create", "patch", "delete", "put_files", "create_snapshot", "delete_snapshot"),
    "native": (
        "drive",
        "launch",
        *("POST deployments", "PATCH deployments", "DELETE deployments", "DELETE pods"),
        *("POST configmaps", "PUT configmaps", "DELETE configmaps", "POST services"),
        *("POST stop", "POST savepoints", "PUT resource-requirements"),
    ),
}
"""Every call that changes something, by its port, and of native mode each request of an act; a put_secret happens as
put_files does, and a wake-up never fails."""

READS = {
    "store": ("document", "documents", "operation", "operations_of", "due", "unplaced", "take_lease", "versions"),
    "runtime": ("get", "get_whole", "list_pages", "watch", "pods", "snapshots_of"),
    "job_manager": ("checkpoints",),
    "native": ("GET deployments", "GET configmaps", "GET pods", "GET job", "GET resource-requirements"),
}

ASKS_A_JOB_MANAGER = frozenset({"checkpoints", "vertices"})
"""Calls that a fault at `checkpoints` strikes."""

ANY_REQUEST = "any request of native mode"
"""Of a fault: the n-th of all that an act asks for, whatever it is."""

REQUESTS = frozenset({*WRITES["native"], *READS["native"]} - {"drive"})

RACES = ("write",)
"""Calls that lose races."""


@dataclass(frozen=True)
class Fault:
    """Where and how: the `nth` call of `method`, counted from 0. `steps` is how many of the following steps happen
    while a process is frozen."""

    method: str
    kind: Kind
    nth: int = 0
    steps: int = 3


def _is_aimed_at(fault: Fault, method: str) -> bool:
    asks = fault.method == "checkpoints" and method in ASKS_A_JOB_MANAGER
    return asks or fault.method == method or (fault.method == ANY_REQUEST and method in REQUESTS)


class Dead(BaseException):
    """The process is gone: nothing that it would still do happens."""


class Strike:
    """The fault of one step that is being played."""

    def __init__(
        self, fault: Fault | None, meanwhile: Callable[[int], None], struck: Counter[tuple[str, Kind]]
    ) -> None:
        self._fault = fault
        self._meanwhile = meanwhile
        self._struck = struck
        self._calls = 0
        self._is_dead = False

    def call(self, method: str, call: Callable[[], Any]) -> Any:
        """Makes the call, or what the fault makes of it."""
        if self._is_dead:
            raise Dead
        fault = self._fault
        if fault is None or not _is_aimed_at(fault, method):
            return call()
        self._calls += 1
        if self._calls != fault.nth + 1:
            return call()
        self._struck[method, fault.kind] += 1
        match fault.kind:
            case Kind.FREEZES:
                self._meanwhile(fault.steps)
                return call()
            case Kind.LOSES:
                raise LostRace("somebody else was faster")
            case Kind.SILENT_BEFORE:
                raise Unavailable("no answer")
            case Kind.SILENT_AFTER:
                call()
                raise Unavailable("no answer")
            case Kind.DIES_BEFORE:
                self._is_dead = True
                raise Dead
            case Kind.DIES_AFTER:
                call()
                self._is_dead = True
                raise Dead


class Port:
    """A port as one process has it: each call passes the strike of the step that is being played."""

    def __init__(self, real: Any, strike: Callable[[], Strike]) -> None:
        self._real = real
        self._strike = strike

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not callable(real):
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            return self._strike().call(name, lambda: real(*arguments, **named))

        object.__setattr__(self, name, call)
        return call
