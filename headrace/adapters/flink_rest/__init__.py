"""A JobManager's REST API: checkpoints and exceptions. Follows Flink's REST API v1; knows no Kubernetes client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from headrace.errors import Unavailable
from headrace.ports import ExceptionSeen

LONGEST_STACKTRACE = 8000
BEGINNING = 5000
"""What of a longer one is kept from its beginning; the rest from its end, where the root cause stands."""

IN_CLUSTER_URL = "http://{name}-rest.{namespace}:8081"
"""The Service that the operator and Flink's own client make for a JobManager, by its DNS name."""


@dataclass(frozen=True)
class RestAnswer:
    """What a JobManager answered to a GET."""

    status: int
    body: bytes


RestGet = Callable[[str, str, str], RestAnswer]
"""A bounded GET of a deployment's JobManager, by namespace, name and path. Raises Unavailable where none came."""


def direct(url_template: str, timeout_seconds: float) -> RestGet:
    """GETs straight to a JobManager, at an address made of `{namespace}` and `{name}`."""

    def get(namespace: str, name: str, path: str) -> RestAnswer:
        url = url_template.format(namespace=namespace, name=name)
        try:
            answer = httpx.get(url + path, timeout=timeout_seconds, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"the JobManager of {namespace}/{name} at {url} did not answer (HEADRACE_FLINK_REST_URL): {error!r}"
            ) from error
        return RestAnswer(answer.status_code, answer.content)

    return get


class RestJobManager:
    """See ports.JobManager."""

    def __init__(self, get: RestGet) -> None:
        self._rest_get = get

    def last_checkpoint(self, namespace: str, name: str, flink_job_id: str) -> str | None:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/checkpoints")
        latest = content.get("latest") or {}
        taken = [each for kind in ("completed", "savepoint") if (each := latest.get(kind)) is not None]
        newest = max(taken, key=lambda each: int(each.get("id", 0)), default=None) or latest.get("restored")
        path = (newest or {}).get("external_path")
        if newest is not None and (not path or str(path).startswith("<")):
            raise Unavailable(f"the last checkpoint of {namespace}/{name} has no path of its own: set a checkpoint dir")
        return str(path) if path else None

    def exceptions(self, namespace: str, name: str, flink_job_id: str) -> Sequence[ExceptionSeen]:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/exceptions")
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return sorted((_exception(entry) for entry in entries), key=lambda each: each.at)

    def _get(self, namespace: str, name: str, path: str) -> dict[str, Any]:
        """The answer's JSON. A 404 says nothing: a JobManager that has just come back does not know its job yet."""
        answer = self._rest_get(namespace, name, path)
        whose = f"the JobManager of {namespace}/{name}"
        if answer.status != 200:
            raise Unavailable(f"{whose} answered {answer.status} to GET {path}")
        try:
            content: dict[str, Any] = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{whose} answered GET {path} with something that is not JSON") from error
        return content


def _exception(entry: Mapping[str, Any]) -> ExceptionSeen:
    return ExceptionSeen(
        at=datetime.fromtimestamp(int(entry.get("timestamp") or 0) / 1000, UTC),
        exception_name=str(entry.get("exceptionName") or ""),
        stacktrace=bounded(str(entry.get("stacktrace") or "")),
        task_name=str(entry.get("taskName") or ""),
        endpoint=str(entry.get("endpoint") or entry.get("location") or ""),
        task_manager_id=str(entry.get("taskManagerId") or ""),
    )


def bounded(stacktrace: str) -> str:
    """The stack trace, a long one without its middle."""
    left_out = len(stacktrace) - LONGEST_STACKTRACE
    if left_out <= 0:
        return stacktrace.rstrip()
    end = stacktrace[BEGINNING + left_out :]
    return f"{stacktrace[:BEGINNING]}\n… {left_out} characters are left out …\n{end}".rstrip()
