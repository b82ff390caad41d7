"""`entrypoint.py fetch` against a real HTTP server: what arrives, what is refused, and what is left behind."""

import gzip
import hashlib
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from flink_app.entrypoint import TERMINATION_BYTES

ENTRYPOINT = Path(__file__).parents[2] / "flink_app" / "entrypoint.py"
SCRIPT = b"print('hello')\n"
SCRIPT_SHA256 = hashlib.sha256(SCRIPT).hexdigest()
JAR = b"PK\x03\x04 and so on"
MIXED = "".join(c.upper() if place % 2 else c for place, c in enumerate(SCRIPT_SHA256))
PACKED = gzip.compress(SCRIPT)
LOGIN_PAGE = b"<!DOCTYPE html><title>Sign in</title>"


class Answers(BaseHTTPRequestHandler):
    """/hops/N redirects N times; /away?URL redirects there; /cut breaks off; /endless never ends.

    /silent and /drip let wait. /after/N/HOW/… fails N times by HOW, a code, `cut` or `dropped`, and then answers.
    """

    asked: ClassVar[Counter[str]] = Counter()
    is_over: ClassVar[Event] = Event()

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        path, _, query = self.path.partition("?")
        if path == "/private.py":
            self.answer(200 if self.headers.get("Authorization") == "Basic bWU6c2VjcmV0" else 401, SCRIPT)
        elif path == "/away":
            self.redirect(query)
        elif path.startswith("/hops/"):
            left = int(path.removeprefix("/hops/"))
            self.redirect(f"/hops/{left - 1}" if left > 1 else "/job.py")
        elif path.startswith("/after/"):
            self.after(*path.split("/")[2:4])
        elif path == "/cut":
            self.answer(200, SCRIPT, claimed_bytes=len(SCRIPT) + 100)
        elif path == "/endless":
            self.endless()
        elif path == "/silent":
            self.is_over.wait(timeout=60)
        elif path == "/drip":
            self.endless(b"#", every_seconds=0.05)
        elif path == "/dripping-headers":
            self.drip_headers()
        elif path == "/packed.py":
            self.answer(200, PACKED, coding="gzip")
        elif path.startswith("/part/"):
            self.answer(int(path.removeprefix("/part/")), SCRIPT)
        elif path.startswith("/code/"):
            self.answer(int(path.removeprefix("/code/")), b"")
        else:
            self.known(path)

    def known(self, path: str) -> None:
        files = {"/job.py": SCRIPT, "/app.jar": JAR, "/login.jar": LOGIN_PAGE, "/empty.jar": b""}
        self.answer(200 if path in files else 404, files.get(path, b""))

    def after(self, failures: str, how: str) -> None:
        if self.asked[self.path] > int(failures):
            self.answer(200, SCRIPT)
        elif how == "cut":
            self.answer(200, b"#" * 50, claimed_bytes=100)
        elif how != "dropped":  # or just hang up
            self.answer(int(how), b"")

    def answer(self, code: int, content: bytes, claimed_bytes: int | None = None, coding: str = "") -> None:
        self.send_response(code)
        if coding:
            self.send_header("Content-Encoding", coding)
        self.send_header("Content-Length", str(len(content) if claimed_bytes is None else claimed_bytes))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def endless(self, piece: bytes = b"#" * 4096, every_seconds: float = 0.0) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.is_over.wait(every_seconds):
                self.wfile.write(piece)
        except OSError:
            return  # the fetcher hung up, as it should

    def drip_headers(self) -> None:
        """A header each half a second."""
        self.send_response(200)
        try:
            for number in range(90):
                self.send_header(f"X-{number}", "x")
                self.flush_headers()
                if self.is_over.wait(0.5):
                    return
            self.end_headers()
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.server_port}"
        Answers.is_over.set()
        listening.shutdown()
        thread.join(timeout=10)


@pytest.fixture(autouse=True)
def nothing_asked_yet() -> None:
    Answers.asked.clear()


CHANGED = """
import sys
folder, changed = sys.argv[1:3]
sys.argv[1:] = sys.argv[3:]
sys.path.insert(0, folder)
import entrypoint
exec(changed)
sys.exit(entrypoint.main(sys.argv[1:]))
"""
LONG_PAUSES = "entrypoint.PAUSES_SECONDS = (3600.0, 3600.0)"
TELLS_WHY = "entrypoint.LAST_WORDS_SECONDS = 60.0"
"""However slow the machine is, what ends by its own bound is heard before it is given up."""

LATE_ONCE_IT_ARRIVES = """
import http.client, time, types
later, read = [0.0], http.client.HTTPResponse.read1
entrypoint.time = types.SimpleNamespace(monotonic=lambda: time.monotonic() + later[0], sleep=time.sleep)
def read1(*given):
    part = read(*given)
    later[0] = 3600.0
    return part
http.client.HTTPResponse.read1 = read1
"""
PATIENT_SOCKETS = """
import threading
left = entrypoint.seconds_until
def seconds_until(deadline):
    return left(deadline) if threading.current_thread() is threading.main_thread() else 60.0
entrypoint.seconds_until = seconds_until
"""


class Pod:
    """A folder for what is fetched, one for what the image holds, and a termination log."""

    def __init__(self, folder: Path) -> None:
        self.artifacts = folder / "artifacts"
        self.image = folder / "image"
        self.to = self.artifacts / "job.py"
        self.log = folder / "termination-log"
        self.printed = ""
        self.image.mkdir()

    def fetch(self, url: str, *options: str, to: str = "job.py", sha256: str = "-", **more: str | int) -> int:
        return self.fetch_all([("SCRIPT_URL", url, to, sha256)], *options, **more)

    def fetch_all(
        self,
        artifacts: list[tuple[str, str, str, str]],
        *options: str,
        hosts: str | int = "127.0.0.1",
        max_bytes: str | int = 100_000,
        changed: str | int = "",
    ) -> int:
        """`changed` is done to the program before it begins: for what would come by the clock alone."""
        program = ["-c", CHANGED, str(ENTRYPOINT.parent), str(changed)] if changed else [str(ENTRYPOINT)]
        command = [sys.executable, *program, "fetch", "--allowed-hosts", str(hosts)]
        command += ["--max-bytes", str(max_bytes), "--termination-log", str(self.log), *options]
        for name, url, to, sha256 in artifacts:
            command += ["--artifact", name, url, str(self.artifacts / to), sha256]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.printed = ended.stdout + ended.stderr
        return ended.returncode

    def names(self) -> list[str]:
        return sorted(file.name for file in self.artifacts.iterdir())

    def reason(self, *left: str) -> str:
        """The one line, the same in both places, with nothing left of the download but what came before it."""
        assert self.names() == sorted(left)
        assert self.log.read_text() == self.printed
        assert self.printed.count("\n") == 1
        return self.printed.rstrip("\n")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


@pytest.mark.parametrize("sha256", [SCRIPT_SHA256, SCRIPT_SHA256.upper(), MIXED, "-"])
def test_a_script_arrives_whole_and_readable_by_all(pod: Pod, server: str, sha256: str):
    assert pod.fetch(f"http://{server}/job.py", sha256=sha256) == 0
    assert pod.to.read_bytes() == SCRIPT
    assert pod.to.stat().st_mode & 0o777 == 0o644
    assert pod.names() == ["job.py"]
    assert not pod.log.exists()


def test_several_artifacts_arrive_by_one_call(pod: Pod, server: str):
    (pod.image / "udf.jar").write_bytes(JAR)
    wanted = [
        ("SCRIPT_URL", f"http://{server}/job.py", "job.py", SCRIPT_SHA256),
        ("JAR_FILES", f"http://{server}/app.jar", "jars/0-app.jar", "-"),
        ("JAR_FILES", f"local://{pod.image}/udf.jar", "jars/1-udf.jar", hashlib.sha256(JAR).hexdigest()),
    ]
    assert pod.fetch_all(wanted) == 0
    assert pod.to.read_bytes() == SCRIPT
    assert {file.name: file.read_bytes() for file in (pod.artifacts / "jars").iterdir()} == {
        "0-app.jar": JAR,
        "1-udf.jar": JAR,
    }


def test_the_first_failure_ends_the_call_by_its_own_name(pod: Pod, server: str):
    wanted = [
        ("SCRIPT_URL", f"http://{server}/job.py", "job.py", "-"),
        ("JAR_FILES", f"http://{server}/none.jar", "none.jar", "-"),
        ("JAR_FILES", f"http://{server}/app.jar", "app.jar", "-"),
    ]
    assert pod.fetch_all(wanted) == 1
    assert pod.reason("job.py") == f"JAR_FILES http://{server}/none.jar answered 404"
    assert Answers.asked["/app.jar"] == 0


def test_a_file_of_the_image_is_copied(pod: Pod):
    (pod.image / "my job.py").write_bytes(SCRIPT)
    assert pod.fetch(f"local://{pod.image}/my%20job.py", hosts="", sha256=SCRIPT_SHA256) == 0
    assert pod.to.read_bytes() == SCRIPT
    assert pod.to.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "url", ["local:///no/such.jar", "local:///tmp", "local://host/etc/hostname", "local:///dev/zero"]
)
def test_what_is_no_file_of_the_image_is_named(pod: Pod, url: str):
    assert pod.fetch_all([("JAR_FILES", url, "x.jar", "-")]) == 1
    assert pod.reason() == f"JAR_FILES {url} is not in the image"


def test_a_file_of_the_image_is_capped_and_compared_like_any_other(pod: Pod):
    (pod.image / "job.py").write_bytes(SCRIPT)
    url = f"local://{pod.image}/job.py"
    assert pod.fetch(url, max_bytes=len(SCRIPT) - 1) == 1
    assert pod.reason() == f"SCRIPT_URL {url} is larger than the {len(SCRIPT) - 1} bytes allowed"
    assert pod.fetch(url, sha256="0" * 64) == 1
    assert pod.reason() == f"SCRIPT_URL {url} has sha256 {SCRIPT_SHA256}, not {'0' * 64}"
    assert pod.fetch(url, max_bytes=len(SCRIPT)) == 0


@pytest.mark.parametrize(
    ("path", "begins"),
    [("/login.jar", repr(b"<!DOCTYPE h")), ("/empty.jar", repr(b"")), ("/job.py", repr(SCRIPT[:11]))],
)
def test_a_jar_must_begin_like_one(pod: Pod, server: str, path: str, begins: str):
    assert pod.fetch_all([("JAR_URL", f"http://{server}{path}", "app.jar", "0" * 64)]) == 1
    assert pod.reason() == f"JAR_URL http://{server}{path} is not a jar: it begins with {begins}"


def test_only_a_jar_must_begin_like_one(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/login.jar", to="page.html") == 0


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


@pytest.mark.parametrize(
    "target",
    ["http://localhost:{port}/job.py", "ftp://127.0.0.1/job.py", "file:///etc/hostname", "local:///etc/hostname"],
)
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


def test_a_proxy_of_the_environment_is_not_asked(pod: Pod, server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert pod.fetch(f"http://{server}/job.py") == 0


@pytest.mark.parametrize("how", ["503", "429", "dropped", "cut"])
def test_what_may_pass_is_tried_three_times(pod: Pod, server: str, how: str):
    assert pod.fetch(f"http://{server}/after/2/{how}") == 0
    assert pod.to.read_bytes() == SCRIPT
    assert pod.fetch(f"http://{server}/after/3/{how}/again", to="other.py") == 1
    assert pod.reason("job.py").startswith(f"SCRIPT_URL http://{server}/after/3/{how}/again ")
    assert pod.reason("job.py").endswith(" (tried 3 times)")
    assert Answers.asked[f"/after/3/{how}/again"] == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_an_error_answer_is_told_word_for_word_and_final(pod: Pod, server: str, code: int):
    assert pod.fetch(f"http://{server}/code/{code}") == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/code/{code} answered {code}"
    assert Answers.asked[f"/code/{code}"] == 1


def test_no_try_begins_that_the_timeout_has_no_room_for(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/code/503", "--timeout-seconds", "30", changed=LONG_PAUSES) == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/code/503 answered 503"
    assert Answers.asked["/code/503"] == 1


def test_a_silent_server_is_given_up(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/silent", "--timeout-seconds", "0.3", changed=TELLS_WHY) == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/silent did not answer in time"


def test_an_answer_that_drips_is_given_up(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/drip", "--timeout-seconds", "30", changed=LATE_ONCE_IT_ARRIVES) == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/drip did not arrive in time"


def test_headers_that_drip_are_given_up_at_the_deadline(pod: Pod, server: str):
    began = time.monotonic()
    url = f"http://{server}/dripping-headers"
    assert pod.fetch(url, "--timeout-seconds", "0.5", changed=PATIENT_SOCKETS) == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/dripping-headers did not arrive in time"
    assert time.monotonic() - began < 30.0, "its 90 headers take 45 s"


@pytest.mark.parametrize("code", [201, 203, 204, 206])
def test_200_alone_brings_a_file(pod: Pod, server: str, code: int):
    assert pod.fetch(f"http://{server}/part/{code}") == 1
    assert pod.reason().startswith(f"SCRIPT_URL http://{server}/part/{code} answered {code}, ")
    assert Answers.asked[f"/part/{code}"] == 1


def test_what_is_packed_is_stored_as_it_came(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/packed.py", max_bytes=len(PACKED)) == 0
    assert pod.to.read_bytes() == PACKED


@pytest.mark.parametrize(
    "listed", ["*", "*.example.com", "http://127.0.0.1", "127.0.0.1/path", "127.0.0.1:http", "a b"]
)
def test_an_allowed_host_that_nothing_could_be_is_refused(pod: Pod, server: str, listed: str):
    assert pod.fetch(f"http://{server}/job.py", hosts=f"127.0.0.1,{listed}") == 2
    assert "is no host" in pod.printed
    assert "Traceback" not in pod.printed


@pytest.mark.parametrize("listed", ["localhost", "A.Example.com.", "[::1]:8080", "::1", "my_host-1:80", "10.0.0.1", ""])
def test_an_allowed_host_may_be_a_name_or_an_address_with_a_port(pod: Pod, server: str, listed: str):
    assert pod.fetch(f"http://{server}/job.py", hosts=f"127.0.0.1,{listed}") == 0


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context for 127.0.0.1; its certificate is in `certificate.pem`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    certificate = made.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "both.pem").write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


def test_a_redirect_never_leads_from_https_to_plain_http(
    pod: Pod, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    context = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        Thread(target=listening.serve_forever, daemon=True).start()
        secure = f"https://127.0.0.1:{listening.server_port}"
        assert pod.fetch(f"{secure}/away?http://{server}/job.py") == 1
        assert pod.reason() == f"SCRIPT_URL http://{server}/job.py refused: a redirect led from https to plain http"
        assert Answers.asked["/job.py"] == 0
        pod.log.unlink()
        assert pod.fetch(f"{secure}/away?{secure}/job.py") == 0
        assert pod.fetch(f"http://{server}/away?{secure}/job.py", to="other.py") == 0
        listening.shutdown()


def test_a_redirect_to_another_machine_over_plain_http_needs_a_digest(pod: Pod, server: str):
    hosts, away = "127.0.0.1,files.invalid", f"http://{server}/away?http://files.invalid/job.py"
    assert pod.fetch(away, hosts=hosts) == 1
    assert pod.reason().startswith("SCRIPT_URL http://files.invalid/job.py refused: plain http without a sha256; ")
    assert pod.fetch(away, hosts=hosts, sha256=SCRIPT_SHA256) == 1
    assert "refused" not in pod.reason(), "then it is tried, and nobody is there"


def test_an_endless_answer_ends_at_the_cap_at_once(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/endless") == 1
    assert pod.reason() == f"SCRIPT_URL http://{server}/endless is larger than the 100000 bytes allowed"
    assert Answers.asked["/endless"] == 1


def test_another_sha256_is_refused_at_once(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/job.py", sha256="0" * 64) == 1
    assert f"has sha256 {SCRIPT_SHA256}, not {'0' * 64}" in pod.reason()
    assert Answers.asked["/job.py"] == 1


def test_what_is_no_sha256_is_refused_unasked(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/job.py", sha256="abc") == 1
    assert pod.log.read_text() == f"SCRIPT_URL http://{server}/job.py: a sha256 has 64 hex digits, not 'abc'\n"
    assert Answers.asked["/job.py"] == 0


def test_an_answer_that_breaks_off_is_not_taken_for_whole(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/cut") == 1
    assert f"broke off after {len(SCRIPT)} of {len(SCRIPT) + 100} bytes" in pod.reason()


def test_a_failure_leaves_the_file_that_was_there(pod: Pod, server: str):
    pod.artifacts.mkdir()
    pod.to.write_text("older")
    assert pod.fetch(f"http://{server}/none.py") == 1
    assert pod.to.read_text() == "older"
    assert pod.names() == ["job.py"]


def test_a_folder_that_cannot_be_made_is_named(pod: Pod, server: str):
    pod.artifacts.write_text("a file is in the way")
    assert pod.fetch(f"http://{server}/job.py") == 1
    said = f"SCRIPT_URL http://{server}/job.py cannot be stored at {pod.to}: "
    assert pod.log.read_text().startswith(said)


def test_a_server_that_is_down_is_named(pod: Pod):
    assert pod.fetch("http://127.0.0.1:1/job.py") == 1
    assert pod.reason().startswith("SCRIPT_URL http://127.0.0.1:1/job.py cannot be reached: ")


def test_the_termination_log_holds_what_kubernetes_keeps_with_both_ends(pod: Pod, server: str):
    assert pod.fetch(f"http://{server}/{'x' * 9000}") == 1
    assert len(pod.log.read_bytes()) <= TERMINATION_BYTES
    assert pod.log.read_text().startswith(f"SCRIPT_URL http://{server}/xxx")
    assert pod.log.read_text().endswith("xxx answered 404\n")
