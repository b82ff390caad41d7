"""The program inside the Flink image: `fetch` brings a job's files into the pod, `run` hands a script to Python.

It must not know Headrace: the standard library is all that it may import, so that one file is the whole program.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import hashlib
import http.client
import os
import re
import runpy
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO
from urllib.error import HTTPError, URLError

MAX_REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
DEFAULT_PORTS = {"http": 80, "https": 443}
PAUSES_SECONDS = (0.5, 1.5)  # between the tries, so there are three
SHORTEST_TIMEOUT_SECONDS = 0.1  # a socket's timeout of 0 would mean "do not wait at all"
LAST_WORDS_SECONDS = 0.3  # for what ends by its own bounds at the deadline: it says more of why
TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # what Kubernetes keeps of it
JAVA_FRAME = r"\t(?:at |\.\.\. ).*\n?"
PYTHON_FRAME = r"(?P<place> +File \"(?P<file>[^\"\n]+)\", line \d+.*\n)(?: {4}.*\n)*"
FRAMES = re.compile(f"^(?:{JAVA_FRAME}|{PYTHON_FRAME})", re.MULTILINE)
HOST = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|[0-9a-f:.]+")


class FetchError(Exception):
    """An artifact could not be had. The message is one line for people and never holds a URL's user or password."""


class PassingError(FetchError):
    """One that the next try may not meet: no connection, a broken one, a server that has too much to do."""


class RunError(Exception):
    """The script cannot be started. The message is one line for people."""


class AllowedHosts:
    """The hosts that an artifact may come from: `host` allows every port of it, `host:port` that one alone."""

    def __init__(self, listed: str, takes_plain_http: bool = True) -> None:
        """Without `takes_plain_http` a file comes by https, or from the pod itself. Raises argparse's error for an
        entry that no URL's host could be equal to."""
        self._listed, self._takes_plain_http = listed, takes_plain_http
        self._allowed = frozenset(entry.strip().lower() for entry in listed.split(",") if entry.strip())
        for entry in sorted(self._allowed):
            if not HOST.fullmatch(entry):
                raise argparse.ArgumentTypeError(f"{entry!r} is no host and no host:port; each host is named in full")

    def __str__(self) -> str:
        return ", ".join(sorted(self._allowed)) or "none"

    def without_plain_http(self) -> AllowedHosts:
        """For a file that no digest tells from another: over http whoever stands between could bring his own."""
        return AllowedHosts(self._listed, takes_plain_http=False)

    def check(self, url: str) -> None:
        """Raises FetchError unless `url` is http(s) to a listed host."""
        parts, port = split_url(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise FetchError(f"{shown(url)} refused: only http and https are fetched")
        host = (parts.hostname or "").lower()
        bracketed = f"[{host}]" if ":" in host else host
        if not {host, bracketed, f"{bracketed}:{port}"} & self._allowed:
            raise FetchError(f"{shown(url)} refused: host {host or '(none)'} is not allowed (allowed: {self})")
        if parts.scheme == "http" and not self._takes_plain_http and not is_loopback(host):
            raise FetchError(f"{shown(url)} refused: plain http without a sha256; give https, or the file's sha256")


@dataclass(frozen=True)
class Artifact:
    """One file to bring: what messages call it, where it comes from and goes to, and its sha256 or `-`."""

    name: str
    url: str
    to: Path
    sha256: str

    @property
    def is_jar(self) -> bool:
        return self.to.suffix.lower() == ".jar"


@dataclass(frozen=True)
class Bounds:
    """What holds for each artifact of a call. The time includes every try, redirect and pause."""

    allowed_hosts: AllowedHosts
    max_bytes: int
    timeout_seconds: float


def is_loopback(host: str) -> bool:
    """Whether a host is the machine itself: nobody stands between."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def split_url(url: str) -> tuple[urllib.parse.SplitResult, int | None]:
    """The URL's parts and its effective port."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # its text may quote a part of a password
        raise FetchError("is not a URL: its host or port cannot be read") from None


def shown(url: str) -> str:
    """The URL as it may be printed: without user, password, query and fragment, any of which may hold a secret."""
    parts, _ = split_url(url)
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{parts.netloc.rpartition('@')[2]}{parts.path}"


class CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most MAX_REDIRECTS redirects, each only to an allowed host and in the time that is left."""

    def __init__(self, allowed: AllowedHosts, deadline: float) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._followed = 0

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self._followed += 1
        if self._followed > MAX_REDIRECTS:
            raise FetchError(f"{shown(req.full_url)} redirects more than {MAX_REDIRECTS} times")
        self._allowed.check(newurl)
        if req.type == "https" and split_url(newurl)[0].scheme != "https":
            raise FetchError(f"{shown(newurl)} refused: a redirect led from https to plain http")
        if "@" in split_url(newurl)[0].netloc:
            raise FetchError(f"{shown(newurl)} refused: a redirect brought a user name with it")
        req.timeout = seconds_until(self._deadline)  # the caller opens the next hop with it
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(allowed: AllowedHosts, deadline: float) -> urllib.request.OpenerDirector:
    """An opener of http and https alone: no files, no ftp, and no proxy of the environment that could rewrite hosts."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        CheckedRedirects(allowed, deadline),
    ):
        director.add_handler(handler)
    return director


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns what the network raises into a FetchError that names the URL."""
    try:
        yield
    except HTTPError as error:
        with error:
            raise answered(error, url) from None
    except (http.client.InvalidURL, UnicodeError):  # their text quotes the query
        raise FetchError(f"{shown(url)} is not a URL: a character of it must be escaped") from None
    except TimeoutError:
        raise FetchError(f"{shown(url)} did not answer in time") from None
    except URLError as error:
        raise unreachable(error, url) from None
    except (http.client.HTTPException, OSError) as error:
        raise PassingError(f"{shown(url)} broke off: {error or type(error).__name__}") from None


def answered(error: HTTPError, url: str) -> FetchError:
    kind = PassingError if error.code == 429 or error.code >= 500 else FetchError
    return kind(f"{shown(error.url or url)} answered {error.code}")


def unreachable(error: URLError, url: str) -> FetchError:
    kind = FetchError if isinstance(error.reason, ssl.SSLCertVerificationError) else PassingError
    return kind(f"{shown(url)} cannot be reached: {error.reason}")


def without_user(url: str) -> tuple[str, str | None]:
    """The URL without its user-info, and the user-info as a Basic header's value."""
    parts, _ = split_url(url)
    user_info, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    token = base64.b64encode(urllib.parse.unquote(user_info).encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def request_for(url: str) -> urllib.request.Request:
    plain, authorization = without_user(url)
    request = urllib.request.Request(plain, headers={"User-Agent": "headrace-fetch"})  # noqa: S310 - scheme is checked
    if authorization:
        request.add_unredirected_header("Authorization", authorization)  # a redirect's target must not learn it
    return request


def seconds_until(deadline: float) -> float:
    return max(deadline - time.monotonic(), SHORTEST_TIMEOUT_SECONDS)


def http_chunks(url: str, allowed: AllowedHosts, deadline: float) -> Iterator[bytes]:
    """What the URL answers. Whoever stores it fails by errors of their own: they do not pass through here."""
    allowed.check(url)
    timeout = seconds_until(deadline)
    with explained(url), opener(allowed, deadline).open(request_for(url), timeout=timeout) as answer:
        if answer.status != 200:
            raise FetchError(f"{shown(url)} answered {answer.status}, and 200 alone brings a whole file")
        received = 0
        while chunk := answer.read1(CHUNK_BYTES):
            received += len(chunk)
            yield chunk
            if time.monotonic() > deadline:  # a slow drip never meets the socket's timeout
                raise FetchError(f"{shown(url)} did not arrive in time")
        expected = answer.headers.get("Content-Length", "")
        if expected.isdecimal() and received != int(expected):
            raise PassingError(f"{shown(url)} broke off after {received} of {expected} bytes")


def image_chunks(url: str) -> Iterator[bytes]:
    """The file that `local:///path` names."""
    parts, _ = split_url(url)
    path = Path(urllib.parse.unquote(parts.path))
    if parts.netloc or not path.is_file():
        raise FetchError(f"{shown(url)} is not in the image")
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise FetchError(f"{shown(url)} cannot be read: {error.strerror}") from None


def capped(chunks: Iterable[bytes], url: str, max_bytes: int) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            raise FetchError(f"{shown(url)} is larger than the {max_bytes} bytes allowed")
        yield chunk


def chunks_of(url: str, bounds: Bounds, deadline: float) -> Iterator[bytes]:
    is_local = split_url(url)[0].scheme == "local"
    chunks = image_chunks(url) if is_local else http_chunks(url, bounds.allowed_hosts, deadline)
    return capped(chunks, url, bounds.max_bytes)


def stored(chunks: Iterable[bytes], into: IO[bytes]) -> str:
    """Writes the chunks over what an earlier try left, and answers their sha256."""
    into.seek(0)
    into.truncate()
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        into.write(chunk)
    return digest.hexdigest()


def tried(attempt: Callable[[], str], deadline: float) -> str:
    """The attempt's answer; again after a passing error, as long as there are pauses and time for them."""
    pauses, tries = iter(PAUSES_SECONDS), 0
    while True:
        tries += 1
        try:
            return attempt()
        except PassingError as error:
            pause = next(pauses, None)
            if pause is None or time.monotonic() + pause >= deadline:
                raise FetchError(f"{error} (tried {tries} times)" if tries > 1 else str(error)) from None
        time.sleep(pause)


def brought(url: str, bounds: Bounds, deadline: float, into: IO[bytes]) -> str:
    return tried(lambda: stored(chunks_of(url, bounds, deadline), into), deadline)


def bounded_by(deadline: float, url: str, attempt: Callable[[], str]) -> str:
    """The attempt's answer; a FetchError where there is none at the deadline, whatever it waits for by then: a name
    that is looked up, one address after the other, headers that drip. It is left to itself then, until Python ends."""
    answers: SimpleQueue[str | BaseException] = SimpleQueue()

    def tell() -> None:
        try:
            answers.put(attempt())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            answers.put(error)

    threading.Thread(target=tell, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds_until(deadline) + LAST_WORDS_SECONDS)
    except Empty:
        raise FetchError(f"{shown(url)} did not arrive in time") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextmanager
def appearing_whole(to: Path) -> Iterator[IO[bytes]]:
    """A file that appears at `to` only if the block succeeds; otherwise nothing is left of it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=to.parent, prefix=".fetch-")
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as stream:
            yield stream
        part.chmod(0o644)  # mkstemp makes it private, and Flink's container may run as another user
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)


def check_jar(artifact: Artifact, content: IO[bytes]) -> None:
    """A login page answered with 200 would else be a riddle of Java's class loader."""
    content.seek(0)
    beginning = content.read(11)
    if not beginning.startswith(b"PK"):
        raise FetchError(f"{shown(artifact.url)} is not a jar: it begins with {beginning!r}")


def check_digest(artifact: Artifact, found: str) -> None:
    if artifact.sha256.lower() not in ("-", found):
        raise FetchError(f"{shown(artifact.url)} has sha256 {found}, not {artifact.sha256.lower()}")


def bring(artifact: Artifact, bounds: Bounds) -> None:
    """The artifact at its place, or a FetchError and nothing there that was not there before."""
    if not re.fullmatch(r"-|[0-9a-fA-F]{64}", artifact.sha256):
        raise FetchError(f"{shown(artifact.url)}: a sha256 has 64 hex digits, not {artifact.sha256!r}")
    if artifact.sha256 == "-":
        bounds = replace(bounds, allowed_hosts=bounds.allowed_hosts.without_plain_http())
    deadline = time.monotonic() + bounds.timeout_seconds
    try:
        with appearing_whole(artifact.to) as into:
            found = bounded_by(deadline, artifact.url, lambda: brought(artifact.url, bounds, deadline, into))
            if artifact.is_jar:
                check_jar(artifact, into)
            check_digest(artifact, found)
    except OSError as error:
        reason = error.strerror or error
        raise FetchError(f"{shown(artifact.url)} cannot be stored at {artifact.to}: {reason}") from error


def fetch(given: argparse.Namespace) -> int:
    """Brings every artifact, in order; 0, or 1 with the first one's reason on stderr and in the termination log."""
    bounds = Bounds(given.allowed_hosts, given.max_bytes, given.timeout_seconds)
    for name, url, to, sha256 in given.artifact:
        try:
            bring(Artifact(name, url, Path(to), sha256), bounds)
        except FetchError as error:
            return failed(f"{name} {error}", given.termination_log)
    return 0


def failed(reason: str, termination_log: Path) -> int:
    """Says why on stderr and where Kubernetes reads it: the operator repeats that line in the deployment's error."""
    line = " ".join(reason.split())
    print(line, file=sys.stderr)
    leave(line, termination_log)
    return 1


def leave(line: str, termination_log: Path) -> None:
    """Writes the line there. Kubernetes makes its own file for it; outside a pod there is none, and none is made."""
    if termination_log == TERMINATION_LOG and not termination_log.exists():
        return
    try:
        termination_log.write_bytes(clipped(f"{line}\n"))
    except OSError as error:
        print(f"cannot write {termination_log}: {error}", file=sys.stderr)


def clipped(line: str) -> bytes:
    """The line without its middle if it is too long: its beginning says what failed, and its end why."""
    whole, gap = line.encode(errors="replace"), " … ".encode()
    if len(whole) <= TERMINATION_BYTES:
        return whole
    half = (TERMINATION_BYTES - len(gap)) // 2
    ends = (part.decode(errors="ignore").encode() for part in (whole[:half], whole[-half:]))  # no half characters
    return gap.join(ends)


def run(given: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the script as `python script …` would. Its functions belong to `__main__`, so they pickle by value."""
    script: Path = given.script
    folder = script.resolve().parent
    try:
        check_syntax(script, folder)
        packages = [installed(given.requirements, given.requirements_timeout_seconds)] if given.requirements else []
    except RunError as error:
        return failed(str(error), given.termination_log)
    sys.argv = [str(script), *arguments]
    sys.path[:1] = [str(folder), *packages]  # where Python put this program's folder
    try:
        runpy.run_path(str(script), run_name="__main__")
    except (Exception, SystemExit) as error:
        with suppress(Exception):  # nothing here may hide the script's own error
            leave_reason(error, folder, given.termination_log)
        raise
    return 0


def check_syntax(script: Path, folder: Path) -> None:
    """Raises RunError for the script, else for the first of the files beside and below it, that is not Python."""
    check_source(script, f"script {script}")
    for module in sorted(path.relative_to(folder) for path in folder.rglob("*.py") if path.is_file()):
        if not any(part.startswith(".") for part in module.parts):  # what is hidden is nobody's module
            check_source(folder / module, f"module {module}")


def check_source(path: Path, called: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they show when it is imported, and once is enough
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise RunError(f"{called} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise RunError(syntax_complaint(called, error)) from None


def syntax_complaint(called: str, error: SyntaxError | ValueError) -> str:
    if not isinstance(error, SyntaxError):
        return f"{called} is not Python: {error}"
    where = f"{called}, line {error.lineno}: {error.msg}"
    return f"{where}: {error.text.strip()}" if error.text else where


def installed(requirements: Path, timeout_seconds: float) -> str:
    """A folder with what the file asks for; it goes when Python does, after whatever the script leaves to its end."""
    folder = tempfile.mkdtemp(prefix="requirements-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options = ("--disable-pip-version-check", "--no-input", "--target", folder, "-r", str(requirements))
    code, said = bounded([sys.executable, "-m", "pip", "install", *options], timeout_seconds)
    said = re.sub(r"://[^/\s]+@", "://", said)  # an index's password
    print(said, end="", file=sys.stderr)
    if code is None:
        raise RunError(f"pip was not done with {requirements} after {timeout_seconds:g} seconds")
    if code != 0:
        raise RunError(f"pip could not install {requirements}: {pips_reason(said)}")
    return folder


def bounded(command: Sequence[str], timeout_seconds: float) -> tuple[int | None, str]:
    """The command's exit code, None if the time was over, and what it printed."""
    started = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = started.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # pip's compilers too: they would hold the pipe open
        return None, started.communicate()[0]
    return started.returncode, said


def pips_reason(said: str) -> str:
    """pip's own ERROR lines; where a build failed without one, the requirement it was at and what it then said."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    errors = [line[len("ERROR: ") :] for line in lines if line.startswith("ERROR: ")]
    if errors:
        return "; ".join(errors)
    at = [line for line in lines if line.startswith(("Collecting ", "Processing "))]
    then = [line for line in lines if line.startswith(("error:", "×", "╰─>"))]
    return " ".join([*at[-1:], *then] or lines[-1:]) or "pip said nothing"


def leave_reason(error: BaseException, folder: Path, termination_log: Path) -> None:
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return
    leave(reason_of(error, folder), termination_log)


def reason_of(error: BaseException, folder: Path) -> str:
    """`Type: message (file, line N)`, the place being the last that was reached in the user's own files."""
    said = message_of(error, folder)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    places = [
        (within(frame.f_code.co_filename, folder), line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    users = [f"{file}, line {line}" for file, line in places if file]
    return f"{what} ({users[-1]})" if users else what


def message_of(error: BaseException, folder: Path) -> str:
    """In one line. Of the stack traces that Flink puts into a message, the causes stay and the user's own frames."""
    kept = FRAMES.sub(lambda found: found["place"] if within(found["file"] or "", folder) else "", str(error))
    return " ".join(kept.split())


def within(file: str, folder: Path) -> Path | None:
    """The file below the folder; None for one that is elsewhere, or is none (compiled code has made-up names)."""
    path = Path(file).resolve()
    return path.relative_to(folder) if folder in path.parents and path.is_file() else None


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="entrypoint.py", description="Fetches a Flink job's files and runs its script.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="bring files into the pod", allow_abbrev=False)
    one.add_argument("--allowed-hosts", required=True, type=AllowedHosts, metavar="HOST[:PORT],…")
    one.add_argument("--max-bytes", required=True, type=int, metavar="N", help="of each artifact")
    one.add_argument("--timeout-seconds", type=float, default=60.0, metavar="S", help="for each artifact")
    one.add_argument(
        "--artifact",
        required=True,
        action="append",
        nargs=4,
        metavar=("NAME", "URL", "TO", "SHA256"),
        help="once for each; the URL is http, https or local:///path/in/the/image, and - stands for no SHA256",
    )
    two = commands.add_parser("run", help="run the script: run SCRIPT -- ARGUMENTS…", allow_abbrev=False)
    two.add_argument("script", type=Path)
    two.add_argument("--requirements", type=Path, metavar="FILE", help="what pip installs before the script runs")
    two.add_argument("--requirements-timeout-seconds", type=float, default=300.0, metavar="S")
    for command in (one, two):
        command.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, metavar="P")
    return top


def main(arguments: Sequence[str]) -> int:
    """What follows the first `--` is the script's and is not read here."""
    ours, theirs = list(arguments), []
    if "--" in ours and ours[0] == "run":
        cut = ours.index("--")
        ours, theirs = ours[:cut], ours[cut + 1 :]
    given = parser().parse_args(ours)
    return fetch(given) if given.command == "fetch" else run(given, theirs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
