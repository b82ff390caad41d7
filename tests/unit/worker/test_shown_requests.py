"""Whoever sent a task, and whatever he wrote beside its arguments: the worker shows harmless ones alone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from flower.events import EventsState

from headrace import task_names
from headrace.domain.operations import KindName
from tests.support.secret_shapes import CANARY, SHAPES
from worker.requests import shown
from worker.shown_events import ShownEvents

SUBMIT = task_names.accepting(KindName.SUBMIT)


def request_of(args: Any, kwargs: Any, **headers: Any) -> Any:
    """The request that a worker makes of a message of a bare producer."""
    from celery.utils.imports import symbol_by_name

    from worker.app import app

    task = app.tasks[SUBMIT]
    body = (args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
    message = SimpleNamespace(
        headers={"task": SUBMIT, "id": "1", "argsrepr": repr(args), "kwargsrepr": repr(kwargs), **headers},
        body=json.dumps(body),
        payload=body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return symbol_by_name(task.Request)(message, app=app, task=task)


@pytest.fixture(autouse=True)
def _tasks() -> None:
    import worker.tasks  # noqa: F401 - registers them


SENT: dict[str, Any] = {
    "job_id": "orders",
    "parallelism": 2,
    "idempotency_key": SHAPES["assignment"],
    "parameters": {"job_id": CANARY},
    "job_config": {"env": {"DB_PASSWORD": CANARY}},
    "tenant": [CANARY],
    CANARY + " ": 1,
}


def test_a_request_shows_harmless_arguments_alone_whoever_sent_it() -> None:
    made = request_of([CANARY], SENT, shadow=CANARY)
    shows = [made.name, made.argsrepr, made.kwargsrepr, made.info(), made.info(safe=True), repr(made), str(made)]
    told = {name: made.request_dict[name] for name in ("argsrepr", "kwargsrepr", "shadow")}
    assert CANARY not in repr([shows, told])
    assert "'job_id': 'orders'" in made.kwargsrepr
    assert "'parallelism': 2" in made.kwargsrepr
    assert made.kwargs == SENT, "the task itself gets what was sent"


def test_what_is_shown_can_be_any_json() -> None:
    for value in (None, [], [CANARY], CANARY, {"job_id": {"a": CANARY}}, {"force": SHAPES["JSON"]}):
        assert CANARY not in shown(value)


def test_flower_keeps_no_arguments_of_a_senders_own_event(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(EventsState, "event", lambda _self, event: kept.append(event))
    state = ShownEvents.__new__(ShownEvents)
    sent = {"type": "task-sent", "uuid": "1", "hostname": "h", "args": f"('{CANARY}',)", "kwargs": repr(SENT)}
    received = {"type": "task-received", "uuid": "1", "hostname": "h", "args": "()", "kwargs": shown(SENT)}
    for event in (sent, received):
        state.event(event)
    assert CANARY not in repr(kept)
    assert [each["uuid"] for each in kept] == ["1", "1"]
    assert kept[1] == received
