"""One Flink application cluster as processes: a JobManager and its TaskManagers. Knows no Kubernetes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.flink_operator.distribution import (
    JOB_MANAGER_HEAP,
    PATIENCE_OF_A_SMALL_MACHINE,
    TASK_MANAGER_HEAP,
    TASK_MANAGER_MEMORY,
    Place,
    environment,
    java,
    make_home,
    write_configuration,
)
from local.flink_operator.rest import Rest
from local.process import Command, LocalProcess, free_port

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
        self._place = Place(folder)
        make_home(self._place, [application.jar, *application.jars])
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
            *java(self._place, f"{self.name}/jobmanager", JOB_MANAGER_HEAP),
            "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint",
            *("--configDir", str(self._place.conf), "--job-id", application.job_id),
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
            *java(self._place, f"{self.name}/{name}", TASK_MANAGER_HEAP),
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            *("--configDir", str(self._place.conf), *memory, *resource),
        ]
        return self._process(name, argv)

    def _process(self, name: str, argv: Sequence[str]) -> LocalProcess:
        env = environment(self._place, self.application.env)
        command = Command(name, argv, lambda: True, env=env, stop_timeout_seconds=5, death_signal=9)
        return LocalProcess(command, self._place.logs / f"{name}.log", self._place.home)

    def _write_configuration(self) -> None:
        kept = {k: v for k, v in self.application.configuration.items() if not NOT_LOCAL.match(k)}
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
            **self._results_kept(),
            **PATIENCE_OF_A_SMALL_MACHINE,
        }
        write_configuration(self._place, settings)

    def _results_kept(self) -> dict[str, str]:
        """As the operator sets it with each deployment: a JobManager that comes back after its job has ended would run
        the program again (ApplicationReconciler.setRandomJobResultStorePath)."""
        storage = self.application.configuration.get("high-availability.storageDir")
        if not storage:
            return {}
        path = f"{storage}/job-result-store/{self.name}/{uuid.uuid4()}"
        return {"job-result-store.delete-on-commit": "false", "job-result-store.storage-path": path}


def failure_in(printed: str) -> list[str]:
    """A program's own words for its end, outermost first, in what its JobManager printed: without what the standalone
    entrypoint wraps around them, since native mode has no such wrapping. None where no program has failed: then the
    JobManager ended for another reason, maybe before it had one."""
    found = re.findall(r"^(?:Caused by: )?((?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error)[^\n]*)$", printed, re.MULTILINE)
    if not any(PROGRAM_FAILED in line for line in found):
        return []
    own = [line[:600] for line in dict.fromkeys(found[-4:]) if PROGRAM_FAILED not in line]
    return own or ["the program failed; see the JobManager's log"]


def _stop_together(processes: Sequence[LocalProcess]) -> None:
    """All get their SIGTERM before any is waited for: the whole takes as long as the slowest, not as their sum."""
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.stop()


def latest_checkpoint(directory: str, job_id: str) -> str | None:
    """The newest completed checkpoint of a job below a file: location, as a path that Flink takes."""
    root = Path(re.sub(r"^file:/+", "/", directory)) / job_id
    found = [path.parent for path in root.glob("chk-*/_metadata")]
    newest = max(found, key=lambda path: int(path.name.removeprefix("chk-")), default=None)
    return f"file:{newest}" if newest else None
