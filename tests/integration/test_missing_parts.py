"""A machine on which nothing is installed: each test that wants a real server is skipped, and says what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAMED = (
    *("KUBEBUILDER_ASSETS", "KAFKA_HOME", "FLINK_CONNECTOR_JARS", "FLINK_1_20_HOME"),
    *("HEADRACE_TESTS_NO_SKIP", "PYTEST_ADDOPTS"),
)


@pytest.mark.timeout(280)
def test_what_is_missing_is_skipped_with_the_remedy_each_time(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in NAMED} | {"PATH": str(tmp_path)}
    chosen = ["tests/contract", "tests/integration", "-k", "real or bare or kubectl", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *chosen]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", done.stdout, re.MULTILINE)
    assert {reason.split()[0] for reason in reasons} >= {"KUBEBUILDER_ASSETS", "KAFKA_HOME", "kubectl"}
    assert [reason for reason in reasons if "; " not in reason] == []
