"""What was accepted is done, once: through the loss of all of Redis, the death of a worker, and a frozen Redis.

The whole stack runs, but for an operator: deployments stand in the API as they were created.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from celery import Celery

from local.kubernetes_api.faults import Fault, FaultKind
from local.kubernetes_api.server import LocalKubernetesApi
from tests.faults.conftest import SCRIPT, created
from tests.support import servers
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(900)

BY_HTTP, BY_CELERY = 250, 50


def accepted(stack: RunningStack) -> int:
    count, cursor = 0, ""
    while True:
        page = stack.call("GET", f"/jobs?limit=500{cursor}").json()
        count += len(page["jobs"])
        if not page["next_cursor"]:
            return count
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.alone
def test_hundreds_of_submits_survive_the_loss_of_redis_and_of_a_worker(
    stack: RunningStack, kubernetes: LocalKubernetesApi
) -> None:
    kubernetes.inject(Fault(FaultKind.SERVER_ERROR, verb="create", resource="flinkdeployments", count=10**6))
    names = [f"job-{n}" for n in range(BY_HTTP + BY_CELERY)]

    def by_http(name: str) -> int:
        body = {"job_id": name, "job_config": {"script": SCRIPT}}
        return stack.call("POST", "/jobs/submit", body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(by_http, names[:BY_HTTP])) == {202}
    with Celery(broker=stack.file["redis_url"]) as app:
        for name in names[BY_HTTP:]:
            fields = {"job_id": name, "job_config": {"script": SCRIPT}}
            app.send_task("flink.submit", kwargs=fields, queue="flink.operations", ignore_result=True)
    wait_for("every submit to be accepted", lambda: accepted(stack) == len(names), 240)
    assert created(kubernetes) == Counter()

    redis.Redis.from_url(stack.file["redis_url"], socket_timeout=REQUEST_SECONDS).flushall()
    kubernetes.clear_faults()
    wait_for("some to be created", lambda: len(created(kubernetes)) > 50, 120)
    os.kill(stack.pid("worker"), signal.SIGKILL)
    wait_for("all to be created", lambda: len(created(kubernetes)) == len(names), 300)
    assert created(kubernetes) == Counter(dict.fromkeys(names, 1))


@pytest.mark.alone
def test_a_frozen_redis_holds_no_submit(stack: RunningStack, kubernetes: LocalKubernetesApi) -> None:
    stack.call("POST", "/jobs/submit", {"job_id": "first", "job_config": {"script": SCRIPT}})
    wait_for("the first to be created", lambda: created(kubernetes)["first"] == 1)
    with servers.frozen(stack.pid("redis")):
        times = []
        for n in range(100):
            begun = time.perf_counter()
            body = {"job_id": f"frozen-{n}", "job_config": {"script": SCRIPT}}
            assert stack.tried("POST", "/jobs/submit", body).status_code == 202
            times.append(time.perf_counter() - begun)
        p99 = statistics.quantiles(times, n=100)[98]
        print(f"p99 of 100 submits with Redis frozen: {1000 * p99:.0f} ms")
        assert p99 < 0.25
    wait_for("what was accepted to run", lambda: len(created(kubernetes)) == 101, 180)
