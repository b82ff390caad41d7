"""Processes of a laptop: how one is started, whom it dies with, and what an operator that is killed leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.flink_operator.distribution import end_what_is_left
from local.process import dying_with_us
from local.stack import ROOT


@pytest.fixture
def left(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes with nobody to stop them: of two clusters, and of none."""
    folders = {"ours": tmp_path / "orders", "others": tmp_path / "orders-2", "none": None}
    env = {name: {"FLINK_CONF_DIR": str(folder / "conf")} if folder else {} for name, folder in folders.items()}
    started = {name: subprocess.Popen(["sleep", "60"], env={**os.environ, **own}) for name, own in env.items()}
    yield started
    for process in started.values():
        process.kill()
        process.wait(10)


def test_the_processes_of_a_cluster_that_nobody_stopped_are_ended_and_no_others(
    tmp_path: Path, left: dict[str, subprocess.Popen[bytes]]
) -> None:
    end_what_is_left(tmp_path / "orders")
    assert left["ours"].wait(10) == -9
    assert [left[name].poll() for name in ("others", "none")] == [None, None]


STARTS = """
import os, sys
from pathlib import Path
from local.process import Command, LocalProcess

os.register_at_fork(after_in_child=lambda: os._exit(7))
process = LocalProcess(Command("one", sys.argv[2:], lambda: True), Path(sys.argv[1]), Path.cwd())
process.start()
process._process.wait(60)
print(process.pid, process.exit_code)
"""


def started(log: Path, *argv: str) -> tuple[int, int]:
    """The pid and the exit code of this program, as a LocalProcess of a process whose copies end at once."""
    words = [sys.executable, "-c", STARTS, str(log), *argv]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert not ran.stderr
    pid, code = ran.stdout.split()
    return int(pid), int(code)


def test_nothing_of_ours_runs_in_a_copy_of_a_process_that_starts_another(tmp_path: Path) -> None:
    """gRPC ends such a copy now and then, and what its other threads held nobody gives back."""
    pid, code = started(tmp_path / "log", "sh", "-c", "echo $$")
    assert ((tmp_path / "log").read_text(), code) == (f"{pid}\n", 0)


def test_a_program_that_is_not_there_is_named_where_its_output_goes(tmp_path: Path) -> None:
    _, code = started(tmp_path / "log", "no-such-program")
    said = (tmp_path / "log").read_text()
    assert (said, code) == ("no-such-program was not started: No such file or directory\n", 127)


def test_what_python_ignores_is_not_ignored_by_what_it_becomes(tmp_path: Path) -> None:
    """A writer to a pipe that nobody reads ends, as its author expects (signal(7), SIGPIPE)."""
    _, code = started(tmp_path / "log", "sh", "-c", "grep SigIgn /proc/self/status")
    ignored = int((tmp_path / "log").read_text().split()[1], 16)
    assert (code, ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))) == (0, 0)


def test_it_gets_the_environment_that_it_was_given() -> None:
    """Python adds a locale to its own, where there is none (PEP 538)."""
    given = {"PATH": os.environ["PATH"], "A": "1"}
    found = subprocess.run(
        dying_with_us(["env"], signal.SIGTERM), env=given, capture_output=True, text=True, timeout=60
    )
    assert dict(line.split("=", 1) for line in found.stdout.splitlines()) == given
