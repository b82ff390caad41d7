"""What is sent to do harm, or by mistake: Kafka records that nobody can use, and Redis messages that are no tasks."""

from __future__ import annotations

import base64
import json
from typing import Any

from headrace import task_names
from headrace.domain.operations import KindName

STOP = task_names.accepting(KindName.STOP)
HALF = "\\ud83d"
POISON = [
    b"x",
    b"",
    b"5",
    b"\xff\xfe",
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"operation": "SUBMIT", "job_config": {"args": ["%s"]}}' % HALF.encode(),
    b'{"operation": "SUBMIT", "job_config": {"env": {"A": "%s"}}}' % HALF.encode(),
    b'{"operation": "SUBMIT", "job_config": {"script": {"name": "j.py", "content": "%s"}}}' % HALF.encode(),
    b'{"operation": "SUBMIT", "job_config": {"sql": "%s", "type": "SQL"}}' % HALF.encode(),
    b'{"operation": "SUBMIT", "parameters": {"a": "%s"}, "template_id": "x"}' % HALF.encode(),
    b'{"operation": "SUBMIT", "template_id": "%s"}' % HALF.encode(),
    b'{"operation": "SUBMIT", "start_from": "%s"}' % HALF.encode(),
    b'{"operation": "STOP", "job_id": "x", "idempotency_key": "%s"}' % HALF.encode(),
    b'{"operation": "STOP", "%s": 1}' % HALF.encode(),
    b'{"operation": "SUBMIT", "job_config": {"profile": {}}}',
    b'{"operation": "SUBMIT", "job_config": {"profile": []}}',
    b'{"operation": "SUBMIT", "job_config": false}',
    b'{"operation": "SUBMIT", "parameters": [1]}',
    b'{"operation": "SUBMIT", "job_config": {"parallelism": NaN}}',
    b'{"operation": "SUBMIT", "job_config": {"parallelism": 1e999}}',
    b'{"operation": "SCALE", "job_id": "x", "parallelism": ' + b"9" * 5000 + b"}",
    b'{"operation": {"$gt": ""}}',
    json.dumps({"operation": "STOP", **{f"f{number}": 1 for number in range(20_000)}}).encode(),
    json.dumps({"operation": "STOP", **{f"f{number}": 1 for number in range(6_000)}}).encode(),
    json.dumps({"operation": "STOP", "job_id": "x", "idempotency_key": "k" * 1_000_000}).encode(),
]


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
