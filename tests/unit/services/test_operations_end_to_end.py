"""SUBMIT, SCALE and STOP through accept, execute and sync: what stands in the records and on the deployment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace.domain.diff import Change
from headrace.domain.jobs import Desired, JobKey, Observation, Phase
from headrace.domain.operations import State
from headrace.errors import Conflict, CrdMissing, IdempotencyConflict, InvalidRequest, LostRace, NotFound, Unavailable
from headrace.ports import Fence
from headrace.services.handle_record import Origin
from headrace.services.redeliver import MOST_AT_ONCE
from tests.support.world import UPGRADE_FAILURE, World

ORIGIN = Origin("headrace.operations", "topic-1", 0, 7)
SAVEPOINT = "file:/state/savepoints/savepoint-ffffff-1"


def test_a_submitted_job_runs(world: World) -> None:
    operation = world.runs()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().phase is Phase.RUNNING
    assert world.job().flink_job_id == "f" * 32
    assert world.job().run == 1
    [files] = world.runtime.files.values()
    assert files["owner"] == world.job().deployment_uid
    assert files["files"] == {"job.py": "print(1)\n"}


def test_the_same_key_and_body_is_the_same_operation(world: World) -> None:
    first = world.submit(idempotency_key="k")
    assert world.submit(idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict, match="another body"):
        world.submit(idempotency_key="k", job_config={"parallelism": 3})
    assert len(world.store.operations_of(JobKey("default", "orders"))) == 1


def test_ten_deliveries_from_four_producers_are_one_deployment(world: World) -> None:
    def deliver(_: int) -> None:
        world.submit(idempotency_key="k")
        world.execute()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, range(10)))
    assert world.runtime.created == 1
    assert len(world.store.operations_of(JobKey("default", "orders"))) == 1


def test_accepts_at_once_get_sequences_of_their_own(world: World) -> None:
    world.runs()
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda n: world.scale(n + 2, key=f"k{n}"), range(16)))
    assert sorted(operation.sequence for operation in accepted) == list(range(2, 18))


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"parallelism": 0}, "job_config.parallelism", "greater than or equal to 1"),
        ({"paralelism": 2}, "job_config.paralelism", "did you mean parallelism"),
        ({"flink_version": "v9_9"}, "job_config.flink_version", "v1_20, v2_2"),
        ({"script": "https://evil.example.com/x.py"}, "job_config.script", "files.example.com"),
        ({"script": "ftp://files.example.com/x.py"}, "job_config.script", "http"),
        ({"namespace": "other"}, "job_config.namespace", "unknown field"),
        (
            {"flink_configuration": {"kubernetes.cluster-id": "x"}},
            "job_config.flink_configuration",
            "may not be set",
        ),
        (
            {"resources": {"task_manager": {"memory": "2048"}}},
            "job_config.resources.task_manager.memory",
            "2048m or 2Gi; got",
        ),
    ],
)
def test_a_wrong_value_names_its_field_and_leaves_nothing(world: World, config: dict, field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.submit(job_config=config)
    assert words in caught.value.problems[field]
    assert world.store.job(JobKey("default", "orders")) is None
    assert not world.store.operations_of(JobKey("default", "orders"))


def test_an_unknown_template_is_named_with_those_that_are(world: World) -> None:
    with pytest.raises(InvalidRequest, match="known: none yet"):
        world.submit(template_id="nope")


def test_what_is_unknown_or_settled_is_refused_in_words(world: World) -> None:
    with pytest.raises(NotFound, match="nope"):
        world.stop("nope")
    world.runs()
    with pytest.raises(Conflict, match="cannot SUBMIT while RUNNING"):
        world.submit()
    with pytest.raises(InvalidRequest, match="parallelism"):
        world.scale(0)


def test_a_scale_shows_scaling_and_nothing_else(world: World) -> None:
    world.runs()
    operation = world.scale(2)
    world.execute()
    world.sync()
    assert world.whole()["spec"]["job"]["parallelism"] == 2
    world.becomes(lifecycleState="UPGRADING", job={"state": "FINISHED"})
    world.sync()
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"}, jobManagerDeploymentStatus="DEPLOYING")
    world.sync()
    world.becomes()
    world.sync()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.phases()[-2:] == ["SCALING", "RUNNING"]
    assert world.job().request["parallelism"] == 2


def test_racing_workers_never_take_the_sequence_back(world: World) -> None:
    world.runs()
    operations = [world.scale(n) for n in (2, 3, 4)]
    seen: list[int] = []

    def work() -> None:
        for _ in range(10):
            world.execute()
            seen.append(world.sequence())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.becomes()
    world.settle()
    assert seen == sorted(seen)
    assert world.whole()["spec"]["job"]["parallelism"] == 4
    states = [world.operation(operation).state for operation in operations]
    assert states[-1] is State.SUCCEEDED
    assert set(states) <= {State.SUCCEEDED, State.SUPERSEDED}


def test_a_stale_worker_changes_nothing(world: World) -> None:
    world.runs()
    world.scale(2)
    key = JobKey("default", "orders")
    stale = world.store.document(key)
    assert stale is not None
    world.execute()
    world.becomes()
    world.settle()
    newer = world.scale(3)
    world.execute()
    with pytest.raises(LostRace):
        world.services.execute._looked_at(stale)
    world.execute()
    assert world.sequence() == newer.sequence
    assert world.whole()["spec"]["job"]["parallelism"] == 3


def test_a_stop_records_the_savepoint_before_it_deletes(world: World) -> None:
    world.runs()
    operation = world.stop()
    world.execute()
    assert world.whole()["spec"]["job"]["state"] == "suspended"
    world.sync()
    assert world.job().phase is Phase.CANCELLING
    world.is_suspended(SAVEPOINT)
    world.settle()
    assert world.runtime.get("default", "orders") is None
    assert world.store.savepoints[SAVEPOINT].kind == "savepoint"
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().phase is Phase.CANCELLED
    assert world.job().savepoint_path == SAVEPOINT
    assert world.phases()[-2:] == ["CANCELLING", "CANCELLED"]


def test_run_two_starts_from_what_the_stop_kept(world: World) -> None:
    test_a_stop_records_the_savepoint_before_it_deletes(world)
    again = world.submit(start_from="last")
    world.execute()
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == SAVEPOINT
    world.becomes()
    world.settle()
    assert world.operation(again).state is State.SUCCEEDED
    assert world.job().run == 2


def test_a_stop_of_a_job_that_is_not_running_keeps_its_last_checkpoint(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RESTARTING"})
    world.sync()
    world.job_manager.checkpoint = "file:/state/chk-7"
    operation = world.stop()
    world.execute()
    assert "file:/state/chk-7" in world.store.savepoints
    assert world.runtime.get("default", "orders") is not None
    world.is_suspended(None)
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().savepoint_path == "file:/state/chk-7"


def test_a_stop_of_a_job_that_never_had_state_deletes_it(world: World) -> None:
    world.submit()
    world.execute()
    job = {"state": "RECONCILING", "startTime": None}
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job=job)
    world.sync()
    operation = world.stop()
    world.execute()
    world.settle()
    assert world.runtime.get("default", "orders") is None
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().phase is Phase.CANCELLED


def test_a_stop_of_a_job_that_failed_for_good_keeps_its_last_checkpoint(world: World) -> None:
    world.runs()
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.settle()
    world.job_manager.checkpoint = "s3://b/chk-7"
    stop = world.stop()
    world.settle()
    world.settle()
    assert world.operation(stop).state is State.SUCCEEDED
    assert world.job().savepoint_path == "s3://b/chk-7"
    assert world.store.savepoints["s3://b/chk-7"].kind == "checkpoint"
    assert world.runtime.get("default", "orders") is None
    assert world.job().phase is Phase.FAILED, "a run that has failed was not cancelled"
    assert world.job().desired is Desired.CANCELLED
    assert world.phases()[-1] == "FAILED"


def test_a_finished_job_whose_jobmanager_comes_back_without_it_stays_finished_and_takes_another_run(
    world: World,
) -> None:
    """FLINK-37320, FLINK-38290: the operator shows RECONCILING for ever."""
    world.runs()
    world.becomes(job={"state": "FINISHED"})
    world.settle()
    for manager in ("READY", "DEPLOYING", "MISSING", "DEPLOYED_NOT_READY"):
        world.becomes(jobManagerDeploymentStatus=manager, job={"state": "RECONCILING"}, error="a.b.C")
        world.settle()
        world.clock.advance(3600)
    assert (world.job().phase, world.job().reason) == (Phase.FINISHED, "")
    again = world.submit()
    for _ in range(3):
        world.execute()
        world.clock.advance(2)
    world.becomes()
    world.settle()
    assert world.operation(again).state is State.SUCCEEDED
    assert (world.job().phase, world.job().run) == (Phase.RUNNING, 2)


def test_a_stop_before_the_start_keeps_what_the_run_was_to_start_from(world: World) -> None:
    world.submit(start_from="s3://b/savepoint-1")
    world.execute()
    job = {"state": "RECONCILING", "startTime": None}
    world.becomes(lifecycleState="DEPLOYED", jobManagerDeploymentStatus="DEPLOYING", job=job)
    world.sync()
    stop = world.stop()
    world.settle()
    world.settle()
    assert world.operation(stop).state is State.SUCCEEDED
    assert world.job().savepoint_path == "s3://b/savepoint-1"


def test_a_stop_that_can_keep_nothing_deletes_nothing(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RECONCILING"}, jobManagerDeploymentStatus="DEPLOYING")
    world.sync()
    world.job_manager.checkpoint = Unavailable("connection refused")
    operation = world.stop()
    for _ in range(95):
        world.execute()
        world.clock.advance(10)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "nothing was deleted; force" in ended.reason
    assert world.runtime.get("default", "orders") is not None
    assert world.whole()["spec"]["job"]["state"] == "running"
    assert world.job().phase is Phase.RESTARTING, "a failed stop no longer gives the job its phase"


def test_force_ends_a_run_whose_state_cannot_be_kept(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RECONCILING"}, jobManagerDeploymentStatus="DEPLOYING")
    world.sync()
    world.job_manager.checkpoint = Unavailable("connection refused")
    operation = world.stop(force=True)
    world.execute()
    world.settle()
    assert world.runtime.get("default", "orders") is None
    assert world.operation(operation).state is State.SUCCEEDED


def test_a_stop_whose_savepoint_fails_is_withdrawn(world: World) -> None:
    world.runs()
    operation = world.stop()
    world.execute()
    for _ in range(4):
        world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
        world.sync()
        world.becomes(observedGeneration=1)
        world.sync()
        world.clock.advance(30)
    world.settle()
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "Savepoint Error" in ended.reason
    assert world.whole()["spec"]["job"]["state"] == "running"
    assert world.runtime.get("default", "orders") is not None
    assert world.job().desired is Desired.RUNNING
    world.becomes()
    world.settle()
    assert world.job().phase is Phase.RUNNING


def test_a_worker_that_froze_before_its_create_brings_nothing_back(world: World) -> None:
    operation = world.submit()
    create = world.runtime.create

    def freeze(manifest: dict) -> object:
        world.runtime.create = create  # type: ignore[method-assign]
        world.stop()
        world.execute()
        return create(manifest)

    world.runtime.create = freeze  # type: ignore[method-assign,assignment]
    world.execute()
    world.settle()
    assert world.runtime.get("default", "orders") is None
    assert world.operation(operation).state is State.SUPERSEDED
    assert world.job().phase is Phase.CANCELLED


def test_a_late_create_is_removed_by_the_sync(world: World) -> None:
    world.submit()
    manifests: list[dict] = []
    create = world.runtime.create
    world.runtime.create = lambda manifest: manifests.append(manifest) or create(manifest)  # type: ignore[method-assign,func-returns-value]
    world.execute()
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING", "startTime": None})
    world.sync()
    world.stop()
    world.execute()
    world.settle()
    assert world.runtime.get("default", "orders") is None
    create(manifests[0])
    world.settle()
    assert world.runtime.get("default", "orders") is None


def test_a_name_that_somebody_else_has_is_said_to_be_theirs(world: World) -> None:
    world.runtime.create({"metadata": {"name": "orders", "namespace": "default", "labels": {}}, "spec": {}})
    operation = world.submit()
    world.execute()
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "is not this job's" in ended.reason
    assert world.job().phase is Phase.REJECTED
    assert world.runtime.created == 1


def test_a_deployment_deleted_by_hand_is_cancelled(world: World) -> None:
    world.runs()
    world.runtime.delete("default", "orders", world.job().deployment_uid or "")
    world.sync()
    assert world.job().phase is Phase.CANCELLED
    assert world.job().reason == "deleted outside Headrace"


def test_an_outage_changes_the_observation_alone(world: World) -> None:
    world.runs()
    world.runtime.outage = True
    with pytest.raises(Unavailable):
        world.sync()
    assert world.job().observation is Observation.UNREACHABLE
    assert world.job().phase is Phase.RUNNING
    world.runtime.outage = False
    world.sync()
    assert world.job().observation is Observation.FRESH


def test_history_that_is_gone_is_a_gap_and_not_a_silence(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RESTARTING"})
    world.runtime.forget_history()
    world.sync()
    last = world.store.transitions_of(JobKey("default", "orders"))[-1]
    assert (last.to_phase, last.gap) == (Phase.RESTARTING, True)


def test_what_redis_lost_is_woken_again(world: World) -> None:
    world.submit("a")
    world.submit("b")
    world.queue.woken.clear()
    assert world.services.redeliver.run() == 2
    assert {key.job_id for key in world.queue.woken} == {"a", "b"}


def test_no_more_is_woken_than_workers_keep_up_with(world: World) -> None:
    world.submit("a")
    world.clock.advance(1)
    world.submit("b")
    world.queue.woken = [JobKey("default", "other")] * MOST_AT_ONCE
    assert world.services.redeliver.run() == 0
    world.queue.woken.pop()
    assert world.services.redeliver.run() == 1
    assert world.queue.woken[-1].job_id == "a"


def test_no_time_is_spent_while_nobody_looks(world: World) -> None:
    operation = world.submit()
    world.clock.advance(7 * 86_400)
    world.execute()
    assert world.operation(operation).state is State.RUNNING
    world.becomes(lifecycleState="DEPLOYED", job={"state": "CREATED"})
    world.sync()
    world.clock.advance(7 * 86_400)
    world.sync()
    assert world.operation(operation).state is State.RUNNING
    assert world.operation(operation).spent_seconds <= 120


def test_an_operation_that_waits_its_turn_spends_no_time(world: World) -> None:
    world.submit()
    world.execute()
    scale = world.scale(4)
    for _ in range(85):
        world.clock.advance(10)
        world.sync()
    assert world.operation(scale).spent_seconds == 0


def test_a_deadline_ends_an_operation_in_words(world: World) -> None:
    operation = world.submit()
    world.execute()
    for _ in range(100):
        world.sync()
        world.clock.advance(10)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "deadline" in ended.reason


def test_a_refused_first_deployment_is_rejected(world: World) -> None:
    operation = world.submit()
    world.execute()
    status = {
        "lifecycleState": "FAILED",
        "jobManagerDeploymentStatus": "MISSING",
        "error": '{"type":"org.apache.flink.kubernetes.operator.exception.ValidationException","message":"no"}',
    }
    world.runtime.set_status("default", "orders", status)
    world.settle()
    assert world.job().phase is Phase.REJECTED
    assert world.operation(operation).state is State.FAILED
    world.stop()
    world.execute()
    world.settle()
    assert world.runtime.get("default", "orders") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"\xff\xfe", "text in UTF-8"),
        (b"[" * 200_000, "more than 20000 values"),
        (b"[" * 2_000, "64 levels deep"),
        (b"{", "not JSON"),
        (b"[]", "object with named fields"),
        (b'{"operation": "STOP", "job_id": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"operation": "STOP", "job_id": NaN}', "finite number"),
        (b'{"operation": "EXPLODE"}', "SUBMIT, STOP, SCALE"),
        (b'{"operation": "STOP"}', "job_id"),
        (b'{"operation": "STOP", "job_id": "x", "forse": true}', "did you mean force"),
        (b'{"operation": "SCALE", "job_id": "x", "parallelism": "two"}', "whole number"),
    ],
)
def test_an_event_that_cannot_be_used_says_why(world: World, value: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        world.services.handle_record.handle(value, ORIGIN)
    assert not world.store.operations_of(JobKey("default", "orders"))


def test_an_event_delivered_again_is_the_same_operation(world: World) -> None:
    world.runs()
    value = b'{"operation": "SCALE", "job_id": "orders", "parallelism": 2}'
    first = world.services.handle_record.handle(value, ORIGIN)
    again = world.services.handle_record.handle(value, ORIGIN)
    anew = world.services.handle_record.handle(value, Origin("headrace.operations", "topic-2", 0, 7))
    assert first.operation.id == again.operation.id
    assert (first.created, again.created, anew.created) == (True, False, True)


def test_a_label_that_is_taken_off_is_no_deletion(world: World) -> None:
    world.runs()
    [change] = [Change(("metadata", "labels", "headrace.io/job"), removed=True)]
    uid = world.job().deployment_uid or ""
    world.runtime.patch("default", "orders", Fence(uid, 1), [change])
    for _ in range(3):
        world.sync()
        world.clock.advance(200)
    assert world.job().phase is Phase.RUNNING
    assert world.runtime.get("default", "orders") is not None


@pytest.mark.parametrize("start_from", ["last", "savepoint-1", "file://", 7])
def test_a_first_run_starts_from_a_uri_or_from_nothing(world: World, start_from: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        world.submit(start_from=start_from)
    assert list(refused.value.problems) == ["start_from"]
    assert not world.store.operations_of(JobKey("default", "orders"))


def test_a_run_that_should_start_from_a_state_that_nobody_kept_is_not_created(world: World) -> None:
    world.submit()
    world.execute()
    world.stop()
    world.execute()
    world.settle()
    again = world.submit(start_from="last")
    world.execute()
    assert world.operation(again).state is State.FAILED
    assert "no last state" in world.operation(again).reason
    assert world.runtime.get("default", "orders") is None


def test_a_cluster_without_the_crd_is_said_with_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: object) -> None:
        raise CrdMissing

    monkeypatch.setattr(world.runtime, "create", create)
    operation = world.submit()
    world.execute()
    ended = world.operation(operation)
    assert (ended.state, world.job().phase) == (State.FAILED, Phase.REJECTED)
    assert ended.reason.startswith("this cluster has no FlinkDeployment CRD; install the Flink Kubernetes Operator")
