"""/metrics of every process as it runs: right after a job's life, and answered while MongoDB and Redis are frozen."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from headrace.domain.operations import KindName, State
from local.process import Command, LocalProcess, answers, free_port
from tests.integration.conftest import SCRIPT, Installation, installed
from tests.integration.test_worker import ended, has, parallelism, state
from tests.support import servers, workers
from tests.support.asking import answered
from tests.support.clusters import Cluster
from tests.support.metered import Page, scraped
from tests.support.patience import wait_for

pytestmark = pytest.mark.timeout(400)

PROCESSES = {
    "worker": ["worker", "--queues", "flink.operations,flink.executions"],
    "sync": ["worker", "--queues", "flink.sync"],
    "beat": ["beat"],
    "consumer": ["consumer"],
}
BOTH = ("worker", "sync")
"""Those that end operations."""
KEY = "a-key-of-many-different-characters"
SCRAPE_SECONDS = 10.0
"""Prometheus' own patience."""


@dataclass(frozen=True)
class Running:
    """An installation whose processes are all up, and the servers that they need, but for Kafka."""

    installation: Installation
    api: str
    pages: Mapping[str, str]
    mongodb: LocalProcess
    redis: LocalProcess
    sent: list[str] = field(default_factory=list)
    """The key of each request, as often as it was sent."""

    def page(self, process: str) -> Page:
        return scraped(self.pages[process], SCRAPE_SECONDS)

    def ask(self, path: str, **body: object) -> None:
        """A request that is accepted."""
        url = f"{self.api}/api/v1/flink{path}"

        def sent(key: str) -> httpx.Response:
            self.sent.append(key)
            headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": key}
            return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)

        answer = answered(sent)
        assert answer.status_code == 202, answer.text

    def comes_to(self, process: str, number: float, name: str, /, **labels: str) -> None:
        """The number, once a look at the store has brought it."""
        wait_for(f"{name} of {process} to be {number}", lambda: self.page(process).value(name, **labels) == number)

    def comes_over(self, process: str, number: float, name: str, /, **labels: str) -> None:
        """More than the number, once what the process does by itself, from time to time, has brought it."""
        wait_for(f"{name} of {process} over {number}", lambda: (self.page(process).value(name, **labels) or 0) > number)

    def counts(self, kind: str) -> None:
        """One operation of the kind has succeeded, in one process: it is counted after it is on record."""
        wait_for(f"one {kind} to be counted", lambda: self.succeeded(kind) == [1])

    def succeeded(self, kind: str) -> list[float]:
        name, labels = "headrace_operations_total", {"kind": kind, "state": "SUCCEEDED"}
        return [value for each in BOTH if (value := self.page(each).value(name, **labels))]


@pytest.fixture
def running(tmp_path: Path, clusters: Callable[[str], Cluster]) -> Iterator[Running]:
    with ExitStack() as stack:
        commands = servers.mongodb(tmp_path), servers.redis(tmp_path)
        mongodb, redis = (stack.enter_context(servers.running(each, tmp_path)) for each in commands)
        place, addresses = clusters("local"), [each.address for each in commands]
        made = installed(tmp_path, addresses[0], addresses[1], place, **ours(tmp_path))
        installation = stack.enter_context(made)
        ports = {name: str(free_port()) for name in PROCESSES}
        pages = {name: f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}
        api = f"http://127.0.0.1:{installation.env['HEADRACE_API_PORT']}"
        pages["api"] = f"{api}/metrics"
        envs = {name: {**installation.env, "HEADRACE_METRICS_PORT": port} for name, port in ports.items()}
        started = {name: start(stack, name, argv, envs[name], tmp_path) for name, argv in PROCESSES.items()}
        started["api"] = start(stack, "api", ["api"], installation.env, tmp_path)
        for name, process in started.items():
            wait_for(f"{name} to answer", partial(is_served, process, pages[name]), 120)
        yield Running(installation, api, pages, mongodb, redis)


def ours(folder: Path) -> dict[str, str]:
    keys = folder / "api-keys"
    keys.write_text(KEY)
    keys.chmod(0o600)
    return {
        "HEADRACE_API_PORT": str(free_port()),
        "HEADRACE_API_KEYS_FILE": str(keys),
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "HEADRACE_KAFKA_TIMEOUT_SECONDS": "1",
        "HEADRACE_MONGODB_TIMEOUT_SECONDS": "5",
    }


def start(stack: ExitStack, name: str, argv: list[str], env: Mapping[str, str], folder: Path) -> LocalProcess:
    command = Command(name, [servers.PYTHON, "-m", *argv], lambda: True, env=env)
    process = LocalProcess(command, folder / f"{name}.log", workers.ROOT)
    process.start()
    stack.callback(process.stop)
    return process


def is_served(process: LocalProcess, url: str) -> bool:
    assert process.exit_code is None, process.log_tail()
    try:
        return httpx.get(url, timeout=1, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def lives_and_stops(running: Running, name: str) -> None:
    """A SUBMIT, a SCALE and a STOP by HTTP, the test in the operator's place."""
    installation = running.installation
    running.ask("/jobs/submit", job_id=name, job_config={"script": SCRIPT})
    wait_for("the deployment", lambda: has(installation, name))
    installation.becomes(name)
    wait_for("the SUBMIT to end", lambda: ended(installation, name, KindName.SUBMIT) is State.SUCCEEDED)
    running.ask(f"/jobs/{name}/scale", parallelism=2)
    wait_for("the SCALE to be written", lambda: parallelism(installation, name) == 2)
    installation.becomes(name)
    wait_for("the SCALE to end", lambda: ended(installation, name, KindName.SCALE) is State.SUCCEEDED)
    running.ask(f"/jobs/{name}/stop")
    wait_for("the suspend to be written", lambda: state(installation, name) == "suspended")
    kept = {"state": "FINISHED", "upgradeSavepointPath": "file:///s/savepoint-1"}
    installation.becomes(name, lifecycleState="SUSPENDED", job=kept)
    wait_for("the STOP to end", lambda: ended(installation, name, KindName.STOP) is State.SUCCEEDED)


def test_the_numbers_are_right_after_a_jobs_life_and_every_page_is_answered_in_an_outage(running: Running) -> None:
    lives_and_stops(running, "metered")
    for kind in ("SUBMIT", "SCALE", "STOP"):
        assert running.page("api").value("headrace_accepted_total", kind=kind, via="http") == 1
        running.counts(kind)
    assert [running.page(each).value("headrace_operations_total", state="FAILED") for each in BOTH] == [0, 0]
    begun = running.page("worker").value("headrace_operation_step_seconds_count", kind="SUBMIT", step="BEGIN")
    assert begun == 1
    assert running.page("api").value("headrace_accept_seconds_count", via="http") == len(running.sent)
    running.comes_over("sync", time.time() - 60, "headrace_watch_heard_timestamp_seconds")
    running.comes_over("beat", 0, "headrace_beat_sent_total", name="flink.redeliver")
    running.comes_over("sync", 0, "headrace_tasks_total", name="flink.sync_status", outcome="done")
    running.comes_over("consumer", 0, "headrace_server_errors_total", server="kafka")

    running.comes_to("api", 1, "headrace_jobs", phase="CANCELLED")
    running.comes_to("api", 0, "headrace_open_operations")
    running.comes_to("api", 1, "headrace_store_up")
    running.comes_to("api", 1, "headrace_redis_up")
    running.comes_over("api", time.time() - 120, "headrace_synced_timestamp_seconds")
    running.comes_over("api", 0, "headrace_lease_turns_total", lease="redeliver")
    queues = {*("flink.operations", "flink.executions", "flink.launches", "flink.sync")}
    wait_for("each queue's length", lambda: running.page("api").labels("headrace_queue_length", "queue") == queues)

    assert running.mongodb.pid is not None
    assert running.redis.pid is not None
    with servers.frozen(running.mongodb.pid), servers.frozen(running.redis.pid):
        wait_for("the store to be away", lambda: running.page("api").value("headrace_store_up") == 0)
        wait_for("Redis to be away", lambda: running.page("api").value("headrace_redis_up") == 0)
        for process in running.pages:
            begun_at = time.monotonic()
            told = running.page(process)
            assert time.monotonic() - begun_at < SCRAPE_SECONDS
            assert "process_cpu_seconds_total" in told.names, process
        assert "headrace_jobs" not in running.page("api").names
    running.comes_to("api", 1, "headrace_store_up")
    running.comes_to("api", 1, "headrace_redis_up")
    running.comes_to("api", 1, "headrace_jobs", phase="CANCELLED")


def test_a_port_that_is_taken_ends_each_process_with_one_line(
    tmp_path: Path, clusters: Callable[[str], Cluster]
) -> None:
    port, folder = free_port(), tmp_path / "taken"
    env = {
        "PYTHONPATH": str(workers.ROOT),
        "HEADRACE_KUBECONFIG": str(clusters("local").kubeconfig),
        "HEADRACE_METRICS_PORT": str(port),
    }
    taken = Command("taken", [servers.PYTHON, "-m", "http.server", str(port), "--bind", "127.0.0.1"], lambda: True)
    with servers.running(taken, folder):
        wait_for("the port to be taken", partial(answers, port))
        for argv in PROCESSES.values():
            command = [servers.PYTHON, "-m", *argv]
            done = subprocess.run(command, env=env, cwd=workers.ROOT, capture_output=True, text=True, timeout=240)
            assert done.returncode == 1
            assert done.stderr.strip().count("\n") == 0, done.stderr
            assert f"HEADRACE_METRICS_PORT: /metrics cannot be served on port {port}" in done.stderr
