"""Whatever comes in from outside is answered, and the process that took it lives on: a thousand inputs for each way in.

`HEADRACE_TESTS_DRAWS=10000` draws more of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from redis import Redis

from headrace.adapters.kafka import Broker, Topics
from headrace.cli.files import template_from
from headrace.client import BASE
from headrace.domain.templates import parse_resolved, parse_template, resolve
from headrace.errors import InvalidRequest
from local.process import Command, LocalProcess, free_port
from tests.integration.conftest import SCRIPT, Installation
from tests.support import servers, workers
from tests.support.drawn import COUNT, drawn, inputs
from tests.support.hostile import message
from tests.support.patience import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]
on_the_small_api = pytest.mark.parametrize("installation", ["local"], indirect=True)

MOST_GROWTH_BYTES = 150 * 1024 * 1024
"""What a process may hold more of memory after all of them than before: caches and records, no leak by the input."""

LONGEST_REFUSAL = 64 * 1024
CONFIG = {
    "script": SCRIPT,
    "parallelism": 2,
    "flink_configuration": {"pipeline.name": "b"},
    "env": {"A": "b"},
    "resources": {"task_manager": {"memory": "1g", "slots": 2}},
}
SUBMIT = {"job_id": "a", "job_config": CONFIG, "parameters": {}}
SCALE = {"parallelism": 3}
STOP = {"savepoint": True}
TEMPLATE = {
    "template_id": "t",
    "type": "SQL",
    "sql": "SELECT ${n}",
    "parameters": {"n": {"type": "INTEGER", "default": 1}},
}
QUEUE = "flink.operations"

API_KEY = "a-key-of-some-25-characters"


def held(process: psutil.Process) -> int:
    """The memory that this process and its children hold."""
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


@contextmanager
def living(process: psutil.Process) -> Iterator[None]:
    """The same process, with the same children, before and after; it has not grown beyond the bound."""
    children, before = {each.pid for each in process.children(recursive=True)}, held(process)
    yield
    assert process.is_running()
    assert {each.pid for each in process.children(recursive=True)} == children
    grown = held(process) - before
    print(f"{COUNT} inputs: {grown / 2**20:.0f} MiB more than before")
    assert grown < MOST_GROWTH_BYTES


def log_of(process: LocalProcess) -> str:
    return process.log.read_text(errors="replace")


@on_the_small_api
def test_every_http_body_is_answered(installation: Installation, tmp_path: Path) -> None:
    keys, port = tmp_path / "keys", free_port()
    keys.write_text(f"{API_KEY}\n")
    keys.chmod(0o600)
    env = installation.env | {"HEADRACE_API_KEYS_FILE": str(keys), "HEADRACE_API_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    live = f"{url}/livez"

    def is_ready() -> bool:
        try:
            return httpx.get(live, trust_env=False).is_success
        except httpx.TransportError:
            return False

    valid = {
        "/jobs/submit": SUBMIT,
        "/jobs/render": SUBMIT,
        "/jobs/a/scale": SCALE,
        "/jobs/a/stop": STOP,
        "/templates": TEMPLATE,
    }
    each = COUNT // len(valid)
    sent = [(path, body) for path, value in valid.items() for body in drawn(inputs([value]), each)]
    seen: Counter[int] = Counter()
    command = Command("api", [servers.PYTHON, "-m", "api"], is_ready, env=env, port=port)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    with servers.running(command, tmp_path, workers.ROOT) as process:
        with living(psutil.Process(process.pid)), httpx.Client(headers=headers, trust_env=False, timeout=30) as client:
            for path, body in sent:
                answer = client.post(f"{url}{BASE}{path}", content=body)
                seen[answer.status_code] += 1
                assert answer.status_code < 500, (path, body[:500], answer.text)
                assert answer.json()
                assert answer.is_success or len(answer.content) < LONGEST_REFUSAL
            assert client.post(f"{url}{BASE}/jobs/submit", json=SUBMIT | {"job_id": "last"}).status_code == 202
        assert "Traceback" not in log_of(process)
    print(dict(seen))
    assert min(seen[400], COUNT - seen[400]) > COUNT / 50


@on_the_small_api
def test_every_record_is_an_operation_or_a_letter(installation: Installation, tmp_path: Path) -> None:
    valid = [
        {"operation": "SUBMIT", **SUBMIT},
        {"operation": "SCALE", "job_id": "a", **SCALE},
        {"operation": "STOP", "job_id": "a", **STOP},
    ]
    records = drawn(inputs(valid))
    broker = servers.laptop_kafka(tmp_path)
    env = installation.env | {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": broker.address}
    command = Command("consumer", [servers.PYTHON, "-m", "consumer"], lambda: True, env=env)
    topic, letters_topic = "headrace.operations", "headrace.operations.dead-letters"
    with ExitStack() as stack:
        stack.enter_context(servers.running(broker, tmp_path))
        Topics(Broker(broker.address), 30.0).ensure([topic, letters_topic])
        process = stack.enter_context(servers.running(command, tmp_path, workers.ROOT))
        producer = Producer({"bootstrap.servers": broker.address, "message.max.bytes": 10_000_000})
        producer.produce(topic, json.dumps({"operation": "SUBMIT", **SUBMIT, "job_id": "first"}).encode())
        assert producer.flush(30) == 0
        wait_for("the consumer to read", lambda: installation.job("first"))
        with living(psutil.Process(process.pid)):
            for number, record in enumerate(records):
                producer.produce(topic, record)
                if number % 500 == 0:
                    assert producer.flush(60) == 0
            producer.produce(topic, json.dumps({"operation": "SUBMIT", **SUBMIT, "job_id": "last"}).encode())
            assert producer.flush(60) == 0
            wait_for("the last record", lambda: installation.job("last"), 1800)
        reader = Consumer({"bootstrap.servers": broker.address, "group.id": "reader"})
        letters = reader.get_watermark_offsets(TopicPartition(letters_topic, 0), 10)[1]
        reader.close()
        taken = len(records) - letters + 2
        wait_for("each to be told of", lambda: log_of(process).count("(new: ") == taken)
        log = log_of(process)
    assert "Traceback" not in log
    assert log.count("is put aside") == letters
    assert letters > COUNT / 3
    print(f"{letters} letters of {len(records)}")


def refusal_of(file: Path) -> InvalidRequest | None:
    try:
        parse_resolved(resolve(parse_template(template_from(file)), {}))
    except InvalidRequest as error:
        return error
    return None


def test_every_template_file_is_a_template_or_refused_by_field(tmp_path: Path) -> None:
    file, seen = tmp_path / "template.yaml", Counter[str]()
    script = {"template_id": "s", "script": "job.py", "files": ["more.py"], "resources": CONFIG["resources"]}
    for name in ("job.py", "more.py"):
        (tmp_path / name).write_text("print(1)\n")
    texts = drawn(inputs([TEMPLATE, script, {"template_id": "u", **CONFIG}]))
    with living(psutil.Process()):
        for text in texts:
            file.write_bytes(text)
            refusal = refusal_of(file)
            seen["taken" if refusal is None else "refused"] += 1
            if refusal is not None:
                assert refusal.problems, text[:500]
                assert len(str(refusal)) < LONGEST_REFUSAL
    print(dict(seen))
    assert sum(seen.values()) >= COUNT
    assert min(seen["refused"], seen["taken"]) > COUNT / 50


@on_the_small_api
def test_every_message_is_a_task_or_rejected(installation: Installation) -> None:
    valid = [
        message({"job_id": "a", "job_config": CONFIG}, name="flink.submit"),
        message({"job_id": "a", **SCALE}, name="flink.scale"),
        message({"job_id": "a", **STOP}, name="flink.stop"),
        message({"tenant": "default", "job_id": "a"}, name="flink.execute"),
    ]
    arguments = [
        [[], {"job_id": "a", "job_config": CONFIG}, None],
        [[], {"job_id": "a", "parallelism": 3}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
    ]
    half = COUNT // 2
    bodies = [body.decode("latin-1") for body in drawn(inputs(arguments), half)]
    wrapped = [message(body=body, properties__body_encoding="utf-8", name="flink.submit") for body in bodies]
    raw = drawn(inputs(valid), COUNT - half) + [json.dumps(each).encode() for each in wrapped]
    node = installation.worker(QUEUE)
    redis = Redis.from_url(installation.env["HEADRACE_REDIS_URL"])
    installation.submit("first")
    wait_for("the first request to be accepted", lambda: installation.job("first"))
    with living(psutil.Process(node.container.pid)):
        for one in raw:
            redis.lpush(QUEUE, one)
        installation.submit("last")
        wait_for("the last request to be accepted", lambda: installation.job("last"), 1800)
        wait_for("the queue to be empty", lambda: redis.llen(QUEUE) == 0, 1800)
        wait_for("each message to be answered", lambda: redis.hlen("unacked") == 0, 120)
    logs = node.logs()
    assert "Traceback" not in logs
    assert logs.count("a message of") + logs.count("was refused") > COUNT / 3
    print(f"{logs.count('a message of')} rejected, {logs.count('was refused')} refused, of {len(raw)}")
    redis.close()
