"""A JobManager's REST API: checkpoints and exceptions. Follows Flink's REST API v1; knows no Kubernetes client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from headrace.errors import Unavailable


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
