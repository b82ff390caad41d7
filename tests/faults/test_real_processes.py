"""Two schedules of `./run faults`: drawn operations on three jobs while the processes and the servers below them are
hit. What is acknowledged is done once, in order, and its state is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.installation import ROOT
from tests.support.patience import PATIENCE

SECONDS = 240.0

pytestmark = pytest.mark.timeout(SECONDS + 60)


def test_drawn_operations_under_drawn_faults_keep_every_rule(tmp_path: Path) -> None:
    asked = ["--seed", "1", "--seeds", "2", "--operations", "12", "--shrink-minutes", "0", "--folder", str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if name != "KAFKA_HOME"}  # the laptop's starts at once
    argv = [sys.executable, "-m", "tests.processes", *asked]
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE)
    try:
        said, _ = process.communicate(timeout=SECONDS * PATIENCE)
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0, said.decode()
    assert said.decode().count(": kept in ") == 2
