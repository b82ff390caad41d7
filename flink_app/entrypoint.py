"""The program inside the Flink image: `fetch` brings a script into the pod, `run` hands it to Python.

It must not know Headrace: the standard library is all that it may import, so that one file is the whole program.
"""

import argparse
import base64
import hashlib
import http.client
import os
import runpy
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

MAX_REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
DEFAULT_PORTS = {"http": 80, "https": 443}


class FetchError(Exception):
    """The script could not be had. The message is one line for people and never holds a URL's user or password."""


class AllowedHosts:
    """The hosts that a script may come from: `host` allows every port of it, `host:port` that one alone."""

    def __init__(self, listed: str) -> None:
        self._allowed = frozenset(entry.strip().lower() for entry in listed.split(",") if entry.strip())

    def __str__(self) -> str:
        return ", ".join(sorted(self._allowed)) or "none"

    def check(self, url: str) -> None:
        """Raises FetchError unless `url` is http(s) to a listed host."""
        parts, port = split_url(url)
        if parts.scheme not in DEFAULT_PORTS:
            raise FetchError(f"SCRIPT_URL {shown(url)} refused: only http and https are fetched")
        host = (parts.hostname or "").lower()
        bracketed = f"[{host}]" if ":" in host else host
        if not {host, bracketed, f"{bracketed}:{port}"} & self._allowed:
            raise FetchError(
                f"SCRIPT_URL {shown(url)} refused: host {host or '(none)'} is not allowed (allowed: {self})"
            )


def split_url(url: str) -> tuple[urllib.parse.SplitResult, int | None]:
    """The URL's parts and its effective port."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # its text may quote a part of a password
        raise FetchError("SCRIPT_URL is not a URL: its host or port cannot be read") from None


def shown(url: str) -> str:
    """The URL as it may be printed: without user, password, query and fragment, any of which may hold a secret."""
    parts, _ = split_url(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most MAX_REDIRECTS redirects, each only to an allowed host."""

    def __init__(self, allowed: AllowedHosts) -> None:
        self._allowed = allowed
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
            raise FetchError(f"SCRIPT_URL {shown(req.full_url)} redirects more than {MAX_REDIRECTS} times")
        self._allowed.check(newurl)
        if "@" in split_url(newurl)[0].netloc:
            raise FetchError(f"SCRIPT_URL {shown(newurl)} refused: a redirect brought a user name with it")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(allowed: AllowedHosts) -> urllib.request.OpenerDirector:
    """An opener of http and https alone: no files, no ftp, and no proxy of the environment that could rewrite hosts."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        CheckedRedirects(allowed),
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
            raise FetchError(f"SCRIPT_URL {shown(error.url or url)} answered {error.code}") from None
    except TimeoutError:
        raise FetchError(f"SCRIPT_URL {shown(url)} did not answer in time") from None
    except URLError as error:
        raise FetchError(f"SCRIPT_URL {shown(url)} cannot be reached: {error.reason}") from None
    except (http.client.HTTPException, OSError) as error:
        raise FetchError(f"SCRIPT_URL {shown(url)} broke off: {error or type(error).__name__}") from None


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


def body(answer: IO[bytes], url: str, max_bytes: int, deadline: float) -> Iterator[bytes]:
    """The answer in chunks. Stops with FetchError at the size cap or the deadline, so a slow drip cannot hang it."""
    received = 0
    while chunk := answer.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        received += len(chunk)
        if received > max_bytes:
            raise FetchError(f"SCRIPT_URL {shown(url)} is larger than the {max_bytes} bytes allowed")
        if time.monotonic() > deadline:
            raise FetchError(f"SCRIPT_URL {shown(url)} did not arrive in time")
        yield chunk


def download(into: IO[bytes], url: str, allowed: AllowedHosts, max_bytes: int, timeout_seconds: float) -> str:
    """Streams the URL into an open file and answers its sha256."""
    digest = hashlib.sha256()
    deadline = time.monotonic() + timeout_seconds
    allowed.check(url)
    with explained(url), opener(allowed).open(request_for(url), timeout=timeout_seconds) as answer:
        expected = answer.headers.get("Content-Length", "")
        for chunk in body(answer, url, max_bytes, deadline):
            digest.update(chunk)
            into.write(chunk)
        if expected.isdecimal() and into.tell() != int(expected):
            raise FetchError(f"SCRIPT_URL {shown(url)} broke off after {into.tell()} of {expected} bytes")
    return digest.hexdigest()


@contextmanager
def appearing_whole(to: Path) -> Iterator[IO[bytes]]:
    """A file that appears at `to` only if the block succeeds; otherwise nothing is left of it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=to.parent, prefix=".fetch-")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        part.chmod(0o644)  # mkstemp makes it private, and Flink's container may run as another user
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)


def fetch(given: argparse.Namespace) -> int:
    """Downloads one script; 0, or 1 with the reason on stderr and in the termination log."""
    try:
        with appearing_whole(given.to) as into:
            found = download(into, given.url, given.allowed_hosts, given.max_bytes, given.timeout_seconds)
            check_digest(given.url, found, given.sha256)
    except FetchError as error:
        return failed(str(error), given.termination_log)
    except OSError as error:
        return failed(f"SCRIPT_URL {shown(given.url)} cannot be stored at {given.to}: {error}", given.termination_log)
    return 0


def check_digest(url: str, found: str, wanted: str | None) -> None:
    if wanted and found != wanted.lower():
        raise FetchError(f"SCRIPT_URL {shown(url)} has sha256 {found}, not {wanted.lower()}")


def failed(reason: str, termination_log: Path) -> int:
    """Says why on stderr and where Kubernetes reads it: the operator repeats that line in the deployment's error."""
    line = " ".join(reason.split())
    print(line, file=sys.stderr)
    try:
        termination_log.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        print(f"cannot write {termination_log}: {error}", file=sys.stderr)
    return 1


def run(script: Path, arguments: Sequence[str]) -> int:
    """Runs the script as `python script …` would. Its functions belong to `__main__`, so they pickle by value."""
    try:
        compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    except OSError as error:
        print(f"script {script} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    except (SyntaxError, ValueError) as error:
        print(syntax_complaint(script, error), file=sys.stderr)
        return 1
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.resolve().parent)  # where Python put this program's folder
    runpy.run_path(str(script), run_name="__main__")
    return 0


def syntax_complaint(script: Path, error: SyntaxError | ValueError) -> str:
    if not isinstance(error, SyntaxError):
        return f"script {script} is not Python: {error}"
    where = f"script {script}, line {error.lineno}: {error.msg}"
    return f"{where}\n    {error.text.strip()}" if error.text else where


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="entrypoint.py", description="Fetches and runs a Flink job's Python script.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="download the script")
    one.add_argument("--url", required=True)
    one.add_argument("--to", required=True, type=Path)
    one.add_argument("--allowed-hosts", required=True, type=AllowedHosts, metavar="HOST[:PORT],…")
    one.add_argument("--max-bytes", required=True, type=int)
    one.add_argument("--sha256")
    one.add_argument("--timeout-seconds", type=float, default=60.0)
    one.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    two = commands.add_parser("run", help="run the script: run SCRIPT -- ARGUMENTS…")
    two.add_argument("script", type=Path)
    return top


def main(arguments: Sequence[str]) -> int:
    """What follows the first `--` is the script's and is not read here."""
    ours, theirs = list(arguments), []
    if "--" in ours and ours[0] == "run":
        cut = ours.index("--")
        ours, theirs = ours[:cut], ours[cut + 1 :]
    given = parser().parse_args(ours)
    return fetch(given) if given.command == "fetch" else run(given.script, theirs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
