"""Plays a schedule on a running installation, lets it come to rest, and reads what has come of it.

Must not judge: that is the checker's.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from headrace.domain.operations import operation_id
from tests.processes.asking import Asking
from tests.processes.flink import GONE, TRUTHS
from tests.processes.hands import Hands
from tests.processes.history import AtRest, History, Struck, Version
from tests.processes.installation import LETTERS, Installation
from tests.processes.native import NATIVE_TRUTHS, RAN, STAGES, WRONG
from tests.processes.proxies import OF_WRITES, Write
from tests.processes.schedule import AGAIN, ASK, Event
from tests.support.patience import wait_for

REST_SECONDS = {False: 300.0, True: 900.0}
"""By whether Flink is real: what an installation has to come to rest, the longest that one operation may take and room
for a slow machine."""

QUIET_SECONDS = 3.0
LOOK_SECONDS = 0.5
OPEN = ("ACCEPTED", "RUNNING")
FEW_TOLD = 5
"""Of what still moves at the end: it is one line."""

FEW, MANY = 2, 16
"""Requests that a fault of the Kubernetes API strikes, at most while it lasts."""

OF_ONE_KIND = {**dict.fromkeys(OF_WRITES, "write"), "410": "read"}

End = Callable[[], None]


class Player:
    """One installation, and the schedules that are played on it, one after the other."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        installation.on_write = self._wrote
        self._rounds = count(1)
        self._history = History(0)
        self._names: list[str] = []
        self._hands = Hands(installation.kubeconfig, self._saw, installation.somebodys_deployment)
        servers = {"bootstrap.servers": installation.kafka, "group.id": "judge", "enable.auto.commit": False}
        self._letters = Consumer({**servers, "log_level": 0})
        self._letters.assign([TopicPartition(LETTERS, 0, OFFSET_BEGINNING)])

    def close(self) -> None:
        """Lets go of its connections."""
        self._hands.close()
        self._letters.close()

    @property
    def requests_struck(self) -> Counter[str]:
        """How many requests each kind of fault at a proxy has struck."""
        there = self._installation
        return Counter({**there.kubernetes.struck, "mongodb cut": there.mongodb.struck})

    def _wrote(self, write: Write) -> None:
        """Takes down a write of ours that has passed."""
        if any(name in json.dumps([write.path, write.sent]) for name in self._names):
            self._history.writes.append(write)

    def _saw(self, version: Version) -> None:
        if version.name in self._names:
            self._history.versions.append(version)

    def play(self, seed: int, events: Sequence[Event], jobs: int) -> History:
        """The history of this schedule, on so many jobs that nobody has had before, and one that is somebody's."""
        nth = next(self._rounds)
        self._names = [f"r{nth}s{seed}-{n}" for n in range(jobs + 1)]
        self._history = History(seed)
        self._installation.calm(False)
        asking = Asking(self._installation, self._history, self._names)
        try:
            with ThreadPoolExecutor(8) as pool:
                self._played(events, asking, pool)
            self._installation.all_run()
            wait_for("Redis to have room", self._has_room)  # it may have been frozen when that was to end
            self._installation.calm(True)
            self._history.restless = self._rests(asking)
            self._hands.have_seen_all()
            self._history.date(self._installation.kubernetes.passed.at)
            self._read(asking)
        finally:
            asking.close()
            self._tidied()
        return self._history

    def _played(self, events: Sequence[Event], asking: Asking, pool: ThreadPoolExecutor) -> None:
        order = count()
        due: list[tuple[float, int, Callable[[], End | None], float]] = []
        for event in events:
            act = self._act(event, asking, pool)
            heapq.heappush(due, (event.at, next(order), act, event.seconds))
        begun = time.monotonic()
        while due:
            at, _, act, seconds = heapq.heappop(due)
            time.sleep(max(0.0, at - (time.monotonic() - begun)))
            end = act()
            if end is not None:
                later = max(at, time.monotonic() - begun) + seconds
                heapq.heappush(due, (later, next(order), end, 0.0))

    def _act(self, event: Event, asking: Asking, pool: ThreadPoolExecutor) -> Callable[[], End | None]:
        def act() -> End | None:
            if event.what == ASK:
                pool.submit(asking.ask, event.job, event.value, event.number)
            elif event.what == AGAIN:
                pool.submit(asking.ask_again, event.value)
            else:
                return self._strikes(event, pool)
            return None

        return act

    # Faults

    def _strikes(self, event: Event, pool: ThreadPoolExecutor) -> End | None:
        """Begins a fault; the answer ends it."""
        verb, name = event.what.split()
        if verb == "hand":
            pool.submit(self._hand, event, self._names[event.job])
            return None
        self._history.struck.append(Struck(time.time(), event.what, event.seconds))
        there = self._installation
        match verb:
            case "kill":
                there.kill(name)
                return lambda: there.start_again(name)
            case "freeze":
                there.freeze(name)
                return lambda: there.thaw(name)
            case "skew":
                there.kill(name)
                there.start_again(name, (event.value % 5 - 2 or 3) * 60)
            case "restart":
                return self._restarts(name)
            case "flush" | "fill":
                return self._redis(verb)
            case "cut":
                there.mongodb.cut(event.value % 4 + 1)
                return lambda: there.mongodb.cut(0)
            case "kubernetes":
                return self._kubernetes(name, event.value)
            case "lose":
                there.lose_job_manager(self._names[event.job], event.seconds)
        return None

    def _restarts(self, name: str) -> End:
        """A broker that keeps its records in memory would lose them: it is frozen instead."""
        there = self._installation
        if there.has_durable_kafka:
            there.kill(name)
            return lambda: there.start_again(name)
        there.freeze(name)
        return lambda: there.thaw(name)

    def _redis(self, verb: str) -> End | None:
        try:
            with redis.Redis.from_url(self._installation.redis_url, socket_timeout=2) as client:
                if verb == "flush":
                    client.flushall()
                    return None
                client.config_set("maxmemory", "1")
        except redis.RedisError:
            return None  # it is dead or frozen already
        return self._is_not_full

    def _is_not_full(self) -> None:
        self._has_room()  # one that does not answer now is asked again at the end

    def _has_room(self) -> bool:
        """Whether it has taken that it is not full any more."""
        try:
            with redis.Redis.from_url(self._installation.redis_url, socket_timeout=2) as client:
                return bool(client.config_set("maxmemory", "0"))
        except redis.RedisError:
            return False

    def _kubernetes(self, what: str, value: int) -> End | None:
        proxy = self._installation.kubernetes
        if what == "watches":
            proxy.cut_streams()
            return None
        of = OF_ONE_KIND.get(what, ("any", "write", "read")[value % 3])
        armed = proxy.arm(what, of, FEW + value % (MANY - FEW))
        return lambda: proxy.disarm(armed)

    def _hand(self, event: Event, name: str) -> None:
        """Where there is nothing to lay hands on, nothing has struck."""
        done = self._hands.touches(event.what, name, event.value)
        if done is not None:
            self._history.struck.append(Struck(done.at, event.what, 0.0, name))
            self._history.touches.append(done)

    # At rest

    def _rests(self, asking: Asking) -> str:
        """Waits until nothing moves any more. What still did when it had to be over; nothing where all is well."""
        rest_seconds = REST_SECONDS[self._installation.has_real_flink]
        until, before, since = time.monotonic() + rest_seconds, None, time.monotonic()
        why = "nothing was read"
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            try:
                now, why = self._moves(asking)
                if self._is_beyond_help():
                    return why
            except httpx.HTTPError as error:
                why = repr(error)
                continue
            if now != before or why:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > QUIET_SECONDS:
                return ""
        return why or "it goes on changing"

    def _is_beyond_help(self) -> bool:
        """Whether something was acknowledged as what it is not: nobody need wait for what it is then."""
        return any(ask.acknowledged - {operation_id("default", ask.key)} for ask in self._history.asks)

    def _moves(self, asking: Asking) -> tuple[Any, str]:
        """What must be the same for a while, and what must be over before."""
        seen, still = [], []
        for name in self._names:
            status, job = asking.get(f"/jobs/{name}")
            live = self._hands.live(name)
            if status == 200:
                version = live["metadata"]["resourceVersion"] if live else None
                seen.append((name, job["status"], job["observation"], version))
                still += [f"{name}: {o['kind']} {o['sequence']} at {o['step']}" for o in job["open_operations"]]
                still += [f"{name} is {job['observation']}"] if job["observation"] not in ("FRESH", "NOT_FOUND") else []
                still += [f"{name} is being deleted"] if live and "deletionTimestamp" in live["metadata"] else []
        late = self._installation.kubernetes.on_their_way
        still += [f"{late} writes are on their way"] if late else []
        still += self._unread(asking)
        more = f"; and {len(still) - FEW_TOLD} more" if len(still) > FEW_TOLD else ""
        return seen, "; ".join(still[:FEW_TOLD]) + more

    def _unread(self, asking: Asking) -> list[str]:
        """What was acknowledged, and has not ended or is not there."""
        self._read_letters()
        found: dict[str, str] = {}
        for name in self._names:
            status, answer = asking.get(f"/jobs/{name}/operations")
            found |= {each["id"]: each["state"] for each in answer["operations"]} if status == 200 else {}
        still = []
        for ask in self._history.asks:
            state = found.get(operation_id("default", ask.key))
            if state in OPEN:
                still.append(f"{ask.kind} {ask.key} has not ended")
            elif state is None and (ask.acknowledged or (ask.is_sure and ask.key not in self._history.letters)):
                still.append(f"{ask.kind} {ask.key} by {ask.via} is nowhere")
        return still

    def _read_letters(self) -> None:
        for message in self._letters.consume(500, 0.1):
            if not message.error() and message.key():
                self._history.letters.add(message.key().decode())

    def _read(self, asking: Asking) -> None:
        folder = self._installation.folder / "flink"
        self._history.gone = self._of_ours(folder / GONE)
        self._history.wrong = [each["why"] for each in self._of_ours(folder / WRONG)]
        self._history.ran = self._of_ours(folder / RAN)
        self._history.show(self._of_ours(folder / STAGES))
        files = [each for each in (folder / TRUTHS, folder / NATIVE_TRUTHS) if each.exists()]
        truths = {uid: truth for each in files for uid, truth in json.loads(each.read_text())["truths"].items()}
        for name in self._names:
            status, job = asking.get(f"/jobs/{name}")
            if status == 200:
                self._history.jobs[name] = self._at_rest(asking, name, job, truths)
        on_record = {each["id"]: each for job in self._history.jobs.values() for each in job.operations}
        for ask in self._history.asks:
            found = on_record.get(operation_id("default", ask.key))
            if found is not None:
                self._history.by_key[ask.key] = found
                ask.sequence = found["sequence"]

    def _of_ours(self, file: Path) -> list[Any]:
        """The lines of a file that are about this schedule's jobs."""
        lines = file.read_text().splitlines() if file.exists() else []
        return [each for each in map(json.loads, lines) if each["name"] in self._names]

    def _at_rest(self, asking: Asking, name: str, job: Any, truths: Any) -> AtRest:
        live = self._hands.live(name)
        return AtRest(
            job,
            asking.get(f"/jobs/{name}/operations")[1]["operations"],
            asking.get(f"/jobs/{name}/transitions")[1]["transitions"],
            self._savepoints(asking, name),
            live,
            truths.get(live["metadata"]["uid"]) if live else None,
        )

    def _savepoints(self, asking: Asking, name: str) -> list[str]:
        """The states on record; of real Flink's those alone that are there."""
        found = [each["path"] for each in asking.get(f"/jobs/{name}/savepoints", limit=500)[1]["savepoints"]]
        if self._installation.has_real_flink:
            self._history.missing += [each for each in found if "savepoint-" in each and not _is_there(each)]
        return found

    def _tidied(self) -> None:
        """The next schedule is not burdened with what this one has left."""
        names, self._names = self._names, []  # what is tidied up is no part of the history
        for name in names:
            self._hands.deletes(name)


def _is_there(path: str) -> bool:
    return (Path("/" + path.removeprefix("file:").lstrip("/")) / "_metadata").is_file()


@contextmanager
def playing(installation: Installation) -> Iterator[Player]:
    """A player whose connections are closed at the end."""
    player = Player(installation)
    try:
        yield player
    finally:
        player.close()
