"""Which Redis messages reach Celery: what cannot be a task is told before, in words without contents."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from headrace import task_names
from headrace.domain.operations import KindName
from worker.messages import message_problem, task_problem
from worker.transport import TASKS

SECRET = "canary-in-a-message"
STOP = task_names.accepting(KindName.STOP)


def message(
    kwargs: Any = None,
    args: Any = (),
    name: Any = STOP,
    embed: Any = None,
    **changes: Any,
) -> dict[str, Any]:
    """A message as Celery writes it, with `changes` to its parts: `headers__id`, `properties__delivery_tag`, `body`."""
    made: dict[str, Any] = {
        "body": base64.b64encode(json.dumps([list(args), kwargs or {}, embed]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": name, "id": "4", "retries": 0, "timelimit": [None, None], "eta": None, "lang": "py"},
        "properties": {
            "delivery_tag": "tag-1",
            "delivery_info": {"exchange": "", "routing_key": "flink.operations"},
            "body_encoding": "base64",
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = made
        for parent in parents:
            at = at[parent]
        at[last.replace("content_", "content-")] = value
    return made


HOSTILE: list[tuple[Any, str]] = [
    (5, "message"),
    ([], "message"),
    ({}, "body"),
    (message(body=5), "body"),
    (message(body="%%%"), "base64"),
    (message(body=base64.b64encode(b"\xff\xfe").decode()), "UTF-8"),
    (message(body=base64.b64encode(b"[" * 1000).decode()), "64 levels"),
    (message(body=base64.b64encode(b'[[], {"a": NaN}, null]').decode()), "finite"),
    (message(body=base64.b64encode(b'[[], {"a": "\\ud800"}, null]').decode()), "UTF-8"),
    (message(body=base64.b64encode(b'{"args": []}').decode()), "embed"),
    (message(body=base64.b64encode(b"[[], [], null]").decode()), "embed"),
    (message(body=base64.b64encode(b"[1]").decode()), "embed"),
    (message(content_type="application/data"), "content-type"),
    (message(content_type="application/x-python-serialize"), "content-type"),
    (message(content_type=["application/json"]), "content-type"),
    (message(content_encoding="binary"), "content-encoding"),
    (message(headers=None), "message"),
    (message(headers=[]), "headers"),
    (message(headers__compression="application/x-gzip"), "compression"),
    (message(name=["flink.stop"]), "task"),
    (message(name={"a": 1}), "task"),
    (message(name="os.system"), "no task"),
    (message(headers__id={}), "id"),
    (message(headers__id=None), "id"),
    (message(headers__id="a\nb"), "id"),
    (message(headers__id="x" * 1000), "id"),
    (message(headers__retries="many"), "retries"),
    (message(headers__retries=-1), "retries"),
    (message(headers__timelimit=[1]), "timelimit"),
    (message(headers__timelimit=5), "timelimit"),
    (message(headers__eta="soon"), "eta"),
    (message(headers__eta="9999-12-31T23:59:59+00:00"), "eta"),
    (message(headers__expires={}), "expires"),
    (message(headers__shadow=[]), "shadow"),
    (message(headers__stamped_headers="x"), "stamped_headers"),
    (message(properties=None), "properties"),
    (message(properties__delivery_tag=["a"]), "delivery_tag"),
    (message(properties__delivery_info=None), "delivery_info"),
    (message(properties__delivery_info={"exchange": []}), "exchange"),
    (message(properties__body_encoding="rot13"), "body_encoding"),
    (message(properties__priority={}), "priority"),
    (message(embed={"callbacks": [{"task": "os.system"}]}), "callbacks"),
    (message(embed={"chain": 5}), "chain"),
    (message(embed=7), "message"),
]


@pytest.mark.parametrize(("raw", "word"), HOSTILE)
def test_what_cannot_be_a_task_is_told_with_its_place(raw: Any, word: str) -> None:
    assert word in (task_problem(raw, TASKS) or "")


def test_what_celery_sends_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with Celery("producer", broker="memory://", set_as_current=False) as app:
        sent: list[Any] = []
        monkeypatch.setattr("kombu.transport.memory.Channel._put", lambda _self, _queue, raw, **_: sent.append(raw))
        for options in ({}, {"countdown": 5}, {"expires": 10}, {"time_limit": 5}, {"shadow": "shown"}, {"priority": 3}):
            app.send_task(STOP, kwargs={"job_id": "a"}, queue="flink.operations", **options)
    raw = [json.loads(json.dumps(each)) for each in sent]
    assert [task_problem(each, TASKS) for each in raw] == [None] * 6
    assert [message_problem(each) for each in raw] == [None] * 6


def test_a_problem_never_repeats_what_is_in_the_message() -> None:
    places = ("headers__id", "headers__eta", "properties__delivery_tag", "properties__body_encoding", "content_type")
    for place in places:
        assert SECRET not in str(task_problem(message(**{place: {SECRET: SECRET}}), TASKS))
        assert SECRET not in str(task_problem(message(**{place: f"{SECRET}\n"}), TASKS))
    assert SECRET not in str(task_problem(message({"x": SECRET}, embed={"chain": [SECRET]}), TASKS))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_told_apart(raw: Any) -> None:
    assert isinstance(task_problem(raw, TASKS), str)
    assert isinstance(message_problem(raw), str)
