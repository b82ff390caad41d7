"""A JobManager's REST API: checkpoints and exceptions. Follows Flink's REST API v1; knows no Kubernetes client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from headrace.domain.state_on_hand import WITHOUT_GRAPH
from headrace.errors import Unavailable
from headrace.ports import Checkpoints, ExceptionSeen

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

    def checkpoints(self, namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        """See ports.JobManager. Where nothing is told, the job's own state says whether anything could be."""
        content = self._get(namespace, name, f"/jobs/{flink_job_id}/checkpoints")
        told = content.get("latest")
        latest = told if isinstance(told, dict) else {}
        taken = [each for kind in ("completed", "savepoint") if isinstance(each := latest.get(kind), dict)]
        newest = max(taken, key=_number, default=None)
        restored = latest.get("restored")
        found = Checkpoints(
            self._path(namespace, name, newest) if newest is not None else None,
            self._path(namespace, name, restored) if isinstance(restored, dict) else None,
        )
        if found.latest is not None:
            return found
        state = self._get(namespace, name, f"/jobs/{flink_job_id}").get("state")
        return replace(found, has_graph=isinstance(state, str) and state not in WITHOUT_GRAPH)

    def _path(self, namespace: str, name: str, checkpoint: Mapping[str, Any]) -> str:
        path = checkpoint.get("external_path")
        if not isinstance(path, str) or not path or path.startswith("<"):
            raise Unavailable(f"the last checkpoint of {namespace}/{name} has no path of its own: set a checkpoint dir")
        return path

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
            content = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise Unavailable(f"{whose} answered GET {path} with something that is not JSON") from error
        if not isinstance(content, dict):
            raise Unavailable(f"{whose} answered GET {path} with something that is no object")
        return content


def _number(checkpoint: Mapping[str, Any]) -> int:
    number = checkpoint.get("id")
    return number if isinstance(number, int) else 0


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
