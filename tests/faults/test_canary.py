"""A canary secret in a request is found nowhere that people or programs read: logs, MongoDB, Redis, topics, Flower,
and, where a job has it in its environment, what Flink writes.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from celery import Celery
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from pymongo import MongoClient

from local.flink_operator.pods import PID_ANNOTATION
from local.kubernetes_api.server import LocalKubernetesApi
from tests.faults.conftest import SCRIPT, TOKEN, created
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.secret_shapes import CANARY as IN_SHAPES
from tests.support.secret_shapes import SHAPES
from tests.support.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(300)

CANARY = "canary-9d41c7"
TOPIC, LETTERS = "headrace.operations", "headrace.operations.dead-letters"
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
    places = dict(everything(stack, *TAKEN))
    assert len(places) > 10
    assert [place for place, text in places.items() if CANARY in text] == []
    values = secrets_of(kubernetes)
    assert values == {"API_TOKEN": CANARY, "DB_PASSWORD": CANARY, "DSN": f"postgres://app:{CANARY}-2@db/orders"}


def test_a_secret_of_any_shape_goes_no_further_than_its_sender_put_it(stack: RunningStack) -> None:
    """By HTTP it is sealed or refused. A message to a broker is where its sender put it, and nowhere else."""
    for number, text in enumerate(SHAPES.values()):
        env = stack.call(
            "POST", "/jobs/submit", {"job_id": f"j{number}", "job_config": {"script": SCRIPT, "env": {"A": text}}}
        )
        args = stack.call(
            "POST", "/jobs/submit", {"job_config": {"script": SCRIPT, "args": [text], "labels": {"a": text}}}
        )
        assert (env.status_code, args.status_code) == (202, 400), text
        assert IN_SHAPES not in env.text + args.text
    by_kafka, by_celery = sent_by_brokers(stack)
    log = stack.data / "logs" / "worker.log"
    wait_for("each message to be refused", lambda: log.read_text().count("was refused") >= by_celery)
    wait_for("each record to be put aside", lambda: len(of_topic(stack, LETTERS)) >= by_kafka)
    wait_for("Flower to know of them", lambda: stack.flower("/api/tasks").text.count("flink.submit") >= by_celery)
    senders = {
        f"topic {TOPIC}",
        *(str(file.relative_to(stack.data)) for file in (stack.data / "redis").rglob("*.aof*")),
    }
    places = {place: text for place, text in everything(stack) if place not in senders}
    assert f"topic {LETTERS}" in places
    assert [place for place, text in places.items() if IN_SHAPES in text] == []


def sent_by_brokers(stack: RunningStack) -> tuple[int, int]:
    """How many records and messages a bare producer of each kind sent, with a secret in each; its own events too."""
    bodies: list[dict[str, Any]] = []
    for text in SHAPES.values():
        bodies += [
            {"job_config": {"script": SCRIPT, field: text}} for field in ("args", "state", "flink_configuration")
        ]
        bodies.append({"job_config": {"script": SCRIPT, "env": {"A": text}}})
        bodies.append({"template_id": "keeps-secrets", "parameters": {"password": text}, "idempotency_key": text})
    producer = Producer({"bootstrap.servers": stack.file["kafka_bootstrap_servers"]})
    for body in bodies:
        headers = [("authorization", body.get("idempotency_key", "x").encode())]
        producer.produce(TOPIC, json.dumps({"operation": "SUBMIT", **body}).encode(), headers=headers)
    producer.produce(TOPIC, b'{"operation": "SUBMIT", ' + SHAPES["JSON"].encode())
    assert producer.flush(30) == 0
    with Celery(broker=stack.file["redis_url"], set_as_current=False) as app:
        app.conf.task_send_sent_event = True
        for body in bodies:
            app.send_task("flink.submit", kwargs=body, queue="flink.operations", ignore_result=True)
        app.send_task("flink.submit", args=[*SHAPES.values()], queue="flink.operations", ignore_result=True)
    return len(bodies) + 1, len(bodies) + 1


def test_flink_writes_a_jobs_secrets_nowhere(tmp_path: Path) -> None:
    """Python starts on both sides, fails, starts again and ends; whatever ends may say what its environment was."""
    job = "has-a-secret"
    with running_stack(tmp_path / "data", {"KUBEBUILDER_ASSETS": ""}) as stack:  # the small API serves the pods' logs
        stack.submit(job, env={"API_TOKEN": CANARY, "API_KEY": CANARY})  # Flink itself hides the first one in places
        stack.await_phase(job, "RUNNING")
        wait_for("output", lambda: stack.count(job))
        for number in (PYTHON, JOB_MANAGER):
            running = processes_of(stack, job)
            assert all(has_the_canary(process) for process in running)
            running[number].kill()
            if number == PYTHON:
                wait_for("the failure", lambda: stack.call("GET", f"/jobs/{job}/exceptions").json()["exceptions"])
            wait_for("another process in its place", lambda n=number, p=running[number]: is_replaced(stack, job, n, p))
            counted = stack.count(job)
            wait_for("the count to go on", lambda counted=counted: stack.count(job) > counted)
            stack.await_phase(job, "RUNNING")
        shown = dict(shown_of_flink(stack, job))
        stopped = stack.call("POST", f"/jobs/{job}/stop", {}).json()["operation"]
        assert stack.await_operation(stopped["id"])["state"] == "SUCCEEDED"
        places = {**shown, **dict(everything(stack, job)), **dict(written_by_flink(stack))}
    assert "PythonDriver" in places["logs jobmanager"]
    assert "Obtained shared Python process" in places["logs taskmanager"]
    assert [place for place, text in places.items() if CANARY in text] == []


JOB_MANAGER, PYTHON = 0, -1
"""Among the processes of a job."""


def is_replaced(stack: RunningStack, job: str, number: int, killed: psutil.Process) -> bool:
    """Whether all of its processes are there again, and this one is another."""
    try:
        return processes_of(stack, job)[number].pid != killed.pid
    except (psutil.NoSuchProcess, ValueError):  # the pod still names one that has ended, or no Python is there yet
        return False


def processes_of(stack: RunningStack, job: str) -> list[psutil.Process]:
    """A job's JobManager, its TaskManager, and the Python that this runs."""
    pods = [stack.pod(job, component) for component in ("jobmanager", "taskmanager")]
    manager, worker = (psutil.Process(int(pod["metadata"]["annotations"][PID_ANNOTATION])) for pod in pods)
    [python] = [child for child in worker.children(recursive=True) if child.name().startswith("python")]
    return [manager, worker, python]


def has_the_canary(process: psutil.Process) -> bool:
    return bool(process.environ()["API_KEY"] == CANARY)


def shown_of_flink(stack: RunningStack, job: str) -> Iterator[tuple[str, str]]:
    """What users are shown of a job that runs, or ran until it was killed."""
    for query in ("jobmanager", "taskmanager", "jobmanager&previous=true"):
        yield f"logs {query}", stack.call("GET", f"/jobs/{job}/logs?component={query}").text
    for what in ("events", "exceptions"):
        yield what, stack.call("GET", f"/jobs/{job}/{what}").text


def written_by_flink(stack: RunningStack) -> Iterator[tuple[str, str]]:
    """Every file of a JobManager's or TaskManager's, and the state."""
    for folder in ("flink", "state"):
        for file in (stack.data / folder).rglob("*"):
            if file.is_file() and not file.is_symlink():
                yield str(file.relative_to(stack.data)), file.read_bytes().decode(errors="replace")


def everything(stack: RunningStack, *jobs: str) -> Iterator[tuple[str, str]]:
    """Whatever is kept or shown of what happened, by its place."""
    for log in (*(stack.data / "logs").glob("*.log"), *(stack.data / "redis").rglob("*.aof*")):
        if log.is_file():
            yield str(log.relative_to(stack.data)), log.read_text(errors="replace")
    with MongoClient(stack.file["mongodb_url"], timeoutMS=int(1000 * REQUEST_SECONDS)) as client:
        database = client["headrace"]
        for name in database.list_collection_names():
            yield f"mongodb/{name}", repr(list(database[name].find()))
    store = redis.Redis.from_url(stack.file["redis_url"], socket_timeout=REQUEST_SECONDS)
    yield "redis", repr([(key, store.dump(key)) for key in store.scan_iter()])
    for topic in (TOPIC, LETTERS):
        yield f"topic {topic}", repr(of_topic(stack, topic))
    for path in ("/api/tasks", "/api/workers"):
        yield f"flower{path}", stack.flower(path).text
    for name, url in stack.file["metrics_urls"].items():
        yield f"metrics of {name}", httpx.get(url, timeout=REQUEST_SECONDS, trust_env=False).raise_for_status().text
    of_jobs = [f"/jobs/{job}{part}" for job in jobs for part in ("", "/operations")]
    for path in ("/jobs", *of_jobs, "/templates"):
        yield f"api{path}", stack.call("GET", path).text


def of_topic(stack: RunningStack, topic: str) -> list[Any]:
    """Every record of a topic of ours."""
    servers, found = stack.file["kafka_bootstrap_servers"], []
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "canary", "enable.auto.commit": False})
    try:
        begin, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=REQUEST_SECONDS)
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        until = time.monotonic() + REQUEST_SECONDS
        while len(found) < end - begin:
            assert time.monotonic() < until, f"{len(found)} of {end - begin} records of {topic}"
            message = consumer.poll(1)
            if message is not None and not message.error():
                found.append((message.key(), message.value(), message.headers()))
    finally:
        consumer.close()
    return found


def secrets_of(kubernetes: LocalKubernetesApi) -> dict[str, str]:
    """What the pods get, from the Secrets that the deployments own."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    path = "/api/v1/namespaces/default/secrets"
    found = httpx.get(kubernetes.url + path, headers=headers, timeout=REQUEST_SECONDS, trust_env=False).json()["items"]
    assert all(secret["metadata"]["ownerReferences"][0]["kind"] == "FlinkDeployment" for secret in found)
    values = {name: value for secret in found for name, value in secret["data"].items()}
    return {name: base64.b64decode(value).decode() for name, value in values.items()}
