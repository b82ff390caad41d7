"""The Python client of Headrace's HTTP API, for the CLI and for other services. Knows HTTP, and no server of ours.

Each POST carries an Idempotency-Key of its own unless one is given, so that a retry is safe.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from headrace.errors import (
    Conflict,
    Forbidden,
    HeadraceError,
    InvalidRequest,
    NotFound,
    Refused,
    TooMany,
    Unauthorized,
    Unavailable,
)

BASE = "/api/v1/flink"
TRIES = 3
PAUSE_SECONDS = 0.5
WAIT_STEP_SECONDS = 10.0
FOLLOW_READ_SECONDS = 660.0
"""A log may be silent for as long as the API follows it, ten minutes unless it was told otherwise."""

MOST_LINES = 10_000
"""What is asked for to go on with a log: more than may have come in the meantime."""

AWAY = (502, 503, 504)
"""What an API answers that cannot do its work now, or a gateway before it."""

BRIEF_LIMIT = "500"
"""As many jobs as a page may have."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")

Json = dict[str, Any]
LogQuery = Mapping[str, str | int]
"""component, pod, container, tail, since, previous, timestamps: as GET jobs/{job_id}/logs takes them."""


class Client:
    """One API server and key. Raises headrace.errors; every call is bounded by `timeout_seconds`."""

    def __init__(
        self,
        url: str,
        api_key: str,
        timeout_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        *,
        tries: int = TRIES,
    ) -> None:
        self._url = url.rstrip("/")
        self._tries = tries
        self._timeout_seconds = timeout_seconds
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_seconds,
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Json:
        """POST jobs/submit: {"template_id", "job_config", "job_id", "start_from"}; the answer has the operation."""
        return self._post(f"{BASE}/jobs/submit", body, idempotency_key)

    def render(self, body: Mapping[str, Any]) -> Json:
        """The manifest that a submit of this body would create."""
        return self._post(f"{BASE}/jobs/render", body, None)

    def dry_run(self, kind: str, body: Mapping[str, Any], job_id: str | None = None) -> Json:
        """What an operation would change, cost and cause, and whether state is kept; nothing is accepted or written.
        `kind` is submit, which takes its job's name in the body, or upgrade, scale, rollback, resume or restart of
        `job_id`. Raises as the operation would, Conflict where what it would change cannot be known now, and Refused
        where the API is of a release that knows no dry run: that has accepted it."""
        where = f"{BASE}/jobs/{kind}" if job_id is None else f"{BASE}/jobs/{_path_part(job_id)}/{kind}"
        answer = self._send("POST", where, json=dict(body), params={"dry_run": "true"})
        if not answer.get("dry_run"):
            accepted = (answer.get("operation") or {}).get("id")
            raise Refused(
                f"{self._url} knows no dry run: it has accepted {kind} as operation {accepted}; upgrade the API"
            )
        return answer

    def stop(
        self, job_id: str, force: bool = False, idempotency_key: str | None = None, *, drain: bool = False
    ) -> Json:
        """POST jobs/{job_id}/stop."""
        body = {"force": force, **({"drain": True} if drain else {})}
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/stop", body, idempotency_key)

    def delete(self, job_id: str, force: bool = False, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/delete: the run ends, its state kept; the job's records go after the installation's
        time."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/delete", {"force": force}, idempotency_key)

    def undelete(self, job_id: str, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/undelete: a DELETED job's records are back; nothing runs by that."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/undelete", {}, idempotency_key)

    def scale(
        self,
        job_id: str,
        parallelism: int | None = None,
        idempotency_key: str | None = None,
        *,
        task_managers: int | None = None,
    ) -> Json:
        """POST jobs/{job_id}/scale: either the parallelism, or the TaskManagers whose slots it uses."""
        body = {"parallelism": parallelism} if task_managers is None else {"task_managers": task_managers}
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/scale", body, idempotency_key)

    def savepoint(self, job_id: str, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/savepoint; the operation's `savepoint_path` has it once that has succeeded."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/savepoint", {}, idempotency_key)

    def savepoints(self, job_id: str | None = None) -> Iterator[Json]:
        """The savepoints and retained checkpoints on record, of one job or of all, the newest first, page by page."""
        where = "savepoints" if job_id is None else f"jobs/{_path_part(job_id)}/savepoints"
        return self._pages("savepoints", {}, where)

    def dispose(self, path: str) -> Json:
        """DELETE savepoints: the one at this path is to go, through its job's JobManager. Raises NotFound, Conflict."""
        return self._send("DELETE", f"{BASE}/savepoints", params={"path": path})

    def suspend(self, job_id: str, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/suspend."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/suspend", {}, idempotency_key)

    def resume(self, job_id: str, start_from: str | None = None, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/resume; `start_from` is a savepoint's path, None for the state that it rests with."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/resume", {"start_from": start_from}, idempotency_key)

    def restart(self, job_id: str, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/restart."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/restart", {}, idempotency_key)

    def upgrade(self, job_id: str, body: Mapping[str, Any], idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/upgrade: {"job_config", "template_version", "parameters"}; what is not named stays."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/upgrade", body, idempotency_key)

    def adopt(self, job_id: str, deployment: str | None = None, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/adopt; `deployment` is the FlinkDeployment's name where the job's id is not."""
        body = {"deployment": deployment} if deployment is not None else {}
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/adopt", body, idempotency_key)

    def release(self, job_id: str, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/release."""
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/release", {}, idempotency_key)

    def adoptable(self, namespace: str | None = None) -> Iterator[Json]:
        """Every FlinkDeployment of the namespace that is not a job already, page by page: `why_not` says why one cannot
        be adopted, and is empty where it can."""
        return self._pages("adoptable", {"namespace": namespace} if namespace else {})

    def rollback(self, job_id: str, to: int | None = None, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/rollback; `to` is a version's number, None for the operator's last stable spec."""
        body = {} if to is None else {"to": to}
        return self._post(f"{BASE}/jobs/{_path_part(job_id)}/rollback", body, idempotency_key)

    def jobs(self, phase: str | None = None, *, brief: bool = False) -> Iterator[Json]:
        """Every job, page by page; in `brief` without their requests, and many a page."""
        query = {"phase": phase} if phase else {}
        return self._pages("jobs", query | ({"brief": "true", "limit": BRIEF_LIMIT} if brief else {}))

    def job(self, job_id: str) -> Json:
        """One job. Raises NotFound."""
        return self._get(f"{BASE}/jobs/{_path_part(job_id)}")

    def operations(self, job_id: str) -> list[Json]:
        """A job's operations, oldest first."""
        found: list[Json] = self._get(f"{BASE}/jobs/{_path_part(job_id)}/operations")["operations"]
        return found

    def transitions(self, job_id: str) -> list[Json]:
        """A job's history of phases, oldest first."""
        found: list[Json] = self._get(f"{BASE}/jobs/{_path_part(job_id)}/transitions")["transitions"]
        return found

    def versions(self, job_id: str) -> Iterator[Json]:
        """A job's versions, newest first, page by page."""
        return self._pages("versions", {}, f"jobs/{_path_part(job_id)}/versions")

    def version(self, job_id: str, number: int) -> Json:
        """One of them, with its request. Raises NotFound."""
        return self._get(f"{BASE}/jobs/{_path_part(job_id)}/versions/{number}")

    def logs(self, job_id: str, query: LogQuery | None = None, *, follow: bool = False) -> Log:
        """The lines of a job's log. Raises NotFound where it is gone and nothing was kept of it. Close it, or read it
        to its end."""
        params = {**(query or {}), **({"follow": "true"} if follow else {})}
        timeout = httpx.Timeout(self._timeout_seconds, read=FOLLOW_READ_SECONDS) if follow else self._timeout_seconds
        path = f"{BASE}/jobs/{_path_part(job_id)}/logs"
        request = self._http.build_request("GET", path, params=params, timeout=timeout)
        answer = self._tried(lambda: self._http.send(request, stream=True))
        if answer.is_success:
            return Log(answer, self._url)
        answer.read()
        raise _error(answer)

    def follow(
        self, job_id: str, query: LogQuery | None = None, on_trouble: Callable[[str], None] = lambda _: None
    ) -> Iterator[str]:
        """The lines of a job's log as they come, until its pod has ended. Where the connection or the API's bound
        ends it, it goes on from the last line; `on_trouble` is told why it waits."""
        seen = _SeenLines()
        asked = {**(query or {}), "timestamps": "true"}
        while True:
            try:
                log = self.logs(job_id, asked, follow=True)
                if seen.any and not log.pod:
                    return  # the pod is gone, and what was kept of it has been shown
                yield from seen.new_ones(log)
                if log.has_ended:
                    return
            except NotFound:
                if not seen.any:
                    raise
                return
            except Unavailable as error:
                if not seen.any:
                    raise
                on_trouble(str(error))
            time.sleep(PAUSE_SECONDS)
            if seen.any:
                asked = {**asked, "tail": MOST_LINES}
                asked.pop("since", None)

    def events(self, job_id: str) -> Json:
        """{"events": [...], "note"}: what happened to the job's deployment and pods in the last hour, newest last."""
        return self._get(f"{BASE}/jobs/{_path_part(job_id)}/events")

    def exceptions(self, job_id: str) -> Json:
        """{"exceptions": [...], "kept", "note"}: the exceptions that the job's JobManager knows, newest last."""
        return self._get(f"{BASE}/jobs/{_path_part(job_id)}/exceptions")

    def operation(self, operation_id: str, wait_seconds: float = 0) -> Json:
        """The answer that the operation's request had, as it is now; holds up to `wait_seconds` for its end."""
        return self._get(f"{BASE}/operations/{_path_part(operation_id)}", {"wait": str(wait_seconds)})

    def await_operation(self, operation_id: str, timeout_seconds: float) -> Json | None:
        """The answer once the operation has ended; None where it has not within the time."""
        until = time.monotonic() + timeout_seconds
        while True:
            left = max(0.0, until - time.monotonic())
            answer = self.operation(operation_id, min(WAIT_STEP_SECONDS, left))
            if answer["operation"]["state"] not in ("ACCEPTED", "RUNNING"):
                return answer
            if left <= 0:
                return None

    def put_template(self, body: Mapping[str, Any]) -> Json:
        """Stores a template's next version; the same content gives the version that has it."""
        return self._post(f"{BASE}/templates", body, None)

    def templates(self) -> list[Json]:
        """The newest version of each template, without the text of its files."""
        return list(self._pages("templates", {}))

    def _pages(self, what: str, query: Mapping[str, str], where: str = "") -> Iterator[Json]:
        cursor: dict[str, str] = {}
        while True:
            page = self._get(f"{BASE}/{where or what}", {**query, **cursor})
            yield from page[what]
            if not page.get("next_cursor"):
                return
            cursor = {"cursor": str(page["next_cursor"])}

    def template(self, template_id: str) -> Json:
        """The newest version of one. Raises NotFound."""
        return self._get(f"{BASE}/templates/{_path_part(template_id)}")

    def put_trigger(self, body: Mapping[str, Any]) -> Json:
        """Keeps a trigger in the place of the one of its name."""
        return self._post(f"{BASE}/triggers", body, None)

    def triggers(self) -> list[Json]:
        """The triggers, by name."""
        return list(self._pages("triggers", {}))

    def trigger(self, name: str) -> Json:
        """One trigger. Raises NotFound."""
        return self._get(f"{BASE}/triggers/{_path_part(name)}")

    def delete_trigger(self, name: str) -> Json:
        """Removes one. Raises NotFound, also where it was removed by a try whose answer was lost."""
        return self._send("DELETE", f"{BASE}/triggers/{_path_part(name)}")

    def dead_letters(self, limit: int = 100) -> list[Json]:
        """The newest letters about records that could not be used, newest last."""
        found: list[Json] = self._get(f"{BASE}/dead-letters", {"limit": str(limit)})["dead_letters"]
        return found

    def replay(self, letter_id: str) -> Json:
        """Handles a letter's record again: {"outcome", "operations", "reason"}. Raises NotFound."""
        return self._post(f"{BASE}/dead-letters/{_path_part(letter_id)}/replay", {}, None)

    def create_key(self, body: Mapping[str, Any]) -> Json:
        """POST keys: {"name", "role", "expires_in_days"}; the one answer that has the `key`. Raises Conflict where the
        name is taken, also by a try whose answer was lost: revoke that one, and choose another name."""
        return self._send("POST", f"{BASE}/keys", json=dict(body))

    def api_keys(self) -> list[Json]:
        """The keys on record, by name."""
        return list(self._pages("keys", {}))

    def revoke_key(self, name: str) -> Json:
        """DELETE keys/{name}. Idempotent. Raises NotFound."""
        return self._send("DELETE", f"{BASE}/keys/{_path_part(name)}")

    def runtimes(self) -> list[Json]:
        """Which runtimes work, the default one first, by what the processes that run jobs have said of late: `works` is
        None where not all have. Raises NotFound where the API is of a release that does not say it."""
        found: list[Json] = self._get(f"{BASE}/runtimes")["runtimes"]
        return found

    def whoami(self) -> Json:
        """The name, the role and the expiry of the key that this client has."""
        return self._get(f"{BASE}/whoami")

    def is_ready(self) -> Json:
        """GET /readyz. Raises Unavailable where the API cannot do its work."""
        return self._get("/readyz")

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return self._send("GET", path, params=dict(query or {}))

    def _post(self, path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Json:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._send("POST", path, json=dict(body), headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> Json:
        answer = self._tried(lambda: self._http.request(method, path, **options))
        if not answer.is_success:
            raise _error(answer)
        try:
            content: Json = answer.json()
        except ValueError as error:
            raise Refused(
                f"{self._url} answers something else than Headrace's API: {method} {path} is no JSON"
            ) from error
        return content

    def _tried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """The first answer that is not a 503, or the last try's."""
        for attempt in range(1, self._tries + 1):
            try:
                answer = send()
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise Refused(f"{self._url} is no address of an API ({error})") from error
            except httpx.RequestError as error:
                if attempt == self._tries:
                    raise Unavailable(
                        f"the API at {self._url} does not answer ({error!r}); is it up? ./run up starts a local one"
                    ) from error
            else:
                if answer.status_code != 503 or attempt == self._tries:
                    return answer
                answer.close()
            time.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("the last try returns or raises")


class Log:
    """The lines of a log, as they come. Raises Unavailable where the connection ends before the log does."""

    def __init__(self, answer: httpx.Response, url: str) -> None:
        self._answer = answer
        self._url = url
        self._lines = _lines(answer.iter_bytes())
        self.pod = answer.headers.get("headrace-pod", "")
        self.container = answer.headers.get("headrace-container", "")
        self.has_ended = answer.headers.get("headrace-ended") != "false"

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            self.close()
            raise
        except httpx.TransportError as error:
            self.close()
            raise Unavailable(f"the connection to the API at {self._url} ended ({error!r})") from error

    def close(self) -> None:
        """Closes the stream."""
        self._answer.close()


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines as they were printed: nothing but a line feed ends one."""
    left = b""
    for piece in pieces:
        *whole, left = (left + piece).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if left:
        yield left.decode(errors="replace")


class _SeenLines:
    """Which lines were shown, by their times: so that a log that is asked for again goes on where it was."""

    def __init__(self) -> None:
        self._last = ""
        self._as_late = 0

    @property
    def any(self) -> bool:
        """Whether there was a line at all."""
        return self._last != ""

    def new_ones(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines that were not shown yet, without the times in front of them."""
        last, to_skip = self._last, self._as_late
        for line in lines:
            at, _, text = line.partition(" ")
            if not TIME.match(at):
                yield line
            elif at == last and to_skip > 0:
                to_skip -= 1
            elif at >= last:
                self._as_late = self._as_late + 1 if at == self._last else 1
                self._last = at
                yield text


def _error(answer: httpx.Response) -> HeadraceError:
    try:
        content = answer.json()
    except ValueError:
        content = None
    problem = content if isinstance(content, dict) else {}
    detail = str(problem.get("detail") or f"the API answered {answer.status_code}")
    if answer.status_code == 400:
        named = [each for each in problem.get("errors") or [] if isinstance(each, dict)]
        return InvalidRequest({str(e.get("field")): str(e.get("detail")) for e in named} or {"request": detail})
    if answer.status_code in AWAY:
        return Unavailable(detail)
    kinds = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 429: TooMany}
    return kinds.get(answer.status_code, Refused)(detail)


def _path_part(identifier: str) -> str:
    """An id as one part of a path. Raises NotFound for what would lead to another path: no id is like that."""
    if "/" in identifier or not identifier.strip("."):
        raise NotFound(f"{identifier!r} is no id: an id has letters or digits, and no slash")
    return quote(identifier, safe="", errors="surrogateescape")
