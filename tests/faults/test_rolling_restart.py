"""A new release is rolled out while work comes in: each process is asked to end, ends within its grace period, and what
was accepted is done once. The whole stack runs, but for an operator: deployments stand in the API as they were created.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from confluent_kafka import Producer

from local.kubernetes_api.server import LocalKubernetesApi
from tests.faults.conftest import SCRIPT, created
from tests.support.patience import wait_for
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(900)

OURS = ("api", "consumer", "worker", "sync", "beat", "flower")
GRACE_SECONDS = 30.0
"""What Kubernetes gives a pod between SIGTERM and SIGKILL, unless it is told otherwise."""

PAUSE_SECONDS = 0.2


class Load:
    """Submits that come in by one way until they are stopped; `names` are those that were taken."""

    def __init__(self, way: str, send: Callable[[str, dict[str, Any]], bool]) -> None:
        self.names: list[str] = []
        self._way = way
        self._send = send
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(PAUSE_SECONDS):
            name = f"{self._way}-{len(self.names)}"
            body = {"job_id": name, "job_config": {"script": SCRIPT}}
            while not self._send(name, body):
                time.sleep(PAUSE_SECONDS)  # as a client does that gets no answer: the same request again
            self.names.append(name)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(120)
        assert not self._thread.is_alive()


def by_http(stack: RunningStack) -> Callable[[str, dict[str, Any]], bool]:
    def send(name: str, body: dict[str, Any]) -> bool:
        try:
            answer = stack.tried("POST", "/jobs/submit", body, **{"Idempotency-Key": name})
        except httpx.HTTPError:
            return False  # the API is on its way down or up
        assert answer.status_code in (200, 202, 503), answer.text
        return answer.status_code != 503

    return send


def by_kafka(stack: RunningStack) -> Callable[[str, dict[str, Any]], bool]:
    producer = Producer({"bootstrap.servers": stack.file["kafka_bootstrap_servers"]})

    def send(_: str, body: dict[str, Any]) -> bool:
        producer.produce("headrace.operations", json.dumps({"operation": "SUBMIT", **body}))
        return producer.flush(30) == 0

    return send


def by_celery(stack: RunningStack, app: Celery) -> Callable[[str, dict[str, Any]], bool]:
    def send(name: str, body: dict[str, Any]) -> bool:
        app.send_task("flink.submit", kwargs={**body, "idempotency_key": name}, queue="flink.operations")
        return True

    return send


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to ask how it ended does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def restarted(stack: RunningStack, name: str) -> float:
    """Asks a process to end, and returns how long it took; another one is up by then."""
    before, begun = stack.pid(name), time.monotonic()
    os.kill(before, signal.SIGTERM)
    wait_for(f"{name} to end", lambda: not is_alive(before), GRACE_SECONDS)
    took = time.monotonic() - begun
    wait_for(f"another {name}", lambda: stack.pid(name) != before and is_alive(stack.pid(name)), 60)
    return took


def test_a_rolling_restart_under_load_loses_nothing_and_each_ends_in_time(
    stack: RunningStack, kubernetes: LocalKubernetesApi
) -> None:
    with Celery(broker=stack.file["redis_url"]) as app:
        app.conf.task_ignore_result = True
        loads = [
            Load("http", by_http(stack)),
            Load("kafka", by_kafka(stack)),
            Load("celery", by_celery(stack, app)),
        ]
        ways = {"http", "kafka", "celery"}
        wait_for("work to be done by each way", lambda: ways <= {n.partition("-")[0] for n in created(kubernetes)}, 90)
        took = {name: restarted(stack, name) for name in OURS}
        for load in loads:
            load.stop()
    print(f"ended after: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in took.items())}")
    asked = [name for load in loads for name in load.names]
    missing: set[str] = set()

    def are_all_created() -> bool:
        missing.clear()
        missing.update(set(asked) - set(created(kubernetes)))
        return not missing

    try:
        wait_for("all of it to be created", are_all_created, 120)
    except AssertionError as exc:
        raise AssertionError(f"lost: {sorted(missing)}") from exc
    assert created(kubernetes) == Counter(dict.fromkeys(asked, 1))
    logs = [path for name in OURS for path in (stack.data / "logs").glob(f"{name}*.log")]
    assert [path.name for path in logs if "Traceback" in path.read_text()] == []
