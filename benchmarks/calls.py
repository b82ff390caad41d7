"""`./run bench calls`: the requests that each operation takes, by runtime, where every one of them is answered at once.

Counted on the cluster in memory that the model of faults plays (tests/model), so the numbers are the same on every
machine. What the sync lists and watches is not among them: it is shared by all jobs.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from headrace.domain.jobs import NATIVE, OPERATOR, JobKey
from headrace.domain.operations import KindName
from headrace.ports import FlinkRuntime, JobManager
from tests.model.faults import Strike
from tests.model.world import SCRIPT, Step, World, inline_watches

LIFE: tuple[tuple[KindName, Mapping[str, Any]], ...] = (
    (KindName.SUBMIT, {}),
    (KindName.SAVEPOINT, {}),
    (KindName.SUSPEND, {}),
    (KindName.RESUME, {}),
    (KindName.RESTART, {}),
    (KindName.STOP, {}),
)
MOST_ROUNDS = 100
KINDS = ("deployments", "services", "configmaps", "secrets", "pods", "events")
OF_THE_SYNC = ("list_pages", "watch")
KUBERNETES, JOB_MANAGER, COMMAND_LINE = "Kubernetes", "JobManager", "command line"


def main(argv: Sequence[str]) -> int:
    """Counts and says; exit code 0."""
    ArgumentParser(prog="./run bench calls", description=__doc__).parse_args(argv)
    found = {runtime: _life(runtime) for runtime in (OPERATOR, NATIVE)}
    print("\n".join(lines(found)), flush=True)
    return 0


def lines(found: Mapping[str, Mapping[KindName, Counter[str]]]) -> list[str]:
    """The table that people read."""
    whom = [(runtime, server) for runtime in found for server in (KUBERNETES, JOB_MANAGER, COMMAND_LINE)]
    whom = [(runtime, server) for runtime, server in whom if any(each[server] for each in found[runtime].values())]
    told = [f"{'':<12}" + "".join(f"{f'{runtime}: {server}':>24}" for runtime, server in whom)]
    for kind, _ in LIFE:
        told.append(f"{kind:<12}" + "".join(f"{found[runtime][kind][server]:>24}" for runtime, server in whom))
    return told


def _life(runtime: str) -> Mapping[KindName, Counter[str]]:
    world = World()
    taken: dict[KindName, Counter[str]] = {}
    with inline_watches():
        for number, (kind, arguments) in enumerate(LIFE):
            asked = {"job_config": {"script": SCRIPT, "runtime": runtime}} if kind is KindName.SUBMIT else arguments
            world._accept(world.processes[0], kind, "a", dict(asked), str(number))
            taken[kind] = _carried_out(world, runtime)
    return taken


def _carried_out(world: World, runtime: str) -> Counter[str]:
    """The calls of workers until no operation is open."""
    counts = Counter[str]()
    for _ in range(MOST_ROUNDS):
        with _counted(counts, runtime):
            world._happens(Step("execute"))
        world._happens(Step("operator", value=1))
        world._happens(Step("sync"))
        document = world.store.document(JobKey("default", "a"))
        if document is not None and not document.open_operations:
            return counts
    raise AssertionError(f"{document} does not end")


@contextmanager
def _counted(counts: Counter[str], runtime: str) -> Iterator[None]:
    real = Strike.call

    def call(self: Strike, method: str, call: Callable[[], Any]) -> Any:
        server = _server_of(method, runtime)
        if server is not None:
            counts[server] += 1
        return real(self, method, call)

    with patch.object(Strike, "call", call):
        yield


def _server_of(method: str, runtime: str) -> str | None:
    """Whom a call of a port goes to, as tests.model.world names it; None where it is the store's, or only stands for
    what it asks for, as the calls of the native runtime do."""
    if " " in method:  # a request of native mode: `PATCH deployments`; `GET job` and `POST stop` are a JobManager's
        return KUBERNETES if method.split()[1] in KINDS else JOB_MANAGER
    if hasattr(JobManager, method):
        return JOB_MANAGER
    if runtime == NATIVE:
        return COMMAND_LINE if method == "launch" else None
    return KUBERNETES if hasattr(FlinkRuntime, method) and method not in OF_THE_SYNC else None
