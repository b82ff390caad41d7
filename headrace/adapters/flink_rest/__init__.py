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
        latest = (content or {}).get("latest") or {}
        taken = [each for kind in ("completed", "savepoint") if (each := latest.get(kind)) is not None]
        newest = max(taken, key=lambda each: int(each.get("id", 0)), default=None) or latest.get("restored")
        path = (newest or {}).get("external_path")
        return path if path and not str(path).startswith("<") else None

    def root_exception(self, namespace: str, name: str, flink_job_id: str) -> str | None:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/exceptions") or {}
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return "\n".join(str(entries[0].get("stacktrace", "")).splitlines()[:5]) if entries else None

    def _get(self, namespace: str, name: str, path: str) -> dict[str, Any] | None:
        """The answer's JSON, or None where the JobManager knows no such job."""
        url = self._find_url(namespace, name)
        try:
            answer = httpx.get(url + path, timeout=self._timeout_seconds, trust_env=False)
        except httpx.HTTPError as error:
            raise Unavailable(f"the JobManager of {namespace}/{name} at {url} did not answer: {error!r}") from error
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise Unavailable(f"the JobManager of {namespace}/{name} answered {answer.status_code} to GET {path}")
        content: dict[str, Any] = answer.json()
        return content
