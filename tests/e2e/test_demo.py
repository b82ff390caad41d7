"""`./run demo`, as a newcomer runs it: on an emptied PATH, with a worker and with jobs that cannot start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import down

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.timeout(600)


def demo(checkout: Path, data: Path, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "local", "demo", "--data", str(data), *options]
    return subprocess.run(argv, cwd=checkout, env=env, capture_output=True, text=True, timeout=500, check=False)


def test_the_demo_needs_nothing_on_the_path(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = demo(ROOT, tmp_path / "data", env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for job in ("orders", "clicks", "payments"):
        assert f"{job} has gone on from" in " ".join(done.stdout.split())
    assert done.stdout.count("CANCELLING > CANCELLED") == 3
    assert "RUNNING > SCALING > RUNNING" in done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is shipped, to break something in."""
    ignored = shutil.ignore_patterns(".venv", ".git", "tests", ".headrace", "*_cache")
    return shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored)


def failed_demo(checkout: Path, data: Path, *options: str) -> list[str]:
    """What it says from the line on that says that it failed."""
    # The small Kubernetes API serves the pods' logs; a kube-apiserver alone has no kubelet to ask.
    env = {**os.environ, "PYTHONPATH": str(checkout), "KUBEBUILDER_ASSETS": ""}
    done = demo(checkout, data, env, *options)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    lines = done.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("the demo failed: "))
    assert "Traceback" not in done.stdout + done.stderr
    return lines[first:]


def test_a_worker_that_cannot_start_is_named_with_its_log(checkout: Path, tmp_path: Path) -> None:
    (checkout / "worker" / "tasks.py").write_text("raise RuntimeError('cannot start')\n")
    done = demo(checkout, tmp_path / "data", {**os.environ, "PYTHONPATH": str(checkout)})
    assert done.returncode != 0
    assert "worker exited with" in done.stdout + done.stderr
    assert str(tmp_path / "data" / "logs" / "worker.log") in done.stdout + done.stderr


def test_a_job_that_cannot_start_is_named_with_its_reason_and_the_next_step_and_no_process(
    checkout: Path, tmp_path: Path
) -> None:
    script = checkout / "examples" / "counting_job.py"
    script.write_text(f"import no_such_module\n{script.read_text()}")
    said = failed_demo(checkout, tmp_path / "data")
    why = "ModuleNotFoundError: No module named 'no_such_module' (counting_job.py, line 1)"
    assert said[0] == f"the demo failed: job orders is FAILED: {why}"
    assert said[1].startswith("next step: name the package in a requirements.txt")
    assert ".log" not in "".join(said)


@pytest.mark.slow
def test_a_job_whose_jar_cannot_be_fetched_is_named_too_and_can_be_looked_into(checkout: Path, tmp_path: Path) -> None:
    (checkout / "examples" / "jar" / "counting-job.jar").unlink()
    looked = [sys.executable, "-m", "headrace.cli.main", "--data", str(tmp_path / "data"), "describe", "payments"]
    try:
        said = failed_demo(checkout, tmp_path / "data", "--keep")
        described = subprocess.run(looked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    finally:
        down(tmp_path / "data", erase=False)
    assert said[0].startswith("the demo failed: job payments is FAILED: "), said
    assert "404" in described.stdout, described.stderr
    assert "404" in said[0]
    assert "counting-job.jar" in said[0]
    assert said[1].startswith("next step: ")
    assert ".log" not in "".join(said)
