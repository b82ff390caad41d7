"""A backup of MongoDB is taken, the database is lost, and the backup is restored, while jobs go on running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from headrace.adapters.mongo import connect
from headrace.domain.jobs import Job, JobKey, Observation, Phase
from headrace.domain.operations import KindName, Operation, Source, State
from tests.integration.conftest import Installation, installed
from tests.support.clusters import Cluster
from tests.support.patience import wait_for
from tests.support.world import SCRIPT


@pytest.fixture
def made(
    tmp_path: Path, mongodb_url: str, redis_url: str, clusters: Callable[[str], Cluster]
) -> Iterator[Installation]:
    with installed(tmp_path, mongodb_url, redis_url, clusters("local")) as installation:
        yield installation


def dumped(url: str, database: str, folder: Path) -> None:
    """A file of BSON documents a collection, as mongodump writes them."""
    with MongoClient(url) as client:
        for name in client[database].list_collection_names():
            documents = client[database][name].find()
            (folder / f"{name}.bson").write_bytes(b"".join(bson.encode(each) for each in documents))


def restored(url: str, database: str, folder: Path) -> None:
    """The database as it was dumped, and nothing else in it."""
    with MongoClient(url) as client:
        client.drop_database(database)
        for file in sorted(folder.glob("*.bson")):
            documents: list[Any] = list(bson.decode_all(file.read_bytes()))
            if documents:
                client[database][file.stem].insert_many(documents)
    store = connect(url, database, 20)
    store.migrate()
    store.close()


def accepted(made: Installation, kind: KindName, job_id: str, **arguments: Any) -> Operation:
    """What the API would have answered with 202: it is in the log, and nobody has executed it."""
    source = Source(via="http")
    return made.services.accept.operation(kind, job_id, arguments, tenant="default", key=None, source=source).operation


def runs(made: Installation, job_id: str) -> None:
    live = wait_for("its deployment", lambda: made.cluster.runtime.get("default", job_id))
    assert live is not None
    made.becomes(job_id)
    wait_for("it to run", lambda: (job := made.job(job_id)) is not None and job.phase is Phase.RUNNING)


def ends(made: Installation, operation: Operation) -> Operation:
    def has_ended() -> Operation | None:
        found = made.services.records.operation("default", operation.id)
        return found if found is not None and not found.is_open else None

    return wait_for(f"{operation.kind} {operation.job_id} to end", has_ended)


def is_seen(job: Job | None, parallelism: int) -> bool:
    seen = (job.phase, job.observation, job.parallelism) if job is not None else None
    return seen == (Phase.RUNNING, Observation.FRESH, parallelism)


def parallelism(made: Installation, job_id: str) -> int:
    whole = made.cluster.runtime.get_whole("default", job_id)
    assert whole is not None
    return int(whole["spec"]["job"]["parallelism"])


def test_no_operation_of_a_backup_is_lost_and_jobs_that_run_are_taken_over(
    made: Installation, mongodb_url: str, tmp_path: Path
) -> None:
    (folder := tmp_path / "backup").mkdir()
    database = made.env["HEADRACE_MONGODB_DATABASE"]
    worker = made.worker()
    made.beat()
    made.submit("goes-on")
    runs(made, "goes-on")
    worker.teardown()
    before = accepted(made, KindName.SUBMIT, "accepted-before", job_config={"script": SCRIPT})
    dumped(mongodb_url, database, folder)

    worker = made.worker()
    scaled = accepted(made, KindName.SCALE, "goes-on", parallelism=3)
    wait_for("the scale", lambda: parallelism(made, "goes-on") == 3)
    made.becomes("goes-on")
    assert ends(made, scaled).state is State.SUCCEEDED
    runs(made, "accepted-before")
    made.submit("younger")
    runs(made, "younger")
    uids = {name: uid_of(made, name) for name in ("goes-on", "accepted-before", "younger")}
    worker.teardown()

    restored(mongodb_url, database, folder)
    made.worker()
    assert ends(made, before).state is State.SUCCEEDED
    wait_for("what was scaled to be seen as it is", lambda: is_seen(made.job("goes-on"), parallelism=3))

    assert made.services.records.job(JobKey("default", "younger")) is None
    listed = {each.job_id: each for each in made.services.adopting.page("default", None, "", 100).found}
    assert listed["younger"].why_not == ""
    adopted = accepted(made, KindName.ADOPT, "younger")
    assert ends(made, adopted).state is State.SUCCEEDED
    assert uids == {name: uid_of(made, name) for name in uids}, "none was made anew"

    for name in uids:
        scaled = accepted(made, KindName.SCALE, name, parallelism=2)
        wait_for("the scale", lambda name=name: parallelism(made, name) == 2)
        made.becomes(name)
        assert ends(made, scaled).state is State.SUCCEEDED, name


def uid_of(made: Installation, name: str) -> str:
    live = made.cluster.runtime.get("default", name)
    assert live is not None
    return live.metadata.uid
