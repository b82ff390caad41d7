"""Two releases of Headrace side by side, as while one is rolled out: the former's processes, out of the repository's
history, beside today's on the same Redis, MongoDB and Kubernetes. The test plays the operator.

What today's release writes, the former leaves alone where it cannot read it; and what a release after today's writes,
today's leaves alone and says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from headrace.domain.jobs import JobKey
from headrace.domain.operations import KindName, State
from headrace.errors import Unreadable
from headrace.ports import JobFilter
from local.process import Command, LocalProcess, free_port
from local.servers import http_answers
from tests.integration.conftest import HERE, SCRIPT, Installation, installed
from tests.support import servers, workers
from tests.support.clusters import DEPLOYMENTS, Cluster
from tests.support.missing import missing
from tests.support.patience import wait_for

pytestmark = pytest.mark.timeout(300)

FORMER = "dee03f2"
"""The release before this one, by its commit. It moves on with each release."""

STRANGE = re.compile(r"cannot be read by this release|ValueError in enum\.py.* from_document")
"""What the former release says of a record that a later one has written. Today's says it in one line and in words."""

API_KEY = "a-key-of-twenty-letters-for-a-test"
GRACE_SECONDS = 30.0


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    git = shutil.which("git")
    if git is None:
        missing("git is not on the PATH, and the former release comes out of the repository's history: install it")
    folder = tmp_path_factory.mktemp("former")
    archive = folder.with_suffix(".tar")
    done = subprocess.run([git, "archive", "--output", archive, FORMER], cwd=workers.ROOT, capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        missing(f"the history does not have {FORMER} ({said}): clone the repository whole, or git fetch --unshallow")
    shutil.unpack_archive(archive, folder)
    return folder


@dataclass(frozen=True)
class Release:
    """Processes of one release on an installation's servers. `code` is where it is run from."""

    name: str
    code: Path
    installation: Installation
    processes: dict[str, LocalProcess]

    def start(self) -> None:
        """A worker, Beat and the API."""
        self._starts("worker", "--queues", workers.ALL_QUEUES)
        self._starts("beat")
        self._starts("api")
        wait_for(f"the {self.name} worker", lambda: workers.READY in self._up("worker"))
        wait_for(f"the {self.name} API", lambda: self._up("api") and self.processes["api"].is_ready())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.processes['api'].command.env['HEADRACE_API_PORT']}"

    def log(self, process: str) -> str:
        return self.processes[process].log.read_text(errors="replace")

    def _up(self, process: str) -> str:
        """Its log, where it has not ended."""
        assert self.processes[process].exit_code is None, self.log(process)[-2000:]
        return self.log(process) or "nothing yet"

    def asked(self, verb: str, job_id: str, key: str, body: dict[str, Any]) -> httpx.Response:
        """A request to its API."""
        headers = {"Authorization": f"Bearer {API_KEY}", "Idempotency-Key": key}
        place = "submit" if verb == "submit" else f"{job_id}/{verb}"
        whole = {"job_id": job_id, **body} if verb == "submit" else body
        url = f"{self.url}/api/v1/flink/jobs/{place}"
        return httpx.post(url, json=whole, headers=headers, timeout=60, trust_env=False)

    def end(self) -> None:
        """Asks each to end, and sees that it does within its grace period."""
        for process in self.processes.values():
            process.ask_to_stop()
        for name, process in self.processes.items():
            wait_for(f"the {self.name} {name} to end", lambda p=process: p.exit_code is not None, GRACE_SECONDS)

    def complaints(self) -> list[str]:
        """What it said of what nobody foresaw, or of what it lost."""
        lines = [line for name in self.processes for line in self.log(name).splitlines()]
        return [line for line in lines if re.search(r"\bERROR\b|\bCRITICAL\b|^\w*(Error|Exception)\b", line)]

    def _starts(self, module: str, *arguments: str) -> None:
        key = self.installation.folder / "api-keys"
        key.write_text(f"{API_KEY}\n")
        key.chmod(0o600)
        port = free_port()
        own = {"PYTHONPATH": str(self.code), "HEADRACE_API_PORT": str(port), "HEADRACE_API_KEYS_FILE": str(key)}
        argv = [servers.PYTHON, "-m", module, *arguments]
        env, live = {**self.installation.env, **own}, f"http://127.0.0.1:{port}/livez"
        command = Command(f"{self.name}-{module}", argv, lambda: True, env=env)
        if module == "api":
            command = replace(command, is_ready=lambda: http_answers(live), port=port)
        log = self.installation.folder / f"{command.name}.log"
        self.processes[module] = LocalProcess(command, log, self.code)
        self.processes[module].start()
        self.installation.stack.callback(self.processes[module].stop)


@contextmanager
def operator_at_work(cluster: Cluster) -> Iterator[None]:
    """Each deployment is brought to what its spec says, for as long as the block lasts."""
    is_over = threading.Event()

    def work() -> None:
        assert cluster.http is not None
        while not is_over.wait(0.2):
            for each in cluster.http.get(DEPLOYMENTS).json()["items"]:
                if (each.get("status") or {}).get("observedGeneration") != each["metadata"]["generation"]:
                    with suppress(httpx.HTTPStatusError):  # it was deleted meanwhile
                        cluster.set_status(each["metadata"]["name"], status_of(each))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(30)


def status_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """What an operator shows of it in the end."""
    generation, is_suspended = deployment["metadata"]["generation"], deployment["spec"]["job"]["state"] == "suspended"
    job = {"jobId": "f" * 32, "state": "FINISHED" if is_suspended else "RUNNING"}
    job |= {"startTime": str(int(time.time() * 1000))}
    if is_suspended:
        job["upgradeSavepointPath"] = f"file:///state/{deployment['metadata']['uid']}/{generation}"
    return {
        "observedGeneration": generation,
        "lifecycleState": "SUSPENDED" if is_suspended else "STABLE",
        "jobManagerDeploymentStatus": "MISSING" if is_suspended else "READY",
        "jobStatus": job,
        "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": json.dumps({"spec": deployment["spec"]})},
    }


Ask = tuple[str, dict[str, Any]]

LIFE: tuple[Ask, ...] = (
    ("submit", {"job_config": {"script": SCRIPT}}),
    ("scale", {"parallelism": 2}),
    ("suspend", {}),
    ("resume", {}),
    ("upgrade", {"job_config": {"parallelism": 3}}),
    ("restart", {}),
)
"""What both releases know."""

LATER: tuple[Ask, ...] = (("rollback", {"to": 1}), ("delete", {}))
"""What today's alone knows, one for each of two jobs."""


def accepted(job_id: str, asks: Sequence[Ask], releases: Sequence[Release]) -> None:
    """Asks one after another, each of the next API in turn, and of another one where it has no answer."""
    turns = cycle(releases)
    for verb, body in asks:
        key = f"{job_id}/{verb}"
        answer = wait_for(f"{key} to be taken", partial(taken, turns, verb, job_id, key, body))
        assert answer.status_code in (200, 202), (key, answer.text)


def taken(turns: Iterator[Release], verb: str, job_id: str, key: str, body: dict[str, Any]) -> httpx.Response | None:
    try:
        answer = next(turns).asked(verb, job_id, key, body)
    except httpx.HTTPError:
        return None
    return None if answer.status_code == 503 else answer


@pytest.fixture
def place(
    tmp_path: Path, mongodb_url: str, redis_url: str, clusters: Callable[[str], Cluster]
) -> Iterator[Installation]:
    nobody = f"http://127.0.0.1:{free_port()}/{{namespace}}/{{name}}"
    with installed(tmp_path, mongodb_url, redis_url, clusters("local"), HEADRACE_FLINK_REST_URL=nobody) as made:
        yield made


def test_two_releases_side_by_side_lose_nothing_and_do_nothing_twice(place: Installation, former: Path) -> None:
    since = list(place.cluster.runtime.list_pages("default"))[-1].resource_version
    before, after = (Release(name, code, place, {}) for name, code in (("former", former), ("todays", workers.ROOT)))
    asked: dict[str, list[Ask]] = {}
    with operator_at_work(place.cluster), ThreadPoolExecutor(8) as pool:

        def ask(name: str, asks: Sequence[Ask], *releases: Release) -> Future[None]:
            asked.setdefault(name, []).extend(asks)
            return pool.submit(accepted, name, asks, releases)

        before.start()
        rolled = [ask(f"rolled-{n}", LIFE, before) for n in (0, 1)]
        after.start()
        rolled += [ask(f"rolled-{n}", LIFE, before, after) for n in (2, 3)]
        taken_all(rolled)
        wait_for("versions to go back to", lambda: at_rest(place, asked))
        taken_all([ask(f"rolled-{n}", [LATER[n % 2]], after) for n in range(4)])
        wait_for("what is new to be done beside the former release", lambda: at_rest(place, asked))
        rolled = [ask(f"rolled-{n}", LIFE, before, after) for n in (4, 5, 6)]
        before.end()
        taken_all(rolled)
        wait_for("all of it to end", lambda: at_rest(place, asked), 120)
    for name, asks in asked.items():
        found = place.operations(name)
        ends = [(each.kind, each.state) for each in found]
        assert ends == [(KindName(verb.upper()), State.SUCCEEDED) for verb, _ in asks], [o.reason for o in found]
        assert changes(place.cluster, name, since) == dict.fromkeys(range(1, len(asks) + 1), 1), name
    assert after.complaints() == []
    assert [line for line in before.complaints() if not STRANGE.search(line)] == []


def taken_all(asking: Sequence[Future[None]]) -> None:
    for each in asking:
        each.result()


def at_rest(place: Installation, names: Iterable[str]) -> bool:
    return not any(each.is_open for name in names for each in place.operations(name))


def changes(cluster: Cluster, name: str, since: str) -> dict[int, int]:
    """How many generations of a deployment each sequence made, from the API's own history."""
    seen: dict[tuple[str, int], int] = {}
    for event in cluster.told_since(since):
        metadata = event.deployment.metadata
        if metadata.name == name:
            sequence = int((metadata.annotations or {})["headrace.io/sequence"])
            seen.setdefault((metadata.uid, metadata.generation), sequence)
    return dict(Counter(seen.values()))


@pytest.mark.parametrize("is_placed", [False, True], ids=["in the log", "in its job's document"])
def test_what_a_release_after_this_one_has_written_is_left_to_it(place: Installation, is_placed: bool) -> None:
    services = place.services
    todays, other = (f"of-{whose}-{str(is_placed).lower()}" for whose in ("today", "later"))
    for name in (todays, other):
        services.accept.operation(KindName.SUBMIT, name, SUBMITTED, tenant="default", key=None, source=HERE)
        services.execute.oldest_open_operation(JobKey("default", name))
        place.becomes(name)
    later = asked_by_a_later_release(place, other, is_placed)
    before = later()

    services.redeliver.run()
    services.sync.run(0.1)
    services.waits.run()
    services.prune.run()
    assert [each.state for each in place.operations(todays)] == [State.SUCCEEDED]
    with pytest.raises(Unreadable, match=r"later\S* cannot be read by this release: 'TELEPORT' .* left to the release"):
        services.accept.operation(KindName.STOP, other, {}, tenant="default", key=None, source=HERE)
    if is_placed:
        with pytest.raises(Unreadable, match=f"default/{other} cannot be read"):
            services.execute.oldest_open_operation(JobKey("default", other))
    assert later() == before
    listed = {each.job.job_id for each in services.store.list_jobs("default", JobFilter(), None, 10)}
    assert listed == ({todays} if is_placed else {todays, other})


SUBMITTED = {"job_config": {"script": SCRIPT}}


def asked_by_a_later_release(place: Installation, job_id: str, is_placed: bool) -> Callable[[], Any]:
    """Puts an operation of a kind that nobody knows yet behind a job's first; gives how to read what it rests on: the
    log above the first, and the job's record where that has it too."""
    url, name = place.env["HEADRACE_MONGODB_URL"], place.env["HEADRACE_MONGODB_DATABASE"]
    with MongoClient(url, tz_aware=True) as client:
        [first] = client[name].operations.find({"job_id": job_id})
        strange = {
            **first,
            "_id": "later",
            "id": "later",
            "kind": "TELEPORT",
            "sequence": 2,
            "idempotency_key": "later",
        }
        client[name].operations.insert_one({**strange, "is_open": True, "is_unplaced": not is_placed})
        if is_placed:
            put = {"open_operations": {**strange, "arguments": {}}}
            client[name].jobs.update_one({"job_id": job_id}, {"$push": put, "$set": {"last_sequence": 2}})

    def read() -> Any:
        with MongoClient(url, tz_aware=True) as client:
            log = list(client[name].operations.find({"job_id": job_id, "sequence": {"$gt": 1}}))
            return log, is_placed and client[name].jobs.find_one({"job_id": job_id})

    return read
