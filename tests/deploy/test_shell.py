"""Each shell script under shellcheck, and as git keeps it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kubectl import DEPLOY, ROOT
from tests.support.missing import missing

SCRIPTS = sorted([*DEPLOY.glob("*.sh"), *(ROOT / "scripts").glob("*.sh")])


def shellcheck() -> str:
    """Where it is: beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "shellcheck"
    return (
        str(beside)
        if beside.exists()
        else shutil.which("shellcheck") or missing("there is no shellcheck; ./run brings its wheel")
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda each: each.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    argv = [shellcheck(), "--external-sources", "--source-path=SCRIPTDIR", str(script)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", [each for each in SCRIPTS if each.name != "lib.sh"], ids=lambda each: each.name)
def test_it_can_be_run_and_says_what_it_does(script: Path) -> None:
    assert os.access(script, os.X_OK)
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "usage:" in done.stdout
