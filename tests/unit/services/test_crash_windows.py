"""A process may die after any single write. Whatever was written by then, a fresh process brings the same end.

Each case runs once to count the writes, then once for each write, with a crash just after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, State
from headrace.settings import Settings
from headrace.testing import (
    FixedClock,
    InMemoryJobManager,
    InMemoryNativeRuntime,
    InMemoryQueue,
    InMemoryRuntime,
    InMemoryStore,
)
from tests.support.world import World

WRITES = frozenset(
    {
        "create",
        "patch",
        "drive",
        "delete",
        "put_files",
        "insert_operation",
        "insert_operations",
        "add_documents",
        "clear_unplaced",
        "write_outcomes",
        "write",
        "write_all",
    }
    | {"flushed", "add_transitions", "add_savepoint", "create_snapshot", "delete_snapshot"}
)
SAVEPOINT = "file:/state/savepoints/savepoint-ffffff-1"


class Crash(BaseException):
    """The process is gone."""


class Mortal:
    """A port whose calls go through, until a counted write is the last thing that its process does."""

    def __init__(self, port: Any, life: Life) -> None:
        self._port = port
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._life.counted(found) if name in WRITES else found


class Life:
    """How many writes a process has left; None lives on and counts."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.written = 0

    def counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def write_and_perhaps_die(*args: Any, **kwargs: Any) -> Any:
            result = write(*args, **kwargs)
            self.written += 1
            if self.left is not None:
                self.left -= 1
                if self.left <= 0:
                    self.left = None
                    raise Crash
            return result

        return write_and_perhaps_die


def mortal_world(runtime: str = "operator") -> tuple[World, Life]:
    life = Life()
    return world_behind(lambda port: Mortal(port, life), runtime), life


def world_behind(before: Callable[[Any], Any], by: str = "operator") -> World:
    """A world whose services reach the store and the cluster through what this puts before them."""
    store, queue = InMemoryStore(), InMemoryQueue()
    runtime = InMemoryRuntime() if by == "operator" else InMemoryNativeRuntime()
    job_manager, clock = InMemoryJobManager("file:/state/chk-3"), FixedClock()
    store.clock = clock
    services = wired(
        Settings(_env_file=None, runtimes=by),
        store=before(store),
        queue=queue,
        runtime=before(runtime),
        native=before(runtime) if by == "native" else None,
        job_manager=job_manager,
        clock=clock,
        sealer=None,
    )
    return World(services, store, runtime, queue, job_manager, clock)


def again_and_again(world: World, play: Callable[[], None]) -> None:
    """Processes come and go: each round executes, observes and lets the operator do its part."""
    for _ in range(12):
        for step in (world.execute, world.sync, play, world.sync):
            try:
                step()
            except Crash:
                continue
        world.clock.advance(2)


def operator_runs(world: World) -> Callable[[], None]:
    def play() -> None:
        if world.runtime.get("default", "orders") is None:
            return
        if world.whole()["spec"]["job"]["state"] == "suspended":
            world.is_suspended(SAVEPOINT)
        else:
            world.becomes(job=savepoint_asked_for(world))
            for made in list(world.runtime.snapshots.values()):
                world.runtime.put_snapshot(made, state="COMPLETED", path=f"{SAVEPOINT}-by-a-snapshot")

    return play


def savepoint_asked_for(world: World) -> dict[str, Any]:
    """What the status shows of the savepoint that the spec's nonce has asked for."""
    nonce = world.whole()["spec"]["job"].get("savepointTriggerNonce")
    taken = {"location": f"{SAVEPOINT}-by-{nonce}", "triggerNonce": nonce}
    return {} if nonce is None else {"savepointInfo": {"lastSavepoint": taken}}


def submit(world: World) -> None:
    world.submit(idempotency_key="submit")


def scale(world: World) -> None:
    world.scale(2, key="scale")


def stop(world: World) -> None:
    world.stop(idempotency_key="stop")


def suspend(world: World) -> None:
    world.accept(KindName.SUSPEND, "orders", idempotency_key="suspend")


def resume(world: World) -> None:
    world.accept(KindName.RESUME, "orders", idempotency_key="resume")


def restart(world: World) -> None:
    world.accept(KindName.RESTART, "orders", idempotency_key="restart")


def upgrade(world: World) -> None:
    changed = {"script": {"name": "job.py", "content": "print(2)\n"}, "args": ["--fast"]}
    world.accept(KindName.UPGRADE, "orders", job_config=changed, idempotency_key="upgrade")


def delete(world: World) -> None:
    world.accept(KindName.DELETE, "orders", idempotency_key="delete")


def undelete(world: World) -> None:
    world.accept(KindName.UNDELETE, "orders", idempotency_key="undelete")


def savepoint(world: World) -> None:
    world.accept(KindName.SAVEPOINT, "orders", idempotency_key="savepoint")


def applied_by_hand(world: World) -> None:
    """A FlinkDeployment that somebody made without Headrace."""
    spec = {"image": "flink:1.20", "flinkVersion": "v1_20", "job": {"jarURI": "local:///a.jar", "state": "running"}}
    place = {"name": "orders", "namespace": "default", "labels": {"team": "shop"}}
    world.runtime.create({"kind": "FlinkDeployment", "metadata": place, "spec": {**spec, "taskManager": {}}})
    world.becomes()


def adopt(world: World) -> None:
    world.accept(KindName.ADOPT, "orders", idempotency_key="adopt")


def adopt_again(world: World) -> None:
    world.accept(KindName.ADOPT, "orders", idempotency_key="adopt again")


def release(world: World) -> None:
    world.accept(KindName.RELEASE, "orders", idempotency_key="release")


def savepoint_by_snapshot(world: World) -> None:
    world.runtime.has_snapshots = True
    savepoint(world)


def rollback(world: World) -> None:
    world.accept(KindName.ROLLBACK, "orders", to=1, idempotency_key="rollback")


def submit_again(world: World) -> None:
    world.submit(idempotency_key="again", start_from="last")


CASES: dict[str, tuple[list[Callable[[World], None]], Callable[[World], None]]] = {
    "SUBMIT": ([], submit),
    "SCALE": ([submit], scale),
    "STOP": ([submit], stop),
    "SUSPEND": ([submit], suspend),
    "RESUME": ([submit, suspend], resume),
    "RESTART": ([submit], restart),
    "UPGRADE": ([submit], upgrade),
    "SAVEPOINT": ([submit], savepoint),
    "SAVEPOINT by a snapshot": ([submit], savepoint_by_snapshot),
    "ROLLBACK": ([submit, upgrade], rollback),
    "DELETE": ([submit], delete),
    "UNDELETE": ([submit, delete], undelete),
    "ADOPT": ([applied_by_hand], adopt),
    "RELEASE": ([submit], release),
    "RELEASE of an adopted one": ([applied_by_hand, adopt], release),
    "ADOPT of a released one": ([applied_by_hand, adopt, release], adopt_again),
    "run 2": ([submit, stop], submit_again),
}


NATIVE = [name for name in CASES if "ADOPT" not in name and "adopted" not in name and "snapshot" not in name]
"""Cases that the native runtime has too: nobody plays the operator's part there."""


def player_of(world: World) -> Callable[[], None]:
    is_native = isinstance(world.runtime, InMemoryNativeRuntime)
    return (lambda: None) if is_native else operator_runs(world)


def outcome(name: str, crash_after: int | None, runtime: str = "operator") -> tuple[dict[str, Any], int]:
    before, last = CASES[name]
    world, life = mortal_world(runtime)
    for request in before:
        request(world)
        again_and_again(world, player_of(world))
    life.written, life.left = 0, crash_after
    for _ in range(2):
        try:
            last(world)
        except Crash:
            continue
    again_and_again(world, player_of(world))
    return outcome_of(world), life.written


def outcome_of(world: World) -> dict[str, Any]:
    """What is true of the job in the end, wherever one looks."""
    job = world.job()
    operations = world.store.operations_of(JobKey("default", "orders"))
    whole = world.runtime.get_whole("default", "orders") or {"metadata": {}, "spec": {}}
    return {
        "phase": job.phase,
        "run": job.run,
        "desired": job.desired,
        "states": [operation.state for operation in operations],
        "created": world.runtime.created,
        "savepoints": sorted(world.store.savepoints),
        "parallelism": job.request.get("parallelism"),
        "nonce": whole["spec"].get("restartNonce"),
        "trigger": (whole["spec"].get("job") or {}).get("savepointTriggerNonce"),
        "snapshots": sorted(name for _, name in world.runtime.snapshots),
        "args": job.request.get("args"),
        "deployment": world.runtime.get("default", "orders") is not None,
        "generation": whole["metadata"].get("generation"),
        "labels": whole["metadata"].get("labels"),
        "marks": sorted(whole["metadata"].get("annotations") or ()),
        "is_as_found": job.is_as_found,
        "clusters": clusters_of(world),
        "is_gapped": job.is_gapped,
    }


def clusters_of(world: World) -> list[tuple[Any, ...]]:
    """What Flink runs, of the native runtime."""
    if not isinstance(world.runtime, InMemoryNativeRuntime):
        return []
    return [
        (place, each.launches, each.has_pods, each.start_from, len(each.triggered))
        for place, each in world.runtime.clusters.items()
    ]


@pytest.mark.parametrize("name", CASES)
def test_a_crash_after_any_write_changes_no_outcome(name: str) -> None:
    expected, writes = outcome(name, None)
    assert set(expected["states"]) == {State.SUCCEEDED}
    assert writes > 3
    for crash_after in range(1, writes + 1):
        assert outcome(name, crash_after)[0] == expected, f"{name}: after write {crash_after} of {writes}"


@pytest.mark.parametrize("name", NATIVE)
def test_a_crash_after_any_write_changes_no_outcome_of_a_native_job(name: str) -> None:
    expected, writes = outcome(name, None, "native")
    assert set(expected["states"]) == {State.SUCCEEDED}
    assert writes > 3
    for crash_after in range(1, writes + 1):
        assert outcome(name, crash_after, "native")[0] == expected, f"{name}: after write {crash_after} of {writes}"
