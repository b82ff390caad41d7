"""What a native cluster's JobManager is told: to stop with a savepoint, to take one, to run at another parallelism.

Every request that changes something carries an id of its own: Flink takes one that comes again for the same (its
`triggerId`, from 1.15). Follows Flink's REST API v1; knows no Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.adapters.flink_rest import (
    ELECTING,
    OVERVIEW,
    Body,
    RestAnswer,
    RestSend,
    job_in,
    root_cause,
    tasks_in,
    upper_bound,
)
from headrace.adapters.paths import part
from headrace.adapters.prometheus.errors import counting_errors
from headrace.domain.runtimes.native.acts import FlinkJob, effective_state
from headrace.errors import Unavailable

CANONICAL = "CANONICAL"


@dataclass(frozen=True)
class Outcome:
    """How far a savepoint is: its path once it is there, or Flink's words once it failed; neither while it goes on."""

    path: str = ""
    failure: str = ""


class ClusterRest:
    """A native cluster's JobManager, by the deployment's namespace and name."""

    def __init__(self, send: RestSend) -> None:
        self._send = send

    def job(self, namespace: str, name: str, job_id: str, *, with_vertices: bool = False) -> FlinkJob | None:
        """The job as the JobManager has it, without a state where it does not know it; None where none answers, or none
        leads. By the overview of all jobs: the details of one whose program failed before it had a graph Flink 2.x
        cannot show (a NullPointerException, answered with 500)."""
        try:
            answer = self._answer("GET", namespace, name, OVERVIEW)
            found = job_in(_object(answer), job_id) if answer.status == 200 else None
            if not found:
                return FlinkJob() if found is not None else None
            state = effective_state(str(found.get("state") or ""), tasks_in(found))
            runs_at = self._runs_at(namespace, name, job_id) if with_vertices and state == "RUNNING" else {}
        except Unavailable:
            return None
        start, told = found.get("start-time"), found.get("name")
        start_time = str(start) if isinstance(start, int) and start > 0 else None
        return FlinkJob(state, start_time, str(told) if told else None, runs_at)

    def _runs_at(self, namespace: str, name: str, job_id: str) -> dict[str, int]:
        """The parallelism of each vertex, where it has one."""
        found = self._usable(self._answer("GET", namespace, name, f"/jobs/{part(job_id)}"), namespace, name)
        told = {str(each.get("id")): each.get("parallelism") for each in found.get("vertices") or ()}
        return {vertex: count for vertex, count in told.items() if isinstance(count, int) and count > 0}

    def stop(self, namespace: str, name: str, job_id: str, trigger: str, *, drain: bool) -> str:
        """Asks for a stop with a savepoint; returns Flink's words where it does not take it."""
        return self._asked(namespace, name, f"/jobs/{part(job_id)}/stop", {"drain": drain, **_savepoint(trigger)})

    def save(self, namespace: str, name: str, job_id: str, trigger: str) -> str:
        """Asks for a savepoint of a job that runs on; returns Flink's words where it does not take it."""
        path = f"/jobs/{part(job_id)}/savepoints"
        return self._asked(namespace, name, path, {"cancel-job": False, **_savepoint(trigger)})

    def outcome(self, namespace: str, name: str, job_id: str, trigger: str) -> Outcome | None:
        """How far the savepoint of this trigger is; None where the JobManager knows of none. Raises Unavailable."""
        answer = self._answer("GET", namespace, name, f"/jobs/{part(job_id)}/savepoints/{part(trigger)}")
        if answer.status == 404:
            return None
        found = self._usable(answer, namespace, name)
        operation = found.get("operation")
        if (found.get("status") or {}).get("id") != "COMPLETED" or not isinstance(operation, Mapping):
            return Outcome()
        if operation.get("location"):
            return Outcome(path=str(operation["location"]))
        cause = operation.get("failure-cause")
        trace = str((cause.get("stack-trace") if isinstance(cause, Mapping) else cause) or "Flink gave no reason")
        return Outcome(failure=root_cause(trace))

    def required(self, namespace: str, name: str, job_id: str) -> dict[str, int]:
        """At what the vertices are to run, whatever slots there are for that. Raises Unavailable."""
        path = f"/jobs/{part(job_id)}/resource-requirements"
        found = self._usable(self._answer("GET", namespace, name, path), namespace, name)
        bounds = {vertex: upper_bound(requirement) for vertex, requirement in found.items()}
        return {vertex: upper for vertex, upper in bounds.items() if upper is not None}

    def rescale(self, namespace: str, name: str, job_id: str, parallelism: Mapping[str, int]) -> str:
        """Asks for these parallelisms by vertex, whatever slots there are for them, but where that is what is required
        already; returns Flink's words where it does not take it."""
        path = f"/jobs/{part(job_id)}/resource-requirements"
        required = self._usable(self._answer("GET", namespace, name, path), namespace, name)
        other = {each: n for each, n in parallelism.items() if each in required and upper_bound(required[each]) != n}
        if not other:
            return ""
        bounds = {each: {"parallelism": {"lowerBound": 1, "upperBound": upper}} for each, upper in other.items()}
        answer = self._answer("PUT", namespace, name, path, {**required, **bounds})
        return "" if answer.status in (200, 202) else _words(answer)

    def _asked(self, namespace: str, name: str, path: str, body: Mapping[str, Any]) -> str:
        answer = self._answer("POST", namespace, name, path, body)
        return "" if answer.status in (200, 202) else _words(answer)

    def _answer(self, method: str, namespace: str, name: str, path: str, body: Body = None) -> RestAnswer:
        with counting_errors("flink"):
            answer = self._send(method, namespace, name, path, body)
            if answer.status in (502, 503, 504) or (answer.status >= 500 and ELECTING in answer.body):
                raise Unavailable(f"the JobManager of {namespace}/{name} answered {answer.status} to {method} {path}")
            return answer

    def _usable(self, answer: RestAnswer, namespace: str, name: str) -> dict[str, Any]:
        if answer.status not in (200, 202):
            raise Unavailable(f"the JobManager of {namespace}/{name} answered {answer.status}: {_words(answer)}")
        return _object(answer)


def _savepoint(trigger: str) -> dict[str, Any]:
    return {"formatType": CANONICAL, "triggerId": trigger}


def _object(answer: RestAnswer) -> dict[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(answer: RestAnswer) -> str:
    errors = _object(answer).get("errors")
    told = [str(each) for each in errors if each] if isinstance(errors, list) else []
    trace = told[-1] if told else answer.body[:300].decode(errors="replace")
    return root_cause(trace) or f"it answered {answer.status}"
