"""Versions, and ROLLBACK through accept, execute and sync: to a number, and to what the operator last saw stable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.versions import Version
from headrace.domain.vertices import OVERRIDES_KEY, Vertex, Vertices
from headrace.errors import Conflict, InvalidRequest, NotFound, Unavailable
from headrace.services.handle_record import Origin
from tests.support.world import UPGRADE_FAILURE, World
from tests.unit.services.test_crash_windows import applied_by_hand

NEW_SCRIPT = {"name": "job.py", "content": "print(2)\n"}


def rollback(world: World, **arguments: Any) -> Operation:
    return world.accept(KindName.ROLLBACK, "orders", **arguments)


def plays(world: World, *, start: int = 1, **status: Any) -> None:
    """The operation whose turn it is is carried out, and the operator does its part."""
    world.execute()
    world.becomes(job={"startTime": str(start), **status.pop("job", {})}, **status)
    for _ in range(2):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()


def upgraded(world: World, **config: Any) -> Operation:
    operation = world.accept(KindName.UPGRADE, "orders", job_config=config)
    plays(world, start=operation.sequence)
    assert world.operation(operation).state is State.SUCCEEDED
    return operation


def rolled_back(world: World, **arguments: Any) -> Operation:
    operation = rollback(world, **arguments)
    plays(world, start=operation.sequence)
    return world.operation(operation)


def breaks(world: World, **config: Any) -> Operation:
    """An UPGRADE that the operator has begun and that never comes up."""
    operation = world.accept(KindName.UPGRADE, "orders", job_config=config)
    world.execute()
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"})
    for _ in range(180):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()
    assert world.operation(operation).state is State.FAILED
    return operation


def versions(world: World) -> list[Version]:
    return list(world.services.versions.all(world.job().key))


def spec(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.whole()["spec"]
    return found


def test_each_operation_that_held_is_a_version_with_what_it_changed(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "parallelism": 2})
    upgraded(world, args=["--b"])
    world.scale(4)
    plays(world, start=3)
    world.accept(KindName.RESTART, "orders")
    plays(world, start=4)
    found = versions(world)
    assert [(each.number, each.kind, each.run) for each in found] == [
        (1, "SUBMIT", 1),
        (2, "UPGRADE", 1),
        (3, "SCALE", 1),
    ]
    assert [[(d.path, d.before, d.after) for d in each.differences] for each in found[1:]] == [
        [(("args",), ["--a"], ["--b"])],
        [(("parallelism",), 2, 4)],
    ]
    assert found[2].request == {**found[1].request, "parallelism": 4}


def test_what_was_refused_or_taken_back_is_no_version_and_what_failed_later_is(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    taken_back = world.accept(KindName.UPGRADE, "orders", job_config={"args": ["--b"]})
    world.execute()
    world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
    for _ in range(180):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()
    assert world.operation(taken_back).state is State.FAILED
    assert [each.kind for each in versions(world)] == ["SUBMIT"]
    world.becomes()
    world.settle()
    begun = breaks(world, args=["--c"])
    assert [(each.operation_id, each.state) for each in versions(world)][1:] == [(begun.id, State.FAILED)]


def test_versions_go_on_over_runs(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.stop()
    world.execute()
    world.is_suspended("s3://b/savepoint-1")
    world.settle()
    world.settle()
    world.runs(job_config={"args": ["--b"]})
    assert [(each.number, each.run) for each in versions(world)] == [(1, 1), (2, 2)]


def test_a_version_shows_no_program_and_says_that_it_changed(world: World) -> None:
    world.runs()
    upgraded(world, script=NEW_SCRIPT)
    assert "print" not in str(versions(world))
    assert [d.path for d in versions(world)[1].differences] == [("script", "sha256")]


def test_a_long_log_is_read_to_its_end(world: World) -> None:
    world.runs(job_config={"parallelism": 1})
    for count in range(2, 122):
        world.scale(count)
        plays(world, start=count)
    assert [each.number for each in versions(world)] == list(range(1, 122))


def test_a_rollback_to_a_version_brings_all_of_it_back(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "labels": {"tier": "gold"}})
    before = spec(world)
    upgraded(world, args=["--b"], script=NEW_SCRIPT, labels={"tier": "iron", "more": "x"}, env={"A": "1"})
    operation = rolled_back(world, to=1)
    assert operation.state is State.SUCCEEDED
    assert spec(world) == before
    labels = world.whole()["metadata"]["labels"]
    assert (labels["tier"], labels.get("more")) == ("gold", None)
    job = world.job()
    assert (job.phase, job.desired, job.run, job.request["args"]) == (Phase.RUNNING, Desired.RUNNING, 1, ["--a"])
    assert [each.kind for each in versions(world)] == ["SUBMIT", "UPGRADE", "ROLLBACK"]
    assert versions(world)[2].request == versions(world)[0].request


def test_it_rolls_back_until_the_job_runs_as_it_was(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    operation = rollback(world, to=1)
    world.execute()
    world.becomes(lifecycleState="UPGRADING", job={"state": "FINISHED"})
    world.settle()
    assert (world.job().phase, world.operation(operation).state) == (Phase.ROLLING_BACK, State.RUNNING)
    assert world.job().request["args"] == ["--b"]
    plays(world, start=3)
    assert (world.job().phase, world.operation(operation).state) == (Phase.RUNNING, State.SUCCEEDED)


def test_its_program_is_there_before_its_pods_are(world: World) -> None:
    world.runs()
    upgraded(world, script=NEW_SCRIPT)
    world.runtime.files.clear()
    rollback(world, to=1)
    world.execute()
    assert [files["files"]["job.py"] for files in world.runtime.files.values()] == ["print(1)\n"]


@pytest.mark.parametrize("after", [KindName.SCALE, KindName.RESTART, KindName.UPGRADE])
def test_what_comes_after_it_starts_from_what_was_rolled_back_to(world: World, after: KindName) -> None:
    world.runs(job_config={"args": ["--a"], "parallelism": 2})
    upgraded(world, args=["--b"], parallelism=3)
    rolled_back(world, to=1)
    arguments: dict[KindName, dict[str, Any]]
    arguments = {KindName.SCALE: {"parallelism": 5}, KindName.UPGRADE: {"job_config": {"env": {"A": "1"}}}}
    world.accept(after, "orders", **arguments.get(after, {}))
    plays(world, start=9)
    assert spec(world)["job"]["args"][-1] == "--a"
    assert spec(world)["job"]["parallelism"] == (5 if after is KindName.SCALE else 2)
    assert world.job().request["args"] == ["--a"]


def test_a_version_of_a_scale_has_its_scale_and_keeps_it_in_another_version_of_its_template(world: World) -> None:
    body = {"template_id": "t", "script": NEW_SCRIPT, "args": ["--a"], "parallelism": 2}
    world.services.register.template(body, "default")
    world.accept(KindName.SUBMIT, "orders", template_id="t")
    plays(world)
    world.scale(4)
    plays(world, start=2)
    upgraded(world, args=["--b"], parallelism=1)
    rolled_back(world, to=2)
    assert (spec(world)["job"]["parallelism"], spec(world)["job"]["args"][-1]) == (4, "--a")
    world.services.register.template({**body, "args": ["--c"]}, "default")
    world.accept(KindName.UPGRADE, "orders", template_version=2)
    plays(world, start=9)
    assert (spec(world)["job"]["parallelism"], spec(world)["job"]["args"][-1]) == (4, "--c")


def test_a_version_of_a_template_s_older_version_is_of_that_again(world: World) -> None:
    body = {"template_id": "t", "script": NEW_SCRIPT, "args": ["--a"]}
    world.services.register.template(body, "default")
    world.accept(KindName.SUBMIT, "orders", template_id="t")
    plays(world)
    world.services.register.template({**body, "args": ["--b"]}, "default")
    world.accept(KindName.UPGRADE, "orders", template_version=2)
    plays(world, start=2)
    rolled_back(world, to=1)
    assert (world.job().template_id, world.job().template_version) == ("t", 1)


def test_one_that_the_operator_does_not_begin_is_taken_back(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    before = spec(world)
    operation = rollback(world, to=1)
    world.execute()
    world.becomes(observedGeneration=2, error=UPGRADE_FAILURE)
    for _ in range(180):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()
    assert world.operation(operation).state is State.FAILED
    assert (spec(world), world.job().request["args"]) == (before, ["--b"])
    assert len(versions(world)) == 2


def test_a_repeat_is_the_same_operation_and_the_same_version(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    first = rollback(world, to=1, idempotency_key="k")
    plays(world, start=3)
    assert rollback(world, to=1, idempotency_key="k").id == first.id
    assert len(versions(world)) == 3


@pytest.mark.parametrize(
    ("to", "error", "words"),
    [
        (7, NotFound, "job orders: there is no version 7; it has 1 to 2"),
        (2, Conflict, "job orders: version 2 is the present one"),
        (0, InvalidRequest, "to: "),
        ("1", InvalidRequest, "to: "),
        (True, InvalidRequest, "to: "),
    ],
)
def test_a_rollback_to_nothing_is_refused_and_not_on_record(
    world: World, to: Any, error: type[Exception], words: str
) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    with pytest.raises(error, match=words):
        rollback(world, to=to)
    assert len(world.services.records.operations_of(world.job().key)) == 2
    assert spec(world)["job"]["args"][-1] == "--b"


def test_the_present_version_may_be_asked_for_behind_a_change(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.accept(KindName.UPGRADE, "orders", job_config={"args": ["--b"]})
    operation = rollback(world, to=1)
    for start in (2, 3):
        plays(world, start=start)
    assert world.operation(operation).state is State.SUCCEEDED
    assert spec(world)["job"]["args"][-1] == "--a"


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.FAILED])
def test_a_job_that_does_not_go_on_is_not_rolled_back(world: World, phase: Phase) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    if phase is Phase.SUSPENDED:
        world.accept(KindName.SUSPEND, "orders")
        world.execute()
        world.is_suspended("s3://b/savepoint-1")
    else:
        world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.settle()
    assert world.job().phase is phase
    with pytest.raises(Conflict, match="job orders: cannot ROLLBACK"):
        rollback(world, to=1)


def test_what_the_policy_of_today_does_not_allow_is_not_brought_back(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    [submit, *_] = world.services.records.operations_of(world.job().key)
    request = {**submit.arguments["request"], "image": "evil.example.com/x:1"}
    logged = world.store._operations[submit.id]
    world.store._operations[submit.id] = type(logged)(
        **{**vars(logged), "arguments": {**submit.arguments, "request": request}}
    )
    with pytest.raises(InvalidRequest, match=r"job_config\.image"):
        rollback(world, to=1)


def test_the_last_stable_spec_is_the_version_that_it_was_rendered_for(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "parallelism": 2})
    world.scale(3)
    plays(world, start=2)
    before = spec(world)
    breaks(world, args=["--b"], script=NEW_SCRIPT, env={"A": "1"})
    operation = rolled_back(world)
    assert operation.state is State.SUCCEEDED
    assert spec(world) == before
    job = world.job()
    assert (job.phase, job.request["args"], job.request["parallelism"]) == (Phase.RUNNING, ["--a"], 3)
    assert versions(world)[-1].why == "rolled back to the last stable spec, version 2"
    upgraded(world, labels={"tier": "gold"})
    assert (spec(world)["job"]["args"][-1], spec(world)["job"]["parallelism"]) == ("--a", 3)


def as_the_operator_writes_it(world: World, **job: Any) -> None:
    """The last stable spec with nulls for what is not set, pod templates without their kind, and job fields of then."""
    status = world.whole()["status"]
    kept = json.loads(status["reconciliationStatus"]["lastStableSpec"])["spec"]
    kept |= {"ingress": None, "logConfiguration": None, "restartNonce": 99}
    kept["job"] |= {"allowNonRestoredState": None, "checkpointTriggerNonce": 8, **job}
    kept["taskManager"] |= {"replicas": None}
    for pod in (kept["podTemplate"], kept["jobManager"]["podTemplate"]):
        pod.pop("apiVersion"), pod.pop("kind")
    text = json.dumps({"spec": kept, "resource_metadata": {"apiVersion": "flink.apache.org/v1beta1"}})
    status["reconciliationStatus"]["lastStableSpec"] = text
    world.runtime.set_status("default", "orders", status)


def test_state_nonces_and_paths_of_the_last_stable_spec_are_not_taken(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.accept(KindName.RESTART, "orders")
    plays(world, start=2)
    before = spec(world)
    breaks(world, args=["--b"])
    of_then = {"state": "suspended", "upgradeMode": "stateless", "initialSavepointPath": "s3://b/old"}
    as_the_operator_writes_it(world, **of_then, savepointRedeployNonce=7, savepointTriggerNonce=6)
    assert rolled_back(world).state is State.SUCCEEDED
    assert spec(world) == before


def test_what_somebody_added_when_it_was_stable_is_back_and_what_came_later_is_gone(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update({"heartbeat.interval": "9 s"}))
    world.becomes()
    world.settle()
    before = spec(world)
    breaks(world, args=["--b"])
    later = {"heartbeat.interval": "1 ms", "heartbeat.timeout": "2 ms"}
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update(later))
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"})
    assert rolled_back(world).state is State.SUCCEEDED
    assert spec(world) == before
    assert "heartbeat" not in str(world.job().applied_manifest)


def test_options_for_the_operator_alone_are_those_of_the_version(world: World) -> None:
    patience = "kubernetes.operator.deployment.readiness.timeout"
    world.runs(job_config={"args": ["--a"], "flink_configuration": {patience: "5 m"}})
    before = spec(world)
    status = world.whole()["status"]
    breaks(world, args=["--b"], flink_configuration={patience: "1 m", "restart-strategy.type": "none"})
    world.becomes(
        lifecycleState="DEPLOYED", job={"state": "RECONCILING"}, reconciliationStatus=status["reconciliationStatus"]
    )
    assert rolled_back(world).state is State.SUCCEEDED
    assert spec(world) == before


def test_a_secret_that_somebody_wrote_into_it_is_not_copied_into_records(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update({"s3.secret-key": "hunter2hunter2"}))
    world.becomes()
    world.settle()
    breaks(world, args=["--b"])
    with pytest.raises(Conflict, match=r"holds a secret that somebody wrote there: s3\.secret-key"):
        rollback(world)
    assert "hunter2" not in str(vars(world.store))


def test_a_last_stable_spec_that_no_version_is_rendered_as_is_refused(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.edit(lambda whole: whole["spec"]["job"].update(args=["--by-hand"]))
    world.becomes()
    world.settle()
    breaks(world, args=["--b"])
    with pytest.raises(Conflict, match="is none of the versions on record"):
        rollback(world)


def test_without_a_last_stable_spec_there_is_no_way_back(world: World) -> None:
    world.submit()
    world.execute()
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"})
    world.settle()
    with pytest.raises(Conflict, match="has no last stable spec"):
        rollback(world)
    world.becomes()
    world.settle()
    with pytest.raises(Conflict, match="the spec that it has is the last stable one"):
        rollback(world)
    assert len(world.services.records.operations_of(world.job().key)) == 1


def test_the_plan_looks_again_before_it_writes(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    breaks(world, args=["--b"])
    operation = rollback(world)
    world.becomes()  # it has come up after all: that is the last stable spec now
    before = spec(world)
    world.execute()
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "the spec that it has is the last stable one" in ended.reason
    assert (spec(world), world.job().request["args"]) == (before, ["--b"])
    assert world.sequence() == operation.sequence


def test_a_last_stable_spec_that_cannot_be_asked_for_now_is_waited_for(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    breaks(world, args=["--b"])
    get_whole = world.runtime.get_whole

    def away(*_: Any) -> Any:
        raise Unavailable("no answer")

    world.runtime.get_whole = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        rollback(world)
    world.runtime.get_whole = get_whole  # type: ignore[method-assign]
    assert rolled_back(world).state is State.SUCCEEDED


SOURCE, WINDOW = "cbc357cc", "90bea66d"


def scaled_in_place(world: World, count: int) -> None:
    """A job of the adaptive scheduler that its JobManager has rescaled."""
    world.job_manager.job_vertices = Vertices({SOURCE: Vertex(1, 128), WINDOW: Vertex(1, 128)})
    operation = world.scale(count)
    world.execute()
    world.job_manager.job_vertices = Vertices({SOURCE: Vertex(count, 128), WINDOW: Vertex(count, 128)})
    plays(world)
    assert world.operation(operation).state is State.SUCCEEDED
    assert OVERRIDES_KEY in spec(world)["flinkConfiguration"]


@pytest.mark.parametrize("named", [True, False])
def test_a_version_that_was_scaled_in_place_is_deployed_at_its_scale(world: World, named: bool) -> None:
    world.runs(job_config={"args": ["--a"], "flink_configuration": {"jobmanager.scheduler": "adaptive"}})
    scaled_in_place(world, 4)
    if named:
        upgraded(world, args=["--b"])
    else:
        breaks(world, args=["--b"])
    operation = rolled_back(world, **({"to": 2} if named else {}))
    assert operation.state is State.SUCCEEDED
    assert (spec(world)["job"]["parallelism"], spec(world)["job"]["args"][-1]) == (4, "--a")
    assert OVERRIDES_KEY not in spec(world)["flinkConfiguration"]
    assert world.job().request["parallelism"] == 4


def test_every_way_in_takes_it_and_refuses_it_alike(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    upgraded(world, args=["--b"])
    nothing = b'{"operation": "ROLLBACK", "job_id": "orders", "to": 7}'
    with pytest.raises(NotFound, match="there is no version 7"):
        world.services.handle_record.handle(nothing, Origin("t", "id", 0, 0))
    assert len(world.services.records.operations_of(world.job().key)) == 2
    for _ in range(2):
        world.services.handle_record.handle(nothing.replace(b"7", b"1"), Origin("t", "id", 0, 1))
    plays(world, start=3)
    assert [each.why for each in versions(world)][2:] == ["rolled back to version 1"]
    assert versions(world)[2].source.via == "kafka"


def test_an_adopted_job_s_first_version_is_the_one_that_was_found_and_has_no_request(world: World) -> None:
    applied_by_hand(world)
    world.accept(KindName.ADOPT, "orders")
    plays(world)
    world.accept(KindName.UPGRADE, "orders", job_config={"script": NEW_SCRIPT})
    plays(world, start=2)
    found = versions(world)
    assert [(each.number, each.kind, bool(each.request)) for each in found] == [
        (1, "ADOPT", False),
        (2, "UPGRADE", True),
    ]
    before = spec(world)
    with pytest.raises(Conflict, match="version 1 has no request on record"):
        rollback(world, to=1)
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"})
    assert spec(world) == before
