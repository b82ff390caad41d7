"""Failures made to happen for real: each ends in `describe`, over HTTP and in MongoDB with its cause and the next step.

What laptop mode cannot do (images, nodes, quotas) is in tests/integration/test_failures_in_words.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from find_libpython import find_libpython
from pymongo import MongoClient

from tests.support.missing import needs_libpython
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.serving import serving
from tests.support.stack import ROOT, RunningStack, running_stack

pytestmark = pytest.mark.timeout(600)

SETTINGS = {
    "HEADRACE_FAILURE_GRACE_SECONDS": "4",
    "HEADRACE_FLINK_MAX_ARTIFACT_BYTES": "200000",
    "KUBEBUILDER_ASSETS": "",  # the small API serves the pods' logs; a kube-apiserver alone has no kubelet to ask
}
SCRIPT = b"print(1)\n"
FAILING = (
    (ROOT / "examples" / "counting_job.py")
    .read_text()
    .replace(
        "        count = (self._count.value() or 0) + 1\n",
        "        count = (self._count.value() or 0) + 1\n"
        "        if count > 5:  # by then it was seen to run\n            raise ValueError('a poisonous record')\n",
    )
)
IN_THE_JVM = "poisoned-in-the-jvm"


def script(text: str) -> dict[str, Any]:
    return {"script": {"name": "job.py", "content": text}}


Case = tuple[dict[str, Any], str, str, str]

CASES: dict[str, Case] = {
    "not-found": ({"script": "URL/none.py"}, "FAILED", "none.py answered 404", "check the URL"),
    "wrong-hash": ({"script": "URL/job.py", "sha256": "0" * 64}, "FAILED", f"not {'0' * 64}", "hash that it has"),
    "too-large": ({"script": "URL/large.py"}, "FAILED", "larger than the 200000 bytes", "MAX_ARTIFACT_BYTES"),
    "redirected": ({"script": "URL/elsewhere.py"}, "FAILED", "evil.example.com is not allowed", "ALLOWED_HOSTS"),
    "no-jar": ({"type": "JAR", "jar": "URL/page.jar"}, "FAILED", "is not a jar", "name the jar itself"),
    "no-secret": (
        {**script("print(1)\n"), "env": {"A": {"secretKeyRef": {"name": "none-such", "key": "a"}}}},
        "FAILED",
        'secret "none-such" not found',
        "create it in the job's namespace",
    ),
    "syntax": (script("def x(:\n"), "FAILED", "job.py, line 1: ", "mend the script"),
    "no-module": (
        script("import none_such\n"),
        "FAILED",
        "No module named 'none_such' (job.py, line 1)",
        "requirements.txt",
    ),
    "raises": (script("\nraise KeyError('colour')\n"), "FAILED", "KeyError: 'colour' (job.py, line 2)", "start_from"),
    "no-class": (
        {"type": "JAR", "jar": "URL/counting.jar", "main_class": "com.example.NoneSuch"},
        "FAILED",
        "com.example.NoneSuch is not in the jar",
        "check main_class",
    ),
    "no-plugin": (
        {**script(FAILING), "state": {"location": "s3://bucket/flink"}},
        "FAILED",
        "no plugin for s3://",
        "S3_PLUGIN=true",
    ),
    "poisoned": (
        script(FAILING),
        "RESTARTING",
        "ValueError: a poisonous record (job.py, line",
        "exceptions",
    ),
    IN_THE_JVM: (
        {**script(FAILING), "flink_configuration": {"python.execution-mode": "thread"}},
        "RESTARTING",
        "ValueError: a poisonous record (job.py, line",
        "exceptions",
    ),
}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    files = {"/job.py": SCRIPT, "/large.py": b"#" * 200_001, "/page.jar": b"<!DOCTYPE html>"}
    files["/counting.jar"] = (ROOT / "examples" / "jar" / "counting-job.jar").read_bytes()
    with serving(files, {"/elsewhere.py": "http://evil.example.com/job.py"}) as address:
        yield address


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, web: str) -> Iterator[RunningStack]:
    """A stack in which each of the jobs was submitted."""
    with running_stack(tmp_path_factory.mktemp("stack") / "data", SETTINGS) as running:
        for name, (config, _, _, _) in CASES.items():
            if name == IN_THE_JVM and not find_libpython():
                continue
            placed = {k: v.replace("URL", web) if isinstance(v, str) else v for k, v in config.items()}
            answer = running.call("POST", "/jobs/submit", {"job_id": name, "job_config": placed})
            assert answer.status_code == 202, answer.text
        yield running


def described(stack: RunningStack, name: str) -> str:
    argv = [sys.executable, "-m", "headrace.cli.main", "--url", stack.file["api_url"]]
    argv += ["--api-key-file", stack.file["api_key_file"], "describe", name]
    env = {**os.environ, "COLUMNS": "400"}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def record(stack: RunningStack, name: str) -> dict[str, Any]:
    with MongoClient(stack.file["mongodb_url"], timeoutMS=int(1000 * REQUEST_SECONDS)) as client:
        found = client["headrace"].jobs.find_one({"job_id": name})
    assert found is not None
    return dict(found)


def is_told(job: dict[str, Any], cause: str, step: str) -> bool:
    return cause in (job["reason"] or "") and step in (job["next_step"] or "")


def is_described(stack: RunningStack, name: str) -> bool:
    told = described(stack, name)
    return all(words in told for words in CASES[name][2:])


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_explained_wherever_one_looks(stack: RunningStack, name: str) -> None:
    _, phase, cause, step = CASES[name]
    if name == IN_THE_JVM:
        needs_libpython()
    if phase == "FAILED":
        stack.await_words(name, phase, cause)
        job, stored = stack.job(name), record(stack, name)
        assert is_told(job, cause, step), (job["reason"], stored["kept_log"][-1500:])
        assert (stored["reason"], stored["next_step"]) == (job["reason"], job["next_step"])
        assert is_described(stack, name)
    else:  # it runs in between, and then there is nothing to tell
        stack.await_phase(name, phase)
        wait_for(f"{name} to say {cause}", lambda: is_told(stack.job(name), cause, step), 60)
        wait_for(f"{name} to say so in its record", lambda: is_told(record(stack, name), cause, step), 60)
        wait_for(f"{name} to be described", lambda: is_described(stack, name), 60)
    [operation] = stack.call("GET", f"/jobs/{name}/operations").json()["operations"]
    if phase == "FAILED":
        ended = stack.await_operation(operation["id"])
        assert ended["state"] == "FAILED"
        assert cause in ended["reason"]
        assert step in ended["reason"]
        print(f"{name} | {ended['reason']}")


def test_a_failed_job_can_be_stopped_and_what_it_said_is_kept(stack: RunningStack) -> None:
    stack.await_phase("raises", "FAILED")
    operation = stack.call("POST", "/jobs/raises/stop", {}).json()["operation"]
    assert stack.await_operation(operation["id"])["state"] == "SUCCEEDED"
    assert "KeyError: 'colour'" in record(stack, "raises")["kept_log"]
    assert "KeyError: 'colour'" in stack.call("GET", "/jobs/raises/logs").text


def test_nothing_of_laptop_mode_is_left_in_the_checkout() -> None:
    assert not (Path("/dev") / "termination-log").exists()
