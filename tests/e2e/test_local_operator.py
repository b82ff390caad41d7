"""The local operator is held to the recordings of a real one: a recorded scenario again, step by step the same.

It runs alone, under a small Kubernetes API, and with two scenarios under a real one: what the operator asks of either
is the same. Names, the delays between writes and the moments at which the
operator and a JobManager are frozen are drawn by chance; HEADRACE_TEST_SEED repeats a draw (but not the machine's own
timing). All scenarios share one operator, three at a time: a Flink cluster costs some ten seconds of a processor.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headrace.domain.job_requests import parse_request
from headrace.domain.jobs import LEGAL_NAME, Job
from headrace.domain.manifest import Platform, Stamp, render
from headrace.domain.policy import Policy
from headrace.domain.vertices import OVERRIDES_KEY
from tests.e2e.operator_alone import (
    CORE,
    SNAPSHOTS,
    Api,
    Resource,
    await_status,
    frozen_now_and_then,
    running_api,
    running_operator,
)
from tests.support import servers
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.recorded import (
    OPTIONAL,
    Look,
    events_told,
    looks_of,
    recorded_events,
    recorded_snapshots,
    recorded_versions,
    shape_of_snapshot,
)
from tests.support.stack import DEPLOYMENTS, ROOT, processes_of

pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.randrange(2**32))
COUNTING = (ROOT / "examples" / "counting_job.py").read_text()
BATCH = """
from pyflink.table import EnvironmentSettings, TableEnvironment

tables = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
tables.execute_sql("CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '100')")
tables.execute_sql("CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole')")
tables.execute_sql("INSERT INTO nowhere SELECT n FROM numbers").wait()
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Play:
    """One scenario being played: a deployment of a name drawn by chance, and the writes to it."""

    api: Api
    folder: Path
    chance: random.Random
    name: str
    missing_url: str

    def manifest(self, script: str = COUNTING, url: str | None = None, start_from: str | None = None) -> Resource:
        """What Headrace would write for a Python script, from a file or from a URL."""
        file = {"name": "job.py", "content": script, "sha256": hashlib.sha256(script.encode()).hexdigest()}
        job = Job(
            tenant="default",
            job_id=self.name,
            cluster="default",
            namespace="default",
            deployment_name=self.name,
            created_at=NOW,
            updated_at=NOW,
        )
        request = parse_request({"script": url or file})
        return render(job, request, self._platform(), Stamp(1, "operation-1", 1), start_from=start_from)

    def apply(self, manifest: Resource, script: str = COUNTING) -> None:
        """Creates the deployment, and its script's ConfigMap before it where it has one."""
        for volume in manifest["spec"]["jobManager"]["podTemplate"]["spec"]["volumes"]:
            if "configMap" in volume:
                name = volume["configMap"]["name"]
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"job.py": script}}
                self.api.create(f"{CORE}/configmaps", body, may_exist=True)
        self.api.create(DEPLOYMENTS, manifest)

    def pause(self) -> None:
        """The time that a user takes between two writes; it is part of the scenario."""
        time.sleep(self.chance.uniform(0, 3))

    def until(self, lifecycle: str, job: str | None, run: int = 0, generation: int = 1) -> Resource:
        def is_there(status: Resource) -> bool:
            seen = (status.get("lifecycleState"), status.get("jobStatus", {}).get("state"))
            return seen == (lifecycle, job) and (status.get("observedGeneration") or 0) >= generation

        return await_status(self.api, self.name, is_there, f"{lifecycle} with its job {job}", run)

    def until_error(self, times: int = 1) -> None:
        """Until an error has come up so many times."""

        def has_come_up() -> bool:
            errors = [look.error for look in looks_of(self.api.versions(self.name))]
            return sum(1 for error in errors if error) >= times

        wait_for(f"{times} errors of {self.name}", has_come_up, 90)

    def has_printed(self, component: str, words: str, **query: str) -> None:
        """Until a pod's log has these words, where the API has logs."""

        def is_there() -> bool:
            pods = [p for p in self.api.pods(self.name) if p["metadata"]["labels"]["component"] == component]
            logs = [self.api.log(pod["metadata"]["name"], **query) for pod in pods]
            return any(log is None or words in log for log in logs)

        wait_for(f"{words} in the log of {self.name}", is_there, 30)

    def vertices(self) -> dict[str, int]:
        """The parallelism of each vertex, as its JobManager says it now."""
        [settings] = self.folder.glob(f"flink/{self.name}-*/conf/config.yaml")
        port = yaml.safe_load(settings.read_text())["rest.port"]
        base = f"http://127.0.0.1:{port}/jobs"
        [job] = httpx.get(base, timeout=REQUEST_SECONDS, trust_env=False).json()["jobs"]
        found = httpx.get(f"{base}/{job['id']}", timeout=REQUEST_SECONDS, trust_env=False).json()["vertices"]
        return {str(vertex["id"]): int(vertex["parallelism"]) for vertex in found}

    def delete(self) -> None:
        """Deletes the deployment; it takes the pods and processes with it."""
        self.pause()
        self.api.delete(self.name)
        wait_for(f"{self.name} to be gone", lambda: not self.api.exists(self.name), 60)
        assert self.api.pods(self.name) == []
        assert [line for line in processes_of(self.folder / "flink") if f"headrace.process={self.name}/" in line] == []

    def _platform(self) -> Platform:
        state = self.folder / "state"
        return Platform(
            image="headrace/flink:2.2.1",
            flink_version="v2_2",
            state_location=f"file://{state}",
            state_volume=f"hostPath:{state}",
            service_account="flink",
            policy=Policy(hosts=("127.0.0.1",)),
            max_artifact_bytes=1_000_000,
        )


def start_from_of(manifest: Resource) -> str | None:
    path: str | None = manifest["spec"]["job"].get("initialSavepointPath")
    return path


def savepoint_of(version: Resource) -> str:
    return str(version["status"]["jobStatus"]["upgradeSavepointPath"])


# The scenarios: the writes of the recording of the same name


def stop_and_second_run(play: Play) -> None:
    play.apply(play.manifest())
    a_frozen_jobmanager_holds_the_sequence(play)
    play.until("STABLE", "RUNNING")
    play.pause()
    play.api.patch_job(play.name, state="suspended")
    path = savepoint_of(play.until("SUSPENDED", "FINISHED", generation=2))
    play.has_printed("jobmanager", "Starting StandaloneApplicationClusterEntryPoint")
    assert (Path(re.sub("^file:/*", "/", path)) / "_metadata").is_file()
    play.delete()
    play.apply(play.manifest(start_from=path))
    play.until("STABLE", "RUNNING", run=1)
    play.delete()


def a_frozen_jobmanager_holds_the_sequence(play: Play) -> None:
    """Nothing but the JobManager itself moves the status on, so while it is frozen nothing does."""

    def pid() -> int | None:
        managers = [p for p in play.api.pods(play.name) if p["metadata"]["labels"]["component"] == "jobmanager"]
        pids = [(each["metadata"].get("annotations") or {}).get("local.headrace.io/pid") for each in managers]
        return next((int(pid) for pid in pids if pid is not None), None)  # none before its container was started

    found: int = wait_for(f"the JobManager of {play.name}", pid)
    time.sleep(play.chance.uniform(0, 6))
    with servers.frozen(found):
        a_look_has_begun(play)  # what the looks before it had asked is written by then
        before = looks_of(play.api.versions(play.name))
        time.sleep(2)
        assert looks_of(play.api.versions(play.name)) == before


def a_look_has_begun(play: Play) -> None:
    """Until the operator has begun another look: its finalizer is the first that it sees to in one."""
    path = f"{DEPLOYMENTS}/{play.name}"
    play.api.patch_at(path, {"metadata": {"finalizers": None}})
    wait_for("the operator to look", lambda: play.api.get(path)["metadata"].get("finalizers"))


def change_of_parallelism(play: Play) -> None:
    play.apply(play.manifest())
    play.until("STABLE", "RUNNING")
    play.pause()
    play.api.patch_job(play.name, parallelism=2)
    play.until("STABLE", "RUNNING", generation=2)
    assert len(play.api.pods(play.name)) == 3
    play.delete()


def rescale_in_place(play: Play) -> None:
    manifest = play.manifest()
    manifest["spec"]["flinkConfiguration"]["jobmanager.scheduler"] = "adaptive"
    play.apply(manifest)
    play.until("STABLE", "RUNNING")
    vertices = play.vertices()
    for generation, count in ((2, 2), (3, 1)):
        play.pause()
        text = ",".join(f"{vertex}:{count}" for vertex in vertices)
        settings = {**manifest["spec"]["flinkConfiguration"], OVERRIDES_KEY: text}
        play.api.patch_spec(play.name, flinkConfiguration=settings)
        play.until("STABLE", "RUNNING", generation=generation)
        wait_for(f"{play.name} to run at {count}", lambda c=count: set(play.vertices().values()) == {c}, 60)  # type: ignore[misc]
    play.delete()


def script_missing(play: Play) -> None:
    manifest = play.manifest()
    arguments = manifest["spec"]["job"]["args"]
    arguments[arguments.index("-py") + 1] = "/opt/headrace/none.py"
    play.apply(manifest)
    play.until("FAILED", "FAILED")
    play.has_printed("jobmanager", "none.py")
    play.delete()


def main_class_missing(play: Play) -> None:
    manifest = play.manifest()
    manifest["spec"]["job"] |= {"entryClass": "com.example.None", "args": ["none"]}
    play.apply(manifest)
    play.until_error()
    tries_again = lambda status: status.get("jobManagerDeploymentStatus") == "DEPLOYING" and "error" in status  # noqa: E731
    await_status(play.api, play.name, tries_again, "DEPLOYING again")
    play.has_printed("jobmanager", "com.example.None")
    play.delete()


def init_container_fails(play: Play) -> None:
    play.apply(play.manifest(url=play.missing_url))
    play.until_error()
    play.has_printed("jobmanager", "answered 404", container="fetch")
    play.delete()


def savepoint_directory_unwritable(play: Play) -> None:
    manifest = play.manifest()
    # Flink's words for the failure are those of the scheduler, so here it is the recorded one.
    manifest["spec"]["flinkConfiguration"] |= {
        "execution.checkpointing.savepoint-dir": "file:///proc/nope",
        "jobmanager.scheduler": "adaptive",
    }
    play.apply(manifest)
    play.until("STABLE", "RUNNING")
    play.pause()
    play.api.patch_job(play.name, state="suspended")
    play.until_error(times=2)
    play.delete()


def invalid_parallelism(play: Play) -> None:
    manifest = play.manifest()
    manifest["spec"]["job"]["parallelism"] = 0
    play.apply(manifest)
    play.until_error()
    play.delete()


def batch_finishes(play: Play) -> None:
    play.apply(play.manifest(BATCH), BATCH)
    play.until("STABLE", "FINISHED")
    play.delete()


SCENARIOS: tuple[Callable[[Play], None], ...] = (
    stop_and_second_run,
    change_of_parallelism,
    savepoint_directory_unwritable,
    batch_finishes,
    rescale_in_place,
    script_missing,
    main_class_missing,
    init_container_fails,
    invalid_parallelism,
)


OF_A_REAL_API: tuple[Callable[[Play], None], ...] = (stop_and_second_run, invalid_parallelism)
"""What a real API may tell apart: creates, patches, statuses, pods, snapshots and deletions, and a spec that is taken
and then refused."""

REAL = pytest.param("real", marks=pytest.mark.slow)
small = pytest.mark.parametrize("plays", ["small"], indirect=True, scope="module")
small_and_real = pytest.mark.parametrize("plays", ["small", REAL], indirect=True, scope="module")


class Plays:
    """Every scenario, started at once and under way; a test waits for the one that it looks at."""

    def __init__(self, api: Api, plays: dict[str, tuple[Play, Future[None]]]) -> None:
        self.api = api
        self._plays = plays

    def ended(self, scenario: Callable[[Play], None]) -> str:
        """The name of the scenario's deployment, once it has been played to its end."""
        play, future = self._plays[scenario.__name__]
        future.result()
        return play.name


@pytest.fixture(scope="module")
def plays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plays]:
    folder, chance = tmp_path_factory.mktemp(request.param), random.Random(f"{SEED} {request.param}")
    (folder / "state").mkdir()
    with (
        running_api(request.param, folder / "kubernetes") as api,
        answers_404() as missing_url,
        running_operator(api, folder / "flink", folder / "operator.log") as operator,
        frozen_now_and_then(operator.pid, random.Random(chance.random())),
        ThreadPoolExecutor(3) as pool,
    ):
        started = {}
        for scenario in SCENARIOS if request.param == "small" else OF_A_REAL_API:
            play = Play(api, folder, random.Random(chance.random()), legal_name(chance), missing_url)
            started[scenario.__name__] = play, pool.submit(scenario, play)
        yield Plays(api, started)
    assert processes_of(folder / "flink") == [], "processes outlived the operator"


def legal_name(chance: random.Random) -> str:
    """A deployment's name of 6 to 45 characters (fewer would meet)."""
    letters, others = string.ascii_lowercase, string.ascii_lowercase + string.digits
    middle = "".join(chance.choices(others + "-", k=chance.randint(4, 43)))
    name = chance.choice(letters) + middle + chance.choice(others)
    assert LEGAL_NAME.fullmatch(name)
    return name


@contextmanager
def answers_404() -> Iterator[str]:
    """The URL of a script on a server that has none."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/job.py"
        server.shutdown()


@pytest.fixture(autouse=True)
def _seed_is_shown() -> None:
    print(f"HEADRACE_TEST_SEED={SEED}")


# What is shown


@small_and_real
def test_a_first_deployment(plays: Plays) -> None:
    name = plays.ended(stop_and_second_run)
    seen, recorded = plays.api.versions(name), recorded_versions("stop-and-second-run")
    assert looks_of(of_generations(seen, 1)) == looks_of(of_generations(recorded, 1))


@small_and_real
def test_a_suspend_with_savepoint_and_a_delete(plays: Plays) -> None:
    name = plays.ended(stop_and_second_run)
    assert looks_of(plays.api.versions(name)) == looks_of(recorded_versions("stop-and-second-run"))


@small_and_real
def test_a_start_from_a_savepoint(plays: Plays) -> None:
    name = plays.ended(stop_and_second_run)
    seen, recorded = plays.api.versions(name, run=1), recorded_versions("stop-and-second-run", run=1)
    assert looks_of(seen) == looks_of(recorded)
    first = next(version for version in seen if version.get("status"))
    assert savepoint_of(first) == start_from_of(first)


@small
def test_a_change_of_parallelism(plays: Plays) -> None:
    name = plays.ended(change_of_parallelism)
    recorded = recorded_versions("rescale-rollback-and-missing-jobmanager")
    # The recording goes on with other changes, this scenario with its deletion: both are generation 3.
    seen = of_generations(plays.api.versions(name), 2)
    assert looks_of(seen) == looks_of(of_generations(recorded, 2))


@small
def test_a_rescale_in_place(plays: Plays) -> None:
    name = plays.ended(rescale_in_place)
    recorded = recorded_versions("in-place-rescale-and-unschedulable")
    # The recording goes on with a redeploy, this scenario with its deletion: both are generation 4.
    seen, recorded = of_generations(plays.api.versions(name), 3), of_generations(recorded, 3)
    assert while_rescaling(seen) == while_rescaling(recorded)


def while_rescaling(versions: list[Resource]) -> list[Look]:
    """The looks, where a job that just rescales counts as one that runs: the recorded operator looks every 15 s, and
    missed that it did."""
    looks = [
        look._replace(job="RUNNING") if look.job in RESCALING and (look.observed_generation or 0) > 1 else look
        for look in looks_of(versions, optional=())
        if look.job not in OPTIONAL or (look.observed_generation or 0) > 1
    ]
    return [look for n, look in enumerate(looks) if n == 0 or looks[n - 1] != look]


RESCALING = ("RESTARTING", "CREATED", "INITIALIZING")


@small
def test_a_missing_script(plays: Plays) -> None:
    name = plays.ended(script_missing)
    assert looks_of(plays.api.versions(name)) == looks_of(recorded_versions("script-missing"))


@small
def test_a_missing_main_class(plays: Plays) -> None:
    name = plays.ended(main_class_missing)
    recorded = looks_of(recorded_versions("main-class-missing"))
    # It is tried until the user gives up: once more when it was recorded.
    assert looks_of(plays.api.versions(name))[: len(recorded)] == recorded


@small
def test_an_init_container_that_fails(plays: Plays) -> None:
    name = plays.ended(init_container_fails)
    assert looks_of(plays.api.versions(name)) == looks_of(recorded_versions("init-container-fails"))


@small
def test_an_unwritable_savepoint_directory(plays: Plays) -> None:
    name = plays.ended(savepoint_directory_unwritable)
    recorded = looks_of(recorded_versions("savepoint-directory-unwritable"))
    # It is tried until the user gives up: four times when it was recorded, here twice, or more where the user is slow.
    seen = looks_of(plays.api.versions(name))
    assert seen == recorded[: max(len(seen), len(until_second_error(recorded)))]


@small_and_real
def test_an_invalid_parallelism(plays: Plays) -> None:
    name = plays.ended(invalid_parallelism)
    assert looks_of(plays.api.versions(name)) == looks_of(recorded_versions("invalid-parallelism"))


@small
def test_a_batch_that_finishes(plays: Plays) -> None:
    name = plays.ended(batch_finishes)
    # Whether a bounded job is seen RUNNING depends on when one looks: the recorded operator looked every 15 s.
    passing = (*OPTIONAL, "RUNNING")
    assert looks_of(plays.api.versions(name), passing) == looks_of(recorded_versions("batch-finishes"), passing)


@small_and_real
def test_a_suspend_with_savepoint_leaves_a_snapshot(plays: Plays) -> None:
    each_savepoint_left_a_snapshot(plays, stop_and_second_run, "stop-and-second-run")


@small
def test_an_upgrade_leaves_a_snapshot(plays: Plays) -> None:
    each_savepoint_left_a_snapshot(plays, change_of_parallelism, "rescale-rollback-and-missing-jobmanager")


def each_savepoint_left_a_snapshot(plays: Plays, scenario: Callable[[Play], None], recording: str) -> None:
    name = plays.ended(scenario)
    seen, recorded = plays.api.snapshots(name), recorded_snapshots(recording)
    deployment = recorded[0]["spec"]["jobReference"]["name"]
    assert [shape_of_snapshot(s, name) for s in seen] == [shape_of_snapshot(recorded[0], deployment)]
    paths = {path for version in plays.api.versions(name) if (path := path_of(version))}
    assert [each["status"]["path"] for each in seen] == list(paths)
    assert seen[0]["metadata"]["name"] in [s["metadata"]["name"] for s in plays.api.get(SNAPSHOTS)["items"]]


@small
@pytest.mark.parametrize(
    "scenario",
    [script_missing, main_class_missing, init_container_fails, savepoint_directory_unwritable, invalid_parallelism],
)
def test_what_saved_nothing_leaves_no_snapshot(plays: Plays, scenario: Callable[[Play], None]) -> None:
    assert plays.api.snapshots(plays.ended(scenario)) == []


@small_and_real
def test_events_of_a_stop_and_a_second_run_tell_what_the_recorded_ones_tell(plays: Plays) -> None:
    events_tell_what_the_recorded_ones_tell(plays, stop_and_second_run, "stop-and-second-run")


@small
@pytest.mark.parametrize(
    ("scenario", "recording"),
    [
        (savepoint_directory_unwritable, "savepoint-directory-unwritable"),
        (batch_finishes, "batch-finishes"),
        (script_missing, "script-missing"),
        (main_class_missing, "main-class-missing"),
        (init_container_fails, "init-container-fails"),
        (invalid_parallelism, "invalid-parallelism"),
    ],
)
def test_events_of_a_failure_tell_what_the_recorded_ones_tell(
    plays: Plays, scenario: Callable[[Play], None], recording: str
) -> None:
    events_tell_what_the_recorded_ones_tell(plays, scenario, recording)


def events_tell_what_the_recorded_ones_tell(plays: Plays, scenario: Callable[[Play], None], recording: str) -> None:
    """But for a job that was looked for before its program had given it to the JobManager, as on a slow machine."""
    name, recorded = plays.ended(scenario), recorded_events(recording)

    def told() -> set[tuple[str, str, str]]:
        return events_told(plays.api.events(name)) - (LOOKED_FOR_EARLY - recorded)

    wait_for(f"the events of {name} to be {recorded}, not {told()}", lambda: told() == recorded, 10)


@small
def test_what_is_told_twice_is_counted(plays: Plays) -> None:
    name = plays.ended(savepoint_directory_unwritable)

    def counted() -> dict[str, int]:
        """Once the second failure is told of, which may be after its status was shown."""
        counts = {event["reason"]: event["count"] for event in plays.api.events(name)}
        return counts if counts.get("SavepointError", 0) >= 2 else {}

    counts: dict[str, int] = wait_for("each failure to be counted", counted)
    assert counts["Suspended"] >= counts["SavepointError"]
    assert counts["SpecChanged"] == counts["Submit"] == 1


LOOKED_FOR_EARLY = {("Warning", "Missing", "Job")}


def of_generations(versions: list[Resource], last: int) -> list[Resource]:
    return [version for version in versions if version["metadata"]["generation"] <= last]


def until_second_error(looks: list[Look]) -> list[Look]:
    second = [index for index, look in enumerate(looks) if look.error][1]
    return looks[: second + 1]


def path_of(version: Resource) -> str | None:
    path: str | None = version.get("status", {}).get("jobStatus", {}).get("upgradeSavepointPath")
    return path
