"""The processes of two installations over one database, and the steps that can happen to them, one at a time.

A process that freezes at a call lets the steps that follow happen before it goes on; one that dies is started anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from unittest.mock import patch

from headrace.adapters.flink_rest import Body, RestAnswer, RestJobManager
from headrace.adapters.flink_rest.clusters import ClusterRest
from headrace.adapters.kubernetes.api_server import Answer
from headrace.adapters.native import NativeRuntime
from headrace.adapters.native.launcher import Made
from headrace.bootstrap import Services, wired
from headrace.domain.deployments import JOB_LABEL
from headrace.domain.jobs import NATIVE, OPERATOR, JobKey
from headrace.domain.operations import KindName, Source, operation_id
from headrace.domain.state_on_hand import Checkpoints
from headrace.domain.vertices import Vertices
from headrace.errors import HeadraceError, Refused, TransientError
from headrace.ports import FlinkRuntime, Scope, WatchEvent
from headrace.services import runtimes, sync
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryQueue, ReversingSealer
from tests.model.faults import Dead, Fault, Kind, Port, Strike
from tests.model.flink import Cluster, Managers, answered
from tests.model.kubernetes import Api, Resource
from tests.model.native import MOODS, REQUIREMENTS, ModelLauncher, NativeCluster
from tests.model.promises import Cluster as Place
from tests.model.promises import Violation, WatchedStore, judge_deletion, judge_parallelism, judge_rest

JOBS = ("a", "b", "c", "elsewhere")
"""The last one is of the other installation."""

SCRIPT = {"name": "job.py", "content": "print(1)\n"}
KINDS_ASKED = 15
ADAPTIVE_FROM = 4 * KINDS_ASKED
"""Values so far apart ask the same, of the same runtime."""

ADAPTIVE = {"jobmanager.scheduler": "adaptive"}
SOMEBODYS_JOB = {"jarURI": "local:///a.jar", "parallelism": 1, "upgradeMode": "last-state"}
SOMEBODYS = {
    "apiVersion": "flink.apache.org/v1beta1",
    "kind": "FlinkDeployment",
    "spec": {"flinkVersion": "v2_2", "job": SOMEBODYS_JOB},
}
"""A deployment that was made without us."""

SKEWS = (0.0, 10.0, 0.0)
"""Seconds that the processes' clocks are ahead of the database's."""

OPERATOR_SECONDS, FLINK_SECONDS = 15, 5
"""What a step of theirs takes at least: nothing happens to a job in no time."""

MOST_ROUNDS = 320
"""Rounds in which everything has to come to rest: deadlines are of 900 s, and a round is of 30 s at most."""


@dataclass(frozen=True)
class Step:
    """One thing that happens: `who` is a process, `value` decides where there is a choice."""

    act: str
    job: int = 0
    who: int = 0
    value: int = 0
    fault: Fault | None = None


class Process:
    """A process of an installation: its services, over ports that can be struck."""

    def __init__(self, world: World, number: int) -> None:
        place = "second" if number == len(SKEWS) - 1 else "first"
        self.scope = Scope("default", place, "default")
        self.clusters: Mapping[str, Place] = {OPERATOR: world.clusters[place], NATIVE: world.native[place]}
        self._has_launcher = number != 1
        self.skew = SKEWS[number]
        self._world = world
        self.services = self._started()

    def _started(self) -> Services:
        world = self._world
        return wired(
            SETTINGS[self.scope.cluster],
            store=Port(world.store, world.strike),
            queue=world.queue,
            runtime=Port(world.clusters[self.scope.cluster], world.strike),
            native=self._native(world.native[self.scope.cluster]),
            job_manager=Port(world.managers[self.scope.cluster], world.strike),
            clock=Skewed(world.clock, self.skew),
            sealer=ReversingSealer(),
        )

    def _native(self, cluster: NativeCluster) -> FlinkRuntime:
        """The adapter itself, each request of which can be struck."""
        strike = self._world.strike
        rest = ClusterRest(partial(_struck_rest, strike, cluster))
        launcher = StruckLauncher(strike, cluster) if self._has_launcher else None
        api: Any = StruckApi(strike, cluster)
        clock = Skewed(self._world.clock, self.skew)
        runtime = NativeRuntime(api, 3.0, rest, launcher, lambda: clock.now().timestamp())
        return cast(FlinkRuntime, Port(runtime, strike))

    def restart(self) -> None:
        """Another process takes its place, and knows nothing of what the one before had in memory."""
        self.services = self._started()


class StruckApi:
    """A Kubernetes API as one process has it."""

    def __init__(self, strike: Callable[[], Strike], api: Api) -> None:
        self._strike = strike
        self._api = api

    def send(self, method: str, path: str, **more: Any) -> Answer:
        """See Api."""
        kind = path.partition("/namespaces/")[2].split("/")[1]
        called = f"{method} {kind}"
        return cast(Answer, self._strike().call(called, lambda: self._api.send(method, path, **more)))

    def stream(self, path: str, **more: Any) -> Any:
        """See Api."""
        return self._api.stream(path, **more)


def _struck_rest(
    strike: Callable[[], Strike], cluster: NativeCluster, method: str, namespace: str, name: str, path: str, body: Body
) -> RestAnswer:
    """A JobManager as one process has it."""
    what = path.rpartition("/")[2]
    called = f"{method} {what if method == 'POST' or what == REQUIREMENTS else 'job'}"
    return cast(RestAnswer, strike().call(called, lambda: cluster.rest(method, namespace, name, path, body)))


class StruckLauncher(ModelLauncher):
    """Flink's command line as one process has it."""

    def __init__(self, strike: Callable[[], Strike], cluster: NativeCluster) -> None:
        super().__init__(cluster)
        object.__setattr__(self, "strike", strike)

    def launch(self, *where: Any, **more: Any) -> Made:
        """See Launcher."""
        strike: Callable[[], Strike] = self.strike  # type: ignore[attr-defined]
        return cast(Made, strike().call("launch", lambda: super(StruckLauncher, self).launch(*where, **more)))


class Skewed:
    """A machine's clock, ahead of another one."""

    def __init__(self, clock: FixedClock, ahead_seconds: float) -> None:
        self._true = clock
        self._ahead = ahead_seconds

    def now(self) -> datetime:
        """See ports.Clock."""
        return self._true.now() + timedelta(seconds=self._ahead)


SETTINGS = {
    name: Settings(flink_allowed_hosts="files.example.com", cluster=name, runtimes="operator,native", _env_file=None)
    for name in ("first", "second")
}


class World:
    """Everything there is, and who is at it."""

    def __init__(self, struck: Counter[tuple[str, Kind]] | None = None) -> None:
        self.clock = FixedClock()
        self.accepted_at: dict[str, Mapping[str, int]] = {}
        self.store = WatchedStore(self)
        self.store.clock = self.clock
        self.queue = InMemoryQueue()
        self.clusters = {"first": WatchedCluster(self), "second": WatchedCluster(self)}
        self.clusters["first"].has_snapshots = True
        self.native = {"first": WatchedNative(self), "second": WatchedNative(self)}
        self.managers = {name: BothManagers(cluster, self.native[name]) for name, cluster in self.clusters.items()}
        self.processes = [Process(self, number) for number in range(len(SKEWS))]
        self.struck = struck if struck is not None else Counter()
        self.touched: set[str] = set()
        self.edited: set[str] = set()
        self._at: list[tuple[Process, Strike]] = []
        self._busy: set[tuple[int, str]] = set()
        self._coming: Iterator[Step] = iter(())
        self._asked: list[tuple[KindName, str, dict[str, Any], str, int]] = []

    @property
    def actor(self) -> Process | None:
        """The process whose call is being made."""
        return self._at[-1][0] if self._at else None

    def strike(self) -> Strike:
        """What may strike the call that is being made."""
        return self._at[-1][1] if self._at else CALM

    def play(self, steps: Iterable[Step]) -> None:
        """All of them, then rest. Raises Violation."""
        with inline_watches():
            self._coming = iter(steps)
            for step in self._coming:
                self._happens(step)
            self._rests()

    def _meanwhile(self, count: int) -> None:
        for _ in range(count):
            step = next(self._coming, None)
            if step is None:
                return
            self._happens(step)

    def _happens(self, step: Step) -> None:
        if step.act in ("ask", "again", "execute", "sync", "redeliver", "waits", "restart"):
            of_the_job = len(SKEWS) - 1 if step.job == len(JOBS) - 1 else step.who % (len(SKEWS) - 1)
            self._process_acts(step, of_the_job if step.act in ("ask", "execute") else step.who)
            return
        place, name = "second" if step.job == len(JOBS) - 1 else "first", JOBS[step.job]
        cluster, native = self.clusters[place], self.native[place]
        match step.act:
            case "operator":
                self.clock.advance(OPERATOR_SECONDS)
                cluster.operator_acts(name, step.value)
                native.acts(name, step.value)
            case "flink":
                self.clock.advance(FLINK_SECONDS)
                cluster.flink_acts(name, step.value)
                native.flink_acts(name, step.value)
            case "time":
                self.clock.advance((1, 5, 11, 31, 65, 200)[step.value % 6])
            case "forget":
                cluster.forget_history()
                native.forget_history()
            case "snapshots":  # their kind comes, or goes
                cluster.has_snapshots = not cluster.has_snapshots
            case "launcher":  # it cannot for a time, says no, or is well again
                native.mood = MOODS[step.value % len(MOODS)]
            case "hand":
                self._hand(cluster, name, step.value)
                self._hand_on_native(native, name, step.value)
            case _:
                raise AssertionError(step)

    def _process_acts(self, step: Step, who: int) -> None:
        process, loop = self.processes[who], step.act in ("sync", "redeliver", "waits")
        if loop and (who, step.act) in self._busy:
            return  # it is frozen in the very loop that this would be the next round of
        self._at.append((process, Strike(step.fault, self._meanwhile, self.struck)))
        busy = {(who, step.act)} if loop else set()
        self._busy |= busy
        try:
            self._acts(process, step)
        except Dead:
            process.restart()
        except (TransientError, Refused):
            pass  # its task is tried again, or its loop goes on
        finally:
            self._busy -= busy
            self._at.pop()

    def _acts(self, process: Process, step: Step) -> None:
        services, name = process.services, JOBS[step.job]
        match step.act:
            case "ask":
                self._ask(process, name, step.value)
            case "again":
                self._ask_again(step.value)
            case "execute":
                services.execute.oldest_open_operation(JobKey("default", name))
            case "sync":
                services.sync.run(1)
            case "redeliver":
                services.redeliver.run()
            case "waits":
                services.waits.run()
            case "restart":
                process.restart()

    def _ask(self, process: Process, name: str, value: int) -> None:
        """The first of all kinds, in an order that `value` turns, that is accepted."""
        from_last = {"start_from": "last"} if value % 2 else {}
        program = {"script": SCRIPT, "runtime": NATIVE if value // 30 % 2 else OPERATOR}
        program |= {"flink_configuration": ADAPTIVE} if is_adaptive(value) else {}
        asks: list[tuple[KindName, dict[str, Any]]] = [
            (KindName.SCALE, {"parallelism": value % 4 + 1}),
            (KindName.ADOPT, {}),
            (KindName.SUBMIT, {"job_config": program, **from_last}),
            (KindName.STOP, {"force": value % 7 == 0}),
            (KindName.ADOPT, {}),
            (KindName.SUBMIT, {"job_config": program}),
            (KindName.ROLLBACK, {"to": value // 13 % 4 + 1} if value % 2 else {}),
            (KindName.SUSPEND, {}),
            (KindName.RESUME, self._from_a_savepoint(value)),
            (KindName.RELEASE, {}),
            (KindName.SAVEPOINT, {}),
            (KindName.RESTART, {}),
            (KindName.UPGRADE, {"job_config": {"args": [f"--step={value}"]}}),
            (KindName.DELETE, {"force": value % 5 == 0}),
            (KindName.UNDELETE, {}),
        ]
        turn = value % KINDS_ASKED
        for kind, arguments in asks[turn:] + asks[:turn]:
            key = f"{len(self._asked)}"
            self._asked.append((kind, name, arguments, key, self.processes.index(process)))
            try:
                self._accept(process, kind, name, arguments, key)
            except TransientError:
                raise
            except HeadraceError:
                continue
            return

    def _from_a_savepoint(self, value: int) -> dict[str, Any]:
        """Now and then one of those on record, else the state that the job rests with."""
        known = sorted(self.store.savepoints)
        return {"start_from": known[value % len(known)]} if known and value % 4 == 0 else {}

    def _ask_again(self, value: int) -> None:
        """A request whose answer was lost comes again, as it was."""
        if not self._asked:
            return
        kind, name, arguments, key, who = self._asked[value % len(self._asked)]
        if self.processes[who] is not self.actor:
            return
        try:
            self._accept(self.processes[who], kind, name, arguments, key)
        except TransientError:
            raise
        except HeadraceError:
            return

    def _accept(self, process: Process, kind: KindName, name: str, arguments: dict[str, Any], key: str) -> None:
        self.accepted_at.setdefault(_id_of(key), {name: each.now for name, each in process.clusters.items()})
        source = Source(via="http")
        process.services.accept.operation(kind, name, arguments, tenant="default", key=key, source=source)

    def _hand(self, cluster: Cluster, name: str, value: int) -> None:
        """Somebody with kubectl."""
        whole, truth, what = cluster.whole(name), cluster.truth(name), value % 6
        if whole is None and what == 0:
            spec = SOMEBODYS["spec"] | ({"flinkConfiguration": ADAPTIVE} if is_adaptive(value) else {})
            cluster.create(SOMEBODYS | {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
        if whole is None or truth is None or (what == 2 and not truth.reconciled):
            return  # what is suspended before the operator has seen it never starts: nobody would do that
        job, labels = whole["spec"]["job"], whole["metadata"].get("labels") or {}
        if what == 0:
            self.edited.add(name)
            cluster.write(name, {"spec": {"job": {**job, "parallelism": value % 5 + 1}}}, spec=True)
        elif what == 1:
            cluster.write(name, {"metadata": {"labels": {k: v for k, v in labels.items() if k != JOB_LABEL}}})
        else:
            self.touched.add(name)
            if what == 2:
                cluster.write(name, {"spec": {"job": {**job, "state": "suspended"}}}, spec=True)
            elif what == 3:
                cluster.write(name, {"spec": {"job": {**job, "state": "running"}}}, spec=True)
            elif what == 4:
                cluster.vanish(name)
            else:
                cluster.reborn(name)

    def _hand_on_native(self, cluster: NativeCluster, name: str, value: int) -> None:
        """Somebody with kubectl, at a Deployment."""
        whole, what = cluster.get("deployments", name), value % 6
        if whole is None and value % 12 == 0:
            cluster.put("deployments", {"metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": 1}})
        if whole is None:
            return
        if what == 1:
            cluster.relabelled(name, JOB_LABEL)
        elif what in (4, 5):
            self.touched.add(name)
            (cluster.vanish if what == 4 else cluster.reborn)(name)

    # At rest

    def _rests(self) -> None:
        """Nothing strikes any more, the operator does its work, and time goes by until nothing moves."""
        quiet = 0
        for native in self.native.values():
            native.mood = ""
        for number in range(MOST_ROUNDS):
            before = self._signature()
            self._round(OPERATOR_SECONDS if number < 6 else 30)
            is_open = any(document.open_operations for document in self.store._documents.values())
            is_long_enough = number >= 8  # what a process whose clock is ahead has put off is due by then
            quiet = quiet + 1 if self._signature() == before and not is_open and is_long_enough else 0
            if quiet == 2:
                break
        for process in (self.processes[0], self.processes[-1]):
            phases = self._phases()
            process.restart()
            self._happens(Step("sync", who=self.processes.index(process)))
            if phases != self._phases():
                raise Violation(f"at rest a fresh relist gives other phases: {phases} then {self._phases()}")
        for document in self.store._documents.values():
            process = self.processes[-1 if document.job.cluster == "second" else 0]
            cluster = process.clusters[document.job.runtime]
            job_id = document.job.job_id
            judge_rest(self.store, cluster, document, job_id in self.touched)
            if job_id not in self.touched | self.edited:
                judge_parallelism(self.store, cluster, document)
        self._all_are_known()

    def _all_are_known(self) -> None:
        placed = {document.key: document.job.last_sequence for document in self.store._documents.values()}
        lost = [o for o in self.store._operations.values() if o.sequence > placed.get(o.key, 0)]
        if lost:
            raise Violation(f"accepted, and in no record: {[o.job_id for o in lost]}")

    def _round(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for cluster in self.clusters.values():
            for name in cluster.names():
                cluster.operator_acts(name, 1)
        for place, native in self.native.items():
            for name in JOBS[-1:] if place == "second" else JOBS[:-1]:
                native.acts(name, 1)
        for who in (0, len(SKEWS) - 1):
            self._happens(Step("redeliver", who=who))
            self._happens(Step("sync", who=who))
        woken, self.queue.woken = sorted(set(self.queue.woken)), []
        for key in woken:
            self._happens(Step("execute", job=JOBS.index(key.job_id)))

    def _signature(self) -> Any:
        revisions = sorted((key, document.revision) for key, document in self.store._documents.items())
        versions = [each.now for clusters in (self.clusters, self.native) for each in clusters.values()]
        return revisions, versions, len(self.queue.woken)

    def _phases(self) -> dict[str, str]:
        return {key.job_id: str(document.job.phase) for key, document in sorted(self.store._documents.items())}


class WatchedCluster(Cluster):
    """The cluster, and a judge of every deletion."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._world = world

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        """See ports.FlinkRuntime."""
        live = self.whole(name)
        if live is not None and live["metadata"]["uid"] == uid:
            judge_deletion(self._world.store, self, name, "default")
        return super().delete(namespace, name, uid)


class WatchedNative(NativeCluster):
    """The same for native mode: whoever marks a Deployment to be removed ends what runs by it."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._world = world
        self._judged: set[str] = set()

    def removing(self, whole: Resource) -> None:
        """See Api."""
        metadata = whole["metadata"]
        if metadata["uid"] not in self._judged:  # what was marked by force may be removed for whoever comes next
            judge_deletion(self._world.store, self, metadata["name"], "default")
            self._judged.add(metadata["uid"])


class BothManagers(Managers):
    """JobManagers of both runtimes."""

    def __init__(self, cluster: Cluster, native: NativeCluster) -> None:
        super().__init__(cluster)
        self._native = native

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """See ports.JobManager."""
        truth = self._native.answering(name)
        if truth is not None and truth.flink_job == flink_job_id:
            return answered(truth)
        return super().checkpoints(namespace, name, flink_job_id)

    def vertices(self, namespace: str, name: str, flink_job_id: str) -> Vertices:
        """See ports.JobManager: of a native job the adapter itself is played."""
        truth = self._native.answering(name)
        if truth is not None and truth.flink_job == flink_job_id:
            return RestJobManager(self._native.rest).vertices(namespace, name, flink_job_id)
        return super().vertices(namespace, name, flink_job_id)


CALM = Strike(None, lambda _: None, Counter())


class Inline:
    """The watch of a sync, read whole where it is asked for: what arrives together does not hang on threads."""

    def __init__(self, events: Iterator[tuple[str, WatchEvent]]) -> None:
        self._events = events

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def batches(self, hold_seconds: float) -> Iterator[list[tuple[str, WatchEvent]]]:
        """See sync._Pump."""
        arrived = list(self._events)
        for start in range(0, len(arrived), 5):
            yield arrived[start : start + 5]


class InlineBoth:
    """The watches of several runtimes, one after the other."""

    def __init__(
        self, adapters: Mapping[str, FlinkRuntime], versions: Mapping[str, str], namespace: str, seconds: int
    ) -> None:
        self._watches = [(name, each, versions[name]) for name, each in adapters.items()]
        self._namespace, self._seconds = namespace, seconds

    def __iter__(self) -> Iterator[tuple[str, WatchEvent]]:
        """See runtimes._Merged."""
        for name, adapter, version in self._watches:
            for event in adapter.watch(self._namespace, version, self._seconds):
                yield name, event


@contextmanager
def inline_watches() -> Iterator[None]:
    """Syncs that read their watches without a thread."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(sync, "_Pump", Inline))
        stack.enter_context(patch.object(runtimes, "_Merged", InlineBoth))
        yield


def is_adaptive(value: int) -> bool:
    """Whether a job that is made by a step of this value is given the adaptive scheduler."""
    return value // ADAPTIVE_FROM % 2 == 1


def with_adaptive(value: int) -> int:
    """The value that asks for the same, with the adaptive scheduler."""
    return value if is_adaptive(value) else value + ADAPTIVE_FROM


def as_scale(value: int) -> int:
    """A value near it that asks for a SCALE before all else."""
    return value - value % KINDS_ASKED


def _id_of(key: str) -> str:
    return operation_id("default", key)
