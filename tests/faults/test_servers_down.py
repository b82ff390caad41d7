"""A server that does not answer: a bounded wait, an error that names it and the setting, and nothing lost after it."""

from __future__ import annotations

import time

import pytest
from celery import Celery

from local.kubernetes_api.faults import Fault, FaultKind
from local.kubernetes_api.server import LocalKubernetesApi
from tests.faults.conftest import SCRIPT, created
from tests.support import servers
from tests.support.patience import wait_for
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(300)


@pytest.mark.slow
def test_mongodb_frozen_refuses_by_name_and_loses_no_task(stack: RunningStack, kubernetes: LocalKubernetesApi) -> None:
    fields = {"job_id": "by-celery", "job_config": {"script": SCRIPT}}
    with servers.frozen(stack.pid("mongodb")):
        with Celery(broker=stack.file["redis_url"], set_as_current=False) as app:
            app.send_task("flink.submit", kwargs=fields, queue="flink.operations", ignore_result=True)
        begun = time.monotonic()
        answer = stack.tried("POST", "/jobs/submit", {"job_id": "by-http", "job_config": {"script": SCRIPT}})
        assert time.monotonic() - begun < 15
        assert answer.status_code == 503
        assert "HEADRACE_MONGODB_URL" in answer.text
        log = stack.data / "logs" / "worker.log"
        wait_for("the task to be tried a fourth time", lambda: log.read_text().count("flink.submit is tried again") > 3)
    wait_for("the task to be accepted and done", lambda: created(kubernetes)["by-celery"] == 1)
    answer = stack.call("POST", "/jobs/submit", {"job_id": "by-http", "job_config": {"script": SCRIPT}})
    assert answer.status_code == 202
    wait_for("the other to be done", lambda: created(kubernetes)["by-http"] == 1)


def test_kubernetes_down_is_told_by_the_observation_alone(stack: RunningStack, kubernetes: LocalKubernetesApi) -> None:
    stack.call("POST", "/jobs/submit", {"job_id": "before", "job_config": {"script": SCRIPT}})
    wait_for("it to be created", lambda: created(kubernetes)["before"] == 1)
    wait_for("it to be seen", lambda: stack.job("before")["status"] == "SUBMITTING")
    kubernetes.inject(Fault(FaultKind.SERVER_ERROR, count=10**6))
    wait_for("the outage to be told", lambda: stack.job("before")["observation"] == "UNREACHABLE")
    answer = stack.call("POST", "/jobs/submit", {"job_id": "meanwhile", "job_config": {"script": SCRIPT}})
    assert answer.status_code == 202
    assert stack.job("before")["status"] == "SUBMITTING"
    kubernetes.clear_faults()
    wait_for("what was accepted to be done", lambda: created(kubernetes)["meanwhile"] == 1)
    wait_for("the outage to be over", lambda: stack.job("before")["observation"] == "FRESH")
    assert stack.phases("before") == ["SUBMITTING"]
