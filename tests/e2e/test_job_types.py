"""What each type of job can bring with it, on real Flink: a folder and a jar, requirements, a connector. That state
outlives what is asked of a job is in test_life_of_a_job.py, for each type."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from headrace.cli.files import source_from
from tests.support import servers
from tests.support.missing import missing
from tests.support.patience import wait_for
from tests.support.serving import serving
from tests.support.stack import ROOT, RunningStack, running_stack

pytestmark = pytest.mark.timeout(900)

EXAMPLES = ROOT / "examples"
CHECKPOINTS = {"execution.checkpointing.interval": "2s"}
BUNDLES = {"python.fn-execution.bundle.size": "10"}  # a checkpoint waits for the bundle: of 1,000 as usual, 50 s here
CONNECTOR = "flink-sql-connector-kafka"


@pytest.fixture(scope="module")
def connector() -> Path | None:
    """The Kafka connector's jar from FLINK_CONNECTOR_JARS, where it is set."""
    folder = os.environ.get("FLINK_CONNECTOR_JARS")
    return next(Path(folder).glob(f"{CONNECTOR}-*.jar"), None) if folder else None


@pytest.fixture(scope="module")
def web(connector: Path | None) -> Iterator[str]:
    files = {"/shout-udf.jar": (EXAMPLES / "jar" / "shout-udf.jar").read_bytes()}
    if connector is not None:
        files["/connector.jar"] = connector.read_bytes()
    with serving(files) as address:
        yield address


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("stack") / "data", {"KUBEBUILDER_ASSETS": ""}) as running:
        yield running


def folder_job(web: str) -> dict[str, Any]:
    return {
        **source_from(str(ROOT / "tests" / "data" / "folder_job")),
        "jar_files": f"{web}/shout-udf.jar",
        "flink_configuration": BUNDLES,
    }


def submit(stack: RunningStack, job_id: str, config: dict[str, Any], **fields: Any) -> None:
    configured = {**CHECKPOINTS, **config.get("flink_configuration", {})}
    body = {"job_id": job_id, "job_config": {**config, "flink_configuration": configured}, **fields}
    answer = stack.call("POST", "/jobs/submit", body)
    assert answer.status_code == 202, answer.text


def do(stack: RunningStack, job_id: str, verb: str, body: dict[str, Any]) -> None:
    operation = stack.call("POST", f"/jobs/{job_id}/{verb}", body).json()["operation"]
    ended = stack.await_operation(operation["id"])
    assert ended["state"] == "SUCCEEDED", ended


def test_state_of_a_folder_with_a_jar_outlives_a_scale_a_stop_and_a_second_run(stack: RunningStack, web: str) -> None:
    job_id = "folder"
    submit(stack, job_id, folder_job(web))
    stack.await_phase(job_id, "RUNNING")
    counted = wait_for("output", lambda: stack.count(job_id))
    do(stack, job_id, "scale", {"parallelism": 2})
    assert stack.phases(job_id)[-2:] == ["SCALING", "RUNNING"]
    wait_for("the count to go on", lambda: stack.count(job_id) > counted)
    do(stack, job_id, "stop", {})
    path = str(stack.job(job_id)["savepoint_path"])
    assert (Path(re.sub("^file:/*", "/", path)) / "_metadata").is_file()
    counted = stack.count(job_id)
    submit(stack, job_id, folder_job(web), start_from="last")
    stack.await_phase(job_id, "RUNNING")
    restored = wait_for("it to be restored", lambda: stack.checkpoints(job_id).get("restored"))
    assert restored["external_path"] == path
    wait_for("the count to go on", lambda: stack.count(job_id) > counted)
    assert stack.lines_are_whole(job_id)
    assert set(stack.lines(job_id)) == {f"KEY-{n}!" for n in range(4)}, "the jar's function ran on each"
    do(stack, job_id, "stop", {})


def test_a_bounded_script_finishes(stack: RunningStack) -> None:
    sql = """
    SET 'execution.runtime-mode' = 'batch';
    CREATE TABLE words (word STRING) WITH ('connector' = 'filesystem', 'path' = '${HEADRACE_OUTPUT}', 'format' = 'csv');
    INSERT INTO words SELECT word FROM (VALUES ('a;b'), ('c')) AS v (word); -- a comment; with a semicolon
    """
    submit(stack, "bounded", {"type": "SQL", "sql": sql})
    stack.await_phase("bounded", "FINISHED")
    [operation] = stack.call("GET", "/jobs/bounded/operations").json()["operations"]
    assert stack.await_operation(operation["id"])["state"] == "SUCCEEDED"
    parts = (stack.data / "state" / "output" / "bounded").rglob("part-*")
    assert sorted("".join(part.read_text() for part in parts).split()) == ["a;b", "c"]


NEEDS_A_PACKAGE = """
import os

import tinyreq  # where the script runs
from pyflink.common import Encoder, Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, RollingPolicy


def word(number):
    import tinyreq  # where TaskManagers run

    return f"{tinyreq.WORD}-{number}"


env = StreamExecutionEnvironment.get_execution_environment()
sink = (
    FileSink.for_row_format(os.environ["HEADRACE_OUTPUT"], Encoder.simple_string_encoder())
    .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
    .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
    .build()
)
env.from_collection([1, 2], Types.INT()).map(word, Types.STRING()).sink_to(sink)
env.execute(tinyreq.WORD)
"""


def test_requirements_are_there_for_the_script_and_on_taskmanagers(stack: RunningStack, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tinyreq-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinyreq.py", "WORD = 'brought'\n")
        wheel.writestr("tinyreq-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyreq\nVersion: 1.0\n")
        wheel.writestr("tinyreq-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinyreq-1.0.dist-info/RECORD", "tinyreq.py,,\n")
    requirements = f"--no-index\n--find-links {tmp_path}\ntinyreq==1.0\n"
    config = {
        "script": {"name": "job.py", "content": NEEDS_A_PACKAGE},
        "files": [{"name": "requirements.txt", "content": requirements}],
    }
    submit(stack, "requirements", config)
    stack.await_phase("requirements", "FINISHED")
    output = stack.data / "state" / "output" / "requirements"
    assert words_in(output) == ["brought-1", "brought-2"]


def test_a_sql_job_reads_a_real_kafka_topic(
    stack: RunningStack, web: str, connector: Path | None, tmp_path: Path
) -> None:
    if connector is None:
        reason = f"FLINK_CONNECTOR_JARS does not name a folder with {CONNECTOR}-*.jar; download one and set it"
        missing(reason)
    command = servers.real_kafka(tmp_path / "kafka")
    with servers.running(command, tmp_path / "kafka"):
        producer = Producer({"bootstrap.servers": command.address})
        for word in ("to", "be", "or", "not", "to", "be"):
            producer.produce("words", word.encode())
        assert producer.flush(30) == 0
        template = {
            "template_id": "words",
            "type": "SQL",
            "parameters": {"servers": {"required": True}, "topic": {"default": "words"}},
            "sql": KAFKA_SQL,
            "jar_files": [f"{web}/connector.jar"],
            "flink_configuration": CHECKPOINTS,
        }
        assert stack.call("POST", "/templates", template).status_code == 201
        body = {"template_id": "words", "job_id": "words", "parameters": {"servers": command.address}}
        assert stack.call("POST", "/jobs/submit", body).status_code == 202
        stack.await_phase("words", "RUNNING")
        output = stack.data / "state" / "output" / "words"
        wait_for("the words", lambda: words_in(output) == ["be", "be", "not", "or", "to", "to"])
        do(stack, "words", "stop", {})


KAFKA_SQL = """
CREATE TABLE words (word STRING) WITH (
  'connector' = 'kafka', 'topic' = '${topic}', 'properties.bootstrap.servers' = '${servers}',
  'properties.group.id' = 'words', 'scan.startup.mode' = 'earliest-offset', 'format' = 'raw'
);
CREATE TABLE found (word STRING) WITH ('connector' = 'filesystem', 'path' = '${HEADRACE_OUTPUT}', 'format' = 'csv');
INSERT INTO found SELECT word FROM words;
"""


def words_in(folder: Path) -> list[str]:
    return sorted(word for part in folder.rglob("part-*") for word in part.read_text().split())
