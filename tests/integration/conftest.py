"""Real servers that the integration tests share: started once for all of them, a database of its own for each test."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from pytest_celery import CeleryTestWorker

from headrace import bootstrap
from headrace.adapters.mongo import connect
from headrace.bootstrap import Services
from headrace.domain.jobs import Job, JobKey
from headrace.domain.operations import Operation, Source
from headrace.ports import JobFilter
from headrace.settings import Settings
from local.process import Command, LocalProcess
from tests.support import servers, workers
from tests.support.clusters import Cluster, cluster
from tests.support.patience import wait_for

SCRIPT = {"name": "job.py", "content": "print(1)\n"}
HERE = Source(via="http")
PERIODS = {
    "HEADRACE_SYNC_PERIOD_SECONDS": "1",
    "HEADRACE_REDELIVER_PERIOD_SECONDS": "2",
    "HEADRACE_OPERATION_DEADLINE_SECONDS": "3600",
    "HEADRACE_MONGODB_TIMEOUT_SECONDS": "20",
}
"""Shorter periods, so that what comes in minutes comes in seconds; and a bound that a MongoDB keeps to, on a disk which
others use too."""


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mongodb")
    command = servers.mongodb(folder)
    with servers.running(command, folder):
        yield command.address


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    command = servers.redis(tmp_path)
    with servers.running(command, tmp_path):
        yield command.address


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """Clusters by their kind, each started when a test first asks for it."""
    running: dict[str, Cluster] = {}
    with ExitStack() as stack:

        def find(kind: str) -> Cluster:
            if kind not in running:
                running[kind] = stack.enter_context(cluster(kind, tmp_path_factory.mktemp(kind)))
            return running[kind]

        yield find


@dataclass(frozen=True)
class Frozen:
    """A process that freezes by itself."""

    process: LocalProcess

    def is_frozen(self) -> bool:
        assert self.process.exit_code is None, self.process.log_tail()
        return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def has_ended(self) -> bool:
        return self.process.exit_code == 0


@dataclass(frozen=True)
class Installation:
    """Headrace's servers, with services of this process over them, and its own processes on demand."""

    folder: Path
    env: dict[str, str]
    cluster: Cluster
    services: Services
    celery: Celery
    stack: ExitStack

    def worker(self, queues: str = workers.ALL_QUEUES, **env: str) -> CeleryTestWorker:
        """A worker process that is ready."""
        node = self.starting_worker(queues, **env)
        wait_for("the worker to be ready", node.ready)
        return node

    def starting_worker(self, queues: str = workers.ALL_QUEUES, **env: str) -> CeleryTestWorker:
        """A worker process that has just been started."""
        node = workers.worker(self.folder, self.env | env, self.celery, queues)
        self.stack.callback(node.teardown)
        return node

    def beat(self) -> None:
        """Beat, until the end of the test."""
        command = Command("beat", [servers.PYTHON, "-m", "beat"], lambda: True, env=self.env)
        self.stack.enter_context(servers.running(command, self.folder, workers.ROOT))

    def freezing_worker(self, job_id: str) -> Frozen:
        """A process that executes this job, and freezes before its create."""
        argv = [servers.PYTHON, "-m", "tests.integration.freezing_worker", job_id]
        process = LocalProcess(Command("freezing-worker", argv, lambda: True, env=self.env), self._log, workers.ROOT)
        process.start()
        self.stack.callback(process.stop)
        return Frozen(process)

    @property
    def _log(self) -> Path:
        return self.folder / "freezing-worker.log"

    def send(self, name: str, task_id: str | None = None, **arguments: Any) -> None:
        """A task as any producer sends it."""
        self.celery.send_task(
            name, kwargs=arguments, queue="flink.operations", task_id=task_id or str(uuid.uuid4()), ignore_result=True
        )

    def submit(self, job_id: str, **config: Any) -> None:
        self.send("flink.submit", job_id=job_id, job_config={"script": SCRIPT, **config})

    def job(self, job_id: str) -> Job | None:
        return self.services.records.job(JobKey("default", job_id))

    def open_operations(self) -> list[Operation]:
        """Of every job, those that have not ended."""
        documents = self.services.store.list_jobs("default", JobFilter(), None, 1000)
        return [each for each_job in documents for each in self.operations(each_job.job.job_id) if each.is_open]

    def operations(self, job_id: str) -> list[Operation]:
        return list(self.services.records.operations_of(JobKey("default", job_id)))

    def becomes(self, job_id: str, **status: Any) -> None:
        """The operator's part: RUNNING and STABLE at the present generation, unless told otherwise."""
        live = self.cluster.runtime.get("default", job_id)
        assert live is not None
        job = {
            "jobId": "f" * 32,
            "state": "RUNNING",
            "startTime": str(int(time.time() * 1000)),
            **status.pop("job", {}),
        }
        whole = {
            "observedGeneration": live.metadata.generation,
            "lifecycleState": "STABLE",
            "jobManagerDeploymentStatus": "READY",
            "jobStatus": job,
            "reconciliationStatus": {"state": "DEPLOYED", "lastReconciledSpec": "{}"},
            **status,
        }
        self.cluster.set_status(job_id, whole)


@pytest.fixture(params=["local", "real"])
def installation(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mongodb_url: str,
    redis_url: str,
    clusters: Callable[[str], Cluster],
) -> Iterator[Installation]:
    with installed(tmp_path, mongodb_url, redis_url, clusters(request.param)) as made:
        yield made


def settings_of(env: Mapping[str, str]) -> Settings:
    """The settings of a process with this environment."""
    return Settings(**{name.removeprefix("HEADRACE_").lower(): value for name, value in env.items()})


@contextmanager
def installed(folder: Path, mongodb_url: str, redis_url: str, place: Cluster, **more: str) -> Iterator[Installation]:
    """Headrace on these servers, in a database of its own; `more` is set for its processes too."""
    database = f"test-{uuid.uuid4().hex[:8]}"
    env = {
        "HEADRACE_MONGODB_URL": mongodb_url,
        "HEADRACE_MONGODB_DATABASE": database,
        "HEADRACE_REDIS_URL": redis_url,
        "HEADRACE_KUBECONFIG": str(place.kubeconfig),
        "PYTHONPATH": str(workers.ROOT),
        **PERIODS,
        **more,
    }
    migrated = connect(mongodb_url, database, 20)
    migrated.migrate()
    migrated.close()
    with ExitStack() as stack:
        app = stack.enter_context(Celery("producer", broker=redis_url, set_as_current=False))
        services = bootstrap.services(settings_of(env))
        stack.callback(services.store.close)  # type: ignore[attr-defined]
        yield Installation(folder, env, place, services, app, stack)
