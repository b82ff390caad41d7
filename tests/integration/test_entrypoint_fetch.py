"""`entrypoint.py fetch` against a real HTTP server: what arrives, what is refused, and what is left behind."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "flink_app" / "entrypoint.py"
SCRIPT = b"print('hello')\n"


class Answers(BaseHTTPRequestHandler):
    """/job.py; /hops/N redirects N times; /away?URL redirects there; /cut breaks off; /endless never ends."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/job.py":
            self.answer(200, SCRIPT)
        elif path == "/private.py":
            self.answer(200 if self.headers.get("Authorization") == "Basic bWU6c2VjcmV0" else 401, SCRIPT)
        elif path == "/away":
            self.redirect(query)
        elif path.startswith("/hops/"):
            left = int(path.removeprefix("/hops/"))
            self.redirect(f"/hops/{left - 1}" if left > 1 else "/job.py")
        elif path == "/cut":
            self.answer(200, SCRIPT, claimed_bytes=len(SCRIPT) + 100)
        elif path == "/endless":
            self.endless()
        else:
            self.answer(404, b"")

    def answer(self, code: int, content: bytes, claimed_bytes: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content) if claimed_bytes is None else claimed_bytes))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"#" * 4096)
        except OSError:
            return  # the fetcher hung up, as it should

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join(timeout=10)


class Pod:
    """A folder for the script and a termination log."""

    def __init__(self, folder: Path) -> None:
        self.to = folder / "artifacts" / "job.py"
        self.log = folder / "termination-log"
        self.printed = ""

    def fetch(self, url: str, *options: str, hosts: str = "127.0.0.1", max_bytes: int = 100_000) -> int:
        command = [sys.executable, str(ENTRYPOINT), "fetch", "--url", url, "--to", str(self.to)]
        command += ["--allowed-hosts", hosts, "--max-bytes", str(max_bytes), "--termination-log", str(self.log)]
        ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        self.printed = ended.stdout + ended.stderr
        return ended.returncode

    def reason(self) -> str:
        """The one line, the same in both places, with nothing left of the download."""
        assert list(self.to.parent.iterdir()) == []
        assert self.log.read_text() == self.printed
        assert self.printed.count("\n") == 1
        return self.printed.rstrip("\n")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_a_script_arrives_whole_and_readable_by_all(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/job.py", "--sha256", hashlib.sha256(SCRIPT).hexdigest()) == 0
    assert pod.to.read_bytes() == SCRIPT
    assert pod.to.stat().st_mode & 0o777 == 0o644
    assert list(pod.to.parent.iterdir()) == [pod.to]
    assert not pod.log.exists()


def test_user_and_password_are_used_and_never_printed(pod: Pod, server: str):
    assert pod.fetch(f"http://me:secret@{server}/private.py") == 0
    pod.to.unlink()
    assert pod.fetch(f"http://me:wrong@{server}/private.py") == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/private.py answered 401"


def test_five_redirects_are_followed_and_a_sixth_is_not(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/hops/5") == 0
    pod.to.unlink()
    assert pod.fetch(f"http://{server}/hops/6") == 1
    assert "redirects more than 5 times" in pod.reason()


@pytest.mark.parametrize("target", ["http://localhost:{port}/job.py", "ftp://127.0.0.1/job.py", "file:///etc/hostname"])
def test_a_redirect_leads_only_to_allowed_hosts(pod: Pod, server: str, target: str):
    away = target.format(port=server.rpartition(":")[2])
    assert pod.fetch(f"http://{server}/away?{away}") == 1
    assert pod.reason().startswith(f"SCRIPT_URL {away} ")


def test_a_redirect_cannot_bring_a_password_that_would_be_printed(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/away?http://me:secret@{server}/job.py") == 1
    assert "secret" not in pod.reason()


def test_a_host_may_be_allowed_on_one_port_alone(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/job.py", hosts=server) == 0
    pod.to.unlink()
    assert pod.fetch(f"http://{server}/job.py", hosts="127.0.0.1:1") == 1
    assert "is not allowed (allowed: 127.0.0.1:1)" in pod.reason()


def test_an_error_answer_is_told_word_for_word(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/none.py") == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/none.py answered 404"


def test_an_endless_answer_ends_at_the_cap(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/endless") == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/endless is larger than the 100000 bytes allowed"


def test_another_sha256_is_refused(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/job.py", "--sha256", "0" * 64) == 1
    assert f"has sha256 {hashlib.sha256(SCRIPT).hexdigest()}, not {'0' * 64}" in pod.reason()


def test_an_answer_that_breaks_off_is_not_taken_for_whole(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/cut") == 1
    assert "broke off" in pod.reason()


def test_a_server_that_is_down_is_named(pod: Pod):
    assert pod.fetch("http://127.0.0.1:1/job.py") == 1
    assert pod.reason().startswith("SCRIPT_URL http://127.0.0.1:1/job.py cannot be reached: ")
