"""The Dockerfile of our own processes, as far as it can be told without a Docker engine."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from headrace import task_names
from tests.support.flink_image import Instruction

ROOT = Path(__file__).parents[2]


def instructions(file: str = "Dockerfile") -> list[Instruction]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def all_of(word: str) -> list[str]:
    return [each.rest for each in instructions() if each.word == word]


def test_the_process_is_the_first_one_and_nobody_of_importance() -> None:
    assert [json.loads(each) for each in all_of("ENTRYPOINT")] == [["python", "-m"]]
    assert all_of("USER") == ["10001"]
    assert [each.word for each in instructions()][-2:] == ["ENTRYPOINT", "CMD"]


def test_every_entry_point_is_in_it() -> None:
    """The core as a wheel, and the packages that ship in the image alone."""
    final = [each for each in all_of("COPY") if not each.startswith("--from") and len(each.split()) == 2]
    copied = {each.split()[0] for each in final}
    assert {"api", "worker", "beat", "consumer", "headrace", "flink_app"} <= copied
    for module in ("api", "worker", "worker/flower.py", "beat", "consumer"):
        path = ROOT / module
        assert path.is_file() or (path / "__main__.py").is_file()


def test_what_it_copies_is_there_and_let_in() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for each in all_of("COPY"):
        if not each.startswith("--from"):
            for source in each.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in let_in


def test_its_uv_is_the_one_of_run_and_its_packages_are_those_of_the_lock_by_their_hashes() -> None:
    (pinned,) = {found for each in all_of("RUN") for found in re.findall(r"uv==[\d.]+", each)}
    assert pinned == runpy.run_path(str(ROOT / "run"), run_name="run")["UV"]
    (installed,) = [each for each in all_of("RUN") if "uv export" in each]
    assert "--frozen" in installed
    assert "--require-hashes" in installed


def test_no_layer_is_given_a_secret() -> None:
    given = " ".join(all_of("ARG") + all_of("ENV"))
    assert not re.search(r"(?i)password|token|secret|key=", given)


@pytest.mark.parametrize(
    ("file", "takes"),
    [
        ("Dockerfile", {"PYTHON_IMAGE", "PIP_INDEX_URL"}),
        ("flink_app/Dockerfile", {"PYTHON_IMAGE", "PIP_INDEX_URL", "FLINK_IMAGE"}),
        ("Dockerfile.launcher", {"FLINK_IMAGE"}),
    ],
)
def test_an_image_is_built_behind_a_mirror_by_the_arguments_that_the_script_names(file: str, takes: set[str]) -> None:
    """An argument that no ARG declares is dropped, and the build goes to the Internet."""
    told = instructions(file)
    declared = {each.rest.partition("=")[0] for each in told if each.word == "ARG"}
    assert declared & {"PYTHON_IMAGE", "PIP_INDEX_URL", "FLINK_IMAGE"} == takes
    stages = {each.rest.split()[0] for each in told if each.word == "FROM"}
    assert all(stage.startswith("${") for stage in stages)
    script = [str(ROOT / "k8s-deploy" / "build-and-push.sh"), "--help"]
    said = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(name in said for name in takes)
    if "PIP_INDEX_URL" in takes:  # of the stage that installs, and before it does
        words = [each.word for each in told]
        installs = next(number for number, each in enumerate(told) if "pip install" in each.rest)
        begins = max(number for number, word in enumerate(words[:installs]) if word == "FROM")
        assert any(each.rest.startswith("PIP_INDEX_URL") for each in told[begins:installs])


def test_the_launcher_is_the_service_with_the_flink_that_jobs_run_on() -> None:
    told = instructions("Dockerfile.launcher")
    given = dict(each.rest.split("=", 1) for each in told if each.word == "ARG")
    jobs = re.search(r"^ARG FLINK_VERSION=(.*)$", (ROOT / "flink_app" / "Dockerfile").read_text(), re.MULTILINE)
    assert jobs is not None
    assert given["FLINK_VERSION"] == jobs[1]
    assert given["FLINK_IMAGE"] == "flink"
    assert [each.rest for each in told if each.word == "FROM"] == [
        "${FLINK_IMAGE}:${FLINK_VERSION}-java17 AS flink",
        "${SERVICE_IMAGE}",
    ]
    homes = dict(part.split("=") for each in told if each.word == "ENV" for part in each.rest.split())
    copied = [each.rest.split()[-1] for each in told if each.word == "COPY"]
    assert copied == [homes["JAVA_HOME"], homes["FLINK_HOME"]]
    assert not {"USER", "ENTRYPOINT"} & {each.word for each in told}, "those are the service's"
    (command,) = [json.loads(each.rest) for each in told if each.word == "CMD"]
    assert command == ["worker", "--queues", task_names.LAUNCHES_QUEUE, "--threads", "2"]
