"""The FlinkDeployment CRD absent, appearing as the oldest operator has it, and renewed to the newest one's, under our
processes that run all along with their own tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployed import FLINK_RESOURCES, JOBS, Deployed, deployed
from tests.support.kube_apiserver import CRDS
from tests.support.patience import wait_for

pytestmark = pytest.mark.timeout(300)
SCRIPT = {"name": "job.py", "content": "print(1)\n"}
HINT = "is the Flink Kubernetes Operator's CRD installed?"
OLD_FLINK = {"HEADRACE_FLINK_VERSION": "v1_20", "HEADRACE_FLINK_IMAGE": "headrace/flink:1.20.3"}


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Deployed]:
    with deployed(tmp_path, crds=None, **OLD_FLINK) as made:
        made.start("api", "worker", "sync", "beat")
        yield made


def test_what_was_asked_before_there_was_a_crd_is_done_once_there_is_one(bare: Deployed) -> None:
    pids = {name: process.pid for name, process in bare.processes.items()}
    early = bare.asked("early", "submit", job_config={"script": SCRIPT})
    wait_for("the SUBMIT to say what it waits for", lambda: HINT in bare.operation(early)["reason"])
    assert bare.operation(early)["state"] in ("ACCEPTED", "RUNNING")
    wait_for("the sync to say so", lambda: HINT in bare.log("sync"))
    refused = bare.tried("POST", "/jobs/anothers/adopt", {})
    assert (refused.status_code, HINT in refused.json()["detail"]) == (503, True)
    assert bare.call("GET", "/jobs/anothers").status_code == 404
    renewed(bare, "1.10")
    assert bare.ended(early, 120)["state"] == "SUCCEEDED"
    assert flink_version(bare) == "v1_20"
    wait_for("it to be watched", lambda: bare.job("early")["observation"] == "FRESH")
    uid = live(bare)["metadata"]["uid"]
    renewed(bare, "1.15")
    bare.done("early", "scale", parallelism=2)
    bare.done("early", "savepoint")
    bare.done("early", "suspend")
    assert (bare.job("early")["status"], live(bare)["metadata"]["uid"]) == ("SUSPENDED", uid)
    phases = bare.database.transitions.distinct("to_phase", {"job_id": "early"})
    assert not {"FAILED", "CANCELLED", "REJECTED", "DELETED"} & set(phases)
    assert {name: process.pid for name, process in bare.processes.items()} == pids


def renewed(bare: Deployed, version: str) -> None:
    """As who installs or renews the operator does it."""
    bare.kubectl.said("apply", "--server-side", "--force-conflicts", "-f", str(CRDS[version]))
    path = f"{FLINK_RESOURCES}/flinkdeployments"
    wait_for("it to be served", lambda: bare.http.get(path).status_code == 200)


def live(bare: Deployed) -> dict[str, Any]:
    found = bare.live("early")
    assert found is not None, JOBS
    return found


def flink_version(bare: Deployed) -> str:
    return str(live(bare)["spec"]["flinkVersion"])
