"""The Python client of Headrace's HTTP API, for the CLI and for other services. Knows HTTP, and no server of ours.

Each POST carries an Idempotency-Key of its own unless one is given, so that a retry is safe.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from headrace.errors import Conflict, HeadraceError, InvalidRequest, NotFound, Refused, Unavailable

BASE = "/api/v1/flink"
TRIES = 3
PAUSE_SECONDS = 0.5
WAIT_STEP_SECONDS = 10.0

Json = dict[str, Any]


class Client:
    """One API server and key. Raises headrace.errors; every call is bounded by `timeout_seconds`."""

    def __init__(
        self, url: str, api_key: str, timeout_seconds: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_seconds,
            trust_env=False,
            transport=transport,
        )

    def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Json:
        """POST jobs/submit: {"template_id", "job_config", "job_id", "start_from"}; the answer has the operation."""
        return self._post(f"{BASE}/jobs/submit", body, idempotency_key)

    def render(self, body: Mapping[str, Any]) -> Json:
        """The manifest that a submit of this body would create."""
        return self._post(f"{BASE}/jobs/render", body, None)

    def stop(self, job_id: str, force: bool = False, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/stop."""
        return self._post(f"{BASE}/jobs/{job_id}/stop", {"force": force}, idempotency_key)

    def scale(self, job_id: str, parallelism: int, idempotency_key: str | None = None) -> Json:
        """POST jobs/{job_id}/scale."""
        return self._post(f"{BASE}/jobs/{job_id}/scale", {"parallelism": parallelism}, idempotency_key)

    def jobs(self, phase: str | None = None) -> Iterator[Json]:
        """Every job, page by page."""
        query = {"phase": phase} if phase else {}
        while True:
            page = self._get(f"{BASE}/jobs", query)
            yield from page["jobs"]
            if not page["next_cursor"]:
                return
            query["cursor"] = page["next_cursor"]

    def job(self, job_id: str) -> Json:
        """One job. Raises NotFound."""
        return self._get(f"{BASE}/jobs/{job_id}")

    def operations(self, job_id: str) -> list[Json]:
        """A job's operations, oldest first."""
        found: list[Json] = self._get(f"{BASE}/jobs/{job_id}/operations")["operations"]
        return found

    def transitions(self, job_id: str) -> list[Json]:
        """A job's history of phases, oldest first."""
        found: list[Json] = self._get(f"{BASE}/jobs/{job_id}/transitions")["transitions"]
        return found

    def operation(self, operation_id: str, wait_seconds: float = 0) -> Json:
        """The answer that the operation's request had, as it is now; holds up to `wait_seconds` for its end."""
        return self._get(f"{BASE}/operations/{operation_id}", {"wait": str(wait_seconds)})

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
        """The newest version of each template."""
        found: list[Json] = self._get(f"{BASE}/templates")["templates"]
        return found

    def template(self, template_id: str) -> Json:
        """The newest version of one. Raises NotFound."""
        return self._get(f"{BASE}/templates/{template_id}")

    def is_ready(self) -> Json:
        """GET /readyz. Raises Unavailable where the API cannot do its work."""
        return self._get("/readyz")

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return self._send("GET", path, params=dict(query or {}))

    def _post(self, path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Json:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._send("POST", path, json=dict(body), headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> Json:
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise Unavailable(
                        f"the API at {self._url} does not answer ({error!r}); is it up? ./run up starts a local one"
                    ) from error
            else:
                if answer.status_code != 503 or attempt == TRIES:
                    return _content(answer)
            time.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("the last try returns or raises")


def _content(answer: httpx.Response) -> Json:
    if answer.is_success:
        content: Json = answer.json()
        return content
    raise _error(answer)


def _error(answer: httpx.Response) -> HeadraceError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    detail = str(problem.get("detail") or f"the API answered {answer.status_code}")
    if answer.status_code == 400:
        return InvalidRequest({e["field"]: e["detail"] for e in problem.get("errors", [])} or {"request": detail})
    kinds = {404: NotFound, 409: Conflict, 401: Refused, 503: Unavailable}
    return kinds.get(answer.status_code, Refused)(detail)
