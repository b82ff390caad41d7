"""A JobManager's REST API: checkpoints and exceptions. Follows Flink's REST API v1; knows no Kubernetes client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from headrace.errors import Unavailable
from headrace.ports import ExceptionSeen

LONGEST_STACKTRACE = 8000
BEGINNING = 5000
"""What of a longer one is kept from its beginning; the rest from its end, where the root cause stands."""


class RestJobManager:
    """See ports.JobManager. `find_url` gives the REST address of a deployment from its namespace and name."""

    def __init__(self, find_url: Callable[[str, str], str], timeout_seconds: float) -> None:
        self._find_url = find_url
        self._timeout_seconds = timeout_seconds

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

    def root_exception(self, namespace: str, name: str, flink_job_id: str) -> str | None:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/exceptions")
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return "\n".join(str(entries[0].get("stacktrace", "")).splitlines()[:5]) if entries else None

    def exceptions(self, namespace: str, name: str, flink_job_id: str) -> Sequence[ExceptionSeen]:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/exceptions")
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return sorted((_exception(entry) for entry in entries), key=lambda each: each.at)

    def _get(self, namespace: str, name: str, path: str) -> dict[str, Any]:
        """The answer's JSON. A 404 says nothing: a JobManager that has just come back does not know its job yet."""
        url = self._find_url(namespace, name)
        whose = f"the JobManager of {namespace}/{name} at {url}"
        try:
            answer = httpx.get(url + path, timeout=self._timeout_seconds, trust_env=False)
            content: dict[str, Any] = answer.json() if answer.is_success else {}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unavailable(f"{whose} did not answer: {error!r}") from error
        if not answer.is_success:
            raise Unavailable(f"{whose} answered {answer.status_code} to GET {path}")
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
