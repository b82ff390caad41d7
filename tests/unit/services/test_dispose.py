"""Savepoints that go: which, when and by whom; and which stay whatever is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headrace.domain.jobs import JobKey, Phase
from headrace.domain.operations import KindName
from headrace.domain.savepoints import Savepoint
from headrace.errors import Conflict, NotFound, Refused, Unavailable
from headrace.services.dispose import AT_ONCE, LOOKED_FOR_EVERY_SECONDS, TRIED_AGAIN_AFTER
from headrace.settings import Settings
from tests.support.world import World

KEY = JobKey("default", "orders")
RUNS = "job orders is RUNNING"
LATER = Settings(_env_file=None).savepoint_disposal_notice_seconds + 1


def runs_with(world: World, count: int, **settings: Any) -> list[str]:
    """A job that runs and has so many savepoints of one day each, the oldest first."""
    world.runs(job_config={"savepoints": settings} if settings else {})
    world.settle()
    now, paths = world.clock.now(), [f"s3://b/savepoint-{number}" for number in range(count)]
    for age, path in enumerate(reversed(paths)):
        at = now - timedelta(days=age)
        made = Savepoint(tenant="default", job_id="orders", path=path, kind="savepoint", run=1, at=at)
        world.store.add_savepoint(made)
    return paths


def listed(world: World) -> list[str]:
    return [each.path for each in reversed(world.store.savepoints_of("default", "orders", None, 100))]


def passes(world: World, seconds: float = LATER) -> None:
    """A round that marks, and one that removes."""
    world.services.dispose.run()
    world.clock.advance(seconds)
    world.services.dispose.run()


def enters(world: World, phase: Phase) -> None:
    document = world.store.document(KEY)
    assert document is not None
    world.store.write(document, document.entering(phase, world.clock.now()))


def is_saved(world: World, job_id: str, path: str, **told: Any) -> Savepoint:
    made = Savepoint(tenant="default", job_id=job_id, path=path, kind="savepoint", run=1, at=world.clock.now())
    world.store.add_savepoint(replace(made, **told))
    return replace(made, **told)


def test_what_is_beyond_the_count_goes_through_flink_after_its_time(world: World) -> None:
    paths = runs_with(world, 5, kept=2)
    world.services.dispose.run()
    assert world.job_manager.disposed == []
    assert listed(world) == paths
    world.clock.advance(LATER)
    world.services.dispose.run()
    assert sorted(world.job_manager.disposed) == paths[:3]
    assert listed(world) == paths[3:]


def test_what_is_too_old_goes_and_never_the_last(world: World) -> None:
    paths = runs_with(world, 4, kept_days=1.5)
    world.clock.advance(timedelta(days=100).total_seconds())
    passes(world)
    assert listed(world) == paths[3:]


def test_what_is_beyond_is_looked_for_once_an_hour(world: World) -> None:
    paths = runs_with(world, 2, kept=2)
    world.services.dispose.run()
    newest = Savepoint(
        tenant="default", job_id="orders", path="s3://b/savepoint-9", kind="savepoint", run=1, at=world.clock.now()
    )
    world.clock.advance(1)
    world.store.add_savepoint(replace(newest, at=world.clock.now()))
    world.services.dispose.run()
    assert world.store.savepoints_at(paths[0])[0].disposing_since is None
    world.clock.advance(LOOKED_FOR_EVERY_SECONDS)
    world.services.dispose.run()
    assert world.store.savepoints_at(paths[0])[0].disposing_since is not None


def test_without_settings_all_stay(world: World) -> None:
    paths = runs_with(world, 5)
    passes(world)
    assert (listed(world), world.job_manager.disposed) == (paths, [])


def test_what_another_job_started_from_or_is_asked_to_stays(world: World) -> None:
    paths = runs_with(world, 5, kept=1)
    world.runs("other", start_from=paths[0])
    world.submit("third", start_from=f"s3a://b//{paths[1].rpartition('/')[2]}/_metadata")
    passes(world)
    assert listed(world) == [paths[0], paths[1], paths[4]]
    assert sorted(world.job_manager.disposed) == paths[2:4]


def test_a_request_that_comes_between_the_mark_and_the_removal_is_refused(world: World) -> None:
    paths = runs_with(world, 3, kept=1)
    world.services.dispose.run()
    with pytest.raises(Conflict, match="is being disposed of"):
        world.submit("other", start_from=paths[0])
    world.clock.advance(LATER)
    world.services.dispose.run()
    with pytest.raises(Conflict, match="or is gone; choose another"):
        world.submit("other", start_from=paths[0])


def test_a_request_that_was_accepted_as_it_was_marked_keeps_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had looked before the mark, and is in the log after it."""
    paths = runs_with(world, 2, kept=1)
    looked = world.store.savepoints_at

    def as_before(path: str) -> list[Savepoint]:
        return [replace(each, disposing_since=None) for each in looked(path)]

    world.services.dispose.run()
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "savepoints_at", as_before)
        world.submit("other", start_from=paths[0])
    world.clock.advance(LATER)
    world.services.dispose.run()
    assert (world.job_manager.disposed, listed(world)) == ([], paths)
    kept = world.store.savepoints_at(paths[0])[0]
    assert (kept.disposing_since, kept.trouble) == (None, "it stays: job other has started from it, or would")


def test_the_state_that_a_suspended_job_rests_with_stays(world: World) -> None:
    paths = runs_with(world, 3, kept=1)
    world.accept(KindName.SUSPEND, "orders")
    world.execute()
    world.is_suspended(paths[0])
    world.settle()
    world.execute()
    passes(world)
    assert paths[0] in listed(world)


def test_nothing_goes_while_no_jobmanager_can_remove_it(world: World) -> None:
    paths = runs_with(world, 3)
    world.services.dispose.ask("default", paths[0])
    enters(world, Phase.RESTARTING)
    passes(world)
    assert (listed(world), world.job_manager.disposed) == (paths, [])
    assert "once job orders is RUNNING; it is RESTARTING" in world.store.savepoints_at(paths[0])[0].trouble


@pytest.mark.parametrize("phase", [Phase.SUSPENDED, Phase.FAILED, Phase.CANCELLED])
def test_what_nobody_would_remove_for_long_stays_to_start_from(world: World, phase: Phase) -> None:
    paths = runs_with(world, 3)
    world.services.dispose.ask("default", paths[0])
    enters(world, phase)
    passes(world)
    kept = world.store.savepoints_at(paths[0])[0]
    assert (kept.disposing_since, kept.trouble) == (
        None,
        f"it stays: its JobManager removes it once {RUNS}; it is {phase}",
    )
    with pytest.raises(Conflict, match=f"is not disposed of: its JobManager removes it once {RUNS}; it is {phase}"):
        world.services.dispose.ask("default", paths[0])


@pytest.mark.parametrize("error", [Unavailable("no answer"), Refused("Flink did not remove it: access denied")])
def test_what_fails_says_why_and_is_tried_again_after_a_while(world: World, error: Any) -> None:
    paths = runs_with(world, 2, kept=1)
    world.job_manager.disposal = error
    passes(world)
    kept = world.store.savepoints_at(paths[0])[0]
    assert (kept.disposed_at, kept.trouble) == (None, str(error))
    world.job_manager.disposal = None
    world.services.dispose.run()
    assert world.job_manager.disposed == []
    world.clock.advance(TRIED_AGAIN_AFTER.total_seconds())
    world.services.dispose.run()
    assert (world.job_manager.disposed, listed(world)) == (paths[:1], paths[1:])


def test_a_crash_after_the_removal_is_finished_by_the_next_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = runs_with(world, 2, kept=1)
    world.services.dispose.run()
    world.clock.advance(LATER)

    def dies(*_: object) -> bool:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "mark_savepoint", dies)
        with pytest.raises(SystemExit):
            world.services.dispose.run()
    world.clock.advance(LATER)
    world.services.dispose.run()
    assert (set(world.job_manager.disposed), listed(world)) == ({paths[0]}, paths[1:])


def test_one_that_is_named_goes_and_again_is_harmless(world: World) -> None:
    paths = runs_with(world, 3)
    for _ in range(2):
        world.services.dispose.ask("default", paths[1])
    passes(world)
    assert listed(world) == [paths[0], paths[2]]
    with pytest.raises(NotFound, match="there is no savepoint"):
        world.services.dispose.ask("default", paths[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "s3://b/savepoint-last"}, "it is the job's last one"),
        ({"kind": "checkpoint", "path": "s3://b/x/chk-3"}, "it is a checkpoint, which is Flink's own"),
    ],
)
def test_what_has_to_stay_is_refused_with_the_reason(world: World, change: dict[str, Any], words: str) -> None:
    world.runs()
    made = Savepoint(tenant="default", job_id="orders", path="", kind="savepoint", run=1, at=world.clock.now())
    world.store.add_savepoint(replace(made, **change))
    with pytest.raises(Conflict, match=words):
        world.services.dispose.ask("default", change["path"])


def test_anothers_is_none(world: World) -> None:
    theirs = Savepoint(tenant="b", job_id="x", path="s3://b/savepoint-1", kind="savepoint", run=1, at=world.clock.now())
    world.store.add_savepoint(theirs)
    with pytest.raises(NotFound, match="there is no savepoint"):
        world.services.dispose.ask("default", theirs.path)


def test_a_list_says_what_may_go_when_and_what_stays_and_why(world: World) -> None:
    paths = runs_with(world, 4, kept_days=10)
    world.runs("other", start_from=paths[0])
    world.services.dispose.ask("default", paths[2])
    shown = world.services.dispose.shown(world.store.savepoints_of("default", "orders", None, 10))
    told = {each.path: (each.kept_because, each.expires_at) for each in shown}
    taken = {each.path: each.at for each in shown}
    assert told == {
        paths[0]: ("job other has started from it, or would", None),
        paths[1]: ("", taken[paths[1]] + timedelta(days=10)),
        paths[2]: ("", None),
        paths[3]: ("it is the job's last one", None),
    }


def test_a_job_that_only_a_later_release_reads_holds_up_no_other(world: World) -> None:
    paths = runs_with(world, 3, kept=1)
    world.runs("another", job_config={"savepoints": {"kept": 1}})
    of_later = world.store.document(JobKey("default", "another"))
    assert of_later is not None
    submitted = {**of_later.job.submitted, "savepoints": {"kept": "a few"}}
    world.store.write(of_later, of_later.with_job(replace(of_later.job, submitted=submitted)))
    made = Savepoint(tenant="default", job_id="another", path="s3://c/1", kind="savepoint", run=1, at=world.clock.now())
    world.store.add_savepoint(made)
    troubles = world.services.dispose.run().troubles
    assert [(each.job_id, "later release" in str(error)) for each, error in troubles] == [("another", True)]
    assert "s3://c/1" in {each.path for each in world.services.dispose.shown([made])}
    world.clock.advance(LATER)
    world.services.dispose.run()
    assert listed(world) == paths[2:]


def test_what_another_namespace_removes_holds_up_nothing_here(world: World) -> None:
    paths = runs_with(world, 3, kept=1)
    world.submit("elsewhere")
    theirs = world.store.document(JobKey("default", "elsewhere"))
    assert theirs is not None
    world.store.write(theirs, theirs.with_job(replace(theirs.job, namespace="elsewhere")))
    for number in range(AT_ONCE + 1):
        made = Savepoint(
            tenant="default", job_id="elsewhere", path=f"s3://c/{number}", kind="savepoint", run=1, at=world.clock.now()
        )
        world.store.add_savepoint(replace(made, disposing_since=made.at, goes_at=made.at))
    world.store.add_savepoint(replace(made, path="s3://c/last", at=world.clock.now() + timedelta(seconds=1)))
    world.clock.advance(1)
    passes(world)
    assert (listed(world), sorted(world.job_manager.disposed)) == (paths[2:], paths[:2])


def test_one_whose_job_is_not_on_record_any_more_is_refused(world: World) -> None:
    made = Savepoint(tenant="default", job_id="gone", path="s3://c/1", kind="savepoint", run=1, at=world.clock.now())
    for each in (made, replace(made, path="s3://c/2", at=world.clock.now() + timedelta(seconds=1))):
        world.store.add_savepoint(each)
    with pytest.raises(Conflict, match="there is no job gone any more whose JobManager would remove it"):
        world.services.dispose.ask("default", "s3://c/1")


def test_what_is_beyond_stays_to_start_from_while_its_job_does_not_run(world: World) -> None:
    """Nothing could remove it now, and who looks for a state that is sound needs it now."""
    paths = runs_with(world, 3, kept=1)
    enters(world, Phase.FAILED)
    passes(world)
    world.submit("other", start_from=paths[0])


def test_the_last_one_stays_though_it_is_on_record_by_another_path_too(world: World) -> None:
    paths = runs_with(world, 2, kept=1)
    again = f"s3a://b//{paths[1].rpartition('/')[2]}"
    is_saved(world, "orders", again, at=world.clock.now() - timedelta(hours=1))
    with pytest.raises(Conflict, match="it is the job's last one"):
        world.services.dispose.ask("default", again)
    passes(world)
    assert (world.job_manager.disposed, listed(world)) == (paths[:1], [again, paths[1]])


def test_what_another_job_has_on_record_by_another_path_stays(world: World) -> None:
    paths = runs_with(world, 2, kept=1)
    is_saved(world, "other", f"s3a://b/{paths[0].rpartition('/')[2]}")
    passes(world)
    assert (world.job_manager.disposed, listed(world)) == ([], paths)


def test_what_the_deployment_names_by_now_stays_though_no_record_says_so(world: World) -> None:
    """Somebody has set the job back to it by hand, in the last second."""
    paths = runs_with(world, 3, kept=1)
    world.services.dispose.run()
    world.edit(lambda whole: whole["spec"]["job"].update(initialSavepointPath=paths[1], savepointRedeployNonce=7))
    world.clock.advance(LATER)
    world.services.dispose.run()
    assert (world.job_manager.disposed, listed(world)) == (paths[:1], paths[1:])
    assert world.store.savepoints_at(paths[1])[0].trouble == "it stays: the deployment of job orders names it"


def test_what_goes_already_does_not_count_among_those_that_are_kept(world: World) -> None:
    paths = runs_with(world, 4, kept=3)
    world.services.dispose.ask("default", paths[1])
    passes(world)
    assert listed(world) == [paths[0], *paths[2:]]
