"""What a container of Flink's native mode starts, as a process of this machine: the JVM of a JobManager or TaskManager
with its configuration, in a folder of its pod."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.flink_operator.distribution import (
    JOB_MANAGER_HEAP,
    TASK_MANAGER_HEAP,
    Place,
    environment,
    java,
    make_home,
    write_configuration,
)
from local.flink_operator.mapping import Container
from local.kubelet import configuration
from local.kubelet.configuration import LOOPBACK, Ports
from local.process import Command, LocalProcess

CONF, USRLIB = "/opt/flink/conf", "/opt/flink/usrlib"
TASK_MANAGER = "org.apache.flink.kubernetes.taskmanager.KubernetesTaskExecutorRunner"
TASK_MANAGER_SCRIPT = "kubernetes-taskmanager.sh"
STOP_SECONDS = 5


@dataclass(frozen=True)
class Machine:
    """What is this machine's, and not the pod's: where the cluster's JobManager listens, and the way to the API."""

    ports: Ports
    kubeconfig: Path


def job_manager(name: str, place: Place, main: Container, env: Mapping[str, str], machine: Machine) -> LocalProcess:
    """By the entrypoint that Flink's client has chosen. Raises OSError where there is no configuration."""
    found = _configured(main)
    settings = configuration.of_job_manager(found, main.mapped, machine.ports, str(machine.kubeconfig))
    command = [*java(place, name, JOB_MANAGER_HEAP), str(found[configuration.ENTRYPOINT])]
    return _process("jobmanager", place, main, {**env, "_POD_IP_ADDRESS": LOOPBACK}, settings, command)


def task_manager(name: str, place: Place, main: Container, env: Mapping[str, str], machine: Machine) -> LocalProcess:
    """With the arguments that its JobManager has given it. Raises OSError where there is no configuration."""
    settings = configuration.of_task_manager(_configured(main), main.mapped, machine.ports, str(machine.kubeconfig))
    start = [*java(place, name, TASK_MANAGER_HEAP), TASK_MANAGER, "--configDir", str(place.conf)]
    return _process("taskmanager", place, main, env, settings, [*start, *_arguments(main.command)])


def _configured(main: Container) -> dict[str, Any]:
    return configuration.read(Path(main.paths.get(CONF, CONF), "config.yaml").read_text())


def _arguments(command: Sequence[str]) -> list[str]:
    """Those of Flink's script, which stands in a shell's command."""
    words = shlex.split(command[-1])
    return words[words.index(TASK_MANAGER_SCRIPT) + 1 :]


def _process(
    kind: str,
    place: Place,
    main: Container,
    env: Mapping[str, str],
    settings: Mapping[str, Any],
    argv: Sequence[str],
) -> LocalProcess:
    make_home(place, sorted(Path(main.paths.get(USRLIB, "/nowhere")).glob("*.jar")))
    write_configuration(place, settings)
    own = environment(place, env)
    command = Command(kind, argv, lambda: True, env=own, stop_timeout_seconds=STOP_SECONDS, death_signal=9)
    return LocalProcess(command, place.logs / f"{kind}.log", place.home)
