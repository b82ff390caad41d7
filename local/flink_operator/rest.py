"""A JobManager's REST API on the loopback: what the operator watches and asks for. Knows no Kubernetes."""

from __future__ import annotations

import time
from typing import Any

import httpx

TIMEOUT_SECONDS = 3.0
SAVEPOINT_TIMEOUT_SECONDS = 120.0


class SavepointFailed(Exception):
    """A stop with savepoint did not complete: what Flink says of it, and its root cause where that says more."""

    def __init__(self, said: str, root_cause: str = "") -> None:
        super().__init__(said)
        self.root_cause = root_cause or said


class Rest:
    """REST calls that answer None where the JobManager does not."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS, trust_env=False)

    def close(self) -> None:
        """Ends its connections. Nothing may be asked after it."""
        self._http.close()

    def is_up(self) -> bool:
        """Whether it answers at all."""
        return self._get("/config") is not None

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job's entry of the overview, or None where it is not there, or nothing answers."""
        overview = self._get("/jobs/overview") or {}
        return next((job for job in overview.get("jobs") or [] if job["jid"] == job_id), None)

    def exceptions(self, job_id: str) -> list[dict[str, Any]]:
        """The newest entries of the job's exception history, oldest first; none where nothing answers."""
        history = (self._get(f"/jobs/{job_id}/exceptions?maxExceptions=5") or {}).get("exceptionHistory") or {}
        return list(reversed(history.get("entries") or []))

    def config(self) -> dict[str, Any]:
        """Versions, as the dashboard shows them."""
        return self._get("/config") or {}

    def require(self, job_id: str, parallelism: dict[str, int]) -> bool:
        """Asks for these parallelisms of its vertices, by their ids; False where the JobManager did not take it. What
        it takes it brings about as slots come."""
        body = {name: {"parallelism": {"lowerBound": 1, "upperBound": count}} for name, count in parallelism.items()}
        try:
            return self._http.put(f"/jobs/{job_id}/resource-requirements", json=body).is_success
        except httpx.HTTPError:
            return False

    def stop_with_savepoint(self, job_id: str, folder: str, *, drain: bool) -> str:
        """Stops the job with a savepoint, drained or not, and returns its path. Raises SavepointFailed."""
        try:
            body = {"targetDirectory": folder, "drain": drain}
            answer = self._http.post(f"/jobs/{job_id}/stop", json=body)
            answer.raise_for_status()
            return self._await_savepoint(job_id, answer.json()["request-id"])
        except httpx.HTTPError as error:
            raise SavepointFailed(f"the JobManager did not take the stop: {error!r}") from error

    def savepoint(self, job_id: str, folder: str, made_as: str) -> str:
        """Takes a savepoint of the job, which runs on, and returns its path. Raises SavepointFailed."""
        try:
            body = {"target-directory": folder, "cancel-job": False, "formatType": made_as}
            answer = self._http.post(f"/jobs/{job_id}/savepoints", json=body)
            answer.raise_for_status()
            return self._await_savepoint(job_id, answer.json()["request-id"])
        except httpx.HTTPError as error:
            raise SavepointFailed(f"the JobManager did not take the savepoint: {error!r}") from error

    def _await_savepoint(self, job_id: str, trigger: str) -> str:
        until = time.monotonic() + SAVEPOINT_TIMEOUT_SECONDS
        while time.monotonic() < until:
            content = self._http.get(f"/jobs/{job_id}/savepoints/{trigger}").json()
            operation = content.get("operation") or {}
            if "location" in operation:
                return str(operation["location"])
            if "failure-cause" in operation:
                lines = str(operation["failure-cause"].get("stack-trace", "")).splitlines() or ["no reason given"]
                causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
                raise SavepointFailed(lines[0][:600], (causes or lines)[-1][:600])
            time.sleep(0.3)
        raise SavepointFailed(f"no savepoint within {SAVEPOINT_TIMEOUT_SECONDS:.0f} s")

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self._http.get(path)
            return answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None


def effective_state(job: dict[str, Any]) -> str:
    """The state as the operator shows it: a job that says RUNNING is CREATED until every task runs or has finished."""
    tasks = job["tasks"]
    if job["state"] == "RUNNING" and tasks["running"] + tasks["finished"] != tasks["total"]:
        return "CREATED"
    return str(job["state"])
