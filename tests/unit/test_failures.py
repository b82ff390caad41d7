"""Every failure that was recorded, or that a program of ours words, comes out with its cause and a next step."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.deployments import PodTrouble, Status
from headrace.domain.failures import LONGEST_WORDS, Evidence, explain
from headrace.domain.status import error_of
from tests.e2e.recorded import recorded_versions

URL = "SCRIPT_URL https://x.example.com/y.py"
PYTHON = """2026-11-25 14:00:00,000 INFO  org.apache.flink.client.python.PythonDriver [] - started
Traceback (most recent call last):
  File "/opt/headrace/entrypoint.py", line 190, in run
    runpy.run_path(str(script), run_name="__main__")
  File "<frozen runpy>", line 291, in run_path
  File "/opt/headrace/files/job.py", line 12, in <module>
    raise ValueError("no such table")
ValueError: no such table
org.apache.flink.client.program.ProgramAbortException: java.lang.RuntimeException: Python process exits with code: 1
"""
JAVA = """org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
\tat org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler.handle(ExecutionFailureHandler.java:219)
Caused by: java.lang.IllegalStateException: a poisonous record
\tat io.example.Count.processElement(Count.java:42)
\tat org.apache.flink.streaming.api.operators.KeyedProcessOperator.processElement(KeyedProcessOperator.java:83)
"""
EMBEDDED = """java.lang.RuntimeException: chained
Caused by: pemja.core.PythonException: <class 'ValueError'>: a poisonous record
\tat /opt/headrace/files/job.process_element(job.py:43) ~[?:?]
\tat /usr/lib/python3.11/site-packages/pyflink/fn_execution/embedded/operations.process_element(operations.py:93)
\tat pemja.core.object.PyIterator.hasNext(PyIterator.java:40) ~[?:?]
"""
UNSCHEDULABLE = PodTrouble("orders-taskmanager-1-1", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")


def recorded_error(name: str) -> str:
    errors = [each["status"]["error"] for each in recorded_versions(name) if (each.get("status") or {}).get("error")]
    found = error_of(Status(error=errors[-1]))
    assert found is not None
    return found.message


CASES: list[tuple[str, Evidence, str, str]] = [
    ("404", Evidence(error=f"[fetch] CrashLoop - {URL} answered 404\n"), f"{URL} answered 404", "no such file"),
    ("forbidden", Evidence(error=f"{URL} answered 403"), "answered 403", "credentials"),
    ("hash", Evidence(error=f"{URL} has sha256 {'a' * 64}, not {'b' * 64}"), f"not {'b' * 64}", "hash that it has"),
    (
        "size",
        Evidence(error=f"{URL} is larger than the 5 bytes allowed"),
        "larger than the 5 bytes",
        "MAX_ARTIFACT_BYTES",
    ),
    (
        "host",
        Evidence(error=f"{URL} refused: host b is not allowed (allowed: a)"),
        "host b is not allowed",
        "ALLOWED_HOSTS",
    ),
    ("unreachable", Evidence(error=f"{URL} cannot be reached: timed out"), "cannot be reached: timed out", "can reach"),
    (
        "syntax",
        Evidence(log="script /opt/headrace/files/job.py, line 3: invalid syntax\n    x ="),
        "line 3: invalid",
        "mend",
    ),
    (
        "import",
        Evidence(log=PYTHON.replace("ValueError: no such table", "ModuleNotFoundError: No module named 'pandas'")),
        "No module named 'pandas' (job.py, line 12)",
        "requirements.txt",
    ),
    (
        "class",
        Evidence(log="Caused by: java.lang.ClassNotFoundException: com.example.None\n"),
        "com.example.None",
        "jar tf",
    ),
    ("python", Evidence(log=PYTHON), "ValueError: no such table (job.py, line 12)", "start_from"),
    (
        "java",
        Evidence(exceptions=[JAVA]),
        "IllegalStateException: a poisonous record (Count.java, line 42)",
        "start_from",
    ),
    ("embedded", Evidence(exceptions=[EMBEDDED]), "ValueError: a poisonous record (job.py, line 43)", "mend it"),
    ("sql", Evidence(log="statement 3, line 12: Object 'x' not found\n"), "statement 3, line 12: Object 'x'", "mend"),
    ("image", Evidence(error=recorded_error("image-pull-fails")), "no route to host", "image_pull_secrets"),
    (
        "image never",
        Evidence(trouble=PodTrouble("p", "ErrImageNeverPull", "Container image x is not present")),
        "the image cannot be pulled (ErrImageNeverPull): Container image x",
        "check image",
    ),
    ("unschedulable", Evidence(trouble=UNSCHEDULABLE), "Insufficient cpu", "add nodes"),
    ("quota", Evidence(error=recorded_error("quota-exceeded")), "exceeded quota: q", "ResourceQuota"),
    ("rbac", Evidence(refused='flinkdeployments is forbidden: User "a" cannot create resource'), 'User "a"', "Role"),
    ("crd", Evidence(refused="this cluster has no FlinkDeployment CRD: install it"), "no FlinkDeployment CRD", "Helm"),
    (
        "savepoint",
        Evidence(error=recorded_error("savepoint-directory-unwritable")),
        "savepoint could not be taken",
        "9999",
    ),
    ("oom", Evidence(trouble=PodTrouble("orders-taskmanager-1-1", "OOMKilled", "exit 137")), "OOMKilled", "resources"),
    (
        "heap",
        Evidence(exceptions=["java.lang.OutOfMemoryError: Java heap space\n\tat x"]),
        "Java heap space",
        "resources",
    ),
    (
        "s3",
        Evidence(log="Could not find a file system implementation for scheme 's3'. The scheme is"),
        "s3://",
        "S3_PLUGIN",
    ),
    ("secret", Evidence(error='[flink-main-container] secret "db" not found'), 'secret "db" not found', "create it"),
    ("file", Evidence(error=recorded_error("script-missing")), "none.py is not there", "in the image"),
]


@pytest.mark.parametrize(("evidence", "cause", "step"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_failure_has_its_cause_and_the_next_step(evidence: Evidence, cause: str, step: str) -> None:
    found = explain(evidence)
    assert found is not None
    assert cause in found.cause
    assert step in found.next_step
    assert "\n" not in str(found)


def test_what_nobody_knows_is_not_made_up() -> None:
    assert explain(Evidence()) is None
    assert explain(Evidence(error="Job Not Found", log="INFO all is well\n")) is None


@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_any_text_is_survived_and_kept_short(error: str, log: str, exceptions: list[str]) -> None:
    found = explain(
        Evidence(error=json.dumps(error), log=f"Traceback (most recent call last):\n{log}", exceptions=exceptions)
    )
    assert found is None or len(found.cause) <= LONGEST_WORDS
