"""What benchmarks of two sides run on: Redis, the MongoDB-wire server, and an API server that takes 20 ms.

Both sides have the same ones, and a database of their own with the same indexes. Everything is a process of its own and
ends with the benchmark.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from pymongo import MongoClient

from benchmarks import stand_in
from headrace.adapters.mongo import connect as connect_mongodb
from local.process import Command, LocalProcess, answers, free_port
from tests.support import servers
from tests.support.patience import wait_for
from tests.support.workers import ROOT

JAR = "local:///opt/flink/examples/streaming/StateMachineExample.jar"
"""A program in the image: nothing is fetched, and no file travels with the job."""

SUBMIT: Mapping[str, Any] = {"job_config": {"type": "JAR", "jar": JAR, "parallelism": 2}}
"""The arguments of every SUBMIT that is measured."""

API_SECONDS = 0.020
"""What the API server takes for a request."""


@dataclass
class Seen:
    """What the API server was asked."""

    created_at: Mapping[str, float]
    calls: Mapping[str, int]
    last: Any


@dataclass
class Installation:
    """The servers, and how a process of either side is told of them."""

    folder: Path
    redis_url: str
    mongodb_url: str
    api_url: str
    kubeconfig: Path
    stack: ExitStack
    databases: dict[str, str] = field(default_factory=dict)

    def database(self, side: str) -> str:
        """The side's database, with the product's indexes."""
        if side not in self.databases:
            name = f"bench-{side}-{uuid.uuid4().hex[:6]}"
            store = connect_mongodb(self.mongodb_url, name, 60)
            store.migrate()
            store.close()
            self.databases[side] = name
        return self.databases[side]

    @contextmanager
    def records(self, side: str) -> Iterator[Any]:
        """The side's database, to read what is in it."""
        client: MongoClient[dict[str, Any]] = MongoClient(self.mongodb_url)
        with client:
            yield client[self.database(side)]

    def env(self, side: str) -> dict[str, str]:
        """The environment of the side's processes."""
        return {
            "HEADRACE_MONGODB_URL": self.mongodb_url,
            "HEADRACE_MONGODB_DATABASE": self.database(side),
            "HEADRACE_MONGODB_TIMEOUT_SECONDS": "60",
            "HEADRACE_REDIS_URL": self.redis_url,
            "HEADRACE_KUBECONFIG": str(self.kubeconfig),
            "BARE_API_URL": self.api_url,
            "BARE_MANIFEST": str(self.folder / "manifest.json"),
            "PYTHONPATH": str(ROOT),
        }

    def process(
        self, name: str, argv: Sequence[str], side: str, is_ready: Callable[[str], bool], **env: str
    ) -> LocalProcess:
        """A Python process of a side, once it is ready; `is_ready` is shown its log."""
        log = self.folder / f"{name}.log"

        def ready() -> bool:
            return log.exists() and is_ready(log.read_text(errors="replace"))

        command = Command(name, [sys.executable, *argv], ready, env=self.env(side) | env)
        return self.stack.enter_context(servers.running(command, self.folder, ROOT))

    def worker(self, threads: int = 8) -> LocalProcess:
        """Headrace's worker, as a deployment starts it."""
        return self.process("worker", ["-m", "worker", "--threads", str(threads)], "headrace", _says_ready)

    def bare_worker(self, threads: int = 8) -> LocalProcess:
        """The bare tasks' worker, of the same pool."""
        pool = ["--pool=threads", f"--concurrency={threads}", "--queues=bare", "--hostname=bare@localhost"]
        argv = ["-m", "celery", "--app=benchmarks.bare_worker", "worker", *pool, "--loglevel=INFO"]
        return self.process("bare-worker", [*argv, "--without-mingle", "--without-gossip"], "bare", _says_ready)

    def seen(self) -> Seen:
        """What the API server was asked since the last `forget`."""
        return Seen(**httpx.get(self.api_url + stand_in.SEEN, trust_env=False, timeout=60).json())

    def forget(self) -> None:
        """Begins to count the API server's calls anew, with no deployment there."""
        httpx.delete(self.api_url + stand_in.SEEN, trust_env=False, timeout=60)

    def await_quiet(self, *queues: str) -> None:
        """Until no message waits in these queues and none is unacknowledged: what a round began ends with it."""
        with redis.Redis.from_url(self.redis_url) as client:
            wait_for("the queues to be empty", lambda: not any(map(client.llen, queues)) and not client.hlen("unacked"))

    def keep_manifest(self) -> None:
        """What Headrace created last is what the bare side creates."""
        (self.folder / "manifest.json").write_text(json.dumps(self.seen().last))


def _says_ready(log: str) -> bool:
    return " ready." in log


@contextmanager
def running(api_seconds: float = API_SECONDS) -> Iterator[Installation]:
    """All servers, until the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        mongodb, redis_server, port = servers.mongodb(folder), servers.redis(folder), free_port()
        argv = [sys.executable, "-m", "benchmarks.stand_in", "--port", str(port), "--delay-ms", str(api_seconds * 1000)]
        api = Command("stand-in", argv, lambda: answers(port), port=port)
        for command, cwd in ((mongodb, folder), (redis_server, folder), (api, ROOT)):
            stack.enter_context(servers.running(command, folder, cwd))
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(stand_in.kubeconfig_of(port))
        url = f"http://127.0.0.1:{port}"
        yield Installation(folder, redis_server.address, mongodb.address, url, kubeconfig, stack)
