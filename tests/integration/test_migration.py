"""A database of the release before: its records are rewritten with processes stopped, and its jobs go on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from headrace.adapters.mongo import connect
from headrace.adapters.mongo import store as store_module
from headrace.bootstrap import wired
from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import State, Step
from headrace.errors import Refused
from headrace.settings import Settings
from headrace.testing import FixedClock, InMemoryJobManager, InMemoryQueue, InMemoryRuntime
from tests.support import servers
from tests.support.patience import REQUEST_SECONDS
from tests.support.world import World

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = JobKey("default", "orders")
FIXTURE = Path(__file__).parents[1] / "data" / "records-of-version-1.json"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A server with the records of version 1, and a client of it."""
    command = servers.mongodb(tmp_path)
    with servers.running(command, tmp_path):
        client: MongoClient[dict[str, Any]] = MongoClient(command.address, tz_aware=True)
        for collection, documents in json.loads(FIXTURE.read_text()).items():
            client["headrace"][collection].insert_many([with_times(each) for each in documents])
        client["headrace"]["leases"].create_index("name", name="name", unique=True)
        yield command.address, client["headrace"]
        client.close()


def with_times(value: Any) -> Any:
    """The record with its times as MongoDB has them."""
    if isinstance(value, dict):
        if set(value) == {"$date"}:
            return datetime.fromisoformat(value["$date"])
        return {name: with_times(each) for name, each in value.items()}
    return [with_times(each) for each in value] if isinstance(value, list) else value


def test_records_are_not_rewritten_while_a_process_is_at_work(database: tuple[str, Any]) -> None:
    address, records = database
    beat = {"last": datetime.now(UTC).isoformat(), "silences": []}
    records.sync_cursors.insert_one(
        {"cluster": "heartbeat", "namespace": "redeliver", "resource_version": json.dumps(beat)}
    )
    before = list(records.jobs.find())
    store = connect(address, "headrace", REQUEST_SECONDS)
    with pytest.raises(Refused, match="nothing was changed"):
        store.migrate()
    assert list(records.jobs.find()) == before
    store.close()


def world_of(store: Any) -> World:
    """The services over these records, and a cluster in memory."""
    runtime, queue, clock = InMemoryRuntime(), InMemoryQueue(), FixedClock(NOW + timedelta(hours=1))
    manager = InMemoryJobManager()
    services = wired(
        Settings(_env_file=None),
        store=store,
        queue=queue,
        runtime=runtime,
        job_manager=manager,
        clock=clock,
        sealer=None,
    )
    return World(services, store, runtime, queue, manager, clock)


@pytest.mark.parametrize(("phase", "may_have_run"), [("CANCELLED", False), ("RUNNING", True), ("STARTING", True)])
def test_only_a_stopped_job_has_its_newest_state_on_record_for_sure(
    database: tuple[str, Any], phase: str, may_have_run: bool
) -> None:
    address, records = database
    records.operations.update_many({}, {"$set": {"is_open": False, "state": "SUCCEEDED"}})
    kept = {"phase": phase, "savepoint_path": "s3://b/savepoint-1", "was_running": phase != "STARTING"}
    records.jobs.update_one({"job_id": "orders"}, {"$set": {**kept, "desired": "CANCELLED"}})
    store = connect(address, "headrace", REQUEST_SECONDS)
    store.migrate()
    document = store.document(KEY)
    assert document is not None
    assert document.job.ran_since_state is may_have_run
    if phase == "CANCELLED":
        world = world_of(store)
        world.submit(start_from="last")
        world.execute()
        assert world.whole()["spec"]["job"]["initialSavepointPath"] == "s3://b/savepoint-1"
    store.close()


def test_jobs_that_share_a_deployments_name_are_said_and_go_on(
    database: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, records = database
    store = connect(address, "headrace", REQUEST_SECONDS)
    store.migrate()
    records.jobs.drop_index("deployment_name")
    [orders] = records.jobs.find({"job_id": "orders"})
    records.jobs.insert_one({**orders, "_id": "default/Orders", "job_id": "Orders"})
    said: list[str] = []
    logger = store_module.logger  # type: ignore[attr-defined]
    monkeypatch.setattr(logger, "warning", lambda form, *words: said.append(form.format(*words)))
    assert store.migrate() == 2
    [line] = said
    assert "jobs default/Orders, default/orders share the deployment orders of namespace" in line
    assert "headrace-migrate runs again" in line
    assert "deployment_name" not in records.jobs.index_information()
    assert store.document(KEY) is not None
    records.jobs.delete_one({"_id": "default/Orders"})
    assert store.migrate() == 2
    assert len(said) == 1
    assert records.jobs.index_information()["deployment_name"]["unique"]
    assert store.migrate() == 2
    store.close()


def test_a_running_job_with_a_scale_under_way_goes_on_after_the_rewrite(database: tuple[str, Any]) -> None:
    address, records = database
    store = connect(address, "headrace", REQUEST_SECONDS)
    assert store.migrate() == 2
    once = copy.deepcopy(sorted(records.jobs.find(), key=lambda each: each["_id"]))
    assert store.migrate() == 2
    assert sorted(records.jobs.find(), key=lambda each: each["_id"]) == once
    assert records.jobs.count_documents({"version": {"$exists": True}}) == 0
    document = store.document(KEY)
    assert document is not None
    assert (document.job.phase, document.job.run, document.job.last_sequence) == (Phase.SCALING, 1, 2)
    assert [each.step for each in document.open_operations] == [Step.BEGIN]
    assert [each.to_phase for each in store.transitions_of(KEY)] == [Phase.SUBMITTING, Phase.RUNNING, Phase.SCALING]

    world = world_of(store)
    manifest = document.job.applied_manifest
    assert manifest is not None
    created = world.runtime.create(manifest)
    assert created is not None
    records.jobs.update_one({"job_id": "orders"}, {"$set": {"deployment_uid": created.metadata.uid}})
    world.becomes()
    world.settle()
    world.execute()
    world.becomes()
    world.settle()
    [submit, scale] = world.services.records.operations_of(KEY)
    assert (submit.state, scale.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert world.whole()["spec"]["job"]["parallelism"] == 2
    assert world.job().phase is Phase.RUNNING
    store.close()
