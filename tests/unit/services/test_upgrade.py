"""UPGRADE through accept, execute and sync: which request it comes to, what is written, and what holds from then on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.jobs import Desired, Phase
from headrace.domain.operations import KindName, Operation, Source, State
from headrace.domain.templates import changed, overridden, picked
from headrace.errors import Conflict, InvalidRequest, Unavailable
from tests.support.world import SCRIPT, UPGRADE_FAILURE, World

NEXT_START = {"startTime": "1795448899999"}
TEMPLATE = {
    "template_id": "counting",
    "parameters": {"rate": {"type": "INTEGER", "default": 5}, "token": {"type": "STRING", "secret": True}},
    "script": SCRIPT,
    "args": ["--rate", "${rate}"],
    "env": {"API_TOKEN": "${token}"},
    "parallelism": 2,
}


def upgrade(world: World, **arguments: Any) -> Operation:
    return world.accept(KindName.UPGRADE, "orders", **arguments)


def passes(world: World, seconds: int) -> None:
    for _ in range(seconds // 10):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()


def upgraded(world: World, **arguments: Any) -> Operation:
    """An UPGRADE to its end."""
    operation = upgrade(world, **arguments)
    world.execute()
    world.becomes(job=NEXT_START)
    passes(world, 20)
    return world.operation(operation)


def unavailable(*_: Any) -> None:
    raise Unavailable("no answer")


def spec(world: World) -> dict[str, Any]:
    return world.whole()["spec"]


def registered(world: World, **changes: Any) -> None:
    body = {key: value for key, value in {**TEMPLATE, **changes}.items() if value is not None}
    world.services.register.template(body, "default")


def of_template(world: World, **fields: Any) -> None:
    registered(world)
    world.accept(KindName.SUBMIT, "orders", template_id="counting", parameters={"token": "t0p-s3cret-token"}, **fields)
    world.execute()
    world.becomes()
    world.settle()


def test_what_is_named_changes_and_the_rest_stays(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "labels": {"team": "one"}, "parallelism": 2})
    before = spec(world)
    operation = upgraded(world, job_config={"args": ["--b"], "labels": {"tier": "gold"}})
    assert operation.state is State.SUCCEEDED
    assert spec(world)["job"]["args"][-1] == "--b"
    assert spec(world)["job"]["parallelism"] == before["job"]["parallelism"] == 2
    assert {"team": "one", "tier": "gold"}.items() <= world.whole()["metadata"]["labels"].items()
    job = world.job()
    assert (job.phase, job.run, job.request["args"]) == (Phase.RUNNING, 1, ["--b"])
    assert job.labels == {"team": "one", "tier": "gold"}


def test_it_has_not_succeeded_before_the_job_runs_as_asked(world: World) -> None:
    world.runs()
    operation = upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    world.settle()
    assert world.operation(operation).state is State.RUNNING
    world.becomes(lifecycleState="UPGRADING", job={"state": "FINISHED"})
    world.settle()
    assert world.job().phase is Phase.UPGRADING
    assert world.job().request.get("args") is None


def test_a_new_program_is_there_before_its_pods_are(world: World) -> None:
    world.runs()
    upgrade(world, job_config={"script": {"name": "job.py", "content": "print(2)\n"}})
    world.execute()
    texts = [files["files"]["job.py"] for files in world.runtime.files.values()]
    assert texts == ["print(1)\n", "print(2)\n"]


def test_an_upgrade_keeps_the_scale_and_makes_it_its_own(world: World) -> None:
    world.runs(job_config={"parallelism": 2})
    world.scale(4)
    world.execute()
    world.becomes(job=NEXT_START)
    world.settle()
    upgraded(world, job_config={"args": ["--b"]})
    assert spec(world)["job"]["parallelism"] == 4
    assert world.job().request["parallelism"] == 4
    upgraded(world, job_config={"parallelism": 3})
    assert spec(world)["job"]["parallelism"] == world.job().request["parallelism"] == 3


def test_an_upgrade_waits_behind_a_scale_and_keeps_that(world: World) -> None:
    world.runs()
    world.scale(4)
    operation = upgrade(world, job_config={"args": ["--b"]})
    for start in ("1", "2", "3"):
        world.execute()
        world.becomes(job={"startTime": start})
        passes(world, 20)
    assert world.operation(operation).state is State.SUCCEEDED
    assert spec(world)["job"]["parallelism"] == 4


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        ({"resources": {"task_manager": {"replicas": 2, "slots": 2}}}, {"parallelism": 6}, (None, 6)),
        ({"parallelism": 3}, {"resources": {"task_manager": {"replicas": 2}}}, (2, None)),
        ({"resources": {"task_manager": {"replicas": 2}}}, {"args": ["--b"]}, (2, None)),
    ],
)
def test_of_parallelism_and_replicas_the_one_that_is_named_counts(
    world: World, before: dict[str, Any], change: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    world.runs(job_config=before)
    upgrade(world, job_config=change)
    world.execute()
    assert (spec(world)["taskManager"].get("replicas"), spec(world)["job"].get("parallelism")) == expected


def test_a_template_s_next_version_keeps_what_was_said_beside_it(world: World) -> None:
    of_template(world, job_config={"parallelism": 4, "env": {"LOG": "debug"}})
    registered(world, args=["--rate", "${rate}", "--new"], env={"LOG": "info", "API_TOKEN": "${token}"})
    operation = upgraded(world, template_version=2, parameters={"rate": 9, "token": "an0ther-s3cret"})
    assert operation.state is State.SUCCEEDED
    request = world.job().request
    assert (request["args"], request["parallelism"], request["env"]["LOG"]) == (["--rate", "9", "--new"], 4, "debug")
    assert world.job().template_version == 2
    assert "s3cret" not in str(world.store.__dict__)


def test_a_parameter_is_changed_and_the_others_stay(world: World) -> None:
    rate = {"type": "INTEGER", "required": True}
    registered(world, env=None, parameters={"rate": rate, "name": {"type": "STRING", "default": "x"}})
    given = {"rate": 7, "name": "seven"}
    world.accept(KindName.SUBMIT, "orders", template_id="counting", parameters=given)
    world.execute()
    world.becomes()
    world.settle()
    upgraded(world, parameters={"name": "eight"})
    assert world.job().request["args"] == ["--rate", "7"]
    assert world.job().template_version == 1


def test_a_secret_parameter_is_not_kept_and_is_asked_for_again(world: World) -> None:
    of_template(world)
    with pytest.raises(InvalidRequest, match=r"parameters\.token: was a secret, which is kept nowhere"):
        upgrade(world, parameters={"rate": 9})


def test_what_came_before_in_another_operation_stays(world: World) -> None:
    world.runs()
    world.accept(KindName.RESTART, "orders")
    world.execute()
    world.becomes(job=NEXT_START)
    world.settle()
    upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    assert spec(world)["restartNonce"] == 2


def test_an_edit_beside_it_keeps_no_upgrade_from_its_end(world: World) -> None:
    world.runs()
    operation = upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update({"heartbeat.interval": "9 s"}))
    world.becomes(job=NEXT_START)
    passes(world, 30)
    assert world.operation(operation).state is State.SUCCEEDED
    assert spec(world)["flinkConfiguration"]["heartbeat.interval"] == "9 s"


def test_an_edit_of_what_it_is_about_is_written_over_before_its_end(world: World) -> None:
    world.runs()
    operation = upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    world.edit(lambda whole: whole["spec"]["job"].update(args=["--c"]))
    world.becomes(job=NEXT_START)
    world.settle()
    assert world.operation(operation).state is State.RUNNING
    assert spec(world)["job"]["args"][-1] == "--b"
    world.becomes(job={"startTime": "3"})
    passes(world, 30)
    assert world.operation(operation).state is State.SUCCEEDED


def test_one_that_the_operator_does_not_begin_is_taken_back(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    before = spec(world)
    operation = upgrade(world, job_config={"args": ["--b"], "image": "headrace/flink:2.2.1"})
    world.execute()
    world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert spec(world) == before
    assert world.job().request["args"] == ["--a"]
    upgraded(world, job_config={"labels": {"tier": "gold"}})
    assert spec(world)["job"]["args"][-1] == "--a"


def test_one_that_could_not_be_written_ends_at_its_deadline(world: World) -> None:
    world.runs()
    operation = upgrade(world, job_config={"script": {"name": "job.py", "content": "print(2)\n"}})
    put_files, world.runtime.put_files = world.runtime.put_files, unavailable
    with pytest.raises(Unavailable):
        world.execute()
    world.runtime.put_files = put_files
    world.edit(lambda whole: whole["spec"]["job"].update(state="suspended"))
    world.is_suspended("s3://b/savepoint-1")
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert world.sequence() == operation.sequence


def test_one_that_failed_after_it_was_begun_holds(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    operation = upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    world.becomes(lifecycleState="DEPLOYED", job={"state": "RECONCILING"})
    passes(world, 1800)
    assert world.operation(operation).state is State.FAILED
    assert world.job().request["args"] == ["--b"]
    assert world.job().desired is Desired.RUNNING


def test_a_job_that_fails_in_it_is_failed_when_the_upgrade_has_ended_and_not_before(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    operation = upgrade(world, job_config={"args": ["--b"]})
    world.execute()
    world.becomes(lifecycleState="FAILED", job={"state": "FAILED"})
    world.sync()
    world.sync()
    assert (world.operation(operation).state, world.job().phase) == (State.RUNNING, Phase.UPGRADING)
    world.settle()
    assert (world.operation(operation).state, world.job().phase) == (State.FAILED, Phase.FAILED)
    assert world.phases()[-2:] == ["UPGRADING", "FAILED"]


def test_a_change_of_nothing_ends_at_once(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    generation = world.whole()["metadata"]["generation"]
    operation = upgrade(world, job_config={"args": ["--a"]})
    world.execute()
    passes(world, 20)
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.whole()["metadata"]["generation"] == generation


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"job_config": {"paralelism": 2}}, "job_config.paralelism"),
        ({"job_config": {"parallelism": 0}}, "job_config.parallelism"),
        ({"job_config": {"flink_configuration": {"kubernetes.cluster-id": "x"}}}, "job_config.flink_configuration"),
        ({"job_config": {"image": "evil.example.com/x:1"}}, "job_config.image"),
        ({"template_version": 2}, "made without a template"),
        ({"parameters": {"rate": 2}}, "made without a template"),
        ({"start_from": "last"}, "start_from"),
    ],
)
def test_a_wrong_change_names_its_field_and_is_not_accepted(
    world: World, arguments: dict[str, Any], words: str
) -> None:
    world.runs()
    with pytest.raises(InvalidRequest, match=words):
        upgrade(world, **arguments)
    assert len(world.services.records.operations_of(world.job().key)) == 1


def test_a_broker_s_message_may_bring_no_secret(world: World) -> None:
    world.runs()
    with pytest.raises(InvalidRequest, match=r"job_config\.env"):
        upgrade(world, job_config={"env": {"DB_PASSWORD": "hunter2"}}, source=Source(via="kafka"))


def test_a_request_that_is_not_on_record_any_more_is_said(world: World) -> None:
    world.runs()
    world.store._operations.clear()
    with pytest.raises(Conflict, match="not on record any more"):
        upgrade(world, job_config={"args": ["--b"]})


KEYS = st.sampled_from(["args", "env", "labels", "resources", "pod", "flink_configuration", "parallelism"])
LEAF = st.integers() | st.text(max_size=3) | st.just(["x"])
CONFIGS = st.dictionaries(
    KEYS,
    st.recursive(LEAF, lambda below: st.dictionaries(st.text("a.b", min_size=1, max_size=3), below, max_size=3)),
    max_size=5,
)


@settings(max_examples=300)
@given(CONFIGS)
def test_what_was_overridden_is_found_again(config: dict[str, Any]) -> None:
    places = overridden(config)
    again = picked(config, places)
    assert overridden(again) == [place for place in places if picked(config, [place])]
    assert all(picked(config, [place]) == picked(again, [place]) for place in places)


def test_a_request_without_changes_is_as_it_was(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "env": {"A": "$$x"}, "resources": {"task_manager": {"slots": 2}}})
    request = world.services.records.with_programs(world.job()).request
    assert changed(request, {}) == request
