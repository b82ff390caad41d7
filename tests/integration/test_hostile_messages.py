"""A worker process on Redis: what no task can be made of is rejected in one line, and the next message is handled."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from redis import Redis

from tests.integration.conftest import SCRIPT, Installation
from tests.support.hostile import HOSTILE, message
from tests.support.patience import wait_for

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.parametrize("installation", ["local"], indirect=True),
]

QUEUE = "flink.operations"
SECRET = "canary-in-a-message"
NO_JSON = [b"", b"not JSON", b"\xff\xfe", b"[" * 100_000, b'{"__type__": [], "__value__": 1}', b"NaN", b'"text"']
ON_CONTROL = [b"[]", b"5", b"not JSON", b'{"body": 5}', b'{"__type__": [], "__value__": 1}']


def refused(**arguments: Any) -> dict[str, Any]:
    return message(arguments, name=arguments.pop("name"), args=arguments.pop("args", ()), headers__id=str(uuid.uuid4()))


WRONG_TASKS = [
    refused(name="flink.submit", args=["template", {"parallelism": 2}]),
    refused(name="flink.submit", self=1),
    refused(name="flink.submit", job_config={"profile": {}}),
    refused(name="flink.submit", job_config={"profile": []}),
    refused(name="flink.submit", parameters=[1]),
    refused(name="flink.submit", idempotency_key="k" * 10_000, job_config={"script": SCRIPT}),
    refused(name="flink.stop", job_id={"$gt": ""}),
    refused(name="flink.execute", tenant={"$gt": ""}, job_id={"$gt": ""}),
    refused(name="flink.execute", tenant="other", job_id="a"),
    refused(name="flink.execute", tenant="default", job_id=["a"]),
    refused(name="flink.execute", tenant="default"),
    refused(name="flink.sync_status", period=5),
    refused(name="flink.redeliver", args=[1]),
]


def test_no_message_ends_a_worker(installation: Installation) -> None:
    node = installation.worker(QUEUE)
    redis = Redis.from_url(installation.env["HEADRACE_REDIS_URL"])
    raw = [json.dumps(each).encode() for each, _ in HOSTILE] + NO_JSON
    with_secrets = message({"job_id": SECRET}, name="flink.stop", headers__retries=SECRET)
    for each in [*raw, json.dumps(with_secrets).encode()]:
        redis.lpush(QUEUE, each)
    for each in ON_CONTROL:
        redis.publish("/0.celery.pidbox", each)
    for task in WRONG_TASKS:
        redis.lpush(QUEUE, json.dumps(task))
    redis.hset("unacked", "no-tag", b"not JSON")
    redis.zadd("unacked_index", {"no-tag": 1})
    installation.submit("after")
    wait_for("the next request to be accepted", lambda: installation.job("after"))
    wait_for("each to be answered", lambda: node.logs().count("was refused") >= len(WRONG_TASKS))
    logs = node.logs()
    assert logs.count("a message of") >= len(raw) + 1
    assert logs.count("was refused") == len(WRONG_TASKS)
    assert "send_task('flink.submit', kwargs={" in logs
    assert "Traceback" not in logs
    assert SECRET not in logs
    wait_for("it to be in its record", installation.open_operations)  # it is in the log alone at first
    assert [each.job_id for each in installation.open_operations()] == ["after"]
    assert redis.llen(QUEUE) == 0
    redis.close()
