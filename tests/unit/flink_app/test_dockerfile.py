"""What can be held of the Flink image's Dockerfile without a Docker engine: its instructions, and its shell lines."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.flink_operator.mapping import PYFLINK, image_opt, image_paths
from tests.support.flink_image import FLINK_APP, Instruction, all_of, copied, copy_ours, instructions, only, shell

SOURCES = ("entrypoint.py", "sql_runner.py", "flink_sql.py", "secret_names.py", "quiet.properties")
OLD_LINK = "ln -s flink-python-1.20.3.jar /opt/flink/opt/flink-python.jar"


def last_stage() -> list[Instruction]:
    every = instructions()
    begin = max(index for index, one in enumerate(every) if one.word == "FROM")
    return every[begin:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with what Flink's own image has at /opt/flink, as far as the shell lines look."""
    home = tmp_path / "opt" / "flink"
    (home / "opt").mkdir(parents=True)
    (home / "plugins").mkdir()
    (home / "bin").mkdir()
    shutil.copy(PYFLINK / "bin" / "flink-console.sh", home / "bin")
    for name in ("flink-python", "flink-s3-fs-hadoop"):
        (home / "opt" / f"{name}-1.20.3.jar").write_text(name)
    return tmp_path


def test_one_argument_names_the_version_of_the_image_and_of_the_wheel():
    assert all_of("ARG")[0] == "FLINK_VERSION=2.2.1"
    assert all_of("FROM")[0] == "${FLINK_IMAGE}:${FLINK_VERSION}-java17 AS flink"
    assert "FLINK_VERSION" in [one.rest for one in last_stage() if one.word == "ARG"]
    assert '"apache-flink==${FLINK_VERSION}"' in only("RUN", "pip install")
    versions = re.findall(r"\d+\.\d+\.\d+", "\n".join(one.rest for one in instructions()))
    assert versions == ["2.2.1"]


def test_the_images_are_flinks_and_pythons_and_nothing_comes_from_elsewhere():
    images = [rest.split()[0] for rest in all_of("FROM")]
    assert images == ["${FLINK_IMAGE}:${FLINK_VERSION}-java17", "${PYTHON_IMAGE}"]
    assert {"FLINK_IMAGE=flink", "PYTHON_IMAGE=python:3.11-slim-bookworm"} <= set(all_of("ARG"))
    assert set(re.findall(r"--from=(\S+)", "\n".join(all_of("COPY")))) == {"flink"}
    text = "\n".join(one.rest for one in instructions())
    assert "://" not in text
    assert not re.search(r"\blatest\b|\bcurl\b|\bwget\b|--index-url|--find-links", text)
    assert not all_of("ADD")


@pytest.mark.parametrize("source", SOURCES)
def test_our_programs_are_there_and_copied(source: str):
    assert source in copied().values()
    assert (FLINK_APP / source).is_file()


@pytest.mark.parametrize("program", ["entrypoint.py", "sql_runner.py"])
def test_our_programs_start_with_what_is_copied_alone(tmp_path: Path, program: str):
    """As in the image: this Python knows no checkout (-S) and no PYTHONPATH (-E)."""
    copy_ours(tmp_path)
    argv = [sys.executable, "-S", "-E", str(tmp_path / "opt" / "headrace" / program), "--help"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["flink_sql.py", "secret_names.py"])
def test_headrace_and_the_image_read_sql_and_names_of_secrets_by_one_text(module: str):
    """The wheel holds the package alone, and the image's folder is all that a build of it gets: a link is in both."""
    assert (FLINK_APP.parent / "headrace" / "domain" / module).samefile(FLINK_APP / module)


def test_what_is_copied_from_flinks_image_is_enough_for_its_own_entrypoint():
    taken = [rest.split()[-2:] for rest in all_of("COPY") if "--from=flink" in rest]
    assert taken == [[path, path] for path in ("/opt/java/openjdk", "/opt/flink", "/docker-entrypoint.sh")]
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
    assert made.endswith("chown -R flink:flink /opt/headrace")


def test_the_jar_of_the_python_driver_has_one_path_for_every_version(root: Path):
    assert shell(only("RUN", "ln -s"), root, FLINK_VERSION="1.20.3").returncode == 0
    assert (root / "opt" / "headrace" / "flink-python.jar").is_symlink()
    assert shell(only("RUN", "find /opt/flink/opt"), root, FLINK_VERSION="1.20.3").returncode == 0


@pytest.mark.parametrize(
    "mistake",
    [
        OLD_LINK,
        "mkdir /opt/flink/opt/old && cp /opt/flink/opt/flink-python-1.20.3.jar /opt/flink/opt/old/flink-python-old.jar",
        "rm /opt/flink/opt/flink-python-1.20.3.jar",
        "mv /opt/flink/opt/flink-python-1.20.3.jar /opt/flink/opt/flink-python-1.20.2.jar",
    ],
)
def test_a_build_ends_where_flink_would_not_find_its_one_python_jar(root: Path, mistake: str):
    shell(only("RUN", "ln -s"), root, FLINK_VERSION="1.20.3")
    assert shell(mistake, root).returncode == 0
    assert shell(only("RUN", "find /opt/flink/opt"), root, FLINK_VERSION="1.20.3").returncode != 0


def test_a_build_ends_where_flinks_script_has_no_place_for_the_quiet_log(root: Path):
    script, line = root / "opt" / "flink" / "bin" / "flink-console.sh", only("RUN", "quiet.properties")
    assert shell(line, root).returncode == 0
    assert shell(line, root).returncode != 0, "it is there once, and another time would be a mistake"
    script.write_text("another script")
    assert shell(line, root).returncode != 0


def test_laptop_mode_has_what_the_image_has():
    """Else a mistake of the image, such as a second flink-python in opt, would not show on a laptop."""
    linked = [link for line in all_of("RUN") for link in re.findall(r"ln -s \S+ (\S+)", line)]
    ours = {*linked, *copied()}
    assert ours == {path for path in image_paths() if path.startswith("/opt/headrace/")}
    assert set(image_opt()) == {file.name for file in (PYFLINK / "opt").iterdir()}


@pytest.mark.parametrize(
    ("wanted", "plugins"), [("true", ["s3-fs-hadoop/flink-s3-fs-hadoop-1.20.3.jar"]), ("false", [])]
)
def test_the_s3_plugin_is_there_when_asked_for(root: Path, wanted: str, plugins: list[str]):
    assert "S3_PLUGIN=false" in all_of("ARG")
    line = only("RUN", "s3-fs-hadoop")
    assert shell(line, root, FLINK_VERSION="1.20.3", S3_PLUGIN=wanted).returncode == 0
    found = root / "opt" / "flink" / "plugins"
    assert [str(jar.relative_to(found)) for jar in found.rglob("*.jar")] == plugins


@pytest.mark.parametrize("arguments", [{"S3_PLUGIN": "yes"}, {"S3_PLUGIN": "true", "FLINK_VERSION": "9.9.9"}])
def test_an_s3_plugin_that_cannot_be_had_ends_the_build(root: Path, arguments: dict[str, str]):
    line = only("RUN", "s3-fs-hadoop")
    assert shell(line, root, **{"FLINK_VERSION": "1.20.3", **arguments}).returncode != 0


def test_shell_lines_are_shell():
    for line in all_of("RUN"):
        checked = subprocess.run(["/bin/sh", "-n", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert checked.stderr == ""
