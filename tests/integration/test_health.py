"""Our own processes without HTTP, under the very command that their probes run: a server that is away makes them not
ready and nobody starts them again for it; one that is stopped is told within a minute."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.health import LOOP_SECONDS, PROCESSES
from local.process import Command, LocalProcess
from tests.support import servers, workers
from tests.support.clusters import Cluster
from tests.support.patience import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODULES = {
    "worker": ("worker",),
    "sync": ("worker", "--queues", "flink.sync"),
    "beat": ("beat",),
    "consumer": ("consumer",),
    "launcher": ("worker", "--queues", "flink.launches"),
}
WITHIN_SECONDS = 60
"""What is promised of a process that is stopped: the probe's own period and failures included."""

PROBE_SECONDS = 10 + 10 + 5
"""Two failures in periods of ten seconds, and the command's own time (k8s-deploy/base)."""


@dataclass(frozen=True)
class Running:
    """Every process without HTTP, on servers that can be frozen."""

    folder: Path
    processes: dict[str, LocalProcess]
    servers: dict[str, LocalProcess]

    def says(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """What a probe would have."""
        argv = [servers.PYTHON, "-m", "headrace.health", *options, name, "--folder", str(self.folder)]
        return subprocess.run(argv, cwd=workers.ROOT, capture_output=True, text=True, timeout=60, check=False)

    def well(self, *options: str) -> set[str]:
        """The processes of which the command says yes."""
        assert not [each for each in self.processes.values() if each.exit_code is not None]
        return {name for name in self.processes if self.says(name, *options).returncode == 0}


@pytest.fixture
def running(tmp_path: Path, clusters: object) -> Iterator[Running]:
    place: Cluster = clusters("local")  # type: ignore[operator]
    commands = {"mongodb": servers.mongodb(tmp_path), "redis": servers.redis(tmp_path)}
    commands["kafka"] = servers.laptop_kafka(tmp_path)
    with ExitStack() as stack:
        started = {name: stack.enter_context(servers.running(each, tmp_path)) for name, each in commands.items()}
        (tmp_path / "health").mkdir()
        env = {
            "HEADRACE_MONGODB_URL": commands["mongodb"].address,
            "HEADRACE_REDIS_URL": commands["redis"].address,
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": commands["kafka"].address,
            "HEADRACE_KUBECONFIG": str(place.kubeconfig),
            "HEADRACE_HEALTH_FOLDER": str(tmp_path / "health"),
            "FLINK_HOME": str(tmp_path),  # nobody starts a job
        }
        processes = {}
        for name, argv in MODULES.items():
            command = Command(f"our-{name}", [servers.PYTHON, "-m", *argv], lambda: True, env=env)
            processes[name] = stack.enter_context(servers.running(command, tmp_path, workers.ROOT))
        yield Running(tmp_path / "health", processes, started)


def pid_of(process: LocalProcess) -> int:
    assert process.pid is not None
    return process.pid


def test_servers_that_are_away_and_processes_that_are_stopped(running: Running) -> None:
    everyone = set(PROCESSES)
    wait_for("all to be ready", lambda: running.well("--ready") == everyone)
    for server, lost in (("mongodb", {"worker", "sync", "consumer"}), ("redis", {"worker", "sync", "beat"})):
        with servers.frozen(pid_of(running.servers[server])):
            wait_for(f"all that need {server} to be unready", lambda lost=lost: not running.well("--ready") & lost)
            until = time.monotonic() + 2 * LOOP_SECONDS
            while time.monotonic() < until:
                assert running.well() == everyone, f"with {server} away"
                time.sleep(2)
        until = time.monotonic() + 3 * LOOP_SECONDS
        while time.monotonic() < until:
            assert running.well() == everyone, f"with {server} back"
            time.sleep(2)
        wait_for(f"all to be ready after {server}", lambda: running.well("--ready") == everyone)
    with servers.frozen(pid_of(running.servers["kafka"])):
        wait_for("the consumer to be unready", lambda: "consumer" not in running.well("--ready"))
        until = time.monotonic() + LOOP_SECONDS
        while time.monotonic() < until:
            assert running.well() == everyone, "with Kafka away"
            time.sleep(2)
    with ExitStack() as stack:
        stopped_at = time.monotonic()
        for process in running.processes.values():
            stack.enter_context(servers.frozen(pid_of(process)))
        wait_for("each to be told", lambda: not running.well(), LOOP_SECONDS + 5)
        assert time.monotonic() - stopped_at < WITHIN_SECONDS - PROBE_SECONDS + 5
    assert "30 s are allowed" in running.says("worker").stderr or running.well()
    wait_for("all to go on", lambda: running.well() == everyone)


def test_without_redis_a_worker_and_beat_wait_and_are_well(tmp_path: Path, mongodb_url: str, clusters: object) -> None:
    place: Cluster = clusters("local")  # type: ignore[operator]
    away = servers.redis(tmp_path)  # its port, and nobody there
    env = {
        "HEADRACE_MONGODB_URL": mongodb_url,
        "HEADRACE_REDIS_URL": away.address,
        "HEADRACE_KUBECONFIG": str(place.kubeconfig),
        "HEADRACE_HEALTH_FOLDER": str(tmp_path),
    }
    with ExitStack() as stack:
        processes = {}
        for name in ("worker", "beat"):
            command = Command(f"our-{name}", [servers.PYTHON, "-m", *MODULES[name]], lambda: True, env=env)
            processes[name] = stack.enter_context(servers.running(command, tmp_path, workers.ROOT))
        both = Running(tmp_path, processes, {})
        wait_for("both to be well", lambda: both.well() == {"worker", "beat"})
        until = time.monotonic() + 2 * LOOP_SECONDS  # pauses between tries have become long by then
        while time.monotonic() < until:
            assert both.well() == {"worker", "beat"}
            assert not both.well("--ready")
            time.sleep(3)
