"""One request to the API server: its bound, a second try where we are not known, and the translation of its errors.

Answers stay bytes; who asks decodes only what it needs. It knows no resource.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson
import urllib3

from headrace.adapters.bounds import Bounds
from headrace.adapters.kubernetes.credentials import Access, Credentials
from headrace.adapters.paths import plain
from headrace.adapters.prometheus.errors import count_error, counting_errors
from headrace.errors import MissingRight, Refused, Unavailable

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
OF_RBAC = 'is forbidden: User "'


class Unserved(Unavailable):
    """A server that is itself does not know the resource: it has no such CRD, or not yet, or not for a moment."""


class ProblemDetails(msgspec.Struct, frozen=True):
    """What an error is about."""

    kind: str = ""


class Problem(msgspec.Struct, frozen=True):
    """A Status object, as the API server explains an error."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: ProblemDetails | None = None


@dataclass(frozen=True)
class Answer:
    """An answer that came: any HTTP status."""

    status: int
    body: bytes

    @property
    def problem(self) -> Problem:
        """The Status in an error's body; an empty one where there is none."""
        try:
            return msgspec.json.decode(self.body, type=Problem)
        except msgspec.DecodeError:
            return Problem(message=self.body[:300].decode(errors="replace"))


class Pieces:
    """An answer's body as it comes, for so many seconds at most.

    A read that waits is ended by shutting the connection down, from whichever thread; whoever reads cannot tell that
    from the body's own end.
    """

    def __init__(
        self, response: Any, bound_seconds: float, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._response = response
        self._translated = translated
        self._pieces = response.stream(65536, decode_content=True)
        self._reading = threading.Lock()
        self._is_over = threading.Event()
        self._timer = threading.Timer(bound_seconds, self.close)
        self._timer.daemon = True
        self._timer.start()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._reading, self._translated():
                piece: bytes = next(self._pieces)
                return piece
        except (StopIteration, Unavailable) as error:
            was_ended = self._is_over.is_set() or isinstance(error, StopIteration)
            self.close()
            if was_ended:
                raise StopIteration from None
            raise

    def close(self) -> None:
        """Closes the stream. Idempotent."""
        self._is_over.set()
        self._timer.cancel()
        with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
            self._response.shutdown()
        if self._reading.acquire(timeout=1):
            self._response.close()
            self._reading.release()


class ApiServer:
    """Requests over one pool of connections, made at the first use and after any fork."""

    def __init__(self, kubeconfig: Path | None, timeout_seconds: float) -> None:
        self._credentials = Credentials(kubeconfig)
        self._timeout_seconds = timeout_seconds
        self._host = ""

    def check(self) -> None:
        """Raises ConfigurationError where no request could come right. Asks nobody."""
        self._credentials.check()

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Answer:
        """One request within the bound. Raises Unavailable where no answer came, or one of 429 or 5xx; `doing`
        says in the error what was tried."""
        with self._translated(doing):
            response = self._request(method, path, query, body, content_type, stream=False, bound=self._timeout_seconds)
            answer = Answer(response.status, response.data)
        return self._usable(answer, doing)

    def send_through(self, method: str, path: str, *, doing: str, body: Any = None) -> Answer:
        """What a server behind the API server answers, whatever its status. The bound is for the whole of it, and its
        size is bounded too. Raises Unavailable."""
        bound = self._timeout_seconds
        with self._translated(doing), Bounds(bound) as bounds:
            response = self._request(method, path, None, body, "application/json", stream=True, bound=bound)
            with closing(response):
                bounds.watch(response.shutdown)
                return Answer(response.status, bounds.body(response.stream(65536, decode_content=False)))

    def stream(
        self, path: str, *, doing: str, query: Mapping[str, str | int], bound_seconds: float
    ) -> Iterator[bytes] | Answer:
        """The lines of an answer as they come; an Answer where it is not 200. Closed with the iterator."""
        with self._translated(doing):
            response = self._request("GET", path, query, None, "", stream=True, bound=bound_seconds)
        if response.status != 200:
            return self._whole(response, doing)
        return self._lines(response, doing)

    def pieces(
        self, path: str, *, doing: str, query: Mapping[str, str | int], bound_seconds: float
    ) -> Pieces | Answer | None:
        """A body without an end as it comes, until the bound; an Answer where it is not 200; None where nothing came,
        not even an answer's first line, as of a log that is silent from its beginning."""
        with self._translated(doing):
            try:
                response = self._request("GET", path, query, None, "", stream=True, bound=self._timeout_seconds)
            except urllib3.exceptions.ReadTimeoutError:
                return None
        if response.status != 200:
            return self._whole(response, doing)
        response.connection.sock.settimeout(bound_seconds + self._timeout_seconds)
        return Pieces(response, bound_seconds, lambda: self._translated(doing))

    def _whole(self, response: urllib3.BaseHTTPResponse, doing: str) -> Answer:
        with self._translated(doing):
            answer = Answer(response.status, response.read())
        return self._usable(answer, doing)

    def _usable(self, answer: Answer, doing: str) -> Answer:
        with counting_errors("kubernetes"):
            return self._judged(answer, doing)

    def _judged(self, answer: Answer, doing: str) -> Answer:
        """An answer of a server that is itself: 401 (mended from outside), 429, 5xx and a 404 that names no object (the
        resource is not served) are worth another try."""
        words = f"{self._server} answered {answer.status} while {doing} (HEADRACE_KUBECONFIG)"
        if answer.status == 401:
            raise Unavailable(f"{words}: {answer.problem.message}; newly read credentials are refused as well")
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"{words}: {answer.problem.message}")
        if answer.status == 404 and answer.problem.reason != "NotFound":
            hint = "is the Flink Kubernetes Operator's CRD installed?"
            raise Unserved(f"{words}: {answer.problem.message.strip()}; {hint}")
        return answer

    def _lines(self, response: Any, doing: str) -> Iterator[bytes]:
        left = b""
        try:
            with self._translated(doing):
                for part in response.stream(65536, decode_content=True):
                    *lines, left = (left + part).split(b"\n")
                    yield from (line for line in lines if line)
        finally:
            response.close()
            response.release_conn()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None,
        body: Any,
        content_type: str,
        stream: bool,
        bound: float,
    ) -> Any:
        """One request, and where the credentials are refused one more with those that are asked for then."""
        headers = {"Accept": "application/json", "User-Agent": "headrace"}
        if body is not None:
            headers["Content-Type"] = content_type
        send = partial(
            self._send_as,
            method=method,
            url=f"{plain(path)}{'?' + urlencode(query) if query else ''}",
            body=orjson.dumps(body) if body is not None else None,
            timeout=urllib3.Timeout(connect=min(self._timeout_seconds, bound), read=bound),
            preload_content=not stream,
        )
        access = self._credentials.access()
        response = send(access, headers)
        if response.status != 401:
            return response
        response.close()
        self._credentials.forget(access)
        return send(self._credentials.access(), headers)

    def _send_as(self, access: Access, headers: Mapping[str, str], *, method: str, url: str, **options: Any) -> Any:
        self._host = access.host
        sent = {**headers, **access.headers}
        try:
            return access.pool.request(method, access.host + url, headers=sent, retries=False, **options)
        except urllib3.exceptions.SSLError:
            self._credentials.forget(access)  # a certificate, theirs or ours, may have been renewed
            raise

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with counting_errors("kubernetes"), self._as_ours(doing):
            yield

    @contextmanager
    def _as_ours(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{self._server} did not answer while {doing} (HEADRACE_KUBECONFIG): {error}") from error

    @property
    def _server(self) -> str:
        return f"the Kubernetes API at {self._host}" if self._host else "the Kubernetes API"


def refused(answer: Answer, doing: str) -> Refused:
    """The error for an answer that says no. Admission (a quota, a policy, a webhook) answers 403 too: RBAC alone names
    who may not."""
    words = f"the Kubernetes API refused {doing}: {answer.problem.message or answer.status}"
    lacks_a_right = answer.status == 403 and OF_RBAC in answer.problem.message
    found = MissingRight(words) if lacks_a_right else Refused(words)
    count_error("kubernetes", found)
    return found
