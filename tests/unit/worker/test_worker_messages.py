"""Which Redis messages reach Celery: what cannot be a task is told before, in words without contents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile import HOSTILE, STOP, message
from worker.messages import MOST_PASSES, message_problem, of_a_later_release, task_problem
from worker.transport import TASKS

SECRET = "canary-in-a-message"


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


def test_a_task_of_a_later_release_is_put_aside_so_often_and_no_other_is() -> None:
    kept, passes = message(name="flink.rescale_all"), 0
    while (again := of_a_later_release(kept, TASKS)) is not None:
        kept, passes = again, passes + 1
        assert {**again, "headers": None} == {**message(name="flink.rescale_all"), "headers": None}
    assert passes == MOST_PASSES
    for name in (STOP, "os.system", "flink.", "flink.Rescale", "flink.a.b", None, 3):
        assert of_a_later_release(message(name=name), TASKS) is None


@pytest.mark.parametrize(("raw", "word"), HOSTILE)
def test_what_cannot_be_a_task_is_of_no_later_release_either(raw: Any, word: str) -> None:
    assert of_a_later_release(raw, TASKS) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda e: st.lists(e) | st.dictionaries(st.text(), e)
    )
)
def test_whatever_is_read_raises_nothing(raw: Any) -> None:
    assert of_a_later_release(raw, TASKS) is None
    of_a_later_release({**message(), "headers": {"task": "flink.rescale", "id": raw, "headrace-passes": raw}}, TASKS)
