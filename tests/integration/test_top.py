"""`headrace top` on a terminal of its own: what it draws, and that the terminal is as it was however it ends."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from headrace.cli import output
from headrace.cli.screen import GIVEN_BACK, HOME, TAKEN
from tests.support.patience import PATIENCE

HEADRACE = Path(sys.executable).parent / "headrace"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ON_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
ALL_WRITTEN = "<all that was written before this has come>"
COUNT = 40
HOSTILE = "\x1b[2J\x1b]0;owned\x07 word"


def job(number: int) -> dict[str, Any]:
    return {
        "job_id": f"orders-{number}",
        "status": "FAILED" if number == 31 else "RUNNING",
        "phase_since": "2026-01-01T00:00:00Z",
        "observation": "FRESH",
        "open_operations": [],
        "parallelism": 2,
        "restarts": 0,
        "reason": HOSTILE if number == 31 else "",
    }


class Answers(BaseHTTPRequestHandler):
    """Forty jobs in two pages, one of them failed; or whatever status it is told to answer."""

    status: ClassVar[int] = 200
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        after = 20 if "cursor" in self.path else 0
        page = {"jobs": [job(n) for n in range(after, after + 20)], "next_cursor": None if after else "x"}
        content = json.dumps(page if self.status == 200 else {"detail": f"told to say {self.status}"}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def api() -> Iterator[str]:
    Answers.status, Answers.asked = 200, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Terminal:
    """`headrace top` with these words, or a line of a shell, on a terminal that remembers all that it was sent."""

    def __init__(
        self, api: str, *words: str, columns: int = 100, lines: int = 12, shell: str = "", **more: str
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(self._theirs)
        self.sent = ""
        self.errors = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # what is read may end within a letter
        env = {"HEADRACE_URL": api, "HEADRACE_API_KEY": "k", "HOME": "/nowhere", "TERM": "xterm", "NO_COLOR": "1"}
        argv = ["sh", "-c", shell] if shell else [HEADRACE, "top", "--every", "0.5s", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *argv],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=subprocess.PIPE,
            env={**env, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more},
            start_new_session=True,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            os.kill(self.process.pid, signal.SIGWINCH)

    def types(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def until(self, is_so: Callable[[list[str]], bool], seconds: float = 30.0) -> list[str]:
        """The lines of the newest whole frame of which that is so."""
        until = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < until:
            self._read(0.1)
            frame = self.frame()
            if frame and is_so(frame):
                return frame
        raise AssertionError(f"not within {seconds * PATIENCE:.0f} s; last seen: {self.frame()}")

    def frame(self) -> list[str]:
        whole = self.sent.rpartition("\x1b[J")[0].rpartition(HOME)[2]
        return [CODES.sub("", line) for line in whole.split("\r\n")] if whole else []

    def ends(self, seconds: float = 20.0) -> int:
        """The exit code, when all that it wrote was read."""
        until = time.monotonic() + seconds * PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.1)
        code = self.process.wait(0)
        self._read_all()
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read().decode()
        return code

    def is_as_it_was(self) -> bool:
        """Its settings, its screen, its cursor."""
        switched = [code for code in CODES.findall(self.sent) if code.startswith("\x1b[?")]
        both = CODES.findall(TAKEN), CODES.findall(GIVEN_BACK)
        times = self.sent.count(GIVEN_BACK)
        return termios.tcgetattr(self._theirs) == self.before and switched == [*both[0], *both[1]] * times and times > 0

    def is_taken(self) -> bool:
        return termios.tcgetattr(self._theirs) != self.before

    def _read(self, seconds: float) -> None:
        while select.select([self._ours], [], [], seconds)[0]:
            self.sent += self._decoder.decode(os.read(self._ours, 65536))
            seconds = 0.0

    def _read_all(self, seconds: float = 20.0) -> None:
        """What was written to it by now. The kernel hands it over in a while, and in order: so this comes last."""
        os.write(self._theirs, ALL_WRITTEN.encode())
        until = time.monotonic() + seconds * PATIENCE
        while not self.sent.endswith(ALL_WRITTEN) and time.monotonic() < until:
            self._read(0.1)
        assert self.sent.endswith(ALL_WRITTEN)
        self.sent = self.sent.removesuffix(ALL_WRITTEN)


def has_jobs(frame: list[str]) -> bool:
    return any("orders-" in line for line in frame)


def test_trouble_is_first_and_what_has_no_room_is_counted(api: str) -> None:
    with Terminal(api) as terminal:
        frame = terminal.until(has_jobs)
        assert frame[0].startswith("headrace top   40 jobs: 1 FAILED, 39 RUNNING")
        assert frame[0].endswith("every 0.5s, q ends")
        assert frame[1].split()[:3] == ["JOB", "ID", "STATUS"]
        assert frame[2].split()[:2] == ["orders-31", "FAILED"]
        assert "\\x1b[2J" in frame[2], "what user code said moves no terminal"
        assert frame[-1] == "… and 31 more"
        assert len(frame) == 12
        assert all(output.width(line) <= 100 for line in frame)
        assert terminal.is_taken()
        assert Answers.asked[0].endswith("jobs?brief=true&limit=500")
        terminal.types(b"q")
        assert (terminal.ends(), terminal.errors) == (0, "")
        assert terminal.is_as_it_was()


@pytest.mark.parametrize(("columns", "lines"), [(60, 30), (200, 60), (20, 3), (8, 1)])
def test_another_size_is_drawn_at_once(api: str, columns: int, lines: int) -> None:
    with Terminal(api, "--every", "1h") as terminal:
        terminal.until(has_jobs)
        asked = len(Answers.asked)
        terminal.resize(columns, lines)
        shown = {3: 2}.get(lines, min(lines, COUNT + 2))
        frame = terminal.until(lambda frame: len(frame) == shown)
        assert all(output.width(line) <= columns for line in frame)
        assert frame[-1].startswith("orders-9 ") or lines <= COUNT, "all of them, where there is room"
        assert len(Answers.asked) == asked, "nobody is asked for that"
        terminal.types(b"q")
        assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(api: str, number: int, code: int) -> None:
    with Terminal(api) as terminal:
        terminal.until(has_jobs)
        os.kill(terminal.process.pid, number)
        assert terminal.ends() == code
        assert terminal.errors == ""
        assert terminal.is_as_it_was()


@pytest.mark.parametrize("key", [b"\x03", b"\x03\x03\x03"])
def test_ctrl_c_ends_it_however_often_it_is_pressed(api: str, key: bytes) -> None:
    with Terminal(api) as terminal:
        terminal.until(has_jobs)
        terminal.types(key)
        assert terminal.ends() in (130, -signal.SIGINT)
        assert terminal.is_as_it_was()


def test_q_ends_it_at_once_while_the_api_hangs(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    answer = Answers.do_GET

    def hung(self: Answers) -> None:
        if len(Answers.asked) >= 2 and hangs.wait(20):
            return
        answer(self)

    monkeypatch.setattr(Answers, "do_GET", hung)
    with Terminal(api) as terminal:
        terminal.until(has_jobs)
        time.sleep(1.0)
        began = time.monotonic()
        terminal.types(b"q")
        assert terminal.ends() == 0
        assert time.monotonic() - began < 3.0
        assert terminal.is_as_it_was()
        hangs.set()


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(api: str, tmp_path: Path) -> None:
    looked_at = tmp_path / "looked-at"
    waits = f"until [ -e '{looked_at}' ]; do sleep 0.1; done"
    line = f"set -m; '{HEADRACE}' top; echo stopped=$?; {waits}; fg; echo ended=$?"
    with Terminal(api, shell=line) as terminal:
        terminal.until(has_jobs)
        terminal.types(b"\x1a")
        until = time.monotonic() + 20 * PATIENCE
        while not re.search(r"stopped=\d+\r\n", terminal.sent) and time.monotonic() < until:
            terminal._read(0.1)
        assert f"stopped={128 + signal.SIGTSTP}" in terminal.sent.partition(GIVEN_BACK)[2]
        assert terminal.is_as_it_was()
        looked_at.touch()
        terminal.until(lambda _: terminal.sent.count(TAKEN) == 2 and terminal.sent.endswith("\x1b[J"))
        assert terminal.is_taken()
        terminal.types(b"q")
        assert terminal.ends() == 0
        assert "ended=0" in terminal.sent
        assert terminal.is_as_it_was()


def test_an_api_that_goes_away_is_said_in_one_line_and_asked_again(api: str) -> None:
    with Terminal(api) as terminal:
        terminal.until(has_jobs)
        Answers.status = 503
        frame = terminal.until(lambda frame: "told to say 503" in frame[1])
        assert re.match(r"as of \d+s ago, trying again: ", frame[1])
        assert has_jobs(frame), "what was seen last stays"
        assert len(frame) == 12
        Answers.status = 502
        terminal.until(lambda frame: "told to say 502" in frame[1])
        Answers.status = 200
        terminal.until(lambda frame: frame[1].startswith("JOB ID"))
        terminal.types(b"q")
        assert terminal.ends() == 0
        assert terminal.errors == ""


def test_a_key_that_is_not_taken_any_more_ends_it_with_the_error(api: str) -> None:
    with Terminal(api) as terminal:
        terminal.until(has_jobs)
        Answers.status = 401
        assert terminal.ends() == 1
        assert terminal.errors == "headrace: told to say 401\n"
        assert terminal.is_as_it_was()


@pytest.mark.parametrize("status", [401, 503])
def test_an_api_that_never_answered_takes_no_terminal(api: str, status: int) -> None:
    Answers.status = status
    with Terminal(api) as terminal:
        assert terminal.ends() == 1
        assert terminal.errors == f"headrace: told to say {status}\n"
        assert terminal.sent == ""


@pytest.mark.parametrize(("words", "more"), [(("--once",), {}), ((), {"TERM": "dumb"})])
def test_once_and_where_nothing_can_be_drawn_it_is_a_table_that_fits(
    api: str, words: tuple[str, ...], more: dict[str, str]
) -> None:
    with Terminal(api, *words, columns=60, **more) as terminal:
        assert terminal.ends() == 0
        lines = terminal.sent.removesuffix("\r\n").split("\r\n")
        assert len(lines) == COUNT + 1
        assert all(output.width(line) <= 60 for line in lines)
        assert "\x1b" not in terminal.sent


def test_letters_and_marks_are_of_the_terminals_encoding(api: str) -> None:
    with Terminal(api, PYTHONIOENCODING="ascii", PYTHONUTF8="0") as terminal:
        frame = terminal.until(has_jobs)
        assert frame[-1] == "~ and 31 more"
        terminal.types(b"q")
        assert terminal.ends() == 0
