"""ADOPT and RELEASE: what somebody else's deployment shows, and what stands in the records, before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from headrace.domain.diff import Change
from headrace.domain.jobs import Desired, JobKey, Observation, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.errors import Conflict, InvalidRequest, NotFound, Unavailable
from headrace.ports import Fence
from headrace.services.handle_record import Origin
from tests.support.given import runtimes_of
from tests.support.world import SCRIPT, World

SAVEPOINT = "s3://b/savepoint-1"
SECRET = "hunter2-of-production"


def by_hand(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """A deployment as somebody applied it with kubectl."""
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"team": "shop", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        },
        "spec": {
            "image": "flink:1.20",
            "flinkVersion": "v1_20",
            "flinkConfiguration": {"taskmanager.numberOfTaskSlots": "2", "s3.secret-key": SECRET},
            "podTemplate": {
                "spec": {
                    "containers": [
                        {"name": "flink-main-container", "env": [{"name": "DB_PASSWORD", "value": SECRET}]},
                    ]
                }
            },
            "jobManager": {"resource": {"memory": "1g", "cpu": 1}},
            "taskManager": {"resource": {"memory": "1g", "cpu": 1}},
            "job": {"jarURI": "local:///opt/flink/a.jar", "parallelism": 2, "upgradeMode": "stateless"},
            **spec,
        },
    }


def applied(world: World, name: str = "shop", **spec: Any) -> dict[str, Any]:
    world.runtime.create(by_hand(name, **spec))
    world.becomes(name)
    return world.whole(name)


def adopt(world: World, job_id: str | None = "shop", **arguments: Any) -> Operation:
    return world.accept(KindName.ADOPT, job_id, **arguments)


def adopted(world: World) -> Operation:
    applied(world)
    operation = adopt(world)
    world.execute("shop")
    world.settle()
    return operation


def release(world: World) -> Operation:
    operation = world.accept(KindName.RELEASE, "shop")
    world.execute("shop")
    world.settle()
    return operation


def test_an_adopted_deployment_is_a_job_and_nothing_of_its_spec_has_changed(world: World) -> None:
    before = applied(world)
    operation = adopt(world)
    world.execute("shop")
    after = world.whole("shop")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    added = after["metadata"]["labels"].keys() - before["metadata"]["labels"].keys()
    assert added == {"headrace.io/job", "headrace.io/tenant"}
    assert after["metadata"]["labels"].items() >= before["metadata"]["labels"].items()
    assert after["metadata"]["annotations"].items() >= before["metadata"]["annotations"].items()
    assert world.operation(operation).state is State.SUCCEEDED
    job = world.job("shop")
    assert (job.phase, job.run, job.desired) == (Phase.RUNNING, 1, Desired.RUNNING)
    assert job.is_gapped
    assert job.deployment_uid == before["metadata"]["uid"]


def test_it_is_watched_from_then_on(world: World) -> None:
    adopted(world)
    world.becomes("shop", job={"state": "FAILED"}, lifecycleState="FAILED")
    world.settle()
    assert world.job("shop").phase is Phase.FAILED


def test_one_that_helm_made_says_so_and_its_label_stays(world: World) -> None:
    operation = adopted(world)
    assert "Helm keeps it too" in world.operation(operation).reason
    assert world.whole("shop")["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_no_secret_of_its_spec_is_stored(world: World) -> None:
    adopted(world)
    assert SECRET not in repr(world.dump()["_documents"])
    assert SECRET not in repr(world.dump()["_operations"])


def test_it_can_have_an_id_of_its_own(world: World) -> None:
    applied(world)
    operation = adopt(world, "shop-of-eu", deployment="shop")
    world.execute("shop-of-eu")
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job("shop-of-eu").deployment_name == "shop"
    assert world.whole("shop")["metadata"]["annotations"]["headrace.io/job-id"] == "shop-of-eu"


def test_without_an_id_it_has_its_deployments_name(world: World) -> None:
    applied(world)
    assert adopt(world, None, deployment="shop").job_id == "shop"


def test_a_repeated_adopt_is_one(world: World) -> None:
    applied(world)
    first = adopt(world, idempotency_key="k")
    world.execute("shop")
    assert adopt(world, idempotency_key="k").id == first.id
    world.accept(KindName.RELEASE, "shop")
    world.execute("shop")
    world.runtime.outage = True  # what is on record needs no cluster to be told
    assert adopt(world, idempotency_key="k").id == first.id


def test_what_is_not_there_is_not_found_and_leaves_no_job(world: World) -> None:
    with pytest.raises(NotFound, match="default/shop: there is none of this name"):
        adopt(world)
    assert world.services.records.job(JobKey("default", "shop")) is None


def test_an_api_that_is_away_is_waited_for(world: World) -> None:
    world.runtime.outage = True
    with pytest.raises(Unavailable):
        adopt(world)


def a_session(whole: dict[str, Any]) -> None:
    del whole["spec"]["job"]


def being_deleted(whole: dict[str, Any]) -> None:
    whole["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def another_tenants(whole: dict[str, Any]) -> None:
    whole["metadata"]["annotations"] |= {"headrace.io/tenant": "other", "headrace.io/job-id": "x"}


def too_large(whole: dict[str, Any]) -> None:
    whole["spec"]["logConfiguration"] = {"log4j-console.properties": "x" * 200_000}


UNFIT = [
    (a_session, "no spec.job: it is a session cluster"),
    (being_deleted, "is being deleted"),
    (another_tenants, "is another tenant's job already"),
    (too_large, "more than 150000 bytes"),
]


@pytest.mark.parametrize(("unfit", "words"), UNFIT)
def test_what_cannot_be_adopted_is_refused_in_words(world: World, unfit: Any, words: str) -> None:
    applied(world)
    world.edit(unfit, "shop")
    before = world.whole("shop")
    with pytest.raises(Conflict, match=words):
        adopt(world)
    assert world.whole("shop") == before


@pytest.mark.parametrize(("unfit", "words"), UNFIT)
def test_what_became_unfit_since_is_rejected_and_not_touched(world: World, unfit: Any, words: str) -> None:
    applied(world)
    operation = adopt(world)
    world.edit(unfit, "shop")
    before = world.whole("shop")
    world.execute("shop")
    assert world.operation(operation).state is State.FAILED
    assert words in world.operation(operation).reason
    assert world.job("shop").phase is Phase.REJECTED
    assert world.whole("shop") == before


def test_another_one_under_the_name_is_not_taken_for_it(world: World) -> None:
    before = applied(world)
    operation = adopt(world)
    world.runtime.delete("default", "shop", before["metadata"]["uid"])
    applied(world)
    world.execute("shop")
    assert "another one than when ADOPT was accepted" in world.operation(operation).reason
    assert "headrace.io/job" not in world.whole("shop")["metadata"]["labels"]


def test_a_job_of_ours_is_not_adopted_again(world: World) -> None:
    world.runs()
    with pytest.raises(Conflict, match="job orders: cannot ADOPT, it has a deployment and is RUNNING"):
        adopt(world, "orders")
    with pytest.raises(Conflict, match="is job orders already"):
        adopt(world, "mine", deployment="orders")


def test_a_name_that_another_job_has_on_record_is_refused(world: World) -> None:
    world.runs()
    world.stop()
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    applied(world, "orders")
    with pytest.raises(Conflict, match="adopt it as job_id orders"):
        adopt(world, "mine", deployment="orders")
    operation = adopt(world, "orders")
    world.execute()
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert (world.job().run, world.job().phase) == (2, Phase.RUNNING)


def test_a_job_keeps_the_name_of_its_deployment(world: World) -> None:
    adopted(world)
    release(world)
    applied(world, "other")
    with pytest.raises(Conflict, match="its deployment's name is shop, in every run"):
        adopt(world, "shop", deployment="other")


@contextmanager
def no_answer_to_a_patch(world: World) -> Iterator[None]:
    """Execute's patches are done, and nobody hears so."""
    runtime, runtimes = world.runtime, world.services.execute.runtimes

    class Mute:
        def __getattr__(self, name: str) -> Any:
            return getattr(runtime, name)

        def patch(self, *args: Any) -> Any:
            runtime.patch(*args)
            raise Unavailable("the answer was lost")

    object.__setattr__(world.services.execute, "runtimes", runtimes_of(cast(Any, Mute())))
    try:
        yield
    finally:
        object.__setattr__(world.services.execute, "runtimes", runtimes)


@pytest.mark.parametrize("kind", [KindName.ADOPT, KindName.RELEASE])
def test_what_is_written_is_done_however_late_its_record(world: World, kind: KindName) -> None:
    applied(world)
    if kind is KindName.RELEASE:
        adopt(world)
        world.execute("shop")
    operation = world.accept(kind, "shop")
    with no_answer_to_a_patch(world), pytest.raises(Unavailable):
        world.execute("shop")
    key = JobKey("default", "shop")
    document = world.store.document(key)
    assert document is not None
    late = replace(document.open_operations[0], spent_seconds=1e9)
    world.store.write(document, replace(document, open_operations=(late,), revision=document.revision + 1))
    world.execute("shop")
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job("shop").phase is (Phase.RUNNING if kind is KindName.ADOPT else Phase.RELEASED)


def test_an_adopt_whose_time_is_over_is_rejected_and_writes_nothing(world: World) -> None:
    before = applied(world)
    operation = adopt(world)
    world.services.records.place(JobKey("default", "shop"))
    document = world.store.document(JobKey("default", "shop"))
    assert document is not None
    late = replace(document.open_operations[0], spent_seconds=1e9, looked_at=world.clock.now())
    world.store.write(document, replace(document, open_operations=(late,), revision=document.revision + 1))
    world.execute("shop")
    assert world.operation(operation).state is State.FAILED
    assert world.job("shop").phase is Phase.REJECTED
    assert world.whole("shop") == before


def test_a_name_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="deployment"):
        adopt(world, "shop", deployment="Shop!")
    with pytest.raises(InvalidRequest, match="say which one is meant"):
        adopt(world, "Shop_1")


class Busy:
    """A runtime in which somebody writes just before each of the first patches."""

    def __init__(self, world: World, times: int) -> None:
        self._world, self._left = world, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.runtime, name)

    def patch(self, *args: Any) -> Any:
        if self._left:
            self._left -= 1
            self._world.becomes("shop")
        return self._world.runtime.patch(*args)


def test_a_lost_race_is_looked_at_again(world: World) -> None:
    applied(world)
    operation = adopt(world)
    object.__setattr__(world.services.execute, "runtime", Busy(world, 3))
    world.execute("shop")
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.whole("shop")["metadata"]["generation"] == 1


def test_an_adopted_job_is_scaled_with_its_state_kept_and_its_secrets_left_alone(world: World) -> None:
    adopted(world)
    operation = world.scale(4, "shop")
    world.execute("shop")
    spec = world.whole("shop")["spec"]
    assert (spec["job"]["parallelism"], spec["job"]["upgradeMode"]) == (4, "savepoint")
    assert spec["flinkConfiguration"]["s3.secret-key"] == SECRET
    assert spec["podTemplate"] == by_hand()["spec"]["podTemplate"]
    world.becomes("shop")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job("shop").request["parallelism"] == 4
    assert SECRET not in repr(world.dump()["_documents"])


def test_an_adopted_job_is_suspended_and_resumed_from_its_state(world: World) -> None:
    adopted(world)
    suspending = world.accept(KindName.SUSPEND, "shop")
    world.execute("shop")
    assert world.whole("shop")["spec"]["job"]["upgradeMode"] == "savepoint"
    world.is_suspended(SAVEPOINT, "shop")
    world.settle()
    assert world.operation(suspending).reason == f"state kept in {SAVEPOINT}"
    resuming = world.accept(KindName.RESUME, "shop")
    world.execute("shop")
    job = world.whole("shop")["spec"]["job"]
    assert (job["state"], job["upgradeMode"]) == ("running", "savepoint")
    world.becomes("shop")
    world.settle()
    assert world.operation(resuming).state is State.SUCCEEDED


def test_an_adopted_job_is_restarted(world: World) -> None:
    adopted(world)
    operation = world.accept(KindName.RESTART, "shop")
    world.execute("shop")
    world.becomes("shop")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.whole("shop")["spec"]["restartNonce"] == operation.sequence


def test_a_stop_keeps_the_state_of_an_adopted_job(world: World) -> None:
    adopted(world)
    operation = world.stop("shop")
    world.execute("shop")
    assert world.whole("shop")["spec"]["job"]["upgradeMode"] == "savepoint"
    world.is_suspended(SAVEPOINT, "shop")
    world.settle()
    assert world.operation(operation).reason == f"state kept in {SAVEPOINT}"
    assert SAVEPOINT in world.saved()
    assert world.job("shop").phase is Phase.CANCELLED
    again = world.submit("shop", start_from="last")
    world.execute("shop")
    assert world.whole("shop")["spec"]["job"]["initialSavepointPath"] == SAVEPOINT
    assert world.operation(again).is_open


def test_a_stop_that_the_operator_refuses_deletes_nothing(world: World) -> None:
    """Without a folder for savepoints."""
    adopted(world)
    operation = world.stop("shop")
    world.execute("shop")
    world.becomes(
        "shop",
        observedGeneration=1,
        status_error=json.dumps(
            {
                "type": "org.apache.flink.kubernetes.operator.exception.ValidationException",
                "message": "Job could not be upgraded with savepoint while config key[state.savepoints.dir] is not set",
            }
        ),
    )
    world.settle()
    assert world.operation(operation).state is State.FAILED
    assert "config key" in world.operation(operation).reason
    job = world.whole("shop")["spec"]["job"]
    assert (job.get("state"), job["upgradeMode"]) == (None, "stateless")


def test_a_stop_of_one_whose_state_nobody_knows_deletes_nothing(world: World) -> None:
    adopted(world)
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.becomes("shop", job={"state": "RESTARTING"})
    world.settle()
    operation = world.stop("shop")
    for _ in range(100):
        world.execute("shop")
        world.clock.advance(60)
        world.settle()
    assert world.operation(operation).state is State.FAILED
    assert "nothing was deleted" in world.operation(operation).reason
    assert world.whole("shop")["spec"]["job"].get("state") is None


def test_an_upgrade_of_single_fields_is_refused_in_words(world: World) -> None:
    adopted(world)
    with pytest.raises(Conflict, match="job shop: it runs as it was adopted"):
        world.accept(KindName.UPGRADE, "shop", job_config={"parallelism": 3})


def test_an_upgrade_over_a_secret_in_the_clear_is_refused_and_keeps_it_from_records(world: World) -> None:
    adopted(world)
    before = world.whole("shop")["spec"]
    operation = world.accept(KindName.UPGRADE, "shop", job_config={"script": SCRIPT})
    world.execute("shop")
    assert world.operation(operation).state is State.FAILED
    assert "a secret in the clear" in world.operation(operation).reason
    assert world.whole("shop")["spec"] == before
    assert SECRET not in repr(world.dump()["_documents"])


def test_an_upgrade_to_a_whole_program_makes_it_a_job_like_others(world: World) -> None:
    applied(world, podTemplate={})
    adopt(world)
    world.execute("shop")
    world.settle()
    operation = world.accept(KindName.UPGRADE, "shop", job_config={"script": SCRIPT, "parallelism": 3})
    world.execute("shop")
    spec = world.whole("shop")["spec"]
    assert (spec["job"]["parallelism"], spec["job"]["upgradeMode"]) == (3, "savepoint")
    assert "jarURI" not in spec["job"] or spec["job"]["jarURI"] != by_hand()["spec"]["job"]["jarURI"]
    world.becomes("shop")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    job = world.job("shop")
    assert (job.is_as_found, job.request["parallelism"]) == (False, 3)
    later = world.accept(KindName.UPGRADE, "shop", job_config={"parallelism": 4})
    world.execute("shop")
    assert world.operation(later).is_open
    assert world.whole("shop")["spec"]["job"]["parallelism"] == 4


def test_a_released_deployment_goes_on_and_is_forgotten(world: World) -> None:
    before = applied(world)
    adopt(world)
    world.execute("shop")
    world.settle()
    operation = release(world)
    after = world.whole("shop")
    assert world.operation(operation).state is State.SUCCEEDED
    assert {k: after["metadata"][k] for k in ("labels", "annotations", "uid", "generation")} == {
        k: before["metadata"][k] for k in ("labels", "annotations", "uid", "generation")
    }
    assert after["spec"] == before["spec"]
    job = world.job("shop")
    assert (job.phase, job.desired, job.deployment_uid) == (Phase.RELEASED, Desired.RELEASED, None)
    assert job.observation is not Observation.NOT_FOUND
    assert not job.manifests
    assert world.phases("shop")[-2:] == ["RUNNING", "RELEASED"]


def test_what_becomes_of_it_later_is_no_business_of_ours(world: World) -> None:
    adopted(world)
    release(world)
    world.becomes("shop", job={"state": "FAILED"}, lifecycleState="FAILED")
    world.settle()
    world.runtime.delete("default", "shop", world.whole("shop")["metadata"]["uid"])
    world.clock.advance(1000)
    world.services.sync._listed_at = None
    world.settle()
    assert world.job("shop").phase is Phase.RELEASED
    assert world.phases("shop")[-1] == "RELEASED"


def test_a_job_that_we_made_is_released_too_and_its_spec_stays(world: World) -> None:
    world.runs()
    before = world.whole()
    world.accept(KindName.RELEASE, "orders")
    world.execute()
    after = world.whole()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {}
    assert after["metadata"]["annotations"] == {}
    assert world.job().phase is Phase.RELEASED


def test_a_failed_job_is_released(world: World) -> None:
    adopted(world)
    world.becomes("shop", job={"state": "FAILED"}, lifecycleState="FAILED")
    world.settle()
    release(world)
    assert world.job("shop").phase is Phase.RELEASED


def test_a_released_job_is_adopted_again(world: World) -> None:
    adopted(world)
    release(world)
    operation = adopt(world)
    world.execute("shop")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert (world.job("shop").phase, world.job("shop").run) == (Phase.RUNNING, 2)


def test_a_released_job_is_submitted_anew_once_its_deployment_is_gone(world: World) -> None:
    adopted(world)
    release(world)
    refused = world.submit("shop")
    world.execute("shop")
    assert "exists and is not this job's" in world.operation(refused).reason
    world.runtime.delete("default", "shop", world.whole("shop")["metadata"]["uid"])
    operation = world.submit("shop")
    world.execute("shop")
    world.becomes("shop")
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert not world.job("shop").is_as_found


def test_nothing_acts_on_a_released_job(world: World) -> None:
    adopted(world)
    release(world)
    for kind, arguments in [
        (KindName.STOP, {}),
        (KindName.RELEASE, {}),
        (KindName.SUSPEND, {}),
        (KindName.SCALE, {"parallelism": 3}),
    ]:
        with pytest.raises(Conflict, match="RELEASED"):
            world.accept(kind, "shop", **arguments)


def test_a_release_of_what_was_deleted_says_so(world: World) -> None:
    adopted(world)
    operation = world.accept(KindName.RELEASE, "shop")
    world.runtime.delete("default", "shop", world.whole("shop")["metadata"]["uid"])
    world.execute("shop")
    world.settle()
    assert world.operation(operation).state is State.FAILED
    assert world.job("shop").phase is Phase.CANCELLED


def test_a_late_scale_does_not_reach_a_released_deployment(world: World) -> None:
    adopted(world)
    uid, sequence = world.whole("shop")["metadata"]["uid"], world.sequence("shop")
    release(world)
    late = [Change(("spec", "job", "parallelism"), 9)]
    assert world.runtime.patch("default", "shop", Fence(uid, sequence), late) is None
    assert world.whole("shop")["spec"]["job"]["parallelism"] == 2


def test_a_sight_between_the_patch_and_its_record_is_no_deletion(world: World) -> None:
    adopted(world)
    operation = world.accept(KindName.RELEASE, "shop")
    with no_answer_to_a_patch(world), pytest.raises(Unavailable):
        world.execute("shop")
    world.sync()
    assert world.job("shop").phase is Phase.RUNNING
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.phases("shop")[-2:] == ["RUNNING", "RELEASED"]


def test_a_late_adoption_that_nobody_wants_lets_go_and_deletes_nothing(world: World) -> None:
    """A worker freezes before its patch; STOP comes and ends; then the worker writes."""
    before = applied(world)
    adopt(world)
    runtime, runtimes = world.runtime, world.services.execute.runtimes

    class StopsFirst:
        def __getattr__(self, name: str) -> Any:
            return getattr(runtime, name)

        def patch(self, *args: Any) -> Any:
            object.__setattr__(world.services.execute, "runtimes", runtimes)
            world.stop("shop")
            world.execute("shop")
            return runtime.patch(*args)

    object.__setattr__(world.services.execute, "runtimes", runtimes_of(cast(Any, StopsFirst())))
    world.execute("shop")
    assert world.whole("shop")["metadata"]["labels"] == before["metadata"]["labels"]
    world.settle()
    after = world.whole("shop")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["spec"] == before["spec"]
    assert world.job("shop").phase is Phase.CANCELLED


def test_a_late_adoption_whose_worker_died_is_let_go_by_the_next(world: World) -> None:
    before = applied(world)
    adopt(world)
    world.stop("shop")
    world.execute("shop")
    ours = {"headrace.io/tenant": "default", "headrace.io/job-id": "shop", "headrace.io/sequence": "1"}
    first = world.store.operations_of(JobKey("default", "shop"))[0]
    marks = {**ours, "headrace.io/operation-id": first.id, "headrace.io/run": "1"}

    def marked(whole: dict[str, Any]) -> None:
        whole["metadata"]["annotations"] |= marks
        whole["metadata"]["labels"] |= {"headrace.io/job": "shop", "headrace.io/tenant": "default"}

    world.edit(marked, "shop")
    world.becomes("shop")
    world.settle()
    after = world.whole("shop")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert after["spec"] == before["spec"]


def test_a_document_that_was_lost_knows_that_it_was_adopted(world: World) -> None:
    applied(world)
    adopt(world, "mine", deployment="shop")
    world.execute("mine")
    world.settle()
    world.store._documents.clear()
    world.services.sync._listed_at = None
    world.services.records.read(JobKey("default", "mine"))
    world.becomes("shop")
    world.settle()
    job = world.job("mine")
    assert (job.deployment_name, job.is_as_found, job.phase) == ("shop", True, Phase.RUNNING)
    assert job.is_gapped


def test_a_kafka_record_adopts_and_releases(world: World) -> None:
    applied(world)
    handle = world.services.handle_record.handle
    accepted = handle(b'{"operation": "ADOPT", "deployment": "shop"}', Origin("t", "id", 0, 0)).operation
    assert (accepted.kind, accepted.job_id) == (KindName.ADOPT, "shop")
    world.execute("shop")
    released = handle(b'{"operation": "RELEASE", "job_id": "shop"}', Origin("t", "id", 0, 1)).operation
    world.execute("shop")
    assert world.operation(released).state is State.SUCCEEDED
    with pytest.raises(NotFound):
        handle(b'{"operation": "ADOPT", "job_id": "none"}', Origin("t", "id", 0, 2))


def lost(world: World) -> Operation:
    """A job that ran, was scaled, and of which a database that was restored has nothing."""
    dump = world.dump()
    world.runs()
    scaled = world.scale(3)
    world.execute()
    world.becomes()
    world.settle()
    world.restore(dump)
    return scaled


def test_a_job_whose_record_is_lost_is_listed_and_adopted_as_itself(world: World) -> None:
    last = lost(world)
    before = world.whole()
    (found,) = world.services.adopting.page("default", None, "", 100).found
    assert (found.job_id, found.name, found.why_not) == ("orders", "orders", "")
    assert "the record of job orders is lost" in found.told
    operation = adopt(world, "orders", deployment="orders")
    assert operation.sequence == last.sequence + 1, "above what stands on the deployment"
    world.execute()
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    after = world.whole()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    assert (world.job().phase, world.job().run, world.job().parallelism) == (Phase.RUNNING, 1, 3)
    assert not world.services.adopting.page("default", None, "", 100).found


def test_a_job_that_was_adopted_as_itself_goes_through_a_life_again(world: World) -> None:
    lost(world)
    adopt(world, "orders", deployment="orders")
    world.execute()
    world.settle()
    scaled = world.scale(2)
    world.execute()
    world.becomes()
    world.settle()
    assert world.operation(scaled).state is State.SUCCEEDED
    assert world.whole()["spec"]["job"]["parallelism"] == 2
    stop = world.stop()
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    world.execute()
    world.settle()
    assert world.operation(stop).state is State.SUCCEEDED
    assert world.job().savepoint_path == SAVEPOINT


def test_a_job_that_is_on_record_is_not_adopted_again_nor_by_another_name(world: World) -> None:
    world.runs()
    assert not world.services.adopting.page("default", None, "", 100).found
    with pytest.raises(Conflict, match="it has a deployment and is RUNNING"):
        adopt(world, "orders", deployment="orders")
    with pytest.raises(Conflict, match="job orders already"):
        adopt(world, "other", deployment="orders")
