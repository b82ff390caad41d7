"""Replays a recording through the real accept, Execute and Sync: the recording plays the operator and everybody else.

Only what Headrace writes is its own; generations, statuses, pods and deletions come from the recording, at the
recorded times, with a sync every five seconds in between. Knows nothing of what is expected.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml

from headrace.bootstrap import wired
from headrace.domain.jobs import SETTLED, JobKey, Observation, Phase
from headrace.domain.operations import KindName, Operation
from headrace.domain.pods import Pod, PodSeen, pod_seen
from headrace.domain.waiting import WAITS
from headrace.errors import Unavailable
from headrace.ports import Page, WatchEvent
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime, InMemoryStore
from tests.support.world import World

DATA = Path(__file__).parents[1] / "data"
RECORDINGS = sorted(path.stem for path in (DATA / "recordings").glob("*.jsonl"))
KEY = JobKey("default", "orders")
OBJECTS = ("flinkdeployments", "pods")
TICK_SECONDS = 5.0
TICKS_OF_A_HOLD = 50
HALF_A_MINUTE = timedelta(seconds=30)


@dataclass(frozen=True)
class Event:
    """A line of a recording."""

    at: float
    resource: str
    type: str
    whole: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.whole["metadata"].get("resourceVersion", ""))


def events_of(recording: str, until: str = "", resources: Collection[str] = OBJECTS) -> list[Event]:
    """Its events of deployments and pods, or of these, up to a deployment's version."""
    events = []
    for line in (DATA / "recordings" / f"{recording}.jsonl").read_text().splitlines():
        read = json.loads(line)
        event = Event(read["t"], read["resource"], read["type"], read["object"])
        if event.resource in resources:
            events.append(event)
        if event.resource == "flinkdeployments" and event.version == until:
            break
    return events


def plan_of(recording: str) -> dict[str, Any]:
    """What is expected of a recording (tests/data/phases/README.md)."""
    plan: dict[str, Any] = yaml.safe_load((DATA / "phases" / f"{recording}.yaml").read_text())
    for part in ("phases", "says", "hold"):  # a moment may be a number
        plan[part] = {str(moment): value for moment, value in plan.get(part, {}).items()}
    return plan


def as_ours(words: str, recorded: str) -> str:
    """What is said of an object that was named after the recorded deployment, of one named after ours."""
    return re.sub(rf'-{recorded}(?=\\?" not found)', f"-{KEY.job_id}", words)


class RecordedRuntime(InMemoryRuntime):
    """An API server whose deployments report, and go, when the recording says so: a finalizer holds them.

    `broken` names a call that raises Unavailable, beside the `outage` of all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen_pods: dict[str, Pod] = {}
        self.broken = ""

    def delete(self, namespace: str, name: str, uid: str) -> bool:
        whole = self.get_whole(namespace, name)
        return whole is not None and whole["metadata"]["uid"] == uid

    def pods(self, namespace: str, name: str, labels: Mapping[str, str]) -> Sequence[PodSeen]:
        self._reach()
        self._breaks("pods")
        return [pod_seen(pod) for pod in self.seen_pods.values()]

    def list_pages(self, namespace: str, limit: int = 500) -> Iterator[Page]:
        self._breaks("list")
        return super().list_pages(namespace, limit)

    def watch(self, namespace: str, resource_version: str, timeout_seconds: int) -> Iterator[WatchEvent]:
        self._breaks("watch")
        return super().watch(namespace, resource_version, timeout_seconds)

    def _breaks(self, call: str) -> None:
        if self.broken == call:
            raise Unavailable(f"the {call} broke off")

    def shows_other(self, event: Event) -> None:
        if event.resource == "events":
            self.put_event("default", event.whole)
            return
        pod = msgspec.convert(event.whole, Pod)
        self.seen_pods.pop(pod.metadata.name, None)
        if event.type != "DELETED":
            self.seen_pods[pod.metadata.name] = pod

    def shows(self, event: Event) -> None:
        """The live deployment becomes the recorded one, but for its identity and what Headrace wrote on it."""
        recorded, place = event.whole, ("default", KEY.job_id)
        if event.type == "DELETED":
            super().delete(*place, self._objects[place]["metadata"]["uid"])
            return
        whole = copy.deepcopy(self._objects[place])
        for name in ("generation", "deletionTimestamp"):
            if name in recorded["metadata"]:
                whole["metadata"][name] = recorded["metadata"][name]
        whole["spec"]["job"] |= {name: recorded["spec"]["job"][name] for name in ("state", "parallelism")}
        if "restartNonce" in recorded["spec"]:
            whole["spec"].setdefault("restartNonce", recorded["spec"]["restartNonce"])
        whole["status"] = copy.deepcopy(recorded.get("status") or {})
        if "error" in whole["status"]:
            whole["status"]["error"] = as_ours(whole["status"]["error"], recorded["metadata"]["name"])
        self._objects[place] = whole
        self._record("MODIFIED", whole)


class Replay:
    """One recording's life. `phases` has the phases that each moment brought, `says` the job's reason after it;
    `silent` the moments at which it has none though it is on its way for more than half a minute.

    `outage` is what fails before every look: nothing, "all", or one call of the runtime. The versions `missed` are
    not observed, and no history tells of them. `until` ends it after a version.
    """

    def __init__(
        self, recording: str, outage: str = "", missed: Collection[str] = (), until: str | None = None
    ) -> None:
        self.plan = plan_of(recording)
        self.missed = missed
        self.phases: dict[str, list[Phase]] = {}
        self.says: dict[str, str] = {}
        self.silent: list[str] = []
        self.followed: list[Followed] = []
        self._events = events_of(recording, until or str(self.plan.get("until")), (*OBJECTS, "events"))
        self._outage = outage
        self._transitions = 0
        self.world, self.runtime = _world()

    def run(self) -> Replay:
        """From the first event to the last."""
        if self.plan.get("begins") == "RUNNING":
            self.world.runs()
            self._transitions = len(self.world.services.records.transitions_of(KEY))
        now, previous = 0.0, ""
        for event in self._events:
            self._wait(event.at - now, previous, TICK_SECONDS)
            now = event.at
            if event.resource != "flinkdeployments":
                self.runtime.shows_other(event)
                continue
            self._hold(previous)
            self._ask(event)
            self.runtime.shows(event)
            if event.version in self.missed:
                self.runtime.forget_history()
            else:
                self.look(event.version)
            previous = event.version
        self._hold(previous)
        return self

    def look(self, moment: str) -> None:
        """What a Beat and a worker do once: observe, execute what that woke, observe that."""
        self._fail()
        for _ in range(3):
            self.world.sync()
            self.world.services.redeliver.run()
            woken, self.world.queue.woken = self.world.queue.woken, []
            if woken:
                self.world.execute()
        self.world.services.waits.run()
        self._take(moment)

    def _wait(self, seconds: float, previous: str, tick: float) -> None:
        left = seconds
        while left > tick and previous:
            self.world.clock.advance(tick)
            self.look(f"{previous}+")
            left -= tick
        self.world.clock.advance(left)

    def _hold(self, previous: str) -> None:
        seconds = float(self.plan["hold"].get(previous, 0))
        self._wait(seconds, previous, max(TICK_SECONDS, seconds / TICKS_OF_A_HOLD))

    def _ask(self, event: Event) -> None:
        """The operation whose write this event shows is accepted and executed, and has written just that."""
        for asked in self.plan["operations"]:
            if str(asked["at"]) != event.version:
                continue
            operation = self._accept(asked)
            self.world.execute()
            self.followed.append(Followed(operation.id))
            if operation.kind is not KindName.SUBMIT and "generation" in asked:
                assert _spec_of(self.world.whole()) == _spec_of(event.whole)

    def _accept(self, asked: Mapping[str, Any]) -> Operation:
        checkpoint = asked.get("checkpoint")
        unreachable = Unavailable("connection refused")
        self.world.job_manager.checkpoint = unreachable if checkpoint == "unreachable" else checkpoint
        if asked["kind"] == "SUBMIT":
            return self.world.submit(**{name: asked[name] for name in ("start_from",) if name in asked})
        if asked["kind"] == "SCALE":
            return self.world.scale(asked["parallelism"])
        if asked["kind"] == "STOP":
            return self.world.stop(force=asked.get("force", False))
        given = {name: asked[name] for name in ("start_from",) if name in asked}
        return self.world.accept(KindName(asked["kind"]), KEY.job_id, **given)

    def _take(self, moment: str) -> None:
        transitions = self.world.services.records.transitions_of(KEY)
        entered = [t.to_phase for t in transitions[self._transitions :]]
        self._transitions = len(transitions)
        if entered:
            self.phases.setdefault(moment, []).extend(entered)
        job = self.world.job()
        self.says[moment] = job.reason
        lasts = job.phase_since is not None and self.world.clock.now() - job.phase_since > HALF_A_MINUTE
        if job.phase in WAITS and lasts and not job.reason:
            self.silent.append(f"{job.phase} at {moment}")
        for each in self.followed:
            each.goes_on(self.world, moment, entered)

    def _fail(self) -> None:
        """Something does not answer; where nothing does, nothing moves but the observation."""
        if not self._outage:
            return
        before = self._records()
        self.runtime.outage, self.runtime.broken = self._outage == "all", self._outage
        with contextlib.suppress(Unavailable):
            self.world.sync()
            assert self._outage != "all", "an outage is not kept silent"
        self.runtime.outage, self.runtime.broken = False, ""
        if self._outage == "all":
            assert self._records() == before
            settled = self.world.job().phase in SETTLED or self.world.job().deployment_uid is None
            assert settled or self.world.job().observation is Observation.UNREACHABLE

    def _records(self) -> tuple[Any, ...]:
        job = replace(self.world.job(), observation=Observation.FRESH)
        return job, self.world.services.records.operations_of(KEY), self.world.services.records.transitions_of(KEY)


@dataclass
class Followed:
    """An operation from its write to its end: the phases entered meanwhile, those of its end included."""

    id: str
    entered: list[Phase] = field(default_factory=list)
    settled_while_open: list[str] = field(default_factory=list)
    ended_at: str = ""
    end: Operation | None = None

    def goes_on(self, world: World, moment: str, entered: list[Phase]) -> None:
        if self.end is not None:
            return
        self.entered += entered
        stored = world.services.records.operation(KEY.tenant, self.id)
        assert stored is not None
        if not stored.is_open:
            self.ended_at, self.end = moment, stored
        else:  # a phase that had settled before stays so
            self.settled_while_open += [f"{phase} at {moment}" for phase in entered if phase in SETTLED]


def _spec_of(whole: Mapping[str, Any]) -> tuple[Any, ...]:
    job = whole["spec"]["job"]
    return whole["metadata"]["generation"], job["state"], job["parallelism"]


def _world() -> tuple[World, RecordedRuntime]:
    store, runtime, queue = InMemoryStore(), RecordedRuntime(), InMemoryQueue()
    job_manager, clock = InMemoryJobManager(), FixedClock()
    store.clock = clock
    settings = Settings(flink_allowed_hosts="files.example.com", _env_file=None)
    services = wired(
        settings, store=store, queue=queue, runtime=runtime, job_manager=job_manager, clock=clock, sealer=None
    )
    return World(services, store, runtime, queue, job_manager, clock), runtime
