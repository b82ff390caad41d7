"""Every process of an installation, and the servers below it, so that each can be killed, frozen and started again.

Our own processes learn nothing of it: they get settings. Nobody restarts what dies but who was told to.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import httpx

from headrace.adapters.kafka import Broker, Topics
from headrace.adapters.sealing import new_key
from local import job_settings, kube_apiserver, private, servers
from local.process import Command, LocalProcess, answers, free_port
from local.stack import is_alive
from tests.processes import somebodys
from tests.processes.flink import CALM, LOST
from tests.processes.native import flink_home
from tests.processes.proxies import KubernetesProxy, MongoProxy, Write
from tests.processes.somebodys import EVENTS
from tests.support.patience import wait_for
from tests.support.servers import real_kafka

ROOT = Path(__file__).parent.parent.parent
PYTHON = sys.executable
TOPIC, LETTERS = "headrace.operations", "headrace.operations.dead-letters"
START_SECONDS = 30.0
SETTINGS = {
    "HEADRACE_KUBERNETES_TIMEOUT_SECONDS": "3",
    "HEADRACE_FLINK_REST_TIMEOUT_SECONDS": "2",
    "HEADRACE_MONGODB_TIMEOUT_SECONDS": "3",
    "HEADRACE_REDIS_TIMEOUT_SECONDS": "2",
    "HEADRACE_KAFKA_TIMEOUT_SECONDS": "4",
    "HEADRACE_SYNC_PERIOD_SECONDS": "1",
    "HEADRACE_RELIST_PERIOD_SECONDS": "10",
    "HEADRACE_REDELIVER_PERIOD_SECONDS": "2",
    "HEADRACE_FAILURE_GRACE_SECONDS": "5",
    "HEADRACE_OPERATION_DEADLINE_SECONDS": "180",
}
"""Shorter times than in production, so that a seed shows in a minute what takes ten there."""


FOR_REAL_FLINK = {"HEADRACE_FAILURE_GRACE_SECONDS": "60", "HEADRACE_OPERATION_DEADLINE_SECONDS": "420"}
"""What JVMs need on a machine that does other things too."""


class Installation:
    """The processes by their names. Start and strike it from the main thread: what it starts dies with that."""

    on_write: Callable[[Write], None]
    """Is handed every write that our processes make on Flink's resources."""

    def __init__(
        self,
        folder: Path,
        mutant: str | None = None,
        *,
        has_real_flink: bool = False,
        rules: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = folder
        self._rules = rules
        self.has_real_flink = has_real_flink
        self._run = [PYTHON, "-m", *(["tests.processes.mutant", mutant] if mutant else [])]
        self.on_write = lambda _: None
        self.has_durable_kafka = bool(os.environ.get("KAFKA_HOME"))
        self.processes: dict[str, LocalProcess] = {}
        self.api_key = secrets.token_urlsafe(24)
        self.settings: dict[str, str] = {}
        self._frozen: set[str] = set()
        self._skew = self._compiled()

    def up(self) -> None:
        """Starts everything, servers first; returns once all are ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for command in chain(self._servers(), self._between(), self._ours()):  # each needs those before it
            self._start(command)
        for name in (each for each in ("worker-1", "worker-2", "sync", "launcher") if each in self.processes):
            log = self.folder / f"{name}.log"
            wait_for(f"{name} to be ready", lambda log=log: " ready." in log.read_text())

    def down(self) -> None:
        """Stops everything, the last started first."""
        self.thaw_all()
        for process in reversed(list(self.processes.values())):
            process.ask_to_stop()
        for process in reversed(list(self.processes.values())):
            process.stop()
        if hasattr(self, "kubernetes"):
            self.kubernetes.close()
            self.mongodb.close()

    # Strikes

    def kill(self, name: str) -> None:
        """SIGKILL, now."""
        pid = self.processes[name].pid
        self._frozen.discard(name)
        if pid is not None and self.processes[name].exit_code is None:
            os.kill(pid, signal.SIGKILL)
            self.processes[name].stop()

    def freeze(self, name: str) -> None:
        """SIGSTOP, until it is thawed."""
        process = self.processes[name]
        if process.pid is not None and process.exit_code is None:
            os.kill(process.pid, signal.SIGSTOP)
            self._frozen.add(name)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        pid = self.processes[name].pid
        if name in self._frozen and pid is not None and is_alive(pid):
            os.kill(pid, signal.SIGCONT)
        self._frozen.discard(name)

    def thaw_all(self) -> None:
        """Nothing is frozen any more."""
        for name in list(self._frozen):
            self.thaw(name)

    def start_again(self, name: str, skew_seconds: int = 0) -> None:
        """Starts it where it does not run, its clock off by so much. It is not waited for."""
        process = self.processes[name]
        if process.pid is not None and process.exit_code is None:
            return
        process.stop()
        own = {k: v for k, v in process.command.env.items() if k not in ("LD_PRELOAD", "SKEW_SECONDS")}
        if skew_seconds and self._skew is not None:
            own |= {"LD_PRELOAD": str(self._skew), "SKEW_SECONDS": str(skew_seconds)}
        process.command = replace(process.command, env=own)
        process.start()

    def all_run(self) -> None:
        """Whatever is dead or frozen runs again, its clock right; returns once the servers answer."""
        self.thaw_all()
        for name, process in self.processes.items():
            if "SKEW_SECONDS" in process.command.env:
                self.kill(name)
            self.start_again(name)
        for name, process in self.processes.items():
            wait_for(f"{name} to answer", process.is_ready)

    def calm(self, is_calm: bool) -> None:
        """Whether Flink has troubles of its own."""
        file = self.folder / "flink" / CALM
        if is_calm:
            file.touch()
        else:
            file.unlink(missing_ok=True)

    def lose_job_manager(self, name: str, seconds: float) -> None:
        """The job's JobManager is gone, and the next one comes after so long; real Flink's is left alone."""
        if not self.has_real_flink:
            (self.folder / "flink" / f"{LOST}{name}").write_text(str(time.time() + seconds))

    # What runs

    def _servers(self) -> Iterator[Command]:
        self._redis_port, mongodb, folder = free_port(), free_port(), self.folder
        self.redis_url = f"redis://127.0.0.1:{self._redis_port}/0"
        yield servers.redis(self._redis_port, folder / "redis")
        yield servers.mongodb(mongodb, folder / "mongodb")
        self.mongodb = MongoProxy(mongodb)
        kafka = real_kafka(folder / "kafka") if self.has_durable_kafka else servers.kafka(free_port())
        self.kafka = kafka.address
        yield kafka
        yield from self._kubernetes()

    def _kubernetes(self) -> Iterator[Command]:
        folder, port = self.folder / "kubernetes", free_port()
        self.kubeconfig = self.folder / "kubeconfig"
        token, url = kube_apiserver.write_credentials(folder), f"http://127.0.0.1:{port}"
        kube_apiserver.write_kubeconfig(self.kubeconfig, url, token)
        argv = [PYTHON, "-m", "local.kubernetes_api", "--port", str(port), "--data-dir", str(folder)]
        argv += ["--token-file", str(folder / "token")]
        yield Command("kubernetes", argv, lambda: servers.http_answers(f"{url}/readyz"), url, port=port)

    def _between(self) -> Iterator[Command]:
        """The proxies, and the operator, whose way to the API no fault is on."""
        proxied = self.folder / "proxied-kubeconfig"
        self.kubernetes = KubernetesProxy(self.kubeconfig, proxied, lambda write: self.on_write(write))
        rest = free_port()
        yield Command("operator", self._operator(rest), partial(answers, rest), stop_timeout_seconds=30, port=rest)
        self._settle(proxied, rest)

    def _operator(self, rest_port: int) -> list[str]:
        module, data = "tests.processes.flink", ["--folder", str(self.folder / "flink")]
        if self.has_real_flink:
            (self.folder / "flink").mkdir()
            module, data = "local.flink_operator", ["--data-dir", str(self.folder / "flink-processes")]
        return [PYTHON, "-m", module, "--kubeconfig", str(self.kubeconfig), *data, "--rest-port", str(rest_port)]

    def _settle(self, kubeconfig: Path, rest_port: int) -> None:
        """The settings of our processes, and what has to be there before they start."""
        for name, content in (("api-keys", self.api_key), ("sealing-keys", new_key())):
            private.write(self.folder / name, f"{content}\n")
        self.api_port = free_port()
        self.settings = {
            **SETTINGS,
            **(FOR_REAL_FLINK | job_settings.on_the_laptop({}, self.folder) if self.has_real_flink else {}),
            **({} if self.has_real_flink else {"HEADRACE_RUNTIMES": "operator,native"}),
            "HEADRACE_KUBECONFIG": str(kubeconfig),
            "HEADRACE_FLINK_REST_URL": f"http://127.0.0.1:{rest_port}/{{namespace}}/{{name}}",
            "HEADRACE_MONGODB_URL": f"mongodb://127.0.0.1:{self.mongodb.port}",
            "HEADRACE_REDIS_URL": self.redis_url,
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "HEADRACE_API_PORT": str(self.api_port),
            "HEADRACE_API_KEYS_FILE": str(self.folder / "api-keys"),
            "HEADRACE_SEALING_KEYS_FILE": str(self.folder / "sealing-keys"),
            "PYTHONPATH": str(ROOT),
        }
        Topics(Broker(self.kafka), START_SECONDS).ensure([TOPIC, LETTERS, EVENTS])
        migrate = [PYTHON, "-m", "headrace.migrate"]
        subprocess.run(
            migrate, cwd=ROOT, env={**os.environ, **self.settings}, check=True, stdout=subprocess.DEVNULL, timeout=60
        )

    def _ours(self) -> Iterator[Command]:
        api = f"http://127.0.0.1:{self.api_port}/livez"
        for name in ("worker-1", "worker-2"):
            yield self._module(name, "worker", "--threads", "4")
        yield self._module("sync", "worker", "--queues", "flink.sync")
        if not self.has_real_flink:
            yield self._launcher()
        yield self._module("beat", "beat")
        yield Command(
            "api", [*self._run, "api"], lambda: servers.http_answers(api), api, self.settings, port=self.api_port
        )
        self._apply_triggers()  # a consumer that starts after them follows their topic at once
        yield self._module("consumer", "consumer")

    def _launcher(self) -> Command:
        """The worker that starts native jobs, with a command line that is played."""
        home = flink_home(self.folder)
        own = {**self.settings, "FLINK_HOME": str(home), "JAVA_HOME": str(home)}
        return replace(self._module("launcher", "worker", "--queues", "flink.launches", "--threads", "2"), env=own)

    def _apply_triggers(self) -> None:
        url = f"http://127.0.0.1:{self.api_port}/api/v1/flink/triggers"
        headers = {"Authorization": f"Bearer {self.api_key}"}
        for rule in self._rules:
            httpx.post(url, json=rule, headers=headers, timeout=START_SECONDS, trust_env=False).raise_for_status()

    def somebodys_deployment(self, name: str, value: int) -> Mapping[str, Any]:
        """A FlinkDeployment that is not ours, and that Flink can run here."""
        return somebodys.deployment(name, value, ROOT, self.folder / "state")

    def _module(self, name: str, module: str, *arguments: str) -> Command:
        return Command(name, [*self._run, module, *arguments], lambda: True, env=self.settings)

    def _start(self, command: Command) -> None:
        process = LocalProcess(command, self.folder / f"{command.name}.log", ROOT)
        self.processes[command.name] = process
        process.start()
        wait_for(f"{command.name} to be ready", process.is_ready)

    def _compiled(self) -> Path | None:
        """What sets a process' clock off; None on a machine without a C compiler, where no clock is."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        library = self.folder / "skew.so"
        source = str(Path(__file__).parent / "skew.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"], check=True, timeout=60
        )
        return library

    @property
    def has_skew(self) -> bool:
        """Whether clocks can be set off here."""
        return self._skew is not None


@contextmanager
def running(
    folder: Path,
    mutant: str | None = None,
    *,
    has_real_flink: bool = False,
    rules: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Installation]:
    """An installation with these triggers that is stopped at the end, whatever happened; its own processes with this
    fault in them."""
    installation = Installation(folder, mutant, has_real_flink=has_real_flink, rules=rules)
    try:
        installation.up()
        yield installation
    finally:
        with suppress(ProcessLookupError):
            installation.down()
