"""Headrace's worker for pytest-celery: the nodes and clusters of that package over local processes instead of Docker.

pytest-celery starts containers; ours is a process, with the same verbs: ready, logs, kill, restart.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from celery import Celery
from pytest_celery import CeleryTestContainer, CeleryTestWorker

from local.process import Command, LocalProcess

ROOT = Path(__file__).parent.parent.parent
READY = " ready."
ALL_QUEUES = "flink.operations,flink.executions,flink.sync"


class WorkerProcess(CeleryTestContainer):
    """A worker process as pytest-celery's container. Its log is appended to over restarts."""

    def __init__(self, folder: Path, env: Mapping[str, str], queues: str = ALL_QUEUES) -> None:
        self._id = uuid.uuid4().hex
        argv = [sys.executable, "-m", "worker", "--queues", queues]
        command = Command(f"worker-{self._id[:6]}", argv, lambda: self.ready_prompt in self._new_logs(), env=env)
        self._process = LocalProcess(command, folder / f"{command.name}.log", ROOT)
        self._seen = 0
        self._process.start()

    @property
    def id(self) -> str:
        return self._id

    @property
    def name(self) -> str:
        return self._process.command.name

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> str:
        return "running" if self._process.exit_code is None else "exited"

    @property
    def ready_prompt(self) -> str:
        return READY

    def ready(self) -> bool:
        return self._process.is_ready()

    def logs(self) -> str:
        return self._process.log.read_text(errors="replace")

    def kill(self, signal: str | int = "SIGKILL") -> None:
        os.kill(self.pid, _number(signal))

    def restart(self, timeout: int = 30) -> None:
        self._process.stop()
        self._seen = len(self.logs())
        self._process.start()

    def reload(self) -> None:
        """A process has nothing to be read anew."""

    def teardown(self) -> None:
        self._process.stop()

    def _new_logs(self) -> str:
        return self.logs()[self._seen :]


def worker(folder: Path, env: Mapping[str, str], app: Celery, queues: str = ALL_QUEUES) -> CeleryTestWorker:
    """A node of a running worker; it must be waited for with `ready` and torn down."""
    return CeleryTestWorker(WorkerProcess(folder, env, queues), app)


def _number(name: str | int) -> int:
    return name if isinstance(name, int) else signal.Signals[name]
