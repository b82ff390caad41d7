"""SCALE in place by the adaptive scheduler, or by a redeploy: which, why, and what stands on the deployment."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.domain.jobs import Phase
from headrace.domain.operations import KindName, Operation, State
from headrace.domain.runtimes.operator.in_place import GRAPH_SECONDS
from headrace.domain.vertices import OVERRIDES_KEY, Vertex, Vertices, as_overrides, overrides_of
from headrace.errors import Unavailable
from tests.support.world import UPGRADE_FAILURE, World

ADAPTIVE = {"jobmanager.scheduler": "adaptive"}
SOURCE, WINDOW, SINK = "cbc357cc", "90bea66d", "feca28af"


def vertices(*counts: int, most: int = 128) -> Vertices:
    names = (SOURCE, WINDOW, SINK)
    return Vertices({name: Vertex(count, most) for name, count in zip(names, counts, strict=False)})


def runs(world: World, configuration: dict[str, str] | None = None, **fields: Any) -> None:
    config = {"flink_configuration": ADAPTIVE if configuration is None else configuration, **fields}
    world.runs(job_config=config)
    world.job_manager.job_vertices = vertices(1, 1)


def scales(world: World, parallelism: int) -> Operation:
    operation = world.scale(parallelism)
    world.execute()
    return operation


def overrides(world: World) -> str | None:
    found: str | None = world.whole()["spec"]["flinkConfiguration"].get(OVERRIDES_KEY)
    return found


def parallelism(world: World) -> int:
    count: int = world.whole()["spec"]["job"]["parallelism"]
    return count


def looks_again(world: World) -> None:
    """The sync looks, and what that woke executes."""
    world.clock.advance(11)
    world.settle()
    world.services.redeliver.run()


def rescaled(world: World, parallelism: int) -> None:
    """A job that was scaled in place, and runs at that."""
    scales(world, parallelism)
    world.becomes()
    world.job_manager.job_vertices = vertices(parallelism, parallelism)
    looks_again(world)


def test_it_writes_the_overrides_alone(world: World) -> None:
    runs(world)
    before = world.whole()["spec"]
    scales(world, 2)
    assert overrides(world) == f"{WINDOW}:2,{SOURCE}:2"
    after = world.whole()["spec"]
    del after["flinkConfiguration"][OVERRIDES_KEY]
    assert after == before


def test_it_has_succeeded_when_the_jobmanager_shows_it_and_not_when_the_operator_says_stable(world: World) -> None:
    runs(world)
    operation = scales(world, 2)
    world.becomes()
    looks_again(world)
    assert world.operation(operation).state is State.RUNNING
    assert "it runs at 1 still" in world.operation(operation).reason
    assert world.job().phase is Phase.SCALING
    world.job_manager.job_vertices = vertices(2, 2)
    looks_again(world)
    done = world.operation(operation)
    assert (done.state, done.reason) == (State.SUCCEEDED, "in place: the job runs at 2")
    assert (world.job().phase, world.job().parallelism) == (Phase.RUNNING, 2)
    assert world.phases()[-2:] == ["SCALING", "RUNNING"]


def test_whoever_says_what_it_waits_for_puts_no_look_off(world: World) -> None:
    runs(world)
    operation = scales(world, 2)
    world.becomes()
    looks_again(world)
    world.clock.advance(20)
    world.job_manager.job_vertices = vertices(2, 2)
    for _ in range(3):  # as often as Beat asks for it, and no event comes any more
        world.clock.advance(9.5)
        world.services.waits.run()
        world.settle()
        world.services.redeliver.run()
    world.settle()
    assert world.operation(operation).state is State.SUCCEEDED


def test_what_flink_restarts_to_rescale_is_no_restart_of_its_own(world: World) -> None:
    runs(world)
    scales(world, 2)
    world.becomes()
    looks_again(world)
    world.becomes(job={"state": "RESTARTING"})
    looks_again(world)
    assert (world.job().phase, world.job().restarts) == (Phase.SCALING, 0)


def test_one_whose_slots_never_come_says_so_at_its_deadline(world: World) -> None:
    runs(world)
    operation = scales(world, 2)
    world.becomes()
    for _ in range(100):
        looks_again(world)
    done = world.operation(operation)
    assert done.state is State.FAILED
    assert "it runs at 1 still: more needs free slots" in done.reason


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"configuration": {}}, "its scheduler is not the adaptive one"),
        ({"resources": {"task_manager": {"replicas": 1}}}, "its TaskManagers are counted"),
    ],
)
def test_where_the_operator_would_not_it_redeploys_and_says_why(world: World, fields: Any, why: str) -> None:
    runs(world, **fields)
    operation = scales(world, 2)
    assert overrides(world) is None
    world.becomes()
    looks_again(world)
    done = world.operation(operation)
    assert done.state is State.SUCCEEDED
    assert done.reason.startswith(f"the job is RUNNING, by a redeploy: {why}")


def test_where_its_vertices_are_not_known_it_redeploys(world: World) -> None:
    runs(world)
    world.job_manager.job_vertices = Unavailable("connection refused")
    operation = scales(world, 3)
    assert (overrides(world), parallelism(world)) == (None, 3)
    world.becomes()
    looks_again(world)
    assert "its vertices are not known (connection refused)" in world.operation(operation).reason


def test_a_graph_that_is_not_there_for_a_moment_is_looked_for_again(world: World) -> None:
    runs(world)
    shown, world.job_manager.job_vertices = world.job_manager.job_vertices, Vertices({})
    operation = scales(world, 2)
    assert (overrides(world), parallelism(world)) == (None, 1)  # nothing is written before the way is known
    assert "shows no vertices" in world.operation(operation).reason
    world.job_manager.job_vertices = shown
    looks_again(world)
    assert overrides_of(overrides(world)) == {SOURCE: 2, WINDOW: 2}


def test_a_graph_that_does_not_come_is_not_waited_for_for_long(world: World) -> None:
    runs(world)
    world.job_manager.job_vertices = Vertices({})
    operation = scales(world, 2)
    for _ in range(1 + int(GRAPH_SECONDS // 11) + 1):
        looks_again(world)
    assert (overrides(world), parallelism(world)) == (None, 2)
    world.becomes()
    looks_again(world)
    assert "by a redeploy: its JobManager shows no vertices of it" in world.operation(operation).reason


def test_a_redeploy_folds_the_parallelism_in_and_drops_the_overrides(world: World) -> None:
    runs(world)
    rescaled(world, 2)
    world.job_manager.job_vertices = Unavailable("connection refused")
    operation = scales(world, 3)
    assert (overrides(world), parallelism(world)) == (None, 3)
    world.becomes()
    looks_again(world)
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().parallelism == 3


def test_it_scales_back_in_place_and_removes_no_override(world: World) -> None:
    runs(world)
    rescaled(world, 2)
    scales(world, 1)
    assert overrides(world) == f"{WINDOW}:1,{SOURCE}:1"


def test_a_vertex_with_a_parallelism_of_its_own_keeps_it(world: World) -> None:
    runs(world, parallelism=2)
    world.job_manager.job_vertices = vertices(2, 2, 1)
    scales(world, 4)
    assert overrides_of(overrides(world)) == {SOURCE: 4, WINDOW: 4, SINK: 1}


def test_a_job_that_is_short_of_slots_is_scaled_in_place(world: World) -> None:
    runs(world, parallelism=4)
    world.job_manager.job_vertices = vertices(2, 2, 1)
    scales(world, 3)
    assert overrides_of(overrides(world)) == {SOURCE: 3, WINDOW: 3, SINK: 1}


def test_what_a_vertex_of_its_own_is_to_run_at_holds_while_slots_are_short(world: World) -> None:
    """Both run at 2 for now, and the JobManager says that the second is to run at 7."""
    runs(world, parallelism=4)
    short = {SOURCE: Vertex(2, 128, required=4), SINK: Vertex(2, 128, required=7)}
    world.job_manager.job_vertices = Vertices(short)
    scales(world, 3)
    assert overrides_of(overrides(world)) == {SOURCE: 3, SINK: 7}


def test_it_says_the_jobs_parallelism_and_no_vertex_own(world: World) -> None:
    runs(world)
    world.job_manager.job_vertices = vertices(1, 1, 7)
    operation = scales(world, 2)
    world.becomes()
    world.job_manager.job_vertices = vertices(2, 2, 7)
    looks_again(world)
    assert world.operation(operation).reason == "in place: the job runs at 2"


def test_a_redeploy_drops_overrides_that_somebody_else_has_written(world: World) -> None:
    """The job would run at those, whatever its parallelism."""
    runs(world, configuration={})
    written = {OVERRIDES_KEY: f"{SOURCE}:5,{WINDOW}:5"}
    world.edit(lambda whole: whole["spec"]["flinkConfiguration"].update(written))
    world.becomes()
    scales(world, 3)
    assert (overrides(world), parallelism(world)) == (None, 3)


def test_a_vertex_that_can_only_run_once_keeps_at_that(world: World) -> None:
    runs(world)
    world.job_manager.job_vertices = Vertices({SOURCE: Vertex(1, 1), WINDOW: Vertex(1, 128)})
    scales(world, 4)
    assert overrides_of(overrides(world)) == {SOURCE: 1, WINDOW: 4}


def test_more_than_its_state_can_be_spread_over_is_refused_in_words(world: World) -> None:
    runs(world)
    world.job_manager.job_vertices = vertices(1, 1, most=8)
    operation = scales(world, 9)
    done = world.operation(operation)
    assert done.state is State.FAILED
    assert "its state can be spread over 8 at most" in done.reason
    assert (overrides(world), parallelism(world)) == (None, 1)


def test_the_way_is_decided_once(world: World) -> None:
    """The patch was lost, and the JobManager is away by the next try."""
    runs(world)
    patch, calls = world.runtime.patch, []

    def lost(*arguments: Any) -> Any:
        calls.append(arguments)
        raise Unavailable("reset by peer")

    world.runtime.patch = lost  # type: ignore[method-assign]
    world.scale(2)
    with pytest.raises(Unavailable):
        world.execute()
    world.runtime.patch = patch  # type: ignore[method-assign]
    world.job_manager.job_vertices = Unavailable("connection refused")
    world.clock.advance(11)
    looks_again(world)
    world.execute()
    assert (overrides(world), parallelism(world)) == (f"{WINDOW}:2,{SOURCE}:2", 1)
    assert calls


def test_one_that_the_operator_cannot_do_is_taken_back(world: World) -> None:
    runs(world)
    operation = scales(world, 2)
    world.becomes(observedGeneration=1, error=UPGRADE_FAILURE)
    for _ in range(12):
        looks_again(world)
    assert world.operation(operation).state is State.FAILED
    assert overrides(world) is None


def test_an_upgrade_after_it_keeps_the_parallelism_and_drops_the_overrides(world: World) -> None:
    runs(world)
    rescaled(world, 2)
    world.accept(KindName.UPGRADE, "orders", job_config={"args": ["--fast"]})
    world.execute()
    assert (overrides(world), parallelism(world)) == (None, 2)


def test_the_options_text_is_read_as_it_is_written() -> None:
    assert overrides_of(as_overrides({"b": 2, "a": 1})) == {"a": 1, "b": 2}
    assert overrides_of(None) == {}
    assert overrides_of("a:1, b:x,c") == {"a": 1}


def test_a_higher_parallelism_of_a_vertex_of_its_own_is_not_taken_for_the_jobs(world: World) -> None:
    runs(world, parallelism=2)
    world.job_manager.job_vertices = vertices(2, 2, 4)
    scales(world, 3)
    world.becomes()
    world.job_manager.job_vertices = vertices(3, 3, 4)
    looks_again(world)
    scales(world, 5)
    assert overrides_of(overrides(world)) == {SOURCE: 5, WINDOW: 5, SINK: 4}


def adopts(world: World, configuration: dict[str, Any]) -> None:
    """A job whose options somebody else wrote."""
    job = {"jarURI": "local:///opt/flink/a.jar", "parallelism": 1, "upgradeMode": "savepoint"}
    spec = {"flinkVersion": "v1_20", "flinkConfiguration": configuration, "job": job}
    metadata = {"name": "orders", "namespace": "default"}
    world.runtime.create({"kind": "FlinkDeployment", "metadata": metadata, "spec": spec})
    world.becomes()
    world.accept(KindName.ADOPT, "orders")
    world.execute()
    world.settle()
    world.job_manager.job_vertices = vertices(1, 1)


@pytest.mark.parametrize("slots", ["two", "2.0", "-2", {"a": 1}, None])
def test_slots_that_are_no_count_raise_nothing(world: World, slots: Any) -> None:
    adopts(world, {**ADAPTIVE, "taskmanager.numberOfTaskSlots": slots})
    world.accept(KindName.SCALE, "orders", task_managers=2)
    world.execute()
    assert overrides(world) == f"{WINDOW}:2,{SOURCE}:2"


def test_options_that_somebody_wrote_as_a_tree_are_read_too(world: World) -> None:
    adopts(world, {"jobmanager": {"scheduler": "adaptive"}, "taskmanager": {"numberOfTaskSlots": 3}})
    world.accept(KindName.SCALE, "orders", task_managers=2)
    world.execute()
    assert overrides(world) == f"{WINDOW}:6,{SOURCE}:6"


def test_to_what_it_runs_at_it_scales_in_place_and_changes_nothing(world: World) -> None:
    runs(world)
    rescaled(world, 2)
    before = world.whole()["spec"]
    operation = scales(world, 2)
    world.becomes()
    looks_again(world)
    assert world.whole()["spec"] == before
    assert world.operation(operation).reason == "in place: the job runs at 2"


def test_where_somebody_has_changed_the_deployment_it_is_a_redeploy_that_sets_that_right(world: World) -> None:
    """The operator would redeploy for what is written back with the overrides."""
    runs(world)
    world.edit(lambda whole: whole["spec"]["job"].update(parallelism=3))
    world.becomes()
    operation = scales(world, 2)
    assert (overrides(world), parallelism(world)) == (None, 2)
    world.becomes()
    looks_again(world)
    done = world.operation(operation)
    assert done.state is State.SUCCEEDED
    assert done.reason.startswith("the job is RUNNING, by a redeploy: its deployment was changed outside Headrace")


def test_one_that_finishes_meanwhile_has_succeeded(world: World) -> None:
    runs(world)
    operation = scales(world, 2)
    world.becomes(job={"state": "FINISHED"})
    looks_again(world)
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.job().phase is Phase.FINISHED


def test_an_override_too_long_for_a_number_is_left_out() -> None:
    assert overrides_of("a:1,b:" + "9" * 5000) == {"a": 1}
