"""How soon a change of a deployment's status is in MongoDB, with 50 deployments."""

from __future__ import annotations

import statistics
import time

import httpx
import pytest

from local.kubernetes_api.server import LocalKubernetesApi
from tests.faults.conftest import TOKEN
from tests.support.patience import REQUEST_SECONDS, wait_for
from tests.support.stack import RunningStack

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/namespaces/default/flinkdeployments"
SCRIPT = {"name": "job.py", "content": "print(1)\n"}
COUNT = 50


def test_a_change_is_in_mongodb_within_a_second(stack: RunningStack, kubernetes: LocalKubernetesApi) -> None:
    names = [f"job-{n}" for n in range(COUNT)]
    for name in names:
        assert stack.call("POST", "/jobs/submit", {"job_id": name, "job_config": {"script": SCRIPT}}).is_success
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=kubernetes.url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False) as api:
        wait_for("all to be created", lambda: len(api.get(DEPLOYMENTS).json()["items"]) == COUNT)
        for name in names:
            wait_for(f"{name} to be seen", lambda name=name: stack.job(name)["status"] == "SUBMITTING")
        delays = [delay(stack, api, name) for name in names]
    p95 = statistics.quantiles(delays, n=20)[18]
    print(f"p95 of {COUNT} changes: {1000 * p95:.0f} ms, median {1000 * statistics.median(delays):.0f} ms")
    assert p95 < 1.0


def delay(stack: RunningStack, api: httpx.Client, name: str) -> float:
    live = api.get(f"{DEPLOYMENTS}/{name}").json()
    live["status"] = {
        "observedGeneration": live["metadata"]["generation"],
        "lifecycleState": "STABLE",
        "jobManagerDeploymentStatus": "READY",
        "jobStatus": {"jobId": "f" * 32, "state": "RUNNING", "startTime": "1795448818262"},
    }
    begun = time.perf_counter()
    api.put(f"{DEPLOYMENTS}/{name}/status", json=live).raise_for_status()
    wait_for(f"{name} to be RUNNING", lambda: stack.job(name)["status"] == "RUNNING", 30)
    return time.perf_counter() - begun
