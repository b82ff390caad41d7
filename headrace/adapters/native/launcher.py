"""Flink's command line, run once as a process group of its own, within a bound; what it would make comes back as data.

It knows no cluster: the command line writes on a sheet. Raises Unavailable where another try may do, Refused where the
command line said no.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters.native.sheet import Sheet, sheet
from headrace.adapters.prometheus.errors import counting_errors
from headrace.domain.runtimes.native import arguments
from headrace.errors import ConfigurationError, Refused, Unavailable

MOST_WORDS = 64 * 1024
"""Bytes of what it printed that are read, from the end."""

LOGGING = ("log4j-cli.properties", "log4j-console.properties", "logback-console.xml")
DIST = re.compile(r"flink-dist(?:_[0-9.]+)?-(?P<release>[0-9]+(?:\.[0-9]+)+)\S*\.jar")
KILLED_SECONDS = 5.0
FOR_A_MOMENT = re.compile(
    r"OutOfMemoryError|No space left on device|Cannot allocate memory|Resource temporarily unavailable|"
    r"There is insufficient memory|Too many open files"
)
"""What it says of the machine that it runs on, and not of the job."""


@dataclass(frozen=True)
class Made:
    """What the command line would make: the Deployment, and what goes with it."""

    deployment: dict[str, Any]
    accompanying: Sequence[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Launcher:
    """A Flink distribution that starts clusters."""

    flink_home: Path
    java_home: Path | None
    timeout_seconds: float

    def check(self) -> None:
        """Raises ConfigurationError where it is no distribution that this starts."""
        if not (self.flink_home / "bin" / "flink").is_file() or not self.release:
            raise ConfigurationError(f"FLINK_HOME: {self.flink_home} has no bin/flink with a lib/flink-dist-*.jar")
        java = self.java_home / "bin" / "java" if self.java_home is not None else None
        if java is not None and not java.is_file():
            raise ConfigurationError(f"JAVA_HOME: {self.java_home} has no bin/java")
        if java is None and shutil.which("java") is None:
            raise ConfigurationError("JAVA_HOME: it is not set, and there is no java on the path")

    @cached_property
    def release(self) -> tuple[int, ...]:
        """The distribution's release: (2, 2, 1); empty where there is none."""
        names = (DIST.fullmatch(path.name) for path in sorted((self.flink_home / "lib").glob("flink-dist*.jar")))
        found = next((name["release"] for name in names if name is not None), "")
        return tuple(map(int, found.split("."))) if found else ()

    def launch(
        self, name: str, namespace: str, spec: Mapping[str, Any], *, job_id: str, start_from: str | None
    ) -> Made:
        """What this spec comes to as a cluster. Raises Refused and Unavailable, in words."""
        if another := arguments.another_release(name, spec, self.release):
            raise Refused(another)
        with counting_errors("flink"), tempfile.TemporaryDirectory(prefix="headrace-launch-") as folder, sheet() as on:
            words = arguments.words(spec, self.release, start_from)
            environment = self._prepared(Path(folder), on, arguments.options(name, namespace, spec, job_id), spec)
            code, said = self._run(words, environment, Path(folder), name)
            if code != 0:
                raise _failed(name, code, said)
            return _made(name, on)

    def _prepared(self, folder: Path, on: Sheet, options: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, str]:
        """The folder with all that it reads, and its environment: nothing of this process' own."""
        conf = folder / "conf"
        conf.mkdir()
        told = dict(options)
        told[arguments.KUBECONFIG] = str(_written(folder / "kubeconfig", on.kubeconfig(told["kubernetes.namespace"])))
        for component, template in arguments.pod_templates(spec).items():
            if template:
                path = _written(folder / f"{component}.yaml", template)
                told[f"kubernetes.pod-template-file.{component}"] = str(path)
        java_options = self._java_options()
        _written(conf / "config.yaml", arguments.with_java_options(told, java_options))
        for each in LOGGING:
            if (self.flink_home / "conf" / each).is_file():
                shutil.copyfile(self.flink_home / "conf" / each, conf / each)
        found = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "FLINK_CONF_DIR": str(conf),
            "FLINK_LOG_DIR": str(folder),
            "LC_ALL": "C.UTF-8",  # a JVM reads its words by the locale: without one, what is not ASCII is lost
            # The file's env.java.opts are for the job's own pods. Here they would be the job's commands in a process of
            # ours (-XX:OnOutOfMemoryError); config.sh reads none of them where these are set, and a blank one is.
            "FLINK_ENV_JAVA_OPTS": f"-XX:+IgnoreUnrecognizedVMOptions {java_options}",
            "FLINK_ENV_JAVA_OPTS_CLI": " ",
        }
        if self.java_home is not None:
            return {**found, "JAVA_HOME": str(self.java_home)}
        java = shutil.which("java")
        return found if java is None else {**found, "PATH": f"{Path(java).parent}:{os.defpath}"}

    def _java_options(self) -> str:
        """What the distribution gives its JVMs: modules that it opens, without which its images' do not start."""
        path = self.flink_home / "conf" / "config.yaml"
        try:
            found = yaml.safe_load(path.read_text()) if path.is_file() else {}
            return str(found["env"]["java"]["opts"]["all"])
        except (KeyError, TypeError, OSError, yaml.YAMLError):
            return ""

    def _run(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, name: str) -> tuple[int, str]:
        """Its exit code, and the end of what it printed. The whole group is killed at the bound."""
        printed = folder / "printed"
        command = ["bash", str(self.flink_home / "bin" / "flink"), *words]
        with printed.open("wb") as out:
            try:
                process = subprocess.Popen(
                    command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise Unavailable(f"bin/flink could not be started for {name} (FLINK_HOME): {error}") from error
        try:
            code = process.wait(self.timeout_seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"bin/flink was not done with {name} within {self.timeout_seconds:.0f} s "
                "(HEADRACE_LAUNCH_TIMEOUT_SECONDS)"
            ) from None
        finally:
            _kill_group(process)
        return code, _end_of(printed)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of the group: bash, and the JVM behind it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_SECONDS)


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_WORDS))
        return file.read(MOST_WORDS).decode(errors="replace")


def _written(path: Path, content: Mapping[str, Any]) -> Path:
    """JSON, which YAML takes; for this account alone."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path


def _failed(name: str, code: int, said: str) -> Refused | Unavailable:
    words = f"bin/flink ended with {code} for {name}: {cause_in(said)}"
    if code < 0 or code >= 128 or FOR_A_MOMENT.search(said):  # killed, and not refused
        return Unavailable(words)
    return Refused(words)


def cause_in(said: str) -> str:
    """The innermost `Caused by` of what it printed, else its last line that says something."""
    lines = [line.strip() for line in said.splitlines()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    plain = [
        line for line in lines if line and not line.startswith(("at ", "WARNING:", "...")) and " INFO " not in line
    ]
    found = causes[-1:] or plain[-1:] or ["it said nothing"]
    return found[0][:500]


def _made(name: str, on: Sheet) -> Made:
    deployments = on.of("deployments")
    if [each["metadata"]["name"] for each in deployments] != [name]:
        raise Unavailable(f"bin/flink ended well for {name}, and made no Deployment of that name")
    accompanying = [(kind, each) for kind in ("configmaps", "services") for each in on.of(kind)]
    return Made(deployments[0], accompanying)
