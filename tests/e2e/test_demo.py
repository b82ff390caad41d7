"""`./run demo`, as a newcomer runs it: on an emptied PATH, and with a worker that cannot start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.timeout(600)


def demo(checkout: Path, data: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "local", "demo", "--data", str(data)]
    return subprocess.run(argv, cwd=checkout, env=env, capture_output=True, text=True, timeout=500, check=False)


def test_the_demo_needs_nothing_on_the_path(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = demo(ROOT, tmp_path / "data", env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for job in ("orders", "clicks", "payments"):
        assert f"{job} has gone on from" in " ".join(done.stdout.split())
    assert done.stdout.count("CANCELLING > CANCELLED") == 3
    assert "RUNNING > SCALING > RUNNING" in done.stdout


def test_a_worker_that_cannot_start_is_named_with_its_log(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".venv", ".git", "tests", ".headrace", "*_cache")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    (checkout / "worker" / "tasks.py").write_text("raise RuntimeError('cannot start')\n")
    done = demo(checkout, tmp_path / "data", {**os.environ, "PYTHONPATH": str(checkout)})
    assert done.returncode != 0
    assert "worker exited with" in done.stdout + done.stderr
    assert str(tmp_path / "data" / "logs" / "worker.log") in done.stdout + done.stderr
