"""A JobManager's REST API: checkpoints and exceptions. Follows Flink's REST API v1; knows no Kubernetes client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from headrace.errors import Unavailable

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

    def root_exception(self, namespace: str, name: str, flink_job_id: str) -> str | None:
        """See ports.JobManager."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/exceptions")
        entries = (content.get("exceptionHistory") or {}).get("entries") or []
        return "\n".join(str(entries[0].get("stacktrace", "")).splitlines()[:5]) if entries else None

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
