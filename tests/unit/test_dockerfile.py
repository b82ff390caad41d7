"""What can be held of the Flink image's Dockerfile without a Docker engine: its instructions, and its shell lines."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FLINK_APP = Path(__file__).parents[2] / "flink_app"
SOURCES = ("entrypoint.py", "sql_runner.py")


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def instructions() -> list[Instruction]:
    text = (FLINK_APP / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", "")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def all_of(word: str) -> list[str]:
    return [one.rest for one in instructions() if one.word == word]


def only(word: str, containing: str) -> str:
    (found,) = [rest for rest in all_of(word) if containing in rest]
    return found


def last_stage() -> list[Instruction]:
    every = instructions()
    begin = max(index for index, one in enumerate(every) if one.word == "FROM")
    return every[begin:]


@pytest.fixture
def flink(tmp_path: Path) -> Path:
    """A folder with what Flink's own image has at /opt/flink, as far as the shell lines look."""
    home = tmp_path / "flink"
    (home / "opt").mkdir(parents=True)
    (home / "plugins").mkdir()
    for name in ("flink-python", "flink-s3-fs-hadoop"):
        (home / "opt" / f"{name}-1.20.3.jar").write_text(name)
    return home


def shell(line: str, flink: Path, **args: str) -> subprocess.CompletedProcess[str]:
    """Runs a RUN line as a build would, on another folder than /opt/flink."""
    moved = re.sub(r"/opt/flink(?=[/\s])", str(flink), line)
    return subprocess.run(["/bin/sh", "-c", moved], env=args, capture_output=True, text=True, timeout=60, check=False)


def test_one_argument_names_the_version_of_the_image_and_of_the_wheel():
    assert all_of("ARG")[0] == "FLINK_VERSION=2.2.1"
    assert all_of("FROM")[0] == "flink:${FLINK_VERSION}-java17 AS flink"
    assert "FLINK_VERSION" in [one.rest for one in last_stage() if one.word == "ARG"]
    assert '"apache-flink==${FLINK_VERSION}"' in only("RUN", "pip install")
    versions = re.findall(r"\d+\.\d+\.\d+", "\n".join(one.rest for one in instructions()))
    assert versions == ["2.2.1"]


def test_the_images_are_flinks_and_pythons_and_nothing_comes_from_elsewhere():
    images = [rest.split()[0] for rest in all_of("FROM")]
    assert images == ["flink:${FLINK_VERSION}-java17", "python:3.11-slim-bookworm"]
    assert set(re.findall(r"--from=(\S+)", "\n".join(all_of("COPY")))) == {"flink"}
    text = "\n".join(one.rest for one in instructions())
    assert "://" not in text
    assert not re.search(r"\blatest\b|\bcurl\b|\bwget\b|--index-url|--find-links", text)
    assert not all_of("ADD")


@pytest.mark.parametrize("source", SOURCES)
def test_both_programs_are_there_and_copied(source: str):
    assert source in only("COPY", "/opt/headrace/").split()
    assert (FLINK_APP / source).is_file()


def test_what_is_copied_from_flinks_image_is_enough_for_its_own_entrypoint():
    copied = [rest.split()[-2:] for rest in all_of("COPY") if "--from=flink" in rest]
    assert copied == [[path, path] for path in ("/opt/java/openjdk", "/opt/flink", "/docker-entrypoint.sh")]
    environment = " ".join(all_of("ENV"))
    assert "FLINK_HOME=/opt/flink" in environment
    assert "JAVA_HOME=/opt/java/openjdk" in environment
    assert "PATH=${FLINK_HOME}/bin:${JAVA_HOME}/bin:${PATH}" in environment
    assert all_of("ENTRYPOINT") == ['["/docker-entrypoint.sh"]']
    assert all_of("WORKDIR") == ["/opt/flink"]
    assert all_of("EXPOSE") == ["6123 8081"]
    assert {"gettext-base", "libjemalloc-dev"} <= set(only("RUN", "apt-get").split())


def test_what_runs_is_no_root():
    assert last_stage()[-1] == Instruction("USER", "9999")
    user = only("RUN", "useradd")
    assert "--gid=9999 flink" in user
    assert "--uid=9999" in user


def test_the_folder_for_artifacts_belongs_to_the_user_that_runs():
    made = only("RUN", "/opt/headrace/artifacts")
    assert "mkdir -p /opt/headrace/artifacts" in made
    assert "chown -R flink:flink /opt/headrace" in made


def test_the_jar_of_the_python_driver_has_one_path_for_every_version(flink: Path):
    line = only("RUN", "flink-python.jar")
    assert shell(line, flink, FLINK_VERSION="1.20.3").returncode == 0
    assert (flink / "opt" / "flink-python.jar").read_text() == "flink-python"
    assert shell(line, flink, FLINK_VERSION="2.2.1").returncode != 0


@pytest.mark.parametrize(
    ("wanted", "plugins"), [("true", ["s3-fs-hadoop/flink-s3-fs-hadoop-1.20.3.jar"]), ("false", [])]
)
def test_the_s3_plugin_is_there_when_asked_for(flink: Path, wanted: str, plugins: list[str]):
    assert "S3_PLUGIN=false" in all_of("ARG")
    line = only("RUN", "s3-fs-hadoop")
    assert shell(line, flink, FLINK_VERSION="1.20.3", S3_PLUGIN=wanted).returncode == 0
    assert [str(jar.relative_to(flink / "plugins")) for jar in (flink / "plugins").rglob("*.jar")] == plugins


@pytest.mark.parametrize("arguments", [{"S3_PLUGIN": "yes"}, {"S3_PLUGIN": "true", "FLINK_VERSION": "9.9.9"}])
def test_an_s3_plugin_that_cannot_be_had_ends_the_build(flink: Path, arguments: dict[str, str]):
    line = only("RUN", "s3-fs-hadoop")
    assert shell(line, flink, **{"FLINK_VERSION": "1.20.3", **arguments}).returncode != 0


def test_shell_lines_are_shell():
    for line in all_of("RUN"):
        checked = subprocess.run(["/bin/sh", "-n", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert checked.stderr == ""
