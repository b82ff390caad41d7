"""The jars in examples/jar are what their sources beside them say: where a JDK is at hand they are built again."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.missing import missing

FOLDER = Path(__file__).parents[2] / "examples" / "jar"


def builder() -> ModuleType:
    """examples/jar/build.py, which is no module of ours."""
    spec = importlib.util.spec_from_file_location("build_example_jars", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = builder()


@pytest.fixture(scope="module")
def java_version() -> str:
    """Of the javac that is here; skips the tests where there is none, fails them if no test may skip."""
    try:
        return str(build.java_version(build.javac()))
    except build.CannotBuild as reason:
        missing(str(reason))


@pytest.fixture(scope="module")
def built(java_version: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return list(build.build(tmp_path_factory.mktemp("jars")))


def entries(jar: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(jar) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_source_has_its_jar(built: list[Path]):
    assert [jar.name for jar in built] == sorted(jar.name for jar in FOLDER.glob("*.jar"))


@pytest.mark.parametrize("name", ["counting-job.jar", "shout-udf.jar"])
def test_a_committed_jar_holds_the_classes_of_its_source(name: str, built: list[Path], java_version: str):
    ours, theirs = (FOLDER / name), next(jar for jar in built if jar.name == name)
    assert list(entries(ours)) == list(entries(theirs))
    if f"Build-Jdk-Spec: {java_version}\r\n".encode() in entries(ours)[build.MANIFEST]:
        assert ours.read_bytes() == theirs.read_bytes()  # another javac may write other bytes for the same source


@pytest.mark.parametrize("name", ["counting-job.jar", "shout-udf.jar"])
def test_an_example_jar_runs_on_every_java_that_flink_does(name: str):
    classes = {path: code for path, code in entries(FOLDER / name).items() if path.endswith(".class")}
    assert {int.from_bytes(code[6:8]) for code in classes.values()} == {55}  # Java 11
    assert all(path.startswith("io/headrace/examples/") for path in classes)


def test_a_machine_without_a_jdk_is_told_what_to_install(tmp_path: Path):
    environment = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": ""}
    command = [sys.executable, str(FOLDER / "build.py"), str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "build.py: there is no javac: install a JDK (Debian, Ubuntu: openjdk-17-jdk-headless) or set JAVA_HOME\n"
    )
