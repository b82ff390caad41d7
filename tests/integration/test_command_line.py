"""`headrace` as a process of its own: on a terminal, in a pipe, in a shell that completes, and where it is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from headrace.cli import output

HEADRACE = Path(sys.executable).parent / "headrace"
PIPE_BYTES = 65_536
"""What a pipe takes before anybody reads (pipe(7))."""

JOBS: list[dict[str, Any]] = [
    {
        "job_id": f"orders-{number}",
        "status": "STARTING",
        "run": 1,
        "parallelism": 1,
        "observation": "FRESH",
        "created_at": "2026-01-01T00:00:00Z",
        "reason": f"\x1b[2J中文 {'word ' * 40}",
    }
    for number in range(300)
]


class Answers(BaseHTTPRequestHandler):
    """Three pages of jobs, one template, and each job by its id."""

    asked: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        path, _, query = self.path.removeprefix("/api/v1/flink/").partition("?")
        after = int(query.partition("cursor=")[2] or 0)
        pages: dict[str, Any] = {
            "jobs": {"jobs": JOBS[after : after + 100], "next_cursor": str(after + 100) if after < 200 else None},
            "templates": {"templates": [{"template_id": "counting"}], "next_cursor": None},
            **{f"jobs/{job['job_id']}": job for job in JOBS[:2]},
        }
        content = json.dumps(pages.get(path) or {"detail": "none"}).encode()
        self.send_response(200 if path in pages else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def environment(url: str, **more: str) -> dict[str, str]:
    path = f"{HEADRACE.parent}:{os.environ['PATH']}"
    return {"HEADRACE_URL": url, "HEADRACE_API_KEY": "k", "PATH": path, "HOME": "/nowhere", **more}


def ran(url: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = environment(url, **more)
    return subprocess.run([HEADRACE, *words], capture_output=True, text=True, timeout=60, check=False, env=env)


def on_a_terminal(url: str, columns: int, *words: str) -> str:
    """What a terminal of so many columns gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(url, TERM="xterm", LANG="C.UTF-8")
    with subprocess.Popen([HEADRACE, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            printed += piece
        assert process.wait(30) == 0
    os.close(ours)
    return printed.decode()


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_a_list_fits_the_terminal_that_it_is_printed_on(api: str, columns: int) -> None:
    lines = on_a_terminal(api, columns, "list").split("\r\n")
    assert len(lines) == 302
    assert all(output.width(line) <= columns for line in lines)
    assert lines[1].startswith("orders-0 ")
    assert "\x1b[2J" not in "".join(lines)
    wide = on_a_terminal(api, columns, "list", "-o", "wide")
    assert "word word word" in wide.split("\r\n")[1][-40:]


def test_a_reader_that_leaves_ends_it_without_a_word(api: str) -> None:
    for words in ("list", "list -o json"):
        assert len(ran(api, *words.split()).stdout) > PIPE_BYTES + 10, "else it could end before its reader leaves"
        shell = f"'{HEADRACE}' {words} | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False, env=environment(api)
        )
        assert done.stderr == ""
        assert done.stdout == "141\n", words


def test_a_reader_that_has_left_before_the_first_word_ends_it_without_a_word(api: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [HEADRACE, "version"], stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False, env=environment(api)
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_a_character_ends_nothing(api: str, encoding: str) -> None:
    done = ran(api, "get", "orders-0", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "orders-0" in done.stdout


@pytest.mark.parametrize("words", [("wait", "orders-0"), ("list", "-w")])
def test_ctrl_c_ends_it_with_130_and_no_word(api: str, words: tuple[str, ...]) -> None:
    Answers.asked.clear()
    with subprocess.Popen(
        [HEADRACE, *words], env=environment(api), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert Answers.asked.wait(30)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


MISTAKES = [
    ((), 2),
    (("stpo", "x"), 2),
    (("submit",), 2),
    (("submit", "--no-such-flag"), 2),
    (("scale", "x"), 2),
    (("scale", "x", "--parallelism", "two"), 2),
    (("get", "x", "-o", "xml"), 2),
    (("events", "x", "-o", "name"), 2),
    (("wait", "x", "--for", "RUNING"), 2),
    (("completion", "tcsh"), 2),
    (("templates", "apply", "-f", "/no/such/file"), 2),
    (("get", "no-such-job"), 4),
    (("--url", "ftp://x", "list"), 1),
    (("--url", "http://[::1", "list"), 1),
    (("--url", "http://127.0.0.1:1", "list"), 1),
    (("--api-key-file", "/no/such/file", "list"), 1),
    (("--data", "/no/such/folder", "list"), 1),
]


@pytest.mark.parametrize(("words", "code"), MISTAKES)
def test_a_mistake_is_one_line_and_its_exit_code(api: str, words: tuple[str, ...], code: int) -> None:
    done = ran(api, *words)
    assert (done.returncode, done.stdout) == (code, "")
    if words:
        assert done.stderr.startswith("headrace: ")
        assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["kéy", "a b", "a\tb"])
def test_a_key_that_http_cannot_carry_is_one_line_without_it(api: str, key: str) -> None:
    done = ran(api, "list", HEADRACE_API_KEY=key)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert key not in done.stderr


def test_help_names_the_program_its_forms_and_its_exit_codes(api: str) -> None:
    assert ran(api, "--help").stdout.startswith("Usage: headrace [OPTIONS] COMMAND")
    assert ran(api, "templates", "apply", "-h").stdout.startswith("Usage: headrace templates apply [OPTIONS]")
    module = [sys.executable, "-m", "headrace.cli.main", "submit", "--help"]
    said = subprocess.run(module, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.startswith("Usage: headrace submit [OPTIONS] [PROGRAM]")
    for code in ("0  done", "3  the job", "4  not found", "6  it ended otherwise", "124  ", "130  ", "141  "):
        assert code in ran(api, "--help").stdout


def completed(url: str, line: str, shell: str = "bash", **more: str) -> list[str]:
    """What the shell is told that could stand at the end of this line."""
    words = line.split(" ")
    asked = {"_HEADRACE_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = ran(url, **asked, **more)
    assert done.stderr == ""
    kinds = {"bash": 1, "fish": 1, "zsh": 3}[shell]
    lines = done.stdout.splitlines()
    return [lines[at].rpartition(",")[2] for at in range(kinds > 1, len(lines), kinds) if lines[at]]


@pytest.mark.parametrize(
    "command", ["get", "describe", "history", "stop", "scale", "logs", "events", "operations", "wait"]
)
def test_job_ids_are_completed(api: str, command: str) -> None:
    assert completed(api, f"headrace {command} orders-29") == ["orders-29", *(f"orders-29{n}" for n in range(10))]


def test_templates_phases_and_options_are_completed(api: str) -> None:
    assert completed(api, "headrace templates get co") == ["counting"]
    assert completed(api, "headrace submit --template ") == ["counting"]
    assert completed(api, "headrace wait x --for RUN") == ["RUNNING"]
    assert completed(api, "headrace wait x --for sus") == ["SUSPENDING", "SUSPENDED"]
    assert completed(api, "headrace get x -o ") == ["table", "wide", "name", "json", "yaml"]
    assert "--watch" in completed(api, "headrace list --")
    assert "describe" in completed(api, "headrace de")
    assert completed(api, f"headrace --url {api} get orders-299", HEADRACE_URL="http://127.0.0.1:1") == ["orders-299"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_each_shell_is_answered_in_its_own_form(api: str, shell: str) -> None:
    assert "orders-299" in completed(api, "headrace get orders-299", shell)


def test_completion_is_silent_where_there_is_no_api_and_quick_where_it_hangs(api: str) -> None:
    assert completed("http://127.0.0.1:1", "headrace get o") == []
    assert completed("nonsense", "headrace get o") == []
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        began = time.monotonic()
        assert completed(f"http://127.0.0.1:{hangs.getsockname()[1]}", "headrace get o") == []
        assert time.monotonic() - began < 8.0, "one second, and a start of Python"


def test_bash_completes_by_the_script_that_it_is_told_to_source(api: str) -> None:
    shell = (
        "source <(headrace completion bash); COMP_WORDS=(headrace describe orders-29); COMP_CWORD=2; "
        '_headrace_completion headrace; echo "${COMPREPLY[@]}"; complete -p headrace'
    )
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False, env=environment(api)
    )
    assert done.stderr == ""
    ids, registered = done.stdout.splitlines()
    assert ids.split()[:2] == ["orders-29", "orders-290"]
    assert registered.endswith("_headrace_completion headrace")


@pytest.mark.parametrize(
    ("shell", "has"), [("zsh", "#compdef headrace"), ("fish", "complete --no-files --command headrace")]
)
def test_the_other_shells_have_their_scripts(api: str, shell: str, has: str) -> None:
    assert has in ran(api, "completion", shell).stdout


IMPORTED = """
import sys
from headrace.cli import main
sys.argv = ["headrace", *sys.argv[1:]]
main.main()
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (("version",), {"httpx", "yaml", "pydantic", "rich", "typer", "celery", "kubernetes", "loguru"}),
        (("--help",), {"httpx", "yaml", "pydantic", "rich", "typer", "celery", "kubernetes", "loguru"}),
        (("completion", "bash"), {"httpx", "yaml", "pydantic", "rich", "typer", "celery", "kubernetes", "loguru"}),
        (("get", "orders-0"), {"yaml", "pydantic", "typer", "celery", "kubernetes", "loguru", "pymongo"}),
    ],
)
def test_what_a_command_does_not_use_is_not_imported(api: str, words: tuple[str, ...], unused: set[str]) -> None:
    argv = [sys.executable, "-c", IMPORTED, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment(api))
    assert not unused & set(done.stderr.split())
