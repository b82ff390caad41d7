"""The SQL runner as the program of a real application cluster, where Flink outlives it: the job is all that counts."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.flink_operator.cluster import Application, Cluster
from local.flink_operator.mapping import PYFLINK
from local.flink_operator.rest import effective_state
from tests.support.patience import wait_for

ROOT = Path(__file__).parents[2]
PYTHON_JAR = next((PYFLINK / "opt").glob("flink-python-*.jar"))
JOB_ID = "ab" * 16
KEYS = 4
BOUNDED = """\
CREATE TABLE words (word STRING) WITH ('connector' = 'filesystem', 'path' = '${HEADRACE_OUTPUT}', 'format' = 'csv');
INSERT INTO words SELECT word FROM (VALUES ('a'), ('b')) AS v (word);
"""


@contextmanager
def application(folder: Path, script: Path, parallelism: int = 1, restore: str | None = None) -> Iterator[Cluster]:
    """A cluster that runs the script as the image would; its output goes to `out` beside its folder."""
    runner = ["-py", str(ROOT / "flink_app" / "sql_runner.py"), "--", str(script)]
    cluster = Cluster(
        folder.name,
        folder,
        Application(
            job_id=JOB_ID,
            jar=PYTHON_JAR,
            jars=(),
            entry_class="org.apache.flink.client.python.PythonDriver",
            arguments=["-pyclientexec", sys.executable, "-pyexec", sys.executable, *runner],
            configuration={"execution.checkpointing.interval": "500ms"},
            env={"HEADRACE_OUTPUT": str(folder.parent / "out")},
            parallelism=parallelism,
            task_managers=parallelism,
            restore=restore,
        ),
    )
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        cluster.rest.close()


def wait_until(cluster: Cluster, state: str) -> None:
    """Returns once the job is in this state; fails the test with the log's end where its JobManager is gone."""

    def is_so() -> bool:
        assert cluster.job_manager.exit_code is None, cluster.job_manager.log_tail(20)
        job = cluster.rest.job(JOB_ID)
        return job is not None and effective_state(job) == state

    wait_for(f"the job to be {state}", is_so)


def has_left(cluster: Cluster) -> bool:
    """Whether the program's own process has ended."""
    return "Python Process Exited" in cluster.job_manager.log.read_text(errors="replace")


def counts(folder: Path) -> dict[str, list[int]]:
    """What the counting example has written, by key."""
    found = defaultdict(list)
    for part in folder.glob("part-*"):
        for line in part.read_text().splitlines():
            name, total = line.split(",")
            found[name].append(int(total))
    return {name: sorted(totals) for name, totals in found.items()}


def has_grown(folder: Path, before: dict[str, list[int]]) -> bool:
    """Whether every key was counted on since."""
    now = counts(folder)
    return len(now) == KEYS and all(len(totals) > len(before.get(name, [])) for name, totals in now.items())


@pytest.mark.slow
def test_a_bounded_script_ends_finished(tmp_path: Path):
    script = tmp_path / "bounded.sql"
    script.write_text(BOUNDED)
    with application(tmp_path / "one", script) as cluster:
        wait_until(cluster, "FINISHED")
    written = [part.read_text() for part in (tmp_path / "out").glob("part-*")]
    assert sorted("".join(written).split()) == ["a", "b"]


def test_an_endless_insert_outlives_its_program_and_keeps_its_state_at_another_parallelism(tmp_path: Path):
    script, out = ROOT / "examples" / "sql" / "counting.sql", tmp_path / "out"
    with application(tmp_path / "one", script) as cluster:
        wait_until(cluster, "RUNNING")
        wait_for("the program to end", lambda: has_left(cluster))
        before = counts(out)
        wait_for("counts that are written after that", lambda: has_grown(out, before))
        savepoint = cluster.rest.stop_with_savepoint(JOB_ID, f"file://{tmp_path}/savepoints", drain=False)
    before = counts(out)
    with application(tmp_path / "two", script, parallelism=2, restore=savepoint) as cluster:
        wait_until(cluster, "RUNNING")
        wait_for("counts of the second run", lambda: has_grown(out, before))
    assert all(totals == list(range(1, len(totals) + 1)) for totals in counts(out).values())
