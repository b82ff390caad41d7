"""One request to the API server: its bound, its authentication and the translation of its errors.

Answers stay bytes; who asks decodes only what it needs. It knows no resource.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson
import urllib3

from headrace.errors import ConfigurationError, Refused, Unavailable

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


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
        """Ends it. Idempotent."""
        self._is_over.set()
        self._timer.cancel()
        with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
            self._response.shutdown()
        if self._reading.acquire(timeout=1):
            self._response.close()
            self._reading.release()


class Requests:
    """Requests over one pool of connections, made at the first use and after any fork."""

    def __init__(self, kubeconfig: Path | None, timeout_seconds: float) -> None:
        self._kubeconfig = kubeconfig
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._client: Any = None

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
        answer = self.send_unread(method, path, doing=doing, query=query, body=body, content_type=content_type)
        return self._usable(answer, doing)

    def send_unread(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Answer:
        """`send` without a look at the answer's status: it may be that of a server behind the API server."""
        with self._translated(doing):
            response = self._request(method, path, query, body, content_type, stream=False, bound=self._timeout_seconds)
            return Answer(response.status, response.data)

    def stream(
        self, path: str, *, doing: str, query: Mapping[str, str | int], bound_seconds: float
    ) -> Iterator[bytes] | Answer:
        """The lines of an answer as they come; an Answer where it is not 200. Closed with the iterator."""
        with self._translated(doing):
            response = self._request("GET", path, query, None, "", stream=True, bound=bound_seconds)
        if response.status != 200:
            with self._translated(doing):
                answer = Answer(response.status, response.read())
            return self._usable(answer, doing)
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
            with self._translated(doing):
                answer = Answer(response.status, response.read())
            return self._usable(answer, doing)
        response.connection.sock.settimeout(bound_seconds + self._timeout_seconds)
        return Pieces(response, bound_seconds, lambda: self._translated(doing))

    def _usable(self, answer: Answer, doing: str) -> Answer:
        """An answer of a server that is itself: 401 (a token that ran out), 429, 5xx and a 404 that names no object
        (the resource is not served) are worth another try."""
        words = f"{self._server} answered {answer.status} while {doing} (HEADRACE_KUBECONFIG)"
        if answer.status in (401, 429) or answer.status >= 500:
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
        client = self._connected()
        headers = {"Accept": "application/json", "User-Agent": "headrace"}
        if body is not None:
            headers["Content-Type"] = content_type
        queries: list[Any] = []
        client.update_params_for_auth(headers, queries, ["BearerToken"], path, method, body)
        url = f"{client.configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        return client.rest_client.pool_manager.request(
            method,
            url,
            body=orjson.dumps(body) if body is not None else None,
            headers=headers,
            timeout=urllib3.Timeout(connect=min(self._timeout_seconds, bound), read=bound),
            retries=False,
            preload_content=not stream,
        )

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{self._server} did not answer while {doing} (HEADRACE_KUBECONFIG): {error}") from error

    @property
    def _server(self) -> str:
        return f"the Kubernetes API at {self._client.configuration.host}" if self._client else "the Kubernetes API"

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self._kubeconfig)
            return self._client


def refused(answer: Answer, doing: str) -> Refused:
    """The error for an answer that says no."""
    return Refused(f"the Kubernetes API refused {doing}: {answer.problem.message or answer.status}")


def _client(kubeconfig: Path | None) -> Any:
    """The official client, for its reading of kubeconfigs and service accounts, its TLS and its token refresh."""
    from kubernetes import client, config  # 1.1 s and 75 MB: only in processes that talk to Kubernetes

    configuration = client.Configuration()
    try:
        if kubeconfig is None:
            config.load_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise ConfigurationError(f"HEADRACE_KUBECONFIG: {error}") from error
    configuration.connection_pool_maxsize = 32
    return client.ApiClient(configuration)
