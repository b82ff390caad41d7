"""Jobs of the native runtime, and both runtimes in one installation: what people see of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from headrace.bootstrap import wired
from headrace.domain.deployments import Deployment
from headrace.domain.jobs import JobKey, Observation, Phase
from headrace.domain.operations import KindName, State
from headrace.domain.state_on_hand import Checkpoints
from headrace.errors import Conflict, InvalidRequest, Refused, Unavailable, Unreadable
from headrace.services.sync import LEASE_SECONDS
from headrace.settings import Settings
from headrace.testing import (
    FixedClock,
    InMemoryJobManager,
    InMemoryNativeRuntime,
    InMemoryQueue,
    InMemoryRuntime,
    InMemoryStore,
    NativeCluster,
)
from tests.support.world import World


@dataclass
class NativeWorld(World):
    """A world with both runtimes: the native one by default, and the operator's beside it."""

    native: InMemoryNativeRuntime

    def cluster(self, job_id: str = "orders") -> NativeCluster:
        return self.native.clusters["default", job_id]

    def runs_natively(self, job_id: str = "orders") -> None:
        self.submit(job_id)
        self.execute(job_id)
        self.passes()
        assert self.job(job_id).phase is Phase.RUNNING

    def passes(self, rounds: int = 6) -> None:
        for _ in range(rounds):
            self.settle()
            self.clock.advance(6)


@pytest.fixture
def world() -> NativeWorld:
    return world_of("native,operator")


def world_of(runtimes: str) -> NativeWorld:
    store, operator, native, queue = InMemoryStore(), InMemoryRuntime(), InMemoryNativeRuntime(), InMemoryQueue()
    job_manager, clock = InMemoryJobManager("file:/state/chk-3"), FixedClock()
    store.clock = clock
    services = wired(
        Settings(_env_file=None, runtimes=runtimes),
        store=store,
        queue=queue,
        runtime=operator,
        native=native,
        job_manager=job_manager,
        clock=clock,
        sealer=None,
    )
    return NativeWorld(services, store, operator, queue, job_manager, clock, native)


def test_each_job_runs_by_its_own_runtime_and_one_sync_follows_both(world: NativeWorld) -> None:
    world.runs_natively()
    world.runs("clicks", job_config={"runtime": "operator"})
    assert [world.job(each).runtime for each in ("orders", "clicks")] == ["native", "operator"]
    assert (world.runtime.created, world.native.created) == (1, 1)
    world.becomes("clicks", job={"state": "FAILED"})
    world.cluster().state = "FAILED"
    world.passes()
    assert [world.job(each).phase for each in ("orders", "clicks")] == [Phase.FAILED, Phase.FAILED]


def test_what_becomes_of_a_native_job_is_seen_though_no_event_tells(world: NativeWorld) -> None:
    world.runs_natively()
    for state, phase in (("RESTARTING", Phase.RESTARTING), ("RUNNING", Phase.RUNNING), ("FINISHED", Phase.FINISHED)):
        world.cluster().state = state
        world.passes(2)
        assert world.job().phase is phase


def test_a_job_manager_that_misses_an_answer_makes_its_record_stale_and_nothing_else(world: NativeWorld) -> None:
    world.runs_natively()
    world.runs_natively("clicks")
    world.cluster().is_silent, world.cluster("clicks").state = True, "RESTARTING"
    for _ in range(3):
        world.clock.advance(6)
        world.sync()
    assert [world.job(each).phase for each in ("orders", "clicks")] == [Phase.RUNNING, Phase.RESTARTING]
    assert [world.job(each).observation for each in ("orders", "clicks")] == [Observation.STALE, Observation.FRESH]
    stop = world.stop(drain=True)
    with pytest.raises(Unavailable):
        world.execute()
    assert world.operation(stop).reason == "waiting: the JobManager did not answer, though its pod is ready"
    world.cluster().is_silent = False
    world.clock.advance(60)
    world.execute()
    world.passes()
    assert world.operation(stop).state is State.SUCCEEDED
    assert world.operation(stop).savepoint_path == "file:/state/savepoints/savepoint-ffffff-1"


def test_what_a_silent_job_manager_hides_is_said_of_its_own_job_alone(world: NativeWorld) -> None:
    for each in ("a", "b"):
        world.runs_natively(each)
        world.cluster(each).state = "RESTARTING"
    world.passes(2)
    world.cluster("a").is_silent = True
    world.clock.advance(120)
    assert world.services.waits.run() == 2
    assert "did not answer, though its pod is ready" in world.job("a").reason
    assert "did not answer" not in world.job("b").reason


def test_a_silent_job_manager_is_asked_again_at_the_same_pace_however_long_it_lasts(world: NativeWorld) -> None:
    """Nobody would see for minutes that it answers again, or that it has been silent for long enough."""
    world.runs_natively()
    world.cluster().is_silent = True
    for _ in range(30):
        world.clock.advance(11)
        world.sync()
    world.cluster().is_silent, world.cluster().state = False, "FINISHED"
    for _ in range(2):
        world.clock.advance(11)
        world.sync()
    assert world.job().phase is Phase.FINISHED


@contextmanager
def twenty_silent_ones(world: NativeWorld) -> Iterator[None]:
    """Jobs whose JobManagers do not answer for now: each takes three seconds to look at."""
    silent, look = [f"silent-{n}" for n in range(20)], world.native.get

    def looks_for_long(namespace: str, name: str) -> Any:
        if name in silent:
            world.clock.advance(3)
        return look(namespace, name)

    for each in silent:
        world.runs_natively(each)
        world.cluster(each).is_silent = True
    world.clock.advance(60)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.native, "get", looks_for_long)
        yield
    for each in silent:
        world.cluster(each).is_silent = False
    world.passes(2)


def test_a_job_that_is_late_behind_silent_ones_says_so(world: NativeWorld) -> None:
    """No event tells what becomes of it: whoever read FRESH would take what is on record for what is."""
    world.runs_natively()
    with twenty_silent_ones(world):
        world.cluster().state = "RESTARTING"
        for _ in range(8):
            world.sync()
            world.clock.advance(5)
        assert (world.job().phase, world.job().observation) == (Phase.RUNNING, Observation.STALE)
        assert "not observed in time" in world.job().reason
    assert (world.job().phase, world.job().observation) == (Phase.RESTARTING, Observation.FRESH)
    assert "not observed in time" not in world.job().reason


def test_a_job_that_is_looked_at_for_another_reason_is_not_late(world: NativeWorld) -> None:
    world.runs_natively()
    with twenty_silent_ones(world):
        for run in range(30):
            world.native.set_status("default", "orders", {"replicas": run})
            world.sync()
            assert world.job().observation is Observation.FRESH
            world.clock.advance(5)


def test_a_job_that_has_failed_says_the_same_after_it_could_not_be_observed(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runs_natively()
    world.cluster().state = "FAILED"
    world.passes(12)
    before = world.job()
    assert before.phase is Phase.FAILED

    def refuses(_: str, name: str) -> Any:
        raise Unreadable(f"{name} cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(world.native, "get", refuses)
        world.clock.advance(120)
        world.sync()
        assert world.job().observation is Observation.STALE
    world.passes(40)
    assert (world.job().observation, world.job().reason) == (Observation.FRESH, before.reason)


def test_a_runtime_that_the_installation_has_not_is_refused(world: NativeWorld) -> None:
    with pytest.raises(InvalidRequest, match="this installation has no native"):
        world_of("operator").submit(job_config={"runtime": "native"})
    with pytest.raises(InvalidRequest, match="should be 'operator' or 'native'"):
        world.submit(job_config={"runtime": "yarn"})


def test_a_run_stays_by_its_runtime_and_the_next_may_go_by_another(world: NativeWorld) -> None:
    world.runs_natively()
    with pytest.raises(InvalidRequest, match="runs by the native runtime, and a run stays there"):
        world.accept(KindName.UPGRADE, "orders", job_config={"runtime": "operator"})
    world.stop()
    world.execute()
    world.passes()
    again = world.submit(job_config={"runtime": "operator"}, start_from="last")
    world.execute()
    world.becomes()
    world.passes()
    assert world.operation(again).state is State.SUCCEEDED
    assert world.job().runtime == "operator"
    assert world.whole()["spec"]["job"]["initialSavepointPath"] == "file:/state/savepoints/savepoint-ffffff-1"


def test_a_job_of_a_runtime_that_this_process_has_not_waits(world: NativeWorld) -> None:
    world.runs_natively()
    document = world.store.document(JobKey("default", "orders"))
    assert document is not None
    world.store.write(document, replace(document, job=replace(document.job, runtime="yarn"), revision=99))
    world.stop()
    with pytest.raises(Unavailable, match="HEADRACE_RUNTIMES"):
        world.execute()


def test_what_needs_flinks_command_line_is_handed_to_a_worker_that_has_it(world: NativeWorld) -> None:
    world.native.has_launcher = False
    operation = world.submit()
    world.execute()
    world.passes(1)
    assert world.queue.launched[:1] == [JobKey("default", "orders")]
    assert world.operation(operation).is_open
    world.native.has_launcher = True
    world.execute()
    world.passes()
    assert world.operation(operation).state is State.SUCCEEDED


@pytest.mark.parametrize("kind", [KindName.RESTART, KindName.UPGRADE, KindName.SCALE])
def test_without_a_launcher_no_job_is_ended_to_be_started_anew(world: NativeWorld, kind: KindName) -> None:
    world.runs_natively()
    before = world.cluster().job_id
    world.native.has_launcher = False
    asked = {KindName.UPGRADE: {"job_config": {"args": ["--b"]}}, KindName.SCALE: {"parallelism": 2}}
    operation = world.accept(kind, "orders", **asked.get(kind, {}))
    world.execute()
    world.passes(3)
    assert world.operation(operation).is_open
    assert world.cluster().has_pods
    assert not world.cluster().triggered
    assert JobKey("default", "orders") in world.queue.launched
    world.native.has_launcher = True
    world.execute()
    world.passes()
    assert world.operation(operation).state is State.SUCCEEDED
    assert world.cluster().job_id != before


def test_a_restart_by_another_release_than_the_launchers_ends_in_words_and_the_job_runs_on(world: NativeWorld) -> None:
    world.runs_natively()
    before = world.cluster().job_id
    world.native.release = (2, 3, 0)
    operation = world.accept(KindName.RESTART, "orders")
    world.execute()
    world.passes(12)
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "orders wants Flink 2.2, and the launcher has 2.3.0" in ended.reason
    assert (world.job().phase, world.cluster().job_id) == (Phase.RUNNING, before)
    assert world.cluster().has_pods


def test_an_act_that_a_server_refuses_is_said_on_the_job_once_its_operation_has_ended(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise Refused("an admission webhook denied it: image not signed")

    monkeypatch.setattr(world.native, "drive", refuses)
    operation = world.submit()
    world.execute()
    world.passes()
    assert world.operation(operation).state is State.FAILED
    world.execute()
    assert world.job().reason == "LAUNCH: an admission webhook denied it: image not signed"


def test_that_no_worker_starts_it_is_said(world: NativeWorld) -> None:
    world.native.has_launcher = False
    world.submit()
    world.execute()
    for _ in range(20):
        world.settle()
        world.clock.advance(6)
    job = world.job()
    assert (job.phase, job.reason) == (Phase.SUBMITTING, "no worker has started it within 90 s")
    assert "FLINK_HOME" in job.next_step


def test_a_start_that_is_refused_fails_in_words_and_its_stop_needs_no_force(world: NativeWorld) -> None:
    world.native.refusal = "bin/flink ended with 1 for orders: no such option"
    operation = world.submit()
    world.execute()
    world.passes()
    ended = world.operation(operation)
    assert ended.state is State.FAILED
    assert "no such option" in ended.reason
    assert world.job().phase is Phase.FAILED
    stop = world.stop()
    world.execute()
    world.passes()
    assert world.operation(stop).state is State.SUCCEEDED
    assert not world.native.clusters


def test_a_stop_whose_savepoint_fails_leaves_the_job_running(world: NativeWorld) -> None:
    world.runs_natively()
    world.cluster().failure = "java.io.IOException: disk full"
    stop = world.stop()
    world.execute()
    world.passes(30)
    ended = world.operation(stop)
    assert ended.state is State.FAILED
    assert "disk full" in ended.reason
    assert world.job().phase is Phase.RUNNING
    assert world.cluster().has_pods


def test_a_job_that_does_not_run_is_stopped_with_its_last_checkpoint(world: NativeWorld) -> None:
    world.runs_natively()
    world.cluster().state = "RESTARTING"
    world.passes(2)
    stop = world.stop()
    world.execute()
    world.passes(10)
    assert world.operation(stop).state is State.SUCCEEDED
    assert world.operation(stop).savepoint_path == "file:/state/chk-3"
    assert world.job().savepoint_path == "file:/state/chk-3"
    assert not world.native.clusters


def test_a_job_whose_state_nobody_knows_is_not_put_down(world: NativeWorld) -> None:
    world.runs_natively()
    world.cluster().answers = False
    world.job_manager.checkpoint = Unavailable("connection refused")
    world.passes(2)
    stop = world.stop()
    world.execute()
    world.passes(4)
    assert world.operation(stop).is_open
    assert "last state cannot be read" in world.operation(stop).reason
    assert world.cluster().has_pods
    forced = world.accept(KindName.DELETE, "orders", force=True)
    world.execute()
    world.passes()
    assert world.operation(forced).state is State.SUCCEEDED
    assert not world.native.clusters


def test_a_run_that_failed_is_followed_by_one_from_its_last_checkpoint(world: NativeWorld) -> None:
    """Its JobManager goes before its Deployment does: what it said of its state is on record by then, and stays so."""
    answers_while_it_stands(world)
    world.runs_natively()
    world.cluster().state = "FAILED"
    world.passes(2)
    again = world.submit(start_from="last")
    for _ in range(4):
        world.execute()
        world.passes(3)
    assert world.operation(again).state is State.SUCCEEDED
    assert world.cluster().start_from == "file:/state/chk-3"


@pytest.mark.parametrize("checkpoint", [None, "file:/state/chk-3"])
def test_a_job_that_fails_while_it_is_stopped_is_started_again_with_what_it_had(
    world: NativeWorld, checkpoint: str | None
) -> None:
    """Flink has removed the HA metadata of a job that has ended, and its JobManager is put down: what that said last is
    all that is known."""
    world.job_manager.checkpoint = checkpoint
    answers_while_it_stands(world)
    world.runs_natively()
    world.cluster().failure = "the job failed"
    restart = world.accept(KindName.RESTART, "orders")
    world.execute()
    world.cluster().state = "FAILED"
    world.passes(10)
    assert world.operation(restart).state is State.SUCCEEDED
    assert (world.cluster().launches, world.cluster().start_from) == (2, checkpoint)


def answers_while_it_stands(world: NativeWorld) -> None:
    """The JobManager knows of checkpoints as long as its pod is there."""
    there, asked = world.job_manager, world.job_manager.checkpoints

    def checkpoints(namespace: str, name: str, flink_job_id: str) -> Checkpoints:
        cluster = world.native.clusters.get((namespace, name))
        if cluster is None or not cluster.has_pods:
            raise Unavailable("connection refused")
        return asked(namespace, name, flink_job_id)

    object.__setattr__(there, "checkpoints", checkpoints)


def test_what_an_operation_has_begun_is_done_though_it_has_ended(world: NativeWorld) -> None:
    """A SUSPEND ends at its deadline after its stop was asked for: what Flink did is noted all the same."""
    world.runs_natively()
    suspend = world.accept(KindName.SUSPEND, "orders")
    world.execute()
    document = world.store.document(JobKey("default", "orders"))
    assert document is not None
    operation = document.oldest
    assert operation is not None
    ended = document.with_operation(operation.ended(State.FAILED, "its deadline passed", world.clock.now()))
    world.store.write(document, replace(ended, revision=document.revision + 1))
    world.passes(10)
    assert world.operation(suspend).state is State.FAILED
    status = world.native.get("default", "orders")
    assert status is not None
    assert status.status is not None
    assert status.status.act is None


def test_a_batch_job_that_ends_is_on_record_before_it_is_removed(world: NativeWorld) -> None:
    world.runs_natively()
    world.cluster().state = "FINISHED"
    world.passes(2)
    assert world.job().phase is Phase.FINISHED
    assert world.native.clusters
    world.services.prune.run()
    world.execute()
    world.passes()
    assert (world.job().phase, world.native.clusters) == (Phase.FINISHED, {})


def test_what_a_failed_run_leaves_is_kept_to_be_looked_at(world: NativeWorld) -> None:
    world.runs_natively()
    world.cluster().state = "FAILED"
    world.passes(2)
    assert world.job().phase is Phase.FAILED
    world.services.prune.run()
    world.passes()
    assert world.cluster().has_pods


def test_nothing_is_adopted_where_there_is_no_operator() -> None:
    with pytest.raises(Conflict, match="no operator"):
        world_of("native").accept(KindName.ADOPT, "shop")


def test_a_rollback_without_a_version_is_refused_in_words(world: NativeWorld) -> None:
    world.runs_natively()
    world.native.outage = True  # a consumer's account may not even look at its pods
    with pytest.raises(Conflict, match="keeps no last stable spec"):
        world.accept(KindName.ROLLBACK, "orders")


def test_a_lost_record_is_rebuilt_by_the_runtime_that_its_log_names(world: NativeWorld) -> None:
    world.submit("clicks", job_config={"runtime": "operator"})
    world.execute("clicks")
    del world.store._documents[JobKey("default", "clicks")]
    rebuilt = world.services.records.read(JobKey("default", "clicks"))
    assert rebuilt is not None
    assert rebuilt.job.runtime == "operator"


def looks_that_last(world: NativeWorld, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that are looked at from now on, in turn: a JobManager that does not answer takes seconds to say so."""
    looked_at: list[str] = []
    at_once = world.native.get

    def lasts(namespace: str, name: str) -> Deployment | None:
        looked_at.append(name)
        world.clock.advance(0 if world.cluster(name).answers else 5)
        return at_once(namespace, name)

    monkeypatch.setattr(world.native, "get", lasts)
    return looked_at


def test_clusters_that_do_not_answer_hold_up_nobody_else_and_starve_none(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that dies takes its JobManagers with it."""
    names = [f"n{i}" for i in range(14)]
    for each in names:
        world.submit(each)
        world.execute(each)
    world.runs("clicks", job_config={"runtime": "operator"})
    world.passes(4)
    for each in names[:10]:
        world.cluster(each).answers = False
    looked_at = looks_that_last(world, monkeypatch)
    world.becomes("clicks", job={"state": "FAILED"})
    world.clock.advance(6)
    begun = world.clock.now()
    world.sync()
    assert world.job("clicks").phase is Phase.FAILED
    assert (world.clock.now() - begun).total_seconds() < LEASE_SECONDS / 2
    for _ in range(2):
        looked_at.clear()
        for _ in range(10):
            world.sync()
        assert set(looked_at) == set(names)


def test_what_the_watch_tells_of_clusters_that_do_not_answer_is_put_off_too(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"n{i}" for i in range(10)]
    for each in ("answers", *names):
        world.submit(each)
        world.execute(each)
    world.passes(4)
    world.sync()
    world.cluster("answers").state = "FAILED"
    for each in names:
        world.cluster(each).answers = False
    for each in ("answers", *names):
        world.native.set_status("default", each, {})  # an event
    looked_at = looks_that_last(world, monkeypatch)
    begun = world.clock.now()
    world.sync()
    assert world.job("answers").phase is Phase.FAILED
    assert (world.clock.now() - begun).total_seconds() < LEASE_SECONDS / 2
    for _ in range(9):
        world.sync()
    assert set(looked_at) == {"answers", *names}
    world.cluster("answers").state = "RUNNING"
    world.native.set_status("default", "answers", {})
    looked_at.clear()
    world.sync()
    assert set(names) & set(looked_at)
    assert world.job("answers").phase is Phase.RUNNING  # beside those whose turn it was
