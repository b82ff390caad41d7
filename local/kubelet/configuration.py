"""Flink's configuration as the ConfigMap has it, and what a process of this machine gets instead. Pure.

Addresses, ports and memory are the laptop's; paths are mapped as the pod's are; all else is what Flink's client wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from local.flink_operator.distribution import PATIENCE_OF_A_SMALL_MACHINE, TASK_MANAGER_MEMORY
from local.flink_operator.mapping import program

LOOPBACK = "127.0.0.1"
ENTRYPOINT = "kubernetes.internal.jobmanager.entrypoint.class"
_LAPTOPS_OWN = ("taskmanager.memory.", "jobmanager.memory.")
"""Settings whose names begin like this are of a machine that the pod does not get here."""

_NAMES_PROGRAMS = ("python.", "$internal.application.program-args")
"""Settings whose names begin like this may name the image's Python."""

_ADDRESSES = {
    "jobmanager.rpc.address": LOOPBACK,
    "jobmanager.bind-host": LOOPBACK,
    "rest.address": LOOPBACK,
    "rest.bind-address": LOOPBACK,
    "taskmanager.host": LOOPBACK,
    "taskmanager.bind-host": LOOPBACK,
}
_ANY_PORT = "0"


@dataclass(frozen=True)
class Ports:
    """Where a cluster's JobManager listens, however often it is started again."""

    rest: int
    rpc: int


def read(text: str) -> dict[str, Any]:
    """A config.yaml with its nested keys made flat. Lists stay lists."""
    return dict(_flat(yaml.safe_load(text) or {}))


def _flat(part: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


def of_job_manager(
    found: Mapping[str, Any], mapped: Callable[[str], str], ports: Ports, kubeconfig: str
) -> dict[str, Any]:
    """The JobManager's. The port of its TaskManagers stays: it wants one to be named, and gives it to their pods."""
    return {
        **_common(found, mapped, ports, kubeconfig),
        "high-availability.jobmanager.port": str(ports.rpc),
        "blob.server.port": _ANY_PORT,
        "jobmanager.memory.process.size": "1g",
    }


def of_task_manager(
    found: Mapping[str, Any], mapped: Callable[[str], str], ports: Ports, kubeconfig: str
) -> dict[str, Any]:
    """A TaskManager's: many of them share this machine's ports."""
    return {**_common(found, mapped, ports, kubeconfig), "taskmanager.rpc.port": _ANY_PORT}


def _common(found: Mapping[str, Any], mapped: Callable[[str], str], ports: Ports, kubeconfig: str) -> dict[str, Any]:
    kept = {key: _here(key, value, mapped) for key, value in found.items() if not key.startswith(_LAPTOPS_OWN)}
    listening = {"jobmanager.rpc.port": ports.rpc, "rest.port": ports.rest, "rest.bind-port": ports.rest}
    here = {**_ADDRESSES, **{key: str(port) for key, port in listening.items()}, "kubernetes.config.file": kubeconfig}
    return {**kept, **here, **TASK_MANAGER_MEMORY, **PATIENCE_OF_A_SMALL_MACHINE}


def _here(key: str, value: Any, mapped: Callable[[str], str]) -> Any:
    """Paths wherever they stand; a program only where one is meant: a job may be called `python`."""
    if isinstance(value, list):
        return [_here(key, each, mapped) for each in value]
    if not isinstance(value, str):
        return value
    return program(mapped(value)) if key.startswith(_NAMES_PROGRAMS) else mapped(value)
