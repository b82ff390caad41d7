"""A dry run: what is foreseen is what is then done, what accept refuses is refused alike, and nothing is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from headrace.domain import diff
from headrace.domain.costs import Cost, field_changes
from headrace.domain.deployments import deployment_of
from headrace.domain.jobs import Phase
from headrace.domain.operations import KINDS, KindName, Source, Step
from headrace.domain.runtimes.operator.foreseen import foreseen
from headrace.domain.runtimes.plan import Change, Foreseen
from headrace.domain.vertices import OVERRIDES_KEY, Vertex, Vertices
from headrace.errors import Conflict, HeadraceError, InvalidRequest, NotFound, Unavailable
from headrace.services.foresee import Foresight
from headrace.services.handle_record import Origin
from tests.support.world import HTTP, SCRIPT, World
from tests.unit.services.test_adopt import SECRET, adopt, applied

FALLBACK = "kubernetes.operator.job.upgrade.last-state-fallback.enabled"
SAVEPOINT = "s3://b/savepoint-9"
OURS = "headrace.io/"
NOT_ADAPTIVE = "its scheduler is not the adaptive one (jobmanager.scheduler)"


def everything(world: World) -> dict[str, Any]:
    """All that is stored, in the cluster and in the queue."""
    cluster = {name: value for name, value in vars(world.runtime).items() if name not in ("_lock", "_printed")}
    return copy.deepcopy({"store": world.dump(), "cluster": cluster, "queue": world.queue.woken})


def foresees(world: World, kind: KindName, job_id: str | None = "orders", **arguments: Any) -> Foresight:
    """A dry run, after which all is as it was."""
    before = everything(world)
    try:
        return world.services.foresee.operation(kind, job_id, arguments, tenant="default", source=HTTP)
    finally:
        assert everything(world) == before


def upgrade(world: World, **config: Any) -> Foresight:
    return foresees(world, KindName.UPGRADE, job_config=config)


def places(foresight: Foresight) -> dict[str, Any]:
    return {".".join(each.path): (each.before, each.after, each.cost) for each in foresight.foreseen.changes}


def told(foresight: Foresight) -> tuple[Any, str, bool | None]:
    return foresight.foreseen.cost, foresight.foreseen.causes, foresight.foreseen.keeps_state


def stops(world: World, path: str = SAVEPOINT) -> None:
    world.stop()
    world.execute()
    world.is_suspended(path)
    for _ in range(3):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()
    assert world.job().phase is Phase.CANCELLED


def suspends(world: World) -> None:
    world.accept(KindName.SUSPEND, "orders")
    world.execute()
    world.is_suspended(SAVEPOINT)
    world.settle()
    assert world.job().phase is Phase.SUSPENDED


def rests(world: World, how: Callable[[World], None]) -> None:
    """A job that ran and does not any more."""
    world.runs()
    how(world)


def after(what: Callable[[World], None], world: World, **arguments: Any) -> dict[str, Any]:
    """Arguments for what is asked after that."""
    what(world)
    return arguments


def finishes(world: World) -> None:
    """The run has ended, and its deployment is there to be looked at."""
    world.becomes(job={"state": "FINISHED"})
    world.settle()
    assert world.job().phase is Phase.FINISHED


def test_an_upgrade_says_what_changes_what_that_costs_and_where_state_stays(world: World) -> None:
    world.runs(job_config={"args": ["--a"], "parallelism": 2})
    found = upgrade(world, args=["--b"])
    (change,) = places(found).values()
    assert (change[0][-1], change[1][-1], change[2]) == ("--a", "--b", Cost.UPGRADE)
    assert told(found) == (Cost.UPGRADE, "a redeploy with a savepoint", True)
    assert found.foreseen.state == "a savepoint is taken first, and the job goes on from there"
    asked = [(each.difference.path, each.difference.after, each.cost) for each in found.asked_for]
    assert asked == [(("args",), ["--b"], Cost.UPGRADE)]


def test_what_changes_nothing_of_the_deployment_restarts_nothing(world: World) -> None:
    world.runs()
    found = upgrade(world, ended_run_kept_hours=1.0)
    assert (places(found), told(found)) == ({}, (Cost.IGNORE, "nothing restarts", True))
    assert [each.cost for each in found.asked_for] == [Cost.IGNORE]


def test_an_option_that_the_operator_takes_for_itself_restarts_nothing(world: World) -> None:
    world.runs()
    name = "kubernetes.operator.savepoint.history.max.count"
    found = upgrade(world, flink_configuration={name: "3"})
    assert places(found) == {f"spec.flinkConfiguration.{name}": (None, "3", Cost.IGNORE)}
    assert told(found)[:2] == (Cost.IGNORE, "nothing restarts")


def test_a_scale_is_a_redeploy_and_says_why_it_is_not_in_place(world: World) -> None:
    world.runs()
    found = foresees(world, KindName.SCALE, parallelism=3)
    assert places(found) == {"spec.job.parallelism": (1, 3, Cost.UPGRADE)}
    assert told(found) == (Cost.UPGRADE, f"a redeploy with a savepoint; not in place: {NOT_ADAPTIVE}", True)


def test_a_scale_in_place_restarts_nothing(world: World) -> None:
    world.runs(job_config={"flink_configuration": {"jobmanager.scheduler": "adaptive"}})
    world.job_manager.job_vertices = Vertices({"a": Vertex(1, 128), "b": Vertex(1, 128)})
    found = foresees(world, KindName.SCALE, parallelism=2)
    assert places(found) == {f"spec.flinkConfiguration.{OVERRIDES_KEY}": (None, "a:2,b:2", Cost.SCALE)}
    assert told(found) == (Cost.SCALE, "in place", True)


def test_a_scale_that_cannot_be_is_refused_before_it_is_sent(world: World) -> None:
    world.runs(job_config={"flink_configuration": {"jobmanager.scheduler": "adaptive"}})
    world.job_manager.job_vertices = Vertices({"a": Vertex(1, 4)})
    with pytest.raises(Conflict, match="cannot be scaled so: its state can be spread over 4 at most"):
        foresees(world, KindName.SCALE, parallelism=5)


def test_overrides_that_are_taken_away_are_a_redeploy_whatever_their_rule_says(world: World) -> None:
    world.runs(job_config={"flink_configuration": {"jobmanager.scheduler": "adaptive"}})
    world.job_manager.job_vertices = Vertices({"a": Vertex(1, 128)})
    world.scale(2)
    world.execute()
    world.becomes(job={"startTime": "2"})
    world.job_manager.job_vertices = Vertices({"a": Vertex(2, 128)})
    for _ in range(3):
        world.clock.advance(11)
        world.settle()
        world.services.redeliver.run()
    found = upgrade(world, parallelism=1)
    assert places(found)[f"spec.flinkConfiguration.{OVERRIDES_KEY}"] == ("a:2", None, Cost.SCALE)
    assert told(found) == (Cost.SCALE, "a redeploy with a savepoint", True)


def test_of_a_job_that_does_not_run_nobody_promises_state(world: World) -> None:
    world.runs()
    world.becomes(job={"state": "RESTARTING"})
    assert told(upgrade(world, args=["--b"])) == (Cost.UPGRADE, "a redeploy from its last checkpoint", None)
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update({FALLBACK: "false"}))
    world.becomes(job={"state": "RESTARTING"})
    found = upgrade(world, args=["--b"])
    assert told(found) == (Cost.UPGRADE, "a redeploy with a savepoint, once the job runs", True)


def taken_over(world: World, **spec: Any) -> None:
    """Somebody's deployment is the job shop."""
    applied(world, **spec)
    adopt(world)
    world.execute("shop")
    world.settle()


JOB = {"jarURI": "local:///opt/flink/a.jar", "parallelism": 2}


def test_an_adopted_job_keeps_its_way_of_keeping_state(world: World) -> None:
    taken_over(world, job={**JOB, "upgradeMode": "last-state"})
    found = foresees(world, KindName.RESTART, "shop")
    assert told(found) == (Cost.UPGRADE, "a redeploy from its last checkpoint", True)


@pytest.mark.parametrize(
    ("state", "causes"),
    [("running", "a redeploy without state"), ("suspended", "the job starts again without its state")],
)
def test_a_change_that_would_lose_state_says_so(world: World, state: str, causes: str) -> None:
    world.runs()
    world.edit(lambda whole: whole["spec"]["job"].update(upgradeMode="stateless", state=state))
    world.becomes()
    document = world.services.accept.proposed(KindName.RESTART, "orders", {}, tenant="default", source=HTTP)
    seeing = world.services.execute.observe.looked_at(document, deployment_of(world.whole()), world.clock.now())
    case = world.services.execute.looks.case(document, seeing.seen, world.whole())
    found = foreseen(case, [Change([diff.Change(("spec", "restartNonce"), 9)], Step.AWAIT_RUNNING)])
    assert isinstance(found, Foreseen)
    assert (found.causes, found.keeps_state) == (causes, False)


def test_a_spec_that_the_operator_has_not_begun_is_said(world: World) -> None:
    world.runs()
    world.edit(lambda whole: whole["spec"].update(image="by-hand:1"))
    found = upgrade(world, args=["--b"])
    assert found.foreseen.causes.endswith(
        "the operator has not begun the spec that stands there now, and will do both at once"
    )


@pytest.mark.parametrize(
    ("options", "causes"),
    [
        ({}, f"a redeploy with a savepoint; not in place: {NOT_ADAPTIVE}"),
        ({"scheduler-mode": "reactive"}, "in place"),
    ],
)
def test_a_standalone_deployment_scales_by_the_operators_rules_for_it(
    world: World, options: dict[str, str], causes: str
) -> None:
    job = {**JOB, "upgradeMode": "savepoint"}
    taken_over(world, mode="standalone", job=job, flinkConfiguration=options)
    found = foresees(world, KindName.SCALE, "shop", parallelism=3)
    assert places(found) == {"spec.job.parallelism": (2, 3, Cost.SCALE)}
    assert found.foreseen.causes == causes


def test_a_resume_goes_on_from_its_state_and_another_savepoint_leaves_it(world: World) -> None:
    world.runs()
    suspends(world)
    assert told(foresees(world, KindName.RESUME)) == (Cost.UPGRADE, "the job starts again", True)
    found = foresees(world, KindName.RESUME, start_from="s3://b/savepoint-2")
    assert told(found) == (Cost.SAVEPOINT_REDEPLOY, "a redeploy from s3://b/savepoint-2", False)


def test_a_new_job_is_its_manifest_as_it_would_be_made(world: World) -> None:
    arguments = {"job_config": {"script": SCRIPT, "args": ["--a"]}}
    found = foresees(world, KindName.SUBMIT, **arguments)
    assert (told(found), places(found)) == ((None, "run 1 is made", None), {})
    world.accept(KindName.SUBMIT, "orders", **arguments)
    world.execute()
    assert found.foreseen.manifest is not None
    assert found.foreseen.manifest["spec"] == world.whole()["spec"]


def test_a_new_job_without_a_name_is_called_like_a_rendered_one(world: World) -> None:
    found = foresees(world, KindName.SUBMIT, None, job_config={"script": SCRIPT})
    assert found.job_id == "job-00000000"


@pytest.mark.parametrize(
    ("start_from", "kept"), [(None, False), ("last", True), (SAVEPOINT, True), ("s3://b/savepoint-1", False)]
)
@pytest.mark.parametrize("end", [stops, finishes])
def test_another_run_starts_where_it_was_foreseen(
    world: World, start_from: str | None, kept: bool, end: Callable[[World], None]
) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.job_manager.checkpoint = SAVEPOINT
    end(world)
    arguments = {"job_config": {"script": SCRIPT, "args": ["--b"]}, "start_from": start_from}
    found = foresees(world, KindName.SUBMIT, **arguments)
    assert found.foreseen.keeps_state is kept
    assert ("what run 1 has left is removed" in found.foreseen.causes) == (end is finishes)
    assert bool(places(found)) == (end is finishes)
    world.accept(KindName.SUBMIT, "orders", **arguments)
    for _ in range(4):
        world.execute()
        world.clock.advance(10)
    assert found.foreseen.manifest is not None
    assert world.job().run == 2
    assert found.foreseen.manifest["spec"] == world.whole()["spec"]


def test_a_last_state_that_there_is_not_is_refused_as_it_would_end(world: World) -> None:
    with pytest.raises(InvalidRequest, match="it has no last state to start from"):
        foresees(world, KindName.SUBMIT, job_config={"script": SCRIPT}, start_from="last")


def test_a_name_that_somebody_else_has_is_refused(world: World) -> None:
    applied(world, "orders")
    with pytest.raises(Conflict, match="exists and is not this job's"):
        foresees(world, KindName.SUBMIT, job_config={"script": SCRIPT})


def rolls_back(world: World) -> dict[str, Any]:
    world.accept(KindName.UPGRADE, "orders", job_config={"args": ["--b"]})
    world.execute()
    world.becomes(job={"startTime": "2"})
    for _ in range(2):
        world.clock.advance(10)
        world.settle()
        world.services.redeliver.run()
    return {"to": 1}


DONE: dict[str, tuple[KindName, Callable[[World], dict[str, Any]]]] = {
    "args": (KindName.UPGRADE, lambda _: {"job_config": {"args": ["--b"]}}),
    "a program": (KindName.UPGRADE, lambda _: {"job_config": {"script": {"name": "job.py", "content": "print(2)"}}}),
    "many": (
        KindName.UPGRADE,
        lambda _: {"job_config": {"labels": {"team": "b"}, "env": {"LOG": "debug"}, "parallelism": 4}},
    ),
    "nothing": (KindName.UPGRADE, lambda _: {"job_config": {}}),
    "a scale": (KindName.SCALE, lambda _: {"parallelism": 3}),
    "TaskManagers": (KindName.SCALE, lambda _: {"task_managers": 3}),
    "a restart": (KindName.RESTART, lambda _: {}),
    "a rollback": (KindName.ROLLBACK, rolls_back),
    "a resume": (KindName.RESUME, lambda world: after(suspends, world)),
    "a resume from elsewhere": (KindName.RESUME, lambda world: after(suspends, world, start_from="s3://b/savepoint-1")),
}


@pytest.mark.parametrize("name", DONE)
def test_what_is_foreseen_is_what_is_done(name: str, world: World) -> None:
    kind, arguments_of = DONE[name]
    world.runs(job_config={"args": ["--a"], "env": {"LOG": "info"}})
    arguments = arguments_of(world)
    found = foresees(world, kind, **arguments)
    before = world.whole()
    world.accept(kind, "orders", **arguments)
    world.execute()
    done = [each for each in field_changes(before, world.whole()) if not each.path[-1].startswith(OURS)]
    assert list(found.foreseen.changes) == done


REFUSED: dict[str, tuple[Callable[[World], object], KindName, dict[str, Any]]] = {
    "no job": (lambda _: None, KindName.UPGRADE, {"job_config": {"args": ["--b"]}}),
    "a scale of no job": (lambda _: None, KindName.SCALE, {"parallelism": 2}),
    "a job that runs": (lambda world: world.runs(), KindName.SUBMIT, {"job_config": {"script": SCRIPT}}),
    "one that was stopped": (lambda world: rests(world, stops), KindName.SCALE, {"parallelism": 2}),
    "one that rests": (lambda world: rests(world, suspends), KindName.UPGRADE, {"job_config": {}}),
    "one that does not rest": (lambda world: world.runs(), KindName.RESUME, {}),
    "an unknown field": (lambda world: world.runs(), KindName.SCALE, {"parallelism": 2, "speed": 1}),
    "a bad value": (lambda world: world.runs(), KindName.SCALE, {"parallelism": 0}),
    "a bad request": (lambda world: world.runs(), KindName.UPGRADE, {"job_config": {"paralelism": 2}}),
    "outside of the policy": (lambda world: world.runs(), KindName.UPGRADE, {"job_config": {"image": "evil:1"}}),
    "a secret in the open": (
        lambda world: world.runs(),
        KindName.UPGRADE,
        {"job_config": {"args": ["--password=hunter2x"]}},
    ),
    "a template that there is not": (lambda _: None, KindName.SUBMIT, {"template_id": "none"}),
    "a version that there is not": (lambda world: world.runs(), KindName.ROLLBACK, {"to": 7}),
    "the present version": (lambda world: world.runs(), KindName.ROLLBACK, {"to": 1}),
}


def error_of(asked: Callable[[], object]) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        asked()
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_what_accept_refuses_is_refused_in_the_same_words(name: str, world: World) -> None:
    prepares, kind, arguments = REFUSED[name]
    prepares(world)
    foreseen = error_of(lambda: foresees(world, kind, **arguments))
    accepted = error_of(lambda: world.accept(kind, "orders", **arguments))
    assert (type(foreseen), str(foreseen)) == (type(accepted), str(accepted))


def test_what_would_wait_for_another_cannot_be_foreseen(world: World) -> None:
    world.runs()
    world.scale(2)
    world.execute()
    with pytest.raises(Conflict, match=r"SCALE is open \(operation .*\), and UPGRADE would wait for it"):
        upgrade(world, args=["--b"])


def test_a_scale_before_it_that_it_would_supersede_is_not_in_its_way(world: World) -> None:
    world.runs()
    world.scale(2)
    assert places(foresees(world, KindName.SCALE, parallelism=3))["spec.job.parallelism"][:2] == (1, 3)


def test_without_a_deployment_there_is_nothing_to_compare_with(world: World) -> None:
    world.runs()
    world.runtime.delete("default", "orders", world.job().deployment_uid or "")
    with pytest.raises(NotFound, match=r"its deployment is gone \(FlinkDeployment default/orders\)"):
        upgrade(world, args=["--b"])


def test_a_kubernetes_that_is_away_is_said(world: World) -> None:
    world.runs()
    world.runtime.outage = True
    with pytest.raises(Unavailable):
        upgrade(world, args=["--b"])


def test_what_was_edited_by_hand_is_compared_with_and_not_what_was_written(world: World) -> None:
    world.runs(job_config={"args": ["--a"]})
    world.edit(lambda whole: whole["spec"]["job"].update(parallelism=7))
    world.becomes()
    assert places(foresees(world, KindName.SCALE, parallelism=3))["spec.job.parallelism"][:2] == (7, 3)
    assert places(upgrade(world))["spec.job.parallelism"][:2] == (7, 1)


def test_a_savepoint_that_the_status_shows_first_is_not_put_on_record_by_looking(world: World) -> None:
    world.runs()
    world.becomes(job={"upgradeSavepointPath": SAVEPOINT})
    upgrade(world, args=["--b"])
    assert world.saved() == []
    world.settle()
    assert world.saved() == [SAVEPOINT]


def test_no_secret_is_shown_and_no_key_is_kept(world: World) -> None:
    world.runs(job_config={"env": {"LOG": "info"}})
    found = upgrade(world, env={"DB_PASSWORD": "hunter2hunter2"})
    assert "hunter2" not in str(found)
    assert any("DB_PASSWORD" in each for each in places(found))
    new = foresees(world, KindName.SUBMIT, "other", job_config={"script": SCRIPT, "env": {"A_TOKEN": "hunter2hunter2"}})
    assert "hunter2" not in str(new)


def test_what_looks_like_a_secret_in_an_edited_deployment_is_hidden(world: World) -> None:
    world.runs(job_config={"env": {"LOG": "info"}})

    def leaks(whole: dict[str, Any]) -> None:
        variables = whole["spec"]["podTemplate"]["spec"]["containers"][0]["env"]
        variables.append({"name": "DB_PASSWORD", "value": SECRET})
        whole["spec"]["jobManager"]["podTemplate"] = {"metadata": {"annotations": {"auth-token": SECRET}}}

    world.edit(leaks)
    world.becomes()
    found = upgrade(world, env={"LOG": "debug"})
    assert SECRET not in str(found.foreseen.changes)
    assert ("…", None) in {each[:2] for each in places(found).values()}


def test_an_adopted_deployment_says_that_its_first_change_keeps_state(world: World) -> None:
    taken_over(world)
    found = foresees(world, KindName.SCALE, "shop", parallelism=4)
    assert places(found)["spec.job.upgradeMode"] == ("stateless", "savepoint", Cost.IGNORE)
    assert told(found)[::2] == (Cost.UPGRADE, True)
    assert SECRET not in str(found)
    assert found.asked_for == []


@pytest.mark.parametrize(
    "kind", [each for each in KINDS.values() if not each.can_be_foreseen], ids=lambda kind: kind.name
)
def test_a_kind_that_has_no_dry_run_says_so_and_does_nothing(kind: Any, world: World) -> None:
    world.runs()
    with pytest.raises(InvalidRequest, match=f"dry_run: {kind.name} has none"):
        foresees(world, kind.name)


def test_a_record_cannot_be_a_dry_run_and_is_not_taken_for_the_real_one(world: World) -> None:
    world.runs()
    before = everything(world)
    record = b'{"operation": "SCALE", "job_id": "orders", "parallelism": 3, "dry_run": true}'
    with pytest.raises(InvalidRequest, match="dry_run: unknown field"):
        world.services.handle_record.handle(record, Origin("t", "id", 0, 0))
    assert everything(world) == before


def test_another_tenants_job_is_none(world: World) -> None:
    world.runs()
    with pytest.raises(NotFound):
        world.services.foresee.operation(
            KindName.SCALE, "orders", {"parallelism": 2}, tenant="other", source=Source(via="http")
        )


def test_changes_written_on_a_copy_leave_what_was_seen() -> None:
    live = {"spec": {"job": {"parallelism": 1}}}
    after = diff.applied_to(live, [diff.Change(("spec", "job", "parallelism"), 2), diff.Change(("spec", "x", "y"), 1)])
    assert after == {"spec": {"job": {"parallelism": 2}, "x": {"y": 1}}}
    assert live == {"spec": {"job": {"parallelism": 1}}}
