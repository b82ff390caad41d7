"""FlinkDeployments as others publish them are adopted, changed and given back, on the small Kubernetes API and a real
kube-apiserver: the operator sees a new generation from what was asked to change alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.bootstrap import Services, wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName, Operation, Source, State
from headrace.ports import FlinkRuntime
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryStore
from tests.support.clusters import DEPLOYMENTS, Cluster, cluster

EXAMPLES = sorted((Path(__file__).parent.parent / "data" / "flinkdeployments").glob("*.json"))


@pytest.fixture(scope="module", params=["local", "real"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def services_over(runtime: FlinkRuntime) -> Services:
    clock, store = FixedClock(), InMemoryStore()
    store.clock = clock
    return wired(
        Settings(_env_file=None),
        store=store,
        queue=InMemoryQueue(),
        runtime=runtime,  # type: ignore[arg-type]
        job_manager=InMemoryJobManager(),
        clock=clock,
        sealer=None,
    )


def applied(place: Cluster, example: Path) -> tuple[str, dict[str, Any]]:
    """The example as somebody applied it with kubectl, with the status that its operator gave it."""
    whole = json.loads(example.read_text())
    name = f"public-{example.name[:2]}"
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    assert place.http is not None
    made = {**whole, "metadata": metadata}
    status = made.pop("status", None)
    place.http.post(DEPLOYMENTS, json=made).raise_for_status()
    if status:
        generation = whole["metadata"].get("generation", 1)
        observed = {"observedGeneration": 1} if status.get("observedGeneration") == generation else {}
        place.set_status(name, {**status, **observed})
    return name, live(place, name)


def live(place: Cluster, name: str) -> dict[str, Any]:
    found = place.runtime.get_whole("default", name)
    assert found is not None
    return found


def asked(services: Services, kind: KindName, name: str, **arguments: Any) -> Operation:
    accept = services.accept.operation
    operation = accept(kind, name, arguments, tenant="default", key=None, source=Source(via="http")).operation
    services.execute.oldest_open_operation(operation.key)
    found = services.records.operation("default", operation.id)
    assert found is not None
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_adopted_changed_and_released(place: Cluster, example: Path) -> None:
    services = services_over(place.runtime)
    name, before = applied(place, example)
    adopted = asked(services, KindName.ADOPT, name)
    assert adopted.state is State.SUCCEEDED, adopted.reason
    after = live(place, name)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    job = services.records.job(JobKey("default", name))
    assert job is not None
    if job.phase is Phase.RUNNING:
        parallelism = before["spec"]["job"].get("parallelism", 1) + 1
        asked(services, KindName.SCALE, name, parallelism=parallelism)
        after = live(place, name)
        changed = {**before["spec"]["job"], "parallelism": parallelism}
        assert {**after["spec"], "job": None} == {**before["spec"], "job": None}
        assert {**after["spec"]["job"], "upgradeMode": None} == {**changed, "upgradeMode": None}
        assert after["spec"]["job"]["upgradeMode"] in ("savepoint", "last-state")
        assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
        services.sync.run(0.1)
        done = {"lifecycleState": "STABLE", "observedGeneration": after["metadata"]["generation"]}
        place.set_status(name, {**after["status"], **done})
        services.sync.run(0.1)
    released = asked(services, KindName.RELEASE, name)
    assert released.state is State.SUCCEEDED, released.reason
    given_back = live(place, name)
    assert given_back["spec"] == after["spec"]
    assert given_back["metadata"]["generation"] == after["metadata"]["generation"]
    assert given_back["metadata"]["uid"] == before["metadata"]["uid"]
    assert given_back["metadata"]["labels"] == before["metadata"]["labels"]
    assert not given_back["metadata"].get("annotations")
    services.sync.run(0.1)
    job = services.records.job(JobKey("default", name))
    assert job is not None
    assert job.phase is Phase.RELEASED


def test_some_of_them_run_and_are_scaled(place: Cluster) -> None:
    """Else the test above would show nothing of that."""
    running = [json.loads(each.read_text()) for each in EXAMPLES]
    states = [((each.get("status") or {}).get("jobStatus") or {}).get("state") for each in running]
    assert states.count("RUNNING") >= 2
