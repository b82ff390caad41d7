"""A canary secret in a request is found nowhere that people or programs read: logs, MongoDB, Redis, topics, Flower."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from pymongo import MongoClient

from local.kubernetes_api.server import LocalKubernetesApi
from tests.e2e.stack import RunningStack, wait_for
from tests.faults.conftest import TOKEN
from tests.faults.test_nothing_is_lost import SCRIPT, created

pytestmark = pytest.mark.timeout(300)

CANARY = "canary-9d41c7"
TEMPLATE = {
    "template_id": "keeps-secrets",
    "script": SCRIPT,
    "env": {"DB_PASSWORD": CANARY, "DSN": "postgres://app:${password}@db/orders"},
    "parameters": {"password": {"secret": True, "required": True}},
}
TAKEN: dict[str, dict[str, Any]] = {
    "by-env": {"job_config": {"script": SCRIPT, "env": {"API_TOKEN": CANARY}}},
    "by-template": {"template_id": "keeps-secrets", "parameters": {"password": f"{CANARY}-2"}},
}
REFUSED: list[dict[str, Any]] = [
    {"script": SCRIPT, "args": ["--password", CANARY]},
    {"script": SCRIPT, "args": [f"--db.token={CANARY}"]},
    {"script": f"https://user:{CANARY}@127.0.0.1/job.py"},
    {"script": SCRIPT, "jar_files": f"https://user:{CANARY}@127.0.0.1/a.jar"},
    {"script": SCRIPT, "flink_configuration": {"s3.secret-key": CANARY}},
    {"script": SCRIPT, "state": {"location": f"s3://user:{CANARY}@bucket/x"}},
    {"script": SCRIPT, "env": {"API_TOKEN": [CANARY]}},
]


def test_a_secret_is_found_nowhere(stack: RunningStack, kubernetes: LocalKubernetesApi) -> None:
    assert stack.call("POST", "/templates", TEMPLATE).status_code == 201
    for job_id, body in TAKEN.items():
        answer = stack.call("POST", "/jobs/submit", {"job_id": job_id, **body})
        assert answer.status_code == 202, answer.text
        assert CANARY not in answer.text
    for config in REFUSED:
        answer = stack.call("POST", "/jobs/submit", {"job_id": "refused", "job_config": config})
        assert answer.status_code == 400, config
        assert CANARY not in answer.text, "a refusal repeats no secret"
    for job_id in TAKEN:
        wait_for(f"{job_id} to be created", lambda job_id=job_id: created(kubernetes)[job_id] == 1)
        wait_for("the operation to wait for its job", lambda job_id=job_id: stack.job(job_id)["status"] == "SUBMITTING")
    places = dict(everything(stack))
    assert len(places) > 10
    assert [place for place, text in places.items() if CANARY in text] == []
    values = secrets_of(kubernetes)
    assert values == {"API_TOKEN": CANARY, "DB_PASSWORD": CANARY, "DSN": f"postgres://app:{CANARY}-2@db/orders"}


def everything(stack: RunningStack) -> Iterator[tuple[str, str]]:
    """Whatever is kept or shown of what happened, by its place."""
    for log in (*(stack.data / "logs").glob("*.log"), *(stack.data / "redis").rglob("*.aof*")):
        if log.is_file():
            yield str(log.relative_to(stack.data)), log.read_text(errors="replace")
    with MongoClient(stack.file["mongodb_url"], timeoutMS=10_000) as client:
        database = client["headrace"]
        for name in database.list_collection_names():
            yield f"mongodb/{name}", repr(list(database[name].find()))
    store = redis.Redis.from_url(stack.file["redis_url"], socket_timeout=10)
    yield "redis", repr([(key, store.dump(key)) for key in store.scan_iter()])
    yield "topics", repr(list(records(stack.file["kafka_bootstrap_servers"])))
    for path in ("/api/tasks", "/api/workers"):
        yield f"flower{path}", httpx.get(stack.file["flower_url"] + path, timeout=10, trust_env=False).text
    for path in ("/jobs", "/jobs/by-env", "/jobs/by-template/operations", "/templates"):
        yield f"api{path}", stack.call("GET", path).text


def records(servers: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Every record of ours on the broker."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "canary", "enable.auto.commit": False})
    try:
        topics = [name for name in consumer.list_topics(timeout=10).topics if name.startswith("headrace")]
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])
        while (message := consumer.poll(2)) is not None and not message.error():
            yield message.key(), message.value()
    finally:
        consumer.close()


def secrets_of(kubernetes: LocalKubernetesApi) -> dict[str, str]:
    """What the pods get, from the Secrets that the deployments own."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    path = "/api/v1/namespaces/default/secrets"
    found = httpx.get(kubernetes.url + path, headers=headers, timeout=10, trust_env=False).json()["items"]
    assert all(secret["metadata"]["ownerReferences"][0]["kind"] == "FlinkDeployment" for secret in found)
    values = {name: value for secret in found for name, value in secret["data"].items()}
    return {name: base64.b64decode(value).decode() for name, value in values.items()}
