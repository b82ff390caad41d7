"""Every failure that was recorded, or that a program of ours words, comes out with its cause and a next step."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.deployments import PodTrouble, Status
from headrace.domain.failures import LONGEST_LOG, LONGEST_WORDS, Evidence, explain
from headrace.domain.status import error_of
from tests.support.recorded import recorded_versions

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
LOST_TO_MEMORY = (
    "java.lang.Exception: Pod terminated, container termination statuses: [flink-main-container(exitCode=137, "
    "reason=OOMKilled, message=null)], pod status: Failed(reason=null, message=null)\n\tat a.b.C.d(C.java:1)"
)
LOADED_TWICE = """java.lang.RuntimeException: java.lang.NoSuchFieldException: loadedLibraryNames
\tat pemja.utils.CommonUtils.loadLibrary(CommonUtils.java:117) ~[?:?]
\tat pemja.utils.CommonUtils.loadPython(CommonUtils.java:50) ~[?:?]
Caused by: java.lang.NoSuchFieldException: loadedLibraryNames
\tat java.lang.Class.getDeclaredField(Unknown Source) ~[?:?]
"""
NO_FINDER = """java.lang.RuntimeException: Failed to find libpython
\tat pemja.utils.CommonUtils.getPythonLibrary(CommonUtils.java:186) ~[?:?]
Caused by: java.io.IOException: Failed to execute the command: python3 -c from find_libpython import find_libpython
output: Traceback (most recent call last):
ModuleNotFoundError: No module named 'find_libpython'
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
    (
        "plain http",
        Evidence(error=f"{URL} refused: plain http without a sha256; give https, or the file's sha256"),
        "plain http without a sha256",
        "give an https URL",
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
    (
        "loaded twice",
        Evidence(exceptions=[LOADED_TWICE]),
        "the TaskManager's JVM could not load Python: it can do so only once in its life",
        "leave python.execution-mode out of flink_configuration",
    ),
    (
        "no libpython",
        Evidence(exceptions=[NO_FINDER]),
        "found no Python that it can load: Failed to find libpython",
        "set it to process",
    ),
    (
        "no shell",
        Evidence(
            exceptions=["Caused by: java.lang.IllegalStateException: Process died with exit code 127\n\tat a.B(C.c)"]
        ),
        "Python could not be started beside the TaskManager's JVM",
        "bash, tee and the Python",
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
    (
        "savepoint",
        Evidence(error=recorded_error("savepoint-directory-unwritable")),
        "savepoint could not be taken",
        "9999",
    ),
    ("oom", Evidence(trouble=PodTrouble("orders-taskmanager-1-1", "OOMKilled", "exit 137")), "OOMKilled", "resources"),
    (
        "oom of a TaskManager",
        Evidence(trouble=PodTrouble("orders-taskmanager-1-1", "OOMKilled", component="taskmanager")),
        "taskmanager pod orders-taskmanager-1-1 was killed",
        "raise resources.task_manager.memory",
    ),
    (
        "oom that Flink saw",
        Evidence(exceptions=[LOST_TO_MEMORY]),
        "a TaskManager's pod was killed for its use of memory",
        "raise resources.task_manager.memory",
    ),
    (
        "lost",
        Evidence(exceptions=["java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id x-1 timed out."]),
        "a TaskManager was lost",
        "headrace events",
    ),
    (
        "metaspace",
        Evidence(exceptions=["java.lang.OutOfMemoryError: Metaspace. The metaspace out-of-memory error"]),
        "Metaspace",
        "taskmanager.memory.jvm-metaspace.size",
    ),
    (
        "quota of TaskManagers",
        Evidence(log='Message: pods "orders-taskmanager-1-1" is forbidden: exceeded quota: q, requested: pods=1\n'),
        "exceeded quota: q",
        "ResourceQuota",
    ),
    (
        "not writable",
        Evidence(exceptions=["Caused by: java.io.IOException: Mkdirs failed to create file:/state/chk"]),
        "/state/chk: permission denied",
        "9999",
    ),
    (
        "pip",
        Evidence(trouble=PodTrouble("p", "CrashLoopBackOff", "[flink-main-container] pip could not install r.txt: No")),
        "pip could not install r.txt",
        "requirements.txt",
    ),
    (
        "syntax as the pod left it",
        Evidence(trouble=PodTrouble("p", "CrashLoopBackOff", "[flink-main-container] script /a/job.py, line 3: bad")),
        "script /a/job.py, line 3: bad",
        "mend",
    ),
    (
        "error as the pod left it",
        Evidence(trouble=PodTrouble("p", "CrashLoopBackOff", "[flink-main-container] KeyError: 'a' (job.py, line 2)")),
        "KeyError: 'a' (job.py, line 2)",
        "start_from",
    ),
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


def test_only_the_newest_exception_is_blamed() -> None:
    found = explain(Evidence(exceptions=[JAVA, LOST_TO_MEMORY]))
    assert found is not None
    assert "a poisonous record" in found.cause


def test_what_stands_last_in_a_log_is_blamed() -> None:
    survived = "java.lang.OutOfMemoryError: Java heap space\nscript /opt/x.py, line 1: invalid syntax\n"
    found = explain(Evidence(log=survived + PYTHON))
    assert found is not None
    assert "ValueError: no such table (job.py, line 12)" in found.cause
    found = explain(Evidence(log=PYTHON + "java.lang.OutOfMemoryError: Java heap space\n"))
    assert found is not None
    assert "Java heap space" in found.cause


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-25 14:00:00,000 INFO  io.example.Job [] - java.io.FileNotFoundException: /tmp/cache is made anew",
        "the docs say: script x.py, line 3: is wrong",
        "ErrImagePull is a word that a job may print",
        "2026-11-25 14:00:00,000 WARN  io.example.Job [] - Savepoint Error happens",
        "-XX:+ExitOnOutOfMemoryError",
        "Heartbeat of TaskManager with id a timed out",
    ],
)
def test_an_innocent_line_of_a_log_is_blamed_for_nothing(line: str) -> None:
    assert explain(Evidence(log=f"{line}\n")) is None


def test_what_flink_wraps_a_python_program_in_is_no_cause() -> None:
    wrapped = "org.apache.flink.X: a\nCaused by: java.lang.RuntimeException: Python process exits with code: 1\n"
    found = explain(Evidence(exceptions=[wrapped], log=PYTHON))
    assert found is not None
    assert "ValueError: no such table" in found.cause
    alone = explain(Evidence(exceptions=[wrapped]))  # whoever cannot read the log knows no more
    assert alone is not None
    assert alone.cause == "the Python program ended with exit code 1"


def test_an_error_that_is_not_of_the_users_code_does_not_send_him_there() -> None:
    found = explain(Evidence(exceptions=["org.apache.kafka.common.errors.TimeoutException: Timed out\n\tat a.b(C.c)"]))
    assert found is not None
    assert "mend" not in found.next_step
    assert "headrace logs" in found.next_step


@pytest.mark.parametrize("piece", ["a", "a.", "a ", "a-", "x.Y: ", "SCRIPT_URL ", " at "])
@pytest.mark.timeout(20)
def test_a_log_of_one_endless_line_is_read_in_no_time(piece: str) -> None:
    explain(Evidence(log=piece * (LONGEST_LOG // len(piece)), error=piece * 2000))


def test_what_nobody_knows_is_not_made_up() -> None:
    assert explain(Evidence()) is None
    assert explain(Evidence(error="Job Not Found", log="INFO all is well\n")) is None


@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_any_text_is_survived_and_kept_short(error: str, log: str, exceptions: list[str]) -> None:
    found = explain(
        Evidence(error=json.dumps(error), log=f"Traceback (most recent call last):\n{log}", exceptions=exceptions)
    )
    assert found is None or len(found.cause) <= LONGEST_WORDS


@pytest.mark.parametrize("looks", [1, 200])
def test_what_a_jobmanager_says_of_a_request_is_no_failure_of_its_job(looks: int) -> None:
    """As Flink 2.2.1 logged it on a real cluster, at each look at a job whose program had failed at once."""
    look = (
        "2026-11-29 13:19:39,265 ERROR org.apache.flink.runtime.rest.handler.job.JobDetailsHandler  [] - Unhandled "
        "exception.\njava.lang.NullPointerException: null\n\tat org.apache.flink.util.Preconditions.checkNotNull("
        "Preconditions.java:59) ~[flink-dist-2.2.1.jar:2.2.1]\n\tat java.base/java.lang.Thread.run(Unknown Source) "
        "[?:?]\n"
    )
    ended = "2026-11-29 13:20:44,871 WARN  org.apache.flink.runtime.entrypoint.ClusterEntrypoint        [] - SIGTERM.\n"
    for log in (look * looks, look * looks + ended, (look * looks).rstrip()):
        assert explain(Evidence(log=log)) is None
    if looks == 1:
        found = explain(Evidence(log=PYTHON + look + ended))
        assert found is not None
        assert found.cause.startswith("ValueError: no such table")
