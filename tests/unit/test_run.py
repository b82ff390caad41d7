"""`./run` on a machine that lacks something: one line that says what to do, and nothing half-made."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, in a folder without `.venv`; whatever it would run succeeds and does nothing."""
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec is not None
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "uv.lock").write_text("a lock")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "headrace-installed")
    return module


def said(run: ModuleType, capsys: pytest.CaptureFixture[str]) -> str:
    """What the installation said when it stopped: one line."""
    with pytest.raises(SystemExit) as ended:
        run.install(run.python_311())
    assert ended.value.code == 1
    assert not (run.ROOT / ".venv" / "headrace-installed").exists()
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def answers(monkeypatch: pytest.MonkeyPatch, code: int, when: str = "") -> list[list[str]]:
    """Makes commands that have `when` in them end with this code, all others with 0; gives what was run."""
    ran: list[list[str]] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, code if any(when in part for part in command) else 0)

    monkeypatch.setattr(subprocess, "run", answer)
    return ran


def test_another_machine(run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "needs Linux on x86_64" in said(run, capsys)


def test_another_python(run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "install python3.11 and python3.11-venv" in said(run, capsys)


def test_another_python_beside_the_right_one(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert run.python_311() == "/usr/bin/python3.11"


def test_a_full_disk(run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1_000_000_000))
    assert "has 1.0 GB free: the installation needs 3 GB" in said(run, capsys)


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("ensurepip", "install python3.11-venv"),
        ("uv==", "is the package index reachable?"),
        ("--frozen", "run again to go on from there"),
    ],
)
def test_a_step_that_fails(
    run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: str, words: str
) -> None:
    answers(monkeypatch, 1, fails)
    assert words in said(run, capsys)


def test_a_second_run_installs_nothing_and_says_nothing(
    run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = answers(monkeypatch, 0)
    (run.ROOT / ".venv").mkdir()
    run.install("python")
    first = len(ran)
    assert f"PATH={run.ROOT}/.venv/bin:$PATH (or pipx install .)" in capsys.readouterr().err
    run.install("python")
    assert (first > 0, len(ran), capsys.readouterr().err) == (True, first, "")
    (run.ROOT / "uv.lock").write_text("another lock")
    run.install("python")
    assert len(ran) > first


def test_an_unknown_command_is_told_the_known_ones(
    run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "demmo"])
    assert run.main() == 2
    assert "demo" in capsys.readouterr().err


PYTEST = """#!/bin/sh
trap 'echo tidied >> "$0.said"; exit 2' INT
echo begun >> "$0.said"
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_tests_that_are_stopped_tidy_up_before_the_prompt_is_back(
    run: ModuleType, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    shutil.copy(ROOT / "run", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTEST)
    python.chmod(0o700)
    run.STAMP.write_text(hashlib.sha256(b"a lock" + run.UV.encode()).hexdigest())
    said = python.with_name("python.said")
    before = signal.signal(number, signal.SIG_DFL)  # under nohup one of them is ignored, and is so in a child too
    with subprocess.Popen([sys.executable, str(tmp_path / "run"), "test"]) as process:
        signal.signal(number, before)
        while not said.exists() or said.read_text().count("begun") < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == code
    assert said.read_text().split() == [*["begun"] * 3, *["tidied"] * 3]
