"""The Dockerfile of our own processes, as far as it can be told without a Docker engine."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

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


def test_the_launcher_is_the_service_with_the_flink_that_jobs_run_on() -> None:
    told = instructions("Dockerfile.launcher")
    given = dict(each.rest.split("=", 1) for each in told if each.word == "ARG")
    jobs = re.search(r"^ARG FLINK_VERSION=(.*)$", (ROOT / "flink_app" / "Dockerfile").read_text(), re.MULTILINE)
    assert jobs is not None
    assert given["FLINK_VERSION"] == jobs[1]
    assert [each.rest for each in told if each.word == "FROM"] == [
        "flink:${FLINK_VERSION}-java17 AS flink",
        "${SERVICE_IMAGE}",
    ]
    homes = dict(part.split("=") for each in told if each.word == "ENV" for part in each.rest.split())
    copied = [each.rest.split()[-1] for each in told if each.word == "COPY"]
    assert copied == [homes["JAVA_HOME"], homes["FLINK_HOME"]]
    assert not {"USER", "ENTRYPOINT"} & {each.word for each in told}, "those are the service's"
    (command,) = [json.loads(each.rest) for each in told if each.word == "CMD"]
    assert command == ["worker", "--queues", task_names.LAUNCHES_QUEUE, "--threads", "2"]
